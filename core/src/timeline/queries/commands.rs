//! How commands begin: what is refused at once, and what is known without asking.

use super::*;

impl<P: Plan> Queries<P> {
    /// Waits for a post that was appended.
    ///
    /// # Errors
    /// [`CommandError::Busy`]: check [`Queries::has_room`] before appending.
    pub fn post(
        &mut self,
        now: Instant,
        seq: u64,
        time_ms: u64,
        holders: bool,
    ) -> Result<QueryId, CommandError> {
        let within_ms = if holders { POST_HOLDERS_MS } else { POST_MS };
        let mut query = Query::new(Command::Post, Stage::Waiting, now.after_ms(within_ms));
        (query.last, query.sequence) = (seq, time_ms);
        self.insert(query)
    }

    /// Whether one more command can run.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.running.is_full()
    }

    pub(super) fn insert(&mut self, query: Query) -> Result<QueryId, CommandError> {
        let inserted = self.running.insert(query);
        inserted.map(id_of).map_err(|_| CommandError::Busy)
    }

    /// Publishes claim and profile now.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn register(&mut self, now: Instant, until: Instant) -> Result<QueryId, CommandError> {
        self.insert_put(now, Command::Register, Put::Claim, until)
    }

    /// Withdraws the lease and says goodbye.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn leave(&mut self, now: Instant, until: Instant) -> Result<QueryId, CommandError> {
        self.insert_put(now, Command::Leave, Put::Goodbye, until)
    }

    fn insert_put(
        &mut self,
        now: Instant,
        command: Command,
        put: Put,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        let mut query = Query::new(command, Stage::Putting(put), until);
        query.due = Deadline::at(now);
        self.insert(query)
    }

    /// Looks a handle up.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn whois(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        handle: &name::Handle,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        let mut query = Query::new(Command::Whois, Stage::Resolving, until);
        self.resolve(now, state, names, handle, &mut query)?;
        self.insert_resolving(names, query)
    }

    /// Finds out whose timeline is to be read: of everyone followed (`None`), or of one. Begin what
    /// [`Queries::next_read`] says.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn timeline(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        whose: Option<&name::Handle>,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        let mut query = Query::new(Command::Timeline, Stage::Resolving, until);
        if let Some(handle) = whose {
            self.resolve_unless_known(now, state, names, handle, &mut query)?;
        }
        if query.resolution.is_none() {
            query.go_to(Stage::Reading, now);
        }
        self.insert_resolving(names, query)
    }

    /// A read that is to be begun now. Answer with [`Queries::read_begun`].
    #[must_use]
    pub fn next_read(&self, now: Instant) -> Option<Reading> {
        self.running.iter().find_map(|(handle, query)| {
            let is_due = query.due.is_due(now);
            (query.stage == Stage::Reading && is_due).then(|| Reading {
                handle,
                query: id_of(handle),
                whose: (query.user != UserId::ZERO).then(|| query.person()),
                until: query.until,
            })
        })
    }

    /// A read was begun, and its slot is free: the rest is told by the read. Or it could not be, and is tried again.
    pub fn read_begun(&mut self, now: Instant, names: &mut Names<P>, read: &Reading, begun: bool) {
        let Some(query) = self.running.get_mut(read.handle) else {
            return;
        };
        if !begun {
            query.go_to(Stage::Reading, now.after_ms(RETRY_MS));
            return;
        }
        if let Some(id) = query.resolution {
            names.release(id);
        }
        self.running.discard(read.handle);
    }

    /// Lists who follows a user, or oneself.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn followers(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        whose: Option<&name::Handle>,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        let mut query = Query::new(Command::Followers, Stage::Resolving, until);
        if let Some(handle) = whose {
            self.resolve_unless_known(now, state, names, handle, &mut query)?;
        } else {
            query.user = state.me.user();
            query.name = state.me.name();
        }
        if query.resolution.is_none() {
            query.go_to(Stage::Getting(Kinds::of(&[Kind::Follow])), now);
        }
        self.insert_resolving(names, query)
    }

    /// Lists whom a user follows, or oneself.
    ///
    /// # Errors
    /// [`CommandError::Busy`].
    pub fn following(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        whose: Option<&name::Handle>,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        let mut query = Query::new(Command::Following, Stage::Resolving, until);
        if let Some(handle) = whose {
            self.resolve_unless_known(now, state, names, handle, &mut query)?;
        } else {
            query.user = state.me.user();
        }
        if query.user == state.me.user() {
            query.tell(Telling::OwnFollowing);
        } else if query.resolution.is_none() {
            query.go_to(Stage::Getting(Kinds::of(&[Kind::Following])), now);
        }
        self.insert_resolving(names, query)
    }

    /// Begins to follow somebody.
    ///
    /// # Errors
    /// [`CommandError::Myself`]; [`CommandError::Full`]; [`CommandError::Busy`]; [`CommandError::Recovering`] or
    /// [`CommandError::StorageFailed`] while nothing may be signed.
    pub fn follow(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        handle: &name::Handle,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        state.may_sign()?;
        let mut query = Query::new(Command::Follow, Stage::Resolving, until);
        self.resolve_unless_known(now, state, names, handle, &mut query)?;
        if query.resolution.is_none() && query.user == state.me.user() {
            return Err(CommandError::Myself);
        }
        let known = state.people.followed(&query.user).is_some();
        if !known && state.people.followed_full() {
            if let Some(id) = query.resolution {
                names.release(id);
            }
            return Err(CommandError::Full);
        }
        if query.resolution.is_none() {
            query.go_to(Stage::Getting(Kinds::of(&[Kind::Profile])), now);
        }
        self.insert_resolving(names, query)
    }

    /// Ceases to follow somebody who is followed: from now on, whatever becomes of the record that says so.
    ///
    /// # Errors
    /// [`CommandError::Busy`]; [`CommandError::Recovering`] or [`CommandError::StorageFailed`] while nothing may be
    /// signed.
    pub fn unfollow(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        publish: &mut Publish<P>,
        handle: &name::Handle,
        until: Instant,
    ) -> Result<QueryId, CommandError> {
        state.may_sign()?;
        if !self.has_room() || state.persists.room() == 0 {
            return Err(CommandError::Busy);
        }
        let mut query = Query::new(Command::Unfollow, Stage::Waiting, until);
        query.name = handle.name;
        let pinned = state.people.pinned(&handle.name);
        let pinned = pinned.filter(|_| handle.fingerprint.is_none());
        let mut matching = state.people.matching(*handle);
        let user = match (pinned, matching.next(), matching.next()) {
            (Some(only), ..) | (None, Some(only), None) => only.user,
            (None, None, _) => {
                query.end(End::NotFound);
                return self.insert(query);
            }
            (None, Some(_), Some(_)) => {
                query.end = End::Ambiguous;
                query.tell(Telling::OwnFollowing);
                return self.insert(query);
            }
        };
        drop(matching);
        let slot = state.people.find_followed(&user);
        let Some(followed) = state.people.unfollow(&mut state.posts, &user) else {
            return Err(CommandError::Busy);
        };
        if let Some(slot) = slot {
            publish.on_following(now, slot.index());
        }
        query.user = user;
        query.go_to(Stage::Putting(Put::Gone), now);
        let written = state.persists.push(Entry::Following(user));
        query.persist = written.unwrap_or_default();
        let handle = self.running.insert(query).map_err(|_| CommandError::Busy)?;
        let (errands, tag) = (&mut state.errands, Part::Queries.tag_of(handle));
        let sent = errands.send(Message::Unfollow, user, followed.address, until, tag);
        if let (None, Some(query)) = (sent, self.running.get_mut(handle)) {
            query.delivered = Some(false);
        }
        Ok(id_of(handle))
    }

    fn resolve(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        handle: &name::Handle,
        query: &mut Query,
    ) -> Result<(), CommandError> {
        if !self.has_room() {
            return Err(CommandError::Busy);
        }
        // Time is left for what comes after.
        let until = now.after_ms(query.until.since_ms(now) / 3 * 2);
        query.name = handle.name;
        query.resolution = names.begin(now, state, handle, until);
        query.resolution.map(|_| ()).ok_or(CommandError::Busy)
    }

    fn resolve_unless_known(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        handle: &name::Handle,
        query: &mut Query,
    ) -> Result<(), CommandError> {
        query.name = handle.name;
        match Names::known(state, handle) {
            Some(user) => {
                query.user = user;
                query.chosen_by = ChosenBy::Pin;
                Ok(())
            }
            None => self.resolve(now, state, names, handle, query),
        }
    }

    fn insert_resolving(
        &mut self,
        names: &mut Names<P>,
        query: Query,
    ) -> Result<QueryId, CommandError> {
        let resolution = query.resolution;
        let inserted = self.insert(query);
        if let (Err(_), Some(id)) = (&inserted, resolution) {
            names.release(id);
        }
        inserted
    }
}
