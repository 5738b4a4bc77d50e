//! How commands go on: from one stage to the next, as answers come in.

use super::*;
use crate::timeline::people::FollowNews;

impl<P: Plan> Queries<P> {
    fn find(&self, tag: u32) -> Option<Handle> {
        let handle = self.running.handle_at(slot_of(tag))?;
        (Part::Queries.tag_of(handle) == tag).then_some(handle)
    }

    /// What a command wants of the DHT now; records are signed into `buf`.
    pub fn poll_ask(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        buf: &mut [u8],
    ) -> Option<Asking> {
        for (handle, query) in self.running.iter_mut() {
            if !query.due.is_due(now) {
                continue;
            }
            let ask = match query.stage {
                Stage::Getting(kinds) => {
                    let key = Key::of_user::<P::Crypto>(&query.user);
                    // Follow records are their followers'; all else that counts is the user's own.
                    let author = (!kinds.contains(Kind::Follow)).then_some(query.user);
                    Ask::Get { key, kinds, author }
                }
                Stage::Putting(put) => {
                    let Some(len) = query.statement(put).sign(now, state, buf) else {
                        // Nothing may be signed: a goodbye is left unsaid, everything else fails.
                        if query.command == Command::Leave {
                            query.go_to(Stage::Leaving, now.after_ms(1));
                        } else {
                            query.end(End::StorageFailed);
                        }
                        continue;
                    };
                    Ask::Put { len }
                }
                Stage::Leaving => Ask::Leave,
                Stage::Resolving | Stage::Waiting | Stage::Reading | Stage::Telling(_) => continue,
            };
            query.due = Deadline::NEVER;
            let within_ms = query.until.since_ms(now);
            return Some(Asking {
                tag: Part::Queries.tag_of(handle),
                ask,
                within_ms: u32::try_from(within_ms).unwrap_or(u32::MAX),
            });
        }
        None
    }

    /// Takes a record that a get brought.
    pub fn on_record(&mut self, now: Instant, state: &mut State<P>, tag: u32, seen: &Verified<'_>) {
        let Some(handle) = self.find(tag) else {
            return;
        };
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        let record = &seen.record;
        // Nothing else is asked for by the commands of such a plan.
        if !P::Uses::EVERY_COMMAND && record.kind != Kind::Profile {
            return;
        }
        match record.kind {
            Kind::Profile if record.author == query.user => {
                state
                    .people
                    .on_profile(now, &mut state.posts, record, seen.remaining_ms);
                see_profile(now, query, seen);
            }
            Kind::Head if record.author == query.user => {
                if let Some(head) = Log::<P>::read_head(record)
                    && record.sequence > query.sequence
                {
                    query.sequence = record.sequence;
                    query.last = head.last;
                }
            }
            Kind::Sighting if record.subject == Some(query.user) => query.missed = true,
            Kind::Follow if record.subject == Some(query.user) => {
                if query.user == state.me.user() {
                    let left_ms = Some(seen.remaining_ms);
                    // What is refused (older, full) is listed all the same.
                    let _: Result<FollowNews, _> = state.on_verified_follow(now, record, left_ms);
                }
                self.see_follow(now, handle, seen);
            }
            Kind::Following if record.author == query.user => self.see_following(handle, seen),
            Kind::Claim
            | Kind::Profile
            | Kind::Head
            | Kind::Follow
            | Kind::Following
            | Kind::Holding
            | Kind::Sighting
            | Kind::Value => {}
        }
    }

    fn see_follow(&mut self, now: Instant, handle: Handle, seen: &Verified<'_>) {
        let (Some(query), Ok(follow)) = (
            self.running.get_mut(handle),
            seen.record.payload::<Follow>(),
        ) else {
            return;
        };
        let age_ms = u64::from(seen.record.lifetime_ms).saturating_sub(seen.remaining_ms);
        let held_ms = u64::from(follow.holds_ms).saturating_sub(age_ms);
        let what = if follow.following {
            What::Follower {
                holds_until: now.after_ms(held_ms),
            }
        } else {
            What::Gone
        };
        let told = Told {
            user: seen.record.author,
            name: follow.name,
            what,
        };
        let noted = self.results.note(handle, told, seen.record.sequence);
        // Whoever asks who somebody is gets the number of followers, and those who hold copies.
        query.complete &= noted || (query.command == Command::Whois && held_ms == 0);
    }

    fn see_following(&mut self, handle: Handle, seen: &Verified<'_>) {
        let (Some(query), Ok(following)) = (
            self.running.get_mut(handle),
            seen.record.payload::<Following<'_>>(),
        ) else {
            return;
        };
        let (page, sequence) = (seen.record.page, seen.record.sequence);
        match self.results.note_page(handle, page, sequence) {
            Some(true) => {}
            Some(false) => return,
            None => {
                query.complete = false;
                return;
            }
        }
        if sequence > query.sequence {
            query.sequence = sequence;
            query.pages = following.pages;
        }
        for entry in following.iter() {
            let told = Told {
                user: entry.user,
                name: entry.name,
                what: What::Followed { page },
            };
            query.complete &= self.results.note(handle, told, sequence);
        }
    }

    /// Takes the end of an operation.
    pub fn on_done(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        publish: &mut Publish<P>,
        tag: u32,
        ended: Ended,
    ) {
        let Some(handle) = self.find(tag) else {
            return;
        };
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        if !query.due.is_never() {
            return;
        }
        match (query.stage, ended) {
            (Stage::Getting(_) | Stage::Putting(_) | Stage::Leaving, Ended::Busy) => {
                query.due = Deadline::at(now.after_ms(RETRY_MS));
            }
            (Stage::Leaving, _) => query.end(End::Left),
            (Stage::Getting(kinds), Ended::Got { answered, complete }) => {
                query.complete &= complete && answered > 0;
                self.got(now, state, publish, handle, kinds);
            }
            (Stage::Putting(put), Ended::Put { .. }) => {
                self.put(now, state, publish, handle, put, ended);
            }
            (
                Stage::Getting(_)
                | Stage::Putting(_)
                | Stage::Resolving
                | Stage::Waiting
                | Stage::Reading
                | Stage::Telling(_),
                _,
            ) => {}
        }
    }

    /// The records of `kinds` were read.
    fn got(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        publish: &mut Publish<P>,
        handle: Handle,
        kinds: Kinds,
    ) {
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        if query.command == Command::Follow {
            return self.bind(now, state, publish, handle);
        }
        if P::Uses::EVERY_COMMAND {
            self.listed(now, state, handle, kinds);
        }
    }

    /// Records of `kinds` were read for a command that lists people.
    fn listed(&mut self, now: Instant, state: &State<P>, handle: Handle, kinds: Kinds) {
        let pages = self.results.pages(handle);
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        let holders = Kinds::of(&[Kind::Follow]);
        match query.command {
            Command::Whois if kinds != holders => query.go_to(Stage::Getting(holders), now),
            Command::Following => {
                query.complete &= pages == usize::from(query.pages);
                query.tell(Telling::Claimants);
            }
            Command::Whois
            | Command::Timeline
            | Command::Followers
            | Command::Post
            | Command::Register
            | Command::Leave
            | Command::Follow
            | Command::Unfollow => query.tell(Telling::Claimants),
        }
        if query.user == state.me.user() {
            self.add_own_followers(now, state, handle);
        }
    }

    /// Adds the followers that came directly and may not be in the DHT yet.
    fn add_own_followers(&mut self, now: Instant, state: &State<P>, handle: Handle) {
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        for follower in state.people.iter_followers(now) {
            let holds_until = follower.holds_until;
            let told = Told {
                user: follower.user,
                name: follower.name,
                what: What::Follower { holds_until },
            };
            query.complete &= self.results.note(handle, told, follower.sequence);
        }
    }

    /// Follows whom the handle was found to mean: pins the key, and sends the record on its ways.
    fn bind(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        publish: &mut Publish<P>,
        handle: Handle,
    ) {
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        let user = query.user;
        if state.persists.room() == 0 {
            // The host drains between inputs: the profile is read once more, a moment later.
            let stage = Stage::Getting(Kinds::of(&[Kind::Profile]));
            query.go_to(stage, now.after_ms(RETRY_MS));
            return;
        }
        if !state.people.follow(user, query.name) {
            query.end(End::Full);
            return;
        }
        let written = state.persists.push(Entry::Following(user));
        query.persist = written.unwrap_or_default();
        if let Some(slot) = state.people.find_followed(&user) {
            publish.on_following(now, slot.index());
        }
        let tag = Part::Queries.tag_of(handle);
        let address = query.address;
        let sent = state
            .errands
            .send(Message::Follow, user, address, query.until, tag);
        query.delivered = sent.is_none().then_some(false);
        query.go_to(Stage::Putting(Put::Follow), now);
        // Until the put of this command has ended.
        state.people.schedule_follow(&user, query.until.after_ms(1));
    }

    /// A put has ended.
    fn put(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        publish: &mut Publish<P>,
        handle: Handle,
        put: Put,
        ended: Ended,
    ) {
        let (
            Some(query),
            Ended::Put {
                accepted,
                wanted,
                older,
                full,
            },
        ) = (self.running.get_mut(handle), ended)
        else {
            return;
        };
        if let Some(sequence) = older
            && query.older < OLDER_MAX
        {
            state.me.saw_sequence(sequence);
            query.older = query.older.saturating_add(1);
            query.due = Deadline::at(now);
            return;
        }
        let first = query.wanted == 0;
        query.accepted = if first {
            accepted
        } else {
            query.accepted.min(accepted)
        };
        query.wanted = query.wanted.max(wanted);
        let stored = accepted >= wanted;
        let (user, registering) = (query.user, query.command == Command::Register);
        match put {
            _ if full && !stored && registering => query.end(End::Full),
            Put::Claim => {
                query.go_to(Stage::Putting(Put::Profile), now);
                publish.register(now);
            }
            Put::Profile => query.end(End::Stored),
            Put::Goodbye => {
                publish.leave();
                query.go_to(Stage::Leaving, now);
            }
            Put::Follow => {
                query.stage = Stage::Waiting;
                publish.on_follow_put(now, state, (user, stored));
            }
            Put::Gone => {
                query.stage = Stage::Waiting;
                if !stored {
                    publish.gone(now, user);
                }
            }
        }
    }

    /// An errand of a command has ended.
    pub fn on_delivered(&mut self, tag: u32, delivered: bool) {
        let handle = self.find(tag);
        if let Some(query) = handle.and_then(|handle| self.running.get_mut(handle)) {
            query.delivered = Some(delivered);
        }
    }

    /// Moves commands on whose waiting is over: names that were resolved, what became durable, what took too long.
    pub fn handle_timeout(&mut self, now: Instant, state: &State<P>, names: &Names<P>) {
        let mut at = 0;
        while let Some(handle) = self.running.first_from(at) {
            at = handle.index().saturating_add(1);
            self.resolved(now, state, names, handle);
            let Some(query) = self.running.get_mut(handle) else {
                continue;
            };
            if query.stage == Stage::Waiting {
                wait(state, query);
            }
            if query.until <= now && !matches!(query.stage, Stage::Telling(_)) {
                give_up(query);
            }
        }
    }

    /// Everything up to `up_to` is durable.
    pub fn persisted(&mut self, up_to: PersistId) {
        for (_, query) in self.running.iter_mut() {
            if query.persist <= up_to {
                query.persist = PersistId(0);
            }
        }
    }

    /// The storage failed: what waits for it has failed, and whoever was about to be followed is not.
    pub fn persist_failed(&mut self, state: &mut State<P>) {
        for (_, query) in self.running.iter_mut() {
            let waits = query.command == Command::Post || !query.is_written();
            if query.command == Command::Follow && !query.is_written() {
                state.people.unfollow(&mut state.posts, &query.user);
            }
            if waits && !matches!(query.stage, Stage::Telling(_)) {
                query.end(End::StorageFailed);
            }
        }
    }

    fn resolved(&mut self, now: Instant, state: &State<P>, names: &Names<P>, handle: Handle) {
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        let verdict = query.resolution.and_then(|id| names.verdict(id));
        let (Stage::Resolving, Some(verdict)) = (query.stage, verdict) else {
            return;
        };
        query.count = verdict.claimants;
        query.chosen_by = verdict.chosen_by;
        query.complete &= verdict.complete;
        let Some(user) = verdict.user else {
            query.end(End::NotFound);
            return;
        };
        query.user = user;
        let kinds = match query.command {
            Command::Whois => &[Kind::Profile, Kind::Head, Kind::Sighting][..],
            Command::Followers => &[Kind::Follow],
            Command::Following => &[Kind::Following],
            Command::Follow | Command::Timeline if verdict.is_ambiguous() => {
                query.end = End::Ambiguous;
                query.tell(Telling::Claimants);
                return;
            }
            Command::Timeline => {
                query.go_to(Stage::Reading, now);
                return;
            }
            Command::Follow
            | Command::Unfollow
            | Command::Post
            | Command::Register
            | Command::Leave => &[Kind::Profile],
        };
        query.go_to(Stage::Getting(Kinds::of(kinds)), now);
        if query.command == Command::Follow && user == state.me.user() {
            query.end(End::NotFound);
        }
    }

    /// When a command next has something to do by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        let mut soonest = Deadline::NEVER;
        for (_, query) in self.running.iter() {
            if !matches!(query.stage, Stage::Telling(_)) {
                soonest.lower(query.until);
                soonest = soonest.or(query.due);
            }
        }
        soonest
    }
}

fn see_profile(now: Instant, query: &mut Query, seen: &Verified<'_>) {
    let Ok(profile) = seen.record.payload::<Profile<'_>>() else {
        return;
    };
    if seen.record.sequence > query.profile_sequence {
        query.profile_sequence = seen.record.sequence;
        query.address = profile.addresses().next().unwrap_or(PackedAddr::NONE);
        query.followers = profile.followers;
        let left_ms = lease_left_ms(&seen.record, &profile, seen.remaining_ms);
        query.lease_until = now.after_ms(left_ms);
    }
}

/// Ends a command whose waiting is over.
fn wait<P: Plan>(state: &State<P>, query: &mut Query) {
    match query.command {
        Command::Post => {
            if state.log.durable() >= query.last {
                query.end(End::Posted);
            }
        }
        Command::Follow | Command::Unfollow => {
            if query.delivered.is_some() && query.is_written() {
                query.end(End::Followed);
            }
        }
        Command::Register
        | Command::Leave
        | Command::Whois
        | Command::Timeline
        | Command::Followers
        | Command::Following => query.end(End::TimedOut),
    }
}

/// Ends a command at its deadline, with what it has.
fn give_up(query: &mut Query) {
    query.complete = false;
    let getting = matches!(query.stage, Stage::Getting(_));
    let waiting = query.stage == Stage::Waiting && query.is_written();
    match query.command {
        Command::Whois | Command::Followers | Command::Following if getting => {
            query.tell(Telling::Claimants);
        }
        // The record is stored and the pin durable: that the followed was not reached is no failure.
        Command::Follow | Command::Unfollow if waiting => query.end(End::Followed),
        Command::Leave => query.end(End::Left),
        Command::Whois
        | Command::Timeline
        | Command::Followers
        | Command::Following
        | Command::Follow
        | Command::Unfollow
        | Command::Post
        | Command::Register => query.end(End::TimedOut),
    }
}
