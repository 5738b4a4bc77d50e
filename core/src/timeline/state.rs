//! What every part of the timeline works on: identity, log, people, copies and the bytes below them.
//!
//! Owns the combinations: what needs two of them at once. Parts that talk to the network get a `&mut State` and decide
//! for themselves when. Invariant: own posts are made room for by dropping copies, never the other way round.

use core::net::SocketAddr;

use crate::addr::PackedAddr;
use crate::id::{Key, UserId};
use crate::output::{CommandError, PersistId};
use crate::plan::Plan;
use crate::rules::{Dropped, Rule};
use crate::time::Instant;
use crate::wire::TEXT_LEN_MAX;
use crate::wire::post::PostKind;
use crate::wire::record::{Follow, Kind, Record};

use super::copies::{Copies, HeadNews, Offer, PostNews};
use super::errands::{Errands, Message};
use super::log::{Appended, Log};
use super::me::{About, Me};
use super::people::{FollowNews, People};
use super::persist::Persists;
use super::posts::{Posts, SPARE_LEN};
use super::tags::Part;

/// How long a notice may take to be delivered, in ms.
const ERRAND_MS: u64 = 10_000;
/// A `Follow` record is rewritten at most once in this time because of what is held, in ms.
pub const FOLLOW_REWRITE_MS: u64 = 10 * 60 * 1000;

/// Identity, log, people, copies and bytes.
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct State<P: Plan> {
    /// Who signs.
    pub me: Me<P>,
    /// Own posts.
    pub log: Log<P>,
    /// What storage has to write.
    pub persists: Persists<P>,
    /// What is to be said over streams.
    pub errands: Errands<P>,
    /// What peers did wrong.
    pub dropped: Dropped,
    /// Where this node can be reached; none while unknown.
    pub address: PackedAddr,
    /// Storage was lost, and the log's numbers are not known yet.
    pub recovering: bool,
    /// Others' posts.
    pub copies: Copies<P>,
    /// Followed and followers.
    pub people: People<P>,
    /// The bytes of posts, heads and profiles.
    pub posts: Posts<P>,
}

impl<P: Plan> State<P> {
    /// Nothing: all zero.
    pub const EMPTY: Self = Self {
        me: Me::UNSET,
        log: Log::EMPTY,
        people: People::EMPTY,
        copies: Copies::EMPTY,
        posts: Posts::EMPTY,
        persists: Persists::EMPTY,
        errands: Errands::EMPTY,
        dropped: Dropped::NONE,
        address: PackedAddr::NONE,
        recovering: false,
    };

    /// Takes the address under which other nodes see this one, which counts where the configured one is unspecified.
    /// Tells whether the own address has changed.
    pub fn on_observed(&mut self, observed: Option<SocketAddr>) -> bool {
        let Some(listen) = self.me.listen().to_socket_addr() else {
            return false;
        };
        let addr = match observed {
            _ if !listen.ip().is_unspecified() => listen,
            Some(observed) => SocketAddr::new(observed.ip(), listen.port()),
            None => return false,
        };
        let packed = PackedAddr::from(addr);
        core::mem::replace(&mut self.address, packed) != packed
    }

    /// Whether signing is allowed.
    ///
    /// # Errors
    /// [`CommandError::Recovering`] or [`CommandError::StorageFailed`].
    pub fn may_sign(&self) -> Result<(), CommandError> {
        match (self.recovering, self.me.is_mute()) {
            (true, _) => Err(CommandError::Recovering),
            (false, true) => Err(CommandError::StorageFailed),
            (false, false) => Ok(()),
        }
    }

    /// Appends a post: checks its text, makes room, signs nothing yet.
    ///
    /// # Errors
    /// [`CommandError::TextEmpty`], [`CommandError::TextTooLong`], [`CommandError::Recovering`],
    /// [`CommandError::StorageFailed`], [`CommandError::Full`] when only own posts are left in the store,
    /// [`CommandError::Busy`] when too many wait for storage.
    pub fn post(&mut self, now: Instant, text: &str) -> Result<Appended, CommandError> {
        if text.chars().all(char::is_whitespace) {
            return Err(CommandError::TextEmpty);
        }
        if text.len() > TEXT_LEN_MAX {
            return Err(CommandError::TextTooLong);
        }
        self.append(now, PostKind::Text, text)
    }

    /// Appends a post of any kind.
    ///
    /// # Errors
    /// As [`State::post`].
    pub fn append(
        &mut self,
        now: Instant,
        kind: PostKind,
        text: &str,
    ) -> Result<Appended, CommandError> {
        if self.recovering {
            return Err(CommandError::Recovering);
        }
        let len = Log::<P>::room_for(text).saturating_add(SPARE_LEN);
        self.make_room(len);
        if !self.posts.fits(len) {
            return Err(CommandError::Full);
        }
        self.log.append(
            now,
            &mut self.me,
            &mut self.posts,
            &mut self.persists,
            kind,
            text,
        )
    }

    /// Makes room for `len` bytes that stay for a moment only: drops copies, those that expire soonest first, then
    /// profiles. False: that was not enough.
    #[must_use]
    pub(super) fn make_passing_room(&mut self, len: usize) -> bool {
        while !self.posts.fits_record(len) {
            let (posts, persists) = (&mut self.posts, &mut self.persists);
            let dropped = self.copies.make_room(posts, persists, len, None)
                || self.people.drop_profile(posts);
            if !dropped {
                return false;
            }
        }
        true
    }

    /// Makes room for an own post: drops profiles, then copies, then, without storage, the oldest own posts.
    pub(super) fn make_room(&mut self, len: usize) {
        while !self.posts.fits(len) {
            let (posts, persists) = (&mut self.posts, &mut self.persists);
            let dropped = self.people.drop_profile(posts)
                || self.copies.make_room(posts, persists, len, None)
                || self.log.drop_oldest(&self.me, posts);
            if !dropped {
                return;
            }
        }
    }

    /// Sees to it that the own signed head is fresh enough to be sent. Without it nobody is told of a post: room for it goes
    /// before profiles, copies, and the oldest own posts.
    #[inline(never)] // Called from two places: shorter on a board.
    pub fn renew_head(&mut self, now: Instant) {
        if let Err(len) = self.try_head(now) {
            self.make_room(len);
            // Own posts that nobody has confirmed may leave no room: then the author is busy until somebody has.
            let _ = self.try_head(now);
        }
    }

    #[inline(never)] // As above.
    fn try_head(&mut self, now: Instant) -> Result<(), usize> {
        let (me, people) = (&mut self.me, &self.people);
        self.log.renew_head(now, me, people, &mut self.posts)
    }

    /// The own signed head, fresh enough to be sent.
    pub fn head(&mut self, now: Instant) -> Option<&[u8]> {
        self.renew_head(now);
        self.log.kept_head(&self.posts)
    }

    /// Everything up to `up_to` is durable.
    pub fn persisted(&mut self, up_to: PersistId) {
        self.log.persisted(&self.me, &self.posts, up_to);
    }

    /// The storage failed: nothing more is signed, and posts that are not durable are taken back.
    pub fn persist_failed(&mut self) {
        self.me.mute();
        self.log.persist_failed(&mut self.posts);
    }

    /// Takes a head of anybody's log; see [`Copies::offer_head`].
    ///
    /// # Errors
    /// As there; not yet counted.
    pub fn offer_head(&mut self, now: Instant, offer: &Offer<'_>) -> Result<HeadNews, Rule> {
        self.copies
            .offer_head(now, &self.me, &mut self.posts, &mut self.persists, offer)
    }

    /// Takes a post of anybody's log; see [`Copies::offer_post`].
    ///
    /// # Errors
    /// As there; not yet counted.
    pub fn offer_post(&mut self, now: Instant, bytes: &[u8]) -> Result<PostNews, Rule> {
        self.copies
            .offer_post(now, &self.me, &mut self.posts, &mut self.persists, bytes)
    }

    /// Takes a `Follow` record about this user; `remaining_ms` as in [`People::on_follow`]. Checks and verifies it.
    ///
    /// # Errors
    /// The rule that it breaks; not yet counted.
    pub fn on_follow(
        &mut self,
        now: Instant,
        bytes: &[u8],
        remaining_ms: Option<u64>,
    ) -> Result<FollowNews, Rule> {
        Record::prove::<P::Crypto>(bytes, self.me.network())?;
        self.on_verified_follow(now, &Record::decode(bytes)?, remaining_ms)
    }

    /// As [`State::on_follow`], for a record whose signature was verified.
    ///
    /// # Errors
    /// The rule that it breaks; not yet counted.
    pub fn on_verified_follow(
        &mut self,
        now: Instant,
        record: &Record<'_>,
        remaining_ms: Option<u64>,
    ) -> Result<FollowNews, Rule> {
        let news =
            self.people
                .on_follow(now, &self.me, &mut self.persists, record, remaining_ms)?;
        self.log.on_confirmed(now, &self.me, &self.people);
        Ok(news)
    }

    /// Signs this user's `Follow` record about `user` into `buf`: following or gone, and what is held. `None` while nothing
    /// may be signed.
    pub fn sign_follow(
        &mut self,
        now: Instant,
        user: &UserId,
        following: bool,
        buf: &mut [u8],
    ) -> Option<usize> {
        let view = self.copies.view(now, &self.posts, user);
        let held_ms = view.map_or(0, |view| view.remaining_ms);
        let cursor = self.people.followed(user).map_or(0, |entry| entry.cursor);
        let follow = Follow {
            name: self.me.name(),
            address: self.address,
            following,
            holds_ms: u32::try_from(held_ms).unwrap_or(u32::MAX),
            last_seen: cursor.max(self.copies.since(now, &self.posts, user)),
        };
        let about = About {
            kind: Kind::Follow,
            key: Key::of_user::<P::Crypto>(user),
            subject: Some(*user),
            page: 0,
            lifetime_ms: u32::MAX,
        };
        self.me.sign(now, &about, &follow, buf)
    }

    /// A read of `user` ended with everything that was asked for: moves the cursor to the end of the copy, and lets the
    /// `Follow` record say so, not more often than every max(keep / 2, 10 min).
    pub fn on_read(&mut self, now: Instant, user: &UserId) {
        let Some(view) = self.copies.view(now, &self.posts, user) else {
            return;
        };
        let (last, held_ms) = (view.last, view.remaining_ms);
        let Some(entry) = self.people.followed_mut(user) else {
            return;
        };
        entry.cursor = entry.cursor.max(last);
        let pause_ms = FOLLOW_REWRITE_MS.max(held_ms / 2);
        let due = entry.follow_put.after_ms(pause_ms).max(now);
        self.people.hasten_follow(user, due);
        // A cursor that is not written is found again in the own Follow record.
        self.persists.hint(super::persist::Entry::Following(*user));
    }

    /// A copy has lapsed: the `Follow` record says so in due time, and the author at once, if it is online.
    pub fn on_lapsed(&mut self, now: Instant, author: &UserId) {
        let Some(entry) = self.people.followed(author) else {
            return;
        };
        let due = entry.follow_put.after_ms(FOLLOW_REWRITE_MS).max(now);
        let online = entry.is_online(now);
        let address = entry.address;
        self.people.hasten_follow(author, due);
        if online {
            let (until, tag) = (now.after_ms(ERRAND_MS), Part::Nobody.tag(0, 0));
            // A notice: without room for it, the record tells in its time.
            let _ = self
                .errands
                .send(Message::Deleted, *author, address, until, tag);
        }
    }
}
