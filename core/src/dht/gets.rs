//! Gets: what a visit does with the holders that its lookup found, to read all that lies at a location.
//!
//! Owns the locations of a get that are still to be visited, the further pages of the nearest holders, and the values
//! that wait to be polled. Invariant: a get ends with a result once its last visit does, and not before, but for an
//! immutable value, of which the first is enough.

use core::marker::PhantomData;

use crate::bounded::{BlobId, Blobs, Handle, List};
use crate::id::{ID_BYTES, UserId, extend_prefix};
use crate::lookup::{Said, State};
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::rpc::Tag;
use crate::rules::Rule;
use crate::wire::record::{Kind, Record};

use super::ops::{Get, Job, OpResult, Owner};
use super::values::is_asked_for;
use super::visits::DEPTH_MAX;
use super::{Dht, quorum};

/// How many locations one get reads at a time.
pub const VISITS_AT_ONCE: u16 = 8;
/// Most locations that one get reads: three whole levels of shards.
pub const LOCATIONS_MAX: u16 = 1 + 16 + 256 + 4_096;

/// A location that was full: its shards one level deeper are to be visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// The first digits of the authors' ids, 4 bits each, from the highest bits on.
    prefix: u32,
    /// How many digits the location has.
    depth: u8,
    /// The next digit to visit, below 16.
    digit: u8,
}

const _: () = assert!(DEPTH_MAX as u32 * 4 <= u32::BITS);

/// The locations of a get that are still to be visited.
pub struct Frontier<P: Plan> {
    started: u16,
    /// The first bits of the only author whose shards are visited; `None`: everybody's.
    only: Option<u32>,
    /// The deepest last: it goes first, so that the list stays short.
    shards: P::Frontier,
    plan: PhantomData<fn() -> P>,
}

impl<P: Plan> Frontier<P> {
    /// Only the key itself, so far.
    pub(super) fn root(author: Option<&UserId>) -> Self {
        Self {
            started: 0,
            only: author.map(|author| {
                let [a, b, c, d, ..] = *author.as_bytes();
                u32::from_be_bytes([a, b, c, d])
            }),
            shards: P::Frontier::EMPTY,
            plan: PhantomData,
        }
    }

    /// Whether the same locations are visited.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.only == other.only
    }

    pub(super) fn is_empty(&self) -> bool {
        self.started > 0 && self.shards.is_empty()
    }

    /// Takes the next location: depth and prefix.
    pub(super) fn pop(&mut self) -> Option<(u8, u32)> {
        self.started = self.started.saturating_add(1);
        if self.started == 1 {
            return Some((0, 0));
        }
        let last = self.shards.len().checked_sub(1)?;
        let shard = self.shards.get_mut(last)?;
        let mut bytes = [0; ID_BYTES];
        for (byte, from) in bytes.iter_mut().zip(shard.prefix.to_be_bytes()) {
            *byte = from;
        }
        let [a, b, c, d, ..] = extend_prefix(&bytes, shard.depth, shard.digit);
        let place = (shard.depth + 1, u32::from_be_bytes([a, b, c, d]));
        shard.digit += 1;
        if shard.digit == 16 || self.only.is_some() {
            self.shards.pop();
        }
        Some(place)
    }

    /// Adds the shards of a full location; false when there is no room, or they are too deep or too many.
    fn push(&mut self, depth: u8, prefix: u32) -> bool {
        let first = self.only.map_or(0, |author| digit_at(author, depth));
        depth < DEPTH_MAX
            && self.started < LOCATIONS_MAX
            && self
                .shards
                .push(Shard {
                    prefix,
                    depth,
                    digit: first,
                })
                .is_ok()
    }
}

/// A value that a get of the application found; its blob is the author and the value.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    pub(super) op: Handle,
    pub(super) blob: BlobId,
    pub(super) sequence: u64,
    pub(super) page: u16,
}

impl Value {
    /// The answer to a message, in the place of a value: its blob is the node that answered and the answer.
    pub(super) const fn answer(op: Handle, blob: BlobId) -> Self {
        Self {
            op,
            blob,
            sequence: 0,
            page: 0,
        }
    }
}

impl<P: Plan> Dht<P> {
    /// Reads the further pages of the nearest holders, and ends the visit when there are none.
    pub(super) fn work_get(&mut self, handle: Handle) {
        loop {
            let Some(visit) = self.visits.get(handle) else {
                return;
            };
            let mut nearest = visit.lookup.answered_ones().take(visit.lookup.want());
            let next = nearest.find(|c| c.state == State::Answered && c.more);
            let next = next.map(|c| (c.contact, c.after));
            drop(nearest);
            let Some((contact, after)) = next else { break };
            if !self.request_work(
                handle,
                &contact,
                Tag::Page {
                    visit: handle,
                    after,
                },
            ) {
                return;
            }
        }
        let Some(visit) = self.visits.get(handle) else {
            return;
        };
        if visit.lookup.is_waiting_for_work() || visit.own_after.is_some() {
            return;
        }
        // That there is nothing is only believed when enough nodes say so: the nearest may be new, or full.
        if visit.found || visit.depth > 0 || !self.widen(handle) {
            self.end_get_visit(handle);
        }
    }

    #[inline(never)]
    fn end_get_visit(&mut self, handle: Handle) {
        let Some(visit) = self.visits.get(handle) else {
            return;
        };
        let answered = visit
            .lookup
            .answered_ones()
            .take(visit.lookup.want())
            .count();
        let silent = visit
            .lookup
            .candidates()
            .iter()
            .any(|c| !c.state.is_answered());
        let answered = answered + usize::from(visit.own);
        let full = visit
            .lookup
            .answered_ones()
            .filter(|c| c.said.has(Said::SPILLED))
            .count();
        let full = full + usize::from(visit.spilled);
        // A writer goes to the shards only where fewer than a quorum of the nearest took its record. One holder with
        // little room, or one that lies, does not make every reader visit sixteen places more.
        let deeper = full > 0
            && answered.min(P::Overlay::replication()).saturating_sub(full)
                <= usize::from(quorum::<P>());
        let (op_handle, depth, prefix) = (visit.op, visit.depth, visit.prefix);
        self.visits.discard(handle);
        let Some(op) = self.ops.get_mut(op_handle) else {
            return;
        };
        op.visits = op.visits.saturating_sub(1);
        let Job::Get(get) = &mut op.job else { return };
        if depth == 0 {
            get.answered = u16::try_from(answered).unwrap_or(u16::MAX);
        }
        // Fewer than a quorum are enough only where there are no more.
        get.complete &= answered >= usize::from(quorum::<P>()) || !silent;
        if deeper && !get.frontier.push(depth, prefix) {
            get.complete = false;
        }
        if !get.frontier.is_empty() {
            op.waits = true;
            self.waiting = true;
        } else if op.visits == 0 {
            let Get {
                count,
                answered,
                complete,
                ..
            } = *get;
            self.finish(
                op_handle,
                OpResult::Got {
                    count,
                    answered,
                    complete,
                },
            );
        }
    }

    /// Takes what this node holds itself, for a get of the application. The timeline's polls it.
    #[inline(never)]
    pub(super) fn take_own_values(&mut self, handle: Handle) {
        let Some(visit) = self.visits.get_mut(handle) else {
            return;
        };
        let Some(op) = self.ops.get_mut(visit.op) else {
            return;
        };
        let (op_handle, location, root) = (visit.op, *visit.lookup.target(), op.target);
        let Job::Get(get) = &mut op.job else { return };
        let held = self.records.read(self.now, &location, get.kinds, 0);
        if !P::EVERY_COMMAND || op.owner != Some(Owner::Application) {
            visit.own_after = { held }.next().map(|_| 0);
            visit.found |= visit.own_after.is_some();
            self.own_reads |= visit.own_after.is_some();
            return;
        }
        visit.own_after = None;
        for held in held {
            visit.found = true;
            if let Ok(record) = Record::decode(held.bytes)
                && is_asked_for::<P>(get, &root, &record)
            {
                let (values, parked) = (&mut self.values, &mut self.parked);
                get.complete &= keep_value::<P>(values, parked, op_handle, &record, &mut get.count);
            }
        }
        if Self::CACHES
            && get.hashed
            && let Some(copy) = self.caching.read(self.now, &location)
            && let Ok(record) = Record::decode(copy.record)
            && is_asked_for::<P>(get, &root, &record)
        {
            let (values, parked) = (&mut self.values, &mut self.parked);
            get.complete &= keep_value::<P>(values, parked, op_handle, &record, &mut get.count);
        }
        self.end_if_found(op_handle);
    }

    /// Keeps a verified record for a get of the application.
    pub(super) fn take_value(&mut self, op_handle: Handle, record: &Record<'_>) {
        let op = self.ops.get_mut(op_handle).filter(|_| P::EVERY_COMMAND);
        let Some(op) = op else {
            return;
        };
        let root = op.target;
        let Job::Get(get) = &mut op.job else { return };
        if !is_asked_for::<P>(get, &root, record) {
            self.dropped.count(Rule::Key);
            return;
        }
        let (values, parked) = (&mut self.values, &mut self.parked);
        if record.kind == Kind::Value
            && !keep_value::<P>(values, parked, op_handle, record, &mut get.count)
        {
            get.complete = false;
            self.dropped.count(Rule::Full);
        }
        self.end_if_found(op_handle);
    }
}

/// Keeps the newest value of each author and page; false when there is no room.
fn keep_value<P: Plan>(
    values: &mut P::Values,
    parked: &mut P::Parked,
    op: Handle,
    record: &Record<'_>,
    count: &mut u32,
) -> bool {
    let author = record.author.as_bytes();
    let same = values.iter_mut().find(|value| {
        value.op == op
            && value.page == record.page
            && parked
                .get(value.blob)
                .is_some_and(|blob| blob.starts_with(author))
    });
    if let Some(value) = same {
        if record.sequence <= value.sequence {
            return true;
        }
        let Some(blob) = parked.insert_parts(&[author, record.payload]) else {
            return false;
        };
        parked.remove(value.blob);
        (value.blob, value.sequence) = (blob, record.sequence);
        return true;
    }
    if values.is_full() {
        return false;
    }
    let Some(blob) = parked.insert_parts(&[author, record.payload]) else {
        return false;
    };
    let value = Value {
        op,
        blob,
        sequence: record.sequence,
        page: record.page,
    };
    if values.push(value).is_err() {
        parked.remove(blob);
        return false;
    }
    *count += 1;
    true
}

/// The digit of 4 bits at `depth`, from the highest bits on.
fn digit_at(prefix: u32, depth: u8) -> u8 {
    let digits = prefix.checked_shl(u32::from(depth) * 4).unwrap_or(0);
    let [highest, ..] = digits.to_be_bytes();
    highest >> 4
}

/// A prefix as the leading bytes of an id.
pub(super) fn prefix_bytes(prefix: u32) -> [u8; ID_BYTES] {
    let mut bytes = [0; ID_BYTES];
    for (byte, from) in bytes.iter_mut().zip(prefix.to_be_bytes()) {
        *byte = from;
    }
    bytes
}
