//! The memory plan of a node: every table's type, on one page.
//!
//! A [`Plan`] is the one type parameter of a node. It names the cryptography, the overlay and, for each table, a
//! container with its capacity. [`Board`] keeps everything in place, for 64 KiB of RAM; `Server` (feature `alloc`)
//! grows on the heap up to bounds. Storage is chosen by type, never by Cargo feature, so that both kinds live in one
//! program. Invariant: whatever a plan says, protocol and behaviour are the same; only how much fits differs.

use core::marker::PhantomData;

use crate::bounded::{Arena, Blobs, Fixed, Index, List, Scan, Slot};
#[cfg(feature = "alloc")]
use crate::bounded::{Boxed, Grown, Hashed};
use crate::crypto::{Crypto, Ed25519};
use crate::records;
use crate::timeline::errands::Errand;
use crate::timeline::people::{Followed, Follower};
use crate::timeline::{copies, log, names, persist, publish};

/// Cryptography, overlay and tables of a node.
pub trait Plan: Sized + 'static {
    /// Hash, signatures.
    type Crypto: Crypto;

    // Records held for the network.

    /// The signed records: 65,536 at most, and room for one of the longest at least.
    type RecordBytes: Blobs;
    /// What is known about each record beside its bytes: as many places as there are records.
    type RecordEntries: List<records::Entry>;
    /// Finds the records of a location.
    type RecordIndex: Index;
    /// Counts the records of each source.
    type RecordSources: records::Tally;
    /// The most records at one location, 8 at least.
    const RECORDS_PER_LOCATION: usize;
    /// The most records held that one source has brought.
    const RECORDS_PER_SOURCE: usize;

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
    /// Own records being put.
    type Puts: List<publish::Running>;
    /// What is to be said once: sightings, and whom one has ceased to follow.
    type Onces: List<publish::Once>;
}

/// Everything in place, no allocator: for boards with 64 KiB of RAM.
///
/// `C` is the cryptography: a large simulation plugs a cheap stand-in.
#[derive(Debug)]
pub struct Board<C = Ed25519>(PhantomData<fn() -> C>);

impl<C: Crypto + 'static> Plan for Board<C> {
    type Crypto = C;

    type RecordBytes = Arena<{ 8 << 10 }, 32>;
    type RecordEntries = Fixed<records::Entry, 32>;
    type RecordIndex = Scan;
    type RecordSources = records::Recount;
    const RECORDS_PER_LOCATION: usize = 8;
    const RECORDS_PER_SOURCE: usize = 16;

    type Posts = Arena<5_120, 40>;
    type PostsPending = Fixed<Option<log::Pending>, 4>;
    type Persists = Fixed<Option<persist::Entry>, 8>;
    type Followed = Fixed<Slot<Followed>, 6>;
    type FollowedIndex = Scan;
    type Followers = Fixed<Slot<Follower>, 8>;
    type FollowersIndex = Scan;
    type Copies = Fixed<Slot<copies::Copy>, 6>;
    type CopiesIndex = Scan;
    type Errands = Fixed<Slot<Errand>, 4>;
    type Resolutions = Fixed<Slot<names::Resolution>, 2>;
    type Claimants = Fixed<names::Claimant, 4>;
    type Puts = Fixed<publish::Running, 2>;
    type Onces = Fixed<publish::Once, 4>;
}

/// On the heap, growing on demand up to bounds: for servers and desktops.
///
/// `C` is the cryptography: a large simulation plugs a cheap stand-in.
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct Server<C = Ed25519>(PhantomData<fn() -> C>);

#[cfg(feature = "alloc")]
impl<C: Crypto + 'static> Plan for Server<C> {
    type Crypto = C;

    type RecordBytes = Boxed<{ 64 << 20 }, 65_536>;
    type RecordEntries = Grown<records::Entry, 65_536>;
    type RecordIndex = Hashed;
    type RecordSources = records::Counts;
    const RECORDS_PER_LOCATION: usize = 64;
    const RECORDS_PER_SOURCE: usize = 16_384;

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
    type Puts = Grown<publish::Running, 16>;
    type Onces = Grown<publish::Once, 1_024>;
}

#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<records::Records<Board>>() <= 9_600);
