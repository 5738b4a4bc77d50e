//! Requests under way: transactions, address tokens, round-trip times and time-outs.
//!
//! Owns which requests were sent to whom, when each is given up, and which token an address gets. Does
//! not know what a request says: a [`Tag`] travels with it, from which the parent builds the bytes at
//! poll time, also for a repetition. Invariant: every request ends exactly once, by an answer from the
//! address that was asked or by a time-out, and is in the outgoing queue at most once.

use crate::addr::PackedAddr;
use crate::bounded::{BlobId, Handle, Index, List, Ring, Slab};
use crate::crypto::Crypto;
use crate::plan::Plan;
use crate::records::RecordId;
use crate::rng::Rng;
use crate::rules::Rule;
use crate::time::{Deadline, Instant};
use crate::wire::datagram::{NO_TOKEN, Token, Transaction};

/// Shortest adaptive time-out in ms.
pub const TIMEOUT_MIN_MS: u16 = 200;
/// Longest adaptive time-out in ms.
pub const TIMEOUT_MAX_MS: u16 = 2_000;
/// Time-out in ms while no round-trip time at all is known.
pub const TIMEOUT_UNKNOWN_MS: u16 = 1_000;
/// An answer is late, and others are asked meanwhile, no sooner than after this time in ms.
pub const LATE_MIN_MS: u16 = 20;
/// A stranger that did not answer a ping is not pinged again for this time, in ms, whoever names it.
pub const UNREACHED_MS: u64 = 2_000;
/// How long a token is given out, in seconds; it is accepted for one epoch more.
pub const TOKEN_EPOCH_S: u64 = 60 * 60;

const _: () = assert!(LATE_MIN_MS < TIMEOUT_MIN_MS);
const _: () = assert!(TIMEOUT_MIN_MS < TIMEOUT_UNKNOWN_MS && TIMEOUT_UNKNOWN_MS < TIMEOUT_MAX_MS);

/// A smoothed round-trip time and its variation, in ms (Jacobson and Karels 1988; RFC 6298, section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rtt {
    /// Smoothed; 0 while nothing is known.
    smoothed_ms: u16,
    variation_ms: u16,
}

impl Rtt {
    /// Nothing is known yet; all zero.
    pub const UNKNOWN: Self = Self {
        smoothed_ms: 0,
        variation_ms: 0,
    };

    /// Learns a measured round-trip time. One below a millisecond counts as one.
    pub fn sample(&mut self, ms: u64) {
        let ms = u16::try_from(ms.clamp(1, u64::from(TIMEOUT_MAX_MS))).unwrap_or(TIMEOUT_MAX_MS);
        if self.smoothed_ms == 0 {
            *self = Self {
                smoothed_ms: ms,
                variation_ms: ms / 2,
            };
            return;
        }
        let off = self.smoothed_ms.abs_diff(ms);
        // Weights of an eighth and a quarter; no value exceeds `TIMEOUT_MAX_MS`, so no sum overflows.
        self.variation_ms = (self.variation_ms * 3 + off) / 4;
        self.smoothed_ms = ((self.smoothed_ms * 7 + ms) / 8).max(1);
    }

    /// Tells the smoothed round-trip time in ms; 0 while nothing is known.
    #[must_use]
    pub const fn smoothed_ms(self) -> u16 {
        self.smoothed_ms
    }

    /// Tells after which time an answer is unusually late, in ms; `None` while nothing is known.
    #[must_use]
    pub fn late_ms(self) -> Option<u16> {
        let usual = self
            .smoothed_ms
            .saturating_add(self.variation_ms.saturating_mul(4));
        (self.smoothed_ms != 0).then(|| usual.clamp(LATE_MIN_MS, TIMEOUT_MAX_MS))
    }
}

const _: () = assert!(TIMEOUT_MAX_MS <= u16::MAX / 8);

/// What proves that a requester receives at its address: a keyed hash of address and hour, so that
/// nothing needs to be remembered.
#[derive(Clone)]
pub struct Tokens {
    secret: [u8; 32],
}

impl Tokens {
    /// Without a secret; all zero.
    pub const EMPTY: Self = Self { secret: [0; 32] };

    /// Draws a secret.
    pub fn start<C: Crypto>(&mut self, rng: &mut Rng<C>) {
        rng.fill(&mut self.secret);
    }

    /// Tells the token for `addr` at `now`, and whether `shown` is that or the one of the epoch before.
    pub fn check<C: Crypto>(&self, now: Instant, addr: &PackedAddr, shown: Token) -> (Token, bool) {
        let epoch = now.as_ms() / (TOKEN_EPOCH_S * 1_000);
        let current = self.token::<C>(addr, epoch);
        let valid = shown != NO_TOKEN
            && (shown == current
                || epoch
                    .checked_sub(1)
                    .is_some_and(|last| shown == self.token::<C>(addr, last)));
        (current, valid)
    }

    fn token<C: Crypto>(&self, addr: &PackedAddr, epoch: u64) -> Token {
        let digest = C::hash(
            "strandline/token/v1",
            &[&self.secret, addr.as_bytes(), &epoch.to_be_bytes()],
        );
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let token = [a, b, c, d, e, f, g, h];
        // All zero would mean "no token".
        if token == NO_TOKEN { [1; 8] } else { token }
    }

    /// Hashes bytes under the secret, for tables that strangers fill.
    pub fn keyed_hash<C: Crypto>(&self, bytes: &[u8]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = C::hash("strandline/keyed/v1", &[&self.secret, bytes]);
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What a request is for. Carried and handed back; nothing here looks inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// A ping to see whether a contact is there.
    Probe,
    /// A question to a neighbour, who is near to this node.
    Neighbours,
    /// A ping to an address that the host named, whose id is not known.
    Bootstrap,
    /// A goodbye.
    Bye {
        /// The operation.
        op: Handle,
    },
    /// The first ping to a candidate of a lookup.
    Validate {
        /// The visit that it belongs to.
        visit: Handle,
    },
    /// A lookup's question.
    Ask {
        /// The visit that it belongs to.
        visit: Handle,
    },
    /// Further records of one holder.
    Page {
        /// The visit that it belongs to.
        visit: Handle,
        /// How many matching records to skip.
        after: u16,
    },
    /// A record to a holder.
    Put {
        /// The visit that it belongs to.
        visit: Handle,
    },
    /// An application message to the node of its key.
    Send {
        /// The visit that it belongs to.
        visit: Handle,
    },
    /// A held record to a node that should hold it too.
    HandOver {
        /// Names the record in the store.
        record: RecordId,
    },
    /// What is held, to another holder.
    Have,
    /// A copy of a popular value to a node on the way to its holders.
    Cache {
        /// When it ends, and the record.
        copy: BlobId,
    },
    /// A held record to a holder that said it lacks it.
    Repair {
        /// Names the record in the store.
        record: RecordId,
    },
}

impl Tag {
    /// The visit that the request belongs to, if any.
    #[must_use]
    pub const fn visit(self) -> Option<Handle> {
        match self {
            Self::Validate { visit }
            | Self::Ask { visit }
            | Self::Page { visit, .. }
            | Self::Put { visit }
            | Self::Send { visit } => Some(visit),
            Self::Probe
            | Self::Neighbours
            | Self::Bootstrap
            | Self::Bye { .. }
            | Self::HandOver { .. }
            | Self::Have
            | Self::Cache { .. }
            | Self::Repair { .. } => None,
        }
    }
}

/// Where to ask, and what is known about who lives there. Who that is stays with whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Where.
    pub addr: PackedAddr,
    /// The token that it gave, or [`NO_TOKEN`].
    pub token: Token,
    /// How fast it answers.
    pub rtt: Rtt,
}

impl Peer {
    /// Somebody of whom only the address is known.
    #[must_use]
    pub const fn stranger(addr: PackedAddr) -> Self {
        Self {
            addr,
            token: NO_TOKEN,
            rtt: Rtt::UNKNOWN,
        }
    }
}

/// A request under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Its number, from the generator.
    pub transaction: Transaction,
    /// Whom it asks.
    pub peer: Peer,
    /// What it is for.
    pub tag: Tag,
    /// When it was first sent.
    pub sent: Instant,
    deadline: Instant,
    timeout_ms: u16,
    stage: Stage,
    repeat: Repeat,
    /// It was already repeated with a fresh token.
    pub renewed: bool,
    /// Others wait for its answer too, see [`Rpc::share_ping`].
    pub shared: bool,
    queued: bool,
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// An answer may come any moment.
    Fresh,
    /// An answer is late; at the time-out the request is sent again.
    Late,
    /// Past the time-out, and sent again if it may be. After as long again it has failed.
    Last,
}

/// How often a request is sent before it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// Once: a first contact that only one node named, which must not shout at whoever lives there.
    Never,
    /// A second time, after the first time-out.
    Once,
    /// And a third time: who is nearest decides who gets a message.
    Twice,
}

/// A stranger that did not answer its first ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreached {
    addr: PackedAddr,
    until: Instant,
}

/// What a time-out meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expired {
    /// An answer is late; it is still possible, but do not wait for it.
    Late(Pending),
    /// The second time-out: it is given up and forgotten.
    Failed(Pending),
}

/// All tables are full: nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The requests under way.
pub struct Rpc<P: Plan> {
    pending: Slab<Pending, P::Requests>,
    /// From transaction to slot.
    index: P::RequestIndex,
    outgoing: Ring<Handle, P::Outgoing>,
    /// The oldest first.
    unreached: P::Unreached,
    /// No later than the first time-out.
    wake: Deadline,
    /// Over all peers: what to expect of one that was never asked.
    usual: Rtt,
}

impl<P: Plan> Rpc<P> {
    /// Nothing under way; all zero.
    pub const EMPTY: Self = {
        assert!(
            P::Outgoing::CAPACITY >= P::Requests::CAPACITY,
            "every pending request may wait to be sent"
        );
        Self {
            pending: Slab::EMPTY,
            index: P::RequestIndex::EMPTY,
            outgoing: Ring::EMPTY,
            unreached: P::Unreached::EMPTY,
            wake: Deadline::NEVER,
            usual: Rtt::UNKNOWN,
        }
    };

    /// Whether one more request fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.pending.is_full()
    }

    /// Requests under way and how many fit.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        (self.pending.len(), self.pending.capacity())
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Full`]: as many are under way as fit.
    pub fn request(
        &mut self,
        now: Instant,
        rng: &mut Rng<P::Crypto>,
        peer: Peer,
        tag: Tag,
        repeat: Repeat,
    ) -> Result<(), Full> {
        self.insert(now, rng, peer, tag, repeat, false)
    }

    /// Sends an answered request once more, now with the token that the peer gave; false when it was
    /// renewed before or there is no room.
    pub fn renew(
        &mut self,
        now: Instant,
        rng: &mut Rng<P::Crypto>,
        old: &Pending,
        token: Token,
    ) -> bool {
        let peer = Peer { token, ..old.peer };
        !old.renewed
            && token != NO_TOKEN
            && self
                .insert(now, rng, peer, old.tag, Repeat::Once, true)
                .is_ok()
    }

    fn insert(
        &mut self,
        now: Instant,
        rng: &mut Rng<P::Crypto>,
        peer: Peer,
        tag: Tag,
        repeat: Repeat,
        renewed: bool,
    ) -> Result<(), Full> {
        if !self.has_room() {
            return Err(Full);
        }
        let mut transaction = [0; 8];
        rng.fill(&mut transaction);
        let late_ms = peer.rtt.late_ms().or(self.usual.late_ms());
        let late_ms = late_ms.unwrap_or(TIMEOUT_UNKNOWN_MS);
        let deadline = now.after_ms(u64::from(late_ms));
        let pending = Pending {
            transaction,
            peer,
            tag,
            sent: now,
            deadline,
            timeout_ms: late_ms.max(TIMEOUT_MIN_MS),
            stage: Stage::Fresh,
            repeat,
            renewed,
            shared: false,
            queued: true,
        };
        let handle = self.pending.insert(pending).map_err(|_| Full)?;
        if self.outgoing.is_full() {
            self.unqueue_answered();
        }
        if self.outgoing.push_back(handle).is_err() {
            // Only when the allocator has no memory.
            self.pending.discard(handle);
            return Err(Full);
        }
        let rehash = |slot| {
            self.pending
                .at(slot)
                .map_or(0, |(_, other)| u64::from_be_bytes(other.transaction))
        };
        self.index
            .insert(u64::from_be_bytes(transaction), handle.index(), rehash);
        self.wake.lower(deadline);
        Ok(())
    }

    /// Takes out of the queue what was answered before it was sent again: the queue is as long as the table.
    #[inline(never)] // Seldom needed.
    fn unqueue_answered(&mut self) {
        for _ in 0..self.outgoing.len() {
            if let Some(handle) = self.outgoing.pop_front()
                && self.pending.get(handle).is_some()
            {
                let _ = self.outgoing.push_back(handle);
            }
        }
    }

    /// Whether a ping to a stranger at `addr` is under way already, so that no other is needed: its answer is
    /// marked as [shared](Pending::shared). Looks at every request.
    pub fn share_ping(&mut self, addr: &PackedAddr) -> bool {
        let ping = self.ping_to(addr);
        ping.map(|ping| ping.shared = true).is_some()
    }

    /// The first ping to `addr` that is under way. Looks at every request.
    fn ping_to(&mut self, addr: &PackedAddr) -> Option<&mut Pending> {
        let mut pings = self.pending.iter_mut().map(|(_, pending)| pending);
        pings.find(|pending| {
            pending.peer.addr == *addr && matches!(pending.tag, Tag::Validate { .. })
        })
    }

    /// Lets the ping to a stranger at `addr` that is under way be repeated, should it not be answered.
    pub fn repeat_ping(&mut self, addr: &PackedAddr) {
        if let Some(ping) = self.ping_to(addr) {
            ping.repeat = Repeat::Once;
        }
    }

    /// Notes that a stranger at `addr` did not answer. The one noted longest ago makes place.
    pub fn note_unreached(&mut self, now: Instant, addr: PackedAddr) {
        self.unreached
            .retain(|other| now < other.until && other.addr != addr);
        if self.unreached.is_full() {
            self.unreached.remove(0);
        }
        let until = now.after_ms(UNREACHED_MS);
        // Full only when the plan has no places at all: then it may be pinged again.
        let _ = self.unreached.push(Unreached { addr, until });
    }

    /// Whether a stranger at `addr` did not answer within the last [`UNREACHED_MS`].
    #[must_use]
    pub fn is_unreached(&self, now: Instant, addr: &PackedAddr) -> bool {
        let mut unreached = self.unreached.iter();
        unreached.any(|other| other.addr == *addr && now < other.until)
    }

    /// Whether any request to `addr` is under way. Looks at every request.
    #[must_use]
    pub fn is_asking(&self, addr: &PackedAddr) -> bool {
        self.pending
            .iter()
            .any(|(_, pending)| pending.peer.addr == *addr)
    }

    /// Whether this very request to `addr` is under way. Looks at every request.
    #[must_use]
    pub fn is_under_way(&self, addr: &PackedAddr, tag: Tag) -> bool {
        let mut requests = self.pending.iter().map(|(_, pending)| pending);
        requests.any(|pending| pending.peer.addr == *addr && pending.tag == tag)
    }

    /// Takes the next request that is to be sent now.
    pub fn pop_outgoing(&mut self) -> Option<Pending> {
        while let Some(handle) = self.outgoing.pop_front() {
            // Stale when the request was answered or dropped while it waited to be sent (again).
            if let Some(pending) = self.pending.get_mut(handle) {
                pending.queued = false;
                return Some(*pending);
            }
        }
        None
    }

    /// Ends a request that turned out to be pointless before it was sent.
    pub fn withdraw(&mut self, transaction: Transaction) {
        if let Some(handle) = self.find(transaction) {
            self.forget(handle);
        }
    }

    /// Takes the request that an answer from `from` belongs to, with the measured round-trip time in ms
    /// (none for a request that was sent twice: it is not known which one was answered).
    ///
    /// # Errors
    /// [`Rule::Unsolicited`]: there is none. [`Rule::WrongSender`]: another address was asked; the request
    /// goes on waiting.
    pub fn answered(
        &mut self,
        now: Instant,
        from: &PackedAddr,
        transaction: Transaction,
    ) -> Result<(Pending, Option<u64>), Rule> {
        let handle = self.find(transaction).ok_or(Rule::Unsolicited)?;
        let pending = *self.pending.get(handle).ok_or(Rule::Unsolicited)?;
        if pending.peer.addr != *from {
            return Err(Rule::WrongSender);
        }
        self.forget(handle);
        let sent_once = pending.stage != Stage::Last || pending.repeat == Repeat::Never;
        let sample = sent_once.then(|| now.since_ms(pending.sent));
        if let Some(ms) = sample {
            self.usual.sample(ms);
        }
        Ok((pending, sample))
    }

    /// No later than the next time-out.
    #[must_use]
    pub const fn wake(&self) -> Deadline {
        self.wake
    }

    /// Takes the next request that timed out by `now`, from slot `*from` on, which it moves. Call it
    /// from slot 0 until it returns `None`; after that [`wake`](Self::wake) is later than `now`.
    pub fn pop_expired(&mut self, now: Instant, from: &mut usize) -> Option<Expired> {
        if !self.wake.is_due(now) {
            return None;
        }
        while *from < self.pending.slots() {
            let at = *from;
            *from += 1;
            let Some((handle, pending)) = self.pending.at_mut(at) else {
                continue;
            };
            if now < pending.deadline {
                continue;
            }
            let (stage, expired) = (pending.stage, *pending);
            if stage == Stage::Last && pending.repeat == Repeat::Twice {
                pending.repeat = Repeat::Once;
                pending.deadline = now.after_ms(u64::from(pending.timeout_ms));
                self.send_again(handle);
                continue;
            }
            if stage == Stage::Last {
                self.forget(handle);
                return Some(Expired::Failed(expired));
            }
            let timeout = pending.sent.after_ms(u64::from(pending.timeout_ms));
            if now < timeout {
                (pending.stage, pending.deadline) = (Stage::Late, timeout);
            } else {
                pending.stage = Stage::Last;
                pending.deadline = now.after_ms(u64::from(pending.timeout_ms));
                self.send_again(handle);
            }
            if stage == Stage::Fresh {
                return Some(Expired::Late(expired));
            }
        }
        self.wake = Deadline::NEVER;
        for (_, pending) in self.pending.iter() {
            self.wake.lower(pending.deadline);
        }
        None
    }

    /// Queues a request once more, if it may be repeated and is not still waiting to be sent.
    fn send_again(&mut self, handle: Handle) {
        if let Some(pending) = self.pending.get_mut(handle)
            && pending.repeat != Repeat::Never
            && !pending.queued
        {
            // Full only when the allocator has no memory: then it is not repeated.
            pending.queued = self.outgoing.push_back(handle).is_ok();
        }
    }

    fn find(&self, transaction: Transaction) -> Option<Handle> {
        let is = |slot| {
            self.pending
                .at(slot)
                .is_some_and(|(_, pending)| pending.transaction == transaction)
        };
        let slot = self
            .index
            .find(u64::from_be_bytes(transaction), self.pending.slots(), is)?;
        self.pending.handle_at(slot)
    }

    fn forget(&mut self, handle: Handle) {
        if let Some(pending) = self.pending.get(handle) {
            self.index
                .remove(u64::from_be_bytes(pending.transaction), handle.index());
            self.pending.discard(handle);
        }
    }
}

#[cfg(test)]
mod tests;
