//! How many bytes a place in each of a plan's tables takes: a symbol for each, as long as one place, for `footprint` to
//! read. It is built for a board and never linked. Invariant: a symbol is `place_` and the table's name in the plan.
#![no_std]

use strandline_core::addr::PackedAddr;
use strandline_core::bounded::{Arena, Handle, Slot};
use strandline_core::dht::{Notice, Op, Recent, Reply, Shard, Value, Visit, Vote};
use strandline_core::id::{NodeId, UserId};
use strandline_core::lookup::Candidate;
use strandline_core::overlay::{Entry, Silent, Spare};
use strandline_core::plan::Board;
use strandline_core::records;
use strandline_core::rpc::{Pending, Unreached};
use strandline_core::timeline::errands::Errand;
use strandline_core::timeline::people::{Followed, Follower};
use strandline_core::timeline::reads::{Lookup, Read, Reading, Search};
use strandline_core::timeline::streams::Stream;
use strandline_core::timeline::tree::{Child, Job, Seen, Target};
use strandline_core::timeline::{copies, log, names, persist, publish, queries};
use strandline_core::wire::datagram::Contact;
use strandline_smoltcp::{Memory, Sockets};

/// What one place more in an arena takes beside the bytes in it.
const BLOB: usize = size_of::<Arena<0, 33>>() - size_of::<Arena<0, 32>>();
/// What one connection more takes: its buffers, and smoltcp's place for its socket.
const CONNECTION: usize = size_of::<Memory<3>>() - size_of::<Memory<2>>()
    + size_of::<Sockets<'_, 3>>()
    - size_of::<Sockets<'_, 2>>();

macro_rules! places {
    ($($name:ident = $len:expr,)*) => {
        $(
            #[expect(missing_docs, reason = "a symbol to be read by its name")]
            #[unsafe(no_mangle)]
            pub static $name: [u8; $len] = [0; $len];
        )*
    };
}

places! {
    place_RecordBytes = BLOB,
    place_RecordEntries = size_of::<records::Entry>(),
    place_Requests = size_of::<Slot<Pending>>(),
    place_Outgoing = size_of::<Option<Handle>>(),
    place_Unreached = size_of::<Unreached>(),
    place_Overlay_Entry = size_of::<Entry>(),
    place_Overlay_Spare = size_of::<Spare>(),
    place_Overlay_Silent = size_of::<Silent>(),
    place_Candidates = size_of::<Candidate>(),
    place_Ops = size_of::<Slot<Op<Board>>>(),
    place_Visits = size_of::<Slot<Visit<Board>>>(),
    place_Ready = size_of::<Option<Handle>>(),
    place_Frontier = size_of::<Shard>(),
    place_Parked = BLOB,
    place_Values = size_of::<Value>(),
    place_Replies = size_of::<Option<Reply>>(),
    place_Notices = size_of::<Option<Notice>>(),
    place_Recent = size_of::<Recent>(),
    place_Bootstraps = size_of::<PackedAddr>(),
    place_Saved = size_of::<Contact>(),
    place_Newcomers = size_of::<NodeId>(),
    place_Votes = size_of::<Vote>(),
    place_Posts = BLOB,
    place_PostsPending = size_of::<Option<log::Pending>>(),
    place_Persists = size_of::<Option<persist::Entry>>(),
    place_Followed = size_of::<Slot<Followed>>(),
    place_Followers = size_of::<Slot<Follower>>(),
    place_Copies = size_of::<Slot<copies::Copy>>(),
    place_Errands = size_of::<Slot<Errand>>(),
    place_Resolutions = size_of::<Slot<names::Resolution>>(),
    place_Claimants = size_of::<names::Claimant>(),
    place_Queries = size_of::<Slot<queries::Query>>(),
    place_Results = size_of::<Slot<queries::Found>>(),
    place_Puts = size_of::<publish::Running>(),
    place_Onces = size_of::<publish::Once>(),
    place_Streams = size_of::<Slot<Stream>>(),
    place_StreamQueue = size_of::<Option<Handle>>(),
    place_Jobs = size_of::<Slot<Job<Board>>>(),
    place_Targets = size_of::<Target>(),
    place_Children = size_of::<Child>(),
    place_SeenRequests = size_of::<Option<Seen>>(),
    place_Reads = size_of::<Slot<Read<Board>>>(),
    place_Readings = size_of::<Reading>(),
    place_Lookups = size_of::<Lookup>(),
    place_Searches = size_of::<Search>(),
    place_Missed = size_of::<Option<UserId>>(),
    place_connection = CONNECTION,
}
