//! Everything that is said over streams: [`streams`](super::streams), the get tree ([`tree`](super::tree)) and reads
//! ([`reads`](super::reads)), on one state.
//!
//! Owns their composition. It asks nothing of the DHT itself: what a read wants from there is polled with
//! [`Exchange::poll_ask`] and handed back with [`Exchange::on_record`] and [`Exchange::on_done`]. Invariant: after an
//! input, everything that can go on has gone on, as far as streams were free; streams that become free in a drain are
//! used in the same drain.

use crate::bounded::{List, Ring};
use crate::id::UserId;
use crate::plan::Plan;
use crate::time::{Deadline, Instant};

use super::reads::Reads;
use super::state::State;
use super::streams::{Parcel, Role, Streams};
use super::tree::Tree;

/// Rounds of letting tree and reads go on after an input. Two do nearly always.
const ROUNDS_MAX: usize = 8;

/// Streams, the get tree and reads.
pub struct Exchange<P: Plan> {
    /// The latest time handed in.
    pub(super) now: Instant,
    pub(super) streams: Streams<P>,
    pub(super) tree: Tree<P>,
    pub(super) reads: Reads<P>,
    /// Who did not answer, for the network to know.
    missed: Ring<UserId, P::Missed>,
    /// A stream became free since the last round.
    pub(super) freed: bool,
}

impl<P: Plan> Exchange<P> {
    /// No streams, no jobs, no reads.
    pub const EMPTY: Self = {
        assert!(
            P::Targets::CAPACITY <= u16::MAX as usize,
            "a job counts its targets with 16 bits"
        );
        Self {
            now: Instant::ZERO,
            streams: Streams::EMPTY,
            tree: Tree::EMPTY,
            reads: Reads::EMPTY,
            missed: Ring::EMPTY,
            freed: false,
        }
    };

    /// Begins with the state's settings: plans the first refresh.
    pub fn start(&mut self, now: Instant, state: &mut State<P>) {
        self.now = now;
        self.plan_refresh(now, state);
    }

    /// Does what was due by `now`.
    pub fn handle_timeout(&mut self, now: Instant, state: &mut State<P>) {
        self.now = self.now.max(now);
        self.streams_timeout(now, state);
        self.tree_timeout(now, state);
        self.reads_timeout(now, state);
        self.pump(now, state);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next worth a call. May be too early.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        (self.streams.next_deadline())
            .or(self.tree.next_deadline())
            .or(self.reads.next_deadline())
    }

    /// Somebody who did not answer: the network is to learn of it by a `Sighting`. The oldest are dropped when nobody
    /// polls.
    pub fn poll_missed(&mut self) -> Option<UserId> {
        self.missed.pop_front()
    }

    /// Somebody did not answer. What was known of where it is has to be looked up anew.
    pub(super) fn missed(&mut self, now: Instant, state: &mut State<P>, user: UserId) {
        if let Some(entry) = state.people.followed_mut(&user) {
            entry.lease_until = entry.lease_until.min(now);
        }
        if self.missed.is_full() {
            self.missed.pop_front();
        }
        let _ = self.missed.push_back(user);
    }

    /// Lets everything go on that can.
    pub(super) fn pump(&mut self, now: Instant, state: &mut State<P>) {
        self.now = self.now.max(now);
        for _ in 0..ROUNDS_MAX {
            self.step_reads(now, state);
            if !self.call_children(now, state) || !self.reads.is_restless() {
                break;
            }
        }
    }

    /// Opens streams for errands, as far as streams are free. Tells whether it opened any.
    pub(super) fn run_errands(&mut self, now: Instant, state: &mut State<P>) -> bool {
        let mut opened = false;
        while let Some((id, errand)) = state.errands.take() {
            let parcel = Parcel::new(id, errand.message, errand.user);
            let role = Role::Courier(parcel);
            if self.streams.open(now, errand.address, role).is_err() {
                state.errands.put_back(id);
                return opened;
            }
            opened = true;
        }
        opened
    }

    /// How many streams, jobs and reads there are, each with how many fit.
    #[must_use]
    pub fn used(&self) -> [(usize, usize); 3] {
        [self.streams.used(), self.tree.used(), self.reads.used()]
    }
}
