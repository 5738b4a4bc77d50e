//! The commands: what the application asks of a node.
//!
//! Each brings the node up to `now`, hands the command to the layer that it is for and lets both layers settle.
//! Invariant: a refused command has begun nothing.

use core::net::SocketAddr;

use super::Node;
use crate::dht::{OpId, Owner};
use crate::id::Key;
use crate::name::Handle;
use crate::output::{AnswerError, Busy, CommandError, QueryId, Recipient};
use crate::plan::{Plan, Uses};
use crate::time::Instant;
use crate::wire::record::{Kind, Kinds, Signed};
use crate::wire::{MESSAGE_LEN_MAX, PAYLOAD_LEN_MAX, RECORD_LEN_MAX};

impl<P: Plan> Node<P> {
    /// Joins the network through the node at `addr`; goes on trying after it timed out. Ends with [`crate::output::Outcome::Joined`].
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn join(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready(now)?;
        let op = self
            .dht
            .join(now, addr, Owner::Application, within_ms)
            .map_err(|Busy| CommandError::Busy);
        self.settle(now);
        op.map(OpId::query)
    }

    /// Says goodbye: withdraws the online lease, tells the neighbours. Ends with [`crate::output::Outcome::Left`].
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn leave(&mut self, now: Instant, within_ms: u32) -> Result<QueryId, CommandError> {
        self.every_command(now)?;
        let query = self.timeline.leave(now, within_ms);
        self.settle(now);
        query
    }

    /// Publishes claim, profile and head now rather than when they are next due. Ends with
    /// [`crate::output::Outcome::Stored`].
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn register(&mut self, now: Instant, within_ms: u32) -> Result<QueryId, CommandError> {
        self.ready(now)?;
        let query = self.timeline.register(now, within_ms);
        self.settle(now);
        query
    }

    /// Publishes a post. Ends with [`crate::output::Outcome::Posted`] once it is durable.
    ///
    /// # Errors
    /// [`CommandError::TextEmpty`] (nothing but white space), [`CommandError::TextTooLong`], [`CommandError::Full`],
    /// [`CommandError::StorageFailed`], [`CommandError::Recovering`], [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn post(&mut self, now: Instant, text: &str) -> Result<QueryId, CommandError> {
        self.ready(now)?;
        let query = self.timeline.post(now, text);
        self.settle(now);
        query
    }

    /// Follows the user with this handle: pins its key, stores the follow record, tells the followed. Ends with
    /// [`crate::output::Outcome::Followed`], or `NotFound`, or `Ambiguous` after a [`crate::output::Event::Person`] for each claimant.
    ///
    /// # Errors
    /// [`CommandError::Myself`], [`CommandError::Full`], [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn follow(
        &mut self,
        now: Instant,
        handle: &Handle,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready(now)?;
        let query = self.timeline.follow(now, handle, within_ms);
        self.settle(now);
        query
    }

    /// Ends following. Ends like [`follow`](Self::follow); `NotFound` when nobody of that handle is followed.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn unfollow(
        &mut self,
        now: Instant,
        handle: &Handle,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready(now)?;
        let query = self.timeline.unfollow(now, handle, within_ms);
        self.settle(now);
        query
    }

    /// Reads the posts of everyone followed and one's own, or of one user, from the network. Yields
    /// [`crate::output::Event::Post`] and [`crate::output::Event::Missing`], and ends with [`crate::output::Outcome::Read`]. For an ambiguous
    /// handle the oldest claimant is read, after a [`crate::output::Event::Person`] for each.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`].
    pub fn timeline(
        &mut self,
        now: Instant,
        whose: Option<&Handle>,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready(now)?;
        let query = self.timeline.timeline(now, whose, within_ms);
        self.settle(now);
        query
    }

    /// Looks a handle up: yields [`crate::output::Event::Person`] for each claimant (the taken one first) and each holder, one
    /// [`crate::output::Event::Profile`], and ends with `Found` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn whois(
        &mut self,
        now: Instant,
        handle: &Handle,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.every_command(now)?;
        let query = self.timeline.whois(now, handle, within_ms);
        self.settle(now);
        query
    }

    /// Lists who follows a user (`None`: oneself). Yields [`crate::output::Event::Person`], ends with `Found`, `NotFound` or `Ambiguous`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn followers(
        &mut self,
        now: Instant,
        whose: Option<&Handle>,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.every_command(now)?;
        let query = self.timeline.followers(now, whose, within_ms);
        self.settle(now);
        query
    }

    /// Lists whom a user follows (`None`: oneself, answered from the own table). Yields and ends like
    /// [`followers`](Self::followers).
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn following(
        &mut self,
        now: Instant,
        whose: Option<&Handle>,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.every_command(now)?;
        let query = self.timeline.following(now, whose, within_ms);
        self.settle(now);
        query
    }

    /// Finds the nodes nearest to `key`. Yields [`crate::output::Event::Contact`], nearest first, ends with `Found`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn lookup(
        &mut self,
        now: Instant,
        key: Key,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.toolkit(now)?;
        let op = self
            .dht
            .find(now, key, Owner::Application, within_ms)
            .map_err(|Busy| CommandError::Busy);
        self.settle(now);
        op.map(OpId::query)
    }

    /// Stores a value at `key` for `ttl_s` seconds (at most 24 h), signed by this user; a later put by the same user
    /// replaces it. Ends with `Stored`, `Older` or `Full`.
    ///
    /// # Errors
    /// [`CommandError::ValueTooLong`], [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn put(
        &mut self,
        now: Instant,
        key: Key,
        value: &[u8],
        ttl_s: u32,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.put_signed(now, key, value, None, ttl_s, within_ms)
    }

    /// As [`put`](Self::put), if the value of this user at `key` is the one with the sequence `seen` (0: there is none),
    /// as [`crate::output::Event::Value`] told it; it gets the next one. Otherwise it ends with `Older` and the sequence
    /// that somebody holds. See [`Dht::replace`](crate::dht::Dht::replace).
    ///
    /// # Errors
    /// As [`put`](Self::put); [`CommandError::Full`] when there is no next sequence.
    pub fn put_if(
        &mut self,
        now: Instant,
        key: Key,
        value: &[u8],
        seen: u64,
        ttl_s: u32,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        let next = seen.checked_add(1).ok_or(CommandError::Full)?;
        self.put_signed(now, key, value, Some(next), ttl_s, within_ms)
    }

    /// Stores an immutable value at the key that is its hash, and tells that key. Ends like [`put`](Self::put).
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_value(
        &mut self,
        now: Instant,
        value: &[u8],
        ttl_s: u32,
        within_ms: u32,
    ) -> Result<(Key, QueryId), CommandError> {
        let key = Key::of_value::<P::Crypto>(value);
        let query = self.put_signed(now, key, value, None, ttl_s, within_ms)?;
        Ok((key, query))
    }

    /// Signs and stores a value, with a sequence that the caller chose or the next one.
    #[inline(never)]
    fn put_signed(
        &mut self,
        now: Instant,
        key: Key,
        value: &[u8],
        sequence: Option<u64>,
        ttl_s: u32,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.toolkit(now)?;
        if value.len() > PAYLOAD_LEN_MAX {
            return Err(CommandError::ValueTooLong);
        }
        let mut record = [0; RECORD_LEN_MAX];
        let len = self
            .timeline
            .sign_value(now, &key, value, sequence, ttl_s, &mut record)?;
        let record = Signed::just_now(record.get(..len).unwrap_or_default());
        let (owner, strict) = (Owner::Application, sequence.is_some());
        let op = self.dht.begin_put(now, record, owner, within_ms, strict);
        self.settle(now);
        op.map(OpId::query).map_err(|Busy| CommandError::Busy)
    }

    /// Reads the values at `key`: yields an [`crate::output::Event::Value`] for each author, the newest of each, and ends with
    /// `Found` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn get(&mut self, now: Instant, key: Key, within_ms: u32) -> Result<QueryId, CommandError> {
        self.toolkit(now)?;
        let op = self
            .dht
            .get(
                now,
                key,
                Kinds::of(&[Kind::Value]),
                None,
                Owner::Application,
                within_ms,
            )
            .map_err(|Busy| CommandError::Busy);
        self.settle(now);
        op.map(OpId::query)
    }

    /// Reads an immutable value: yields one [`crate::output::Event::Value`] that hashes to `key`, whoever put it there, and
    /// ends with `Found` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn get_value(
        &mut self,
        now: Instant,
        key: Key,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.toolkit(now)?;
        let op = self.dht.get_value(now, key, within_ms);
        self.settle(now);
        op.map(OpId::query).map_err(|Busy| CommandError::Busy)
    }

    /// Sends a message to the node nearest to a key, or to the node of that id and no other: see
    /// [`Dht::send`](crate::dht::Dht::send). Yields an [`crate::output::Event::Answer`] if there is one, and ends with
    /// `Delivered` or `NotFound`.
    ///
    /// # Errors
    /// [`CommandError::ValueTooLong`], [`CommandError::NotStarted`], [`CommandError::Busy`], [`CommandError::LeftOut`].
    pub fn send(
        &mut self,
        now: Instant,
        to: Recipient,
        bytes: &[u8],
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.toolkit(now)?;
        if bytes.len() > MESSAGE_LEN_MAX {
            return Err(CommandError::ValueTooLong);
        }
        let op = self
            .dht
            .send(now, to, bytes, Owner::Application, within_ms)
            .map_err(|Busy| CommandError::Busy);
        self.settle(now);
        op.map(OpId::query)
    }

    /// Answers the message whose [`Output::Event`](crate::output::Output::Event) came last, until the next output is
    /// asked for: see [`Dht::answer`](crate::dht::Dht::answer).
    ///
    /// # Errors
    /// See [`AnswerError`]; the message is acknowledged without an answer then.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        self.dht.answer(bytes)
    }

    /// As [`Self::ready`], for what only who gives every command has.
    fn every_command(&mut self, now: Instant) -> Result<(), CommandError> {
        if !P::Uses::EVERY_COMMAND {
            return Err(CommandError::LeftOut);
        }
        self.ready(now)
    }

    /// As [`Self::ready`], for what only a toolkit has.
    fn toolkit(&mut self, now: Instant) -> Result<(), CommandError> {
        if !P::Uses::TOOLKIT {
            return Err(CommandError::LeftOut);
        }
        self.ready(now)
    }

    /// As [`Self::advance`], for commands.
    fn ready(&mut self, now: Instant) -> Result<(), CommandError> {
        if self.advance(now) {
            Ok(())
        } else {
            Err(CommandError::NotStarted)
        }
    }
}
