//! Whom this user follows, and who follows it.
//!
//! Owns both tables and what is known of each person; what is done with the second is in `followers`. Where that comes from (records, streams, storage) and what is
//! published about it is the business of others. Invariants: an entry of a followed person is made by following and
//! removed by unfollowing only, and neither its key nor its name ever changes; a follower is as its newest record says.

use crate::addr::PackedAddr;
use crate::bounded::{Handle, Index, Slab};
use crate::id::UserId;
use crate::name::{self, Name};
use crate::plan::Plan;
use crate::time::{Deadline, Instant};
use crate::wire::record::{HEAD_HOLDERS_MAX, Profile, Record};

use super::posts::{Posts, RecordId};

mod followers;

pub use followers::{FollowNews, Follower};

/// Somebody whom this user follows.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Who. The id is the hash of the key, so this is what pins the key.
    pub user: UserId,
    /// The name at the time of following.
    pub name: Name,
    /// The bare name means this person.
    pub pinned: bool,
    /// The highest post number that was read completely.
    pub cursor: u64,
    /// The newest profile seen, if there was room to keep it (signed: goes into `Target` frames as it is).
    pub profile: RecordId,
    /// The sequence of the newest profile seen; 0: none.
    pub profile_sequence: u64,
    /// Where its node listens; none when unknown.
    pub address: PackedAddr,
    /// Until when its profile says that it is online.
    pub lease_until: Instant,
    /// How many follow it, as its profile says: get trees ask those with the fewest first.
    pub followers: u32,
    /// Until then somebody's sighting says that it did not answer: prefer another source.
    pub missed_until: Instant,
    /// When it did not answer somebody, Unix ms, by the newest sighting; 0 unknown.
    pub missed_ms: u64,
    /// When the `Follow` record is to be signed and put next; see [`People::schedule_follow`].
    follow_due: Instant,
    /// When it was put last.
    pub follow_put: Instant,
    /// Failed attempts since.
    pub follow_attempts: u8,
}

impl Followed {
    fn new(user: UserId, name: Name, pinned: bool) -> Self {
        Self {
            user,
            name,
            pinned,
            cursor: 0,
            profile: RecordId::NONE,
            profile_sequence: 0,
            address: PackedAddr::NONE,
            lease_until: Instant::ZERO,
            followers: 0,
            missed_until: Instant::ZERO,
            missed_ms: 0,
            follow_due: Instant::ZERO,
            follow_put: Instant::ZERO,
            follow_attempts: 0,
        }
    }

    /// Whether its profile says that it is online.
    #[must_use]
    pub fn is_online(&self, now: Instant) -> bool {
        now < self.lease_until && !self.address.is_none()
    }
}

/// Both tables.
pub struct People<P: Plan> {
    /// Mixed into the hashes of the indexes.
    secret: u64,
    followed: Slab<Followed, P::Followed>,
    followed_index: P::FollowedIndex,
    /// No `Follow` record is due before this.
    follow_wake: Deadline,
    followers: Slab<Follower, P::Followers>,
    followers_index: P::FollowersIndex,
    /// The followers that said last that they hold something, newest first.
    holders: [Option<Handle>; HEAD_HOLDERS_MAX],
    /// No follower expires before this.
    wake: Deadline,
    /// Where the sweep of the followers goes on.
    sweep: usize,
}

impl<P: Plan> People<P> {
    /// Nobody.
    pub const EMPTY: Self = Self {
        secret: 0,
        followed: Slab::EMPTY,
        followed_index: P::FollowedIndex::EMPTY,
        follow_wake: Deadline::NEVER,
        followers: Slab::EMPTY,
        followers_index: P::FollowersIndex::EMPTY,
        holders: [None; HEAD_HOLDERS_MAX],
        wake: Deadline::NEVER,
        sweep: 0,
    };

    /// Takes the secret that is mixed into hashes; before any entry.
    pub fn start(&mut self, secret: u64) {
        self.secret = secret;
    }

    /// How many are followed.
    #[must_use]
    pub fn followed_len(&self) -> usize {
        self.followed.len()
    }

    /// How many can be followed.
    #[must_use]
    pub fn followed_max(&self) -> usize {
        self.followed.capacity()
    }

    /// Whether nobody else can be followed.
    #[must_use]
    pub fn followed_full(&self) -> bool {
        self.followed.is_full()
    }

    /// The handle of a followed person.
    #[must_use]
    pub fn find_followed(&self, user: &UserId) -> Option<Handle> {
        let slot = self.followed_index.find(
            mixed(self.secret, user),
            self.followed.slots(),
            |slot| matches!(self.followed.at(slot), Some((_, entry)) if entry.user == *user),
        )?;
        self.followed.handle_at(slot)
    }

    /// A followed person.
    #[must_use]
    pub fn followed(&self, user: &UserId) -> Option<&Followed> {
        self.followed.get(self.find_followed(user)?)
    }

    /// A followed person, to note what was learned. Leave user, name and pin alone.
    #[must_use]
    pub fn followed_mut(&mut self, user: &UserId) -> Option<&mut Followed> {
        let handle = self.find_followed(user)?;
        self.followed.get_mut(handle)
    }

    /// Everyone followed, in a fixed order.
    pub fn iter_followed(&self) -> impl Iterator<Item = &Followed> {
        self.followed.iter().map(|(_, entry)| entry)
    }

    /// The first followed person in slot `slot` or behind it, with its slot: for walks that stop and go on.
    #[must_use]
    pub fn followed_from(&self, slot: usize) -> Option<(usize, &Followed)> {
        let handle = self.followed.first_from(slot)?;
        Some((handle.index(), self.followed.get(handle)?))
    }

    /// How many places of the table were ever used; see [`People::followed_at`].
    #[must_use]
    pub fn followed_slots(&self) -> usize {
        self.followed.slots()
    }

    /// The followed person in a place of the table. Somebody keeps their place as long as they are followed.
    #[must_use]
    pub fn followed_at(&self, slot: usize) -> Option<&Followed> {
        self.followed.at(slot).map(|(_, entry)| entry)
    }

    /// Whom a bare name means by following: the one that was followed first under it. Following somebody else of that
    /// name does not change it, and when the pinned one is unfollowed, nobody takes its place.
    #[must_use]
    pub fn pinned(&self, name: &Name) -> Option<&Followed> {
        self.iter_followed()
            .find(|entry| entry.pinned && entry.name == *name)
    }

    /// The followed people of a name whose id begins with the fingerprint, if there is one.
    pub fn matching(&self, handle: name::Handle) -> impl Iterator<Item = &Followed> {
        self.iter_followed().filter(move |entry| {
            entry.name == handle.name
                && handle
                    .fingerprint
                    .is_none_or(|fingerprint| fingerprint.matches(&entry.user))
        })
    }

    /// Begins to follow. The name is pinned to this person unless it is pinned already. Someone followed already stays as
    /// it is, whatever the name. False, and nothing changed, when the table is full.
    #[must_use]
    pub fn follow(&mut self, user: UserId, name: Name) -> bool {
        let pinned = self.pinned(&name).is_none();
        self.insert_followed(Followed::new(user, name, pinned))
    }

    /// Puts back what storage or the network remembered; as [`People::follow`].
    #[must_use]
    pub fn restore_followed(
        &mut self,
        user: UserId,
        name: Name,
        pinned: bool,
        cursor: u64,
    ) -> bool {
        let mut entry = Followed::new(user, name, pinned);
        entry.cursor = cursor;
        self.insert_followed(entry)
    }

    fn insert_followed(&mut self, entry: Followed) -> bool {
        if self.find_followed(&entry.user).is_some() {
            return true;
        }
        let hash = mixed(self.secret, &entry.user);
        let Ok(handle) = self.followed.insert(entry) else {
            return false;
        };
        let (secret, followed) = (self.secret, &self.followed);
        self.followed_index.insert(hash, handle.index(), |slot| {
            let entry = followed.at(slot);
            entry.map_or(0, |(_, entry)| mixed(secret, &entry.user))
        });
        true
    }

    /// Ends following, and drops the profile that was kept. `None`: was not followed.
    pub fn unfollow(&mut self, posts: &mut Posts<P>, user: &UserId) -> Option<Followed> {
        let handle = self.find_followed(user)?;
        self.followed_index
            .remove(mixed(self.secret, user), handle.index());
        let entry = self.followed.remove(handle)?;
        posts.remove_record(entry.profile);
        Some(entry)
    }

    /// When the next `Follow` record is due.
    #[must_use]
    pub fn follow_wake(&self) -> Deadline {
        self.follow_wake
    }

    /// The `Follow` record about `user` is to be put at `due`.
    pub fn schedule_follow(&mut self, user: &UserId, due: Instant) {
        if let Some(entry) = self.followed_mut(user) {
            entry.follow_due = due;
            self.follow_wake.lower(due);
        }
    }

    /// The `Follow` record about `user` is to be put at `due`, unless it is earlier anyway.
    pub fn hasten_follow(&mut self, user: &UserId, due: Instant) {
        if let Some(entry) = self.followed(user) {
            let due = due.min(entry.follow_due);
            self.schedule_follow(user, due);
        }
    }

    /// Every `Follow` record is to be put when `due` says, asked for each.
    pub fn schedule_follows(&mut self, mut due: impl FnMut() -> Instant) {
        for (_, entry) in self.followed.iter_mut() {
            entry.follow_due = due();
            self.follow_wake.lower(entry.follow_due);
        }
    }

    /// Takes somebody whose `Follow` record is due; it is due again at `again`.
    pub fn next_follow(&mut self, now: Instant, again: Instant) -> Option<UserId> {
        if !self.follow_wake.is_due(now) {
            return None;
        }
        let (mut due, mut wake) = (None, Deadline::NEVER);
        for (_, entry) in self.followed.iter_mut() {
            if due.is_none() && entry.follow_due <= now {
                due = Some(entry.user);
                entry.follow_due = again;
            }
            wake.lower(entry.follow_due);
        }
        self.follow_wake = wake;
        due
    }

    /// Notes a verified profile of somebody followed. `remaining_ms` is what is left of the record's life, from which
    /// follows how old it is. Older profiles than the one known are ignored.
    ///
    /// The bytes are kept only while the store is less than half full, since posts need the room; without them the person
    /// cannot be a target of a get tree, and is asked directly.
    pub fn on_profile(
        &mut self,
        now: Instant,
        posts: &mut Posts<P>,
        record: &Record<'_>,
        remaining_ms: u64,
    ) {
        let Ok(profile) = record.payload::<Profile<'_>>() else {
            return;
        };
        let Some(entry) = self.followed_mut(&record.author) else {
            return;
        };
        if record.sequence < entry.profile_sequence {
            return;
        }
        entry.profile_sequence = record.sequence;
        entry.address = profile.addresses().next().unwrap_or(PackedAddr::NONE);
        entry.followers = profile.followers;
        entry.lease_until = now.after_ms(lease_left_ms(record, &profile, remaining_ms));
        if record.issued_ms > entry.missed_ms {
            // It has come back since.
            entry.missed_until = now;
        }
        if posts.record(entry.profile) == Some(record.bytes) {
            return;
        }
        if posts.is_half_full() {
            posts.remove_record(core::mem::take(&mut entry.profile));
        } else {
            entry.profile = posts.put_record(entry.profile, record.bytes);
        }
    }

    /// Somebody says that `user` did not answer at `missed_ms` (Unix ms; 0 unknown), which counts for `remaining_ms`
    /// more, unless the user has published a profile since.
    pub fn on_sighting(
        &mut self,
        now: Instant,
        posts: &Posts<P>,
        user: &UserId,
        missed_ms: u64,
        remaining_ms: u64,
    ) {
        let Some(entry) = self.followed_mut(user) else {
            return;
        };
        entry.missed_ms = entry.missed_ms.max(missed_ms);
        let profile = posts.record(entry.profile);
        let issued_ms = profile
            .and_then(|bytes| Record::decode(bytes).ok())
            .map_or(0, |record| record.issued_ms);
        if missed_ms == 0 || issued_ms <= missed_ms {
            entry.missed_until = entry.missed_until.max(now.after_ms(remaining_ms));
        }
    }

    /// Drops a kept profile to make room, if there is one; the rest of what is known stays. False: there is none.
    #[must_use]
    pub fn drop_profile(&mut self, posts: &mut Posts<P>) -> bool {
        for (_, entry) in self.followed.iter_mut() {
            if posts.record(entry.profile).is_some() {
                posts.remove_record(entry.profile);
                entry.profile = RecordId::NONE;
                return true;
            }
        }
        false
    }
}

/// What is left of a profile's online lease, in ms.
#[must_use]
#[inline(never)] // Three callers, on a board 50 bytes each.
pub fn lease_left_ms(record: &Record<'_>, profile: &Profile<'_>, remaining_ms: u64) -> u64 {
    let age_ms = u64::from(record.lifetime_ms).saturating_sub(remaining_ms);
    u64::from(profile.lease_ms).saturating_sub(age_ms)
}

/// The hash of a user id for an index: strangers choose ids, so a secret is mixed in by folded multiplication.
pub(super) fn mixed(secret: u64, user: &UserId) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, _) = user.as_bytes().as_chunks::<8>();
    words.iter().fold(secret | 1, |hash, word| {
        let word = u64::from_be_bytes(*word) ^ secret.rotate_left(23);
        let product = u128::from(word ^ ODD) * u128::from(hash | 1);
        let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(product >> 64).unwrap_or(0);
        low ^ high
    })
}

#[cfg(test)]
pub(super) mod tests;
