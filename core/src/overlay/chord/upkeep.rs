//! Upkeep of the ring: the paper's `stabilize`, `check_predecessor` and `fix_fingers` (section IV-E), and what the
//! neighbours' answers say about who is there. Owns the schedules, and no other state; sends nothing.

use core::cmp::Ordering;

use crate::addr::PackedAddr;
use crate::bounded::List;
use crate::crypto::Crypto;
use crate::id::{ID_BYTES, Key, NodeId};
use crate::rng::Rng;
use crate::rpc::Peer;
use crate::time::{Deadline, Instant};
use crate::wire::datagram::Contact;

use super::{
    CHECK_MS, Chord, DOUBT_S, DOUBTS_MAX, FILL_PAUSE_MS, FINGER_MAX, FINGER_MS, JITTER_PERCENT,
    MEND_MS, NEIGHBOUR_SILENT_S, PREDECESSOR_SILENT_S, Predecessor, RECHECK_S,
    ROUNDS_TO_PREDECESSOR, STABILISE_MS,
};
use crate::overlay::{Entry, Overlay, Silent, Upkeep, Width, seconds};

/// The schedules of upkeep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    Stabilise,
    Check,
    Finger,
    Probe,
    Again,
}

impl Timer {
    pub(super) const ALL: [Self; 5] = [
        Self::Stabilise,
        Self::Check,
        Self::Finger,
        Self::Probe,
        Self::Again,
    ];
}

impl<L: List<Entry>, F: List<Silent>, W: Width> Chord<L, F, W> {
    /// Asks the successor who lies between, and is noticed by it. The predecessor is asked now and then who is before it,
    /// and at once when it is new because another one is gone.
    pub(super) fn stabilise<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        self.again(now, rng, Timer::Stabilise, STABILISE_MS);
        self.rounds = self.rounds.saturating_add(1);
        let backwards = !self.is_settled() || self.rounds >= ROUNDS_TO_PREDECESSOR;
        let asked = if backwards {
            if self.predecessor != Predecessor::Sought {
                self.rounds = 0;
            }
            self.entries.last()
        } else {
            self.entries.first()
        };
        asked.map_or(Upkeep::Nothing, |entry| Upkeep::Ask(entry.peer()))
    }

    /// Pings the predecessor if it is silent (`check_predecessor`), else the neighbour not heard for longest.
    pub(super) fn check<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        self.again(now, rng, Timer::Check, CHECK_MS);
        let silent_s = |entry: &Entry| seconds(now).saturating_sub(entry.seen_s);
        let last = self.entries.last();
        if let Some(last) = last.filter(|last| silent_s(last) >= PREDECESSOR_SILENT_S) {
            return Upkeep::Ping(last.peer());
        }
        let len = self.entries.len();
        let near = self.entries.iter().enumerate();
        let near =
            near.filter(|(at, _)| *at < Self::successors() || at + Self::predecessors() >= len);
        match near.map(|(_, entry)| entry).max_by_key(|e| silent_s(e)) {
            Some(entry) if silent_s(entry) >= NEIGHBOUR_SILENT_S => Upkeep::Ping(entry.peer()),
            Some(_) | None => Upkeep::Nothing,
        }
    }

    /// Whether the predecessor, as far as it is known, names a node between itself and this one that may be there.
    pub(super) fn names_one_between(
        &self,
        predecessor: &Contact,
        others: &[u8],
        unreached: impl Fn(&PackedAddr) -> bool,
    ) -> bool {
        let after = self.place(&predecessor.id);
        Contact::iter(others)
            .take(Self::k())
            .filter(|other| other.id != self.own && self.place(&other.id) > after)
            .any(|other| !self.aside.holds(&other) && !unreached(&other.addr))
    }

    /// Whether the contact at the end of the list is the predecessor.
    pub(super) fn is_settled(&self) -> bool {
        self.predecessor == Predecessor::Known
    }

    /// Somebody else is at the end of the list now: what the one there before said does not count.
    pub(super) fn begin_seeking(&mut self, now: Instant) {
        self.doubts = 0;
        if self.predecessor == Predecessor::Sought {
            self.rounds = 0;
        }
        self.seek(now);
    }

    /// Has the contact at the end of the list asked soon, if the predecessor went and it is not known whether this is the
    /// one before.
    pub(super) fn seek(&mut self, now: Instant) {
        if self.predecessor == Predecessor::Sought {
            self.set(Timer::Stabilise, Deadline::at(now.after_ms(MEND_MS)));
        }
    }

    /// A contact that the successor does not have in its list though it would belong there: it may be gone.
    pub(super) fn missing(&self, now: Instant, others: &[u8]) -> Option<Peer> {
        let others = || Contact::iter(others).take(Self::k());
        let half = power_behind(&self.own, FINGER_MAX);
        let half = self.place(&NodeId::from_bytes(*half.as_bytes()));
        let places = others().map(|other| self.place(&other.id));
        let reach = places.filter(|place| *place < half).max()?;
        let list = self.entries.iter().take(Self::successors()).skip(1);
        let missing = list
            .take_while(|entry| self.place(&entry.contact.id) < reach)
            .filter(|entry| seconds(now).saturating_sub(entry.seen_s) >= RECHECK_S)
            .find(|entry| !others().any(|other| other.id == entry.contact.id))?;
        Some(missing.peer())
    }

    /// Looks the next finger up, from half the ring down to those that are among the successors.
    pub(super) fn fix_finger<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        let covered = self.finger_at(Some(Self::successors() - 1));
        let is_needed = covered.is_some_and(|covered| self.finger > covered);
        if !is_needed {
            (self.filling, self.finger) = (false, FINGER_MAX);
            self.again(now, rng, Timer::Finger, FINGER_MS);
            return Upkeep::Nothing;
        }
        let target = power_behind(&self.own, self.finger);
        // Above zero: it is more than what is covered.
        self.finger = self.finger.saturating_sub(1);
        let pause_ms = if self.filling {
            FILL_PAUSE_MS
        } else {
            FINGER_MS
        };
        self.again(now, rng, Timer::Finger, pause_ms);
        Upkeep::Lookup(target)
    }

    /// The predecessor named others in between. Whether it did so often enough: they were pinged, nobody came of it, and so
    /// they are gone or never were.
    pub(super) fn is_doubted_enough(&mut self, now: Instant) -> bool {
        let now_s = seconds(now);
        if self.doubts == 0 || now_s.saturating_sub(self.doubted_s) >= DOUBT_S {
            self.doubts = self.doubts.saturating_add(1);
            self.doubted_s = now_s;
        }
        self.doubts > DOUBTS_MAX
    }

    pub(super) fn timer(&self, timer: Timer) -> Deadline {
        let at = self.timers.get(timer as usize);
        at.copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, timer: Timer, at: Deadline) {
        if let Some(place) = self.timers.get_mut(timer as usize) {
            *place = at;
        }
    }

    /// Sets a timer again, in about so many ms.
    pub(super) fn again<C: Crypto>(
        &mut self,
        now: Instant,
        rng: &mut Rng<C>,
        timer: Timer,
        ms: u64,
    ) {
        let at = now.after_ms(rng.jitter(ms, JITTER_PERCENT));
        self.set(timer, Deadline::at(at));
    }

    pub(super) fn timers_of_aside(&mut self) {
        self.set(Timer::Probe, self.aside.wake());
    }
}

/// The key 2^`power` behind an id.
pub(super) fn power_behind(id: &NodeId, power: u8) -> Key {
    let mut bytes = *id.as_bytes();
    let whole = ID_BYTES - 1 - usize::from(power / 8);
    let mut carry = 0x01_u8 << (power % 8);
    for (at, byte) in bytes.iter_mut().enumerate().rev() {
        match at.cmp(&whole) {
            Ordering::Greater => {}
            Ordering::Equal | Ordering::Less => {
                let (sum, over) = byte.overflowing_add(carry);
                *byte = sum;
                carry = u8::from(over);
            }
        }
    }
    Key::from_bytes(bytes)
}
