//! Copies of other people's posts, kept for a while so that they can be read when their author is gone.
//!
//! Owns, per author, the signed head, the posts and the moment at which they expire. Fetching and serving are done
//! elsewhere. Invariants:
//! - An expired copy is never returned; sweeping it away is only a matter of memory.
//! - Posts are contiguous from the newest that the head vouches for; every one was checked against the chain.
//! - Only a newer confirmation by the author puts the expiry off; another's word can only bring it forward.

use crate::bounded::{Handle, Index, Slab};
use crate::clock::Clock;
use crate::config::KEEP_MAX_MS;
use crate::id::UserId;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::{Deadline, Instant};
use crate::wire::post::Post;
use crate::wire::record::{Head, Record};

use super::chain::Chain;
use super::log::{LOG, Log};
use super::me::Me;
use super::people::mixed;
use super::persist::{Entry, Persists};
use super::posts::{PostId, Posts, RecordId, StoredPost};
use super::soonest;

mod restore;

/// Less than this is left: no copy is made of it.
const REMAINING_MIN_MS: u64 = 1_000;
/// Posts freed in one sweep step.
const SWEEP_STEPS: usize = 32;
/// Pause between two sweep steps, in ms.
const SWEEP_PAUSE_MS: u64 = 10;

/// The posts of one author that are kept here.
#[derive(Clone, Debug)]
pub struct Copy {
    author: UserId,
    head: RecordId,
    /// The sequence of the head.
    sequence: u64,
    /// The number that the head names.
    last: u64,
    /// Newest and oldest post of the part that begins at the head.
    newest: PostId,
    bottom: PostId,
    /// Newest and oldest post of an earlier part, to which the first does not reach down yet.
    older: PostId,
    older_bottom: PostId,
    expires: Instant,
    /// The same as a date, Unix ms; 0 when made without a clock (then it does not outlive a restart).
    expires_ms: u64,
}

impl Copy {
    const fn of(author: UserId) -> Self {
        Self {
            author,
            head: RecordId::NONE,
            sequence: 0,
            last: 0,
            newest: PostId::NONE,
            bottom: PostId::NONE,
            older: PostId::NONE,
            older_bottom: PostId::NONE,
            expires: Instant::ZERO,
            expires_ms: 0,
        }
    }
}

/// What a head changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum HeadNews {
    /// The very head that is known: nothing changed.
    Same,
    /// An older one than is known: nothing changed.
    Older,
    /// The author confirmed what is known: it may be kept for longer. No new posts.
    Confirmed,
    /// There are new posts (or it is the first head of this author): [`Copies::wanted`] says which.
    Newer,
}

/// What became of a post.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PostNews {
    /// It is kept.
    Kept(PostId),
    /// It was there already.
    Known,
    /// It fits the chain, but there is no room for it (newer ones stay).
    NoRoom,
}

/// A copy that may be shown and served.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The author.
    pub author: UserId,
    /// The signed head.
    pub head: &'a [u8],
    /// The number of the newest post that the head vouches for.
    pub last: u64,
    /// What is left of the time for which it may be kept, in ms: what to tell when passing it on.
    pub remaining_ms: u64,
    /// The first post to serve; walk on with [`Posts::walk`].
    pub newest: PostId,
    /// An earlier part, checked under an earlier head, to which the first does not reach down yet: for one's own eyes,
    /// since its link to the head is missing.
    pub older: PostId,
}

/// The copies.
pub struct Copies<P: Plan> {
    secret: u64,
    copies: Slab<Copy, P::Copies>,
    index: P::CopiesIndex,
    /// No copy expires before this.
    wake: Deadline,
}

impl<P: Plan> Copies<P> {
    /// No copies.
    pub const EMPTY: Self = Self {
        secret: 0,
        copies: Slab::EMPTY,
        index: P::CopiesIndex::EMPTY,
        wake: Deadline::NEVER,
    };

    /// Takes the secret that is mixed into hashes; before any entry.
    pub fn start(&mut self, secret: u64) {
        self.secret = secret;
    }

    /// How many authors have a copy here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Whether there are no copies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// How many authors can have one.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.copies.capacity()
    }

    fn find(&self, author: &UserId) -> Option<Handle> {
        let slot = self.index.find(
            mixed(self.secret, author),
            self.copies.slots(),
            |slot| matches!(self.copies.at(slot), Some((_, copy)) if copy.author == *author),
        )?;
        self.copies.handle_at(slot)
    }

    fn of(&self, author: &UserId) -> Option<&Copy> {
        self.copies.get(self.find(author)?)
    }

    /// The copy of an author's posts; `None` when there is none or it has expired.
    #[must_use]
    pub fn view<'a>(&self, now: Instant, posts: &'a Posts<P>, author: &UserId) -> Option<View<'a>> {
        view(now, posts, self.of(author)?)
    }

    /// Every copy that has not expired, in a fixed order.
    pub fn iter<'a>(&self, now: Instant, posts: &'a Posts<P>) -> impl Iterator<Item = View<'a>> {
        let copies = self.copies.iter();
        copies.filter_map(move |(_, copy)| view(now, posts, copy))
    }

    /// How many places of the table were ever used; see [`Copies::at`].
    #[must_use]
    pub fn slots(&self) -> usize {
        self.copies.slots()
    }

    /// The copy in a place of the table, if there is one that has not expired.
    #[must_use]
    pub fn at<'a>(&self, now: Instant, posts: &'a Posts<P>, slot: usize) -> Option<View<'a>> {
        view(now, posts, self.copies.at(slot)?.1)
    }

    /// The number up to which the copy reaches without a gap to its oldest post: what a reader may name as `since`. 0
    /// without a copy, or while its newest part does not reach the older one yet and that has none.
    #[must_use]
    pub fn since(&self, now: Instant, posts: &Posts<P>, author: &UserId) -> u64 {
        let Some(view) = self.view(now, posts, author) else {
            return 0;
        };
        let part = if view.older.is_none() {
            view.newest
        } else {
            view.older
        };
        posts.get(part).map_or(0, |post| post.seq)
    }

    /// Which post the copy lacks next below its head: what a source should send from. `None`: nothing is lacking.
    #[must_use]
    pub fn wanted(&self, posts: &Posts<P>, author: &UserId) -> Option<Chain> {
        let copy = self.of(author)?;
        let chain = bottom_chain(posts, copy)?;
        (!chain.is_end()).then_some(chain)
    }

    /// Takes a head of `author` from anybody: checks that it is one, is signed by its author, and is not older than the one
    /// known. `sent` is when it was asked for, `remaining_ms` what its sender says is left (the author itself: the whole
    /// keeping time). Makes room by dropping what expires soonest.
    ///
    /// # Errors
    /// [`Rule::Kind`], [`Rule::Payload`], [`Rule::Author`], [`Rule::Key`], [`Rule::Signature`]; [`Rule::Lifetime`] when
    /// nothing is left; [`Rule::Fork`] for two heads with one number and two hashes; [`Rule::Older`] when a newer head
    /// names a lower number; [`Rule::Full`] when there is no room.
    pub fn offer_head(
        &mut self,
        now: Instant,
        me: &Me<P>,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        offer: &Offer<'_>,
    ) -> Result<HeadNews, Rule> {
        if let Some(news) = self.compare(posts, offer.head)? {
            return Ok(news);
        }
        Record::prove::<P::Crypto>(offer.head, me.network())?;
        self.keep(now, me, posts, persists, offer)
    }

    /// Keeps a verified head, and finds it a place.
    #[inline(never)] // As `compare`.
    fn keep(
        &mut self,
        now: Instant,
        me: &Me<P>,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        offer: &Offer<'_>,
    ) -> Result<HeadNews, Rule> {
        let record = Record::decode(offer.head)?;
        let head = Log::<P>::read_head(&record).ok_or(Rule::Kind)?;
        let (expires, expires_ms) = expiry(now, me.clock(), &head, offer);
        if expires.since_ms(now) < REMAINING_MIN_MS {
            return Err(Rule::Lifetime);
        }
        let handle = match self.find(&record.author) {
            Some(handle) => handle,
            None => self.create(posts, persists, &record.author)?,
        };
        let newer = self.renew(posts, persists, handle, &record, &head)?;
        if let Some(copy) = self.copies.get_mut(handle) {
            (copy.expires, copy.expires_ms) = (expires, expires_ms);
        }
        self.wake.lower(expires);
        // A copy that is not written is fetched again after a restart.
        persists.hint(Entry::Copy(record.author));
        Ok(if newer {
            HeadNews::Newer
        } else {
            HeadNews::Confirmed
        })
    }

    /// Compares a head with the one known, before its signature is checked: `Some` when it changes nothing.
    #[inline(never)] // Its frame is to be gone before anything is verified.
    fn compare(&self, posts: &Posts<P>, bytes: &[u8]) -> Result<Option<HeadNews>, Rule> {
        let record = Record::decode(bytes)?;
        let head = Log::<P>::read_head(&record).ok_or(Rule::Kind)?;
        let Some(copy) = self.of(&record.author) else {
            return Ok(None);
        };
        let Some(known) = posts.record(copy.head) else {
            return Ok(None);
        };
        if known == record.bytes {
            return Ok(Some(HeadNews::Same));
        }
        if record.sequence < copy.sequence {
            return Ok(Some(HeadNews::Older));
        }
        if head.last < copy.last {
            return Err(Rule::Older);
        }
        let known = Record::decode(known)?;
        let forked = Log::<P>::read_head(&known)
            .is_some_and(|known| known.last == head.last && known.hash != head.hash);
        if forked { Err(Rule::Fork) } else { Ok(None) }
    }

    /// Puts a checked head in the place of the one known. Tells whether it names newer posts.
    fn renew(
        &mut self,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        handle: Handle,
        record: &Record<'_>,
        head: &Head<'_>,
    ) -> Result<bool, Rule> {
        let Some(copy) = self.copies.get(handle) else {
            return Err(Rule::Full);
        };
        let (old, first) = (copy.head, copy.sequence == 0);
        if !posts.fits_record(record.bytes.len()) && first {
            self.make_room(posts, persists, record.bytes.len(), Some(handle));
        }
        let kept = posts.put_record(old, record.bytes);
        if kept == RecordId::NONE {
            self.remove(posts, persists, handle);
            return Err(Rule::Full);
        }
        let Some(copy) = self.copies.get_mut(handle) else {
            return Err(Rule::Full);
        };
        let newer = first || head.last > copy.last;
        copy.head = kept;
        copy.sequence = record.sequence;
        copy.last = head.last;
        if !newer || copy.newest.is_none() {
            return Ok(newer);
        }
        // The first part becomes the earlier one. One that was still waiting below it is given up: it can be fetched again.
        let (newest, bottom) = (copy.newest, copy.bottom);
        let given_up = core::mem::replace(&mut copy.older, newest);
        copy.older_bottom = bottom;
        (copy.newest, copy.bottom) = (PostId::NONE, PostId::NONE);
        free_chain(posts, persists, record.author, given_up);
        Ok(true)
    }

    /// Takes a post from anybody. Only the one that [`Copies::wanted`] names is kept.
    ///
    /// # Errors
    /// [`Rule::Overlong`], [`Rule::Malformed`]; [`Rule::Chain`] when it is not what the head vouches for;
    /// [`Rule::OutOfTurn`] when no head of its author came before.
    pub fn offer_post(
        &mut self,
        now: Instant,
        me: &Me<P>,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        bytes: &[u8],
    ) -> Result<PostNews, Rule> {
        let post = Post::decode::<P::Crypto>(bytes)?;
        let handle = self.find(&post.header.user).ok_or(Rule::OutOfTurn)?;
        let copy = self.copies.get(handle).ok_or(Rule::OutOfTurn)?;
        if post.header.log != LOG || now >= copy.expires {
            return Err(Rule::OutOfTurn);
        }
        let mut chain = bottom_chain(posts, copy).ok_or(Rule::OutOfTurn)?;
        if post.header.seq > chain.expect_seq || chain.is_end() {
            return Ok(PostNews::Known);
        }
        chain.check::<P::Crypto>(&post, me.network())?;
        if !posts.fits(bytes.len()) {
            self.make_room(
                posts,
                persists,
                bytes.len().saturating_add(64),
                Some(handle),
            );
        }
        let seq = post.header.seq;
        let Some(id) = posts.add(PostId::NONE, seq, me.unix_ms(now), bytes) else {
            return Ok(PostNews::NoRoom);
        };
        persists.hint(Entry::CopyPost(post.header.user, seq, id));
        let Some(copy) = self.copies.get_mut(handle) else {
            return Ok(PostNews::NoRoom);
        };
        if copy.newest.is_none() {
            copy.newest = id;
        } else {
            posts.link(copy.bottom, id);
        }
        copy.bottom = id;
        join_parts(me, posts, copy, &chain);
        Ok(PostNews::Kept(id))
    }

    fn create(
        &mut self,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        author: &UserId,
    ) -> Result<Handle, Rule> {
        if self.copies.is_full()
            && let Some(soonest) = self.soonest(None)
        {
            self.remove(posts, persists, soonest);
        }
        self.insert(Copy::of(*author)).map_err(|_| Rule::Full)
    }

    fn insert(&mut self, copy: Copy) -> Result<Handle, Copy> {
        let hash = mixed(self.secret, &copy.author);
        let handle = self.copies.insert(copy)?;
        let (secret, copies) = (self.secret, &self.copies);
        self.index.insert(hash, handle.index(), |slot| {
            let copy = copies.at(slot);
            copy.map_or(0, |(_, copy)| mixed(secret, &copy.author))
        });
        Ok(handle)
    }

    /// The copy that expires soonest, other than `spared`.
    fn soonest(&self, spared: Option<Handle>) -> Option<Handle> {
        let mut soonest: Option<(Handle, Instant)> = None;
        for (handle, copy) in self.copies.iter() {
            let sooner = soonest.is_none_or(|(_, at)| copy.expires < at);
            if sooner && Some(handle) != spared {
                soonest = Some((handle, copy.expires));
            }
        }
        soonest.map(|(handle, _)| handle)
    }

    fn next_expiry(&self) -> Deadline {
        soonest(self.copies.iter().map(|(_, copy)| copy.expires))
    }

    /// Drops copies, those that expire soonest first, until `len` bytes fit; never the one spared. False: it was not
    /// enough.
    pub fn make_room(
        &mut self,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        len: usize,
        spared: Option<Handle>,
    ) -> bool {
        while !posts.fits(len) {
            let Some(soonest) = self.soonest(spared) else {
                return false;
            };
            self.remove(posts, persists, soonest);
        }
        true
    }

    fn remove(&mut self, posts: &mut Posts<P>, persists: &mut Persists<P>, handle: Handle) {
        let Some(copy) = self.copies.get(handle) else {
            return;
        };
        self.index
            .remove(mixed(self.secret, &copy.author), handle.index());
        posts.remove_record(copy.head);
        free_chain(posts, persists, copy.author, copy.newest);
        free_chain(posts, persists, copy.author, copy.older);
        persists.hint(Entry::Copy(copy.author));
        self.copies.discard(handle);
    }

    /// Takes the copy of an author away without freeing its posts, and returns where their chain begins (an earlier part
    /// that it does not reach is freed). For a user who recovers their own posts.
    pub fn take(
        &mut self,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
        author: &UserId,
    ) -> PostId {
        let Some(handle) = self.find(author) else {
            return PostId::NONE;
        };
        let newest = match self.copies.get_mut(handle) {
            Some(copy) => core::mem::replace(&mut copy.newest, PostId::NONE),
            None => PostId::NONE,
        };
        self.remove(posts, persists, handle);
        newest
    }

    /// When [`Copies::handle_timeout`] next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        self.wake
    }

    /// Frees an expired copy, or a part of it, and returns its author when it is all gone. Each call does a bounded
    /// amount of work; for what is left the deadline tells when to call again, a moment later.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        posts: &mut Posts<P>,
        persists: &mut Persists<P>,
    ) -> Option<UserId> {
        if !self.wake.is_due(now) {
            return None;
        }
        let handle = self.soonest(None);
        let copy = handle.and_then(|handle| self.copies.get_mut(handle));
        let (Some(handle), Some(copy)) = (handle, copy.filter(|copy| copy.expires <= now)) else {
            self.wake = self.next_expiry();
            return None;
        };
        for _ in 0..SWEEP_STEPS {
            let part = if copy.newest.is_none() {
                &mut copy.older
            } else {
                &mut copy.newest
            };
            let Some(post) = posts.get(*part) else {
                let author = copy.author;
                self.remove(posts, persists, handle);
                // One more may have expired in this moment: it is freed in the next.
                let next = self.next_expiry().get();
                self.wake = next.map_or(Deadline::NEVER, |at| {
                    Deadline::at(at.max(now.after_ms(SWEEP_PAUSE_MS)))
                });
                return Some(author);
            };
            persists.hint(Entry::CopyPost(copy.author, post.seq, post.id));
            *part = posts.remove(post.id);
        }
        self.wake = Deadline::at(now.after_ms(SWEEP_PAUSE_MS));
        None
    }
}

/// A head on offer.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The signed head record.
    pub head: &'a [u8],
    /// When the request was sent whose answer it is.
    pub sent: Instant,
    /// What its sender says is left of the keeping time, in ms.
    pub remaining_ms: u64,
}

/// Until when a copy may be kept: on the monotonic clock, and as a date if there is one.
fn expiry(now: Instant, clock: &Clock, head: &Head<'_>, offer: &Offer<'_>) -> (Instant, u64) {
    let keep_ms = u64::from(head.keep_ms.min(KEEP_MAX_MS));
    let mut expires = offer.sent.after_ms(offer.remaining_ms.min(keep_ms));
    let (Some(unix_ms), Some(uncertainty_ms)) = (clock.unix_ms(now), clock.uncertainty_ms(now))
    else {
        return (expires, 0);
    };
    if head.confirmed_ms != 0 {
        let until = head
            .confirmed_ms
            .saturating_add(keep_ms)
            .saturating_add(u64::from(uncertainty_ms));
        expires = expires.min(now.after_ms(until.saturating_sub(unix_ms)));
    }
    (expires, unix_ms.saturating_add(expires.since_ms(now)))
}

fn view<'a, P: Plan>(now: Instant, posts: &'a Posts<P>, copy: &Copy) -> Option<View<'a>> {
    if now >= copy.expires {
        return None;
    }
    Some(View {
        author: copy.author,
        head: posts.record(copy.head)?,
        last: copy.last,
        remaining_ms: copy.expires.since_ms(now),
        newest: copy.newest,
        older: copy.older,
    })
}

/// What must come next below the first part of a copy.
fn bottom_chain<P: Plan>(posts: &Posts<P>, copy: &Copy) -> Option<Chain> {
    if let Some(bottom) = posts.get(copy.bottom) {
        let post = Post::decode::<P::Crypto>(bottom.bytes).ok()?;
        return Some(Chain::behind(&post));
    }
    let record = Record::decode(posts.record(copy.head)?).ok()?;
    Some(Chain::of_head(&Log::<P>::read_head(&record)?))
}

/// Puts the earlier part behind the first one when that has come down to it.
fn join_parts<P: Plan>(me: &Me<P>, posts: &mut Posts<P>, copy: &mut Copy, chain: &Chain) {
    let Some(older) = posts.get(copy.older) else {
        return;
    };
    let fits = Post::decode::<P::Crypto>(older.bytes)
        .is_ok_and(|post| chain.fits(older.seq, &post.hash::<P::Crypto>(me.network())));
    if fits {
        posts.link(copy.bottom, copy.older);
        copy.bottom = copy.older_bottom;
        (copy.older, copy.older_bottom) = (PostId::NONE, PostId::NONE);
    }
}

/// Drops a chain of posts of a copy.
fn free_chain<P: Plan>(
    posts: &mut Posts<P>,
    persists: &mut Persists<P>,
    author: UserId,
    newest: PostId,
) {
    let mut next = newest;
    while let Some(StoredPost { id, seq, .. }) = posts.get(next) {
        // What is not deleted from storage has expired by the next start, or is dropped then as not fitting.
        persists.hint(Entry::CopyPost(author, seq, id));
        next = posts.remove(id);
    }
}

#[cfg(test)]
mod tests;
