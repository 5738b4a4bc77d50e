//! One iterative lookup: which candidates there are, and whom to ask next (Maymounkov and Mazières 2002,
//! section 2.3; for a ring, Stoica et al. 2003, section IV-D).
//!
//! Owns the candidates of one target, nearest first, and how far each is. Sends nothing and knows no time.
//! On a ring the nodes that know the nearest lie before the target: by the metric they are the farthest, the closest
//! before the target at the very end of the list. The end is asked until it has answered or the owner has, then the
//! beginning. Invariants: nobody is asked before it answered a ping at its address; an address gets no more pings than
//! answers named it, and two at most, and of one neighbourhood at most [`PINGS_PER_SUBNET`] addresses do; there are at
//! most [`REQUESTS_MAX`] requests, whatever the answers say.

mod way;

use core::cmp::Ordering;

use crate::addr::{PackedAddr, subnet_of};
use crate::bounded::List;
use crate::id::{Distance, Key, NodeId};
use crate::overlay::{Entry, Overlay};
use crate::plan::Plan;
use crate::rpc::{Peer, Rtt};
use crate::wire::datagram::{Contact, NO_TOKEN, Token};

use way::OnWay;

/// How many first pings are under way at once, ahead of need.
pub const PINGS_AHEAD: usize = 8;
/// Most first pings to one IPv4 /24 or IPv6 /48, where that counts.
pub const PINGS_PER_SUBNET: usize = 2;
/// Most requests of one lookup, pings included.
pub const REQUESTS_MAX: u16 = 160;

/// How far a candidate is. Only from `Ready` on is it known to live at its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Somebody named it.
    Named,
    /// Its first ping is under way.
    Pinged,
    /// Its first ping is late.
    PingedLate,
    /// It can be asked.
    Ready,
    /// The question is under way.
    Asked,
    /// The answer is late: others are asked meanwhile.
    AskedLate,
    /// It answered.
    Answered,
    /// It answered, and a request of the second phase is under way.
    Working,
    /// The second phase with it is over.
    Finished,
    /// It did not answer, or may not be pinged.
    Failed,
}

/// A node that may be among the nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Who and where.
    pub contact: Contact,
    /// Its token, once it is known to live there.
    pub token: Token,
    /// How fast it answers.
    pub rtt: Rtt,
    /// How many of its records were received, and whether it has more.
    pub after: u16,
    /// See [`Candidate::after`].
    pub more: bool,
    /// What it says about the target.
    pub said: Said,
    /// How many steps away from this node it was learned.
    pub hops: u8,
    /// How far it is.
    pub state: State,
}

impl Candidate {
    /// What a request to it needs.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        Peer {
            addr: self.contact.addr,
            token: self.token,
            rtt: self.rtt,
        }
    }
}

/// What a candidate says about the target, apart from whom it names. One byte: there are many candidates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said(u8);

impl Said {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// The location is or was full there.
    pub const SPILLED: Self = Self(1);
    /// It owns the target, on a ring.
    pub const OWNED: Self = Self(2);
    /// Another answer named it too, before it had answered a ping: one lost datagram is not to hide it.
    pub const NAMED_AGAIN: Self = Self(4);
    /// The highest bits say which answer named it first, as far as they can count.
    const NAMED_BY: u8 = 0b1111_0000;

    /// Nothing yet, but this answer named it.
    const fn named_by(answer: u8) -> Self {
        Self(answer << 4)
    }

    /// Notes one thing more.
    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether it said this.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What to do next.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ping this candidate for the first time, and once more if `Said::NAMED_AGAIN`; report [`Lookup::pinged`] or [`Lookup::ping_failed`].
    Ping(Contact),
    /// Ask this one for what is near the target; report [`Lookup::answered`] or [`Lookup::failed`].
    Ask(Peer),
}

/// Whether the end of a lookup waits for answers that are late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// It does: who the nearest are matters.
    Wait,
    /// It does not, once as many as wanted have answered: others can say as much.
    GoOn,
}

/// A lookup.
pub struct Lookup<P: Plan> {
    target: Key,
    /// How many of the nearest have to answer.
    want: u8,
    /// What is waited for at the end.
    patience: Patience,
    requests: u16,
    /// How many have answered, over and over from 0.
    answers: u8,
    /// Candidates that are not farther than this do not count.
    beyond: Option<Distance>,
    /// Nearest first.
    candidates: P::Candidates,
    /// The neighbourhood of each first ping, where that counts.
    pinged: P::Pinged,
}

impl<P: Plan> Lookup<P> {
    /// How many places are left for candidates before the target.
    const WAY_PLACES: usize = if P::Overlay::RING {
        P::Candidates::CAPACITY / 3
    } else {
        0
    };

    /// Begins a lookup for the `want` nodes nearest to `target`.
    #[must_use]
    pub fn new(target: Key, want: usize, patience: Patience) -> Self {
        Self {
            target,
            want: u8::try_from(want).unwrap_or(u8::MAX),
            patience,
            requests: 0,
            answers: 0,
            beyond: None,
            candidates: P::Candidates::EMPTY,
            pinged: P::Pinged::EMPTY,
        }
    }

    /// The same candidates, for somebody else to look at.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut copy = Self::new(self.target, self.want(), self.patience);
        for candidate in self.candidates.iter() {
            // As many fit; only memory may lack.
            let _ = copy.candidates.push(*candidate);
        }
        copy
    }

    /// What is looked for.
    #[must_use]
    pub const fn target(&self) -> &Key {
        &self.target
    }

    /// How many of the nearest have to answer.
    #[must_use]
    pub fn want(&self) -> usize {
        usize::from(self.want)
    }

    /// Whether as many candidates are known as fit, and farther ones were perhaps forgotten.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.candidates.is_full()
    }

    /// The candidates, nearest first.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        self.candidates.as_slice()
    }

    /// Goes on until `want` of the nearest have answered. In a table that holds fewer, those that are over make
    /// place, and only farther ones are added from then on: add those that are known again.
    pub fn widen(&mut self, want: usize) {
        let mut left = want;
        if P::Candidates::CAPACITY < want {
            let is_over = |c: &Candidate| c.state.is_answered() || c.state == State::Failed;
            let farthest = self.candidates.iter().rfind(|c| is_over(c));
            self.beyond = farthest.map(|c| self.distance(&c.contact.id));
            left = left.saturating_sub(self.answered_ones().count());
            self.candidates.retain(|c| !is_over(c));
        }
        self.want = u8::try_from(left).unwrap_or(u8::MAX);
    }

    /// Adds a contact of the own table, `hops` steps away: 0 for where the lookup begins.
    pub fn add_known(&mut self, entry: &Entry, hops: u8) {
        let state = if entry.token == NO_TOKEN {
            State::Named
        } else {
            State::Ready
        };
        self.add(Candidate {
            contact: entry.contact,
            token: entry.token,
            rtt: entry.rtt,
            after: 0,
            more: false,
            said: Said::NOTHING,
            hops,
            state,
        });
    }

    /// Adds a contact that an answer named. When all places are taken, the farthest candidate makes place; on a ring the one
    /// that is farthest from being of use, so that a third of the places is left for those before the target.
    ///
    /// True when it waits for the answer to its first ping, and another answer had named it before: the ping may be
    /// repeated.
    pub fn add_named(&mut self, contact: Contact, hops: u8) -> bool {
        let named = Said::named_by(self.answers);
        let mut known = self.candidates.iter_mut();
        if P::REPEATS_MORE
            && let Some(known) = known.find(|other| other.contact == contact)
            && !known.state.is_proven()
            && !known.said.has(Said::NAMED_AGAIN)
            && known.said.0 & Said::NAMED_BY != named.0
        {
            known.said.add(Said::NAMED_AGAIN);
            return matches!(known.state, State::Pinged | State::PingedLate);
        }
        self.add(Candidate {
            contact,
            token: NO_TOKEN,
            rtt: Rtt::UNKNOWN,
            after: 0,
            more: false,
            said: named,
            hops,
            state: State::Named,
        });
        false
    }

    fn add(&mut self, candidate: Candidate) {
        let Contact { id, addr } = candidate.contact;
        // One candidate per address; and several addresses for one id only until one of them answered.
        let pointless = self.candidates.iter().any(|other| {
            other.contact.addr == addr || (other.contact.id == id && other.state.is_proven())
        });
        if pointless {
            return;
        }
        let distance = self.distance(&id);
        if self.beyond.is_some_and(|beyond| distance <= beyond) {
            return;
        }
        let at = self
            .candidates
            .as_slice()
            .partition_point(|other| self.distance(&other.contact.id) <= distance);
        let mut place = at;
        if self.candidates.is_full() {
            let middle = P::Candidates::CAPACITY - Self::WAY_PLACES;
            match at.cmp(&middle) {
                Ordering::Less => drop(self.candidates.remove(middle - 1)),
                Ordering::Equal => return,
                Ordering::Greater => {
                    self.candidates.remove(middle);
                    place -= 1;
                }
            }
        }
        // There is room, and the place is at most the length; only memory may lack.
        let _ = self.candidates.insert(place, candidate);
    }

    fn distance(&self, id: &NodeId) -> Distance {
        P::Overlay::distance(&self.target, id)
    }

    /// Says what the node `own` is to do next and takes it for done; `None` when there is nothing to do but wait. `counts`
    /// tells whether the pings to a neighbourhood are to be counted.
    pub fn next(&mut self, own: &NodeId, counts: impl Fn(&Contact) -> bool) -> Option<Step> {
        if self.requests >= REQUESTS_MAX {
            return None;
        }
        while let Some(stop) = self.next_stop(own) {
            match self.next_on_way(own, stop, &counts) {
                OnWay::Do(step) => return Some(step),
                OnWay::Wait => return None,
                OnWay::Refused => {}
            }
        }
        if self.under_way(State::Asked) < P::Overlay::alpha()
            && let Some(at) = self.first(State::Ready, self.want(), 0)
        {
            return self.ask(at);
        }
        if self.under_way(State::Pinged) >= PINGS_AHEAD {
            return None;
        }
        let mut at = 0;
        loop {
            at = self.first(State::Named, self.want() + P::Overlay::alpha(), at)?;
            let contact = self.candidates.get(at)?.contact;
            if self.may_ping(&contact, &counts) {
                return self.ping(at);
            }
            self.set(at, State::Failed);
        }
    }

    fn under_way(&self, state: State) -> usize {
        self.candidates.iter().filter(|c| c.state == state).count()
    }

    /// The nearest candidate that has not failed.
    #[must_use]
    pub fn nearest(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.state != State::Failed)
    }

    /// Whether this node is nearer to the target than every candidate that has not failed.
    #[must_use]
    pub fn is_own_nearest(&self, own: &NodeId) -> bool {
        self.nearest()
            .is_none_or(|c| self.distance(own) < self.distance(&c.contact.id))
    }

    /// Those that may be given what lies at the target, nearest first. On a ring only as many as were looked for: others may
    /// have been asked on the way.
    pub fn takers(&self) -> impl Iterator<Item = &Candidate> {
        let most = if P::Overlay::RING {
            self.want()
        } else {
            usize::MAX
        };
        let alive = self.candidates.iter().filter(|c| c.state != State::Failed);
        alive.take(most)
    }

    /// The first candidate in `state` at place `from` or behind it, among the nearest `horizon` that are neither
    /// late nor have failed.
    fn first(&self, state: State, horizon: usize, from: usize) -> Option<usize> {
        let places = self.candidates.iter().enumerate();
        let mut near = places.filter(|(_, c)| c.state.is_hopeful()).take(horizon);
        near.find(|&(at, c)| at >= from && c.state == state)
            .map(|(at, _)| at)
    }

    fn ask(&mut self, at: usize) -> Option<Step> {
        let candidate = self.candidates.get_mut(at)?;
        candidate.state = State::Asked;
        self.requests += 1;
        Some(Step::Ask(candidate.peer()))
    }

    fn ping(&mut self, at: usize) -> Option<Step> {
        let candidate = self.candidates.get_mut(at)?;
        candidate.state = State::Pinged;
        self.requests += 1;
        Some(Step::Ping(candidate.contact))
    }

    /// Counts a first ping to the neighbourhood of `contact`; false when there were enough.
    fn may_ping(&mut self, contact: &Contact, counts: &impl Fn(&Contact) -> bool) -> bool {
        let Some(addr) = contact.addr.to_socket_addr() else {
            return false;
        };
        if !counts(contact) {
            return true;
        }
        let subnet = subnet_of(addr).tag();
        let earlier = self.pinged.iter().filter(|&&other| other == subnet).count();
        earlier < PINGS_PER_SUBNET && self.pinged.push(subnet).is_ok()
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(candidate) = self.candidates.get_mut(at) {
            candidate.state = state;
        }
    }

    /// Finds the candidate at an address.
    pub fn candidate_mut(&mut self, addr: &PackedAddr) -> Option<&mut Candidate> {
        self.candidates
            .iter_mut()
            .find(|candidate| candidate.contact.addr == *addr)
    }

    /// Somebody answered a first ping: the candidate, or another who lives at its address.
    pub fn pinged(&mut self, contact: &Contact, token: Token, rtt: Rtt) {
        if let Some(candidate) = self.waiting_for_ping(&contact.addr) {
            candidate.state = if candidate.contact == *contact {
                State::Ready
            } else {
                State::Failed
            };
            (candidate.token, candidate.rtt) = (token, rtt);
        }
    }

    /// Nobody answered a first ping.
    pub fn ping_failed(&mut self, addr: &PackedAddr) {
        if let Some(candidate) = self.waiting_for_ping(addr) {
            candidate.state = State::Failed;
        }
    }

    fn waiting_for_ping(&mut self, addr: &PackedAddr) -> Option<&mut Candidate> {
        let candidate = self.candidate_mut(addr)?;
        matches!(candidate.state, State::Pinged | State::PingedLate).then_some(candidate)
    }

    /// A candidate answered the question, or a request of the second phase. Tells how many steps away it is.
    pub fn answered(&mut self, addr: &PackedAddr, token: Token) -> Option<u8> {
        let candidate = self.candidate_mut(addr)?;
        if token != NO_TOKEN {
            candidate.token = token;
        }
        if matches!(candidate.state, State::Asked | State::AskedLate) {
            candidate.state = State::Answered;
        }
        let hops = candidate.hops;
        self.answers = self.answers.wrapping_add(1);
        Some(hops)
    }

    /// A request to a candidate is late.
    pub fn late(&mut self, addr: &PackedAddr) {
        if let Some(candidate) = self.candidate_mut(addr) {
            candidate.state = match candidate.state {
                State::Pinged => State::PingedLate,
                State::Asked => State::AskedLate,
                other @ (State::Named
                | State::PingedLate
                | State::Ready
                | State::AskedLate
                | State::Answered
                | State::Working
                | State::Finished
                | State::Failed) => other,
            };
        }
    }

    /// A candidate did not answer, or somebody else did in its place.
    pub fn failed(&mut self, addr: &PackedAddr) {
        if let Some(candidate) = self.candidate_mut(addr) {
            candidate.state = State::Failed;
        }
    }

    /// Whether the nearest have all answered, or nobody is left to ask. Right after [`next`](Self::next)
    /// returned `None`.
    #[must_use]
    pub fn is_finished(&self, own: &NodeId) -> bool {
        if !self.is_waiting() && self.requests >= REQUESTS_MAX {
            return true;
        }
        let counts = |c: &&Candidate| match self.patience {
            Patience::Wait => c.state != State::Failed,
            Patience::GoOn => c.state.is_hopeful(),
        };
        let last = self.last_on_way(own, |c| counts(&c));
        if last.is_some_and(|(_, last)| !last.state.is_answered()) {
            return false;
        }
        let nearest = self.candidates.iter().filter(counts).take(self.want());
        let answered = nearest.clone().filter(|c| c.state.is_answered()).count();
        answered == self.want() || (answered == nearest.count() && !self.is_waiting())
    }

    /// Whether any request is under way.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.candidates.iter().any(|c| c.state.is_waiting())
    }

    /// Those that answered, nearest first.
    pub fn answered_ones(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|c| c.state.is_answered())
    }
}

impl State {
    /// Whether it is known to live at its address.
    #[must_use]
    pub const fn is_proven(self) -> bool {
        match self {
            Self::Ready
            | Self::Asked
            | Self::AskedLate
            | Self::Answered
            | Self::Working
            | Self::Finished => true,
            Self::Named | Self::Pinged | Self::PingedLate | Self::Failed => false,
        }
    }

    /// Whether it has not failed so far, and is not late.
    #[must_use]
    pub const fn is_hopeful(self) -> bool {
        !matches!(self, Self::PingedLate | Self::AskedLate | Self::Failed)
    }

    /// Whether it answered the question.
    #[must_use]
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Answered | Self::Working | Self::Finished)
    }

    /// Whether a request to it is under way.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(
            self,
            Self::Pinged | Self::PingedLate | Self::Asked | Self::AskedLate | Self::Working
        )
    }
}

#[cfg(test)]
mod tests;
