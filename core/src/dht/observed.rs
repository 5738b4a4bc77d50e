//! The own address as others see it.
//!
//! Owns the votes of the last few repliers, one for each source. Invariant: one liar never moves the address
//! once two others agree.

use core::marker::PhantomData;

use crate::addr::{PackedAddr, Source, source_of};
use crate::bounded::List;
use crate::plan::Plan;

/// What one replier said.
#[derive(Clone, Copy, Debug)]
pub struct Vote {
    voter: Source,
    addr: PackedAddr,
}

/// The votes and what follows from them.
pub(super) struct Observed<P: Plan> {
    /// The oldest first.
    votes: P::Votes,
    addr: PackedAddr,
    plan: PhantomData<fn() -> P>,
}

impl<P: Plan> Observed<P> {
    pub(super) const EMPTY: Self = Self {
        votes: P::Votes::EMPTY,
        addr: PackedAddr::NONE,
        plan: PhantomData,
    };

    /// The address that most say; [`PackedAddr::NONE`] before anybody said one.
    pub(super) const fn addr(&self) -> PackedAddr {
        self.addr
    }

    /// Takes what `replier` said. An address becomes the own one when two say it and none is said by more, or
    /// when nobody else said anything.
    pub(super) fn vote(&mut self, replier: PackedAddr, addr: PackedAddr) {
        let (Some(voter), false) = (replier.to_socket_addr().map(source_of), addr.is_none()) else {
            return;
        };
        if self
            .votes
            .last()
            .is_some_and(|vote| vote.voter == voter && vote.addr == addr)
        {
            return;
        }
        self.votes.retain(|vote| vote.voter != voter);
        if self.votes.is_full() {
            self.votes.remove(0);
        }
        // Just made room.
        let _ = self.votes.push(Vote { voter, addr });
        let count = |addr| self.votes.iter().filter(|vote| vote.addr == addr).count();
        let said = count(addr);
        if self.votes.len() == 1 || (said >= 2 && said > count(self.addr)) {
            self.addr = addr;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::plan::Board;

    fn addr(text: &str) -> PackedAddr {
        PackedAddr::from(text.parse::<core::net::SocketAddr>().unwrap())
    }

    #[test]
    fn one_liar_does_not_move_the_address() {
        let (truth, lie) = (addr("198.18.0.1:7"), addr("198.18.0.2:7"));
        let mut observed = Observed::<Board>::EMPTY;
        assert!(observed.addr().is_none());
        observed.vote(addr("10.0.0.1:1"), truth);
        assert_eq!(observed.addr(), truth, "the only word");
        observed.vote(addr("10.0.0.2:1"), lie);
        assert_eq!(observed.addr(), truth, "one against one");
        observed.vote(addr("10.0.0.3:1"), truth);
        for port in 0..20 {
            observed.vote(
                PackedAddr::from(core::net::SocketAddr::from(([10, 0, 0, 2], port))),
                lie,
            );
        }
        assert_eq!(
            observed.addr(),
            truth,
            "many ports of one host are one voter"
        );
    }

    #[test]
    fn a_new_address_needs_two_who_agree() {
        let (old, new) = (addr("198.18.0.1:7"), addr("198.18.0.2:7"));
        let mut observed = Observed::<Board>::EMPTY;
        observed.vote(addr("10.0.0.1:1"), old);
        observed.vote(addr("10.0.0.2:1"), new);
        assert_eq!(observed.addr(), old);
        observed.vote(addr("10.0.0.3:1"), new);
        assert_eq!(observed.addr(), new);
        observed.vote(addr("10.0.0.4:1"), PackedAddr::NONE);
        assert_eq!(observed.addr(), new);
    }
}
