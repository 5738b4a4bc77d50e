//! The memory plan of a node: every table's type, on one page.
//!
//! A [`Plan`] is the one type parameter of a node. It names the cryptography, the overlay and, for each table, a
//! container with its capacity. [`Board`] keeps everything in place, for 64 KiB of RAM; `Server` (feature `alloc`)
//! grows on the heap up to bounds. Storage is chosen by type, never by Cargo feature, so that both kinds live in one
//! program. Invariant: whatever a plan says, protocol and behaviour are the same; only how much fits differs, and what the
//! host may ask for.

use core::marker::PhantomData;

use crate::addr::PackedAddr;
use crate::bounded::{Arena, Blobs, Fixed, Handle, Index, List, Scan, Slot};
#[cfg(feature = "alloc")]
use crate::bounded::{Boxed, Grown, Hashed};
use crate::crypto::{Crypto, Ed25519};
use crate::dht::{Asked, Cached, Notice, Op, Recent, Reply, Shard, Share, Value, Visit, Vote};
use crate::id::{NodeId, UserId};
use crate::lookup::Candidate;
use crate::overlay::chord::Chord;
#[cfg(feature = "alloc")]
use crate::overlay::kademlia::Noted;
use crate::overlay::kademlia::{Kademlia, Plain};
use crate::overlay::{Entry, Overlay, Silent, Spare, Usual};
use crate::records;
use crate::rpc::{Pending, Unreached};
use crate::timeline::errands::Errand;
use crate::timeline::people::{Followed, Follower};
use crate::timeline::reads::{Lookup, Read, Reading, Search};
use crate::timeline::streams::Stream;
use crate::timeline::tree::{Child, Job, Seen, Target};
use crate::timeline::{copies, log, names, persist, publish, queries};
use crate::wire::datagram::Contact;

/// What a program makes of its node. What it does without is not in its image: flash that a board may need elsewhere.
pub trait Uses: 'static {
    /// Whether the DHT is a toolkit for the program too: values, messages and lookups of its own, beside the timeline.
    /// Without, the commands for them are refused ([`CommandError::LeftOut`](crate::output::CommandError::LeftOut)), and so
    /// is a message for this node, as unsupported.
    const TOOLKIT: bool;
    /// Whether the host stores what it is given: [`Output::Persist`](crate::output::Output::Persist). Without, it is given
    /// nothing, posts are made durable by [`Durability::Holders`](crate::config::Durability::Holders) alone (a start with
    /// `Durability::Host`, which is the default, is refused), and a node that begins anew reads what it was from the network.
    const STORAGE: bool;
    /// Whether it gives every command of the timeline. Without, `whois`, `followers`, `following` and `leave` are refused
    /// likewise, and it is not told among whom a handle is ambiguous.
    const EVERY_COMMAND: bool;
}

/// All that there is.
#[derive(Debug)]
pub enum Everything {}

impl Uses for Everything {
    const TOOLKIT: bool = true;
    const STORAGE: bool = true;
    const EVERY_COMMAND: bool = true;
}

/// To follow, post and read, without storage, and of the DHT what that needs.
#[derive(Debug)]
pub enum TimelineAlone {}

impl Uses for TimelineAlone {
    const TOOLKIT: bool = false;
    const STORAGE: bool = false;
    const EVERY_COMMAND: bool = false;
}

/// Cryptography, overlay and tables of a node.
pub trait Plan: Sized + 'static {
    /// Hash, signatures.
    type Crypto: Crypto;
    /// What the program makes of it.
    type Uses: Uses;

    // Records held for the network.

    /// The signed records: 65,536 at most, and room for one of the longest at least.
    type RecordBytes: Blobs;
    /// What is known about each record beside its bytes: as many places as there are records.
    type RecordEntries: List<records::Entry>;
    /// Finds the records of a location.
    type RecordIndex: Index;
    /// Counts the records of each source.
    type RecordSources: records::Tally;
    /// The most records at one location, 8 at least; a multiple of [`records::RESERVED_SHARE`] wastes none.
    const RECORDS_PER_LOCATION: usize;
    /// The most records held that one source has brought.
    const RECORDS_PER_SOURCE: usize;
    /// Whether a newcomer brings on a round of repair about records whose place it took, so that they are let go within a
    /// minute, and a vanished neighbour one about the gaps that it left. Otherwise the former waits for the next round, and
    /// the latter brings that on.
    const LETS_GO_SOON: bool;

    // DHT: copies of popular values, for those who read them; without places, none are kept.

    /// The copies, of a kilobyte each.
    type Cached: List<Cached>;
    /// What is asked for often.
    type Asked: List<Asked>;

    // DHT: requests.

    /// Requests under way.
    type Requests: List<Slot<Pending>>;
    /// Finds a request by its transaction.
    type RequestIndex: Index;
    /// Requests to be sent: as many places as [`Plan::Requests`].
    type Outgoing: List<Option<Handle>>;
    /// Whether a first ping is repeated where two nodes named the address, and what decides who gets a message is asked
    /// three times, so that a lost datagram or two hide nobody.
    const REPEATS_MORE: bool;
    /// Strangers that did not answer of late.
    type Unreached: List<Unreached>;

    // DHT: contacts and lookups.

    /// Which contacts are kept.
    type Overlay: Overlay;
    /// Candidates of one lookup.
    type Candidates: List<Candidate>;
    /// The neighbourhoods (see [`crate::addr::Subnet::tag`]) of the first pings of one lookup, which can have no more
    /// than fit: the nearest nodes are commonly found with 20 to 40.
    type Pinged: List<u16>;

    // DHT: operations.

    /// Operations under way or waiting to be polled.
    type Ops: List<Slot<Op<Self>>>;
    /// Gets and finds that wait for the result of another that asks the same; without places, each looks for itself.
    type Shares: List<Share>;
    /// Locations being looked up and read or written.
    type Visits: List<Slot<Visit<Self>>>;
    /// Visits to go on with: as many places as [`Plan::Visits`].
    type Ready: List<Option<Handle>>;
    /// Full locations of one get whose shards are still to be read.
    type Frontier: List<Shard>;
    /// Records verified at one location.
    type Digests: List<u64>;
    /// Records being put, messages and answers, values found.
    type Parked: Blobs;
    /// Values found by the application's gets, and answers to its messages.
    type Values: List<Value>;
    /// Replies to be sent.
    type Replies: List<Option<Reply>>;
    /// Events to be polled.
    type Notices: List<Option<Notice>>;
    /// Messages taken lately, to notice repetitions: with fewer places than messages come before a repetition may, one
    /// is delivered twice.
    type Recent: List<Recent>;
    /// Addresses to join through while there are no contacts.
    type Bootstraps: List<PackedAddr>;
    /// Contacts in the host's storage.
    type Saved: List<Contact>;
    /// Newcomers to whom records are to be handed over.
    type Newcomers: List<NodeId>;
    /// What others say is this node's address.
    type Votes: List<Vote>;

    // Timeline: state.

    /// Bytes of own posts, of copies with their heads, and of the profiles of those followed.
    type Posts: Blobs;
    /// Own posts that are not durable yet.
    type PostsPending: List<Option<log::Pending>>;
    /// Storage entries that wait to be polled.
    type Persists: List<Option<persist::Entry>>;
    /// People followed.
    type Followed: List<Slot<Followed>>;
    /// Finds a followed person by id.
    type FollowedIndex: Index;
    /// Followers known here.
    type Followers: List<Slot<Follower>>;
    /// Finds a follower by id.
    type FollowersIndex: Index;
    /// Authors of whose posts copies are kept.
    type Copies: List<Slot<copies::Copy>>;
    /// Finds a copy by its author.
    type CopiesIndex: Index;
    /// What is to be said over streams.
    type Errands: List<Slot<Errand>>;
    /// Handles being looked up.
    type Resolutions: List<Slot<names::Resolution>>;
    /// Those who claim the names being looked up.
    type Claimants: List<names::Claimant>;
    /// Running commands.
    type Queries: List<Slot<queries::Query>>;
    /// People that running commands have found.
    type Results: List<Slot<queries::Found>>;
    /// Finds one of them.
    type ResultsIndex: Index;
    /// Own records being put.
    type Puts: List<publish::Running>;
    /// What is to be said once: sightings, and whom one has ceased to follow.
    type Onces: List<publish::Once>;

    // Timeline: streams, the get tree and reads.

    /// Streams, of peers and of this node.
    type Streams: List<Slot<Stream>>;
    /// A place for each of [`Plan::Streams`].
    type StreamQueue: List<Option<Handle>>;
    /// At most this many streams that peers opened; the rest is for this node's own.
    const STREAMS_INCOMING: usize;
    /// At most this many streams from one source (see [`crate::addr::source_of`]).
    const STREAMS_PER_SOURCE: usize;
    /// Get trees under way, of this node's reads and of those that it relays for: two at least.
    type Jobs: List<Slot<Job<Self>>>;
    /// The targets of one job: as many as people can be followed, at least.
    type Targets: List<Target>;
    /// Those whom one job asks at a time: at least one, at most [`crate::config::FANOUT_MAX`] count.
    type Children: List<Child>;
    /// Requests to relay that are remembered.
    type SeenRequests: List<Option<Seen>>;
    /// Reads under way.
    type Reads: List<Slot<Read<Self>>>;
    /// The people of one read: as many as can be followed.
    type Readings: List<Reading>;
    /// Profiles that one read looks up at a time.
    type Lookups: List<Lookup>;
    /// People for whose posts one read looks among holders at a time; the fan-out counts too.
    type Searches: List<Search>;
    /// People who did not answer, until it is published.
    type Missed: List<Option<UserId>>;
    /// Most posts of one person in one read.
    const READ_POSTS_MAX: u16;
}

/// The contacts of a board that is in a network of Kademlia nodes. `W`, here as below: how wide that is.
pub type BoardTable<W = Usual> =
    Kademlia<Fixed<Entry, 40>, Fixed<Spare, 1>, Fixed<Silent, 2>, Plain, W>;
/// The contacts of a board that is in a network of Chord nodes.
pub type BoardRing<W = Usual> = Chord<Fixed<Entry, 39>, Fixed<Silent, 2>, W>;
/// The contacts of a server that is in a network of Kademlia nodes.
#[cfg(feature = "alloc")]
pub type ServerTable<W = Usual> =
    Kademlia<Grown<Entry, 5_120>, Grown<Spare, 128>, Grown<Silent, 256>, Noted<5_120>, W>;
/// The contacts of a server that is in a network of Chord nodes: 20 successors, 8 predecessors, and up to 256 fingers.
#[cfg(feature = "alloc")]
pub type ServerRing<W = Usual> = Chord<Grown<Entry, 320>, Grown<Silent, 256>, W>;

/// Everything in place, no allocator: for boards with 64 KiB of RAM.
///
/// `C` is the cryptography: a large simulation plugs a cheap stand-in. `O` is the overlay, the same for all nodes of a
/// network: Kademlia, or with [`BoardRing`] Chord. `U` is what the program makes of the node.
#[derive(Debug)]
pub struct Board<C = Ed25519, O = BoardTable, U = Everything>(PhantomData<Of<C, O, U>>);

/// What names three types and holds none of them.
type Of<C, O, U> = fn() -> (C, O, U);

impl<C: Crypto + 'static, O: Overlay + 'static, U: Uses> Plan for Board<C, O, U> {
    type Crypto = C;
    type Uses = U;

    type RecordBytes = Arena<{ 7 << 10 }, 32>;
    type RecordEntries = Fixed<records::Entry, 32>;
    type RecordIndex = Scan;
    type RecordSources = records::Recount;
    const RECORDS_PER_LOCATION: usize = 8;
    const RECORDS_PER_SOURCE: usize = 16;
    const LETS_GO_SOON: bool = false;

    type Cached = Fixed<Cached, 0>;
    type Asked = Fixed<Asked, 0>;

    type Requests = Fixed<Slot<Pending>, 6>;
    type RequestIndex = Scan;
    type Outgoing = Fixed<Option<Handle>, 6>;
    const REPEATS_MORE: bool = false;
    type Unreached = Fixed<Unreached, 4>;

    type Overlay = O;
    type Candidates = Fixed<Candidate, 12>;
    type Pinged = Fixed<u16, 64>;

    type Ops = Fixed<Slot<Op<Self>>, 4>;
    type Shares = Fixed<Share, 0>;
    type Visits = Fixed<Slot<Visit<Self>>, 1>;
    type Ready = Fixed<Option<Handle>, 1>;
    type Frontier = Fixed<Shard, 3>;
    type Digests = Fixed<u64, 4>;
    type Parked = Arena<944, 4>;
    type Values = Fixed<Value, 2>;
    type Replies = Fixed<Option<Reply>, 3>;
    type Notices = Fixed<Option<Notice>, 3>;
    type Recent = Fixed<Recent, 1>;
    type Bootstraps = Fixed<PackedAddr, 2>;
    type Saved = Fixed<Contact, 1>;
    type Newcomers = Fixed<NodeId, 2>;
    type Votes = Fixed<Vote, 3>;

    type Posts = Arena<2_880, 18>;
    type PostsPending = Fixed<Option<log::Pending>, 2>;
    type Persists = Fixed<Option<persist::Entry>, 4>;
    type Followed = Fixed<Slot<Followed>, 4>;
    type FollowedIndex = Scan;
    type Followers = Fixed<Slot<Follower>, 4>;
    type FollowersIndex = Scan;
    type Copies = Fixed<Slot<copies::Copy>, 3>;
    type CopiesIndex = Scan;
    type Errands = Fixed<Slot<Errand>, 2>;
    type Resolutions = Fixed<Slot<names::Resolution>, 1>;
    type Claimants = Fixed<names::Claimant, 3>;
    type Queries = Fixed<Slot<queries::Query>, 2>;
    type Results = Fixed<Slot<queries::Found>, 4>;
    type ResultsIndex = Scan;
    type Puts = Fixed<publish::Running, 1>;
    type Onces = Fixed<publish::Once, 2>;

    type Streams = Fixed<Slot<Stream>, 4>;
    type StreamQueue = Fixed<Option<Handle>, 4>;
    const STREAMS_INCOMING: usize = 2;
    const STREAMS_PER_SOURCE: usize = 2;
    type Jobs = Fixed<Slot<Job<Self>>, 2>;
    type Targets = Fixed<Target, 4>;
    type Children = Fixed<Child, 2>;
    type SeenRequests = Fixed<Option<Seen>, 4>;
    type Reads = Fixed<Slot<Read<Self>>, 1>;
    type Readings = Fixed<Reading, 4>;
    type Lookups = Fixed<Lookup, 2>;
    type Searches = Fixed<Search, 1>;
    type Missed = Fixed<Option<UserId>, 2>;
    const READ_POSTS_MAX: u16 = 16;
}

/// [`Board`] for who follows and posts, has no other business in the network, and no storage.
pub type TimelineBoard = Board<Ed25519, BoardTable, TimelineAlone>;

/// On the heap, growing on demand up to bounds: for servers and desktops.
///
/// `C` is the cryptography: a large simulation plugs a cheap stand-in. `O` is the overlay, the same for all nodes of a
/// network: Kademlia, or with [`ServerRing`] Chord.
///
/// ```
/// use strandline_core::crypto::Ed25519;
/// use strandline_core::node::Node;
/// use strandline_core::plan::{Server, ServerRing};
///
/// let _kademlia = Node::<Server>::unstarted();
/// let _chord = Node::<Server<Ed25519, ServerRing>>::unstarted();
/// ```
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct Server<C = Ed25519, O = ServerTable>(PhantomData<fn() -> (C, O)>);

#[cfg(feature = "alloc")]
impl<C: Crypto + 'static, O: Overlay + 'static> Plan for Server<C, O> {
    type Crypto = C;
    type Uses = Everything;

    type RecordBytes = Boxed<{ 64 << 20 }, 65_536>;
    type RecordEntries = Grown<records::Entry, 65_536>;
    type RecordIndex = Hashed;
    type RecordSources = records::Counts;
    const RECORDS_PER_LOCATION: usize = 64;
    const RECORDS_PER_SOURCE: usize = 16_384;
    const LETS_GO_SOON: bool = true;

    type Cached = Grown<Cached, 256>;
    type Asked = Grown<Asked, 64>;

    type Requests = Grown<Slot<Pending>, 4_096>;
    type RequestIndex = Hashed;
    type Outgoing = Grown<Option<Handle>, 4_096>;
    const REPEATS_MORE: bool = true;
    type Unreached = Grown<Unreached, 256>;

    type Overlay = O;
    type Candidates = Grown<Candidate, 48>;
    type Pinged = Grown<u16, 160>;

    type Ops = Grown<Slot<Op<Self>>, 1_024>;
    type Shares = Grown<Share, 1_024>;
    type Visits = Grown<Slot<Visit<Self>>, 1_024>;
    type Ready = Grown<Option<Handle>, 1_024>;
    type Frontier = Grown<Shard, 256>;
    type Digests = Grown<u64, 256>;
    type Parked = Boxed<{ 4 << 20 }, 8_192>;
    type Values = Grown<Value, 4_096>;
    type Replies = Grown<Option<Reply>, 1_024>;
    type Notices = Grown<Option<Notice>, 1_024>;
    type Recent = Grown<Recent, 64>;
    type Bootstraps = Grown<PackedAddr, 40>;
    type Saved = Grown<Contact, 32>;
    type Newcomers = Grown<NodeId, 64>;
    type Votes = Grown<Vote, 8>;

    type Posts = Boxed<{ 256 << 20 }, 262_144>;
    type PostsPending = Grown<Option<log::Pending>, 1_024>;
    type Persists = Grown<Option<persist::Entry>, 65_536>;
    type Followed = Grown<Slot<Followed>, 10_000>;
    type FollowedIndex = Hashed;
    type Followers = Grown<Slot<Follower>, 65_536>;
    type FollowersIndex = Hashed;
    type Copies = Grown<Slot<copies::Copy>, 10_000>;
    type CopiesIndex = Hashed;
    type Errands = Grown<Slot<Errand>, 1_024>;
    type Resolutions = Grown<Slot<names::Resolution>, 256>;
    type Claimants = Grown<names::Claimant, 4_096>;
    type Queries = Grown<Slot<queries::Query>, 1_024>;
    type Results = Grown<Slot<queries::Found>, 65_536>;
    type ResultsIndex = Hashed;
    type Puts = Grown<publish::Running, 16>;
    type Onces = Grown<publish::Once, 1_024>;

    type Streams = Grown<Slot<Stream>, 1_024>;
    type StreamQueue = Grown<Option<Handle>, 1_024>;
    const STREAMS_INCOMING: usize = 768;
    const STREAMS_PER_SOURCE: usize = 16;
    type Jobs = Grown<Slot<Job<Self>>, 256>;
    type Targets = Grown<Target, 10_000>;
    type Children = Grown<Child, 16>;
    type SeenRequests = Grown<Option<Seen>, 1_024>;
    type Reads = Grown<Slot<Read<Self>>, 64>;
    type Readings = Grown<Reading, 10_000>;
    type Lookups = Grown<Lookup, 32>;
    type Searches = Grown<Search, 16>;
    type Missed = Grown<Option<UserId>, 1_024>;
    const READ_POSTS_MAX: u16 = 1_000;
}

#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<records::Records<Board>>() <= 9_600);
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<crate::dht::Dht<Board>>() <= 16_300);
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<crate::dht::Dht<Board<Ed25519, BoardRing>>>() <= 16_300);
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<crate::timeline::Timeline<Board>>() <= 10_620);
