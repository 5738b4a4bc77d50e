//! Keeps in the DHT what this user has to say there, for as long as the node runs.
//!
//! Owns when each record is due and what became of it; how one looks is in [`super::statements`]. Records are renewed early
//! while the network is young, then at the pace of their kind; a put that too few holders took is repeated with growing
//! pauses. Invariant: at most as many puts are under way as the plan allows, so that a host's commands find room.

use crate::bounded::List;
use crate::crypto::Crypto;
use crate::id::UserId;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::time::{Deadline, Instant};
use crate::wire::record::FOLLOWING_PER_PAGE;

use super::asks::{Ask, Asking, Ended};
use super::me::LIFETIME_UNDATED_MS;
use super::state::State;
use super::statements::Statement;
use super::tags::Part;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Pause between renewals of what lives for seven days, in ms.
const DAILY_MS: u64 = 24 * HOUR_MS;
/// The same without a clock, when holders keep a record for an hour at most.
const UNDATED_MS: u64 = 40 * MINUTE_MS;
/// Pauses of the first renewals, in ms: whoever joined meanwhile may be nearer to the key.
const EARLY_MS: [u64; 3] = [2 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS];
/// First puts come within this time after there is somebody to put to, in ms.
const FIRST_MS: u64 = 300;
/// With many people followed, the first `Follow` records are spread by this much each, in ms.
const SPREAD_MS: u64 = 20;
/// A change is published after this pause, in ms, so that several changes are one.
const CHANGE_MS: u64 = 1_000;
/// A head is published anew for its newest post at most once in this time, in ms; the first post after a pause is
/// named at once.
const HEAD_CHANGE_MS: u64 = 30_000;
/// Pause before a failed put is repeated, in ms; doubles up to [`RETRY_MAX_MS`].
const RETRY_MS: u64 = 5_000;
const RETRY_MAX_MS: u64 = 5 * MINUTE_MS;
/// Pause before a busy DHT is asked again, in ms.
const BUSY_MS: u64 = 500;
/// How long a put may take, in ms.
const PUT_MS: u32 = 20_000;
/// Attempts to say something that is said once.
const ONCE_ATTEMPTS: u8 = 6;
/// One sighting of a subject in this time, in ms.
const SIGHTING_PAUSE_MS: u64 = 10 * MINUTE_MS;
/// How long one that is gone is remembered, so that enough holders hear of it, in ms.
const GONE_MS: u64 = HOUR_MS;
/// Pause between two rounds of `Holding` pages, in ms.
const HOLDING_MS: u64 = 10 * MINUTE_MS;
/// Deviation of every pause, in percent.
const JITTER_PERCENT: u32 = 10;

const _: () = assert!(UNDATED_MS + UNDATED_MS / 10 < LIFETIME_UNDATED_MS as u64);
const _: () = assert!(HOUR_MS + HOUR_MS / 10 < super::statements::LEASE_MS as u64);

/// How a put ended, as far as the schedule is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Stored,
    /// It was not the network's fault: once more, now.
    Again,
    Failed,
}

/// When one record is due.
#[derive(Clone, Copy, Debug)]
struct Task {
    /// Never: it is being put, or not before something changes.
    due: Deadline,
    /// When it was stored last.
    stored: Instant,
    rounds: u8,
    failures: u8,
}

impl Task {
    const IDLE: Self = Self {
        due: Deadline::NEVER,
        stored: Instant::ZERO,
        rounds: 0,
        failures: 0,
    };

    fn hurry(&mut self, at: Instant) {
        self.due.lower(at);
    }

    /// As new: early renewals begin again.
    fn renew(&mut self, at: Instant) {
        self.rounds = 0;
        self.failures = 0;
        self.hurry(at);
    }

    fn ended<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>, fate: Fate, period_ms: u64) {
        let pause_ms = match fate {
            Fate::Stored => {
                let early = EARLY_MS.get(usize::from(self.rounds)).copied();
                self.stored = now;
                self.failures = 0;
                self.rounds = self.rounds.saturating_add(1);
                early.map_or(period_ms, |early_ms| early_ms.min(period_ms))
            }
            Fate::Again => 0,
            Fate::Failed => {
                let doubled = RETRY_MS << self.failures.min(8);
                self.failures = self.failures.saturating_add(1);
                doubled.min(RETRY_MAX_MS)
            }
        };
        self.hurry(now.after_ms(rng.jitter(pause_ms, JITTER_PERCENT)));
    }
}

/// Pages that are put one after the other.
#[derive(Clone, Copy, Debug)]
struct Pages {
    task: Task,
    /// The pages from `next` up to, but without, `end` are to be put; when there are none and the task is due: all.
    next: u16,
    end: u16,
}

impl Pages {
    const IDLE: Self = Self {
        task: Task::IDLE,
        next: 0,
        end: 0,
    };

    fn add(&mut self, page: u16, at: Instant) {
        let end = page.saturating_add(1);
        let none = self.next >= self.end;
        self.next = if none { page } else { self.next.min(page) };
        self.end = if none { end } else { self.end.max(end) };
        self.task.hurry(at);
    }

    /// Takes the next page if one is due; `pages` are all there are.
    fn take(&mut self, now: Instant, pages: u16) -> Option<u16> {
        if !self.task.due.is_due(now) {
            return None;
        }
        self.task.due = Deadline::NEVER;
        if self.next >= self.end {
            (self.next, self.end) = (0, pages);
        }
        let page = self.next;
        self.next = page.saturating_add(1);
        (page < self.end).then_some(page)
    }

    fn ended<C: Crypto>(
        &mut self,
        now: Instant,
        rng: &mut Rng<C>,
        fate: Fate,
        page: u16,
        period_ms: u64,
    ) {
        if fate == Fate::Stored && self.next < self.end {
            self.task.hurry(now);
            return;
        }
        self.task.ended(now, rng, fate, period_ms);
        if fate != Fate::Stored {
            let due = self.task.due.get().unwrap_or(now);
            self.add(page, due);
        }
    }
}

/// A put that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    statement: Statement,
    tag: u32,
    /// The number that a head under way reserves.
    reserves: u64,
}

/// Something that is said once: that one has ceased to follow somebody, or that they did not answer.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    statement: Statement,
    due: Deadline,
    attempts: u8,
    /// Remembered until then, so that it is not said again too soon.
    until: Instant,
}

/// What is kept in the DHT, and when it is due.
pub struct Publish<P: Plan> {
    claim: Task,
    profile: Task,
    head: Task,
    following: Pages,
    holding: Pages,
    once: P::Onces,
    running: P::Puts,
    /// Nothing is put before this: the DHT was busy.
    busy_until: Instant,
    generation: u32,
    /// The newest own post when the head was put last.
    head_last: u64,
    /// When that was a new one last.
    head_named: Instant,
    connected: bool,
    left: bool,
}

impl<P: Plan> Publish<P> {
    /// Nothing to say.
    pub const EMPTY: Self = Self {
        claim: Task::IDLE,
        profile: Task::IDLE,
        head: Task::IDLE,
        following: Pages::IDLE,
        holding: Pages::IDLE,
        once: P::Onces::EMPTY,
        running: P::Puts::EMPTY,
        busy_until: Instant::ZERO,
        generation: 0,
        head_last: 0,
        head_named: Instant::ZERO,
        connected: false,
        left: false,
    };

    /// Begins: the state may sign now.
    pub fn start(&mut self, now: Instant, state: &mut State<P>) {
        let first = |state: &mut State<P>| now.after_ms(state.me.rng().below(FIRST_MS));
        self.head.renew(first(state));
        self.profile.renew(first(state));
        self.claim.renew(first(state));
        self.following.task.renew(first(state));
        let many = u64::try_from(state.people.followed_len()).unwrap_or(0);
        let spread_ms = many.saturating_mul(SPREAD_MS).saturating_add(FIRST_MS);
        let State { me, people, .. } = state;
        people.schedule_follows(|| now.after_ms(me.rng().below(spread_ms)));
    }

    /// Tells how many contacts the DHT has: when the first comes, everything is put anew.
    pub fn on_contacts(&mut self, now: Instant, state: &mut State<P>, contacts: usize) {
        let connected = contacts > 0;
        if connected && !self.connected && !state.me.is_mute() {
            self.start(now, state);
        }
        self.connected = connected;
    }

    /// The own address changed: the profile says so soon.
    pub fn on_address(&mut self, now: Instant) {
        self.profile.hurry(now.after_ms(CHANGE_MS));
    }

    /// The log may have changed: new numbers are reserved at once, a new post is named soon.
    pub fn on_log(&mut self, now: Instant, state: &State<P>) {
        if state.me.is_mute() || self.running(Statement::Head) {
            return;
        }
        if state.log.reserving() > state.log.reserved() {
            if self.head.failures == 0 {
                self.head.hurry(now);
            }
        } else if state.log.shown() > self.head_last {
            let paced = self.head_named.after_ms(HEAD_CHANGE_MS);
            self.head.hurry(paced.max(now.after_ms(CHANGE_MS)));
        }
    }

    fn running(&self, statement: Statement) -> bool {
        self.running
            .iter()
            .any(|running| running.statement == statement)
    }

    /// Claim, profile and head are to be put now.
    pub fn register(&mut self, now: Instant) {
        for task in [&mut self.claim, &mut self.profile, &mut self.head] {
            task.hurry(now);
        }
    }

    /// Somebody was followed or unfollowed: the page of that place in the table changed.
    pub fn on_following(&mut self, now: Instant, slot: usize) {
        let page = u16::try_from(slot / FOLLOWING_PER_PAGE).unwrap_or(u16::MAX);
        self.following.add(page, now.after_ms(CHANGE_MS));
    }

    /// Copies changed: the pages of `Holding` say so in due time.
    pub fn on_copies(&mut self, now: Instant, state: &State<P>) {
        let dated = state.me.clock().unix_ms(now).is_some();
        if dated && self.holding.task.due.is_never() {
            let paced = self.holding.task.stored.after_ms(HOLDING_MS);
            self.holding.task.hurry(paced.max(now.after_ms(CHANGE_MS)));
        }
    }

    /// This user has ceased to follow `user`, and too few holders know: says so again until enough do.
    pub fn gone(&mut self, now: Instant, user: UserId) {
        self.say_once(now, Statement::Gone(user), now.after_ms(RETRY_MS), GONE_MS);
    }

    /// `user` did not answer this node: puts a sighting, one in ten minutes. When too many are missed at once, further ones
    /// are not reported.
    pub fn missed(&mut self, now: Instant, user: UserId) {
        self.say_once(now, Statement::Sighting(user), now, SIGHTING_PAUSE_MS);
    }

    fn say_once(&mut self, now: Instant, statement: Statement, due: Instant, keep_ms: u64) {
        self.once.retain(|once| now < once.until);
        if self.once.iter().any(|once| once.statement == statement) {
            return;
        }
        let once = Once {
            statement,
            due: Deadline::at(due),
            attempts: 0,
            until: now.after_ms(keep_ms),
        };
        // A full table: it is not said. Sightings are hints, and a follower that is gone expires.
        let _ = self.once.push(once);
    }

    /// The node leaves the network: nothing more is put.
    pub fn leave(&mut self) {
        self.left = true;
    }

    /// The next record to put, signed into `buf`.
    pub fn poll_ask(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        buf: &mut [u8],
    ) -> Option<Asking> {
        if state.me.is_mute() || self.left || self.running.is_full() || now < self.busy_until {
            return None;
        }
        // What has nothing to say is left out until it is due again.
        let (statement, len) = loop {
            let statement = self.next_due(now, state)?;
            if let Some(len) = statement.sign(now, state, buf) {
                break (statement, len);
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let tag = Part::Publish.tag(slot, self.generation);
        let running = Running {
            statement,
            tag,
            reserves: state.log.reserving(),
        };
        if statement == Statement::Head && state.log.shown() > self.head_last {
            (self.head_last, self.head_named) = (state.log.shown(), now);
        }
        self.running.push(running).ok()?;
        Some(Asking {
            tag,
            ask: Ask::Put { len },
            within_ms: PUT_MS,
        })
    }

    /// Takes what is most pressing of what is due.
    fn next_due(&mut self, now: Instant, state: &mut State<P>) -> Option<Statement> {
        for (task, statement) in [
            (&mut self.head, Statement::Head),
            (&mut self.profile, Statement::Profile),
            (&mut self.claim, Statement::Claim),
        ] {
            if task.due.is_due(now) {
                task.due = Deadline::NEVER;
                return Some(statement);
            }
        }
        if let Some(once) = self.once.iter_mut().find(|once| once.due.is_due(now)) {
            once.due = Deadline::NEVER;
            return Some(once.statement);
        }
        // The end of the put schedules the next; this is for the case that it never comes.
        if let Some(user) = state.people.next_follow(now, now.after_ms(HOUR_MS)) {
            return Some(Statement::Follow(user));
        }
        let pages = Statement::following_pages(state);
        if let Some(page) = self.following.take(now, pages) {
            return Some(Statement::Following(page));
        }
        let pages = Statement::holding_pages(state);
        self.holding.take(now, pages).map(Statement::Holding)
    }

    /// Takes the end of a put.
    pub fn on_done(&mut self, now: Instant, state: &mut State<P>, tag: u32, ended: Ended) {
        let at = self.running.iter().position(|running| running.tag == tag);
        let Some(running) = at.and_then(|at| self.running.swap_remove(at)) else {
            return;
        };
        let fate = match ended {
            Ended::Put {
                older: Some(sequence),
                ..
            } => {
                state.me.saw_sequence(sequence);
                Fate::Again
            }
            Ended::Put {
                accepted, wanted, ..
            } if accepted >= wanted => Fate::Stored,
            Ended::Busy => {
                self.busy_until = now.after_ms(BUSY_MS);
                Fate::Again
            }
            Ended::Put { .. } | Ended::Got { .. } | Ended::Left => Fate::Failed,
        };
        if fate == Fate::Stored && running.statement == Statement::Head {
            let State {
                me,
                log,
                posts,
                persists,
                ..
            } = state;
            log.on_reserved(me, posts, persists, running.reserves);
        }
        self.schedule(now, state, running.statement, fate);
    }

    /// Says when a record is due next, now that a put of it has ended.
    fn schedule(&mut self, now: Instant, state: &mut State<P>, statement: Statement, fate: Fate) {
        let dated = state.me.clock().unix_ms(now).is_some();
        let period = |ms: u64| if dated { ms } else { ms.min(UNDATED_MS) };
        let (daily_ms, hourly_ms) = (period(DAILY_MS), period(HOUR_MS));
        let rng = state.me.rng();
        match statement {
            Statement::Claim => self.claim.ended(now, rng, fate, daily_ms),
            Statement::Profile => self.profile.ended(now, rng, fate, hourly_ms),
            Statement::Head => self.head.ended(now, rng, fate, hourly_ms),
            Statement::Following(page) => {
                self.following.ended(now, rng, fate, page, daily_ms);
            }
            Statement::Holding(page) => {
                self.holding.ended(now, rng, fate, page, HOLDING_MS);
                if fate == Fate::Stored && state.copies.is_empty() {
                    self.holding = Pages::IDLE;
                }
            }
            Statement::Follow(user) => self.schedule_follow(now, state, user, fate, daily_ms),
            Statement::Gone(_) | Statement::Sighting(_) | Statement::Goodbye => {
                let said = |once: &&mut Once| once.statement == statement;
                if let Some(once) = self.once.iter_mut().find(said) {
                    once.attempts = once.attempts.saturating_add(1);
                    let more = fate != Fate::Stored && once.attempts < ONCE_ATTEMPTS;
                    let pause_ms = if fate == Fate::Again { 0 } else { RETRY_MS };
                    once.due = if more {
                        Deadline::at(now.after_ms(pause_ms))
                    } else {
                        Deadline::NEVER
                    };
                }
            }
        }
    }

    fn schedule_follow(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        user: UserId,
        fate: Fate,
        period_ms: u64,
    ) {
        let Some(followed) = state.people.followed(&user) else {
            return;
        };
        let mut task = Task {
            due: Deadline::NEVER,
            stored: followed.follow_put,
            // Early renewals matter as long as this node is new to the network.
            rounds: self.profile.rounds,
            failures: followed.follow_attempts,
        };
        task.ended(now, state.me.rng(), fate, period_ms);
        if let Some(followed) = state.people.followed_mut(&user) {
            followed.follow_put = task.stored;
            followed.follow_attempts = task.failures;
        }
        let due = task.due.get().unwrap_or(now);
        state.people.schedule_follow(&user, due);
    }

    /// A command has put the `Follow` record about somebody, and it was stored or not: the next is due at the usual pace.
    pub fn on_follow_put(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (user, stored): (UserId, bool),
    ) {
        let fate = if stored { Fate::Stored } else { Fate::Failed };
        self.schedule(now, state, Statement::Follow(user), fate);
    }

    /// When [`Publish::poll_ask`] next has something to put.
    #[must_use]
    pub fn next_deadline(&self, state: &State<P>) -> Deadline {
        if state.me.is_mute() || self.left || self.running.is_full() {
            return Deadline::NEVER;
        }
        let mut due = state.people.follow_wake();
        for task in [
            &self.claim,
            &self.profile,
            &self.head,
            &self.following.task,
            &self.holding.task,
        ] {
            due = due.or(task.due);
        }
        for once in self.once.iter() {
            due = due.or(once.due);
        }
        match due.get() {
            Some(due) => Deadline::at(due.max(self.busy_until)),
            None => Deadline::NEVER,
        }
    }
}

#[cfg(test)]
mod tests;
