//! The board's own memory plan, between `Board` and `Server`: what a node does in 256 KiB of RAM instead of 64. Everything is
//! in place, as on the smaller board; what the numbers cost is in `BRING-YOUR-OWN-BOARD.md`.

use strandline_core::addr::PackedAddr;
use strandline_core::bounded::{Arena, Fixed, Handle, Scan, Slot};
use strandline_core::crypto::Ed25519;
use strandline_core::dht;
use strandline_core::id::{NodeId, UserId};
use strandline_core::lookup::Candidate;
use strandline_core::overlay::kademlia::Kademlia;
use strandline_core::overlay::{Entry, Silent, Spare};
use strandline_core::plan::Plan;
use strandline_core::records;
use strandline_core::rpc::{Pending, Unreached};
use strandline_core::timeline::{
    copies, errands, log, names, people, persist, publish, queries, reads, streams, tree,
};
use strandline_core::wire::datagram::Contact;

/// The plan.
pub struct Ample;

/// People that can be followed; several tables have a place for each.
const FOLLOWED: usize = 32;
/// Streams that can be open.
pub const STREAMS: usize = 12;

impl Plan for Ample {
    type Crypto = Ed25519;
    const STORES: bool = false;
    const EVERY_COMMAND: bool = false;

    type RecordBytes = Arena<{ 48 << 10 }, 160>;
    type RecordEntries = Fixed<records::Entry, 160>;
    type RecordIndex = Scan;
    type RecordSources = records::Recount;
    const RECORDS_PER_LOCATION: usize = 32;
    const RECORDS_PER_SOURCE: usize = 48;
    const LETS_GO_SOON: bool = true;

    type Cached = Fixed<dht::Cached, 0>;
    type Asked = Fixed<dht::Asked, 0>;

    type Requests = Fixed<Slot<Pending>, 24>;
    type RequestIndex = Scan;
    type Outgoing = Fixed<Option<Handle>, 24>;
    const REPEATS_MORE: bool = true;
    type Unreached = Fixed<Unreached, 16>;

    type Overlay = Kademlia<Fixed<Entry, 200>, Fixed<Spare, 16>, Fixed<Silent, 8>>;
    type Candidates = Fixed<Candidate, 32>;
    type Pinged = Fixed<u16, 64>;

    type Ops = Fixed<Slot<dht::Op<Self>>, 12>;
    type Shares = Fixed<dht::Share, 0>;
    type Visits = Fixed<Slot<dht::Visit<Self>>, 6>;
    type Ready = Fixed<Option<Handle>, 6>;
    type Frontier = Fixed<dht::Shard, 16>;
    type Digests = Fixed<u64, 32>;
    type Parked = Arena<{ 8 << 10 }, 32>;
    type Values = Fixed<dht::Value, 16>;
    type Replies = Fixed<Option<dht::Reply>, 12>;
    type Notices = Fixed<Option<dht::Notice>, 12>;
    type Recent = Fixed<dht::Recent, 8>;
    type Bootstraps = Fixed<PackedAddr, 4>;
    type Saved = Fixed<Contact, 1>;
    type Newcomers = Fixed<NodeId, 8>;
    type Votes = Fixed<dht::Vote, 5>;

    type Posts = Arena<{ 32 << 10 }, 192>;
    type PostsPending = Fixed<Option<log::Pending>, 4>;
    type Persists = Fixed<Option<persist::Entry>, 16>;
    type Followed = Fixed<Slot<people::Followed>, FOLLOWED>;
    type FollowedIndex = Scan;
    type Followers = Fixed<Slot<people::Follower>, 64>;
    type FollowersIndex = Scan;
    type Copies = Fixed<Slot<copies::Copy>, FOLLOWED>;
    type CopiesIndex = Scan;
    type Errands = Fixed<Slot<errands::Errand>, 8>;
    type Resolutions = Fixed<Slot<names::Resolution>, 4>;
    type Claimants = Fixed<names::Claimant, 16>;
    type Queries = Fixed<Slot<queries::Query>, 8>;
    type Results = Fixed<Slot<queries::Found>, 32>;
    type ResultsIndex = Scan;
    type Puts = Fixed<publish::Running, 4>;
    type Onces = Fixed<publish::Once, 8>;

    type Streams = Fixed<Slot<streams::Stream>, STREAMS>;
    type StreamQueue = Fixed<Option<Handle>, STREAMS>;
    const STREAMS_INCOMING: usize = 8;
    const STREAMS_PER_SOURCE: usize = 4;
    type Jobs = Fixed<Slot<tree::Job<Self>>, 4>;
    type Targets = Fixed<tree::Target, FOLLOWED>;
    type Children = Fixed<tree::Child, 4>;
    type SeenRequests = Fixed<Option<tree::Seen>, 16>;
    type Reads = Fixed<Slot<reads::Read<Self>>, 2>;
    type Readings = Fixed<reads::Reading, FOLLOWED>;
    type Lookups = Fixed<reads::Lookup, 4>;
    type Searches = Fixed<reads::Search, 4>;
    type Missed = Fixed<Option<UserId>, 8>;
    const READ_POSTS_MAX: u16 = 64;
}
