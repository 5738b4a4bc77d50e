//! The user's own posts: log 0, from which everybody else reads.
//!
//! Owns the chain, the numbers, and the signed head. Invariants:
//! - A post is written to storage before anything else, and nobody but its author sees it before it is durable.
//! - No number above [`Log::reserved`] is shown to anybody; that number is in a published head that a quorum of holders
//!   took. So a number that others saw is never used again, even if the storage is lost.
//! - Heads name the newest post that may be shown, never a later one.

use crate::bounded::Ring;
use crate::config::Durability;
use crate::crypto::Digest;
use crate::id::Key;
use crate::output::{Class, CommandError, Damaged, PersistId};
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::post::{Draft, Post, PostKind};
use crate::wire::record::{HEAD_HOLDERS_MAX, HOLDER_LEN, Head, Kind, Record};
use crate::wire::{POST_LEN_MAX, RECORD_LEN_MAX};

use super::chain::Chain;
use super::me::{About, Me};
use super::people::People;
use super::persist::{Entry, Persists};
use super::posts::{PostId, Posts, RecordId, StoredPost};

/// The one log that is built now.
pub const LOG: u16 = 0;
/// Numbers reserved at a time.
pub const RESERVED_BATCH: u64 = 64;
/// With fewer free numbers than this, the next batch is reserved.
pub const RESERVED_LOW: u64 = 16;
/// A head is signed anew for its date alone at most once in this time, in ms.
pub const HEAD_MS: u64 = 1_000;
/// How many own posts a node without storage keeps at least, when room is needed.
pub const KEPT_MIN: usize = 1;
/// What a post takes beside its text, at most, in bytes.
const POST_OVERHEAD: usize = 200;

/// A post that was appended and is not durable yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Its number.
    pub seq: u64,
    /// What the host has to write first.
    pub persist: PersistId,
}

/// A post that was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its number.
    pub seq: u64,
    /// Its time, Unix ms; 0 without a clock.
    pub time_ms: u64,
}

/// The state of the log as storage keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogState {
    /// Number of the last post.
    pub last: u64,
    /// Its hash; all zero when there is none.
    pub hash: Digest,
    /// See [`Log::reserved`].
    pub reserved: u64,
    /// The highest record sequence used.
    pub sequence: u64,
}

/// The log.
pub struct Log<P: Plan> {
    newest: PostId,
    len: usize,
    last: u64,
    tip: Digest,
    durable: u64,
    reserved: u64,
    /// The number up to which heads reserve now, published or not.
    reserving: u64,
    pending: Ring<Pending, P::PostsPending>,
    /// The newest post that may be shown: number and hash.
    shown: u64,
    shown_hash: Digest,
    head: RecordId,
    head_signed: Instant,
    head_stale: bool,
}

impl<P: Plan> Log<P> {
    /// No posts.
    pub const EMPTY: Self = Self {
        newest: PostId::NONE,
        len: 0,
        last: 0,
        tip: [0; 32],
        durable: 0,
        reserved: 0,
        reserving: 0,
        pending: Ring::EMPTY,
        shown: 0,
        shown_hash: [0; 32],
        head: RecordId::NONE,
        head_signed: Instant::ZERO,
        head_stale: false,
    };

    /// Number of the last post appended, durable or not; 0: none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Number of the last post that is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The number up to which posts may be shown once durable: a quorum of holders knows that it is taken.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// The number that the next published head is to reserve; above [`Log::reserved`] when more are needed.
    #[must_use]
    pub fn reserving(&self) -> u64 {
        self.reserving
    }

    /// Number of the newest post that others may see; 0: none.
    #[must_use]
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// How many posts are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no posts are kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the storage is to remember.
    #[must_use]
    pub fn state(&self, me: &Me<P>) -> LogState {
        LogState {
            last: self.last,
            hash: self.tip,
            reserved: self.reserved,
            sequence: me.sequence(),
        }
    }

    /// The room in bytes that a post with this text needs in the store.
    #[must_use]
    pub const fn room_for(text: &str) -> usize {
        text.len().saturating_add(POST_OVERHEAD)
    }

    /// Posts that others may see, newest first. Start `GetStored` and `Get` answers here; keep the id of a post to go on
    /// later with [`Posts::get`].
    pub fn shown_posts<'a>(&self, posts: &'a Posts<P>) -> impl Iterator<Item = StoredPost<'a>> {
        let shown = self.shown;
        posts
            .walk(self.newest)
            .skip_while(move |post| post.seq > shown)
    }

    /// Every durable post, newest first: what the author itself sees.
    pub fn own_posts<'a>(&self, posts: &'a Posts<P>) -> impl Iterator<Item = StoredPost<'a>> {
        let durable = self.durable;
        posts
            .walk(self.newest)
            .skip_while(move |post| post.seq > durable)
    }

    /// Appends a post and queues it for storage. The caller has checked the text and made room in the store.
    ///
    /// # Errors
    /// [`CommandError::Busy`] when too many posts or entries wait for storage; [`CommandError::Full`] when the store is
    /// full; [`CommandError::StorageFailed`]. Nothing was changed then.
    pub fn append(
        &mut self,
        now: Instant,
        me: &mut Me<P>,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        kind: PostKind,
        text: &str,
    ) -> Result<Appended, CommandError> {
        if me.is_mute() {
            return Err(CommandError::StorageFailed);
        }
        if self.pending.is_full() || persists.room() < 2 {
            return Err(CommandError::Busy);
        }
        let mut salt = [0; 16];
        me.rng().fill(&mut salt);
        let draft = Draft {
            user: me.user(),
            log: LOG,
            seq: self.next_seq(kind),
            time_ms: me.unix_ms(now),
            prev: self.tip,
            kind,
            salt,
            text,
        };
        let mut buf = [0; POST_LEN_MAX];
        let (len, hash) = draft
            .encode::<P::Crypto>(me.network(), &mut buf)
            .ok_or(CommandError::TextTooLong)?;
        let id = posts
            .add(
                self.newest,
                draft.seq,
                draft.time_ms,
                buf.get(..len).unwrap_or_default(),
            )
            .ok_or(CommandError::Full)?;
        self.newest = id;
        self.last = draft.seq;
        self.tip = hash;
        self.len = self.len.saturating_add(1);
        // Room for both was checked above.
        let _ = persists.push(Entry::Post(draft.seq, id));
        if let Some(persist) = persists.push(Entry::Log) {
            let _ = self.pending.push_back(Pending {
                seq: draft.seq,
                persist,
            });
        }
        self.reserve_ahead();
        self.update_shown(me, posts);
        Ok(Appended {
            seq: draft.seq,
            time_ms: draft.time_ms,
        })
    }

    /// A gap begins above everything that may have been shown before.
    fn next_seq(&self, kind: PostKind) -> u64 {
        match kind {
            PostKind::Gap => self.last.max(self.reserved).saturating_add(1),
            PostKind::Text | PostKind::Other(_) => self.last.saturating_add(1),
        }
    }

    fn reserve_ahead(&mut self) {
        if self.last.saturating_add(RESERVED_LOW) > self.reserving {
            self.reserving = self.last.saturating_add(RESERVED_BATCH);
            self.head_stale = true;
        }
    }

    /// Everything up to `up_to` is durable in the host's storage; without effect where holders make posts durable.
    pub fn persisted(&mut self, me: &Me<P>, posts: &Posts<P>, up_to: PersistId) {
        if me.durability() != Durability::Host {
            return;
        }
        while let Some(pending) = self.pending.front().copied() {
            if pending.persist > up_to {
                break;
            }
            self.durable = pending.seq;
            self.pending.pop_front();
        }
        self.update_shown(me, posts);
    }

    /// Without storage (`Durability::Holders`): a post is durable once enough followers confirmed that they hold it.
    pub fn on_confirmed(&mut self, now: Instant, me: &Me<P>, people: &People<P>) {
        let Durability::Holders(wanted) = me.durability() else {
            return;
        };
        while let Some(pending) = self.pending.front().copied() {
            if people.confirmations(now, pending.seq) < usize::from(wanted) {
                break;
            }
            self.durable = pending.seq;
            self.pending.pop_front();
        }
    }

    /// The storage failed: posts that are not durable are dropped, as if they had never been. The caller mutes [`Me`].
    pub fn persist_failed(&mut self, posts: &mut Posts<P>) {
        self.pending.clear();
        while let Some(post) = posts.get(self.newest) {
            if post.seq <= self.durable {
                break;
            }
            self.newest = posts.remove(self.newest);
            self.len = self.len.saturating_sub(1);
        }
        self.last = self.durable;
    }

    /// A quorum of holders took a head that reserves numbers up to `reserved`. Queues the state for storage.
    pub fn on_reserved(
        &mut self,
        me: &Me<P>,
        posts: &Posts<P>,
        persists: &mut Persists<P>,
        reserved: u64,
    ) {
        if reserved > self.reserved {
            self.reserved = reserved;
            // Unwritten, it would be reserved again after the next start.
            let _ = persists.push(Entry::Log);
            self.update_shown(me, posts);
        }
    }

    fn update_shown(&mut self, me: &Me<P>, posts: &Posts<P>) {
        let limit = match me.durability() {
            Durability::Host => self.durable.min(self.reserved),
            Durability::Holders(_) => self.last.min(self.reserved),
        };
        if limit == self.shown {
            return;
        }
        let Some(post) = posts.walk(self.newest).find(|post| post.seq <= limit) else {
            return;
        };
        let Ok(decoded) = Post::decode::<P::Crypto>(post.bytes) else {
            return;
        };
        if post.seq > self.shown {
            self.shown = post.seq;
            self.shown_hash = decoded.hash::<P::Crypto>(me.network());
            self.head_stale = true;
        }
    }

    /// Signs the head anew when the newest shown post changed, else for its date at most once a second; not while mute.
    ///
    /// # Errors
    /// How many bytes it takes: the store has no room for them, and nothing of the old head any more.
    pub fn renew_head(
        &mut self,
        now: Instant,
        me: &mut Me<P>,
        people: &People<P>,
        posts: &mut Posts<P>,
    ) -> Result<(), usize> {
        let kept = self.kept_head(posts).is_some();
        let old = now.since_ms(self.head_signed) >= HEAD_MS;
        if !kept || self.head_stale || old {
            let mut buf = [0; RECORD_LEN_MAX];
            if let Some(len) = self.sign_head(now, me, people, &mut buf) {
                self.head = posts.put_record(self.head, buf.get(..len).unwrap_or_default());
                if self.kept_head(posts).is_none() {
                    return Err(len);
                }
                self.head_signed = now;
                self.head_stale = false;
            }
        }
        Ok(())
    }

    /// The head as it was signed last; `None` when none was, or the store had no room for it.
    pub fn kept_head<'a>(&self, posts: &'a Posts<P>) -> Option<&'a [u8]> {
        posts.record(self.head)
    }

    /// Signs a head into `buf`, whatever the one kept is.
    pub fn sign_head(
        &self,
        now: Instant,
        me: &mut Me<P>,
        people: &People<P>,
        buf: &mut [u8],
    ) -> Option<usize> {
        let mut holders = [0; HOLDER_LEN * HEAD_HOLDERS_MAX];
        let mut used = 0;
        for (place, holder) in holders
            .chunks_exact_mut(HOLDER_LEN)
            .zip(people.holders(now))
        {
            let bytes = holder
                .user
                .as_bytes()
                .iter()
                .chain(holder.address.as_bytes());
            for (to, from) in place.iter_mut().zip(bytes) {
                *to = *from;
            }
            used += HOLDER_LEN;
        }
        let head = Head {
            last: self.shown,
            hash: self.shown_hash,
            reserved: self.reserving,
            keep_ms: me.keep_ms(),
            confirmed_ms: me.unix_ms(now),
            holders: holders.get(..used)?,
        };
        let about = About {
            kind: Kind::Head,
            key: Key::of_user::<P::Crypto>(&me.user()),
            subject: None,
            page: LOG,
            lifetime_ms: u32::MAX,
        };
        me.sign(now, &about, &head, buf)
    }

    // Restoring.

    /// Takes the state that storage remembered; posts come after it.
    pub fn restore_state(&mut self, state: &LogState) {
        self.last = state.last;
        self.tip = state.hash;
        self.reserved = state.reserved;
    }

    /// Takes a post that storage or a holder had. False: there is no room.
    #[must_use]
    pub fn restore_post(
        &mut self,
        posts: &mut Posts<P>,
        seq: u64,
        time_ms: u64,
        bytes: &[u8],
    ) -> bool {
        let before = posts.used().0;
        let Some(newest) = posts.add_sorted(self.newest, seq, time_ms, bytes) else {
            return false;
        };
        self.newest = newest;
        self.len = self
            .len
            .saturating_add(posts.used().0.saturating_sub(before));
        true
    }

    /// Checks the chain of all restored posts against the state, and goes on from the newest. Posts beyond the state are
    /// fine: a crash can come between the two.
    ///
    /// # Errors
    /// What is wrong. The log must not be used then.
    pub fn check_restored(&mut self, me: &Me<P>, posts: &Posts<P>) -> Result<(), Damaged> {
        let damaged = |class, what| Err(Damaged { class, what });
        let (stated, stated_hash) = (self.last, self.tip);
        let mut seen_stated = stated == 0;
        let mut chain: Option<Chain> = None;
        for stored in posts.walk(self.newest) {
            let Ok(post) = Post::decode::<P::Crypto>(stored.bytes) else {
                return damaged(Class::Post, "a post does not decode");
            };
            let hash = post.hash::<P::Crypto>(me.network());
            match &chain {
                None => (self.last, self.tip) = (stored.seq, hash),
                Some(chain) if chain.fits(stored.seq, &hash) => {}
                Some(_) => return damaged(Class::Post, "a post is missing or does not fit"),
            }
            if stored.seq == stated {
                if hash != stated_hash {
                    return damaged(Class::Log, "the last post is not the one that was written");
                }
                seen_stated = true;
            }
            chain = Some(Chain::behind(&post));
        }
        if !seen_stated {
            return damaged(Class::Post, "the last post is missing");
        }
        // A node that drops old posts on purpose has only the end of its chain.
        let drops = matches!(me.durability(), Durability::Holders(_));
        if !drops && chain.is_some_and(|chain| !chain.is_end()) {
            return damaged(Class::Post, "the first posts are missing");
        }
        Ok(())
    }

    /// Ends restoring, after the check.
    pub fn restored_all(&mut self, me: &Me<P>, posts: &Posts<P>) {
        self.durable = self.last;
        self.reserving = self.reserved;
        self.reserve_ahead();
        self.update_shown(me, posts);
    }

    /// After storage was lost: takes a checked chain of own posts that holders had, and uses no number up to `reserved`
    /// again. Append a [`PostKind::Gap`] next: it links to the newest of them, so that they stay readable.
    pub fn resume(&mut self, me: &Me<P>, posts: &Posts<P>, newest: PostId, reserved: u64) {
        self.newest = newest;
        self.len = posts.walk(newest).count();
        let newest = posts.get(newest);
        let decoded = newest.and_then(|post| Post::decode::<P::Crypto>(post.bytes).ok());
        if let Some(post) = decoded {
            self.last = post.header.seq;
            self.tip = post.hash::<P::Crypto>(me.network());
        }
        self.durable = self.last;
        self.reserved = self.reserved.max(reserved);
        self.reserving = self.reserving.max(reserved);
        self.update_shown(me, posts);
    }

    /// A head in the DHT reserves numbers that were not known to be: an earlier run had no time to note it.
    pub fn saw_reserved(&mut self, reserved: u64) {
        self.reserving = self.reserving.max(reserved);
    }

    /// Drops the oldest post to make room, on a node without storage (`Durability::Holders`), as long as more than
    /// [`KEPT_MIN`] are kept and all of them were confirmed. Never otherwise: own posts are not lost silently.
    #[must_use]
    pub fn drop_oldest(&mut self, me: &Me<P>, posts: &mut Posts<P>) -> bool {
        let volatile = matches!(me.durability(), Durability::Holders(_));
        if !volatile || self.len <= KEPT_MIN || self.durable < self.last {
            return false;
        }
        let mut before = PostId::NONE;
        let mut oldest = PostId::NONE;
        for post in posts.walk(self.newest) {
            before = oldest;
            oldest = post.id;
        }
        posts.link(before, PostId::NONE);
        posts.remove(oldest);
        self.len = self.len.saturating_sub(1);
        true
    }

    /// Whether a head that somebody else shows for this user contradicts the log: the key is in use elsewhere.
    #[must_use]
    pub fn contradicts(&self, me: &Me<P>, posts: &Posts<P>, head: &Head<'_>) -> bool {
        if head.last > self.last {
            return true;
        }
        let at = posts.walk(self.newest).find(|post| post.seq == head.last);
        let decoded = at.and_then(|post| Post::decode::<P::Crypto>(post.bytes).ok());
        decoded.is_some_and(|post| post.hash::<P::Crypto>(me.network()) != head.hash)
    }

    /// Whether `record` is a head of log 0 and what it says.
    #[must_use]
    pub fn read_head<'a>(record: &Record<'a>) -> Option<Head<'a>> {
        let is_head = record.kind == Kind::Head && record.page == LOG;
        is_head.then(|| record.payload().ok()).flatten()
    }
}

#[cfg(test)]
mod tests;
