//! What the fuzz targets do with their bytes: shared by `tests/fuzz`, which makes bytes up, and by
//! `tests/tests/corpus.rs`, which replays the ones that are kept.
//!
//! Each target takes any bytes and answers with the rule that they break, as a node would count it. It
//! panics only where core does, or where a promise of the decoders is broken. It decides nothing about
//! where bytes come from.

mod node;

pub use node::{RING, Step, node};

use strandline_core::crypto::{Crypto, Ed25519};
use strandline_core::rules::Rule;
use strandline_core::wire::datagram::{
    Body, Contact, DIGEST_LEN, Datagram, Digest, PutOutcome, Told,
};
use strandline_core::wire::frame::Frame;
use strandline_core::wire::post::Post;
use strandline_core::wire::record::{
    Claim, FOLLOWING_PER_PAGE, HEAD_HOLDERS_MAX, HOLDING_PER_PAGE, PROFILE_ADDRESSES_MAX,
};
use strandline_core::wire::record::{
    Copy, Follow, Following, Head, Holding, Kind, Profile, Record, Sighting,
};
use strandline_core::wire::{DATAGRAM_LEN_MAX, FRAME_LEN_MAX, FRAME_PREFIX_LEN, NetworkId};

/// The network that the targets belong to: a corpus only fits one.
pub const NETWORK: NetworkId = NetworkId(*b"fuzz");

/// One fuzz target: takes any bytes, and answers with the first rule that they break.
pub type Target = fn(&[u8]) -> Result<(), Rule>;

/// Every target under the name that its corpus and its binary in `tests/fuzz` have.
pub const TARGETS: [(&str, Target); 6] = [
    ("datagram", datagram),
    ("frame", frame),
    ("record", record),
    ("post", post),
    ("signature", signature),
    ("node", node),
];

/// Decodes a datagram and what it carries. What decodes is encoded again, to the same value and in at
/// most as many bytes.
///
/// # Errors
/// The first rule that the datagram breaks, or else that a record in it breaks.
pub fn datagram(bytes: &[u8]) -> Result<(), Rule> {
    let datagram = Datagram::decode(bytes, NETWORK)?;
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let encoded = datagram
        .encode(NETWORK, &mut buf)
        .and_then(|len| buf.get(..len))
        .unwrap_or_default();
    assert!(
        !encoded.is_empty() && encoded.len() <= bytes.len(),
        "{datagram:?} came in {} bytes and takes {}",
        bytes.len(),
        encoded.len()
    );
    // Integers may come overlong, and a request that was padded so is too short when it is not.
    match Datagram::decode(encoded, NETWORK) {
        Err(Rule::Undersized) if encoded.len() < bytes.len() => {}
        again => assert_eq!(again, Ok(datagram)),
    }
    match datagram.body {
        Body::Put { record: inner, .. }
        | Body::Stored {
            outcome: PutOutcome::Older { record: inner },
            ..
        } => record(inner),
        Body::Found {
            records, contacts, ..
        } => {
            assert!(Contact::iter(contacts).count() <= DATAGRAM_LEN_MAX);
            Copy::iter(records).try_for_each(|copy| record(copy.record))
        }
        Body::Have { told } => {
            let digests = Told::iter(told).map(|told| Digest::iter(told.digests).count());
            assert!(digests.sum::<usize>() * DIGEST_LEN <= told.len());
            Ok(())
        }
        Body::Ping { .. }
        | Body::FindNode { .. }
        | Body::Get { .. }
        | Body::Send { .. }
        | Body::Pong { .. }
        | Body::Stored { .. }
        | Body::Delivered { .. }
        | Body::Lacks { .. }
        | Body::Denied { .. } => Ok(()),
    }
}

/// Takes frame after frame off a stream, as long as they are whole and valid. What decodes is encoded
/// again, to the same value and in at most as many bytes.
///
/// # Errors
/// The first rule that a frame breaks, or else that a record or post in it breaks.
pub fn frame(mut bytes: &[u8]) -> Result<(), Rule> {
    while let Some((body, taken)) = Frame::split(bytes)? {
        assert!(taken > body.len(), "a frame has a prefix");
        let frame = Frame::decode(body, NETWORK)?;
        let mut buf = [0; FRAME_PREFIX_LEN + FRAME_LEN_MAX];
        let encoded = frame
            .encode(NETWORK, &mut buf)
            .and_then(|len| buf.get(..len))
            .unwrap_or_default();
        assert!(
            !encoded.is_empty() && encoded.len() <= taken,
            "{frame:?} came in {taken} bytes and takes {}",
            encoded.len()
        );
        let again = Frame::split(encoded)?.map(|(body, _)| Frame::decode(body, NETWORK));
        assert_eq!(again, Some(Ok(frame)));
        match frame {
            Frame::Follow { record: inner }
            | Frame::Unfollow { record: inner }
            | Frame::Deleted { record: inner }
            | Frame::Head { record: inner, .. } => record(inner)?,
            Frame::Target(target) => record(target.profile)?,
            Frame::Post { post: inner } => post(inner)?,
            Frame::Get(get) => get.verify::<Ed25519>(NETWORK)?,
            Frame::GetStored(_)
            | Frame::Working
            | Frame::Done { .. }
            | Frame::End
            | Frame::Refused { .. } => {}
        }
        bytes = bytes.get(taken..).unwrap_or_default();
    }
    Ok(())
}

/// Decodes a record and its payload, and makes every check that a holder makes.
///
/// # Errors
/// The first rule that it breaks.
pub fn record(bytes: &[u8]) -> Result<(), Rule> {
    let record = Record::decode(bytes)?;
    assert_eq!(record.bytes, bytes, "a record is passed on as it came");
    assert_eq!(record.slot().author, record.author);
    // Before the checks, which nearly no made-up record passes.
    let payload = walk_payload(&record);
    record.check::<Ed25519>()?;
    payload?;
    record.verify::<Ed25519>(NETWORK)
}

/// Reads a payload to its end. Each list in one ends, within its limit.
fn walk_payload(record: &Record<'_>) -> Result<(), Rule> {
    match record.kind {
        Kind::Claim => record.payload::<Claim>().map(drop),
        Kind::Profile => record
            .payload::<Profile<'_>>()
            .map(|profile| assert!(profile.addresses().count() <= PROFILE_ADDRESSES_MAX)),
        Kind::Head => record
            .payload::<Head<'_>>()
            .map(|head| assert!(head.holders().count() <= HEAD_HOLDERS_MAX)),
        Kind::Follow => record.payload::<Follow>().map(drop),
        Kind::Following => record
            .payload::<Following<'_>>()
            .map(|page| assert!(page.iter().count() <= FOLLOWING_PER_PAGE)),
        Kind::Holding => record
            .payload::<Holding<'_>>()
            .map(|page| assert!(page.iter().count() <= HOLDING_PER_PAGE)),
        Kind::Sighting => record.payload::<Sighting>().map(drop),
        Kind::Value => Ok(()),
    }
}

/// Decodes a post and hashes its header.
///
/// # Errors
/// The first rule that it breaks.
pub fn post(bytes: &[u8]) -> Result<(), Rule> {
    let post = Post::decode::<Ed25519>(bytes)?;
    assert_eq!(post.bytes, bytes, "a post is passed on as it came");
    assert_ne!(
        post.hash::<Ed25519>(NETWORK),
        [0; 32],
        "all zero means that there is none"
    );
    Ok(())
}

/// Verifies a signature: a key, a digest and what was made of them, 128 bytes. The one place where a board's node could
/// panic if the library that does this were wrong about an index. What is accepted is so for this digest alone.
///
/// # Errors
/// `Malformed` for another length, `Signature` if it does not verify.
pub fn signature(bytes: &[u8]) -> Result<(), Rule> {
    let (public, rest) = bytes.split_first_chunk().ok_or(Rule::Malformed)?;
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or(Rule::Malformed)?;
    let signature = rest.try_into().map_err(|_| Rule::Malformed)?;
    if !Ed25519::verify(public, digest, signature) {
        return Err(Rule::Signature);
    }
    let other = digest.map(|byte| !byte);
    assert!(!Ed25519::verify(public, &other, signature));
    Ok(())
}
