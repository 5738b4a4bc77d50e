//! How the timeline comes back after a restart.
//!
//! Owns the end of restoring, and what is read at the user's own key afterwards. With intact storage that is only news:
//! who follows, and whether somebody else signs with the same key. After lost storage nothing is signed before it is
//! known which numbers were used: a head from a quorum of holders says which were reserved, followers give the posts back
//! that they hold, and the log goes on above the reserved numbers with a gap. Invariant: without any head, nothing is ever
//! signed; the host decides what then.

use crate::dht::{Verified, quorum};
use crate::id::Key;
use crate::output::{Class, Damaged, Restored};
use crate::overlay::Overlay;
use crate::plan::{Plan, Uses};
use crate::time::{Deadline, Instant};
use crate::wire::post::PostKind;
use crate::wire::record::{Following, Kind, Kinds};

use super::asks::{Ask, Asking, Ended};
use super::errands::Message;
use super::log::Log;
use super::people::FollowNews;
use super::persist::Entry;
use super::posts::PostId;
use super::state::State;
use super::tags::Part;

/// The first read comes this long after there is somebody to ask, in ms; each further one after a pause that is
/// [`PAUSE_GROWS`] times as long, up to [`PAUSE_MAX_MS`].
const PAUSE_MS: u64 = 2_000;
const PAUSE_GROWS: u64 = 4;
const PAUSE_MAX_MS: u64 = 60 * 60 * 1_000;
/// After lost storage: the pause between attempts, in ms.
const RETRY_MS: u64 = 5_000;
/// When no new contact has come for this long, all are known, in ms.
const SETTLED_MS: u64 = 5_000;
/// How long a read may take, in ms.
const GET_MS: u32 = 20_000;
/// How long a holder has to hand posts back, in ms.
const FETCH_MS: u64 = 15_000;
/// How many holders are asked for posts.
const FETCHES_MAX: u8 = 8;
/// Complete reads without any head, after which the host is told.
const ROUNDS_MAX: u8 = 3;
/// Deviation of pauses, in percent.
const JITTER_PERCENT: u32 = 20;

/// How far the return has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Storage was not read yet.
    Restoring,
    /// Storage was fine: the own key is read from time to time.
    Home,
    /// Storage was lost: the own key is to be read.
    Lost,
    /// Holders are asked for posts; so many have not answered yet.
    Fetching(u8),
    /// What was recovered is written: people followed from this place of the table on, then posts from this one.
    Writing(usize, PostId),
}

/// What the host is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// Posts go on with this number.
    Recovered(u64),
    /// Nobody knows a head.
    Unknown,
    /// Somebody else signs with this user's key.
    Forked,
}

/// The return.
#[derive(Debug)]
pub struct Recovery {
    stage: Stage,
    due: Deadline,
    asked: bool,
    pause_ms: u64,
    contacts: usize,
    settled_at: Instant,
    /// The highest number that any head reserves.
    reserved: u64,
    heads: u16,
    rounds: u8,
    told_unknown: bool,
    forked: bool,
    told_forked: bool,
    recovered: Option<u64>,
}

impl Recovery {
    /// Nothing was restored yet: all zero.
    pub const EMPTY: Self = Self {
        stage: Stage::Restoring,
        due: Deadline::NEVER,
        asked: false,
        pause_ms: 0,
        contacts: 0,
        settled_at: Instant::ZERO,
        reserved: 0,
        heads: 0,
        rounds: 0,
        told_unknown: false,
        forked: false,
        told_forked: false,
        recovered: None,
    };

    /// Whether storage was read, or declared lost.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.stage != Stage::Restoring
    }

    /// Storage was read.
    pub fn start(&mut self, now: Instant, how: Restored) {
        self.stage = match how {
            Restored::Lost => Stage::Lost,
            Restored::Fresh | Restored::Intact => Stage::Home,
        };
        self.pause_ms = PAUSE_MS;
        self.settled_at = now.after_ms(SETTLED_MS);
    }

    /// Tells how many contacts the DHT has.
    pub fn on_contacts(&mut self, now: Instant, contacts: usize) {
        if contacts > self.contacts {
            self.settled_at = now.after_ms(SETTLED_MS);
        }
        if contacts > 0 && self.contacts == 0 && self.is_restored() {
            self.due = Deadline::at(now.after_ms(self.pause_ms));
        }
        self.contacts = contacts;
    }

    /// What is wanted of the DHT now.
    pub fn poll_ask<P: Plan>(&mut self, now: Instant, state: &State<P>) -> Option<Asking> {
        if self.asked || self.contacts == 0 || !self.due.is_due(now) {
            return None;
        }
        let news = [Kind::Head, Kind::Follow];
        let kinds = match self.stage {
            Stage::Home => Kinds::of(&news),
            Stage::Lost if self.contacts < P::Overlay::k() && now < self.settled_at => {
                self.due = Deadline::at(self.settled_at);
                return None;
            }
            Stage::Lost => Kinds::of(&[Kind::Head, Kind::Follow, Kind::Following]),
            Stage::Restoring | Stage::Fetching(_) | Stage::Writing(..) => return None,
        };
        self.asked = true;
        self.due = Deadline::NEVER;
        Some(Asking {
            tag: Part::Recover.tag(0, 0),
            ask: Ask::Get {
                key: Key::of_user::<P::Crypto>(&state.me.user()),
                kinds,
                author: None,
            },
            within_ms: GET_MS,
        })
    }

    /// Takes a record at the own key.
    pub fn on_record<P: Plan>(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        verified: &Verified<'_>,
    ) {
        let (record, me) = (&verified.record, state.me.user());
        if record.author == me {
            state.me.saw_sequence(record.sequence);
        }
        match record.kind {
            Kind::Head if record.author == me => {
                let Some(head) = Log::<P>::read_head(record) else {
                    return;
                };
                self.heads = self.heads.saturating_add(1);
                self.reserved = self.reserved.max(head.reserved).max(head.last);
                if self.stage == Stage::Home {
                    state.log.saw_reserved(head.reserved);
                    self.forked |= state.log.contradicts(&state.me, &state.posts, &head);
                }
            }
            Kind::Follow if record.subject == Some(me) => {
                // What is refused (older, no room) is known already, or stays in the DHT.
                let _: Result<FollowNews, _> =
                    state.on_verified_follow(now, record, Some(verified.remaining_ms));
            }
            Kind::Following if record.author == me && self.stage == Stage::Lost => {
                let Ok(following) = record.payload::<Following<'_>>() else {
                    return;
                };
                for entry in following.iter() {
                    // More than this node can hold: the rest stays in the DHT, and is not renewed.
                    let _ = state.people.follow(entry.user, entry.name);
                }
            }
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

    /// Takes the end of a get.
    pub fn on_done<P: Plan>(&mut self, now: Instant, state: &mut State<P>, ended: Ended) {
        self.asked = false;
        let Ended::Got { answered, .. } = ended else {
            self.due = Deadline::at(now.after_ms(RETRY_MS));
            return;
        };
        if self.stage == Stage::Home {
            self.pause_ms = self.pause_ms.saturating_mul(PAUSE_GROWS).min(PAUSE_MAX_MS);
            let pause_ms = state.me.rng().jitter(self.pause_ms, JITTER_PERCENT);
            self.due = Deadline::at(now.after_ms(pause_ms));
            return;
        }
        // This node answers too, with nothing.
        let known = self.contacts.saturating_add(1);
        let enough = usize::from(answered) >= known.min(usize::from(quorum::<P>()));
        if !enough || self.heads == 0 {
            self.rounds = self.rounds.saturating_add(u8::from(enough));
            self.due = Deadline::at(now.after_ms(RETRY_MS));
            return;
        }
        self.fetch(now, state);
    }

    /// Asks followers for the posts: those that say they hold some first, then others.
    fn fetch<P: Plan>(&mut self, now: Instant, state: &mut State<P>) {
        let State {
            people, errands, ..
        } = state;
        let (until, tag) = (now.after_ms(FETCH_MS), Part::Recover.tag(0, 0));
        let mut asked = 0;
        for holds in [true, false] {
            for follower in people.iter_followers(now) {
                if asked < FETCHES_MAX && (now < follower.holds_until) == holds {
                    let (user, address) = (follower.user, follower.address);
                    let sent = errands.send(Message::FetchOwn, user, address, until, tag);
                    asked += u8::from(sent.is_some());
                }
            }
        }
        self.stage = Stage::Fetching(asked);
    }

    /// A holder has handed over what it had, or has not.
    pub fn on_fetched(&mut self) {
        if let Stage::Fetching(left) = &mut self.stage {
            *left = left.saturating_sub(1);
        }
    }

    /// Goes on with what was fetched: as far as the storage queue has room, the rest after the next drain.
    pub fn handle_timeout<P: Plan>(&mut self, now: Instant, state: &mut State<P>) {
        if self.stage == Stage::Fetching(0) {
            self.reserved = self.reserved.max(own_copy_reserves(now, state));
            let me = state.me.user();
            let (posts, persists) = (&mut state.posts, &mut state.persists);
            let newest = state.copies.take(posts, persists, &me);
            state.log.resume(&state.me, posts, newest, self.reserved);
            self.stage = Stage::Writing(0, newest);
        }
        let Stage::Writing(mut slot, mut post) = self.stage else {
            return;
        };
        if !P::Uses::STORAGE {
            self.go_on(now, state);
            return;
        }
        // Two are for the gap.
        while state.persists.room() > 2 {
            if let Some((at, followed)) = state.people.followed_from(slot) {
                let _ = state.persists.push(Entry::Following(followed.user));
                slot = at.saturating_add(1);
            } else if let Some(stored) = state.posts.get(post) {
                let _ = state.persists.push(Entry::Post(stored.seq, stored.id));
                post = stored.older;
            } else {
                self.go_on(now, state);
                return;
            }
        }
        self.stage = Stage::Writing(slot, post);
    }

    /// Everything is known and queued: signs again, beginning with the gap.
    fn go_on<P: Plan>(&mut self, now: Instant, state: &mut State<P>) {
        state.recovering = false;
        state.me.unmute();
        if state.append(now, PostKind::Gap, "").is_err() {
            // No room now: until then nothing is signed.
            state.me.mute();
            state.recovering = true;
            return;
        }
        self.stage = Stage::Home;
        self.recovered = Some(state.log.last().saturating_add(1));
        self.due = Deadline::at(now.after_ms(self.pause_ms));
    }

    /// What the host is to be told next.
    pub fn poll_event(&mut self) -> Option<Return> {
        if let Some(next) = self.recovered.take() {
            return Some(Return::Recovered(next));
        }
        if self.forked && !self.told_forked {
            self.told_forked = true;
            return Some(Return::Forked);
        }
        if self.rounds >= ROUNDS_MAX && self.heads == 0 && !self.told_unknown {
            self.told_unknown = true;
            return Some(Return::Unknown);
        }
        None
    }

    /// When the DHT is to be asked next.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        let asks = matches!(self.stage, Stage::Home | Stage::Lost);
        if asks && self.contacts > 0 && !self.asked {
            self.due
        } else {
            Deadline::NEVER
        }
    }
}

/// The number that the head reserves with which holders handed own posts over.
fn own_copy_reserves<P: Plan>(now: Instant, state: &State<P>) -> u64 {
    let view = state.copies.view(now, &state.posts, &state.me.user());
    let record = view.and_then(|view| crate::wire::record::Record::decode(view.head).ok());
    let head = record.and_then(|record| Log::<P>::read_head(&record));
    head.map_or(0, |head| head.reserved.max(head.last))
}

impl<P: Plan> State<P> {
    /// Ends the restoring, and allows signing unless storage was lost.
    ///
    /// # Errors
    /// What is wrong with the storage; nothing may be signed then.
    pub fn restored_all(&mut self, how: Restored) -> Result<(), Damaged> {
        if how == Restored::Lost {
            self.recovering = true;
            return Ok(());
        }
        if how == Restored::Intact {
            self.log.check_restored(&self.me, &self.posts)?;
            self.copies
                .restored_all(&self.me, &mut self.posts, &mut self.persists);
        } else if self.posts.used().0 > 0 || self.log.last() > 0 {
            return Err(Damaged {
                class: Class::Log,
                what: "a new identity has posts already",
            });
        }
        self.log.restored_all(&self.me, &self.posts);
        self.me.unmute();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
