//! The bytes of every message, record, post and frame against `golden.txt`, and what decoders refuse.
//!
//! A golden line that changes is a change of protocol: it needs a new version, or a new field at the end. After such
//! a change, `STRANDLINE_BLESS=1 cargo test -p strandline-core --test wire` writes the file anew.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod codec_is_postcard;
mod examples;

use std::fmt::Write as _;

use examples::{
    alice, datagram, datagrams, everything, follow_bytes, frames, network, post_bytes, records,
};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::rules::Rule;
use strandline_core::wire::codec;
use strandline_core::wire::datagram::{Body, Datagram, NO_TOKEN};
use strandline_core::wire::frame::{Frame, Get};
use strandline_core::wire::post::{self, Post, PostKind};
use strandline_core::wire::record::{self, Kind, Record, Sighting};
use strandline_core::wire::{
    DATAGRAM_LEN_MAX, FRAME_LEN_MAX, NetworkId, PAYLOAD_LEN_MAX, PING_LEN, POST_LEN_MAX,
    RECORD_LEN_MAX, REQUEST_LEN_MIN, TEXT_LEN_MAX,
};

const GOLDEN: &str = include_str!("../golden.txt");
const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn bytes_are_as_published() {
    let now: String = everything()
        .iter()
        .map(|(name, bytes)| format!("{name} {}\n", hex(bytes)))
        .collect();
    if std::env::var_os("STRANDLINE_BLESS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
        std::fs::write(file, &now).unwrap();
        return;
    }
    for (line, golden) in now.lines().zip(GOLDEN.lines()) {
        assert_eq!(line, golden, "the protocol changed");
    }
    assert_eq!(now, GOLDEN, "the protocol gained or lost a message");
}

/// The worked examples of the specification are these bytes: each hex line of PROTOCOL.md stands in golden.txt.
#[test]
fn specification_shows_the_same_bytes() {
    let mut shown = 0;
    let mut lines = PROTOCOL.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("<!-- golden: ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let wanted = GOLDEN
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("no golden bytes named {name}"));
        let block: String = lines
            .by_ref()
            .skip_while(|line| !line.starts_with("```"))
            .skip(1)
            .take_while(|line| !line.starts_with("```"))
            .map(|line| {
                line.split('|')
                    .next()
                    .unwrap_or("")
                    .split_whitespace()
                    .collect::<String>()
            })
            .collect();
        assert_eq!(block, wanted, "the example {name} in PROTOCOL.md");
        shown += 1;
    }
    assert!(shown >= 5, "PROTOCOL.md shows only {shown} examples");
}

#[test]
fn records_check_and_verify() {
    for (name, bytes) in records() {
        let record = Record::decode(&bytes).unwrap();
        assert_eq!(record.check::<Ed25519>(), Ok(()), "{name}");
        assert_eq!(record.verify::<Ed25519>(network()), Ok(()), "{name}");
    }
}

#[test]
fn any_flipped_bit_of_a_record_is_refused() {
    for (name, bytes) in records() {
        for at in (0..bytes.len()).step_by(7) {
            let mut forged = bytes.clone();
            forged[at] ^= 0x10;
            let refused = match Record::decode(&forged) {
                Err(_) => true,
                Ok(record) => record.verify::<Ed25519>(network()).is_err(),
            };
            assert!(refused, "{name} with byte {at} changed");
        }
    }
}

#[test]
fn record_of_another_network_is_refused() {
    let bytes = follow_bytes();
    let record = Record::decode(&bytes).unwrap();
    let other = NetworkId::of_name::<Ed25519>("another");
    assert_eq!(record.verify::<Ed25519>(other), Err(Rule::Signature));
}

#[test]
fn record_by_somebody_else_is_refused() {
    let mallory = SecretKey::from_bytes([2; 32]);
    let public = Ed25519::public_key(&mallory);
    let user = alice().user;
    let draft = record::Draft {
        kind: Kind::Sighting,
        key: Key::of_user::<Ed25519>(&user),
        author: user,
        subject: Some(user),
        page: 0,
        sequence: 1,
        issued_ms: 0,
        lifetime_ms: 1000,
    };
    let mut buf = [0; RECORD_LEN_MAX];
    let payload = Sighting { missed_ms: 0 };
    let len = draft
        .sign_payload::<Ed25519, _>(&payload, &mallory, &public, network(), &mut buf)
        .unwrap();
    let record = Record::decode(&buf[..len]).unwrap();
    assert_eq!(
        record.verify::<Ed25519>(network()),
        Ok(()),
        "it is signed, by mallory"
    );
    assert_eq!(record.check::<Ed25519>(), Err(Rule::Author));
}

#[test]
fn lifetimes_of_zero_and_above_the_cap_are_refused() {
    let user = alice().user;
    for kind in Kind::ALL {
        for (lifetime_ms, wanted) in [
            (0, Some(Rule::Lifetime)),
            (kind.lifetime_max_ms() + 1, Some(Rule::Lifetime)),
            (1, None),
        ] {
            let draft = record::Draft {
                kind,
                key: Key::of_user::<Ed25519>(&user),
                author: user,
                subject: None,
                page: 0,
                sequence: 1,
                issued_ms: 0,
                lifetime_ms,
            };
            let mut buf = [0; RECORD_LEN_MAX];
            let alice = alice();
            let len = draft
                .sign::<Ed25519>(&[], &alice.secret, &alice.public, network(), &mut buf)
                .unwrap();
            let checked = Record::decode(&buf[..len]).unwrap().check::<Ed25519>();
            match wanted {
                Some(rule) => assert_eq!(checked, Err(rule), "{kind:?} {lifetime_ms}"),
                None => assert_ne!(checked, Err(Rule::Lifetime), "{kind:?}"),
            }
        }
    }
}

#[test]
fn fields_of_a_later_version_are_signed_kept_and_ignored() {
    // A body with two more bytes than this version knows, signed as a later version would sign it.
    let bytes = follow_bytes();
    let (body, _) = codec::decode::<&[u8]>(&bytes).unwrap();
    let mut later = body.to_vec();
    later.extend([0xde, 0xad]);
    let digest = Ed25519::hash("strandline/record/v1", &[&network().0, &later]);
    let signature = Ed25519::sign(&alice().secret, &alice().public, &digest);
    let mut whole = vec![0; later.len() + 2];
    let len = codec::encode(&&*later, &mut whole).unwrap();
    whole.truncate(len);
    whole.extend(signature);
    let record = Record::decode(&whole).unwrap();
    assert_eq!(record.check::<Ed25519>(), Ok(()));
    assert_eq!(record.verify::<Ed25519>(network()), Ok(()));
    assert_eq!(
        record.bytes, whole,
        "what is passed on is what was received"
    );
}

#[test]
fn longest_record_fits_a_datagram_and_a_frame() {
    let alice = alice();
    let draft = record::Draft {
        kind: Kind::Value,
        key: Key::from_bytes([0xff; 32]),
        author: UserId::from_bytes([0xff; 32]),
        subject: Some(UserId::from_bytes([0xff; 32])),
        page: u16::MAX,
        sequence: u64::MAX,
        issued_ms: u64::MAX,
        lifetime_ms: u32::MAX,
    };
    let mut buf = [0; RECORD_LEN_MAX];
    let len = draft
        .sign::<Ed25519>(
            &[0; PAYLOAD_LEN_MAX],
            &alice.secret,
            &alice.public,
            network(),
            &mut buf,
        )
        .unwrap();
    let body = Body::Put {
        depth: u8::MAX,
        spilled: true,
        age_ms: u64::MAX,
        remaining_ms: u64::MAX,
        record: &buf[..len],
    };
    assert!(datagram([0xff; 8], body).len() <= DATAGRAM_LEN_MAX);
    let one_more = [0; PAYLOAD_LEN_MAX + 1];
    let mut longer = [0; RECORD_LEN_MAX * 2];
    let refused = draft.sign::<Ed25519>(
        &one_more,
        &alice.secret,
        &alice.public,
        network(),
        &mut longer,
    );
    assert_eq!(refused, None);
}

#[test]
fn first_contact_cannot_amplify() {
    let lens: std::collections::BTreeMap<_, _> = datagrams()
        .into_iter()
        .map(|(name, bytes)| (name, bytes.len()))
        .collect();
    assert_eq!(lens["ping"], PING_LEN);
    for request in ["ping", "ping-challenge", "find-node", "get", "put", "send"] {
        assert!(
            lens[request] >= REQUEST_LEN_MIN,
            "{request} is {} bytes",
            lens[request]
        );
    }
    for reply in ["pong", "denied", "denied-busy", "denied-unsupported"] {
        assert!(
            lens[reply] <= REQUEST_LEN_MIN,
            "{reply} is {} bytes",
            lens[reply]
        );
    }
}

#[test]
fn requests_shorter_than_the_smallest_reply_are_refused() {
    let short = datagram_unchecked(Body::Ping {
        leaving: false,
        challenge: None,
        pad: &[],
    });
    assert!(short.len() < REQUEST_LEN_MIN);
    assert_eq!(Datagram::decode(&short, network()), Err(Rule::Undersized));
}

fn datagram_unchecked(body: Body<'_>) -> Vec<u8> {
    let datagram = Datagram {
        transaction: [0; 8],
        sender: NodeId::from_bytes([0x22; 32]),
        token: NO_TOKEN,
        body,
    };
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let len = datagram.encode(network(), &mut buf).unwrap();
    buf[..len].to_vec()
}

#[test]
fn truncated_or_extended_bytes_never_decode_as_the_same() {
    for (name, bytes) in datagrams() {
        for len in 0..bytes.len() {
            assert!(
                Datagram::decode(&bytes[..len], network()).is_err(),
                "{name} cut to {len}"
            );
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(
            Datagram::decode(&longer, network()),
            Err(Rule::Malformed),
            "{name} extended"
        );
    }
    for (name, bytes) in frames() {
        let (body, _) = Frame::split(&bytes).unwrap().unwrap();
        for len in 0..body.len() {
            assert!(
                Frame::decode(&body[..len], network()).is_err(),
                "{name} cut to {len}"
            );
            assert_eq!(
                Frame::split(&bytes[..len]),
                Ok(None),
                "{name} of which {len} arrived"
            );
        }
    }
    for (name, bytes) in records() {
        for len in 0..bytes.len() {
            assert!(
                Record::decode(&bytes[..len]).is_err(),
                "{name} cut to {len}"
            );
        }
    }
    let (bytes, _) = post_bytes();
    for len in 0..bytes.len() {
        assert!(
            Post::decode::<Ed25519>(&bytes[..len]).is_err(),
            "post cut to {len}"
        );
    }
}

#[test]
fn other_versions_and_networks_are_told_apart() {
    let mut bytes = datagrams().remove(0).1;
    bytes[0] = 2;
    assert_eq!(Datagram::decode(&bytes, network()), Err(Rule::Version));
    bytes[0] = 1;
    bytes[1] ^= 1;
    assert_eq!(Datagram::decode(&bytes, network()), Err(Rule::Network));
    assert_eq!(
        Datagram::decode(&[0; DATAGRAM_LEN_MAX + 1], network()),
        Err(Rule::Overlong)
    );
    assert_eq!(Datagram::decode(&[], network()), Err(Rule::Malformed));
}

#[test]
fn overlong_and_empty_frames_are_refused_by_their_prefix() {
    let over = u16::try_from(FRAME_LEN_MAX + 1).unwrap().to_be_bytes();
    assert_eq!(Frame::split(&over), Err(Rule::Overlong));
    assert_eq!(Frame::split(&[0, 0]), Err(Rule::Malformed));
    assert_eq!(Frame::split(&[4]), Ok(None));
}

#[test]
fn post_commits_to_its_text_and_its_predecessor() {
    let (bytes, hash) = post_bytes();
    let post = Post::decode::<Ed25519>(&bytes).unwrap();
    assert_eq!(post.text, "hello, tide");
    assert_eq!(post.hash::<Ed25519>(network()), hash);
    let mut forged = bytes.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(Post::decode::<Ed25519>(&forged), Err(Rule::Chain));
    let text = "x".repeat(TEXT_LEN_MAX + 1);
    let draft = post::Draft {
        user: alice().user,
        log: 0,
        seq: 2,
        time_ms: 0,
        prev: hash,
        kind: PostKind::Text,
        salt: [0; 16],
        text: &text,
    };
    assert!(draft.encode::<Ed25519>(network(), &mut [0; 2048]).is_none());
    let longest = post::Draft {
        text: &text[1..],
        seq: u64::MAX,
        time_ms: u64::MAX,
        ..draft
    };
    assert!(
        longest
            .encode::<Ed25519>(network(), &mut [0; POST_LEN_MAX])
            .is_some()
    );
}

#[test]
fn reader_signature_covers_what_is_the_same_in_every_hop() {
    let alice = alice();
    let signature = Get::sign::<Ed25519>(network(), 42, &alice.public, 7, 3, &alice.secret);
    let get = Get {
        request: 42,
        reader: alice.public,
        issued_ms: 7,
        fanout: 3,
        signature: &signature,
        depth: 2,
        promotions: 1,
        deadline_ms: 10,
        log: 0,
        since: 0,
        limit: 1,
        targets: 0,
    };
    assert_eq!(get.verify::<Ed25519>(network()), Ok(()));
    for forged in [
        Get { request: 43, ..get },
        Get {
            issued_ms: 8,
            ..get
        },
        Get { fanout: 4, ..get },
        Get {
            reader: [5; 32],
            ..get
        },
        Get {
            signature: &signature[1..],
            ..get
        },
    ] {
        assert_eq!(forged.verify::<Ed25519>(network()), Err(Rule::Signature));
    }
}
