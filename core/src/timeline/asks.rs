//! What the parts of the timeline want of the DHT, and what they hear of it.
//!
//! Parts say what they want when polled, and are told how it ended; [`super::Timeline`] carries it to the DHT and back.
//! So each part can be tested with literals. Invariant: every operation that was begun is answered once, or its tag is
//! stale.

use crate::id::{Key, UserId};
use crate::wire::record::Kinds;

/// An operation of the DHT that a part wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Read the records at a key.
    Get {
        /// Where.
        key: Key,
        /// Of which kinds.
        kinds: Kinds,
        /// Who wrote what is looked for, if only one can have: see [`Dht::get`](crate::dht::Dht::get).
        author: Option<UserId>,
    },
    /// Store a record: the first `len` bytes of the buffer.
    Put {
        /// Its length.
        len: usize,
    },
    /// Say goodbye to the neighbours.
    Leave,
}

/// What a part asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asking {
    /// Comes back with everything that is said about it; see [`super::tags`].
    pub tag: u32,
    /// What is wanted.
    pub ask: Ask,
    /// How long it may take, in ms.
    pub within_ms: u32,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// A get: records were handed over as they came.
    Got {
        /// Holders that answered.
        answered: u16,
        /// Nothing was left out.
        complete: bool,
    },
    /// A put; stored when `accepted >= wanted`.
    Put {
        /// Holders that took it.
        accepted: u8,
        /// How many were needed.
        wanted: u8,
        /// A newer record of this user is held, with this sequence.
        older: Option<u64>,
        /// The key was full at every level.
        full: bool,
    },
    /// Goodbyes were sent.
    Left,
    /// It could not be begun: the DHT is busy. Ask again later.
    Busy,
}
