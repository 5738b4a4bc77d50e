//! Datagrams: the DHT's requests and replies over UDP.
//!
//! Owns their layout: version, network, then one [`Datagram`] in postcard, at most 1200 bytes and with
//! nothing after it. Does not decide whom to answer. Invariant: a reply that may go to an address not yet
//! validated (`Pong` without proof, `Denied`) is never longer than the shortest request.

use super::codec::{coded_enum, coded_struct};
use super::record::{Record, Slot};
use super::{DATAGRAM_LEN_MAX, NetworkId};
use crate::addr::PackedAddr;
use crate::crypto::{Crypto, PublicKey, Signature};
use crate::id::{ID_BYTES, Key, NodeId};
use crate::rules::Rule;

/// A 64-bit transaction id, from the node's generator: a stranger cannot guess it.
pub type Transaction = [u8; 8];
/// Proof that the bearer received a datagram at its address. All zero: none.
pub type Token = [u8; 8];
/// "I have no token yet."
pub const NO_TOKEN: Token = [0; 8];

/// In the place of a shard level: no record to be held, but a copy to be kept for a while, since many ask for it.
pub const COPY_DEPTH: u8 = u8::MAX;

const _: () = assert!(COPY_DEPTH > crate::id::SHARD_DEPTH_MAX);

/// One datagram without its preamble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// Chosen by the requester, repeated by the reply.
    pub transaction: Transaction,
    /// The id of the node that sends this.
    pub sender: NodeId,
    /// In a request: the token that the receiver gave earlier, or [`NO_TOKEN`]. In a reply: the token for
    /// the requester's address.
    pub token: Token,
    /// What is asked or answered.
    pub body: Body<'a>,
}

coded_struct! { Datagram<'a> { transaction, sender, token, body } }

/// What a datagram asks or answers. Append-only: the position is the tag on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// Request: are you there? The only request sent to an address never heard from.
    Ping {
        /// The sender is about to go; honoured only with a valid token.
        leaving: bool,
        /// Asks for proof of the node id: 16 random bytes to sign.
        challenge: Option<[u8; 16]>,
        /// Zeros that bring the datagram to [`super::PING_LEN`] bytes.
        pad: &'a [u8],
    },
    /// Request: the contacts that you know nearest to `target`.
    FindNode {
        /// Any 256-bit key.
        target: Key,
    },
    /// Request: records at `key`, and contacts nearest to it.
    Get {
        /// Where the records lie (the location: the key itself, or one of its shards).
        key: Key,
        /// Bit n is set to ask for kind n.
        kinds: u16,
        /// Skip this many matching records (paging after a reply with `more`).
        after: u16,
        /// At most this many records; 0 asks for contacts alone.
        limit: u8,
    },
    /// Request: please hold this record. Needs a valid token.
    Put {
        /// 0 for the record's own key, else the shard level (see [`Key::shard`]), or [`COPY_DEPTH`].
        depth: u8,
        /// The key was full at some level above: mark it `spilled`.
        spilled: bool,
        /// How long the record had been held before, in ms; 0 from its author.
        age_ms: u64,
        /// What is left of its lifetime, in ms, counted from sending.
        remaining_ms: u64,
        /// A signed record, see [`super::record`].
        record: &'a [u8],
    },
    /// Request: deliver an application message. Needs a valid token.
    Send {
        /// The key that it is for; the id of the receiver, or `None`, when it is for this very node.
        key: Option<Key>,
        /// At most [`super::MESSAGE_LEN_MAX`] bytes.
        bytes: &'a [u8],
    },
    /// Reply to `Ping`.
    Pong {
        /// The address from which the request came.
        observed: PackedAddr,
        /// The answer to a challenge; only sent when it is not longer than the request or the token was valid.
        proof: Option<Proof<'a>>,
    },
    /// Reply to `FindNode` and `Get`: records first, then contacts as far as they fit.
    Found {
        /// The address from which the request came.
        observed: PackedAddr,
        /// There are more records than were sent: ask again with `after`.
        more: bool,
        /// The key is or was full here: read its sixteen children too.
        spilled: bool,
        /// Copies of records, each as [`super::record::Copy`] in postcard, one after the other.
        records: &'a [u8],
        /// Contacts of [`CONTACT_LEN`] bytes each, nearest first. One that is the sender itself, without an address, says
        /// more about the sender: on a ring that it owns the key, otherwise that many ask for it.
        contacts: &'a [u8],
    },
    /// Reply to `Put`.
    Stored {
        /// The address from which the request came.
        observed: PackedAddr,
        /// What became of the record.
        outcome: PutOutcome<'a>,
    },
    /// Reply to `Send`.
    Delivered {
        /// The address from which the request came.
        observed: PackedAddr,
        /// Whether the application took the message.
        accepted: bool,
        /// The application's answer, possibly empty.
        bytes: &'a [u8],
    },
    /// Reply to any request that is not carried out.
    Denied {
        /// The address from which the request came.
        observed: PackedAddr,
        /// Why not.
        reason: Denial,
    },
    /// Request: this is what I hold where you should hold it too. Needs a valid token.
    Have {
        /// Locations and digests, see [`Told`]; at most 64 digests count.
        told: &'a [u8],
    },
    /// Reply to `Have`.
    Lacks {
        /// The address from which the request came.
        observed: PackedAddr,
        /// Bit n is set when the record of the nth digest is not held, or another sequence of it, and is welcome.
        lacks: u64,
        /// Bit n is set when the record of the nth digest is held, with this sequence.
        holds: u64,
    },
}

coded_enum! {
    Body<'a> {
        0 => Ping { leaving, challenge, pad },
        1 => FindNode { target },
        2 => Get { key, kinds, after, limit },
        3 => Put { depth, spilled, age_ms, remaining_ms, record },
        4 => Send { key, bytes },
        5 => Pong { observed, proof },
        6 => Found { observed, more, spilled, records, contacts },
        7 => Stored { observed, outcome },
        8 => Delivered { observed, accepted, bytes },
        9 => Denied { observed, reason },
        10 => Have { told },
        11 => Lacks { observed, lacks, holds },
    } else Self::FindNode { target: Key::ZERO }
}

/// A node key and its signature over a challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof<'a> {
    /// The node's public key; its hash is the node id.
    pub key: PublicKey,
    /// 64 bytes over H("strandline/proof/v1", network, challenge, observed address).
    pub signature: &'a [u8],
}

coded_struct! { Proof<'a> { key, signature } }

impl Proof<'_> {
    /// The signature as an array, if it has the right length.
    #[must_use]
    pub fn signature(&self) -> Option<Signature> {
        self.signature.try_into().ok()
    }
}

/// What a holder did with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutOutcome<'a> {
    /// It is held now, or was already held with the same bytes.
    Stored,
    /// A newer one is held, and here it is.
    Older {
        /// The signed record held.
        record: &'a [u8],
    },
    /// The key is full here: write one level deeper.
    Full,
    /// It broke a rule (signature, key, lifetime, quota, …).
    Refused,
}

coded_enum! {
    PutOutcome<'a> {
        0 => Stored,
        1 => Older { record },
        2 => Full,
        3 => Refused,
    } else Self::Refused
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// The token is missing or too old; this reply carries a fresh one.
    Token,
    /// Too much to do just now.
    Busy,
    /// This node does not do that.
    Unsupported,
}

coded_enum! {
    Denial {
        0 => Token,
        1 => Busy,
        2 => Unsupported,
    } else Self::Unsupported
}

/// Bytes of a contact on the wire: node id and packed address.
pub const CONTACT_LEN: usize = 32 + 18;

/// A node and the address where it can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Contact {
    /// The node's id.
    pub id: NodeId,
    /// Its UDP address.
    pub addr: PackedAddr,
}

impl Contact {
    /// The contact's bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; CONTACT_LEN] {
        let mut bytes = [0; CONTACT_LEN];
        for (to, from) in bytes
            .iter_mut()
            .zip(self.id.as_bytes().iter().chain(self.addr.as_bytes()))
        {
            *to = *from;
        }
        bytes
    }

    /// Reads the contacts of a `Found` reply; a rest shorter than a contact is ignored.
    pub fn iter(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks_exact(CONTACT_LEN).filter_map(|chunk| {
            let (id, addr) = chunk.split_first_chunk::<32>()?;
            Some(Self {
                id: NodeId::from_bytes(*id),
                addr: PackedAddr::from_bytes(*addr.first_chunk::<18>()?),
            })
        })
    }
}

/// Bytes of a location and of the number of its digests.
pub const LOCATION_LEN: usize = ID_BYTES + 1;
/// Bytes of a [`Digest`].
pub const DIGEST_LEN: usize = 8 + 4;
/// Room for what a `Have` tells, in bytes.
pub const HAVE_ROOM: usize = DATAGRAM_LEN_MAX - (5 + 8 + 32 + 8 + 1 + 2);

/// What a holder tells about one location: 32 bytes of the location, the number of records as a byte, and a
/// [`Digest`] of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told<'a> {
    /// Where.
    pub location: Key,
    /// Of each record one of [`DIGEST_LEN`] bytes.
    pub digests: &'a [u8],
}

impl<'a> Told<'a> {
    /// Reads what a `Have` tells; a rest that is cut off is ignored.
    pub fn iter(mut bytes: &'a [u8]) -> impl Iterator<Item = Self> {
        core::iter::from_fn(move || {
            let (location, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
            let (&count, rest) = rest.split_first()?;
            let (digests, rest) = rest.split_at_checked(usize::from(count) * DIGEST_LEN)?;
            bytes = rest;
            Some(Self {
                location: Key::from_bytes(*location),
                digests,
            })
        })
    }
}

/// Stands for a record at its location when holders compare what they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest {
    /// The first 8 bytes of H("strandline/slot/v1", depth, kind, author, whether there is a subject, subject, page).
    pub slot: [u8; 8],
    /// The lowest 4 bytes of the sequence, big-endian.
    pub sequence: [u8; 4],
}

impl Digest {
    /// The digest of a record that is held at the shard level `depth`.
    #[must_use]
    pub fn of<C: Crypto>(record: &Record<'_>, depth: u8) -> Self {
        let Slot {
            kind,
            author,
            subject,
            page,
        } = record.slot();
        let head = [depth, kind as u8];
        let has_subject = [u8::from(subject.is_some())];
        let subject = subject.unwrap_or_default();
        let parts: [&[u8]; 5] = [
            &head,
            author.as_bytes(),
            &has_subject,
            subject.as_bytes(),
            &page.to_be_bytes(),
        ];
        let [a, b, c, d, e, f, g, h, ..] = C::hash("strandline/slot/v1", &parts);
        let [_, _, _, _, sequence @ ..] = record.sequence.to_be_bytes();
        Self {
            slot: [a, b, c, d, e, f, g, h],
            sequence,
        }
    }

    /// The digest's bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; DIGEST_LEN] {
        let mut bytes = [0; DIGEST_LEN];
        for (to, from) in bytes.iter_mut().zip(self.slot.iter().chain(&self.sequence)) {
            *to = *from;
        }
        bytes
    }

    /// Reads the digests of a location.
    pub fn iter(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks_exact(DIGEST_LEN).filter_map(|chunk| {
            let (slot, sequence) = chunk.split_first_chunk::<8>()?;
            Some(Self {
                slot: *slot,
                sequence: *sequence.first_chunk::<4>()?,
            })
        })
    }
}

impl<'a> Datagram<'a> {
    /// Decodes a datagram of `network`.
    ///
    /// # Errors
    /// The rule that it breaks: [`Rule::Overlong`], [`Rule::Version`], [`Rule::Network`], [`Rule::Malformed`],
    /// or [`Rule::Undersized`] for a request shorter than [`super::REQUEST_LEN_MIN`].
    #[inline(never)] // Half a kilobyte shorter on a board than inside its only caller.
    pub fn decode(bytes: &'a [u8], network: NetworkId) -> Result<Self, Rule> {
        if bytes.len() > DATAGRAM_LEN_MAX {
            return Err(Rule::Overlong);
        }
        let datagram: Self = super::decode_whole(super::open_preamble(bytes, network)?)?;
        if datagram.body.is_request() && bytes.len() < super::REQUEST_LEN_MIN {
            return Err(Rule::Undersized);
        }
        Ok(datagram)
    }

    /// Encodes into `buf` and returns the length; `None` when it does not fit a datagram or `buf`.
    pub fn encode(&self, network: NetworkId, buf: &mut [u8]) -> Option<usize> {
        let room = buf.len().min(DATAGRAM_LEN_MAX);
        super::seal(network, self, buf.get_mut(..room)?)
    }
}

impl Body<'_> {
    /// Whether this asks (true) or answers (false).
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Ping { .. }
                | Self::FindNode { .. }
                | Self::Get { .. }
                | Self::Put { .. }
                | Self::Send { .. }
                | Self::Have { .. }
        )
    }

    /// The address under which the answering node saw this one; `None` in requests.
    #[must_use]
    pub const fn observed(&self) -> Option<PackedAddr> {
        match self {
            Self::Pong { observed, .. }
            | Self::Found { observed, .. }
            | Self::Stored { observed, .. }
            | Self::Delivered { observed, .. }
            | Self::Denied { observed, .. }
            | Self::Lacks { observed, .. } => Some(*observed),
            Self::Ping { .. }
            | Self::FindNode { .. }
            | Self::Get { .. }
            | Self::Put { .. }
            | Self::Send { .. }
            | Self::Have { .. } => None,
        }
    }
}
