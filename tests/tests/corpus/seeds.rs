//! The seeds of each target: messages that are valid, and the ways to be refused that mutation rarely finds.

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::id::Key;
use strandline_core::overlay::Overlay;
use strandline_core::plan::ServerRing;
use strandline_core::wire::datagram::{Body, Contact};
use strandline_core::wire::frame::Frame;
use strandline_core::wire::record::Kind;
use strandline_core::wire::{
    DATAGRAM_LEN_MAX, FRAME_LEN_MAX, POST_LEN_MAX, RECORD_LEN_MAX, TEXT_LEN_MAX,
};

use crate::messages::{
    Author, address, contact, copy_of, datagram, datagrams, found, frame, get, post_of, streams,
};
use crate::scripts;

/// A file: its name and its bytes.
pub type Seed = (String, Vec<u8>);

/// The seeds of every target.
pub fn all() -> [(&'static str, Vec<Seed>); 6] {
    [
        ("datagram", of_datagram()),
        ("frame", of_frame()),
        ("record", of_record()),
        ("post", of_post()),
        ("signature", of_signature()),
        ("node", of_node()),
    ]
}

fn of_datagram() -> Vec<Seed> {
    let value = value();
    let mut seeds: Vec<Seed> = datagrams(&value)
        .into_iter()
        .map(|(name, body)| seed(name, datagram(body)))
        .collect();
    let find = datagram(Body::FindNode { target: Key::ZERO });
    let short = datagram(Body::Ping {
        leaving: false,
        challenge: None,
        pad: &[],
    });
    seeds.extend([
        seed("valid-records", found(&copy_of(&value), &[])),
        seed("valid-contacts", twenty_contacts()),
        seed("refused-undersized", short),
        seed("refused-malformed", one_more(&find)),
        seed("refused-overlong", vec![1; DATAGRAM_LEN_MAX + 1]),
        seed("refused-version", vec![0; 100]),
        seed("refused-network", vec![1; 100]),
    ]);
    seeds
}

fn of_frame() -> Vec<Seed> {
    let records = records();
    let profile = Author::new(2).record(Kind::Profile, LIFETIME_MS);
    let post = post_of("flotsam");
    let mut seeds: Vec<Seed> = streams(&records, &profile, &post)
        .into_iter()
        .map(|(name, frames)| seed(name, frames.into_iter().flat_map(frame).collect()))
        .collect();
    let broken = flip_last(&post);
    let too_long = u16::try_from(FRAME_LEN_MAX + 1).unwrap().to_be_bytes();
    seeds.extend([
        seed("valid-get", get()),
        seed("valid-half", frame(Frame::Working)[..3].to_vec()),
        seed("refused-chain", frame(Frame::Post { post: &broken })),
        seed("refused-malformed", vec![0, 0]),
        seed("refused-overlong", too_long.to_vec()),
    ]);
    seeds
}

fn of_record() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = records()
        .into_iter()
        .map(|(kind, bytes)| seed(&format!("valid-{kind:?}").to_lowercase(), bytes))
        .collect();
    seeds.extend([
        seed("refused-lifetime", Author::new(1).record(Kind::Value, 0)),
        seed("refused-malformed", one_more(&value())),
        seed("refused-overlong", vec![0; RECORD_LEN_MAX + 1]),
        seed("refused-signature", flip_last(&value())),
    ]);
    seeds
}

fn of_post() -> Vec<Seed> {
    let post = post_of("tide");
    let longest = "\u{1f30a}".repeat(TEXT_LEN_MAX / 4);
    vec![
        seed("valid-text", post.clone()),
        seed("valid-empty", post_of("")),
        seed("valid-longest", post_of(&longest)),
        seed("refused-chain", flip_last(&post)),
        seed("refused-malformed", one_more(&post)),
        seed("refused-overlong", vec![0; POST_LEN_MAX + 1]),
    ]
}

fn of_signature() -> Vec<Seed> {
    let signed = |secret: u8, digest: [u8; 32]| {
        let secret = SecretKey::from_bytes([secret; 32]);
        let public = Ed25519::public_key(&secret);
        let signature = Ed25519::sign(&secret, &public, &digest);
        [&public[..], &digest, &signature].concat()
    };
    // The neutral element as key and as R, with S = 0, would satisfy the equation for any digest.
    let mut neutral = vec![0; 128];
    (neutral[0], neutral[64]) = (1, 1);
    // A scalar of ones only, as far as the group's order allows: many digits of the form that the table is asked for.
    let mut ones = signed(3, [3; 32]);
    ones[96..].fill(0xff);
    ones[127] = 0x0f;
    vec![
        seed("valid-zeros", signed(1, [0; 32])),
        seed("valid-ones", signed(2, [0xff; 32])),
        seed("refused-signature", flip_last(&signed(1, [7; 32]))),
        seed("refused-malformed", signed(1, [7; 32])[1..].to_vec()),
        seed("neutral", neutral),
        seed("ones", ones),
    ]
}

fn of_node() -> Vec<Seed> {
    let valid = |seeds: Vec<Seed>| {
        let valid = seeds
            .into_iter()
            .filter(|(name, _)| name.starts_with("valid-"));
        valid.map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    let (datagrams, streams) = (valid(of_datagram()), valid(of_frame()));
    let pong = datagram(Body::Pong {
        observed: address(4),
        proof: None,
    });
    vec![
        seed("valid-alone", scripts::alone()),
        seed("valid-commands", scripts::every_command()),
        seed("valid-storage-fails", scripts::storage_fails()),
        seed("valid-strangers", scripts::strangers(&datagrams)),
        seed(
            "valid-answers",
            scripts::answers(&pong, &twenty_contacts(), &datagrams),
        ),
        seed("valid-requests", scripts::requests(&datagrams)),
        seed("valid-streams", scripts::streams(&streams)),
        seed("valid-ring-alone", scripts::on_ring(scripts::alone())),
        seed(
            "valid-ring-strangers",
            scripts::on_ring(scripts::strangers(&marked(&datagrams))),
        ),
        seed(
            "valid-ring-answers",
            scripts::on_ring(scripts::answers(&pong, &ring_contacts(), &datagrams)),
        ),
        seed(
            "valid-ring-requests",
            scripts::on_ring(scripts::requests(&marked(&datagrams))),
        ),
        seed(
            "valid-ring-of-three",
            scripts::on_ring(scripts::ring_of_three(&pong, &ring_contacts())),
        ),
    ]
}

/// The same datagrams in a network of Chord nodes.
fn marked(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mark = |datagram: &Vec<u8>| {
        let mut datagram = datagram.clone();
        for (byte, mark) in datagram[1..5].iter_mut().zip(<ServerRing>::MARK) {
            *byte ^= mark;
        }
        datagram
    };
    datagrams.iter().map(mark).collect()
}

/// Twenty contacts, the first of which is whoever answers, as the owner of the key.
fn ring_contacts() -> Vec<u8> {
    let owner = Contact {
        addr: PackedAddr::NONE,
        ..contact(9)
    };
    let others = (1..20).map(contact);
    let contacts = std::iter::once(owner).chain(others);
    found(
        &[],
        &contacts.map(Contact::to_bytes).collect::<Vec<_>>().concat(),
    )
}

fn twenty_contacts() -> Vec<u8> {
    let contacts = (1..=20).map(|number| contact(number).to_bytes());
    found(&[], &contacts.collect::<Vec<_>>().concat())
}

/// A lifetime that every kind may have.
const LIFETIME_MS: u32 = 60_000;

fn records() -> Vec<(Kind, Vec<u8>)> {
    let author = Author::new(1);
    Kind::ALL
        .into_iter()
        .map(|kind| (kind, author.record(kind, LIFETIME_MS)))
        .collect()
}

fn value() -> Vec<u8> {
    Author::new(1).record(Kind::Value, LIFETIME_MS)
}

fn seed(name: &str, bytes: Vec<u8>) -> Seed {
    (name.to_owned(), bytes)
}

fn one_more(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0]].concat()
}

fn flip_last(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}
