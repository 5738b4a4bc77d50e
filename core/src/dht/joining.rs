//! Coming and going: joining through an address, going on trying, and saying goodbye.
//!
//! Owns the addresses to join through. Invariant: as long as there are no contacts and there is an address to
//! try, a retry is scheduled.

use core::net::SocketAddr;

use crate::addr::{PackedAddr, is_usable_contact};
use crate::bounded::{Handle, List};
use crate::id::{Key, NodeId};
use crate::output::Busy;
use crate::overlay::{K, Overlay};
use crate::plan::Plan;
use crate::rpc::{Peer, Repeat, Tag};
use crate::time::{Deadline, Instant};
use crate::wire::datagram::Contact;

use super::Dht;
use super::ops::{Job, OpId, OpResult, Owner};

/// First pause between two rounds of pings while there are no contacts, in ms; it doubles.
pub const RETRY_MIN_MS: u64 = 1_000;
/// Longest pause, in ms.
pub const RETRY_MAX_MS: u64 = 60_000;
const RETRY_JITTER_PERCENT: u32 = 20;
/// How many goodbyes are under way at a time.
const GOODBYES_AT_ONCE: u8 = 4;

/// The state of a `join`.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    pub(super) addr: PackedAddr,
    /// The address answered; the own id is being looked up.
    pub(super) seeking: bool,
}

/// The state of a `leave`.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    /// Records were handed over; goodbyes are being said.
    pub(super) waving: bool,
    /// How many of the nearest were told.
    told: u8,
    under_way: u8,
}

/// The addresses to join through while there are no contacts.
pub(super) struct Joining<P: Plan> {
    /// Those that the host named last first.
    bootstraps: P::Bootstraps,
    retry: Deadline,
    round: u8,
}

impl<P: Plan> Joining<P> {
    pub(super) const EMPTY: Self = Self {
        bootstraps: P::Bootstraps::EMPTY,
        retry: Deadline::NEVER,
        round: 0,
    };

    pub(super) const fn next_deadline(&self) -> Deadline {
        self.retry
    }

    fn remember(&mut self, addr: PackedAddr) {
        self.bootstraps.retain(|known| *known != addr);
        if self.bootstraps.is_full() {
            self.bootstraps.pop();
        }
        // Just made room; a plan without places does not retry.
        let _ = self.bootstraps.insert(0, addr);
    }
}

impl<P: Plan> Dht<P> {
    /// Joins the network through the node at `addr`. Ends when the own place in the network was looked up; with 0
    /// contacts at its deadline when nobody answered, and then goes on trying as long as there are no contacts.
    ///
    /// A bounded number of addresses is remembered, the latest.
    ///
    /// # Errors
    /// [`Busy`]: no slot is free.
    pub fn join(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        owner: Owner,
        within_ms: u32,
    ) -> Result<OpId, Busy> {
        self.catch_up(now);
        let packed = PackedAddr::from(addr);
        let join = Join {
            addr: packed,
            seeking: false,
        };
        let op = self.begin(Some(owner), self.own_key(), within_ms, Job::Join(join))?;
        if is_usable_contact(addr) && self.own_addr() != Some(addr) {
            self.joining.remember(packed);
            self.ping_bootstrap(packed);
            self.schedule_retry();
        } else {
            let contacts = self.contact_count();
            self.finish(op.handle(), OpResult::Joined { contacts });
        }
        Ok(op)
    }

    /// A contact from the host's storage: it is pinged now and, as long as there are no contacts, again.
    pub fn restore_contact(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        let contact = Contact {
            id,
            addr: PackedAddr::from(addr),
        };
        if !self.started || self.acceptable(&contact).is_err() {
            return;
        }
        self.catch_up(now);
        if !self.saved.is_full() {
            // Room was checked: only memory may lack.
            let _ = self.saved.push(contact);
        }
        self.joining.remember(contact.addr);
        self.ping_bootstrap(contact.addr);
        self.schedule_retry();
    }

    /// Says goodbye: hands the records to those who lack them, and tells the nearest neighbours.
    ///
    /// # Errors
    /// [`Busy`]: no slot is free.
    pub fn leave(&mut self, now: Instant, owner: Owner, within_ms: u32) -> Result<OpId, Busy> {
        self.catch_up(now);
        let leave = Leave {
            waving: false,
            told: 0,
            under_way: 0,
        };
        let op = self.begin(Some(owner), self.own_key(), within_ms, Job::Leave(leave))?;
        self.begin_leaving(op.handle());
        self.run();
        Ok(op)
    }

    pub(super) fn own_key(&self) -> Key {
        Key::from_bytes(*self.id.as_bytes())
    }

    fn ping_bootstrap(&mut self, addr: PackedAddr) {
        let peer = Peer::stranger(addr);
        // Full: the next round tries again.
        let _ = self
            .rpc
            .request(self.now, &mut self.rng, peer, Tag::Bootstrap, Repeat::Once);
    }

    fn schedule_retry(&mut self) {
        let alone = self.overlay.entries().is_empty() && !self.joining.bootstraps.is_empty();
        if !alone {
            (self.joining.retry, self.joining.round) = (Deadline::NEVER, 0);
        } else if self.joining.retry.is_never() {
            let doubled = RETRY_MIN_MS << self.joining.round.min(6);
            let pause_ms = self
                .rng
                .jitter(doubled.min(RETRY_MAX_MS), RETRY_JITTER_PERCENT);
            self.joining.retry = Deadline::at(self.now.after_ms(pause_ms));
        }
    }

    /// Pings the addresses to join through once more, if that is due.
    pub(super) fn retry_bootstraps(&mut self) {
        if !self.joining.retry.is_due(self.now) {
            return;
        }
        self.joining.retry = Deadline::NEVER;
        self.joining.round = self.joining.round.saturating_add(1);
        if self.overlay.entries().is_empty() {
            for at in 0..self.joining.bootstraps.len() {
                let addr = self.joining.bootstraps.get(at).copied();
                if let Some(addr) = addr.filter(|addr| !self.rpc.is_asking(addr)) {
                    self.ping_bootstrap(addr);
                }
            }
        }
        self.schedule_retry();
    }

    /// A join that waits for this address to answer.
    fn waiting_join(&self, addr: &PackedAddr) -> Option<Handle> {
        self.ops.iter().find_map(|(handle, op)| match &op.job {
            Job::Join(join) if !join.seeking && join.addr == *addr => Some(handle),
            Job::Join(_)
            | Job::Refresh
            | Job::Find
            | Job::Get(_)
            | Job::Put(_)
            | Job::Send(_)
            | Job::Leave(_)
            | Job::Done(_) => None,
        })
    }

    /// An address to join through answered.
    pub(super) fn on_bootstrap(&mut self, contact: &Contact) {
        while let Some(handle) = self.waiting_join(&contact.addr) {
            if let Some(op) = self.ops.get_mut(handle) {
                op.job = Job::Join(Join {
                    addr: contact.addr,
                    seeking: true,
                });
                op.waits = true;
                self.waiting = true;
            }
        }
    }

    /// Whoever answered at an address to join through has fallen silent since: the join begins again.
    pub(super) fn join_again(&mut self, handle: Handle, addr: PackedAddr) {
        if let Some(op) = self.ops.get_mut(handle) {
            op.visits = op.visits.saturating_sub(1);
            op.job = Job::Join(Join {
                addr,
                seeking: false,
            });
        }
        self.ping_bootstrap(addr);
    }

    /// An address to join through did not answer: a join that waits for it tries again.
    pub(super) fn on_bootstrap_failed(&mut self, addr: PackedAddr) {
        if self.waiting_join(&addr).is_some() {
            self.ping_bootstrap(addr);
        }
    }

    /// The contacts changed: sees to it that a lonely node goes on trying.
    pub(super) fn after_change(&mut self) {
        if self.overlay.entries().is_empty() == self.joining.retry.is_never() {
            self.schedule_retry();
        }
    }

    /// The first contact came: unless an operation does it, the own place is looked up.
    pub(super) fn after_first_contact(&mut self) {
        if !self
            .ops
            .iter()
            .any(|(_, op)| matches!(op.job, Job::Join(_)))
        {
            let join = Join {
                addr: PackedAddr::NONE,
                seeking: true,
            };
            let within_ms = super::ops::REFRESH_WITHIN_MS;
            // Without a free slot the next upkeep does it.
            let _ = self.begin(None, self.own_key(), within_ms, Job::Join(join));
        }
    }

    /// Records were handed over: says goodbye to the nearest neighbours, a few at a time.
    pub(super) fn wave(&mut self, handle: Handle) {
        let nearest = self.overlay.towards(&self.own_key());
        loop {
            let Some(Job::Leave(leave)) = self.ops.get_mut(handle).map(|op| &mut op.job) else {
                return;
            };
            leave.waving = true;
            let next = nearest
                .get(usize::from(leave.told))
                .and_then(|&at| self.overlay.at(at));
            let Some(peer) = next.map(crate::overlay::Entry::peer) else {
                if leave.under_way == 0 {
                    self.finish(handle, OpResult::Left);
                }
                return;
            };
            let tag = Tag::Bye { op: handle };
            if leave.under_way >= GOODBYES_AT_ONCE
                || self
                    .rpc
                    .request(self.now, &mut self.rng, peer, tag, Repeat::Once)
                    .is_err()
            {
                // With none under way the deadline ends it: the requests are all somebody else's.
                return;
            }
            leave.told += 1;
            leave.under_way += 1;
        }
    }

    /// A goodbye was heard, or not.
    pub(super) fn on_goodbye(&mut self, handle: Handle) {
        if let Some(Job::Leave(leave)) = self.ops.get_mut(handle).map(|op| &mut op.job) {
            leave.under_way = leave.under_way.saturating_sub(1);
            self.wave(handle);
        }
    }
}

const _: () = assert!(K <= u8::MAX as usize);
