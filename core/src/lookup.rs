//! One iterative lookup: which candidates there are, and whom to ask next (Maymounkov and Mazières 2002,
//! section 2.3).
//!
//! Owns the candidates of one target, nearest first, and how far each is. Sends nothing and knows no time.
//! Invariants: nobody is asked before it answered a ping at its address; an address is pinged once, and of one
//! neighbourhood at most [`PINGS_PER_SUBNET`]; there are at most [`REQUESTS_MAX`] requests, whatever the
//! answers say.

use crate::addr::{PackedAddr, subnet_of};
use crate::bounded::List;
use crate::id::{Distance, Key, NodeId};
use crate::overlay::{Entry, Overlay};
use crate::plan::Plan;
use crate::rpc::{Peer, Rtt};
use crate::wire::datagram::{Contact, NO_TOKEN, Token};

/// How many questions are under way at once: the paper's α.
pub const ALPHA: usize = 3;
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
    /// It says that the location is or was full.
    pub spilled: bool,
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

/// What to do next.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ping this candidate for the first time; report [`Lookup::pinged`] or [`Lookup::ping_failed`].
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
    /// Candidates that are not farther than this do not count.
    beyond: Option<Distance>,
    /// Nearest first.
    candidates: P::Candidates,
    /// The neighbourhood of each first ping, where that counts.
    pinged: P::Pinged,
}

impl<P: Plan> Lookup<P> {
    /// Begins a lookup for the `want` nodes nearest to `target`.
    #[must_use]
    pub fn new(target: Key, want: usize, patience: Patience) -> Self {
        Self {
            target,
            want: u8::try_from(want).unwrap_or(u8::MAX),
            patience,
            requests: 0,
            beyond: None,
            candidates: P::Candidates::EMPTY,
            pinged: P::Pinged::EMPTY,
        }
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
            spilled: false,
            hops,
            state,
        });
    }

    /// Adds a contact that an answer named. The farthest candidate makes place when all are taken.
    pub fn add_named(&mut self, contact: Contact, hops: u8) {
        self.add(Candidate {
            contact,
            token: NO_TOKEN,
            rtt: Rtt::UNKNOWN,
            after: 0,
            more: false,
            spilled: false,
            hops,
            state: State::Named,
        });
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
        if self.candidates.is_full() {
            if at == self.candidates.len() {
                return;
            }
            self.candidates.pop();
        }
        // There is room, and `at` is at most the length; only memory may lack.
        let _ = self.candidates.insert(at, candidate);
    }

    fn distance(&self, id: &NodeId) -> Distance {
        P::Overlay::distance(&self.target, id)
    }

    /// Says what to do next and takes it for done; `None` when there is nothing to do but wait. `counts`
    /// tells whether the pings to a neighbourhood are to be counted.
    pub fn next(&mut self, counts: impl Fn(&Contact) -> bool) -> Option<Step> {
        if self.requests >= REQUESTS_MAX {
            return None;
        }
        let under_way = |state| self.candidates.iter().filter(|c| c.state == state).count();
        if under_way(State::Asked) < ALPHA
            && let Some(at) = self.first(State::Ready, self.want(), 0)
        {
            return self.ask(at);
        }
        if under_way(State::Pinged) >= PINGS_AHEAD {
            return None;
        }
        let mut at = 0;
        loop {
            at = self.first(State::Named, self.want() + ALPHA, at)?;
            let contact = self.candidates.get(at)?.contact;
            if self.may_ping(&contact, &counts) {
                return self.ping(at);
            }
            self.set(at, State::Failed);
        }
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
        Some(candidate.hops)
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
    pub fn is_finished(&self) -> bool {
        if !self.is_waiting() && self.requests >= REQUESTS_MAX {
            return true;
        }
        let counts = |c: &&Candidate| match self.patience {
            Patience::Wait => c.state != State::Failed,
            Patience::GoOn => c.state.is_hopeful(),
        };
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
