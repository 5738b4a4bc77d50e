//! Copies of popular values on the way to their holders (Maymounkov and Mazières 2002, sections 2.3 and 4.1).
//!
//! Owns the copies that this node keeps so that others find them sooner, and the count of what is asked for often.
//! Whoever is asked often says so; a reader that hears it leaves a copy with the nearest node that did not have one, and
//! that node keeps it the shorter, the more nodes it knows between itself and the holders. Only immutable values are
//! kept: a reader tells by the hash that no other is right, and ends its lookup with the first. Of all else the newest
//! counts, which only the holders together know. Invariants: the copies are not in the store, so that none is handed
//! over, compared, told as gained, or takes the place of a record held; what is left to live never rises; on a ring, and
//! with a plan that has no places for copies, nothing happens here.

use core::marker::PhantomData;

use crate::addr::{Source, source_of};
use crate::bounded::{BlobId, Blobs, Handle, List};
use crate::id::Key;
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::records::{Offer, PutError, REMAINING_MIN_MS, remaining_ms};
use crate::rpc::{Repeat, Tag};
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::RECORD_LEN_MAX;
use crate::wire::datagram::{Body, COPY_DEPTH, Contact};
use crate::wire::record::{Copy as RecordCopy, Kind, Kinds, Record};

use super::Dht;
use super::ops::Job;

/// How long the nodes next to the holders keep a copy at most, in ms. It halves with every k nodes between.
pub const COPY_MAX_MS: u64 = 30 * 60 * 1_000;
/// The time in which the count of those who ask for something halves, in ms.
pub const HALF_MS: u64 = 5 * 1_000;
/// What is counted so often is popular.
pub const POPULAR: u16 = 8;
/// One source may bring one in so many of the copies.
const SOURCE_SHARE: usize = 16;
/// How often a copy's time can halve: the farthest that nodes between are counted, in multiples of k. No copy lives on
/// behind that.
const HALVINGS_MAX: usize = (COPY_MAX_MS / REMAINING_MIN_MS).ilog2() as usize + 1;

/// A copy of a value; opaque, named by memory plans alone.
#[derive(Clone, Debug)]
pub struct Cached {
    key: Key,
    source: Source,
    expires: Instant,
    len: u16,
    record: [u8; RECORD_LEN_MAX],
}

impl Cached {
    fn bytes(&self) -> &[u8] {
        self.record.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// How often a key was asked for of late; opaque, named by memory plans alone.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    key: Key,
    count: u16,
    /// When the count was last halved.
    halved: Instant,
}

/// The copies, and what is asked for.
pub(super) struct Caching<P: Plan> {
    copies: P::Cached,
    asked: P::Asked,
    plan: PhantomData<fn() -> P>,
}

impl<P: Plan> Caching<P> {
    pub(super) const EMPTY: Self = Self {
        copies: P::Cached::EMPTY,
        asked: P::Asked::EMPTY,
        plan: PhantomData,
    };

    /// The copy of the value at a key, and what is left of its time in ms.
    pub(super) fn read(&self, now: Instant, key: &Key) -> Option<RecordCopy<'_>> {
        let mut copies = self.copies.iter();
        let copy = copies.find(|copy| copy.key == *key)?;
        let remaining_ms = copy.expires.since_ms(now);
        (remaining_ms >= REMAINING_MIN_MS).then_some(RecordCopy {
            age_ms: 0,
            remaining_ms,
            record: copy.bytes(),
        })
    }

    /// Somebody asks for what this node has at a key. Whether that is popular. The key that was not asked for longest
    /// makes place.
    fn count(&mut self, now: Instant, key: &Key) -> bool {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.key == *key) {
            let halvings = now.since_ms(asked.halved) / HALF_MS;
            let shift = u32::try_from(halvings).unwrap_or(u32::MAX);
            asked.count = asked
                .count
                .checked_shr(shift)
                .unwrap_or(0)
                .saturating_add(1);
            asked.halved = asked.halved.after_ms(halvings.saturating_mul(HALF_MS));
            return asked.count >= POPULAR;
        }
        if self.asked.is_full() {
            let places = self.asked.iter().enumerate();
            let oldest = places.min_by_key(|(_, asked)| asked.halved);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.asked.swap_remove(at);
            }
        }
        // There is room; only memory may lack.
        let _ = self.asked.push(Asked {
            key: *key,
            count: 1,
            halved: now,
        });
        false
    }

    /// Whether one more copy from `source` may come; makes room for one that lasts until `expires`. A copy that ends
    /// sooner makes place, of all the one that ends first.
    fn make_room(&mut self, source: Source, expires: Instant) -> Result<(), PutError> {
        let of_source = self.copies.iter().filter(|copy| copy.source == source);
        if of_source.count() * SOURCE_SHARE >= P::Cached::CAPACITY {
            return Err(PutError::Refused(Rule::Quota));
        }
        if !self.copies.is_full() {
            return Ok(());
        }
        let places = self.copies.iter().enumerate();
        let first = places.min_by_key(|(_, copy)| copy.expires);
        let at = first
            .filter(|(_, copy)| copy.expires < expires)
            .map(|(at, _)| at);
        self.copies.swap_remove(at.ok_or(PutError::NoRoom)?);
        Ok(())
    }
}

impl<P: Plan> Dht<P> {
    /// Whether this node keeps copies, and leaves some with others.
    pub(super) const CACHES: bool = P::Cached::CAPACITY > 0 && !P::Overlay::RING;

    /// Somebody asks for values at a key. Whether it is to be told that many do.
    pub(super) fn is_popular(&mut self, key: &Key) -> bool {
        let values = Kinds::of(&[Kind::Value]);
        let has = |dht: &Self| {
            let mut held = dht.records.read(dht.now, key, values, 0);
            held.next().is_some() || dht.caching.read(dht.now, key).is_some()
        };
        Self::CACHES && has(self) && self.caching.count(self.now, key)
    }

    /// Somebody would like this node to keep a copy for a while. A node that is one of the nearest itself holds it like
    /// any other record.
    ///
    /// # Errors
    /// As a store's; and [`Rule::Key`] for anything but an immutable value. Each is counted.
    pub(super) fn take_copy(
        &mut self,
        from: &Contact,
        bytes: &[u8],
        told_ms: u64,
    ) -> Result<(), PutError> {
        let decoded = Record::decode(bytes);
        let record = match &decoded {
            Ok(record) if is_immutable::<P>(record) => record,
            wrong => {
                let rule = wrong.as_ref().err().copied().unwrap_or(Rule::Key);
                self.dropped.count(rule);
                return Err(PutError::Refused(rule));
            }
        };
        let key = record.key;
        let source = from
            .addr
            .to_socket_addr()
            .map(source_of)
            .unwrap_or_default();
        let (k, replication) = (P::Overlay::k(), P::Overlay::replication());
        let nearer = self
            .overlay
            .nearer_than_own(&key, replication + HALVINGS_MAX * k);
        let Some(between) = nearer.checked_sub(replication) else {
            return self.offer(&Offer {
                record,
                depth: 0,
                spilled: false,
                age_ms: 0,
                remaining_ms: told_ms,
                source: Some(source),
            });
        };
        if self.caching.read(self.now, &key).is_some() {
            // One copy of an immutable value is as good as another, and none is to live longer for a second one.
            return Ok(());
        }
        let told_ms = told_ms.min(COPY_MAX_MS >> (between / k));
        let kept = self.keep_copy(record, source, told_ms);
        if let Err(error) = kept {
            self.dropped.count(error.rule());
        }
        kept
    }

    fn keep_copy(
        &mut self,
        record: &Record<'_>,
        source: Source,
        told_ms: u64,
    ) -> Result<(), PutError> {
        let remaining_ms = remaining_ms(self.now, &self.clock, record, told_ms)?;
        record.check::<P::Crypto>()?;
        record.verify::<P::Crypto>(self.network)?;
        self.caching.copies.retain(|copy| copy.key != record.key);
        let expires = self.now.after_ms(remaining_ms);
        self.caching.make_room(source, expires)?;
        let mut copy = Cached {
            key: record.key,
            source,
            expires,
            len: u16::try_from(record.bytes.len()).unwrap_or(0),
            record: [0; RECORD_LEN_MAX],
        };
        let place = copy.record.get_mut(..record.bytes.len());
        place.ok_or(Rule::Overlong)?.copy_from_slice(record.bytes);
        let kept = self.caching.copies.push(copy);
        kept.map_err(|_| PutError::NoRoom)
    }

    /// A holder says that many ask for what it sent: if that is what an own get looks for, a copy goes to the nearest
    /// node that had none.
    pub(super) fn leave_copy(
        &mut self,
        handle: Handle,
        from: &Contact,
        sent: Instant,
        records: &[u8],
    ) {
        let visit = self.visits.get(handle);
        let Some((visit, op)) = visit.and_then(|v| Some((v, self.ops.get(v.op)?))) else {
            return;
        };
        let is_for_value = matches!(&op.job, Job::Get(get) if get.hashed);
        let mut answered = visit.lookup.answered_ones();
        let taker = answered.find(|c| c.after == 0 && c.contact.addr != from.addr);
        let (Some(peer), key) = (taker.map(crate::lookup::Candidate::peer), op.target) else {
            return;
        };
        drop(answered);
        let (requests, requests_max) = self.rpc.usage();
        if !is_for_value || visit.depth > 0 || requests * 2 >= requests_max {
            return;
        }
        let decoded = RecordCopy::iter(records).filter_map(|copy| {
            let record = Record::decode(copy.record).ok()?;
            let is_it = record.key == key && is_immutable::<P>(&record);
            is_it.then_some((copy.remaining_ms, record))
        });
        let Some((told_ms, record)) = { decoded }.next() else {
            return;
        };
        let told_ms = told_ms.saturating_sub(self.now.since_ms(sent));
        let remaining = remaining_ms(self.now, &self.clock, &record, told_ms);
        let Ok(remaining_ms) = remaining else { return };
        if self.verify(handle, &record).is_err() {
            return;
        }
        let until = self.now.after_ms(remaining_ms).as_us().to_be_bytes();
        let Some(blob) = self.park(&[&until, record.bytes]) else {
            return;
        };
        let tag = Tag::Cache { copy: blob };
        let queued = self
            .rpc
            .request(self.now, &mut self.rng, peer, tag, Repeat::Never);
        if queued.is_err() {
            self.parked.remove(blob);
        }
    }

    /// The request that leaves a copy.
    pub(super) fn copy_to_leave(&self, copy: BlobId) -> Option<Body<'_>> {
        let (until, record) = self.parked.get(copy)?.split_first_chunk()?;
        let until = Instant::from_us(u64::from_be_bytes(*until));
        let remaining_ms = until.since_ms(self.now);
        Some(Body::Put {
            depth: COPY_DEPTH,
            spilled: false,
            age_ms: 0,
            remaining_ms,
            record,
        })
    }
}

/// Whether a record is a value that lies at its hash.
fn is_immutable<P: Plan>(record: &Record<'_>) -> bool {
    record.kind == Kind::Value && Key::of_value::<P::Crypto>(record.payload) == record.key
}
