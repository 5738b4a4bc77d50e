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
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let ask = match query.stage {
                Stage::Getting(kinds, due) if is_due(due) => {
                    query.stage = Stage::Getting(kinds, None);
                    let key = Key::of_user::<P::Crypto>(&query.user);
                    Ask::Get { key, kinds }
                }
                Stage::Putting(statement, due) if is_due(due) => {
                    let Some(len) = statement.sign(now, state, buf) else {
                        // Nothing may be signed: a goodbye is left unsaid, everything else fails.
                        if query.command == Command::Leave {
                            query.stage = Stage::Leaving(Some(now));
                        } else {
                            query.end(Outcome::StorageFailed);
                        }
                        continue;
                    };
                    query.stage = Stage::Putting(statement, None);
                    Ask::Put { len }
                }
                Stage::Leaving(due) if is_due(due) => {
                    query.stage = Stage::Leaving(None);
                    Ask::Leave
                }
                Stage::Getting(..)
                | Stage::Putting(..)
                | Stage::Leaving(_)
                | Stage::Resolving
                | Stage::Waiting
                | Stage::Reading(_)
                | Stage::Telling(_) => continue,
            };
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
        match record.kind {
            Kind::Profile if record.author == query.user => {
                state
                    .people
                    .on_profile(now, &mut state.posts, record, seen.remaining_ms);
                see_profile(now, query, seen);
            }
            Kind::Head if record.author == query.user => {
                if let Some(head) = Log::<P>::read_head(record)
                    && record.sequence > query.head_sequence
                {
                    query.head_sequence = record.sequence;
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
        if query.command == Command::Whois && held_ms == 0 && follow.following {
            return;
        }
        let told = Told {
            user: seen.record.author,
            name: follow.name,
            what,
        };
        query.complete &= self.results.note(handle, told, seen.record.sequence);
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
        if sequence > query.head_sequence {
            query.head_sequence = sequence;
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
        let later = Some(now.after_ms(RETRY_MS));
        match (query.stage, ended) {
            (Stage::Getting(kinds, None), Ended::Busy) => {
                query.stage = Stage::Getting(kinds, later);
            }
            (Stage::Putting(statement, None), Ended::Busy) => {
                query.stage = Stage::Putting(statement, later);
            }
            (Stage::Leaving(None), Ended::Busy) => query.stage = Stage::Leaving(later),
            (Stage::Leaving(_), _) => query.end(Outcome::Left),
            (Stage::Getting(kinds, None), Ended::Got { answered, complete }) => {
                query.complete &= complete && answered > 0;
                self.got(now, state, publish, handle, kinds);
            }
            (Stage::Putting(statement, None), Ended::Put { .. }) => {
                self.put(now, state, publish, handle, statement, ended);
            }
            (
                Stage::Getting(..)
                | Stage::Putting(..)
                | Stage::Resolving
                | Stage::Waiting
                | Stage::Reading(_)
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
        let pages = self.results.pages(handle);
        let Some(query) = self.running.get_mut(handle) else {
            return;
        };
        let holders = Kinds::of(&[Kind::Follow]);
        query.stage = match query.command {
            Command::Whois if kinds != holders => Stage::Getting(holders, Some(now)),
            Command::Follow => return self.bind(now, state, publish, handle),
            Command::Following => {
                query.complete &= pages == usize::from(query.pages);
                Stage::Telling(Telling::Claimants(None))
            }
            Command::Whois
            | Command::Timeline
            | Command::Followers
            | Command::Post { .. }
            | Command::Register
            | Command::Leave
            | Command::Unfollow => Stage::Telling(Telling::Claimants(None)),
        };
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
            if query.command == Command::Whois && holds_until <= now {
                continue;
            }
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
            query.stage = Stage::Getting(Kinds::of(&[Kind::Profile]), Some(now.after_ms(RETRY_MS)));
            return;
        }
        if !state.people.follow(user, query.name) {
            query.end(Outcome::Full);
            return;
        }
        query.persist = state.persists.push(Entry::Following(user));
        if let Some(slot) = state.people.find_followed(&user) {
            publish.on_following(now, slot.index());
        }
        let tag = Part::Queries.tag_of(handle);
        let address = query.address;
        let sent = state
            .errands
            .send(Message::Follow, user, address, query.until, tag);
        query.delivered = sent.is_none().then_some(false);
        query.stage = Stage::Putting(Statement::Follow(user), Some(now));
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
        statement: Statement,
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
            query.stage = Stage::Putting(statement, Some(now));
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
        match statement {
            _ if full && !stored && query.command == Command::Register => query.end(Outcome::Full),
            Statement::Claim => {
                query.stage = Stage::Putting(Statement::Profile, Some(now));
                publish.register(now);
            }
            Statement::Goodbye => {
                publish.leave();
                query.stage = Stage::Leaving(Some(now));
            }
            Statement::Follow(user) => {
                let fate = (user, stored);
                publish.on_follow_put(now, state, fate);
                query.stage = Stage::Waiting;
            }
            Statement::Gone(user) => {
                if !stored {
                    publish.gone(now, user);
                }
                query.stage = Stage::Waiting;
            }
            Statement::Profile
            | Statement::Head
            | Statement::Following(_)
            | Statement::Holding(_)
            | Statement::Sighting(_) => query.end(Outcome::Stored {
                accepted: query.accepted,
                wanted: query.wanted,
            }),
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
            if query.persist.is_some_and(|persist| persist <= up_to) {
                query.persist = None;
            }
        }
    }

    /// The storage failed: what waits for it has failed, and whoever was about to be followed is not.
    pub fn persist_failed(&mut self, state: &mut State<P>) {
        for (_, query) in self.running.iter_mut() {
            let posting = matches!(query.command, Command::Post { .. });
            let telling = matches!(query.stage, Stage::Telling(_));
            if query.command == Command::Follow && query.persist.is_some() {
                state.people.unfollow(&mut state.posts, &query.user);
            }
            if (posting || query.persist.is_some()) && !telling {
                query.end(Outcome::StorageFailed);
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
            query.end(Outcome::NotFound);
            return;
        };
        query.user = user;
        let kinds = match query.command {
            Command::Whois => &[Kind::Profile, Kind::Head, Kind::Sighting][..],
            Command::Followers => &[Kind::Follow],
            Command::Following => &[Kind::Following],
            Command::Follow | Command::Timeline if verdict.is_ambiguous() => {
                query.outcome = Outcome::Ambiguous;
                query.stage = Stage::Telling(Telling::Claimants(None));
                return;
            }
            Command::Timeline => {
                query.stage = Stage::Reading(now);
                return;
            }
            Command::Follow
            | Command::Unfollow
            | Command::Post { .. }
            | Command::Register
            | Command::Leave => &[Kind::Profile],
        };
        query.stage = Stage::Getting(Kinds::of(kinds), Some(now));
        if query.command == Command::Follow && user == state.me.user() {
            query.end(Outcome::NotFound);
        }
    }

    /// When a command next has something to do by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.running
            .iter()
            .fold(None, |soonest, (_, query)| match query.stage {
                Stage::Telling(_) => soonest,
                Stage::Getting(_, due) | Stage::Putting(_, due) | Stage::Leaving(due) => {
                    earliest(soonest, earliest(due, Some(query.until)))
                }
                Stage::Reading(due) => earliest(soonest, Some(due.min(query.until))),
                Stage::Resolving | Stage::Waiting => earliest(soonest, Some(query.until)),
            })
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
        Command::Post { seq, time_ms } => {
            if state.log.durable() >= seq {
                query.end(Outcome::Posted { seq, time_ms });
            }
        }
        Command::Follow | Command::Unfollow => {
            if let (Some(_), None) = (query.delivered, query.persist) {
                query.end(followed(query));
            }
        }
        Command::Register
        | Command::Leave
        | Command::Whois
        | Command::Timeline
        | Command::Followers
        | Command::Following => query.end(Outcome::TimedOut),
    }
}

fn followed(query: &Query) -> Outcome {
    Outcome::Followed {
        person: crate::output::Person {
            user: query.user,
            name: query.name,
        },
        delivered: query.delivered.unwrap_or(false),
        accepted: query.accepted,
        wanted: query.wanted,
    }
}

/// Ends a command at its deadline, with what it has.
fn give_up(query: &mut Query) {
    query.complete = false;
    match (query.command, query.stage) {
        (Command::Whois | Command::Followers | Command::Following, Stage::Getting(..)) => {
            query.stage = Stage::Telling(Telling::Claimants(None));
        }
        // The record is stored and the pin durable: that the followed was not reached is no failure.
        (Command::Follow | Command::Unfollow, Stage::Waiting) if query.persist.is_none() => {
            query.end(followed(query));
        }
        (Command::Leave, _) => query.end(Outcome::Left),
        (
            Command::Whois
            | Command::Timeline
            | Command::Followers
            | Command::Following
            | Command::Follow
            | Command::Unfollow
            | Command::Post { .. }
            | Command::Register,
            _,
        ) => query.end(Outcome::TimedOut),
    }
}
