//! Handing records over: to a newcomer that should hold them, and on leaving to those that are next in line.
//!
//! Owns one walk over the store at a time, and a queue of newcomers. Invariants: a step looks at a bounded number
//! of records, and a bounded number of requests is under way; a full queue forgets the newest: the next round of `repair`,
//! which it brings on, gives it what it lacks.

use core::marker::PhantomData;

use crate::bounded::{Handle, List};
use crate::id::{Key, NodeId};
use crate::overlay::{Entry, Overlay};
use crate::plan::Plan;
use crate::records::RecordId;
use crate::rpc::{Peer, Repeat, Tag};
use crate::rules::Rule;
use crate::time::Deadline;
use crate::wire::datagram::Contact;

use super::Dht;

/// How many records one step looks at.
pub const STEP_RECORDS: usize = 32;
/// The pause between two steps, in ms.
pub const STEP_PAUSE_MS: u64 = 5;
/// How many records are on their way at a time.
pub const AT_ONCE: u8 = 4;
/// How many of the nearest present holders hand a record to a newcomer: two, since one may be gone.
pub const GIVERS: usize = 2;

/// To whom a walk hands records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    /// To nobody: no walk is under way. It is a variant because the `None` of an `Option` of the others would
    /// not be zero, and would move a node in a `static` from `.bss` to `.data`.
    Idle,
    Newcomer(NodeId),
    /// To whoever comes into the nearest when this node goes.
    Leaving(Handle),
}

/// The walk under way and those to come.
pub(super) struct HandOver<P: Plan> {
    newcomers: P::Newcomers,
    walk: Walk,
    /// The next slot of the store.
    slot: usize,
    under_way: u8,
    step: Deadline,
    plan: PhantomData<fn() -> P>,
}

impl<P: Plan> HandOver<P> {
    pub(super) const EMPTY: Self = Self {
        newcomers: P::Newcomers::EMPTY,
        walk: Walk::Idle,
        slot: 0,
        under_way: 0,
        step: Deadline::NEVER,
        plan: PhantomData,
    };

    pub(super) const fn next_deadline(&self) -> Deadline {
        self.step
    }

    /// The operation that leaves is over.
    pub(super) fn stop_leaving(&mut self) {
        if matches!(self.walk, Walk::Leaving(_)) {
            self.walk = Walk::Idle;
        }
    }
}

impl<P: Plan> Dht<P> {
    /// A node became a contact: it is handed what it should hold.
    pub(super) fn welcome(&mut self, contact: Contact) {
        if self.overlay.entries().len() == 1 {
            self.after_first_contact();
        }
        if self.records.is_empty() {
            return;
        }
        if self.handover.newcomers.push(contact.id).is_err() {
            self.dropped.count(Rule::Full);
            self.repair_soon();
        }
        if self.handover.step.is_never() && self.handover.under_way < AT_ONCE {
            self.handover.step = Deadline::at(self.now.after_ms(STEP_PAUSE_MS));
        }
    }

    /// Begins to hand over everything, for a node that leaves.
    pub(super) fn begin_leaving(&mut self, op: Handle) {
        self.handover.newcomers.clear();
        (self.handover.walk, self.handover.slot) = (Walk::Leaving(op), 0);
        self.hand_over_step();
    }

    /// Does a step of the walk, if it is due.
    pub(super) fn hand_over_slice(&mut self) {
        if self.handover.step.is_due(self.now) {
            self.hand_over_step();
        }
    }

    /// A record was handed over, or could not be.
    pub(super) fn on_handed_over(&mut self) {
        self.handover.under_way = self.handover.under_way.saturating_sub(1);
        if self.handover.step.is_never() {
            self.hand_over_step();
        }
    }

    fn hand_over_step(&mut self) {
        self.handover.step = Deadline::NEVER;
        for _ in 0..STEP_RECORDS {
            if self.handover.under_way >= AT_ONCE {
                // An answer goes on with it.
                return;
            }
            let walk = self.next_walk();
            if walk == Walk::Idle {
                return;
            }
            let slot = self.handover.slot;
            if slot >= self.records.slots() {
                if !self.end_walk(walk) {
                    return;
                }
                continue;
            }
            let Some((tag, peer)) = self.receiver(walk, slot) else {
                self.handover.slot += 1;
                continue;
            };
            if self
                .rpc
                .request(self.now, &mut self.rng, peer, tag, Repeat::Once)
                .is_err()
            {
                break;
            }
            self.handover.slot += 1;
            self.handover.under_way += 1;
        }
        self.handover.step = Deadline::at(self.now.after_ms(STEP_PAUSE_MS));
    }

    /// The walk under way, or the next newcomer's.
    fn next_walk(&mut self) -> Walk {
        if self.handover.walk == Walk::Idle {
            let next = self.handover.newcomers.remove(0);
            self.handover.walk = next.map_or(Walk::Idle, Walk::Newcomer);
            self.handover.slot = 0;
        }
        self.handover.walk
    }

    /// All records were looked at. False: the last ones are still on their way, and their answers come by here.
    fn end_walk(&mut self, walk: Walk) -> bool {
        if let Walk::Leaving(op) = walk {
            if self.handover.under_way > 0 {
                return false;
            }
            self.wave(op);
        } else {
            self.let_go_soon();
        }
        self.handover.walk = Walk::Idle;
        true
    }

    /// Who is to get the record in a slot, and the request for it.
    fn receiver(&self, walk: Walk, slot: usize) -> Option<(Tag, Peer)> {
        let record = self.record_at(slot)?;
        let location = self.records.location(record)?;
        let peer = match walk {
            Walk::Newcomer(newcomer) => self.newcomer_for(&location, &newcomer)?,
            Walk::Leaving(_) => self.next_in_line(&location)?,
            Walk::Idle => return None,
        };
        Some((Tag::HandOver { record }, peer))
    }

    /// The record in a slot, unless it has expired.
    pub(super) fn record_at(&self, slot: usize) -> Option<RecordId> {
        self.records.at(self.now, slot).map(|held| held.id)
    }

    /// Where the record in a slot lies.
    pub(super) fn location_at(&self, slot: usize) -> Option<Key> {
        self.records.location(self.record_at(slot)?)
    }

    /// The newcomer, if it is among the nearest to a location and this node is one of those that give.
    fn newcomer_for(&self, location: &Key, newcomer: &NodeId) -> Option<Peer> {
        let entry = self.overlay.find(newcomer)?;
        let nearer = |id| self.overlay.is_nearer(location, newcomer, id);
        // Cheap first: most records are somebody else's to give.
        let givers = self.overlay.nearer_than_own(location, GIVERS + 1);
        if givers >= GIVERS + usize::from(nearer(&self.id)) {
            return None;
        }
        let nearest = self.overlay.nearest(location);
        let known = nearest.iter().filter_map(|&at| self.overlay.at(at));
        let before = known.filter(|e| e.contact.id != *newcomer && !nearer(&e.contact.id));
        let before = before.count() + usize::from(!nearer(&self.id));
        (before < P::Overlay::replication()).then(|| entry.peer())
    }

    /// The node that becomes one of the nearest to a location when this one goes, if that is one.
    fn next_in_line(&self, location: &Key) -> Option<Peer> {
        let replication = P::Overlay::replication();
        if self.overlay.nearer_than_own(location, replication) >= replication {
            return None;
        }
        let nearest = self.overlay.nearest(location);
        let place = *nearest.get(replication - 1)?;
        self.overlay.at(place).map(Entry::peer)
    }
}
