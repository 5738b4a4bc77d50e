//! What a ring adds to the DHT: a key has one owner there, and only the owner's word counts.
//!
//! Owns what becomes of a lookup that ended without that word, and the exchange with the neighbours by which the
//! ring is kept whole. Invariant: on a ring no lookup of a node and no message ends with success but at a node that
//! said, or if it is this one, knows, that the key is its own.

use crate::addr::{PackedAddr, subnet_of};
use crate::bounded::{Fixed, Handle, List};
use crate::id::Key;
use crate::lookup::{Lookup, PINGS_PER_SUBNET, Patience};
use crate::overlay::{Heard, Overlay, Width};
use crate::plan::Plan;
use crate::rpc::{Peer, Repeat, Tag};
use crate::rules::Rule;
use crate::wire::datagram::Contact;

use super::Dht;
use super::ops::Job;

/// Most nodes that are pinged because one neighbour named them.
const NAMED_PINGS_MAX: usize = 8;

impl<P: Plan> Dht<P> {
    /// Whether a finished lookup has not found the owner of its key, though it was to.
    pub(super) fn lacks_owner(&self, handle: Handle) -> bool {
        let Some(visit) = self.visits.get(handle).filter(|_| P::Overlay::RING) else {
            return false;
        };
        let wants_owner = self
            .ops
            .get(visit.op)
            .is_some_and(|op| matches!(op.job, Job::Find | Job::Send(_)));
        let lookup = &visit.lookup;
        let found = if lookup.is_own_nearest(&self.id) {
            self.overlay.is_responsible(lookup.target())
        } else {
            lookup.owner_answered()
        };
        wants_owner && !found
    }

    /// Has a lookup that did not find the owner begin again in a while.
    pub(super) fn look_again_soon(&mut self, handle: Handle) {
        self.overlay.lacked(self.now);
        let Some(visit) = self.visits.get(handle) else {
            return;
        };
        let target = *visit.lookup.target();
        if visit.lookup.is_own_nearest(&self.id) {
            // Whoever was the predecessor did not answer the lookup.
            self.on_asked(&self.own_contact(), &target);
        }
    }

    /// Begins the lookups again that ended without the owner.
    pub(super) fn look_again(&mut self) {
        for at in 0..self.visits.slots() {
            let Some((handle, visit)) = self.visits.at(at) else {
                continue;
            };
            let ended = !visit.working && visit.lookup.is_finished(&self.id);
            let (target, want) = (*visit.lookup.target(), visit.lookup.want());
            if !ended || !self.lacks_owner(handle) {
                continue;
            }
            if let Some(visit) = self.visits.get_mut(handle) {
                visit.lookup = Lookup::new(target, want, Patience::Wait);
            }
            self.add_own_contacts(handle);
            self.touch(handle);
        }
    }

    /// Gives a visit's lookup the own contacts, with which it begins.
    pub(super) fn add_own_contacts(&mut self, visit: Handle) {
        let Some(visit) = self.visits.get_mut(visit) else {
            return;
        };
        let towards = self.overlay.towards(visit.lookup.target());
        for entry in towards.iter().filter_map(|&at| self.overlay.at(at)) {
            visit.lookup.add_known(entry, 0);
        }
    }

    /// This node as a contact: without an address, which others know better.
    pub(super) const fn own_contact(&self) -> Contact {
        Contact {
            id: self.id,
            addr: PackedAddr::NONE,
        }
    }

    /// A reply about `target` begins with this node itself if it is the owner.
    pub(super) fn own_claim(&self, target: &Key) -> Option<Contact> {
        let owns = P::Overlay::RING && self.overlay.is_responsible(target);
        owns.then(|| self.own_contact())
    }

    /// Whether this node joins a ring just now, and cannot say yet who is near a key: whoever believed it would stop here.
    /// Where a lookup knows of no other to ask in its place, that is still better than nothing.
    pub(super) fn is_newcomer(&self) -> bool {
        P::Overlay::RING
            && <P::Overlay as Overlay>::Width::named_far() > 1
            && !self.overlay.is_responsible(&self.own_key())
            && self
                .ops
                .iter()
                .any(|(_, op)| matches!(op.job, Job::Join(_)))
    }

    /// A node whose address is proven asks about a key.
    pub(super) fn on_asked(&mut self, from: &Contact, key: &Key) {
        if let Some(peer) = self.overlay.asked(self.now, from, key) {
            self.probe(peer);
        }
    }

    /// Asks a neighbour who is near to this node. Left out when that is under way, and when as many requests as fit are:
    /// there is always a next time.
    pub(super) fn ask_neighbour(&mut self, peer: Peer) {
        let tag = Tag::Neighbours;
        if !self.rpc.is_under_way(&peer.addr, tag) {
            let _ = self
                .rpc
                .request(self.now, &mut self.rng, peer, tag, Repeat::Once);
        }
    }

    /// A neighbour named those near to this node: whoever would be a contact is pinged, once; a second time if there is
    /// no answer while it is not known who the predecessor is, since that it is silent decides over keys then.
    pub(super) fn on_neighbours(&mut self, from: &Contact, contacts: &[u8]) {
        let repeat = if self.overlay.is_responsible(&self.own_key()) {
            Repeat::Never
        } else {
            Repeat::Once
        };
        let mut subnets: Fixed<u16, NAMED_PINGS_MAX> = Fixed::EMPTY;
        for contact in Contact::iter(contacts).take(P::Overlay::k()) {
            if contact
                == (Contact {
                    addr: PackedAddr::NONE,
                    ..*from
                })
            {
                // The neighbour itself: it owns the key that it was asked for.
                continue;
            }
            if contact == *from || self.acceptable(&contact).is_err() {
                self.dropped.count(Rule::BadContact);
                continue;
            }
            let wanted = self.overlay.judge(&contact) == Heard::Wanted;
            let asking = self.rpc.is_asking(&contact.addr);
            if !wanted || asking || self.rpc.is_unreached(self.now, &contact.addr) {
                continue;
            }
            let subnet = contact
                .addr
                .to_socket_addr()
                .map_or(0, |a| subnet_of(a).tag());
            let of_subnet = subnets.iter().filter(|&&other| other == subnet).count();
            let counts = !self.local;
            if (counts && of_subnet >= PINGS_PER_SUBNET) || subnets.push(subnet).is_err() {
                continue;
            }
            let stranger = Peer::stranger(contact.addr);
            // Full: there is always a next time.
            let _ = self
                .rpc
                .request(self.now, &mut self.rng, stranger, Tag::Probe, repeat);
        }
        let unreached = |addr: &PackedAddr| self.rpc.is_unreached(self.now, addr);
        if let Some(peer) = self.overlay.named(self.now, from, contacts, unreached) {
            self.probe(peer);
        }
    }
}
