//! What a read tells the application, one event at a time.
//!
//! Owns the order of events: a post that just came, own posts, posts kept here, who is missing, and the end. Posts lie
//! in the log or the copies until they are polled. Invariant: a copy that expired between two polls is not shown.

use crate::bounded::{Handle, List};
use crate::id::UserId;
use crate::output::{Event, Outcome, Person, QueryId, Via};
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::frame::Unreached;
use crate::wire::post::{Post, PostKind};

use super::super::exchange::Exchange;
use super::super::posts::{PostId, StoredPost};
use super::super::state::State;
use super::super::tree::{Job, Target};
use super::{Read, Reading, Scope, Stage};

/// A post that just came and is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// In which read.
    pub read: Handle,
    /// Which of its people wrote it.
    pub at: u16,
    /// Who served it.
    pub via: Via,
}

/// What is told next, with the post's bytes already in the caller's buffer. Whom it is about is looked up only then.
enum Next {
    Post {
        read: Handle,
        /// Which of its people wrote it; `None`: this user.
        at: Option<u16>,
        via: Via,
        seen_ms: u64,
        len: usize,
    },
    Missing {
        read: Handle,
        at: u16,
        reason: Unreached,
    },
    Done {
        query: QueryId,
        complete: bool,
    },
}

impl<P: Plan> Exchange<P> {
    /// The next event of a read. `buf` takes a post.
    ///
    /// # Errors
    /// Gives the buffer back when there is nothing.
    pub fn poll_event<'b>(
        &mut self,
        state: &mut State<P>,
        buf: &'b mut [u8],
    ) -> Result<Event<'b>, &'b mut [u8]> {
        match self.next_told(state, buf) {
            None => Err(buf),
            Some(Next::Done { query, complete }) => {
                let outcome = Outcome::Read { complete };
                Ok(Event::QueryDone { query, outcome })
            }
            Some(Next::Missing { read, at, reason }) => match self.told_of(state, read, Some(at)) {
                Some((query, author)) => Ok(Event::Missing {
                    query,
                    author,
                    reason,
                }),
                None => Err(buf),
            },
            Some(Next::Post {
                read,
                at,
                via,
                seen_ms,
                len,
            }) => {
                let Some((query, author)) = self.told_of(state, read, at) else {
                    return Err(buf);
                };
                // It was checked when it came, so it decodes.
                let post = buf.get(..len).unwrap_or_default();
                let Ok(post) = Post::decode::<P::Crypto>(post) else {
                    return Err(&mut []);
                };
                Ok(Event::Post {
                    query,
                    author,
                    log: post.header.log,
                    seq: post.header.seq,
                    time_ms: first_of(post.header.time_ms, seen_ms),
                    text: post.text,
                    via,
                })
            }
        }
    }

    /// In answer to which command it is told, and about whom.
    fn told_of(
        &self,
        state: &State<P>,
        handle: Handle,
        at: Option<u16>,
    ) -> Option<(QueryId, Person)> {
        let read = self.reads.get(handle)?;
        let author = match at {
            Some(at) => read.person(state, &self.user_at(handle, at)?)?,
            None => Person {
                user: state.me.user(),
                name: state.me.name(),
            },
        };
        Some((read.query?, author))
    }

    fn next_told(&mut self, state: &mut State<P>, buf: &mut [u8]) -> Option<Next> {
        if let Some((shown, len)) = self.tree.transit.take_post(state, buf) {
            return Some(Next::Post {
                read: shown.read,
                at: Some(shown.at),
                via: shown.via,
                seen_ms: state.me.unix_ms(self.now),
                len,
            });
        }
        if !self.reads.telling {
            return None;
        }
        for index in 0..self.reads.reads.slots() {
            let Some((handle, read)) = self.reads.reads.at_mut(index) else {
                continue;
            };
            let targets = self
                .tree
                .job(read.job)
                .map_or(&[] as &[Target], Job::targets);
            if let Some(next) = read.next_told(self.now, state, handle, targets, buf) {
                return Some(next);
            }
            if read.is_over() {
                let done = read.query.map(|query| Next::Done {
                    query,
                    complete: !read.incomplete,
                });
                self.drop_read(state, handle);
                if done.is_some() {
                    return done;
                }
            }
        }
        self.reads.telling = false;
        None
    }
}

impl<P: Plan> Read<P> {
    /// Whether everybody was read and everything was told.
    fn is_over(&self) -> bool {
        self.readings
            .iter()
            .all(|reading| reading.stage == Stage::Over)
    }

    /// Who somebody in this read is; `None` when they were unfollowed meanwhile.
    fn person(&self, state: &State<P>, user: &UserId) -> Option<Person> {
        match self.scope {
            Scope::One(person) => Some(person),
            Scope::Everyone => {
                let name = state.people.followed(user)?.name;
                Some(Person { user: *user, name })
            }
        }
    }

    fn next_told(
        &mut self,
        now: Instant,
        state: &State<P>,
        handle: Handle,
        targets: &[Target],
        buf: &mut [u8],
    ) -> Option<Next> {
        if self.query.is_none() {
            for reading in self.readings.iter_mut() {
                if matches!(reading.stage, Stage::Showing { .. } | Stage::Missing(_)) {
                    reading.stage = Stage::Over;
                }
            }
            return None;
        }
        if let Some((seen_ms, len)) = self.next_own(state, buf) {
            return Some(Next::Post {
                read: handle,
                at: None,
                via: Via::Own,
                seen_ms,
                len,
            });
        }
        for (at, target) in (0_u16..).zip(targets) {
            // Whoever was unfollowed meanwhile is left out.
            let known =
                self.scope != Scope::Everyone || state.people.followed(&target.user).is_some();
            let missing = self.reading(at).and_then(Reading::take_missing);
            if let (Some(reason), true) = (missing, known) {
                self.incomplete = true;
                return Some(Next::Missing {
                    read: handle,
                    at,
                    reason,
                });
            }
            let kept = self
                .reading(at)
                .and_then(|reading| reading.next_kept(now, state, &target.user, buf));
            if let (Some((live, seen_ms, len)), true) = (kept, known) {
                let via = if live {
                    Via::Author
                } else {
                    Via::Replica(state.me.name())
                };
                return Some(Next::Post {
                    read: handle,
                    at: Some(at),
                    via,
                    seen_ms,
                    len,
                });
            }
        }
        None
    }

    /// The next own post: all of them, since they need not travel. When it came, and how long it is.
    fn next_own(&mut self, state: &State<P>, buf: &mut [u8]) -> Option<(u64, usize)> {
        while let Some(post) = state.posts.get(self.own) {
            self.own = post.older;
            if let Some((PostKind::Text, len)) = copy_post::<P>(&post, buf) {
                return Some((post.seen_ms, len));
            }
        }
        self.own = PostId::NONE;
        None
    }
}

impl Reading {
    /// Why a person is missing, once.
    fn take_missing(&mut self) -> Option<Unreached> {
        let Stage::Missing(why) = self.stage else {
            return None;
        };
        self.stage = Stage::Over;
        Some(why)
    }

    /// The next post of a person that is kept here, and whether the author confirmed it in this read. After the last
    /// one the person is done with.
    fn next_kept<P: Plan>(
        &mut self,
        now: Instant,
        state: &State<P>,
        user: &UserId,
        buf: &mut [u8],
    ) -> Option<(bool, u64, usize)> {
        let Stage::Showing { live } = self.stage else {
            return None;
        };
        let view = state.copies.view(now, &state.posts, user);
        while let Some(view) = &view
            && let Some(post) = state.posts.get(self.cursor).filter(|_| self.left > 0)
        {
            self.cursor = post.older;
            if state.posts.get(post.older).is_none() && post.seq > first_of_part(state, view.older)
            {
                // The part below is not joined to this one.
                self.cursor = view.older;
            }
            if let Some((kind, len)) = copy_post::<P>(&post, buf)
                && self.shows(post.seq, kind)
            {
                return Some((live, post.seen_ms, len));
            }
        }
        self.stage = Stage::Over;
        None
    }
}

/// The number of the first post of the earlier part of a copy, or the highest number if there is no such part.
fn first_of_part<P: Plan>(state: &State<P>, older: PostId) -> u64 {
    state.posts.get(older).map_or(u64::MAX, |post| post.seq)
}

/// Copies a post to `buf`, and tells its kind.
fn copy_post<P: Plan>(post: &StoredPost<'_>, buf: &mut [u8]) -> Option<(PostKind, usize)> {
    let kind = Post::decode::<P::Crypto>(post.bytes).ok()?.header.kind;
    let len = post.bytes.len();
    buf.get_mut(..len)?.copy_from_slice(post.bytes);
    Some((PostKind::of_tag(kind), len))
}

/// The earlier of two dates in Unix ms, of which 0 means unknown.
const fn first_of(claimed_ms: u64, seen_ms: u64) -> u64 {
    match (claimed_ms, seen_ms) {
        (0, known) | (known, 0) => known,
        (claimed_ms, seen_ms) => {
            if claimed_ms < seen_ms {
                claimed_ms
            } else {
                seen_ms
            }
        }
    }
}
