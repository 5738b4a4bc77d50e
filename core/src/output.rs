//! What a node hands to its host: outputs, events and the errors of commands.
//!
//! Owns the vocabulary between core and hosts, and no behaviour. Everything borrowed here lives in the buffer that
//! was given to `poll_output`, so that a host may keep nothing and copy what it likes.

use core::net::SocketAddr;

use crate::addr::PackedAddr;
use crate::id::{Key, NodeId, UserId};
use crate::name::Name;
use crate::time::Instant;
pub use crate::wire::frame::Unreached;

/// Room in bytes that the buffer of `poll_output` must have: the longest event with a record or post in it.
pub const OUTPUT_LEN_MAX: usize = 1280;

const _: () = assert!(OUTPUT_LEN_MAX > crate::wire::DATAGRAM_LEN_MAX);
const _: () = assert!(OUTPUT_LEN_MAX > crate::wire::FRAME_LEN_MAX + crate::wire::FRAME_PREFIX_LEN);

/// One thing that the host is to do. See the loop in the crate's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output<'b> {
    /// Send a datagram. It may be lost.
    Send {
        /// Where to.
        to: SocketAddr,
        /// At most [`crate::wire::DATAGRAM_LEN_MAX`] bytes.
        bytes: &'b [u8],
    },
    /// Open a stream. Answer with `stream_opened` or `stream_closed`.
    Open {
        /// The name of the stream from now on.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Write a whole frame. Only what `stream_writable` made room for is ever written.
    Write {
        /// On which stream.
        stream: StreamId,
        /// One frame with its length prefix.
        bytes: &'b [u8],
    },
    /// Close a stream after what was written has been sent. Its name is free again: say nothing more about it.
    Close {
        /// Which one.
        stream: StreamId,
    },
    /// Make this durable, then call `persisted` with this or a later number.
    Persist {
        /// Its number; numbers rise.
        id: PersistId,
        /// What to write or delete.
        item: Stored<'b>,
    },
    /// Something that the application may want to know.
    Event(Event<'b>),
    /// Nothing more to do before this time (`None`: before the next input).
    Wait(Option<Instant>),
}

/// A number of a [`Output::Persist`]: later ones are higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PersistId(pub u64);

/// One entry of the host's storage: a key and its value, which only core can read.
///
/// A host keeps them in any ordered or unordered map, one per class, and hands all of them back at the next start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored<'b> {
    /// Which table it belongs to.
    pub class: Class,
    /// At most [`STORED_KEY_LEN_MAX`] bytes, unique within the class.
    pub key: &'b [u8],
    /// The value, at most [`STORED_VALUE_LEN_MAX`] bytes; `None` deletes the key.
    pub value: Option<&'b [u8]>,
}

/// Longest storage key in bytes.
pub const STORED_KEY_LEN_MAX: usize = 64;
/// Longest storage value in bytes.
pub const STORED_VALUE_LEN_MAX: usize = 1024;

/// The tables of the host's storage. Restored in this order. Append-only: hosts store the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// State of the own logs: numbers reserved, sequences used.
    Log = 0,
    /// Own posts, by number.
    Post = 1,
    /// People followed, with the key that each name is pinned to, and how far they were read.
    Following = 2,
    /// People who follow.
    Follower = 3,
    /// Copies of others' posts: the head of each author and when the copy expires.
    Copy = 4,
    /// Posts of those copies.
    CopyPost = 5,
    /// Contacts for the next start.
    Contact = 6,
}

impl Class {
    /// Every class, in the order in which they are to be restored.
    pub const ALL: [Self; 7] = [
        Self::Log,
        Self::Post,
        Self::Following,
        Self::Follower,
        Self::Copy,
        Self::CopyPost,
        Self::Contact,
    ];
}

/// How the host's storage was found at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// There never was any: a new identity. Posts are numbered from 1; an own post that was restored is refused.
    Fresh,
    /// All that was ever acknowledged has been handed over.
    Intact,
    /// The identity is older than the storage: posts were lost. Nothing is signed before the DHT was asked.
    Lost,
}

/// Storage that does not verify: nothing of it was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged {
    /// The class of the entry that does not decode, does not verify or is missing.
    pub class: Class,
    /// What is wrong with it, in a few words.
    pub what: &'static str,
}

/// A stream between the node and its host: index and generation in one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// A running command of the application: index and generation in one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueryId(pub u64);

/// Too much is going on: try again later. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

/// Why a command was not even begun. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// `start` or `restored_all` has not been called yet.
    NotStarted,
    /// As many commands as the plan allows are running.
    Busy,
    /// The text is empty.
    TextEmpty,
    /// The text is over [`crate::wire::TEXT_LEN_MAX`] bytes.
    TextTooLong,
    /// The value or message is over its limit.
    ValueTooLong,
    /// One cannot follow oneself.
    Myself,
    /// The table that it needs is full (people followed, own posts).
    Full,
    /// The storage failed before; nothing more is signed until the node was restarted.
    StorageFailed,
    /// The log's numbers are not known yet: storage was lost, and the DHT has not answered enough.
    Recovering,
    /// The node's plan leaves it out: see [`crate::plan::Uses`].
    LeftOut,
}

/// Why `start` refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// It was started before.
    AlreadyStarted,
    /// A fan-out of zero or above [`crate::config::FANOUT_MAX`].
    Fanout,
    /// A keeping time of zero or above [`crate::config::KEEP_MAX_MS`].
    Keep,
    /// The network id is [`crate::wire::NetworkId::NONE`].
    Network,
    /// A secret key is all zero.
    Identity,
    /// Storage is to make posts durable, and the plan says that there is none ([`crate::plan::Uses::STORAGE`]).
    Durability,
}

/// Where a post came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// One's own log.
    Own,
    /// The author answered this read.
    Author,
    /// A copy, kept by this user (also the reader itself).
    Replica(Name),
}

/// A person as events name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// Under which name.
    pub name: Name,
}

/// What [`Event::Person`] says about somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// Claims the name that was asked for; the first one listed is the one taken. `held_ms`: how long holders have
    /// had the claim (the median of those asked).
    Claimant {
        /// Age of the claim in ms.
        held_ms: u64,
        /// This is the one that was taken.
        taken: bool,
    },
    /// Is followed by the user asked about.
    Followed,
    /// Follows the user asked about.
    Follower,
    /// Keeps copies of the posts of the user asked about, for this much longer.
    Holder {
        /// What is left, in ms.
        remaining_ms: u64,
    },
}

/// How a name was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChosenBy {
    /// It is pinned: followed under this name (or it is oneself).
    Pin,
    /// Nobody else claims it (or the fingerprint left only one).
    Only,
    /// Several claim it; this claim is the oldest.
    FirstSeen,
}

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipient {
    /// Whichever node is nearest to this key.
    Key(Key),
    /// The node of this id, and no other.
    Node(NodeId),
}

/// An application message that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'b> {
    /// The node that sent it.
    pub from: NodeId,
    /// Its address.
    pub addr: SocketAddr,
    /// The key that it was sent to, or this node's own id.
    pub to: Recipient,
    /// The message, at most [`crate::wire::MESSAGE_LEN_MAX`] bytes.
    pub bytes: &'b [u8],
}

/// Why a message was not answered. It is acknowledged without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerError {
    /// No message waits for an answer: none was polled, or another output was asked for since.
    NoMessage,
    /// It is over [`crate::wire::MESSAGE_LEN_MAX`] bytes.
    TooLong,
    /// There is no room to keep it.
    Full,
}

/// Something that happened. Bounded and mergeable notices, and the results of commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'b> {
    /// An application message arrived (`send`). It may be answered until the next output is asked for.
    Message(Message<'b>),
    /// A node came into the set of nearest neighbours.
    NeighbourUp {
        /// Which one.
        id: NodeId,
        /// Its address.
        addr: SocketAddr,
    },
    /// A node left the set of nearest neighbours: it died, said goodbye, or closer ones came.
    NeighbourDown {
        /// Which one.
        id: NodeId,
    },
    /// The distance within which this node is responsible for keys has changed: it is among the nearest to all keys
    /// whose XOR distance shares at least this many leading zero bits.
    ResponsibilityChanged {
        /// Leading zero bits of the distance; 0: responsible for every key.
        prefix_bits: u16,
    },
    /// The range of keys that this node owns has changed (Chord): those behind `after`, clockwise, up to and with `last`.
    /// After a time in which it was in doubt, and nothing was owned, it is told again though it is the same.
    RangeChanged {
        /// The id of the predecessor. The same as `last`: every key is owned.
        after: Key,
        /// The node's own id.
        last: Key,
    },
    /// A record came to be held at this key, where there was none.
    KeyGained {
        /// The location.
        key: Key,
    },
    /// The last record held at this key expired or was handed on.
    KeyLost {
        /// The location.
        key: Key,
    },
    /// A node that a lookup found, nearest first, or one that it asked (`trace`).
    Contact {
        /// The command.
        query: QueryId,
        /// Which node.
        id: NodeId,
        /// Its address.
        addr: SocketAddr,
        /// How many hops away from this node it was learned.
        hops: u8,
    },
    /// A value that `get` found.
    Value {
        /// The command.
        query: QueryId,
        /// Who wrote it.
        author: UserId,
        /// Its sequence.
        sequence: u64,
        /// The value.
        bytes: &'b [u8],
    },
    /// What the node that got a message (`send`) answered. A message that was not answered brings none.
    Answer {
        /// The command.
        query: QueryId,
        /// The node that answered.
        from: NodeId,
        /// The answer, never empty.
        bytes: &'b [u8],
    },
    /// A post that a `timeline` command found. Posts of one author come newest first; authors interleave.
    Post {
        /// The command.
        query: QueryId,
        /// The author.
        author: Person,
        /// Log number.
        log: u16,
        /// Post number.
        seq: u64,
        /// When it was written: min(claimed, first seen), Unix ms.
        time_ms: u64,
        /// The text.
        text: &'b str,
        /// Who served it.
        via: Via,
    },
    /// Somebody whose posts could not be read at all.
    Missing {
        /// The command.
        query: QueryId,
        /// Whose.
        author: Person,
        /// Why.
        reason: Unreached,
    },
    /// Somebody whom a command found.
    Person {
        /// The command.
        query: QueryId,
        /// Who.
        person: Person,
        /// As what.
        relation: Relation,
    },
    /// The profile that `whois` found.
    Profile {
        /// The command.
        query: QueryId,
        /// Whose.
        person: Person,
        /// How the name was resolved.
        chosen_by: ChosenBy,
        /// Where its node listens; [`PackedAddr::NONE`] when unknown.
        addr: PackedAddr,
        /// Whether its lease holds and nobody has missed it.
        online: bool,
        /// The number of its last post; 0 for none or unknown.
        last: u64,
        /// How many follow it.
        followers: u32,
    },
    /// A command ended. Nothing more comes about it, and its id is free again.
    QueryDone {
        /// The command.
        query: QueryId,
        /// How.
        outcome: Outcome,
    },
    /// The storage failed: nothing more is signed until the node was restarted.
    StorageFailed,
    /// This user's key signed two different heads with one number, elsewhere: somebody else uses it.
    Forked,
    /// Recovery after lost storage ended; posts go on with this number. 0: nobody knew a head.
    Recovered {
        /// The number of the next post.
        next: u64,
    },
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// `join`: this many contacts are known now; 0: nobody answered.
    Joined {
        /// Contacts in the routing table.
        contacts: u32,
    },
    /// `leave`: goodbyes were sent.
    Left,
    /// `register`, `put`: accepted by `accepted` of the `wanted` = min(5, nodes reachable) needed. It is stored when
    /// `accepted >= wanted`.
    Stored {
        /// Holders that took it, this node included.
        accepted: u8,
        /// How many were needed.
        wanted: u8,
    },
    /// `put`: somebody wrote a newer one, or the sequence was not the one expected.
    Older {
        /// The highest sequence that a holder proved to have.
        sequence: u64,
    },
    /// `put`, `register`: every level of the key was full.
    Full,
    /// `post`: durable under this number.
    Posted {
        /// The post's number.
        seq: u64,
        /// Its time, Unix ms.
        time_ms: u64,
    },
    /// `follow`, `unfollow`: the record is stored at `accepted` of `wanted` holders.
    Followed {
        /// Who.
        person: Person,
        /// Whether the followed was reached directly.
        delivered: bool,
        /// Holders that took the record.
        accepted: u8,
        /// How many were needed.
        wanted: u8,
    },
    /// `timeline`: all of it was read, or some are missing.
    Read {
        /// Nobody is missing.
        complete: bool,
    },
    /// `whois`, `followers`, `following`, `lookup`, `get`: this many were found; not `complete` when a part of the
    /// network did not answer or a table was full.
    Found {
        /// How many.
        count: u32,
        /// Whether that is all.
        complete: bool,
    },
    /// `send`: delivered, and accepted or not by the application there.
    Delivered {
        /// The application's word.
        accepted: bool,
    },
    /// Nothing under that name, handle or key, no node of that id, or nobody to ask.
    NotFound,
    /// Several people match; they were listed. Use a handle with its fingerprint.
    Ambiguous,
    /// It took too long.
    TimedOut,
    /// The storage refused it; it was not done.
    StorageFailed,
}

/// Use of one bounded table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name, stable.
    pub name: &'static str,
    /// Entries in use.
    pub used: usize,
    /// Entries that fit.
    pub capacity: usize,
    /// Bytes in use, for tables of bytes; else 0.
    pub bytes: usize,
}

impl Table {
    /// No table.
    pub const NONE: Self = Self {
        name: "",
        used: 0,
        capacity: 0,
        bytes: 0,
    };
}
