//! The store of a holder: signed records of others, by location.
//!
//! Owns which records are held, for how long, and what is refused. Knows nothing of the network: the node's
//! neighbourhood is asked through a closure, and what is lost is told through another. Records of a location form a
//! chain in the order in which they came, so that a page of a read begins where the last one ended.
//!
//! Invariants that a change must keep:
//! - A record that has expired is never shown, whether it was swept or not.
//! - A slot's record is replaced by a higher sequence only, and what is left to live never rises without one.
//! - A refusal changes nothing but a counter and the mark that a location is full; it may sweep what has expired.
//! - What is told as gained is told as lost when its last record goes, and not before.
//!
//! `admission` is the way of a record into the store, `table` keeps the tables in step, `entry` is what they hold
//! about a record, `limits` the arithmetic of what may be held, `tally` the count by source.

mod admission;
mod entry;
mod limits;
mod table;
mod tally;
#[cfg(test)]
mod tests;

pub use self::entry::{AGE_MAX_MS, Entry};
pub(crate) use self::limits::remaining_ms;
pub use self::limits::{
    CLOCKLESS_LIFETIME_MAX_MS, FUTURE_MAX_MS, REMAINING_MIN_MS, RESERVED_SHARE,
};
use self::table::Table;
#[cfg(feature = "alloc")]
pub use self::tally::Counts;
pub use self::tally::{Recount, Tally};
use crate::addr::Source;
use crate::bounded::{BlobId, Blobs};
use crate::clock::Clock;
use crate::id::Key;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::rules::{Dropped, Rule};
use crate::time::{Deadline, Instant};
use crate::wire::record::{Copy as RecordCopy, Kind, Kinds, Record};
use crate::wire::{NetworkId, RECORD_LEN_MAX};

/// How many slots one call of [`Records::handle_timeout`] looks at.
pub const SWEEP_SLOTS: usize = 256;
/// The pause between two calls that belong to one sweep, in milliseconds.
pub const SWEEP_PACE_MS: u64 = 10;
/// The shortest pause between two sweeps, in milliseconds.
pub const SWEEP_PAUSE_MS: u64 = 1000;

/// How many slots a put into a full store looks at for records to evict.
pub const EVICT_SLOTS: usize = 64;
/// How many records at most make room for one.
const VICTIMS_MAX: usize = 8;
/// The shortest record: three ids of 32 bytes, seven fields of one, a length and the signature.
const RECORD_LEN_MIN: usize = 3 * 32 + 7 + 1 + 64;

const _: () = assert!(VICTIMS_MAX * RECORD_LEN_MIN >= RECORD_LEN_MAX);

/// Names a record for as long as its slot is held; a newer record in its place keeps the name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordId(BlobId);

impl RecordId {
    /// The slot of the record, see [`Records::at`].
    pub(crate) fn slot(self) -> usize {
        self.0.index()
    }
}

/// A record that somebody wants held.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The record, decoded and not yet checked.
    pub record: &'a Record<'a>,
    /// The shard level at which it is offered, see [`Key::shard`].
    pub depth: u8,
    /// The sender says that the location is, or was, full.
    pub spilled: bool,
    /// How long ago the sender says that the slot was first seen.
    pub age_ms: u64,
    /// What the sender says is left of the lifetime.
    pub remaining_ms: u64,
    /// Who sent it; `None` for this node itself, which has no quota.
    pub source: Option<Source>,
}

/// A record is held: what [`Records::put`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Accepted {
    /// The record held.
    pub id: RecordId,
    /// Where.
    pub location: Key,
    /// False if the same bytes were held already.
    pub changed: bool,
    /// It is the first record at its location.
    pub gained: bool,
}

/// Why a record is not held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutError {
    /// A newer one is held, or another one of the same sequence: this one.
    Older(RecordId),
    /// Its location has no place for it: the writer goes one level deeper. The location is marked spilled.
    Full,
    /// The whole store is full, and nothing at this location could be marked for readers.
    NoRoom,
    /// It broke a rule.
    Refused(Rule),
}

impl PutError {
    /// The rule under which the refusal is counted.
    #[must_use]
    pub const fn rule(self) -> Rule {
        match self {
            Self::Older(_) => Rule::Older,
            Self::Full | Self::NoRoom => Rule::Full,
            Self::Refused(rule) => rule,
        }
    }
}

impl From<Rule> for PutError {
    fn from(rule: Rule) -> Self {
        Self::Refused(rule)
    }
}

/// A record that is held and has at least [`REMAINING_MIN_MS`] left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held<'a> {
    /// Its name in the store.
    pub id: RecordId,
    /// What it says.
    pub kind: Kind,
    /// The shard level at which it is held.
    pub depth: u8,
    /// Its location is, or was, full.
    pub spilled: bool,
    /// How long ago its slot was first seen by a holder, at most [`AGE_MAX_MS`].
    pub age_ms: u64,
    /// What is left of its lifetime, rounded down.
    pub remaining_ms: u64,
    /// The signed record.
    pub bytes: &'a [u8],
}

impl<'a> Held<'a> {
    /// The record as it is passed on.
    #[must_use]
    pub const fn copy(&self) -> RecordCopy<'a> {
        RecordCopy {
            age_ms: self.age_ms,
            remaining_ms: self.remaining_ms,
            record: self.bytes,
        }
    }
}

/// The records that a node holds for the network. See the [module](self) for what it promises.
///
/// A plan bounds the number of records, the sum of their lengths, how many lie at one location and how many one
/// source may bring. At the limit of the store, records whose location this node is not responsible for make room;
/// other live records never do.
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct Records<P: Plan> {
    /// Not later than the next work of the sweep.
    wake: Deadline,
    /// The earliest expiry that the sweep under way has passed by.
    passed: Deadline,
    /// Where the sweep goes on; 0 when none is under way.
    sweep_slot: usize,
    /// Where the next search for records to evict begins.
    evict_slot: usize,
    dropped: Dropped,
    table: Table<P>,
}

/// The records of a location, see [`Records::read`].
pub struct Reading<'s, P: Plan> {
    records: &'s Records<P>,
    now: Instant,
    /// The slot to look at next.
    next: Option<usize>,
    kinds: Kinds,
    /// How many more are not shown.
    skip: u16,
}

impl<'s, P: Plan> Iterator for Reading<'s, P> {
    type Item = Held<'s>;

    #[inline(never)] // Called from many places: shorter on a board.
    fn next(&mut self) -> Option<Held<'s>> {
        while let Some(slot) = self.next {
            self.next = self.records.table.after(slot);
            let held = self.records.at(self.now, slot);
            if let Some(held) = held.filter(|held| self.kinds.contains(held.kind)) {
                if self.skip == 0 {
                    return Some(held);
                }
                self.skip -= 1;
            }
        }
        None
    }
}

impl<P: Plan> Records<P> {
    /// A store without records. It works, but only [`Records::start`] makes it safe from chosen collisions.
    pub const EMPTY: Self = {
        assert!(P::RecordBytes::BYTES >= RECORD_LEN_MAX);
        assert!(P::RECORDS_PER_LOCATION >= RESERVED_SHARE);
        assert!(P::RECORDS_PER_LOCATION <= P::RecordBytes::SLOTS);
        assert!(P::RECORDS_PER_SOURCE > 0);
        Self {
            table: Table::EMPTY,
            wake: Deadline::NEVER,
            sweep_slot: 0,
            passed: Deadline::NEVER,
            evict_slot: 0,
            dropped: Dropped::NONE,
        }
    };

    /// Drops all records and draws a new secret for the tables. Every [`RecordId`] is stale from then on.
    pub fn start(&mut self, rng: &mut Rng<P::Crypto>) {
        self.table.start(rng.next_u64());
        (self.wake, self.passed) = (Deadline::NEVER, Deadline::NEVER);
        (self.sweep_slot, self.evict_slot) = (0, 0);
        self.dropped = Dropped::NONE;
    }

    /// Holds a record, after every check that a holder makes; in the order of what they cost, the signature last.
    ///
    /// `near` tells whether this node is among the nearest to a location. It is asked only when the store is full:
    /// about the newcomer's, and about those of records that might go, [`EVICT_SLOTS`] at most. `lost` is told each
    /// location whose last record went, to make room or because it had expired. The signature is checked for `network`;
    /// `None` when it is known to be good.
    ///
    /// Bytes that are held already are accepted and change nothing, neither lifetime nor age (but a `spilled` is
    /// noted). A newer record takes over the place, the age and the source of the one that it replaces; no quota
    /// stands in its way.
    ///
    /// # Errors
    /// Each is counted under its [`rule`](PutError::rule), and has changed nothing but what is said here.
    /// - [`PutError::Refused`] for [`Rule::Key`] (also a depth beyond
    ///   [`SHARD_DEPTH_MAX`](crate::id::SHARD_DEPTH_MAX), and another value in the place of an immutable one),
    ///   [`Rule::Lifetime`], [`Rule::Future`], [`Rule::Author`],
    ///   [`Rule::Payload`], [`Rule::Signature`], or [`Rule::Quota`] when the source has brought
    ///   [`Plan::RECORDS_PER_SOURCE`] records that are held.
    /// - [`PutError::Older`] when the record held has a higher sequence, or the same and other bytes.
    /// - [`PutError::Full`] when the location has no place for another record of the kind (see
    ///   [`RESERVED_SHARE`]): those that came first stay, and the location is marked spilled. Also when
    ///   the store is full and something is held at the location, so that the mark has a place.
    /// - [`PutError::NoRoom`] when the store is full and nothing is held at the location.
    pub fn put(
        &mut self,
        now: Instant,
        clock: &Clock,
        network: Option<NetworkId>,
        offer: &Offer<'_>,
        near: impl Fn(&Key) -> bool,
        mut lost: impl FnMut(Key),
    ) -> Result<Accepted, PutError> {
        let outcome = self.admit(now, clock, network, offer, near, &mut lost);
        if let Err(error) = outcome {
            self.dropped.count(error.rule());
        }
        outcome
    }

    /// Shows the records of these kinds at a location, in the order in which they came, without the first `after`.
    pub fn read<'s>(
        &'s self,
        now: Instant,
        location: &Key,
        kinds: Kinds,
        after: u16,
    ) -> Reading<'s, P> {
        Reading {
            records: self,
            now,
            next: self.table.head(&self.table.place(location)),
            kinds,
            skip: after,
        }
    }

    /// Tells whether a location is, or was, full, so that records of its key lie one level deeper too.
    ///
    /// The mark goes with the last record of the location.
    #[must_use]
    pub fn is_spilled(&self, location: &Key) -> bool {
        let head = self.table.head(&self.table.place(location));
        head.and_then(|slot| self.table.entry(slot))
            .is_some_and(Entry::is_spilled)
    }

    /// Shows a record by its name; `None` if it is gone or expired.
    #[must_use]
    pub fn get(&self, now: Instant, id: RecordId) -> Option<Held<'_>> {
        self.table.bytes().get(id.0)?;
        self.at(now, id.0.index())
    }

    /// Counts the slots of the store: every record is in a slot below this.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.table.slots()
    }

    /// Shows the record in a slot, `None` if there is none or it has expired.
    ///
    /// A walk over all records goes through the slots up to [`Records::slots`], as many at a time as its caller
    /// likes. Records stay in their slots; those that come during the walk may be missed.
    #[must_use]
    pub fn at(&self, now: Instant, slot: usize) -> Option<Held<'_>> {
        let entry = self.table.entry(slot)?;
        let remaining_ms = entry.expires().since_ms(now);
        if remaining_ms < REMAINING_MIN_MS {
            return None;
        }
        let id = self.table.id(slot)?;
        Some(Held {
            id: RecordId(id),
            kind: Kind::of_tag(entry.kind_tag())?,
            depth: entry.depth(),
            spilled: entry.is_spilled(),
            age_ms: entry.age_ms(now),
            remaining_ms,
            bytes: self.table.bytes().get(id)?,
        })
    }

    /// Tells where a record is held; `None` if it is gone.
    #[must_use]
    pub fn location(&self, id: RecordId) -> Option<Key> {
        self.table.bytes().get(id.0)?;
        self.table.location(id.0.index())
    }

    /// Drops a record; false if it was gone. Tells `lost` the location if it was the last one there.
    pub fn remove(&mut self, id: RecordId, mut lost: impl FnMut(Key)) -> bool {
        let held = self.table.bytes().get(id.0).is_some();
        if held {
            self.free(id.0.index(), &mut lost);
        }
        held
    }

    /// Frees the memory of expired records, of [`SWEEP_SLOTS`] slots at most; a sweep over more goes on at the next
    /// deadline. Tells `lost` each location of which the last record went.
    pub fn handle_timeout(&mut self, now: Instant, mut lost: impl FnMut(Key)) {
        if !self.wake.is_due(now) {
            return;
        }
        let end = self.slots().min(self.sweep_slot + SWEEP_SLOTS);
        for slot in self.sweep_slot..end {
            let Some(entry) = self.table.entry(slot) else {
                continue;
            };
            if entry.is_expired(now) {
                self.free(slot, &mut lost);
            } else {
                self.passed.lower(entry.expires());
            }
        }
        if end < self.slots() {
            self.sweep_slot = end;
            self.wake = Deadline::at(now.after_ms(SWEEP_PACE_MS));
        } else {
            self.sweep_slot = 0;
            let pause_over = now.after_ms(SWEEP_PAUSE_MS);
            let expires = core::mem::take(&mut self.passed).get();
            self.wake = expires.map_or(Deadline::NEVER, |at| Deadline::at(at.max(pause_over)));
        }
    }

    /// When [`Records::handle_timeout`] has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Deadline {
        self.wake
    }

    /// Counts the records, those that have expired and were not yet swept among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.bytes().len()
    }

    /// Tells whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most records that are ever held.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        P::RecordBytes::SLOTS
    }

    /// Counts the bytes of all records.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.table.bytes().used_bytes()
    }

    /// The most bytes that all records have together.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        P::RecordBytes::BYTES
    }

    /// How often records were refused, and why.
    #[must_use]
    pub const fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Drops the record in a slot, and tells `lost` its location if it was the last one there.
    fn free(&mut self, slot: usize, lost: &mut dyn FnMut(Key)) {
        if let Some(location) = self.table.free(slot) {
            lost(location);
        }
    }
}
