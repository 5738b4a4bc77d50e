//! The way of a lookup on a ring (Stoica et al. 2003, section IV-D): from node to node towards the target, until its owner
//! answers.
//!
//! Owns which candidate before the target is next, and what is done while it does not answer. With another overlay there
//! is no way, and nothing happens here. Invariant: what is asked and pinged is counted by the lookup like all else.

use crate::addr::PackedAddr;
use crate::bounded::List;
use crate::id::NodeId;
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::wire::datagram::Contact;

use super::{Candidate, Lookup, PINGS_AHEAD, Said, State, Step};

/// How many candidates before the target are pinged ahead of need.
const PINGS_ON_WAY: usize = 3;

/// What is to be done on the way to the nearest.
pub(super) enum OnWay {
    /// This.
    Do(Step),
    /// Nothing but wait.
    Wait,
    /// A candidate may not be pinged: look again.
    Refused,
}

impl<P: Plan> Lookup<P> {
    /// The place of the first candidate between this node and the target, on a ring; they go on to the end of the list.
    fn way(&self, own: &NodeId) -> usize {
        let candidates = self.candidates.as_slice();
        if P::Overlay::RING {
            let own = self.distance(own);
            candidates.partition_point(|c| self.distance(&c.contact.id) <= own)
        } else {
            candidates.len()
        }
    }

    /// The candidate closest before the target among those that `count`; `None` too when it does not matter any more, since
    /// the owner answered. A node that looks itself up wants to know who is before it.
    pub(super) fn last_on_way(
        &self,
        own: &NodeId,
        counts: impl Fn(&Candidate) -> bool,
    ) -> Option<(usize, &Candidate)> {
        if self.owner_answered() && own.as_bytes() != self.target.as_bytes() {
            return None;
        }
        let way = self.candidates.iter().enumerate().skip(self.way(own));
        { way }.rfind(|(_, c)| counts(c))
    }

    /// Where to ask before the nearest are asked: the candidate closest before the target, unless it answered.
    pub(super) fn next_stop(&self, own: &NodeId) -> Option<usize> {
        let (at, last) = self.last_on_way(own, |c| c.state.is_hopeful())?;
        (!last.state.is_answered()).then_some(at)
    }

    /// What to do while the candidate at place `stop` has not answered: get it to answer, and ping those that are next if
    /// it does not.
    pub(super) fn next_on_way(
        &mut self,
        own: &NodeId,
        stop: usize,
        counts: &impl Fn(&Contact) -> bool,
    ) -> OnWay {
        let is_ready = self.candidates.get(stop).map(|c| c.state) == Some(State::Ready);
        if is_ready && self.under_way(State::Asked) < P::Overlay::alpha() {
            return self.ask(stop).map_or(OnWay::Wait, OnWay::Do);
        }
        if self.under_way(State::Pinged) >= PINGS_AHEAD {
            return OnWay::Wait;
        }
        let way = self.candidates.iter().enumerate().skip(self.way(own));
        let mut last = { way }.rev().filter(|(_, c)| c.state.is_hopeful());
        let next = { last.by_ref() }
            .take(PINGS_ON_WAY)
            .find(|(_, c)| c.state == State::Named);
        let Some((at, contact)) = next.map(|(at, c)| (at, c.contact)) else {
            return OnWay::Wait;
        };
        if self.may_ping(&contact, counts) {
            return self.ping(at).map_or(OnWay::Wait, OnWay::Do);
        }
        self.set(at, State::Failed);
        OnWay::Refused
    }

    /// The candidate at `addr` says that it owns the target.
    pub fn owns(&mut self, addr: &PackedAddr) {
        if let Some(candidate) = self.candidate_mut(addr) {
            candidate.said.add(Said::OWNED);
        }
    }

    /// Whether the nearest candidate, the late ones counted, says that it owns the target.
    #[must_use]
    pub fn owner_answered(&self) -> bool {
        P::Overlay::RING
            && self
                .nearest()
                .is_some_and(|c| c.said.has(Said::OWNED) && c.state.is_answered())
    }
}
