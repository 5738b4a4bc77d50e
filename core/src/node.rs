//! A whole node: the DHT and the timeline on one clock, behind one set of inputs and one output.
//!
//! Owns the composition and nothing else: it hands inputs to the layer that they are for, carries what one layer
//! learned to the other, and merges outputs and deadlines. Invariant: every method that takes `now` first brings
//! both layers up to `now`, so that after a drain the deadline is always in the future.

use core::marker::PhantomData;
use core::net::SocketAddr;

use crate::config::{Config, Identity};
use crate::id::{Key, NodeId, UserId};
use crate::name::{Handle, Name};
use crate::output::{
    Busy, CommandError, ConfigError, Damaged, Output, PersistId, QueryId, Restored, Stored,
    StreamId,
};
use crate::plan::Plan;
use crate::rng::Seed;
use crate::rules::Dropped;
use crate::time::Instant;

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
#[derive(Debug)]
pub struct Node<P: Plan> {
    plan: PhantomData<P>,
}

/// Use of one bounded table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name, stable.
    pub name: &'static str,
    /// Entries in use.
    pub used: usize,
    /// Entries that fit.
    pub capacity: usize,
    /// Bytes in use, for tables of bytes; else 0.
    pub bytes: usize,
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

/// How many tables [`Stats`] lists.
pub const TABLES: usize = 12;

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
        Self { plan: PhantomData }
    }

    /// Starts the node: gives it its identity, a seed for its generator (which must be unpredictable outside tests)
    /// and its settings. Hand over storage with `restored` and `restored_all` next.
    ///
    /// # Errors
    /// See [`ConfigError`]; nothing was changed.
    pub fn start(
        &mut self,
        _now: Instant,
        _identity: Identity,
        _seed: &Seed,
        _config: &Config,
    ) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Takes a datagram from the network, whatever it holds.
    pub fn handle_datagram(&mut self, _now: Instant, _from: SocketAddr, _bytes: &[u8]) {}

    /// Does what was due by `now`. Calling it too early is harmless.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// A stream was opened by a peer.
    ///
    /// # Errors
    /// [`Busy`]: as many streams as the plan allows are open; close it.
    pub fn accept_stream(&mut self, _now: Instant, _from: SocketAddr) -> Result<StreamId, Busy> {
        Err(Busy)
    }

    /// A stream that the node asked for is open.
    pub fn stream_opened(&mut self, _now: Instant, _stream: StreamId) {}

    /// Offers everything that has arrived on a stream and was not consumed yet. Takes at most one frame and returns
    /// its length. After a non-zero answer: drain, then call again with the rest. 0: more bytes are needed, or the node
    /// wants to be asked again after the next input of any kind; keep the bytes (a host needs room for one frame).
    pub fn stream_readable(&mut self, _now: Instant, _stream: StreamId, _bytes: &[u8]) -> usize {
        0
    }

    /// Tells how many bytes a stream can take now. Replaces what was told before.
    pub fn stream_writable(&mut self, _now: Instant, _stream: StreamId, _room: usize) {}

    /// A stream was closed by the peer, broke, or could not be opened.
    pub fn stream_closed(&mut self, _now: Instant, _stream: StreamId) {}

    /// Tells the time of day, with its uncertainty.
    pub fn set_clock(&mut self, _now: Instant, _unix_ms: u64, _uncertainty_ms: u32) {}

    /// Hands over one entry of storage, after `start` and class by class (see [`crate::output::Class::ALL`]). Set the clock
    /// first: copies that may have expired are dropped.
    ///
    /// # Errors
    /// [`Damaged`]: it does not decode or verify. Stop, and change nothing.
    pub fn restored(&mut self, _now: Instant, _item: Stored<'_>) -> Result<(), Damaged> {
        Ok(())
    }

    /// Ends the restoring.
    ///
    /// # Errors
    /// [`Damaged`]: something is missing, or the log's chain does not fit its head. Stop, and change nothing.
    pub fn restored_all(&mut self, _now: Instant, _how: Restored) -> Result<(), Damaged> {
        Ok(())
    }

    /// Everything up to `up_to` is durable.
    pub fn persisted(&mut self, _now: Instant, _up_to: PersistId) {}

    /// `id`, and perhaps more, could not be made durable. The commands that wait for it fail, and nothing more is signed.
    pub fn persist_failed(&mut self, _now: Instant, _id: PersistId) {}

    /// Joins the network through the node at `addr`; goes on trying after it timed out. Ends with [`crate::output::Outcome::Joined`].
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn join(
        &mut self,
        _now: Instant,
        _addr: SocketAddr,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Says goodbye: withdraws the online lease, tells the neighbours. Ends with [`crate::output::Outcome::Left`].
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn leave(&mut self, _now: Instant, _within_ms: u32) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Publishes claim, profile and head now rather than when they are next due. Ends with
    /// [`crate::output::Outcome::Stored`].
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn register(&mut self, _now: Instant, _within_ms: u32) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Publishes a post. Ends with [`crate::output::Outcome::Posted`] once it is durable.
    ///
    /// # Errors
    /// [`CommandError::TextEmpty`] (nothing but white space), [`CommandError::TextTooLong`], [`CommandError::Full`],
    /// [`CommandError::StorageFailed`], [`CommandError::Recovering`], [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn post(&mut self, _now: Instant, _text: &str) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Follows the user with this handle: pins its key, stores the follow record, tells the followed. Ends with
    /// [`crate::output::Outcome::Followed`], or `NotFound`, or `Ambiguous` after a [`crate::output::Event::Person`] for each claimant.
    ///
    /// # Errors
    /// [`CommandError::Myself`], [`CommandError::Full`], [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn follow(
        &mut self,
        _now: Instant,
        _handle: &Handle,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Ends following. Ends like [`follow`](Self::follow); `NotFound` when nobody of that handle is followed.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn unfollow(
        &mut self,
        _now: Instant,
        _handle: &Handle,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Reads the posts of everyone followed and one's own, or of one user, from the network. Yields
    /// [`crate::output::Event::Post`] and [`crate::output::Event::Missing`], and ends with [`crate::output::Outcome::Read`]. For an ambiguous
    /// handle the oldest claimant is read, after a [`crate::output::Event::Person`] for each.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn timeline(
        &mut self,
        _now: Instant,
        _whose: Option<&Handle>,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Looks a handle up: yields [`crate::output::Event::Person`] for each claimant (the taken one first) and each holder, one
    /// [`crate::output::Event::Profile`], and ends with `Found` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn whois(
        &mut self,
        _now: Instant,
        _handle: &Handle,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Lists who follows a user (`None`: oneself). Yields [`crate::output::Event::Person`], ends with `Found`, `NotFound` or `Ambiguous`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn followers(
        &mut self,
        _now: Instant,
        _whose: Option<&Handle>,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Lists whom a user follows (`None`: oneself, answered from the own table). Yields and ends like
    /// [`followers`](Self::followers).
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn following(
        &mut self,
        _now: Instant,
        _whose: Option<&Handle>,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Finds the nodes nearest to `key`. Yields [`crate::output::Event::Contact`], nearest first, ends with `Found`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn lookup(
        &mut self,
        _now: Instant,
        _key: Key,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Stores a value at `key` for `ttl_s` seconds (at most 24 h), signed by this user; a later put by the same user
    /// replaces it. Ends with `Stored`, `Older` or `Full`.
    ///
    /// # Errors
    /// [`CommandError::ValueTooLong`], [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn put(
        &mut self,
        _now: Instant,
        _key: Key,
        _value: &[u8],
        _ttl_s: u32,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Reads the values at `key`: yields an [`crate::output::Event::Value`] for each author, the newest of each, and ends with
    /// `Found` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn get(
        &mut self,
        _now: Instant,
        _key: Key,
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// Sends a message to the node nearest to `key`. Ends with `Delivered` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::ValueTooLong`], [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn send(
        &mut self,
        _now: Instant,
        _key: Key,
        _bytes: &[u8],
        _within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        Err(CommandError::NotStarted)
    }

    /// The next thing to do. `buf` needs [`crate::output::OUTPUT_LEN_MAX`] bytes; with less, what does not fit is dropped.
    pub fn poll_output<'b>(&mut self, _buf: &'b mut [u8]) -> Output<'b> {
        Output::Wait(None)
    }

    /// The own user id; all zero before `start`.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        UserId::ZERO
    }

    /// The own node id; all zero before `start`.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::ZERO
    }

    /// The own name; `None` before `start`.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        None
    }

    /// Whether this node is, as far as it knows, among the nodes that hold what is stored at `key`.
    #[must_use]
    pub fn is_responsible(&self, _key: &Key) -> bool {
        false
    }

    /// The contacts of the routing table.
    pub fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        core::iter::empty()
    }

    /// The time of day and its uncertainty in ms, if the clock was set.
    #[must_use]
    pub fn unix_ms(&self, _now: Instant) -> Option<(u64, u32)> {
        None
    }

    /// A snapshot of counters and tables.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            contacts: 0,
            observed: None,
            last: 0,
            following: 0,
            followers: 0,
            dropped: Dropped::NONE,
            tables: [Table {
                name: "",
                used: 0,
                capacity: 0,
                bytes: 0,
            }; TABLES],
        }
    }
}
