//! The course of a read: its phases, and what happens when their time is over.
//!
//! Owns when a read goes on. Invariant: in the phase `Looking` nobody was asked; from `Tree` on each person is a target
//! of the job, in the order in which they are asked.

use crate::addr::PackedAddr;
use crate::bounded::{Handle, List, sort_by};
use crate::id::UserId;
use crate::plan::Plan;
use crate::time::{Deadline, Instant};
use crate::wire::frame::Unreached;

use super::super::exchange::Exchange;
use super::super::log::LOG;
use super::super::posts::RecordId;
use super::super::state::State;
use super::super::tree::target::{Target, Up};
use super::{Read, Scope, Stage, Stranger};

/// The part of a read's time after which it asks whom it knows, in percent.
const LOOKING_PERCENT: u64 = 30;
/// The part of a read's time that the tree has, in percent.
const TREE_PERCENT: u64 = 60;
/// The part of a read's time after which only holders are asked, in percent.
const DIRECT_PERCENT: u64 = 80;
/// How much earlier or later a refresh may come, in percent.
const REFRESH_JITTER_PERCENT: u32 = 10;

/// How far a read has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Profiles are being looked up.
    Looking,
    /// The get tree is at work.
    Tree,
    /// Those whom the tree did not reach are asked directly.
    Direct,
    /// Only holders are asked.
    Holders,
}

impl<P: Plan> Read<P> {
    /// When this phase ends at the latest.
    pub(super) fn phase_ends(&self) -> Instant {
        let percent = match self.phase {
            Phase::Looking => LOOKING_PERCENT,
            Phase::Tree => TREE_PERCENT,
            Phase::Direct => DIRECT_PERCENT,
            Phase::Holders => return self.deadline,
        };
        // At most 2^32 ms, so that nothing is lost in dividing last.
        let whole_us = self.deadline.since_us(self.started);
        self.started
            .after_us(whole_us.saturating_mul(percent) / 100)
    }

    /// Whether nobody is being waited for.
    fn is_settled(&self) -> bool {
        self.readings.iter().all(|reading| {
            matches!(
                reading.stage,
                Stage::Showing { .. } | Stage::Missing(_) | Stage::Over
            )
        })
    }

    /// Nobody can be asked any more: shows the copy kept here, or names the person as missing.
    pub(super) fn settle_with_copy(
        &mut self,
        now: Instant,
        state: &State<P>,
        (at, user): (u16, &UserId),
        why: Unreached,
    ) {
        let Some(reading) = self.reading(at) else {
            return;
        };
        let view = state.copies.view(now, &state.posts, user);
        let kept = view.is_some_and(|view| !view.newest.is_none() || !view.older.is_none());
        if kept {
            reading.begin_showing(now, state, user, false);
        } else if reading.low > 0 {
            reading.stage = Stage::Over;
        } else {
            reading.stage = Stage::Missing(why);
        }
    }
}

impl<P: Plan> Exchange<P> {
    /// Plans the next refresh.
    pub(in super::super) fn plan_refresh(&mut self, now: Instant, state: &mut State<P>) {
        let every_ms = u64::from(state.me.refresh_ms());
        self.reads.refresh = Deadline::NEVER;
        if every_ms != 0 {
            let pause_ms = state.me.rng().jitter(every_ms, REFRESH_JITTER_PERCENT);
            self.reads.refresh = Deadline::at(now.after_ms(pause_ms.max(1)));
        }
    }

    /// Lets every read go on as far as it can.
    #[inline(never)] // Its frame is not to last while children are called.
    pub(in super::super) fn step_reads(&mut self, now: Instant, state: &mut State<P>) {
        if !core::mem::take(&mut self.reads.restless) {
            return;
        }
        self.reads.telling = true;
        for index in 0..self.reads.reads.slots() {
            let Some(handle) = self.reads.reads.handle_at(index) else {
                continue;
            };
            self.begin_tree(now, state, handle);
            self.collect_unreached(handle);
            self.step_searches(now, state, handle);
        }
    }

    /// Ends phases whose time is over, and begins the refresh.
    pub(in super::super) fn reads_timeout(&mut self, now: Instant, state: &mut State<P>) {
        for index in 0..self.reads.reads.slots() {
            let Some(handle) = self.reads.reads.handle_at(index) else {
                continue;
            };
            // There are four phases.
            for _ in 0..4 {
                if self
                    .reads
                    .get(handle)
                    .is_some_and(|read| read.phase_ends() <= now)
                {
                    self.end_phase(now, state, handle);
                }
            }
        }
        if self.reads.refresh.is_due(now) {
            self.plan_refresh(now, state);
            let within_ms = state.me.query_ms();
            let running = self
                .reads
                .reads
                .iter()
                .any(|(_, read)| read.query.is_none());
            if !running && state.people.followed_len() > 0 {
                // Too much going on: the next one will do.
                let _ = self.read(now, state, None, Scope::Everyone, within_ms);
            }
        }
    }

    fn end_phase(&mut self, now: Instant, state: &mut State<P>, handle: Handle) {
        let Some(read) = self.reads.get_mut(handle) else {
            return;
        };
        let (phase, job) = (read.phase, read.job);
        match phase {
            Phase::Looking => {
                read.lookups.clear();
                for reading in read.readings.iter_mut() {
                    reading.stage = Stage::Ready;
                }
                self.begin_tree(now, state, handle);
            }
            Phase::Tree => {
                read.phase = Phase::Direct;
                let deadline = read.phase_ends();
                let why = Unreached::Deadline;
                while let Some(lost) = self.tree.job_mut(job).and_then(|job| job.cut(why)) {
                    self.child_lost(now, state, Up::Read(handle), &lost, why);
                }
                if let Some(job) = self.tree.job_mut(job) {
                    job.deadline = deadline;
                }
            }
            Phase::Direct => {
                read.phase = Phase::Holders;
                self.expire_job(now, state, job);
                self.collect_unreached(handle);
            }
            Phase::Holders => self.end_read(now, state, handle),
        }
        self.reads.restless = true;
    }

    /// With every profile known: sorts, those with the fewest followers first, and lets the tree begin.
    fn begin_tree(&mut self, now: Instant, state: &State<P>, handle: Handle) {
        let Some(read) = self.reads.get_mut(handle) else {
            return;
        };
        let known = read
            .readings
            .iter()
            .all(|reading| reading.stage == Stage::Ready);
        if read.phase != Phase::Looking || !known {
            return;
        }
        read.phase = Phase::Tree;
        let deadline = read.phase_ends();
        let (scope, stranger) = (read.scope, read.stranger);
        // Nobody waits for a refresh: it finds out whether those who were missed are back.
        let hopeful = read.query.is_none();
        let reach = |user: &UserId| Contact::of(now, state, (scope, hopeful), &stranger, user);
        for reading in read.readings.iter_mut() {
            // Until here they were all alike, so that only the targets need sorting.
            reading.stage = Stage::Asking;
        }
        let Some(job) = self.tree.job_mut(read.job) else {
            return;
        };
        job.deadline = deadline;
        let targets = job.targets_mut();
        let key = |target: &Target| (reach(&target.user).rank, target.user);
        sort_by(targets, |a, b| key(a).cmp(&key(b)));
        for target in targets {
            let contact = reach(&target.user);
            target.addr = contact.address;
            target.log = LOG;
            target.limit = P::READ_POSTS_MAX;
            target.since = state.copies.since(now, &state.posts, &target.user);
            if !state.me.is_mute() {
                target.profile = contact.profile;
            }
        }
        for at in 0..job.targets().len() {
            let why = job
                .targets()
                .get(at)
                .and_then(|target| reach(&target.user).unreachable);
            if let Some(why) = why {
                job.fail(at, why);
            }
        }
        job.deal();
    }

    /// Takes those whom nobody reached out of the job: their copies are next.
    fn collect_unreached(&mut self, handle: Handle) {
        let Some(read) = self.reads.get_mut(handle) else {
            return;
        };
        if read.phase == Phase::Looking {
            return;
        }
        let Some(job) = self.tree.job_mut(read.job) else {
            return;
        };
        while let Some((at, why)) = job.next_failed() {
            job.settle(at);
            if let Some(reading) = read.readings.get_mut(at) {
                reading.stage = Stage::Lacking(why);
            }
        }
    }

    /// Time is up: what is kept here is shown, and everybody else is missing.
    fn end_read(&mut self, now: Instant, state: &State<P>, handle: Handle) {
        let Some(read) = self.reads.get_mut(handle) else {
            return;
        };
        for search in read.searches.iter() {
            if let Some(stream) = search.stream() {
                self.streams.close(stream);
            }
        }
        read.searches.clear();
        if read.is_settled() {
            return;
        }
        let Some(job) = self.tree.job(read.job) else {
            return;
        };
        for (at, target) in (0_u16..).zip(job.targets()) {
            let why = match read.reading(at).map(|reading| reading.stage) {
                Some(Stage::Lacking(why) | Stage::Searching(why)) => why,
                Some(Stage::Unknown | Stage::Looking | Stage::Ready | Stage::Asking) => {
                    Unreached::Deadline
                }
                Some(Stage::Showing { .. } | Stage::Missing(_) | Stage::Over) | None => continue,
            };
            read.settle_with_copy(now, state, (at, &target.user), why);
        }
    }
}

/// How a person can be reached, by what is known.
#[derive(Clone, Copy)]
struct Contact {
    address: PackedAddr,
    profile: RecordId,
    /// How many follow it: fewest first.
    rank: u32,
    /// Why its holders are asked before it.
    unreachable: Option<Unreached>,
}

impl Contact {
    fn of<P: Plan>(
        now: Instant,
        state: &State<P>,
        (scope, hopeful): (Scope, bool),
        stranger: &Stranger,
        user: &UserId,
    ) -> Self {
        let (address, profile, rank, online) = match (state.people.followed(user), scope) {
            (Some(entry), _) => {
                let missed = now < entry.missed_until && !hopeful;
                let online = entry.is_online(now) && !missed;
                (entry.address, entry.profile, entry.followers, online)
            }
            (None, Scope::One(_)) => (
                stranger.address,
                RecordId::NONE,
                0,
                now < stranger.lease_until,
            ),
            (None, Scope::Everyone) => (PackedAddr::NONE, RecordId::NONE, 0, false),
        };
        let unreachable = match (address.is_none(), online) {
            (true, _) => Some(Unreached::NotFound),
            (false, false) => Some(Unreached::Offline),
            (false, true) => None,
        };
        Self {
            address,
            profile,
            rank,
            unreachable,
        }
    }
}
