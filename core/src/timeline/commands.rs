//! The timeline's commands, as the node offers them, and what the host polls.

use crate::id::Key;
use crate::name::Handle;
use crate::output::{CommandError, Event, Output, PersistId, QueryId, Stored};
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::record::Kind;

use super::Timeline;
use super::me::About;
use super::recover::Return;
use crate::config::Durability;

impl<P: Plan> Timeline<P> {
    fn until(&self, now: Instant, within_ms: u32) -> Instant {
        let within_ms = if within_ms == 0 {
            self.state.me.query_ms()
        } else {
            within_ms
        };
        now.after_ms(u64::from(within_ms))
    }

    fn ready(&self) -> Result<(), CommandError> {
        if self.recovery.is_restored() {
            Ok(())
        } else {
            Err(CommandError::NotStarted)
        }
    }

    /// Withdraws the lease and says goodbye.
    ///
    /// # Errors
    /// [`CommandError::Busy`]. This and every other command: [`CommandError::NotStarted`] before storage was restored.
    pub fn leave(&mut self, now: Instant, within_ms: u32) -> Result<QueryId, CommandError> {
        self.ready()?;
        self.queries.leave(now, self.until(now, within_ms))
    }

    /// Publishes claim, profile and head now.
    ///
    /// # Errors
    /// [`CommandError::Busy`]; [`CommandError::Recovering`] or [`CommandError::StorageFailed`] while nothing may be
    /// signed.
    pub fn register(&mut self, now: Instant, within_ms: u32) -> Result<QueryId, CommandError> {
        self.ready()?;
        self.state.may_sign()?;
        self.queries.register(now, self.until(now, within_ms))
    }

    /// Appends a post.
    ///
    /// # Errors
    /// See [`super::state::State::post`].
    pub fn post(&mut self, now: Instant, text: &str) -> Result<QueryId, CommandError> {
        self.ready()?;
        if !self.queries.has_room() {
            return Err(CommandError::Busy);
        }
        let post = self.state.post(now, text)?;
        let holders = self.state.me.durability() != Durability::Host;
        self.queries.post(now, post.seq, post.time_ms, holders)
    }

    /// Begins to follow somebody.
    ///
    /// # Errors
    /// See [`super::queries::Queries::follow`].
    pub fn follow(
        &mut self,
        now: Instant,
        handle: &Handle,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready()?;
        let until = self.until(now, within_ms);
        self.queries
            .follow(now, &self.state, &mut self.names, handle, until)
    }

    /// Ceases to follow somebody.
    ///
    /// # Errors
    /// See [`super::queries::Queries::unfollow`].
    pub fn unfollow(
        &mut self,
        now: Instant,
        handle: &Handle,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready()?;
        let until = self.until(now, within_ms);
        self.queries
            .unfollow(now, &mut self.state, &mut self.publish, handle, until)
    }

    /// Looks a handle up.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn whois(
        &mut self,
        now: Instant,
        handle: &Handle,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready()?;
        let until = self.until(now, within_ms);
        self.queries
            .whois(now, &self.state, &mut self.names, handle, until)
    }

    /// Reads the posts of everyone followed and one's own, or of one user.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn timeline(
        &mut self,
        now: Instant,
        whose: Option<&Handle>,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready()?;
        let until = self.until(now, within_ms);
        self.queries
            .timeline(now, &self.state, &mut self.names, whose, until)
    }

    /// Lists who follows a user, or oneself.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn followers(
        &mut self,
        now: Instant,
        whose: Option<&Handle>,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready()?;
        let until = self.until(now, within_ms);
        self.queries
            .followers(now, &self.state, &mut self.names, whose, until)
    }

    /// Lists whom a user follows, or oneself.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn following(
        &mut self,
        now: Instant,
        whose: Option<&Handle>,
        within_ms: u32,
    ) -> Result<QueryId, CommandError> {
        self.ready()?;
        let until = self.until(now, within_ms);
        self.queries
            .following(now, &self.state, &mut self.names, whose, until)
    }

    /// Signs a value of the application into `buf`, with the sequence that it chose or the next one, and returns its
    /// length.
    ///
    /// # Errors
    /// [`CommandError::ValueTooLong`]; [`CommandError::Recovering`] or [`CommandError::StorageFailed`] while nothing may
    /// be signed.
    pub fn sign_value(
        &mut self,
        now: Instant,
        key: &Key,
        value: &[u8],
        sequence: Option<u64>,
        ttl_s: u32,
        buf: &mut [u8],
    ) -> Result<usize, CommandError> {
        self.ready()?;
        self.state.may_sign()?;
        let about = About {
            kind: Kind::Value,
            key: *key,
            subject: None,
            page: 0,
            lifetime_ms: ttl_s.saturating_mul(1_000),
        };
        let len = self.state.me.sign_as(now, &about, sequence, value, buf);
        len.ok_or(CommandError::ValueTooLong)
    }

    /// The next thing that storage has to write or delete.
    ///
    /// # Errors
    /// Gives the buffer back when there is nothing.
    pub fn poll_persist<'b>(
        &mut self,
        now: Instant,
        buf: &'b mut [u8],
    ) -> Result<(PersistId, Stored<'b>), &'b mut [u8]> {
        self.state.poll_persist(now, buf)
    }

    /// The next thing that the host is to do with a stream.
    ///
    /// # Errors
    /// Gives the buffer back when there is nothing.
    pub fn poll_stream<'b>(&mut self, buf: &'b mut [u8]) -> Result<Output<'b>, &'b mut [u8]> {
        self.exchange.poll_stream(&mut self.state, buf)
    }

    /// The next thing that the application may want to know.
    ///
    /// # Errors
    /// Gives the buffer back when there is nothing.
    #[inline(never)] // Shorter on a board than inside its caller.
    pub fn poll_event<'b>(
        &mut self,
        now: Instant,
        buf: &'b mut [u8],
    ) -> Result<Event<'b>, &'b mut [u8]> {
        if core::mem::take(&mut self.storage_failed) {
            return Ok(Event::StorageFailed);
        }
        match self.recovery.poll_event() {
            Some(Return::Recovered(next)) => return Ok(Event::Recovered { next }),
            Some(Return::Unknown) => return Ok(Event::Recovered { next: 0 }),
            Some(Return::Forked) => return Ok(Event::Forked),
            None => {}
        }
        if let Some(event) = self.queries.poll_event(now, &self.state, &mut self.names) {
            return Ok(event);
        }
        self.exchange.poll_event(&mut self.state, buf)
    }
}
