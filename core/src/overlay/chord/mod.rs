//! Chord's ring (Stoica et al. 2003): each key belongs to the first node at it or behind it, clockwise.
//!
//! Owns the contacts, those set aside, and the schedule of upkeep. All contacts lie in one list, by their distance
//! clockwise from the own id, so that the paper's pointers are places in it: the successor list is its beginning,
//! the predecessor its end, and the finger of a power of two the first contact at that distance or beyond it.
//! Nobody is kept who is none of these. A node that asks is thereby noticed (the paper's `notify`): it is pinged, and
//! taken in if it is nearer than the successor or the predecessor known so far.
//! Invariants: the list is sorted, without the own id; keys are only claimed as the own ones while the contact at
//! the end of the list is known to be the predecessor, and not merely the last one that is left.

mod places;
mod upkeep;

use core::marker::PhantomData;

use crate::addr::PackedAddr;
use crate::bounded::List;
use crate::crypto::Crypto;
use crate::id::{Distance, Key, NodeId};
use crate::rng::Rng;
use crate::rpc::Peer;
use crate::time::{Deadline, Instant};
use crate::wire::datagram::{Contact, Token};

use upkeep::Timer;

use super::aside::Aside;
use super::{
    Change, Entry, Heard, K, Nearest, Neighbour, Overlay, REPLICATION, Responsibility, Silent,
    Upkeep, Usual, Width, seconds,
};

/// How often the successor is asked who lies between, in ms: one round of the paper's `stabilize`.
pub const STABILISE_MS: u64 = 30 * 1_000;
/// After so many rounds the predecessor is asked in place of the successor: who was before it?
pub const ROUNDS_TO_PREDECESSOR: u8 = 4;
/// How soon the ring is mended after the predecessor or the successor is gone, in ms.
pub const MEND_MS: u64 = 20;
/// One finger is looked up in this time, in ms (`fix_fingers`).
pub const FINGER_MS: u64 = 30 * 1_000;
/// Pause between the lookups that find all fingers after joining, in ms.
pub const FILL_PAUSE_MS: u64 = 300;
/// A predecessor that so often named others between itself and this node, of whom none came, is believed to be the
/// predecessor all the same: it may be lying.
pub const DOUBTS_MAX: u8 = 3;
/// How often a predecessor is asked anew because one that it named did not answer its ping.
pub const SEEKS_MAX: u8 = 6;
/// Being told so again counts after this time, in seconds: whoever was named was pinged meanwhile.
pub const DOUBT_S: u32 = 10;
/// How often a silent neighbour is looked for, in ms.
pub const CHECK_MS: u64 = 10 * 1_000;
/// A predecessor that was not heard for this long is pinged, in seconds (`check_predecessor`): it asks once in
/// [`STABILISE_MS`] by itself.
pub const PREDECESSOR_SILENT_S: u32 = 40;
/// Any other neighbour that was not heard for this long is pinged, in seconds.
pub const NEIGHBOUR_SILENT_S: u32 = 3 * 60;
/// A predecessor that was not heard for this long is pinged when somebody looks for a key that it or one before it owns,
/// in seconds.
pub const RECHECK_S: u32 = 2;
/// How long a lookup that did not find the owner waits before it begins again, in ms. Until then whoever is asked
/// about a key of a predecessor that is gone has mostly noticed that.
pub const AGAIN_MS: u64 = 700;
/// An old address of a contact is pinged when another claims its id, unless it was heard within this time, in
/// seconds.
pub const FRESH_S: u32 = 60;
/// How many nodes before a key a reply with [`K`] names beside those that hold it; with fewer, as large a share.
const BEFORE_KEY: usize = 6;
/// How many nodes before a key a reply usually names when that is all that this node can tell.
pub(super) const BEFORE_FAR_KEY: usize = 8;
/// Deviation of every schedule, in percent.
const JITTER_PERCENT: u32 = 25;
/// The finger at half the ring.
const FINGER_MAX: u8 = u8::MAX;

const _: () = assert!(BEFORE_KEY < K && BEFORE_FAR_KEY <= K);
// However many hold a record, a list of contacts has places for other than predecessors.
const _: () = assert!(4 * REPLICATION > K + 1);
const _: () = assert!(PREDECESSOR_SILENT_S as u64 * 1_000 > STABILISE_MS * 5 / 4);

/// How many of the `k` nodes that a reply names lie at a key or behind it, where those before it are named too.
pub(super) const fn behind_key(k: usize) -> usize {
    let before = if k < K {
        k * BEFORE_KEY / K
    } else {
        BEFORE_KEY
    };
    k - before
}

/// What is known of the contact at the end of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Predecessor {
    /// Nothing: this node has not joined.
    Unknown,
    /// The predecessor went, and this is who is left: perhaps somebody is between.
    Sought,
    /// It is the predecessor.
    Known,
}

/// A place on the ring: contacts in `L`, those set aside in `F`.
#[derive(Clone, Debug)]
pub struct Chord<L, F, W = Usual> {
    own: NodeId,
    /// By distance from the own id, clockwise: successors first, predecessors last.
    entries: L,
    aside: Aside<F>,
    timers: [Deadline; Timer::ALL.len()],
    /// The power of two whose finger is looked up next.
    finger: u8,
    /// All fingers are being looked up after joining.
    filling: bool,
    /// Rounds since the predecessor was asked; while it is sought, how often the one at the end of the list was.
    rounds: u8,
    predecessor: Predecessor,
    /// How often the contact at the end of the list named others in between, and when last, in seconds.
    doubts: u8,
    doubted_s: u32,
    /// Neighbours may differ from those told.
    neighbours_changed: bool,
    /// The range was told once.
    told: bool,
    /// The predecessor as told; the own id: the range was the whole ring.
    told_after: NodeId,
    width: PhantomData<fn() -> W>,
}

impl<L: List<Entry>, F: List<Silent>, W: Width> Overlay for Chord<L, F, W> {
    type Width = W;

    const EMPTY: Self = {
        assert!(
            L::CAPACITY >= 4 * REPLICATION && L::CAPACITY < u16::MAX as usize,
            "the replicas' holders before and behind, fingers, and places of 16 bits"
        );
        Self {
            own: NodeId::ZERO,
            entries: L::EMPTY,
            aside: Aside::EMPTY,
            timers: [Deadline::NEVER; Timer::ALL.len()],
            finger: 0,
            filling: false,
            rounds: 0,
            predecessor: Predecessor::Unknown,
            doubts: 0,
            doubted_s: 0,
            neighbours_changed: false,
            told: false,
            told_after: NodeId::ZERO,
            width: PhantomData,
        }
    };
    const MARK: [u8; 4] = *b"ring";
    const CAPACITY: usize = L::CAPACITY;
    const RING: bool = true;

    fn near() -> usize {
        Self::replication()
    }

    fn distance(key: &Key, id: &NodeId) -> Distance {
        Distance::clockwise(key.as_bytes(), id.as_bytes())
    }

    fn start(&mut self, own: NodeId) {
        *self = Self { own, ..Self::EMPTY };
    }

    fn entries(&self) -> &[Entry] {
        self.entries.as_slice()
    }

    fn find(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.get(self.place_of(id)?)
    }

    fn nearest(&self, target: &Key) -> Nearest {
        let (at, len) = (self.first_at(target), self.entries.len());
        let mut nearest = Nearest::EMPTY;
        append(&mut nearest, (at..len).chain(0..at), Self::k());
        nearest
    }

    /// Close to the own place on the ring: who owns the target and who comes next, then those before it. Far from
    /// there: those before it alone, the closest first (the paper's `closest_preceding_node`).
    fn towards(&self, target: &Key) -> Nearest {
        let (at, len) = (self.first_at(target), self.entries.len());
        let before_own = len.saturating_sub(Self::predecessors());
        let after_own = len.min(Self::successors());
        let mut towards = Nearest::EMPTY;
        let before = (0..at).rev();
        if at < after_own {
            let end = if len > after_own { after_own } else { len };
            append(&mut towards, at..end, W::named_behind());
            append(
                &mut towards,
                before.chain((before_own.max(end)..len).rev()),
                W::named(),
            );
            // A ring of which this node knows every other: they all come behind any key.
            append(&mut towards, at..end, W::named());
        } else if at > before_own || at == len {
            append(
                &mut towards,
                (at..len).chain(0..after_own),
                behind_key(Self::k()),
            );
            append(&mut towards, before, Self::k());
        } else {
            append(&mut towards, before, W::named_far());
        }
        towards
    }

    fn nearer_than_own(&self, key: &Key, limit: usize) -> usize {
        if key.as_bytes() == self.own.as_bytes() {
            return 0;
        }
        (self.entries.len() - self.first_at(key)).min(limit)
    }

    fn is_responsible(&self, key: &Key) -> bool {
        self.entries.is_empty() || (self.is_settled() && self.nearer_than_own(key, 1) == 0)
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
        if let Some(entry) = self.find_mut(&contact.id) {
            let probe = entry.answered_again(now, &contact, token, rtt_ms, FRESH_S);
            return Change {
                probe,
                ..Change::default()
            };
        }
        self.aside.answered(now, &contact);
        self.timers_of_aside();
        // Whoever lived at the address before does not any more.
        let gone = self.take_out(now, |entry| entry.contact.addr == contact.addr);
        let mut change = Change {
            added: None,
            down: gone.and_then(|entry| entry.neighbour.then_some(entry.contact.id)),
            probe: None,
        };
        if let Ok(victim) = self.room(&contact.id) {
            let victim = victim.and_then(|place| self.entries.remove(place));
            let victim = victim.filter(|entry| entry.neighbour);
            change.down = change.down.or(victim.map(|entry| entry.contact.id));
            let finger = self.finger_of(&contact.id);
            let entry = Entry::new(now, contact, token, rtt_ms, finger);
            change.added = self.insert(now, entry).then_some(contact);
        }
        change
    }

    fn heard(&mut self, now: Instant, contact: Contact) -> Heard {
        match self.find_mut(&contact.id) {
            Some(entry) if entry.contact == contact => {
                entry.seen_s = seconds(now);
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
        match self.find(&contact.id) {
            Some(entry) if entry.contact == *contact => Heard::Known,
            Some(_) => Heard::Unwanted,
            None if self.room(&contact.id).is_ok() => Heard::Wanted,
            None => Heard::Unwanted,
        }
    }

    /// The paper's `notify`, and what speeds up `check_predecessor`: a key that a predecessor owns is asked for here
    /// where those before this node do not answer. The last of them goes first: one after the other they make this node
    /// the owner.
    fn asked(&mut self, now: Instant, from: &Contact, key: &Key) -> Option<Peer> {
        let last = self.entries.last()?;
        if last.contact == *from && key.as_bytes() == from.id.as_bytes() {
            // It asks for its own place, and came to this node: it knows of none between.
            self.predecessor = Predecessor::Known;
        }
        let (at, len) = (self.first_at(key), self.entries.len());
        let is_before = at < len && at + Self::predecessors() >= len;
        let silent_s = seconds(now).saturating_sub(last.seen_s);
        (is_before && silent_s >= RECHECK_S).then(|| last.peer())
    }

    fn named(
        &mut self,
        now: Instant,
        from: &Contact,
        others: &[u8],
        unreached: impl Fn(&PackedAddr) -> bool,
    ) -> Option<Peer> {
        let is = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.contact == *from);
        if is(self.entries.last())
            && !self.is_settled()
            && (!self.names_one_between(from, others, unreached) || self.is_doubted_enough(now))
        {
            self.predecessor = Predecessor::Known;
        }
        if is(self.entries.first()) {
            self.missing(now, others)
        } else {
            None
        }
    }

    fn failed(&mut self, now: Instant, addr: &PackedAddr) -> Change {
        let gone = self.take_out(now, |entry| entry.contact.addr == *addr);
        if let Some(entry) = gone {
            self.aside.push(now, entry.contact);
            self.timers_of_aside();
        } else if self.doubts > 0 && self.rounds < SEEKS_MAX {
            // Perhaps it was named between the predecessor and this node.
            self.seek(now);
        }
        Change {
            down: gone.and_then(|entry| entry.neighbour.then_some(entry.contact.id)),
            ..Change::default()
        }
    }

    fn left(&mut self, now: Instant, contact: &Contact) -> Change {
        let gone = self.take_out(now, |entry| entry.contact == *contact);
        Change {
            down: gone.and_then(|entry| entry.neighbour.then_some(entry.contact.id)),
            ..Change::default()
        }
    }

    fn lacked(&mut self, now: Instant) {
        if self.timer(Timer::Again).is_never() {
            self.set(Timer::Again, Deadline::at(now.after_ms(AGAIN_MS)));
        }
    }

    fn next_upkeep(&self) -> Deadline {
        let timers = self.timers.iter().copied();
        timers.fold(Deadline::NEVER, Deadline::or)
    }

    fn upkeep<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        let is_due = |timer: &Timer| self.timer(*timer).is_due(now);
        match Timer::ALL.into_iter().find(is_due) {
            Some(Timer::Stabilise) => self.stabilise(now, rng),
            Some(Timer::Check) => self.check(now, rng),
            Some(Timer::Finger) => self.fix_finger(now, rng),
            Some(Timer::Probe) => {
                let silent = self.aside.next(now, rng);
                self.timers_of_aside();
                silent.map_or(Upkeep::Nothing, |contact| {
                    Upkeep::Ping(Peer::stranger(contact.addr))
                })
            }
            Some(Timer::Again) => {
                self.set(Timer::Again, Deadline::NEVER);
                Upkeep::LookAgain
            }
            None => Upkeep::Nothing,
        }
    }

    fn joined(&mut self, now: Instant) {
        if !self.entries.is_empty() {
            self.predecessor = Predecessor::Known;
            self.filling = true;
            self.finger = FINGER_MAX;
            self.set(Timer::Finger, Deadline::at(now.after_ms(FILL_PAUSE_MS)));
        }
    }

    fn pop_neighbour(&mut self) -> Option<Neighbour> {
        if !self.neighbours_changed {
            return None;
        }
        let len = self.entries.len();
        // The predecessor, and the successors that hold what this node owns.
        let holders = Self::successors().min(Self::replication() - 1);
        let is_near = |place: usize| place + 1 == len || place < holders;
        let mut entries = self.entries.iter().enumerate();
        let gone = entries.clone().find(|(at, e)| e.neighbour && !is_near(*at));
        let changed = gone.or_else(|| entries.find(|(at, e)| !e.neighbour && is_near(*at)));
        let changed = changed.map(|(at, _)| at);
        let Some(entry) = changed.and_then(|at| self.entries.get_mut(at)) else {
            self.neighbours_changed = false;
            return None;
        };
        Some(entry.turn_neighbour())
    }

    fn pop_responsibility(&mut self) -> Option<Responsibility> {
        let after = match self.entries.last() {
            None => self.own,
            Some(last) if self.is_settled() => last.contact.id,
            Some(_) => {
                // Nothing is owned for sure now: the range is told again when it is, though it may be the same.
                self.told = false;
                return None;
            }
        };
        if self.own == NodeId::ZERO || (self.told && self.told_after == after) {
            return None;
        }
        (self.told, self.told_after) = (true, after);
        Some(Responsibility::Range {
            after: Key::from_bytes(*after.as_bytes()),
            last: Key::from_bytes(*self.own.as_bytes()),
        })
    }
}

/// Appends places that are not there yet, as long as there are fewer than `limit`.
fn append(nearest: &mut Nearest, places: impl Iterator<Item = usize>, limit: usize) {
    for place in places {
        // Places fit 16 bits.
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        if nearest.len() >= limit.min(K) {
            return;
        }
        if !nearest.iter().any(|&other| other == place) {
            // There is room.
            let _ = nearest.push(place);
        }
    }
}

#[cfg(test)]
mod tests;
