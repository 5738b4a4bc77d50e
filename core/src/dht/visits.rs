//! Visits: looking up one location, then doing there what the operation is about.
//!
//! Owns what happens between a lookup's steps and an operation's result: when a lookup goes on, when it is over, and
//! whose turn it is then (`gets`, `puts`, `messages`). Invariant: a visit goes on only in [`Dht::run`], so that
//! nothing here calls itself through an operation.

use crate::addr::is_local;
use crate::bounded::{Blobs, Handle, List};
use crate::id::{Key, UserId};
use crate::lookup::{Lookup, Patience, Said, State, Step};
use crate::overlay::{Overlay, REPLICATION_MIN};
use crate::plan::Plan;
use crate::rpc::{Peer, Repeat, Tag};
use crate::wire::datagram::Contact;
use crate::wire::record::Record;

use super::Dht;
use super::gets::{VISITS_AT_ONCE, prefix_bytes};
use super::ops::{Job, OpResult};

/// How deep a full key is followed into its shards, for reading and writing.
pub const DEPTH_MAX: u8 = 8;
/// How many nodes a message's lookup has to hear of before the nearest is believed to be that.
const SEND_WANT: usize = 3;

/// How many nodes a lookup that fills a bucket ends with. Each names k, most of which lie in the bucket. Where k are all
/// there are, they are all asked, so that no dead one stays.
const REFRESH_WANT: usize = 4;

// No lookup wants more than the least k.
const _: () = assert!(SEND_WANT <= REPLICATION_MIN && REFRESH_WANT <= REPLICATION_MIN);

/// One location of an operation; opaque, named by memory plans alone.
pub struct Visit<P: Plan> {
    pub(super) op: Handle,
    pub(super) lookup: Lookup<P>,
    /// The shard level.
    pub(super) depth: u8,
    pub(super) prefix: u32,
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

impl<P: Plan> Visit<P> {
    /// The same, of another operation, for the contacts that it found.
    pub(super) fn copy_for(&self, op: Handle) -> Self {
        Self {
            op,
            lookup: self.lookup.copy(),
            depth: self.depth,
            prefix: self.prefix,
            working: true,
            widened: true,
            queued: false,
            spilled: false,
            found: self.found,
            own: self.own,
            own_after: None,
            told: 0,
            digests: P::Digests::EMPTY,
        }
    }
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
    #[inline(never)]
    pub(super) fn start_visit(&mut self, handle: Handle) -> bool {
        let k = P::Overlay::k();
        let small = self.overlay.entries().len() <= k;
        let own = self.own_key();
        let Some(op) = self.ops.get_mut(handle) else {
            return false;
        };
        let near = if small { k } else { P::Overlay::replication() };
        let mut place = (0, 0);
        let want = match &mut op.job {
            // The owner alone: it is the finger.
            Job::Refresh if P::Overlay::RING => 1,
            Job::Refresh if op.target != own && !small => REFRESH_WANT,
            Job::Join(_) | Job::Refresh | Job::Find => k,
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
            let record = self.parked.get(put.record).unwrap_or_default();
            let author = Record::place(record).map_or(UserId::ZERO, |(_, author)| author);
            root.shard::<P::Crypto>(&author, depth)
        } else {
            root.child::<P::Crypto>(depth, &prefix_bytes(prefix))
        };
        let Some(visit) = self.open_visit(handle, place, location, want, is_get) else {
            return false;
        };
        self.add_own_contacts(visit);
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

    /// Adds a visit of a location, whose lookup knows nobody yet.
    #[inline(never)] // A visit is built in its frame, which is not to last while it goes on.
    fn open_visit(
        &mut self,
        op: Handle,
        (depth, prefix): (u8, u32),
        location: Key,
        want: usize,
        is_get: bool,
    ) -> Option<Handle> {
        let patience = if is_get {
            Patience::GoOn
        } else {
            Patience::Wait
        };
        let visit = Visit {
            op,
            lookup: Lookup::new(location, want, patience),
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
        self.visits.insert(visit).ok()
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
        let sends = op.is_some_and(|op| matches!(op.job, Job::Send(_)));
        let repeat_asking = if sends { Repeat::Twice } else { Repeat::Once };
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
                        let mut candidate = visit.lookup.candidate_mut(&contact.addr);
                        let again = P::REPEATS_MORE
                            && candidate
                                .take()
                                .is_some_and(|c| c.said.has(Said::NAMED_AGAIN));
                        let repeat = if again { Repeat::Once } else { Repeat::Never };
                        (stranger, Tag::Validate { visit: handle }, repeat)
                    }
                    Some(Step::Ask(peer)) => (peer, Tag::Ask { visit: handle }, repeat_asking),
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
                    self.visits.discard(handle);
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
            Job::Send(letter) if Self::TOOLKIT => {
                let letter = *letter;
                self.work_send(handle, letter);
            }
            Job::Leave(_) | Job::Done(_) | Job::Send(_) => {}
        }
    }

    /// Looks for as many as a reply names, once: the nearest were not enough. False when that was done before.
    pub(super) fn widen(&mut self, handle: Handle) -> bool {
        let Some(visit) = self.visits.get(handle) else {
            return false;
        };
        let all_were_seen = visit.lookup.want() >= P::Overlay::k() && !visit.lookup.is_full();
        if visit.widened || all_were_seen {
            return false;
        }
        if let Some(visit) = self.visits.get_mut(handle) {
            visit.lookup.widen(P::Overlay::k());
            (visit.working, visit.widened) = (false, true);
        }
        self.add_own_contacts(handle);
        self.touch(handle);
        true
    }

    /// Queues one request of the second phase. False: wait.
    pub(super) fn request_work(&mut self, handle: Handle, contact: &Contact, tag: Tag) -> bool {
        let Some(visit) = self.visits.get_mut(handle) else {
            return false;
        };
        let Some(candidate) = visit.lookup.candidate_mut(&contact.addr) else {
            return false;
        };
        let peer = candidate.peer();
        let repeat = if matches!(tag, Tag::Send { .. }) {
            Repeat::Twice
        } else {
            Repeat::Once
        };
        if self
            .rpc
            .request(self.now, &mut self.rng, peer, tag, repeat)
            .is_err()
        {
            self.starved = true;
            return false;
        }
        candidate.state = State::Working;
        true
    }
}

impl<P: Plan> Lookup<P> {
    /// Whether a request of the second phase is under way.
    pub(super) fn is_waiting_for_work(&self) -> bool {
        self.candidates().iter().any(|c| c.state == State::Working)
    }
}
