//! Whom this user follows, and who follows it.
//!
//! Owns both tables and what is known of each person. Where that comes from (records, streams, storage) and what is
//! published about it is the business of others. Invariants: an entry of a followed person is made by following and
//! removed by unfollowing only, and neither its key nor its name ever changes; a follower is as its newest record says.

use crate::addr::PackedAddr;
use crate::bounded::{Handle, Index, Slab};
use crate::id::UserId;
use crate::name::{self, Name};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::{Instant, earliest};
use crate::wire::record::{Follow, HEAD_HOLDERS_MAX, Profile, Record};

use super::me::{LIFETIME_UNDATED_MS, Me};
use super::persist::{Entry, Persists};
use super::posts::{Posts, RecordId};

/// Followers looked at in one sweep step.
const SWEEP_STEPS: usize = 64;

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

/// Both tables.
pub struct People<P: Plan> {
    /// Mixed into the hashes of the indexes.
    secret: u64,
    followed: Slab<Followed, P::Followed>,
    followed_index: P::FollowedIndex,
    /// No `Follow` record is due before this.
    follow_wake: Option<Instant>,
    followers: Slab<Follower, P::Followers>,
    followers_index: P::FollowersIndex,
    /// The followers that said last that they hold something, newest first.
    holders: [Option<Handle>; HEAD_HOLDERS_MAX],
    /// No follower expires before this.
    wake: Option<Instant>,
    /// Where the sweep of the followers goes on.
    sweep: usize,
}

impl<P: Plan> People<P> {
    /// Nobody.
    pub const EMPTY: Self = Self {
        secret: 0,
        followed: Slab::EMPTY,
        followed_index: P::FollowedIndex::EMPTY,
        follow_wake: None,
        followers: Slab::EMPTY,
        followers_index: P::FollowersIndex::EMPTY,
        holders: [None; HEAD_HOLDERS_MAX],
        wake: None,
        sweep: 0,
    };

    /// Takes the secret that is mixed into hashes; before any entry.
    pub fn start(&mut self, secret: u64) {
        self.secret = secret;
    }

    // Followed.

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
    pub fn follow_wake(&self) -> Option<Instant> {
        self.follow_wake
    }

    /// The `Follow` record about `user` is to be put at `due`.
    pub fn schedule_follow(&mut self, user: &UserId, due: Instant) {
        if let Some(entry) = self.followed_mut(user) {
            entry.follow_due = due;
            self.follow_wake = earliest(self.follow_wake, Some(due));
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
            self.follow_wake = earliest(self.follow_wake, Some(entry.follow_due));
        }
    }

    /// Takes somebody whose `Follow` record is due; it is due again at `again`.
    pub fn next_follow(&mut self, now: Instant, again: Instant) -> Option<UserId> {
        if self.follow_wake.is_none_or(|wake| now < wake) {
            return None;
        }
        let (mut due, mut wake) = (None, None);
        for (_, entry) in self.followed.iter_mut() {
            if due.is_none() && entry.follow_due <= now {
                due = Some(entry.user);
                entry.follow_due = again;
            }
            wake = earliest(wake, Some(entry.follow_due));
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

    // Followers.

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
        let follow = super::payload_of::<Follow>(record, crate::wire::record::Kind::Follow)?;
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
        self.wake = earliest(self.wake, Some(expires));
        Ok(())
    }

    fn put_holder_first(&mut self, handle: Handle) {
        let at = self.holders.iter().position(|held| *held == Some(handle));
        let last = self.holders.len().saturating_sub(1);
        if let Some(part) = self.holders.get_mut(..=at.unwrap_or(last)) {
            part.rotate_right(1);
        }
        if let Some(first) = self.holders.first_mut() {
            *first = Some(handle);
        }
    }

    fn remove_follower(&mut self, persists: &mut Persists<P>, handle: Handle) {
        let Some(entry) = self.followers.get(handle) else {
            return;
        };
        let user = entry.user;
        self.followers_index
            .remove(mixed(self.secret, &user), handle.index());
        self.followers.remove(handle);
        // An expired follower that stays in storage is dropped at the next start.
        persists.hint(Entry::Follower(user));
    }

    /// When [`People::handle_timeout`] next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wake
    }

    /// Drops followers whose record has expired: looks at a bounded number of them in one call.
    pub fn handle_timeout(&mut self, now: Instant, persists: &mut Persists<P>) {
        if self.wake.is_none_or(|wake| now < wake) {
            return;
        }
        for _ in 0..SWEEP_STEPS {
            let Some(handle) = self.followers.first_from(self.sweep) else {
                self.sweep = 0;
                self.wake = self.followers.iter().map(|(_, f)| f.expires).min();
                if self.wake.is_some_and(|wake| wake <= now) {
                    break;
                }
                return;
            };
            self.sweep = handle.index().saturating_add(1);
            if self.followers.get(handle).is_some_and(|f| f.expires <= now) {
                self.remove_follower(persists, handle);
            }
        }
        self.wake = Some(now.after_ms(1));
    }
}

/// What is left of a profile's online lease, in ms.
#[must_use]
pub fn lease_left_ms(record: &Record<'_>, profile: &Profile<'_>, remaining_ms: u64) -> u64 {
    let age_ms = u64::from(record.lifetime_ms).saturating_sub(remaining_ms);
    u64::from(profile.lease_ms).saturating_sub(age_ms)
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
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    extern crate alloc;

    use alloc::vec::Vec;

    use super::*;
    use crate::id::Key;
    use crate::timeline::me::About;
    use crate::timeline::state::State;
    use crate::timeline::testing::{self, Tested, at, name, user};
    use crate::wire::RECORD_LEN_MAX;
    use crate::wire::record::Kind;

    /// The user 9, a follower of `state`'s user, confirms that it holds everything up to `seq`.
    pub fn confirm<P: Plan>(state: &mut State<P>, seq: u64) {
        let mut other: Tested = testing::fresh(9);
        let follow = follow(other.me.name(), true, 60_000, seq);
        let bytes = sign(&mut other, at(seq), &state.me.user(), &follow);
        assert!(state.on_follow(at(1), &bytes, None).is_ok());
    }

    fn follow(name: Name, following: bool, holds_ms: u32, last_seen: u64) -> Follow {
        let address = PackedAddr::from(testing::address(9));
        Follow {
            name,
            address,
            following,
            holds_ms,
            last_seen,
        }
    }

    fn sign(state: &mut Tested, now: Instant, subject: &UserId, follow: &Follow) -> Vec<u8> {
        let about = About {
            kind: Kind::Follow,
            key: Key::of_user::<crate::crypto::Ed25519>(subject),
            subject: Some(*subject),
            page: 0,
            lifetime_ms: u32::MAX,
        };
        let mut buf = [0; RECORD_LEN_MAX];
        let len = state.me.sign(now, &about, follow, &mut buf).unwrap();
        buf.get(..len).unwrap().to_vec()
    }

    fn profile(state: &mut Tested, now: Instant) -> Vec<u8> {
        let about = About {
            kind: Kind::Profile,
            key: Key::of_user::<crate::crypto::Ed25519>(&state.me.user()),
            subject: None,
            page: 0,
            lifetime_ms: u32::MAX,
        };
        let address = PackedAddr::from(testing::address(9));
        let profile = Profile {
            name: state.me.name(),
            addresses: address.as_bytes(),
            lease_ms: 60_000,
            logs: &[],
            followers: 0,
            next_key: [0; 32],
        };
        let mut buf = [0; RECORD_LEN_MAX];
        let len = state.me.sign(now, &about, &profile, &mut buf).unwrap();
        buf.get(..len).unwrap().to_vec()
    }

    #[test]
    fn who_came_back_after_a_sighting_is_not_missed_any_more() {
        let mut state: Tested = testing::fresh(1);
        let mut other: Tested = testing::fresh(9);
        other.me.set_clock(at(0), 1_000_000, 10);
        let them = other.me.user();
        assert!(state.people.follow(them, other.me.name()));
        let learn = |state: &mut Tested, bytes: &[u8]| {
            let record = Record::decode(bytes).unwrap();
            let State { people, posts, .. } = state;
            people.on_profile(at(9), posts, &record, 60_000);
        };
        let sight = |state: &mut Tested, missed_ms| {
            let State { people, posts, .. } = state;
            people.on_sighting(at(9), posts, &them, missed_ms, 60_000);
            people.followed(&them).unwrap().missed_until > at(9)
        };
        let before = profile(&mut other, at(1));
        learn(&mut state, &before);
        assert!(sight(&mut state, 1_002_000), "missed after that profile");
        let after = profile(&mut other, at(3));
        learn(&mut state, &after);
        let entry = state.people.followed(&them).unwrap();
        assert_eq!(entry.missed_until, at(9), "it has published a newer one");
        assert!(!sight(&mut state, 1_002_000), "that sighting is old news");
        assert!(sight(&mut state, 1_004_000), "this one is not");
        assert!(sight(&mut state, 0), "nor is one without a date");
    }

    #[test]
    fn a_pin_never_changes_silently() {
        let mut state: Tested = testing::fresh(1);
        let alice = name("alice");
        assert!(state.people.follow(user(2), alice));
        assert!(state.people.follow(user(3), alice));
        let pinned = |state: &Tested| state.people.pinned(&alice).map(|entry| entry.user);
        assert_eq!(pinned(&state), Some(user(2)));
        assert!(state.people.follow(user(2), name("mallory")));
        assert_eq!(state.people.followed(&user(2)).unwrap().name, alice);
        assert!(state.people.unfollow(&mut state.posts, &user(2)).is_some());
        assert_eq!(
            pinned(&state),
            None,
            "nobody takes the place of the one that is gone"
        );
        assert!(state.people.follow(user(2), alice));
        assert_eq!(pinned(&state), Some(user(2)));
    }

    #[test]
    fn a_full_table_refuses_and_finds_everybody_else() {
        let mut state: State<crate::plan::Board> = testing::fresh(1);
        let max = u8::try_from(state.people.followed_max()).unwrap();
        for n in 0..max {
            assert!(state.people.follow(user(n + 10), name("a")));
        }
        assert!(!state.people.follow(user(200), name("b")));
        assert!(state.people.followed(&user(200)).is_none());
        assert!((0..max).all(|n| state.people.followed(&user(n + 10)).is_some()));
        assert!(state.people.follow(user(10), name("a")), "known already");
    }

    #[test]
    fn the_newest_record_says_whether_somebody_follows() {
        let mut state: Tested = testing::fresh(1);
        let mut other: Tested = testing::fresh(9);
        let me = state.me.user();
        let old = sign(&mut other, at(1), &me, &follow(name("nina"), true, 0, 0));
        let new = sign(
            &mut other,
            at(2),
            &me,
            &follow(name("nina"), true, 60_000, 7),
        );
        let gone = sign(&mut other, at(3), &me, &follow(name("nina"), false, 0, 7));
        assert_eq!(state.on_follow(at(3), &new, None), Ok(FollowNews::Came));
        assert_eq!(state.on_follow(at(3), &new, None), Ok(FollowNews::Same));
        assert_eq!(state.on_follow(at(3), &old, None), Err(Rule::Older));
        assert!(state.people.is_follower(at(3), &user(9)));
        assert_eq!(state.people.follower(&user(9)).unwrap().last_seen, 7);
        assert_eq!(state.on_follow(at(3), &gone, None), Ok(FollowNews::Gone));
        assert!(!state.people.is_follower(at(3), &user(9)));
    }

    #[test]
    fn a_record_about_somebody_else_or_over_or_forged_is_refused() {
        let mut state: Tested = testing::fresh(1);
        let mut other: Tested = testing::fresh(9);
        let follow = follow(name("nina"), true, 0, 0);
        let about_another = sign(&mut other, at(1), &user(5), &follow);
        assert_eq!(state.on_follow(at(1), &about_another, None), Err(Rule::Key));
        let good = sign(&mut other, at(1), &user(1), &follow);
        assert_eq!(
            state.on_follow(at(8 * 24 * 3_600), &good, None),
            Err(Rule::Lifetime)
        );
        assert_eq!(state.on_follow(at(1), &good, Some(0)), Err(Rule::Lifetime));
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(state.on_follow(at(1), &forged, None), Err(Rule::Signature));
        assert_eq!(state.people.followers_len(), 0);
    }

    #[test]
    fn holders_are_listed_newest_first_and_until_they_lapse() {
        let mut state: Tested = testing::fresh(1);
        for n in 10..16_u8 {
            let mut other: Tested = testing::fresh(n);
            let holds_ms = u32::from(n) * 1_000;
            let bytes = sign(
                &mut other,
                at(1),
                &user(1),
                &follow(name("n"), true, holds_ms, 1),
            );
            assert!(state.on_follow(at(1), &bytes, None).is_ok());
        }
        let holders = |state: &Tested, now| -> Vec<UserId> {
            state.people.holders(now).map(|entry| entry.user).collect()
        };
        assert_eq!(
            holders(&state, at(1)),
            [user(15), user(14), user(13), user(12)]
        );
        assert_eq!(holders(&state, at(15)), [user(15)]);
        assert_eq!(state.people.confirmations(at(1), 1), 6);
        assert_eq!(state.people.confirmations(at(1), 2), 0);
        assert_eq!(state.people.confirmations(at(16), 1), 0);
    }

    #[test]
    fn followers_expire_with_their_record() {
        let mut state: Tested = testing::fresh(1);
        let mut other: Tested = testing::fresh(9);
        let bytes = sign(
            &mut other,
            at(0),
            &user(1),
            &follow(name("nina"), true, 0, 0),
        );
        assert!(state.on_follow(at(0), &bytes, Some(5_000)).is_ok());
        assert_eq!(state.people.next_deadline(), Some(at(5)));
        assert!(state.people.is_follower(at(4), &user(9)));
        assert!(!state.people.is_follower(at(5), &user(9)));
        state.people.handle_timeout(at(5), &mut state.persists);
        assert_eq!(
            (state.people.followers_len(), state.people.next_deadline()),
            (0, None)
        );
    }

    #[test]
    fn many_followers_are_found_and_swept_in_bounded_steps() {
        let mut state: Tested = testing::fresh(1);
        for n in 0..1_000_u32 {
            let mut id = [7; 32];
            *id.last_chunk_mut().unwrap() = n.to_be_bytes();
            let entry = Follower {
                user: UserId::from_bytes(id),
                name: name("n"),
                address: PackedAddr::NONE,
                holds_until: Instant::ZERO,
                last_seen: 0,
                sequence: 1,
                expires: if n % 2 == 0 { at(1) } else { at(100) },
            };
            state.people.insert_follower(at(0), entry).unwrap();
        }
        let mut now = at(1);
        let mut calls = 0;
        while state.people.next_deadline().is_some_and(|wake| wake <= now) {
            state.people.handle_timeout(now, &mut state.persists);
            assert!(state.people.next_deadline().is_none_or(|wake| wake > now));
            now = now.after_ms(1);
            calls += 1;
        }
        assert_eq!((calls, state.people.followers_len()), (16, 500));
        let mut odd = [7; 32];
        *odd.last_chunk_mut().unwrap() = 501_u32.to_be_bytes();
        assert!(state.people.is_follower(at(2), &UserId::from_bytes(odd)));
    }
}
