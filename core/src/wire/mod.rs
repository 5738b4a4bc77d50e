//! The bytes that travel: datagrams, stream frames, signed records and posts.
//!
//! Owns every layout and its limits, and nothing else: no state, no time, no policy. These types are
//! append-only, and each has a golden test. How their fields become bytes is [`codec`]'s. What is signed or
//! hashed is always the exact bytes received, never a re-encoding, since postcard is not canonical.
//! `PROTOCOL.md` describes every byte.

pub mod codec;
pub mod datagram;
pub mod frame;
pub mod post;
pub mod record;

use crate::crypto::Crypto;
use crate::rules::Rule;

use codec::{Decode, Encode};

/// The protocol version: first byte of every datagram and frame.
pub const VERSION: u8 = 1;
/// Longest datagram in bytes: fits one IPv6 packet of the minimum MTU (1280) with its headers.
pub const DATAGRAM_LEN_MAX: usize = 1200;
/// Longest stream frame in bytes, without its length prefix.
pub const FRAME_LEN_MAX: usize = 1024;
/// Length prefix of a stream frame in bytes (big-endian).
pub const FRAME_PREFIX_LEN: usize = 2;
/// Shortest request in bytes that is answered; no reply to an unvalidated address is longer.
pub const REQUEST_LEN_MIN: usize = 80;
/// Length in bytes to which a first-contact `Ping` is padded.
pub const PING_LEN: usize = 96;
/// Longest payload of a record in bytes.
pub const PAYLOAD_LEN_MAX: usize = 700;
/// Longest signed record in bytes: payload, 64 bytes of signature and the widest header.
pub const RECORD_LEN_MAX: usize = 940;
/// Longest text of a post in bytes of UTF-8.
pub const TEXT_LEN_MAX: usize = 512;
/// Longest attributes field of a post in bytes.
pub const ATTRIBUTES_LEN_MAX: usize = 64;
/// Longest post in bytes (header, salt and text as they travel).
pub const POST_LEN_MAX: usize = 768;
/// Longest application message in bytes (`Send` and its answer).
pub const MESSAGE_LEN_MAX: usize = 1000;
/// Bytes before the postcard part of a datagram or frame: version and network.
pub const PREAMBLE_LEN: usize = 5;

const _: () = assert!(PING_LEN >= REQUEST_LEN_MIN && PING_LEN <= 128);
// 60 bytes are room for the widest fields around a record or post in a frame, 150 for those in a datagram.
const _: () = assert!(RECORD_LEN_MAX + 60 < FRAME_LEN_MAX && POST_LEN_MAX + 60 < FRAME_LEN_MAX);
const _: () = assert!(RECORD_LEN_MAX + 150 < DATAGRAM_LEN_MAX);

/// Separates networks that share addresses: the first bytes of the hash of the network's name, and the mark of the
/// overlay of its nodes ([`Overlay::MARK`](crate::overlay::Overlay::MARK)), which a node adds by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetworkId(pub [u8; 4]);

impl NetworkId {
    /// Not yet configured; no datagram of this network is accepted.
    pub const NONE: Self = Self([0; 4]);

    /// The id of the network called `name` (the command line's `--network`).
    #[must_use]
    pub fn of_name<C: Crypto>(name: &str) -> Self {
        let [a, b, c, d, ..] = C::hash("strandline/network/v1", &[name.as_bytes()]);
        Self([a, b, c, d])
    }

    /// The id under which nodes of one kind of overlay speak, by that overlay's mark: those of another do not understand
    /// it, whatever the name.
    #[must_use]
    pub const fn marked(self, mark: [u8; 4]) -> Self {
        let (Self([a, b, c, d]), [e, f, g, h]) = (self, mark);
        Self([a ^ e, b ^ f, c ^ g, d ^ h])
    }
}

/// Checks version and network, and returns what follows them.
fn open_preamble(bytes: &[u8], network: NetworkId) -> Result<&[u8], Rule> {
    let Some((&version, rest)) = bytes.split_first() else {
        return Err(Rule::Malformed);
    };
    if version != VERSION {
        return Err(Rule::Version);
    }
    match rest.split_first_chunk::<4>() {
        Some((id, rest)) if NetworkId(*id) == network => Ok(rest),
        Some(_) => Err(Rule::Network),
        None => Err(Rule::Malformed),
    }
}

/// Writes version and network, then `body` in postcard; `None` when `buf` is too short.
fn seal<T: Encode>(network: NetworkId, body: &T, buf: &mut [u8]) -> Option<usize> {
    let (preamble, rest) = buf.split_first_chunk_mut::<PREAMBLE_LEN>()?;
    let [a, b, c, d] = network.0;
    *preamble = [VERSION, a, b, c, d];
    let len = codec::encode(body, rest)?;
    Some(PREAMBLE_LEN.saturating_add(len))
}

/// Decodes a value with nothing left over.
fn decode_whole<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, Rule> {
    match codec::decode(bytes) {
        Some((value, [])) => Ok(value),
        Some(_) | None => Err(Rule::Malformed),
    }
}
