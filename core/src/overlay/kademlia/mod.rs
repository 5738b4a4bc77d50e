//! Kademlia's routing table (Maymounkov and Mazières 2002): contacts by the length of the prefix that they
//! share with the own id.
//!
//! Owns the contacts, those in reserve and those set aside, and the schedule of upkeep. All contacts lie in
//! one list, by ascending bucket (shared bits), and within a bucket by when they were last heard, so that a
//! small network takes little memory and a lookup visits few. Invariants: the list is sorted by bucket; a
//! contact is in at most one of the three lists; a bucket holds at most k contacts, or twice that where it
//! holds some of the k nearest neighbours.
//!
//! A full bucket keeps who is in it, as the paper has it, with one exception: a server's bucket is taken as sixteen
//! parts, and a newcomer to one where nobody is takes a place in the fullest. Buckets are filled by lookups, each of
//! which finds neighbours of one another; spread over the parts they save a fifth of the steps of a lookup. Whoever
//! wants to be in a table by that has to have an id in an empty part, and has one place for it, once.

mod guide;
mod places;
mod upkeep;

use core::marker::PhantomData;

use crate::addr::PackedAddr;
use crate::bounded::List;
use crate::crypto::Crypto;
use crate::id::{Distance, Key, NodeId};
use crate::rng::Rng;
use crate::rpc::Rtt;
use crate::time::{Deadline, Instant};
use crate::wire::datagram::{Contact, NO_TOKEN, Token};

#[cfg(feature = "alloc")]
pub use self::guide::Noted;
pub use self::guide::{Guide, Plain};
use self::places::{Room, differs};
use super::{
    Change, Entry, Heard, K, Nearest, Neighbour, Overlay, Responsibility, Silent, Spare, Upkeep,
    Usual, Width, seconds,
};

/// Every part of the table is looked up once in this time, in ms.
pub const REFRESH_MS: u64 = 60 * 60 * 1_000;
/// Pause between the lookups that fill the table after joining, in ms.
pub const FILL_PAUSE_MS: u64 = 300;
/// How often a silent neighbour is looked for, in ms.
pub const CHECK_MS: u64 = 30 * 1_000;
/// A neighbour that was not heard for this long is pinged, in seconds.
pub const NEIGHBOUR_SILENT_S: u32 = 3 * 60;
/// How often one of the contacts set aside is pinged, in ms.
pub const PROBE_MS: u64 = 30 * 1_000;
/// How soon the next one is pinged after one answered, in ms.
pub const PROBE_AGAIN_MS: u64 = 1_000;
/// How long contacts are kept aside, in seconds.
pub const SILENT_S: u32 = 24 * 60 * 60;
/// A contact heard within this time is not pinged to make place for another, in seconds.
pub const FRESH_S: u32 = 60;
/// Deviation of every schedule, in percent.
const JITTER_PERCENT: u32 = 25;

/// The three schedules of upkeep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timer {
    Refresh,
    Check,
    Probe,
}

impl Timer {
    const ALL: [Self; 3] = [Self::Refresh, Self::Check, Self::Probe];
}

/// A routing table: contacts in `L`, those in reserve in `S`, those set aside in `F`; `G` finds them; `W` wide.
#[derive(Clone, Debug)]
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct Kademlia<L, S, F, G = Plain, W = Usual> {
    timers: [Deadline; Timer::ALL.len()],
    own: NodeId,
    /// What is looked up next: 0 for the own id, else one more than the bucket.
    cursor: u8,
    /// The table is being filled after joining.
    filling: bool,
    /// Nearest neighbours may differ from those told.
    neighbours_changed: bool,
    /// See [`Kademlia::responsible_bits`]; more than fit are never shared.
    responsible_told: u8,
    width: PhantomData<fn() -> W>,
    guide: G,
    /// The newest last.
    spares: S,
    /// The one to be pinged next first.
    silent: F,
    /// Sorted by bucket, then by when they were last heard.
    entries: L,
}

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>, G: Guide, W: Width> Overlay
    for Kademlia<L, S, F, G, W>
{
    type Width = W;

    const EMPTY: Self = {
        assert!(
            L::CAPACITY > K && L::CAPACITY < u16::MAX as usize,
            "places are 16 bits"
        );
        Self {
            own: NodeId::ZERO,
            entries: L::EMPTY,
            guide: G::EMPTY,
            spares: S::EMPTY,
            silent: F::EMPTY,
            timers: [Deadline::NEVER; Timer::ALL.len()],
            cursor: 0,
            filling: false,
            neighbours_changed: false,
            responsible_told: 0,
            width: PhantomData,
        }
    };
    const MARK: [u8; 4] = [0; 4];
    const CAPACITY: usize = L::CAPACITY;

    fn near() -> usize {
        Self::k()
    }

    fn distance(key: &Key, id: &NodeId) -> Distance {
        Distance::between(id.as_bytes(), key.as_bytes())
    }

    fn start(&mut self, own: NodeId) {
        *self = Self { own, ..Self::EMPTY };
        self.guide.start(&own);
    }

    fn entries(&self) -> &[Entry] {
        self.entries.as_slice()
    }

    fn find(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.get(self.place_of(id)?)
    }

    fn nearest(&self, target: &Key) -> Nearest {
        let distance = Distance::between(self.own.as_bytes(), target.as_bytes());
        let mut nearest = Nearest::EMPTY;
        // Contacts that differ from this node first at bit b are nearer to the target than this node if the
        // target differs there too, and the more so the smaller b is. The others are farther, and the more
        // so the smaller b is.
        let mut at = self.bucket_start(distance.leading_zeros());
        while at < self.entries.len() && nearest.len() < Self::k() {
            let end = self.run_end(at);
            if differs(&distance, self.bucket_at(at)) {
                self.append(target, at, end, &mut nearest);
            }
            at = end;
        }
        let mut end = self.entries.len();
        while end > 0 && nearest.len() < Self::k() {
            let start = self.run_start(end);
            if !differs(&distance, self.bucket_at(start)) {
                self.append(target, start, end, &mut nearest);
            }
            end = start;
        }
        nearest
    }

    fn nearer_than_own(&self, key: &Key, limit: usize) -> usize {
        let distance = Distance::between(self.own.as_bytes(), key.as_bytes());
        let mut count = 0;
        let mut at = self.bucket_start(distance.leading_zeros());
        while at < self.entries.len() && count < limit {
            let end = self.run_end(at);
            if differs(&distance, self.bucket_at(at)) {
                count += end - at;
            }
            at = end;
        }
        count.min(limit)
    }

    fn is_responsible(&self, key: &Key) -> bool {
        self.nearer_than_own(key, Self::replication()) < Self::replication()
    }

    fn answered(
        &mut self,
        now: Instant,
        contact: Contact,
        token: Token,
        rtt_ms: Option<u64>,
    ) -> Change {
        if contact.id == self.own {
            return Change::default();
        }
        if let Some(place) = self.place_of(&contact.id) {
            return self.answered_again(now, place, &contact, token, rtt_ms);
        }
        let mut rtt = Rtt::UNKNOWN;
        if let Some(ms) = rtt_ms {
            rtt.sample(ms);
        }
        self.spares
            .retain(|spare| !is_one_of(&spare.contact, &contact));
        self.no_longer_silent(now, &contact);
        // Whoever lived at the address before does not any more.
        let earlier = self
            .entries
            .iter()
            .position(|entry| entry.contact.addr == contact.addr);
        let gone = earlier.and_then(|place| self.remove(place));
        let bucket = self.bucket_of(&contact.id);
        let newcomer = Spare {
            contact,
            token,
            rtt,
            bucket,
        };
        let down = match self.room(&contact.id, bucket) {
            Room::Free => None,
            Room::Of(place) => self.remove(place),
            Room::None(oldest) => {
                if self.spares.is_full() {
                    self.spares.remove(0);
                }
                // Full only when the plan has no places at all: then it is forgotten.
                let _ = self.spares.push(newcomer);
                let oldest = oldest.and_then(|place| self.entries.get(place));
                let probe = oldest
                    .filter(|entry| seconds(now).saturating_sub(entry.seen_s) >= FRESH_S)
                    .map(Entry::peer);
                return Change {
                    added: None,
                    down: gone,
                    probe,
                };
            }
        };
        self.insert(now, newcomer.entry(now));
        Change {
            added: Some(contact),
            down: gone.or(down),
            probe: None,
        }
    }

    fn heard(&mut self, now: Instant, contact: Contact) -> Heard {
        match self.place_of(&contact.id) {
            Some(place)
                if self
                    .entries
                    .get(place)
                    .is_some_and(|e| e.contact == contact) =>
            {
                self.refresh(now, place);
                Heard::Known
            }
            // Somebody else uses its id, or it moved: the old address has to fail first.
            Some(_) => Heard::Unwanted,
            None => self.judge(&contact),
        }
    }

    fn judge(&self, contact: &Contact) -> Heard {
        if contact.id == self.own {
            return Heard::Unwanted;
        }
        if let Some(place) = self.place_of(&contact.id) {
            let known = self
                .entries
                .get(place)
                .is_some_and(|e| e.contact == *contact);
            return if known { Heard::Known } else { Heard::Unwanted };
        }
        let bucket = self.bucket_of(&contact.id);
        match self.room(&contact.id, bucket) {
            Room::Free | Room::Of(_) => Heard::Wanted,
            Room::None(_) => Heard::Unwanted,
        }
    }

    fn failed(&mut self, now: Instant, addr: &PackedAddr) -> Change {
        self.spares.retain(|spare| spare.contact.addr != *addr);
        let Some(place) = self
            .entries
            .iter()
            .position(|entry| entry.contact.addr == *addr)
        else {
            return Change::default();
        };
        let contact = self.entries.get(place).map(|entry| entry.contact);
        let change = self.take_out(now, place);
        if let Some(contact) = contact {
            self.set_aside(now, contact);
        }
        change
    }

    fn left(&mut self, now: Instant, contact: &Contact) -> Change {
        self.spares.retain(|spare| spare.contact != *contact);
        match self.place_of_contact(contact) {
            Some(place) => self.take_out(now, place),
            None => Change::default(),
        }
    }

    fn next_upkeep(&self) -> Deadline {
        let timers = self.timers.iter().copied();
        timers.fold(Deadline::NEVER, Deadline::or)
    }

    fn upkeep<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        let due = Timer::ALL.into_iter().find(|&timer| {
            let at = self.timers.get(timer as usize);
            at.is_some_and(|at| at.is_due(now))
        });
        match due {
            Some(Timer::Refresh) => self.refresh_next(now, rng),
            Some(Timer::Check) => self.check_neighbour(now, rng),
            Some(Timer::Probe) => self.probe_silent(now, rng),
            None => Upkeep::Nothing,
        }
    }

    fn joined(&mut self, now: Instant) {
        if !self.entries.is_empty() {
            self.filling = true;
            self.cursor = self.cursor_max();
            self.set(Timer::Refresh, now.after_ms(FILL_PAUSE_MS));
        }
    }

    fn pop_neighbour(&mut self) -> Option<Neighbour> {
        if !self.neighbours_changed {
            return None;
        }
        let near = self.nearest(&Key::from_bytes(*self.own.as_bytes()));
        let near = near
            .as_slice()
            .get(..Self::replication())
            .unwrap_or(near.as_slice());
        let is_near = |place: usize| near.iter().any(|&at| usize::from(at) == place);
        let gone = self
            .entries
            .iter()
            .enumerate()
            .find(|(at, e)| e.neighbour && !is_near(*at));
        let changed = gone.map(|(at, _)| at).or_else(|| {
            let mut places = near.iter().map(|&at| usize::from(at));
            places.find(|&at| self.entries.get(at).is_some_and(|e| !e.neighbour))
        });
        let Some(entry) = changed.and_then(|at| self.entries.get_mut(at)) else {
            self.neighbours_changed = false;
            return None;
        };
        Some(entry.turn_neighbour())
    }

    fn pop_responsibility(&mut self) -> Option<Responsibility> {
        let prefix_bits = self.responsible_bits();
        let telling = u8::try_from(prefix_bits).unwrap_or(u8::MAX);
        if telling == self.responsible_told {
            return None;
        }
        self.responsible_told = telling;
        Some(Responsibility::Radius { prefix_bits })
    }
}

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>, G: Guide, W: Width> Kademlia<L, S, F, G, W> {
    /// The number of leading bits that a key must share with this node for it to be certainly among
    /// the nearest, those that hold a record.
    fn responsible_bits(&self) -> u16 {
        // Of the keys that share b bits with this node, only contacts that share as many can be nearer.
        let len = self.entries.len();
        match len.checked_sub(Self::replication()) {
            Some(at) => u16::from(self.bucket_at(at)) + 1,
            None => 0,
        }
    }

    /// Inserts an entry for which there is room, as the one of its bucket heard last.
    fn insert(&mut self, now: Instant, entry: Entry) {
        let at = self.bucket_start(u32::from(entry.bucket) + 1);
        // Refused only when the allocator has no memory: the contact is not kept.
        if !self.guide.insert(at, &entry) {
            return;
        }
        if self.entries.insert(at, entry).is_err() {
            self.guide.remove(at, entry.bucket);
            return;
        }
        self.neighbours_changed |= self.may_be_near(entry.bucket);
        for (timer, ms) in [(Timer::Refresh, REFRESH_MS), (Timer::Check, CHECK_MS)] {
            self.set_unless_set(timer, now.after_ms(ms));
        }
    }

    /// Takes an entry out of the list. Tells who it was if it was a neighbour.
    fn remove(&mut self, place: usize) -> Option<NodeId> {
        let old = self.entries.get(place)?;
        let (bucket, down) = (old.bucket, old.neighbour.then_some(old.contact.id));
        self.neighbours_changed |= self.may_be_near(bucket);
        self.guide.remove(place, bucket);
        self.entries.remove(place);
        down
    }

    /// Whether contacts of a bucket may be among the nearest, those that hold a record: they are the last.
    fn may_be_near(&self, bucket: u8) -> bool {
        bucket >= self.bucket_at(self.entries.len().saturating_sub(Self::replication()))
    }

    /// Takes an entry out and puts the newest spare of its bucket in its place.
    fn take_out(&mut self, now: Instant, place: usize) -> Change {
        let bucket = self.bucket_at(place);
        let down = self.remove(place);
        let spare = self
            .spares
            .as_slice()
            .iter()
            .rposition(|spare| spare.bucket == bucket);
        let spare = spare.and_then(|at| self.spares.remove(at));
        let added = spare.map(|spare| {
            self.insert(now, spare.entry(now));
            spare.contact
        });
        Change {
            added,
            down,
            probe: None,
        }
    }

    fn answered_again(
        &mut self,
        now: Instant,
        place: usize,
        contact: &Contact,
        token: Token,
        rtt_ms: Option<u64>,
    ) -> Change {
        let Some(entry) = self.entries.get_mut(place) else {
            return Change::default();
        };
        if entry.contact.addr != contact.addr {
            // Two addresses claim one id: the old one stays unless it fails.
            let silent_s = seconds(now).saturating_sub(entry.seen_s);
            let probe = (silent_s >= FRESH_S).then(|| entry.peer());
            return Change {
                probe,
                ..Change::default()
            };
        }
        if token != NO_TOKEN {
            entry.token = token;
        }
        if let Some(ms) = rtt_ms {
            entry.rtt.sample(ms);
        }
        self.refresh(now, place);
        Change::default()
    }

    /// Notes that a contact was heard: it goes to the end of its bucket.
    fn refresh(&mut self, now: Instant, place: usize) {
        let end = self.run_end(place);
        if let Some(entry) = self.entries.get_mut(place) {
            entry.seen_s = seconds(now);
        }
        self.guide.rotate(place..end);
        if let Some(run) = self.entries.as_mut_slice().get_mut(place..end)
            && let Some(&entry) = run.first()
        {
            run.copy_within(1.., 0);
            if let Some(last) = run.last_mut() {
                *last = entry;
            }
        }
    }

    /// Keeps a contact that failed for later pings; the one silent for longest makes place.
    fn set_aside(&mut self, now: Instant, contact: Contact) {
        self.silent.retain(|silent| silent.contact.id != contact.id);
        if self.silent.is_full() {
            let oldest = self
                .silent
                .iter()
                .enumerate()
                .min_by_key(|(_, silent)| silent.since_s);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.silent.remove(at);
            }
        }
        // Full only when the plan has no places at all.
        let _ = self.silent.push(Silent {
            contact,
            since_s: seconds(now),
        });
        self.set_unless_set(Timer::Probe, now.after_ms(PROBE_MS));
    }

    /// A contact is back: perhaps the network healed, so the others are asked soon.
    fn no_longer_silent(&mut self, now: Instant, contact: &Contact) {
        let before = self.silent.len();
        self.silent.retain(|silent| silent.contact.id != contact.id);
        if self.silent.len() < before && !self.silent.is_empty() {
            self.set(Timer::Probe, now.after_ms(PROBE_AGAIN_MS));
        }
    }
}

/// Whether two contacts share id or address, so that at most one of them is there.
fn is_one_of(a: &Contact, b: &Contact) -> bool {
    a.id == b.id || a.addr == b.addr
}

#[cfg(test)]
mod tests;
