//! The followers of this user.
//!
//! Owns what their records say. Invariant: a follower is as its newest record says, and gone when that has expired.

use core::mem;

use crate::addr::PackedAddr;
use crate::bounded::{Handle, Index};
use crate::id::UserId;
use crate::name::Name;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::{Deadline, Instant};
use crate::timeline::me::{LIFETIME_UNDATED_MS, Me};
use crate::timeline::persist::{Entry, Persists};
use crate::timeline::{payload_of, soonest};
use crate::wire::record::{Follow, Kind, Record};

use super::{People, mixed};

/// Followers looked at in one sweep step.
const SWEEP_STEPS: usize = 64;

/// Somebody who follows this user.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Who.
    pub user: UserId,
    /// Under which name.
    pub name: Name,
    /// Where its node listens; may be none.
    pub address: PackedAddr,
    /// Until when it says that it holds posts of this user.
    pub holds_until: Instant,
    /// The highest post number that it says it has.
    pub last_seen: u64,
    /// The sequence of the record that said so.
    pub sequence: u64,
    /// When that record expires, and the follower with it.
    pub expires: Instant,
}

/// What a `Follow` record about this user changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum FollowNews {
    /// A new follower.
    Came,
    /// It was known: its holdings may have changed.
    Updated,
    /// It is gone.
    Gone,
    /// Nothing new: the same record again.
    Same,
}

impl<P: Plan> People<P> {
    /// How many followers are known here.
    #[must_use]
    pub fn followers_len(&self) -> usize {
        self.followers.len()
    }

    /// How many followers can be known here. Beyond that, new ones are refused: the DHT has them all.
    #[must_use]
    pub fn followers_max(&self) -> usize {
        self.followers.capacity()
    }

    fn find_follower(&self, user: &UserId) -> Option<Handle> {
        let slot = self.followers_index.find(
            mixed(self.secret, user),
            self.followers.slots(),
            |slot| matches!(self.followers.at(slot), Some((_, entry)) if entry.user == *user),
        )?;
        self.followers.handle_at(slot)
    }

    /// A follower.
    #[must_use]
    pub fn follower(&self, user: &UserId) -> Option<&Follower> {
        self.followers.get(self.find_follower(user)?)
    }

    /// Whether this node holds a `Follow` record of `user` that has not expired: those it relays for.
    #[must_use]
    pub fn is_follower(&self, now: Instant, user: &UserId) -> bool {
        self.follower(user).is_some_and(|entry| now < entry.expires)
    }

    /// Every follower whose record has not expired, in a fixed order.
    pub fn iter_followers(&self, now: Instant) -> impl Iterator<Item = &Follower> {
        let all = self.followers.iter().map(|(_, entry)| entry);
        all.filter(move |entry| now < entry.expires)
    }

    /// The followers that said last that they hold posts, newest first: those whom a head names.
    pub fn holders(&self, now: Instant) -> impl Iterator<Item = &Follower> {
        let all = self.holders.iter().flatten();
        all.filter_map(|handle| self.followers.get(*handle))
            .filter(move |entry| now < entry.holds_until)
    }

    /// How many followers confirmed that they hold the posts up to `seq`.
    #[must_use]
    pub fn confirmations(&self, now: Instant, seq: u64) -> usize {
        self.iter_followers(now)
            .filter(|entry| now < entry.holds_until && entry.last_seen >= seq)
            .count()
    }

    /// Takes a `Follow` record about this user, however it came. Checks that it is one and is about this user; its
    /// signature was verified by the caller. `remaining_ms` is what is left of its life, where a holder said so; from its
    /// author over a stream it is `None`, and follows from the record.
    ///
    /// # Errors
    /// [`Rule::Kind`], [`Rule::Key`], [`Rule::Payload`]; [`Rule::Lifetime`] when it is over; [`Rule::Older`] when a newer
    /// one is known; [`Rule::Full`] when the table is full (the record is still in the DHT).
    pub fn on_follow(
        &mut self,
        now: Instant,
        me: &Me<P>,
        persists: &mut Persists<P>,
        record: &Record<'_>,
        remaining_ms: Option<u64>,
    ) -> Result<FollowNews, Rule> {
        if record.subject != Some(me.user()) {
            return Err(Rule::Key);
        }
        let follow = payload_of::<Follow>(record, Kind::Follow)?;
        let left_ms = life_left_ms(now, me, record).min(remaining_ms.unwrap_or(u64::MAX));
        if left_ms == 0 {
            return Err(Rule::Lifetime);
        }
        let known = self.find_follower(&record.author);
        let sequence = self.follower(&record.author).map_or(0, |f| f.sequence);
        if known.is_some() && record.sequence <= sequence {
            let same = record.sequence == sequence;
            return if same {
                Ok(FollowNews::Same)
            } else {
                Err(Rule::Older)
            };
        }
        if !follow.following {
            if let Some(handle) = known {
                self.remove_follower(persists, handle);
            }
            return Ok(FollowNews::Gone);
        }
        let age_ms = u64::from(record.lifetime_ms).saturating_sub(left_ms);
        let entry = Follower {
            user: record.author,
            name: follow.name,
            address: follow.address,
            holds_until: now.after_ms(u64::from(follow.holds_ms).saturating_sub(age_ms)),
            last_seen: follow.last_seen,
            sequence: record.sequence,
            expires: now.after_ms(left_ms),
        };
        self.insert_follower(now, entry)?;
        // A follower that is not written is found again in the DHT.
        persists.hint(Entry::Follower(record.author));
        Ok(if known.is_some() {
            FollowNews::Updated
        } else {
            FollowNews::Came
        })
    }

    /// Adds or replaces a follower. For storage; records come by [`People::on_follow`].
    ///
    /// # Errors
    /// [`Rule::Full`].
    pub fn insert_follower(&mut self, now: Instant, entry: Follower) -> Result<(), Rule> {
        let (user, holds, expires) = (entry.user, entry.holds_until, entry.expires);
        let handle = if let Some(handle) = self.find_follower(&user) {
            if let Some(place) = self.followers.get_mut(handle) {
                *place = entry;
            }
            handle
        } else {
            let handle = self.followers.insert(entry).map_err(|_| Rule::Full)?;
            let (secret, followers) = (self.secret, &self.followers);
            let rehash = |slot| {
                let entry = followers.at(slot);
                entry.map_or(0, |(_, entry): (_, &Follower)| mixed(secret, &entry.user))
            };
            self.followers_index
                .insert(mixed(secret, &user), handle.index(), rehash);
            handle
        };
        if now < holds {
            self.put_holder_first(handle);
        }
        self.wake.lower(expires);
        Ok(())
    }

    fn put_holder_first(&mut self, handle: Handle) {
        // Those before its old place, or all, move back by one.
        let mut moving = Some(handle);
        for place in &mut self.holders {
            let was = mem::replace(place, moving);
            if was == Some(handle) {
                return;
            }
            moving = was;
        }
    }

    fn remove_follower(&mut self, persists: &mut Persists<P>, handle: Handle) {
        let Some(entry) = self.followers.get(handle) else {
            return;
        };
        let user = entry.user;
        self.followers_index
            .remove(mixed(self.secret, &user), handle.index());
        self.followers.discard(handle);
        // An expired follower that stays in storage is dropped at the next start.
        persists.hint(Entry::Follower(user));
    }

    /// When [`People::handle_timeout`] next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        self.wake
    }

    /// Drops followers whose record has expired: looks at a bounded number of them in one call.
    pub fn handle_timeout(&mut self, now: Instant, persists: &mut Persists<P>) {
        if !self.wake.is_due(now) {
            return;
        }
        for _ in 0..SWEEP_STEPS {
            let Some(handle) = self.followers.first_from(self.sweep) else {
                self.sweep = 0;
                let expiries = self.followers.iter().map(|(_, f)| f.expires);
                self.wake = soonest(expiries);
                if self.wake.is_due(now) {
                    break;
                }
                return;
            };
            self.sweep = handle.index().saturating_add(1);
            if self.followers.get(handle).is_some_and(|f| f.expires <= now) {
                self.remove_follower(persists, handle);
            }
        }
        self.wake = Deadline::at(now.after_ms(1));
    }
}

/// What is left of a record's life as the record itself tells: counted from its issue where both sides have a clock,
/// else from now, and then at most an hour if its author has none.
fn life_left_ms<P: Plan>(now: Instant, me: &Me<P>, record: &Record<'_>) -> u64 {
    let whole = u64::from(record.lifetime_ms);
    match me.clock().unix_ms(now) {
        _ if record.issued_ms == 0 => whole.min(u64::from(LIFETIME_UNDATED_MS)),
        Some(unix_ms) => {
            let over = record.issued_ms.saturating_add(whole);
            over.saturating_sub(unix_ms).min(whole)
        }
        None => whole,
    }
}
