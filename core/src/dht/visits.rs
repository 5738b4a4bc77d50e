//! Visits: looking up one location, then doing there what the operation is about.
//!
//! Owns what happens between a lookup's steps and an operation's result: reading all pages of the nearest
//! holders, going on to the shards of a full location, storing at the nearest, sending to the nearest. Invariant:
//! a visit goes on only in [`Dht::run`], so that nothing here calls itself through an operation.

use core::marker::PhantomData;

use crate::addr::is_local;
use crate::bounded::{BlobId, Blobs, Handle, List};
use crate::id::{ID_BYTES, NodeId, UserId, extend_prefix};
use crate::lookup::{Candidate, Lookup, Patience, Said, State, Step};
use crate::overlay::{K, Overlay, REPLICATION};
use crate::plan::Plan;
use crate::records::{Offer, PutError};
use crate::rpc::{Peer, Repeat, Tag};
use crate::rules::Rule;
use crate::wire::RECORD_LEN_MAX;
use crate::wire::datagram::Contact;
use crate::wire::record::{Kind, Record};

use super::messages::Letter;
use super::ops::{Get, Job, OpResult, Owner, Put, Tally};
use super::values::is_asked_for;
use super::{Dht, QUORUM};

/// How deep a full key is followed into its shards, for reading and writing.
pub const DEPTH_MAX: u8 = 8;
/// How many locations one get reads at a time.
pub const VISITS_AT_ONCE: u16 = 8;
/// Most locations that one get reads: three whole levels of shards.
pub const LOCATIONS_MAX: u16 = 1 + 16 + 256 + 4_096;
/// How many nodes a message's lookup has to hear of before the nearest is believed to be that.
const SEND_WANT: usize = 3;

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

    fn is_empty(&self) -> bool {
        self.started > 0 && self.shards.is_empty()
    }

    /// Takes the next location: depth and prefix.
    fn pop(&mut self) -> Option<(u8, u32)> {
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
    page: u16,
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

/// One location of an operation; opaque, named by memory plans alone.
pub struct Visit<P: Plan> {
    pub(super) op: Handle,
    pub(super) lookup: Lookup<P>,
    /// The shard level.
    pub(super) depth: u8,
    prefix: u32,
    /// The lookup is over.
    pub(super) working: bool,
    /// It was over once before; now more are looked for.
    widened: bool,
    /// It waits in the queue of those to go on with.
    queued: bool,
    /// The location is or was full in the own store.
    pub(super) spilled: bool,
    /// Somebody sent a record, or this node holds one.
    pub(super) found: bool,
    /// This node holds the location too.
    pub(super) own: bool,
    /// How many of the own records here were taken; `None`: all.
    pub(super) own_after: Option<u16>,
    /// How many of the contacts found were told.
    pub(super) told: u8,
    /// Records that were verified here.
    pub(super) digests: P::Digests,
}

impl<P: Plan> Dht<P> {
    /// Puts a visit in the queue of those to go on with.
    pub(super) fn touch(&mut self, handle: Handle) {
        if let Some(visit) = self.visits.get_mut(handle)
            && !visit.queued
        {
            // The queue is as long as the table; stale entries in it are few, and if memory lacks, the
            // operation's deadline ends it.
            visit.queued = self.ready.push_back(handle).is_ok();
        }
    }

    /// Lets all visits go on: there is room for requests again.
    pub(super) fn touch_all(&mut self) {
        for at in 0..self.visits.slots() {
            if let Some(handle) = self.visits.handle_at(at) {
                self.touch(handle);
            }
        }
    }

    /// Starts the next visit of an operation that waits for one; false when it does not wait any more.
    #[inline(never)] // A visit is built in its frame, which is not to last while visits go on.
    pub(super) fn start_visit(&mut self, handle: Handle) -> bool {
        let small = self.overlay.entries().len() <= K;
        let Some(op) = self.ops.get_mut(handle) else {
            return false;
        };
        let near = if small { K } else { REPLICATION };
        let mut place = (0, 0);
        let want = match &mut op.job {
            // The owner alone: it is the finger.
            Job::Refresh if P::Overlay::RING => 1,
            Job::Join(_) | Job::Refresh | Job::Find => K,
            Job::Get(get) => {
                match get.frontier.pop() {
                    Some(next) => place = next,
                    None => {
                        op.waits = false;
                        return true;
                    }
                }
                near
            }
            Job::Put(put) => {
                place.0 = put.depth;
                near
            }
            // The owner alone: its word counts.
            Job::Send(_) if P::Overlay::RING => 1,
            Job::Send(_) => SEND_WANT,
            Job::Leave(_) | Job::Done(_) => {
                op.waits = false;
                return true;
            }
        };
        op.waits = match &op.job {
            Job::Get(get) => !get.frontier.is_empty() && op.visits + 1 < VISITS_AT_ONCE,
            Job::Join(_)
            | Job::Refresh
            | Job::Find
            | Job::Put(_)
            | Job::Send(_)
            | Job::Leave(_)
            | Job::Done(_) => false,
        };
        let (root, is_get) = (op.target, matches!(op.job, Job::Get(_)));
        let (depth, prefix) = place;
        let location = if let Job::Put(put) = &op.job {
            let author = self
                .parked
                .get(put.record)
                .and_then(|r| Record::decode(r).ok());
            let author = author.map_or(UserId::ZERO, |record| record.author);
            root.shard::<P::Crypto>(&author, depth)
        } else {
            root.child::<P::Crypto>(depth, &prefix_bytes(prefix))
        };
        let patience = if is_get {
            Patience::GoOn
        } else {
            Patience::Wait
        };
        let lookup = self.begin_lookup(location, want, patience);
        let visit = Visit {
            op: handle,
            lookup,
            depth,
            prefix,
            working: false,
            widened: false,
            queued: false,
            spilled: is_get && self.records.is_spilled(&location),
            found: false,
            own: false,
            own_after: is_get.then_some(0),
            told: 0,
            digests: P::Digests::EMPTY,
        };
        let Ok(visit) = self.visits.insert(visit) else {
            return false;
        };
        self.serial = self.serial.wrapping_add(1);
        if let Some(op) = self.ops.get_mut(handle) {
            op.visits += 1;
            op.visit = visit;
            // Served: behind all others that wait.
            op.serial = self.serial;
        }
        if is_get {
            self.take_own_values(visit);
        }
        self.touch(visit);
        true
    }

    /// Takes a visit as far as it can go without an answer.
    pub(super) fn advance_visit(&mut self, handle: Handle) {
        let Some(visit) = self.visits.get_mut(handle) else {
            return;
        };
        visit.queued = false;
        let op = self.ops.get(visit.op);
        if op.is_none_or(|op| matches!(op.job, Job::Done(_))) {
            // Kept for its result.
            return;
        }
        if !visit.working {
            let all_local = self.local;
            let counts = |contact: &Contact| {
                !(all_local && contact.addr.to_socket_addr().is_some_and(is_local))
            };
            loop {
                if !self.rpc.has_room() {
                    self.starved = true;
                    return;
                }
                let (peer, tag, repeat) = match visit.lookup.next(&self.id, counts) {
                    Some(Step::Ping(contact)) => {
                        let known = self.overlay.find(&contact.id);
                        if let Some(entry) = known.filter(|entry| entry.contact == contact) {
                            visit.lookup.pinged(&contact, entry.token, entry.rtt);
                            continue;
                        }
                        if self.rpc.is_unreached(self.now, &contact.addr) {
                            visit.lookup.ping_failed(&contact.addr);
                            continue;
                        }
                        if self.rpc.share_ping(&contact.addr) {
                            continue;
                        }
                        let stranger = Peer::stranger(contact.addr);
                        (stranger, Tag::Validate { visit: handle }, Repeat::Never)
                    }
                    Some(Step::Ask(peer)) => (peer, Tag::Ask { visit: handle }, Repeat::Once),
                    None => break,
                };
                if self
                    .rpc
                    .request(self.now, &mut self.rng, peer, tag, repeat)
                    .is_err()
                {
                    // Room was checked: only memory may lack.
                    visit.lookup.failed(&peer.addr);
                }
            }
            if !visit.lookup.is_finished(&self.id) {
                return;
            }
            if self.lacks_owner(handle) {
                self.look_again_soon(handle);
                return;
            }
            let Some(visit) = self.visits.get_mut(handle) else {
                return;
            };
            visit.working = true;
            if !visit.widened {
                self.begin_work(handle);
            }
        }
        self.work(handle);
    }

    /// The lookup is over: whether this node is one of those found.
    #[inline(never)]
    fn begin_work(&mut self, handle: Handle) {
        let Some(visit) = self.visits.get(handle) else {
            return;
        };
        let others = visit
            .lookup
            .answered_ones()
            .map(|candidate| candidate.contact.id);
        let own = self.is_holder(visit.lookup.target(), others);
        if let Some(visit) = self.visits.get_mut(handle) {
            visit.own = own;
        }
        if own {
            self.put_own(handle);
        }
    }

    fn work(&mut self, handle: Handle) {
        let Some(visit) = self.visits.get(handle) else {
            return;
        };
        let op = visit.op;
        let Some(job) = self.ops.get(op).map(|op| &op.job) else {
            return;
        };
        match job {
            Job::Join(join) => {
                let addr = join.addr;
                let contacts = self.contact_count();
                if contacts == 0 && !addr.is_none() {
                    self.visits.remove(handle);
                    self.join_again(op, addr);
                } else {
                    self.overlay.joined(self.now);
                    self.finish(op, OpResult::Joined { contacts });
                }
            }
            Job::Refresh => self.close(op),
            Job::Find => {
                let count = self.found_count(op);
                self.finish(
                    op,
                    OpResult::Found {
                        count,
                        complete: true,
                    },
                );
            }
            Job::Get(_) => self.work_get(handle),
            Job::Put(_) => self.work_put(handle),
            Job::Send(letter) => {
                let letter = *letter;
                self.work_send(handle, letter);
            }
            Job::Leave(_) | Job::Done(_) => {}
        }
    }

    /// Looks for as many as a reply names, once: the nearest were not enough. False when that was done before.
    fn widen(&mut self, handle: Handle) -> bool {
        let Some(visit) = self.visits.get(handle) else {
            return false;
        };
        let all_were_seen = visit.lookup.want() >= K && !visit.lookup.is_full();
        if visit.widened || all_were_seen {
            return false;
        }
        let towards = self.overlay.towards(visit.lookup.target());
        if let Some(visit) = self.visits.get_mut(handle) {
            visit.lookup.widen(K);
            for entry in towards.iter().filter_map(|&at| self.overlay.at(at)) {
                visit.lookup.add_known(entry, 0);
            }
            (visit.working, visit.widened) = (false, true);
        }
        self.touch(handle);
        true
    }

    /// Queues one request of the second phase. False: wait.
    fn request_work(&mut self, handle: Handle, contact: &Contact, tag: Tag) -> bool {
        let Some(visit) = self.visits.get_mut(handle) else {
            return false;
        };
        let Some(candidate) = visit.lookup.candidate_mut(&contact.addr) else {
            return false;
        };
        let peer = candidate.peer();
        if self
            .rpc
            .request(self.now, &mut self.rng, peer, tag, Repeat::Once)
            .is_err()
        {
            self.starved = true;
            return false;
        }
        candidate.state = State::Working;
        true
    }

    // --- get ---

    /// Reads the further pages of the nearest holders, and ends the visit when there are none.
    fn work_get(&mut self, handle: Handle) {
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
        let Some(visit) = self.visits.remove(handle) else {
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
        let deeper =
            full > 0 && answered.min(REPLICATION).saturating_sub(full) <= usize::from(QUORUM);
        let Some(op) = self.ops.get_mut(visit.op) else {
            return;
        };
        op.visits = op.visits.saturating_sub(1);
        let Job::Get(get) = &mut op.job else { return };
        if visit.depth == 0 {
            get.answered = u16::try_from(answered).unwrap_or(u16::MAX);
        }
        // Fewer than a quorum are enough only where there are no more.
        get.complete &= answered >= usize::from(QUORUM) || !silent;
        if deeper && !get.frontier.push(visit.depth, visit.prefix) {
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
                visit.op,
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
    fn take_own_values(&mut self, handle: Handle) {
        let Some(visit) = self.visits.get_mut(handle) else {
            return;
        };
        let Some(op) = self.ops.get_mut(visit.op) else {
            return;
        };
        let (op_handle, location, root) = (visit.op, *visit.lookup.target(), op.target);
        let Job::Get(get) = &mut op.job else { return };
        let held = self.records.read(self.now, &location, get.kinds, 0);
        if op.owner != Some(Owner::Application) {
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
        self.end_if_found(op_handle);
    }

    /// Keeps a verified record for a get of the application.
    pub(super) fn take_value(&mut self, op_handle: Handle, record: &Record<'_>) {
        let Some(op) = self.ops.get_mut(op_handle) else {
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

    // --- put ---

    /// Holds the record of a put here.
    #[inline(never)] // As above: a record is in its frame.
    fn put_own(&mut self, handle: Handle) {
        let Some(op) = self.visits.get(handle).map(|visit| visit.op) else {
            return;
        };
        let Some(Job::Put(put)) = self.ops.get(op).map(|op| &op.job) else {
            return;
        };
        let put = *put;
        let mut bytes = [0; RECORD_LEN_MAX];
        let record = self.parked.get(put.record).and_then(|record| {
            let copy = bytes.get_mut(..record.len())?;
            copy.copy_from_slice(record);
            Record::decode(copy).ok()
        });
        let Some(record) = record else { return };
        let passed_ms = self.now.since_ms(put.begun);
        let outcome = self.offer(&Offer {
            record,
            depth: put.depth,
            spilled: false,
            age_ms: 0,
            remaining_ms: put.remaining_ms.saturating_sub(passed_ms),
            source: None,
        });
        let held = match outcome {
            Err(PutError::Older(id)) => self.records.get(self.now, id),
            Ok(()) | Err(PutError::Full | PutError::NoRoom | PutError::Refused(_)) => None,
        };
        let held = held.and_then(|held| Record::decode(held.bytes).ok());
        let older = held.map(|held| held.sequence);
        let Some(Job::Put(put)) = self.ops.get_mut(op).map(|op| &mut op.job) else {
            return;
        };
        put.older = put.older.max(older);
        match outcome {
            Ok(()) => put.tally.accepted += 1,
            Err(PutError::Full) => put.tally.full += 1,
            Err(PutError::Older(_) | PutError::Refused(_)) => put.tally.refused += 1,
            Err(PutError::NoRoom) => put.tally.busy += 1,
        }
    }

    /// Stores at the nearest that answered; one that does not take it is replaced by the next.
    #[inline(never)]
    fn work_put(&mut self, handle: Handle) {
        loop {
            let Some(visit) = self.visits.get(handle) else {
                return;
            };
            let Some(Job::Put(put)) = self.ops.get(visit.op).map(|op| &op.job) else {
                return;
            };
            let working = |c: &&Candidate| c.state == State::Working;
            let under_way = visit.lookup.candidates().iter().filter(working).count();
            let enough = usize::from(put.tally.settled()) + under_way >= REPLICATION;
            let next = visit
                .lookup
                .takers()
                .find(|c| c.state == State::Answered && !enough);
            match next.map(|candidate| candidate.contact) {
                Some(contact) => {
                    if !self.request_work(handle, &contact, Tag::Put { visit: handle }) {
                        return;
                    }
                }
                None if under_way > 0 => return,
                None if !enough && self.widen(handle) => return,
                None => break,
            }
        }
        self.end_put_visit(handle);
    }

    /// All have answered: it is stored, or goes one level deeper, or failed.
    fn end_put_visit(&mut self, handle: Handle) {
        let Some(visit) = self.visits.remove(handle) else {
            return;
        };
        let Some(op) = self.ops.get_mut(visit.op) else {
            return;
        };
        op.visits = op.visits.saturating_sub(1);
        let Job::Put(put) = &mut op.job else { return };
        let result = put.result();
        match result {
            OpResult::Put {
                full: true,
                older: None,
                ..
            } if put.depth < DEPTH_MAX => {
                *put = Put {
                    depth: put.depth + 1,
                    tally: Tally::default(),
                    ..*put
                };
                op.waits = true;
                self.waiting = true;
            }
            OpResult::Joined { .. }
            | OpResult::Left
            | OpResult::Found { .. }
            | OpResult::Got { .. }
            | OpResult::Put { .. }
            | OpResult::Sent { .. }
            | OpResult::NotFound
            | OpResult::TimedOut => self.finish(visit.op, result),
        }
    }

    // --- send ---

    /// Sends to the nearest that answered, which may be this node; or to the one node that it is for.
    fn work_send(&mut self, handle: Handle, letter: Letter) {
        let Some(visit) = self.visits.get(handle) else {
            return;
        };
        let mut candidates = visit.lookup.candidates().iter();
        if candidates.clone().any(|c| c.state == State::Working) {
            return;
        }
        let (op, key) = (visit.op, *visit.lookup.target());
        let is_it = |id: &NodeId| id.as_bytes() == key.as_bytes();
        let nearest = candidates
            .find(|c| c.state == State::Answered && (!letter.to_node || is_it(&c.contact.id)))
            .map(|c| c.contact);
        match nearest.filter(|c| self.overlay.is_nearer(&key, &c.id, &self.id)) {
            Some(contact) => {
                self.request_work(handle, &contact, Tag::Send { visit: handle });
            }
            None if letter.to_node && !is_it(&self.id) => self.finish(op, OpResult::NotFound),
            None => {
                // It ends when the message was polled, and needs no visit until then.
                self.drop_visits(op);
                if !self.deliver_own(op, key, letter) {
                    self.finish(op, OpResult::Sent { accepted: false });
                }
            }
        }
    }
}

impl<P: Plan> Lookup<P> {
    /// Whether a request of the second phase is under way.
    fn is_waiting_for_work(&self) -> bool {
        self.candidates().iter().any(|c| c.state == State::Working)
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
fn prefix_bytes(prefix: u32) -> [u8; ID_BYTES] {
    let mut bytes = [0; ID_BYTES];
    for (byte, from) in bytes.iter_mut().zip(prefix.to_be_bytes()) {
        *byte = from;
    }
    bytes
}
