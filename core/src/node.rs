//! A whole node: the DHT and the timeline on one clock, behind one set of inputs and one output.
//!
//! Owns the composition and nothing else: it hands inputs to the layer that they are for, carries what one layer
//! learned to the other, and merges outputs and deadlines. Invariant: every method that takes `now` first brings
//! both layers up to `now`, so that after a drain the deadline is always in the future.
//!
//! The largest inputs and the output are functions of their own, never inlined: what shares a frame with a caller's
//! buffers is a fifth longer on a board, whose short instructions reach 1 KB of stack.

mod commands;

use core::net::SocketAddr;

use crate::addr::PackedAddr;
use crate::config::{Config, Durability, Identity};
use crate::dht::{Dht, Found, Owner};
use crate::id::{Key, NodeId, UserId};
use crate::name::Name;
use crate::output::{
    Busy, Class, ConfigError, Damaged, Output, PersistId, Restored, Stored, StreamId, Table,
};
use crate::plan::{Plan, Uses};
use crate::rng::{Rng, Seed};
use crate::rules::Dropped;
use crate::time::{Instant, earliest};
use crate::timeline::Timeline;

/// A Strandline node: a state machine that does no I/O.
///
/// # Inputs
/// From the network: [`handle_datagram`](Self::handle_datagram), [`accept_stream`](Self::accept_stream),
/// [`stream_opened`](Self::stream_opened), [`stream_readable`](Self::stream_readable),
/// [`stream_writable`](Self::stream_writable), [`stream_closed`](Self::stream_closed). They never fail and never panic,
/// whatever the bytes. From the host: [`handle_timeout`](Self::handle_timeout), [`set_clock`](Self::set_clock),
/// [`restored`](Self::restored), [`restored_all`](Self::restored_all), [`persisted`](Self::persisted),
/// [`persist_failed`](Self::persist_failed). From the application: the commands.
///
/// # Output
/// After any input, call [`poll_output`](Self::poll_output) until it says [`Output::Wait`], then wait for the next input
/// or for that time.
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct Node<P: Plan> {
    /// The latest time that was handed in.
    now: Instant,
    dht: Dht<P>,
    timeline: Timeline<P>,
}

/// Who it is and whether it was started; nothing secret.
impl<P: Plan> core::fmt::Debug for Node<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node")
            .field("user", &self.user_id())
            .field("node", &self.node_id())
            .field("started", &self.is_started())
            .finish_non_exhaustive()
    }
}

/// A snapshot of the node's state, for `status`.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Contacts in the routing table.
    pub contacts: usize,
    /// The address under which others see this node, if anybody said so.
    pub observed: Option<SocketAddr>,
    /// Number of the last own post that is durable.
    pub last: u64,
    /// People followed.
    pub following: usize,
    /// Followers known here.
    pub followers: usize,
    /// What peers did wrong, by rule.
    pub dropped: Dropped,
    /// The bounded tables.
    pub tables: [Table; TABLES],
}

/// How many tables of the DHT [`Stats`] lists.
const DHT_TABLES: usize = 6;
/// How many tables [`Stats`] lists.
pub const TABLES: usize = DHT_TABLES + crate::timeline::TABLES;

/// A contact of the routing table, for `peers`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its id.
    pub id: NodeId,
    /// Its address.
    pub addr: SocketAddr,
    /// Smoothed round-trip time in ms.
    pub rtt_ms: u32,
}

impl<P: Plan> Node<P> {
    /// A node that was not started: all zero, for a `static`. Every input but `start` is ignored, every command refused.
    #[must_use]
    pub const fn unstarted() -> Self {
        Self {
            now: Instant::ZERO,
            dht: Dht::EMPTY,
            timeline: Timeline::EMPTY,
        }
    }

    /// Starts the node: gives it its identity, a seed for its generator (which must be unpredictable outside tests)
    /// and its settings. Hand over storage with `restored` and `restored_all` next.
    ///
    /// # Errors
    /// See [`ConfigError`]; nothing was changed.
    pub fn start(
        &mut self,
        now: Instant,
        identity: Identity,
        seed: &Seed,
        config: &Config,
    ) -> Result<(), ConfigError> {
        if self.is_started() {
            return Err(ConfigError::AlreadyStarted);
        }
        config.check()?;
        if !P::Uses::STORAGE && config.durability == Durability::Host {
            return Err(ConfigError::Durability);
        }
        if !(identity.user.is_set() && identity.node.is_set()) {
            return Err(ConfigError::Identity);
        }
        let mut rng = Rng::from_seed(seed);
        let for_dht = rng.fork("dht");
        self.dht
            .start(now, &identity.node, for_dht, config.network, config.listen);
        self.timeline
            .start(now, identity, config, rng.fork("timeline"));
        Ok(())
    }

    /// Takes a datagram from the network, whatever it holds.
    #[inline(never)]
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if !self.advance(now) {
            return;
        }
        if let Some(found) = &mut self.dht.handle_datagram(now, from, bytes) {
            self.take_found(now, found);
        }
        self.settle(now);
    }

    #[inline(never)] // Its frame is not to last while datagrams are decoded and answers looked at.
    fn take_found(&mut self, now: Instant, found: &mut Found<'_>) {
        while let Some(verified) = found.next(&mut self.dht) {
            if let Owner::Timeline(tag) = found.owner {
                self.timeline.on_record(now, tag, found.op, &verified);
            }
        }
    }

    /// Does what was due by `now`. Calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_started() {
            self.run_timers(now);
            self.settle(now);
        }
    }

    /// A stream was opened by a peer.
    ///
    /// # Errors
    /// [`Busy`]: as many streams as the plan allows are open; close it.
    #[inline(never)]
    pub fn accept_stream(&mut self, now: Instant, from: SocketAddr) -> Result<StreamId, Busy> {
        if !self.advance(now) {
            return Err(Busy);
        }
        let accepted = self.timeline.accept_stream(now, from);
        self.settle(now);
        accepted
    }

    /// A stream that the node asked for is open.
    pub fn stream_opened(&mut self, now: Instant, stream: StreamId) {
        if self.advance(now) {
            self.timeline.stream_opened(now, stream);
            self.settle(now);
        }
    }

    /// Offers everything that has arrived on a stream and was not consumed yet. Takes at most one frame and returns
    /// its length. After a non-zero answer: drain, then call again with the rest. 0: more bytes are needed, or the node
    /// wants to be asked again after the next input of any kind; keep the bytes (a host needs room for one frame).
    #[inline(never)]
    pub fn stream_readable(&mut self, now: Instant, stream: StreamId, bytes: &[u8]) -> usize {
        if !self.advance(now) {
            return 0;
        }
        let taken = self.timeline.stream_readable(now, stream, bytes);
        self.settle(now);
        taken
    }

    /// Tells how many bytes a stream can take now. Replaces what was told before.
    pub fn stream_writable(&mut self, now: Instant, stream: StreamId, room: usize) {
        if self.advance(now) {
            self.timeline.stream_writable(now, stream, room);
            self.settle(now);
        }
    }

    /// A stream was closed by the peer, broke, or could not be opened.
    pub fn stream_closed(&mut self, now: Instant, stream: StreamId) {
        if self.advance(now) {
            self.timeline.stream_closed(now, stream);
            self.settle(now);
        }
    }

    /// Tells the time of day, with its uncertainty.
    pub fn set_clock(&mut self, now: Instant, unix_ms: u64, uncertainty_ms: u32) {
        if self.advance(now) {
            self.dht.set_clock(now, unix_ms, uncertainty_ms);
            self.timeline.set_clock(now, unix_ms, uncertainty_ms);
            self.settle(now);
        }
    }

    /// Hands over one entry of storage, after `start` and class by class (see [`crate::output::Class::ALL`]). Set the clock
    /// first: copies that may have expired are dropped.
    ///
    /// # Errors
    /// [`Damaged`]: it does not decode or verify. Stop, and change nothing.
    pub fn restored(&mut self, now: Instant, item: Stored<'_>) -> Result<(), Damaged> {
        if item.class != Class::Contact {
            return self.timeline.restored(now, item);
        }
        let contact = item.value.and_then(|value| {
            let id = NodeId::from_bytes(item.key.try_into().ok()?);
            let addr = PackedAddr::from_bytes(value.try_into().ok()?);
            Some((id, addr.to_socket_addr()?))
        });
        let (id, addr) = contact.ok_or(Damaged {
            class: Class::Contact,
            what: "not an id and an address",
        })?;
        self.dht.restore_contact(now, id, addr);
        Ok(())
    }

    /// Ends the restoring.
    ///
    /// # Errors
    /// [`Damaged`]: something is missing, the log's chain does not fit its head, or a new identity has posts already.
    /// Stop, and change nothing.
    pub fn restored_all(&mut self, now: Instant, how: Restored) -> Result<(), Damaged> {
        self.timeline.restored_all(now, how)?;
        self.settle(now);
        Ok(())
    }

    /// Everything up to `up_to` is durable.
    pub fn persisted(&mut self, now: Instant, up_to: PersistId) {
        if self.advance(now) {
            self.timeline.persisted(now, up_to);
            self.settle(now);
        }
    }

    /// `id`, and perhaps more, could not be made durable. The commands that wait for it fail, and nothing more is signed.
    pub fn persist_failed(&mut self, now: Instant, id: PersistId) {
        if self.advance(now) {
            self.timeline.persist_failed(now, id);
            self.settle(now);
        }
    }

    /// The next thing to do. `buf` needs [`crate::output::OUTPUT_LEN_MAX`] bytes; with less, what does not fit is dropped.
    ///
    /// What is to be durable comes first, then datagrams, streams, events, and at last [`Output::Wait`].
    #[inline(never)]
    pub fn poll_output<'b>(&mut self, buf: &'b mut [u8]) -> Output<'b> {
        let buf = match self.poll_stored(buf) {
            Ok(output) => return output,
            Err(buf) => buf,
        };
        if let Some((to, len)) = self.dht.poll_send(buf) {
            return Output::Send {
                to,
                bytes: buf.get(..len).unwrap_or_default(),
            };
        }
        let buf = match self.timeline.poll_stream(buf) {
            Ok(output) => return output,
            Err(buf) => buf,
        };
        let buf = match self.timeline.poll_event(self.now, buf) {
            Ok(event) => return Output::Event(event),
            Err(buf) => buf,
        };
        match self.dht.poll_event(buf) {
            Some(event) => Output::Event(event),
            None => Output::Wait(self.next_deadline()),
        }
    }

    /// The own user id; all zero before `start`.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        self.timeline.user()
    }

    /// The own node id; all zero before `start`.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.dht.id()
    }

    /// The own name; `None` before `start`.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.is_started().then(|| self.timeline.name())
    }

    /// Whether this node is, as far as it knows, responsible for `key`: among the nodes that hold what
    /// lies there, or its owner, as the overlay has it.
    #[must_use]
    pub fn is_responsible(&self, key: &Key) -> bool {
        self.dht.is_responsible(key)
    }

    /// The contacts of the routing table.
    pub fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.dht.peers().iter().filter_map(|entry| {
            Some(Peer {
                id: entry.contact.id,
                addr: entry.contact.addr.to_socket_addr()?,
                rtt_ms: entry.rtt.smoothed_ms().into(),
            })
        })
    }

    /// The time of day and its uncertainty in ms, if the clock was set.
    #[must_use]
    pub fn unix_ms(&self, now: Instant) -> Option<(u64, u32)> {
        let clock = self.dht.clock();
        Some((clock.unix_ms(now)?, clock.uncertainty_ms(now)?))
    }

    /// A snapshot of counters and tables.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut dropped = self.dht.dropped();
        dropped.add(&self.timeline.dropped());
        let mut tables = [Table::NONE; TABLES];
        let (of_dht, of_timeline) = tables.split_at_mut(DHT_TABLES);
        of_dht.copy_from_slice(&self.dht.usage());
        of_timeline.copy_from_slice(&self.timeline.usage());
        Stats {
            contacts: self.dht.peers().len(),
            observed: self.dht.observed(),
            last: self.timeline.last(),
            following: self.timeline.following_count(),
            followers: self.timeline.followers_count(),
            dropped,
            tables,
        }
    }

    fn is_started(&self) -> bool {
        self.timeline.is_started()
    }

    /// Brings both layers up to `now`; `false` before the start.
    fn advance(&mut self, now: Instant) -> bool {
        if !self.is_started() {
            return false;
        }
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.run_timers(now);
        }
        self.now = self.now.max(now);
        true
    }

    fn run_timers(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.dht.handle_timeout(self.now);
        self.timeline.handle_timeout(self.now);
        self.settle(self.now);
    }

    /// Carries what the DHT found for the timeline to it, and what that wants next to the DHT, until both rest.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some((op, owner, record)) = self.dht.poll_local() {
                if let Owner::Timeline(tag) = owner
                    && let Some(verified) = self.dht.local(now, record)
                {
                    self.timeline.on_record(now, tag, op, &verified);
                }
            }
            match self.dht.poll_done() {
                Some(done) => self.timeline.on_done(now, &mut self.dht, &done),
                None if self.timeline.ask(now, &mut self.dht) => {}
                None => return,
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        earliest(
            self.dht.next_deadline(),
            self.timeline.next_deadline().get(),
        )
    }

    /// What is to be durable; gives the buffer back when there is nothing, or the plan has no storage.
    fn poll_stored<'b>(&mut self, buf: &'b mut [u8]) -> Result<Output<'b>, &'b mut [u8]> {
        if !P::Uses::STORAGE {
            return Err(buf);
        }
        match self.timeline.poll_persist(self.now, buf) {
            Ok((id, item)) => Ok(Output::Persist { id, item }),
            Err(buf) => self.poll_contact(buf),
        }
    }

    /// A contact to be kept for the next start, or forgotten; gives the buffer back when there is none.
    fn poll_contact<'b>(&mut self, buf: &'b mut [u8]) -> Result<Output<'b>, &'b mut [u8]> {
        let Some((node, addr)) = self.dht.poll_contact() else {
            return Err(buf);
        };
        let id = self.timeline.next_persist_id();
        let packed = addr.map_or(PackedAddr::NONE, PackedAddr::from);
        let bytes = node.as_bytes().iter().chain(packed.as_bytes());
        for (to, from) in buf.iter_mut().zip(bytes) {
            *to = *from;
        }
        let (key, rest) = buf.split_at_checked(32).unwrap_or_default();
        let value = addr.and(rest.get(..18));
        Ok(Output::Persist {
            id,
            item: Stored {
                class: Class::Contact,
                key,
                value,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    extern crate alloc;

    use alloc::boxed::Box;

    use super::*;
    use crate::crypto::SecretKey;
    use crate::output::{Event, OUTPUT_LEN_MAX};
    use crate::plan::{Board, TimelineBoard};
    use crate::wire::NetworkId;

    /// What a node of one user with one post hands out: how much is to be durable, and how many commands end.
    fn outputs<P: Plan>() -> (usize, usize) {
        let now = Instant::from_s(1);
        let identity = Identity {
            user: SecretKey::from_bytes([1; 32]),
            node: SecretKey::from_bytes([2; 32]),
            name: Name::parse("ann").unwrap(),
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 7827));
        let mut config = Config::new(NetworkId(*b"test"), listen);
        let mut node = Box::new(Node::<P>::unstarted());
        if !P::Uses::STORAGE {
            let refused = node.start(now, identity.clone(), &Seed([3; 32]), &config);
            assert_eq!(refused, Err(ConfigError::Durability));
            config.durability = Durability::Holders(1);
        }
        node.start(now, identity, &Seed([3; 32]), &config).unwrap();
        node.restored_all(now, Restored::Fresh).unwrap();
        node.post(now, "a post").unwrap();
        let (mut written, mut ended) = (0, 0);
        loop {
            match node.poll_output(&mut [0; OUTPUT_LEN_MAX]) {
                Output::Persist { id, .. } => {
                    written += 1;
                    node.persisted(now, id);
                }
                Output::Event(Event::QueryDone { .. }) => ended += 1,
                Output::Wait(_) => return (written, ended),
                Output::Event(_)
                | Output::Send { .. }
                | Output::Open { .. }
                | Output::Write { .. }
                | Output::Close { .. } => {}
            }
        }
    }

    #[test]
    fn without_storage_nothing_is_handed_out_to_be_written_and_holders_make_a_post_durable() {
        let (written, ended) = outputs::<Board>();
        assert!(written > 0 && ended == 1, "{written} {ended}");
        assert_eq!(outputs::<TimelineBoard>(), (0, 0));
    }
}
