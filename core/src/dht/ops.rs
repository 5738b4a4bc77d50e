//! Operations: what the application or the timeline asked for, until its result was polled.
//!
//! Owns the life of an operation: a slot, a deadline, the visits that it consists of, its result. What a visit
//! does is in `visits`. Invariants: an operation has a result by its deadline at the latest; it holds its slot
//! until the result was polled or it was cancelled; with its slot go its visits, values and parked bytes.

use crate::bounded::{BlobId, Blobs, Handle, List};
use crate::id::{ID_BYTES, Key, NodeId, UserId};
use crate::output::{Busy, Recipient};
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::time::{Deadline, Instant};
use crate::wire::record::{Kind, Kinds, Signed};
use crate::wire::{MESSAGE_LEN_MAX, PAYLOAD_LEN_MAX};

use super::gets::Frontier;
use super::handover::HandOver;
use super::messages::Letter;
use super::{Dht, quorum};

/// Longest time that an operation may take, in ms; a longer wish counts as this.
pub const WITHIN_MAX_MS: u32 = 10 * 60 * 1_000;
/// How long a lookup for the table's upkeep may take, in ms.
pub(super) const REFRESH_WITHIN_MS: u32 = 30 * 1_000;

/// Names an operation for as long as it has a slot; index and generation in one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpId(u64);

impl OpId {
    pub(super) const fn of(handle: Handle) -> Self {
        Self(handle.to_bits())
    }

    pub(super) const fn handle(self) -> Handle {
        Handle::from_bits(self.0)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }
}

/// On whose behalf an operation runs, and so where its result goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The host's application: results are events.
    Application,
    /// The layer above, with a number that only it understands: results come from [`Dht::poll_done`].
    Timeline(u32),
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpResult {
    /// `join`: this many contacts are known; 0: nobody answered.
    Joined {
        /// Contacts in the routing table.
        contacts: u32,
    },
    /// `leave`: goodbyes were sent.
    Left,
    /// `find`: how many of the nearest answered.
    Found {
        /// At most k, see [`Overlay::k`].
        count: u32,
        /// The lookup ended by itself, not by its deadline.
        complete: bool,
    },
    /// `get`: the records were handed over as they came.
    Got {
        /// How many records (the timeline's: every copy; the application's: every value) there were.
        count: u32,
        /// How many holders answered about the key itself, this node included if it is one.
        answered: u16,
        /// Every location was read from enough holders, and nothing was cut off.
        complete: bool,
    },
    /// `put`: stored when `accepted >= wanted`.
    Put {
        /// Holders that took it, this node included; 0 of a [`replace`](Dht::replace) that met another writer's.
        accepted: u8,
        /// How many were needed: [`QUORUM`](super::QUORUM), or as many as hold a record or could be reached.
        wanted: u8,
        /// The highest sequence of a record in its place that is newer, or as new, and that somebody holds and proved.
        older: Option<u64>,
        /// It was refused because the key was full at every level tried.
        full: bool,
    },
    /// `send`: delivered, and taken or not by the application there.
    Sent {
        /// The application had room for it.
        accepted: bool,
    },
    /// `send` to a node: nobody of that id answered.
    NotFound,
    /// `send`: nobody took it in time.
    TimedOut,
}

/// The result of one of the timeline's operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// Which one; the name is stale from now on.
    pub op: OpId,
    /// The number given with it.
    pub owner: u32,
    /// How it ended.
    pub result: OpResult,
}

/// An operation; opaque, named by memory plans alone.
pub struct Op<P: Plan> {
    /// `None`: the table's own upkeep.
    pub(super) owner: Option<Owner>,
    pub(super) deadline: Instant,
    /// Lower ones have waited longer.
    pub(super) serial: u32,
    /// What it is about: the key looked up, or the root key of the records.
    pub(super) target: Key,
    /// Visits under way.
    pub(super) visits: u16,
    /// The latest visit.
    pub(super) visit: Handle,
    /// It waits for a visit to become free.
    pub(super) waits: bool,
    pub(super) job: Job<P>,
}

/// What an operation does; opaque.
pub enum Job<P: Plan> {
    /// Joins through this address; `seeking`: it answered, and the own id is looked up.
    Join(super::joining::Join),
    /// Looks a key up for the table's upkeep.
    Refresh,
    /// Looks a key up.
    Find,
    /// Reads records.
    Get(Get<P>),
    /// Stores a record.
    Put(Put),
    /// Sends a message.
    Send(Letter),
    /// Says goodbye.
    Leave(super::joining::Leave),
    /// It ended.
    Done(OpResult),
}

/// The state of a `get`.
pub struct Get<P: Plan> {
    pub(super) kinds: Kinds,
    /// Only a value whose hash is the key counts, and one is enough.
    pub(super) hashed: bool,
    /// Locations not yet visited.
    pub(super) frontier: Frontier<P>,
    pub(super) count: u32,
    /// Holders that answered about the root location.
    pub(super) answered: u16,
    pub(super) complete: bool,
    /// Nobody may wait for its result any more.
    pub(super) alone: bool,
}

impl<P: Plan> Get<P> {
    /// Whether another get, that begins now, may wait for the result of this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let same = self.kinds == other.kinds && self.hashed == other.hashed;
        same && self.frontier.is_like(&other.frontier) && !self.alone
    }
}

/// The state of a `put`.
#[derive(Clone, Copy)]
pub struct Put {
    pub(super) record: BlobId,
    pub(super) depth: u8,
    /// What was left of the lifetime at `begun`.
    pub(super) remaining_ms: u64,
    pub(super) begun: Instant,
    pub(super) tally: Tally,
    pub(super) older: Option<u64>,
    /// It replaces what the writer has seen, or nothing.
    pub(super) strict: bool,
}

/// What holders said about a record at one level.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub(super) accepted: u8,
    pub(super) full: u8,
    /// Refused, or held a newer one.
    pub(super) refused: u8,
    /// Had no room at all.
    pub(super) busy: u8,
}

impl Tally {
    /// How many have said the last word about the record.
    pub(super) const fn settled(self) -> u8 {
        self.accepted
            .saturating_add(self.full)
            .saturating_add(self.refused)
    }
}

impl Put {
    /// The result, as far as it is known.
    pub(super) fn result<P: Plan>(&self) -> OpResult {
        let Tally {
            mut accepted, full, ..
        } = self.tally;
        if self.strict && self.older.is_some() {
            // Another writer has it, wherever this one may lie.
            accepted = 0;
        }
        let reached = self.tally.settled().saturating_add(self.tally.busy);
        let wanted = quorum::<P>().min(reached.max(1));
        OpResult::Put {
            accepted,
            wanted,
            older: self.older,
            full: full > 0 && accepted < wanted,
        }
    }
}

/// Commands. Each answers [`Busy`] when no slot is free, and then changed nothing; those of the timeline leave a
/// quarter of the slots to the application. `within_ms` is at most [`WITHIN_MAX_MS`].
impl<P: Plan> Dht<P> {
    /// Looks up the nodes nearest to `key`, without this one. While one of the application's is under way for the key, and
    /// the plan has [room](Plan::Shares), others wait for its result; so it is with gets that ask the same. The application gets an
    /// [`Event::Contact`](crate::output::Event::Contact) for each, nearest first.
    ///
    /// # Errors
    /// [`Busy`], also for the application of a plan that is no [toolkit](crate::plan::Uses::TOOLKIT).
    pub fn find(
        &mut self,
        now: Instant,
        key: Key,
        owner: Owner,
        within_ms: u32,
    ) -> Result<OpId, Busy> {
        self.catch_up(now);
        if !Self::TOOLKIT && owner == Owner::Application {
            return Err(Busy);
        }
        self.begin(Some(owner), key, within_ms, Job::Find)
    }

    /// Reads the records of these kinds at `key` and, where it spilled over, at its shards, from the nearest
    /// holders. The timeline gets them as they come, from [`Dht::handle_datagram`] and [`Dht::poll_local`], each
    /// copy; the application gets the newest value of each author and page when the get ends, and no other kind.
    /// With an `author` only the shards where that author's records are get read: one a level instead of sixteen;
    /// of the records of others there are those that lie on the way. Values beyond the plan's room for them are left out, and the result is not complete.
    ///
    /// # Errors
    /// [`Busy`], as for [`find`](Self::find).
    pub fn get(
        &mut self,
        now: Instant,
        key: Key,
        kinds: Kinds,
        author: Option<&UserId>,
        owner: Owner,
        within_ms: u32,
    ) -> Result<OpId, Busy> {
        self.catch_up(now);
        let kinds = match owner {
            Owner::Application if !Self::TOOLKIT => return Err(Busy),
            Owner::Application => Kinds::of(&[Kind::Value]),
            Owner::Timeline(_) => kinds,
        };
        if owner == Owner::Application {
            self.make_room(ID_BYTES + PAYLOAD_LEN_MAX);
        }
        let get = Get {
            kinds,
            hashed: false,
            frontier: Frontier::root(author),
            count: 0,
            answered: 0,
            complete: true,
            alone: false,
        };
        self.begin(Some(owner), key, within_ms, Job::Get(get))
    }

    /// Stores a signed record at the nodes nearest to its key, this one included if it is one of them.
    ///
    /// # Errors
    /// [`Busy`], also when there is no room to keep the record meanwhile, or it does not decode, or was not signed for
    /// this network.
    pub fn put(
        &mut self,
        now: Instant,
        record: &[u8],
        owner: Owner,
        within_ms: u32,
    ) -> Result<OpId, Busy> {
        let record = Signed::check::<P::Crypto>(record, self.network).map_err(|_| Busy)?;
        self.begin_put(now, record, owner, within_ms, false)
    }

    /// Sends a message to the node nearest to a key, or to the node of that id and no other; it may be this one.
    /// [`Event::Answer`](crate::output::Event::Answer) tells the application what it answered, if it did and there is
    /// room for it. Ids are not proven: who answers under one at its address counts as that node.
    ///
    /// # Errors
    /// [`Busy`], also when the message is over [`MESSAGE_LEN_MAX`] bytes or there is no room to keep it, and with a plan that
    /// is no [toolkit](crate::plan::Uses::TOOLKIT).
    pub fn send(
        &mut self,
        now: Instant,
        to: Recipient,
        bytes: &[u8],
        owner: Owner,
        within_ms: u32,
    ) -> Result<OpId, Busy> {
        self.catch_up(now);
        self.room_for(Some(owner))?;
        if !Self::TOOLKIT || bytes.len() > MESSAGE_LEN_MAX {
            return Err(Busy);
        }
        let (key, to_node) = match to {
            Recipient::Key(key) => (key, false),
            Recipient::Node(id) => (Key::from_bytes(*id.as_bytes()), true),
        };
        let blob = self.park(&[bytes]).ok_or(Busy)?;
        let job = Job::Send(Letter { blob, to_node });
        let begun = self.begin(Some(owner), key, within_ms, job);
        if begun.is_err() {
            self.parked.remove(blob);
        }
        begun
    }

    /// Ends an operation without a result. One that is gone is left alone.
    pub fn cancel(&mut self, op: OpId) {
        self.close(op.handle());
        self.run();
    }

    /// Takes the result of one of the timeline's operations whose records were all taken.
    pub fn poll_done(&mut self) -> Option<Done> {
        let handle = self.done_op(|owner| matches!(owner, Some(Owner::Timeline(_))))?;
        let op = self.ops.get(handle)?;
        let (Some(Owner::Timeline(owner)), Job::Done(result)) = (op.owner, &op.job) else {
            return None;
        };
        let done = Done {
            op: OpId::of(handle),
            owner,
            result: *result,
        };
        self.close(handle);
        Some(done)
    }

    /// Looks a key up for the table's upkeep; left out when there is no room.
    pub(super) fn refresh(&mut self, target: Key) {
        let _ = self.begin(None, target, REFRESH_WITHIN_MS, Job::Refresh);
    }

    /// Whether an operation of this owner finds a slot.
    pub(super) fn room_for(&self, owner: Option<Owner>) -> Result<(), Busy> {
        let reserved = match owner {
            Some(Owner::Application) => 0,
            Some(Owner::Timeline(_)) | None => self.ops.capacity() / 4,
        };
        let free = self.ops.capacity().saturating_sub(self.ops.len());
        if self.started && free > reserved {
            Ok(())
        } else {
            Err(Busy)
        }
    }

    /// Gives an operation a slot and lets it go as far as it can right now.
    pub(super) fn begin(
        &mut self,
        owner: Option<Owner>,
        target: Key,
        within_ms: u32,
        job: Job<P>,
    ) -> Result<OpId, Busy> {
        self.room_for(owner)?;
        let deadline = self
            .now
            .after_ms(u64::from(within_ms.clamp(1, WITHIN_MAX_MS)));
        self.serial = self.serial.wrapping_add(1);
        let waits = match &job {
            Job::Join(join) => join.seeking,
            Job::Leave(_) | Job::Done(_) => false,
            Job::Refresh | Job::Find | Job::Get(_) | Job::Put(_) | Job::Send(_) => true,
        };
        let same = if Self::SHARES {
            self.same_under_way(owner, &target, &job)
        } else {
            None
        };
        let waits = waits && same.is_none();
        let op = Op {
            owner,
            deadline,
            serial: self.serial,
            target,
            visits: 0,
            visit: Handle::from_bits(0),
            waits,
            job,
        };
        let handle = self.ops.insert(op).map_err(|_| Busy)?;
        self.ops_wake.lower(deadline);
        self.waiting |= waits;
        if let Some(first) = same {
            self.share(first, handle);
        }
        self.run();
        Ok(OpId::of(handle))
    }

    /// Starts a visit for the operation that has waited longest; false when there is none, or no free visit.
    pub(super) fn start_waiting(&mut self) -> bool {
        if !self.waiting || self.visits.is_full() {
            return false;
        }
        let age = self.serial;
        let mut longest = None;
        let mut waited = 0;
        for (handle, op) in self.ops.iter() {
            // As long as another: the later one goes first.
            if op.waits && age.wrapping_sub(op.serial) >= waited {
                (longest, waited) = (Some(handle), age.wrapping_sub(op.serial));
            }
        }
        self.waiting = longest.is_some();
        longest.is_some_and(|op| self.start_visit(op))
    }

    /// Ends an operation: its result waits to be polled, what it held is given back.
    pub(super) fn finish(&mut self, handle: Handle, result: OpResult) {
        let Some(op) = self.ops.get_mut(handle) else {
            return;
        };
        if op.owner.is_none() {
            self.close(handle);
            return;
        }
        op.waits = false;
        let keeps_visit = matches!(op.job, Job::Find) && op.owner == Some(Owner::Application);
        let (target, was_put) = (op.target, matches!(op.job, Job::Put(_)));
        release::<P>(&op.job, &mut self.parked, &mut self.handover);
        op.job = Job::Done(result);
        if !keeps_visit {
            self.drop_visits(handle);
        }
        if Self::SHARES {
            if was_put {
                self.put_ended(&target);
            }
            self.share_result(handle, Some(&result));
        }
    }

    /// Gives the slot of an operation back, and all that it held.
    pub(super) fn close(&mut self, handle: Handle) {
        let Some(op) = self.ops.get(handle) else {
            return;
        };
        release::<P>(&op.job, &mut self.parked, &mut self.handover);
        self.ops.discard(handle);
        self.drop_visits(handle);
        self.drop_values(handle);
        if Self::SHARES {
            self.share_result(handle, None);
        }
    }

    /// Drops what was found for an operation and not polled.
    pub(super) fn drop_values(&mut self, op: Handle) {
        while Self::TOOLKIT
            && let Some(at) = self.values.iter().position(|value| value.op == op)
        {
            if let Some(value) = self.values.swap_remove(at) {
                self.parked.remove(value.blob);
            }
        }
    }

    pub(super) fn drop_visits(&mut self, op: Handle) {
        let mut at = 0;
        while at < self.visits.slots() {
            if let Some((handle, visit)) = self.visits.at(at)
                && visit.op == op
            {
                self.visits.discard(handle);
            }
            at += 1;
        }
    }

    /// The first operation with a result whose owner `is` the one meant.
    pub(super) fn done_op(&self, is: impl Fn(Option<Owner>) -> bool) -> Option<Handle> {
        let mut done = self
            .ops
            .iter()
            .filter(|(_, op)| matches!(op.job, Job::Done(_)));
        done.find(|(_, op)| is(op.owner)).map(|(handle, _)| handle)
    }

    /// The latest visit of an operation, if it is still there.
    pub(super) fn op_visit(&self, op: Handle) -> Option<Handle> {
        let visit = self.ops.get(op)?.visit;
        self.visits.get(visit).map(|_| visit)
    }

    /// Ends the operations whose time is over, with what they have.
    pub(super) fn expire_ops(&mut self) {
        if !self.ops_wake.is_due(self.now) {
            return;
        }
        for at in 0..self.ops.slots() {
            let Some((handle, op)) = self.ops.at(at) else {
                continue;
            };
            if op.deadline <= self.now && !matches!(op.job, Job::Done(_)) {
                let first = if Self::SHARES {
                    self.first_of(handle)
                } else {
                    None
                };
                let has = first.filter(|first| self.copy_found(*first, handle));
                let result = self.result_so_far(has.unwrap_or(handle));
                self.finish(handle, result);
            }
        }
        self.ops_wake = Deadline::NEVER;
        for (_, op) in self.ops.iter() {
            if !matches!(op.job, Job::Done(_)) {
                self.ops_wake.lower(op.deadline);
            }
        }
    }

    /// What an operation has when its time is over.
    fn result_so_far(&self, handle: Handle) -> OpResult {
        let Some(op) = self.ops.get(handle) else {
            return OpResult::TimedOut;
        };
        match &op.job {
            Job::Join(_) | Job::Refresh => OpResult::Joined {
                contacts: self.contact_count(),
            },
            Job::Find => OpResult::Found {
                count: self.found_count(handle),
                complete: false,
            },
            Job::Get(get) => {
                let (count, answered) = (get.count, get.answered);
                OpResult::Got {
                    count,
                    answered,
                    complete: false,
                }
            }
            Job::Put(put) => put.result::<P>(),
            Job::Send(_) => OpResult::TimedOut,
            Job::Leave(_) => OpResult::Left,
            Job::Done(result) => *result,
        }
    }

    pub(super) fn contact_count(&self) -> u32 {
        u32::try_from(self.overlay.entries().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn found_count(&self, op: Handle) -> u32 {
        let visit = self.op_visit(op).and_then(|visit| self.visits.get(visit));
        let count = visit.map_or(0, |visit| {
            visit.lookup.answered_ones().take(P::Overlay::k()).count()
        });
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether the own node is among the nodes nearest to `location`, given those that are nearer.
    pub(super) fn is_holder(&self, location: &Key, others: impl Iterator<Item = NodeId>) -> bool {
        let own = self.id;
        others
            .filter(|id| self.overlay.is_nearer(location, id, &own))
            .count()
            < P::Overlay::replication()
    }
}

/// Gives back what a job holds.
fn release<P: Plan>(job: &Job<P>, parked: &mut P::Parked, handover: &mut HandOver<P>) {
    match job {
        Job::Put(Put { record: blob, .. }) | Job::Send(Letter { blob, .. }) => {
            parked.remove(*blob);
        }
        Job::Leave(_) => handover.stop_leaving(),
        Job::Join(_) | Job::Refresh | Job::Find | Job::Get(_) | Job::Done(_) => {}
    }
}
