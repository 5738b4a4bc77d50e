//! Answers what peers ask on streams that they opened.
//!
//! Owns the order of an answer: head, posts newest first, `Done`, and for a `Get` with targets whatever the get
//! tree brings, then `End`. Posts are read from log and copies one at a time, when there is room to write them: an
//! answer holds a place in a chain of posts, never a post. It does not decide whom to relay for: that is
//! [`super::super::tree`]'s. Invariant: nothing is served that is not shown to everybody, or that has expired.

use crate::bounded::Handle;
use crate::id::UserId;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::frame::{Ending, Frame, Get, GetStored, Refusal};
use crate::wire::record::{Follow, Head, Record};

use super::super::exchange::Exchange;
use super::super::log::LOG;
use super::super::posts::PostId;
use super::super::state::State;
use super::super::tree::Job;
use super::{Role, Taken};

/// Copies with less left than this are not passed on, in ms.
pub const REMAINING_MIN_MS: u64 = 1_000;

/// An answer on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Serving {
    /// Whose posts.
    author: UserId,
    /// What comes next.
    step: Step,
    /// The next post.
    next: PostId,
    /// The asker holds the posts up to this number.
    since: u64,
    /// Posts that may still be sent.
    left: u16,
    /// The job of the get tree that brings the rest.
    pub job: Option<Handle>,
    /// Why nothing is relayed, if the request asked for it.
    refusal: Option<Refusal>,
    /// `Target` frames that still come for a share that was refused.
    skip: u16,
    /// Something is to be written to show that this node is at it.
    pub working: bool,
}

/// What an answer sends next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Head,
    Posts,
    Done(Ending),
    /// What the get tree brings, then `End`.
    Rest,
    /// Nothing more; `Target` frames are still to be swallowed.
    Over,
}

impl Serving {
    fn new(author: UserId, since: u64, limit: u16) -> Self {
        Self {
            author,
            step: Step::Head,
            next: PostId::NONE,
            since,
            left: limit,
            job: None,
            refusal: None,
            skip: 0,
            working: false,
        }
    }
}

impl<P: Plan> Exchange<P> {
    /// A peer's stream has nothing under way: only a request may come.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        frame: &Frame<'_>,
    ) -> Taken {
        match frame {
            Frame::Follow { record } => self.handle_follow(now, state, handle, record, true),
            Frame::Unfollow { record } => self.handle_follow(now, state, handle, record, false),
            Frame::Deleted { record } => match Self::take_follow(now, state, record) {
                Ok(_) => Taken::Yes,
                Err(rule) => Taken::Broke(rule),
            },
            Frame::Get(get) => self.handle_get(now, state, handle, get),
            Frame::GetStored(get) => self.handle_get_stored(now, state, handle, get),
            Frame::Target(_)
            | Frame::Head { .. }
            | Frame::Post { .. }
            | Frame::Working
            | Frame::Done { .. }
            | Frame::End
            | Frame::Refused { .. } => Taken::Broke(Rule::OutOfTurn),
        }
    }

    fn handle_follow(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        record: &[u8],
        following: bool,
    ) -> Taken {
        let refusal = match Self::take_follow(now, state, record) {
            Ok(says) if says == following => None,
            Ok(_) => return Taken::Broke(Rule::Payload),
            // Neither is the peer's fault.
            Err(Rule::Older) => None,
            Err(Rule::Full) => Some(Refusal::Busy),
            Err(rule) => return Taken::Broke(rule),
        };
        self.streams.assign(now, handle, Role::Replying { refusal });
        Taken::Yes
    }

    /// Takes a `Follow` record about this user. Tells whether it says "following".
    fn take_follow(now: Instant, state: &mut State<P>, bytes: &[u8]) -> Result<bool, Rule> {
        // The changes that it made are read from the state when they matter.
        let _news = state.on_follow(now, bytes, None)?;
        let follow: Follow = Record::decode(bytes)?.payload()?;
        Ok(follow.following)
    }

    #[inline(never)] // As `handle_frame`.
    fn handle_get(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        get: &Get<'_>,
    ) -> Taken {
        if get.log != LOG {
            return self.refuse(now, state, handle, Refusal::NotHeld, get.targets);
        }
        let mut serving = Serving::new(state.me.user(), get.since, get.limit);
        if get.targets > 0 {
            match self.begin_relay(now, state, handle, get) {
                Ok(job) => serving.job = Some(job),
                Err((refusal, rule)) => {
                    state.dropped.count(rule);
                    (serving.refusal, serving.skip) = (Some(refusal), get.targets);
                }
            }
        }
        self.streams.assign(now, handle, Role::Serving(serving));
        Taken::Yes
    }

    #[inline(never)] // As `handle_frame`.
    fn handle_get_stored(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        get: &GetStored,
    ) -> Taken {
        let own = get.author == state.me.user();
        let view = state.copies.view(now, &state.posts, &get.author);
        let held = own || view.is_some_and(|view| view.remaining_ms >= REMAINING_MIN_MS);
        if get.log != LOG || !held {
            return self.refuse(now, state, handle, Refusal::NotHeld, 0);
        }
        let serving = Serving::new(get.author, get.since, get.limit);
        self.streams.assign(now, handle, Role::Serving(serving));
        Taken::Yes
    }

    fn refuse(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        refusal: Refusal,
        skip: u16,
    ) -> Taken {
        let mut serving = Serving::new(state.me.user(), 0, 0);
        (serving.step, serving.refusal, serving.skip) = (Step::Rest, Some(refusal), skip);
        self.streams.assign(now, handle, Role::Serving(serving));
        Taken::Yes
    }

    /// While an answer is on its way, only the `Target` frames that its request announced may come.
    #[inline(never)] // As `handle_frame`.
    pub(super) fn handle_target(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        serving: &Serving,
        frame: &Frame<'_>,
    ) -> Taken {
        let Frame::Target(target) = frame else {
            return Taken::Broke(Rule::OutOfTurn);
        };
        if serving.skip > 0 {
            let mut rest = *serving;
            rest.skip -= 1;
            self.set_serving(now, handle, rest);
            return Taken::Yes;
        }
        match serving.job {
            Some(job) => self.relay_target(state, job, target),
            None => Taken::Broke(Rule::OutOfTurn),
        }
    }

    /// Stores the state of an answer, or ends it.
    fn set_serving(&mut self, now: Instant, handle: Handle, serving: Serving) {
        let over = serving.step == Step::Over && serving.skip == 0;
        if over {
            self.streams.assign(now, handle, Role::Waiting);
        } else if let Some(role) = self.streams.role_mut(handle) {
            *role = Role::Serving(serving);
        }
    }

    /// Writes `Done` or `Refused` to a `Follow` or `Unfollow`.
    pub(super) fn write_reply(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        refusal: Option<Refusal>,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        let frame = match refusal {
            None => Frame::Done {
                author: state.me.user(),
                outcome: Ending::Complete,
            },
            Some(reason) => Frame::Refused { reason, head: &[] },
        };
        let len = Self::fit(state, &frame, room, buf)?;
        self.streams.assign(self.now, handle, Role::Waiting);
        Some(len)
    }

    /// Writes the next frame of an answer: first what is on its way up the tree.
    pub(super) fn write_answer(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        mut serving: Serving,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        if let Some(len) = self.tree.transit.write(state, handle, room, buf) {
            if let Some(Role::Serving(serving)) = self.streams.role_mut(handle) {
                serving.working = false;
            }
            return Some(len);
        }
        let mut settled = None;
        let len = match serving.step {
            Step::Head => self.answer_head(state, &mut serving, buf),
            Step::Posts => self.answer_post(state, &mut serving, buf),
            Step::Done(outcome) => self.answer_done(state, &mut serving, outcome, buf),
            Step::Rest => self.answer_rest(state, &mut serving, &mut settled, buf),
            Step::Over => None,
        }?;
        if len > room {
            return None;
        }
        serving.working = false;
        if let (Some(at), Some(job)) = (settled, serving.job) {
            self.settle_target(state, job, at);
        }
        if let (Step::Over, Some(job)) = (serving.step, serving.job) {
            self.drop_job(state, job);
            serving.job = None;
        }
        self.set_serving(self.now, handle, serving);
        Some(len)
    }

    /// Writes the head. This and the next four note in `serving` how it goes on.
    fn answer_head(
        &mut self,
        state: &mut State<P>,
        serving: &mut Serving,
        buf: &mut [u8],
    ) -> Option<usize> {
        let (own, network) = (serving.author == state.me.user(), state.me.network());
        let (head, remaining_ms) = if own {
            state.renew_head(self.now);
            let head = state.log.kept_head(&state.posts);
            (head, u64::from(state.me.keep_ms()))
        } else {
            let view = state.copies.view(self.now, &state.posts, &serving.author);
            (
                view.map(|view| view.head),
                view.map_or(0, |view| view.remaining_ms),
            )
        };
        let Some(head) = head.filter(|_| own || remaining_ms >= REMAINING_MIN_MS) else {
            // It cannot be signed yet, or it expired meanwhile.
            let refusal = if own { Refusal::Busy } else { Refusal::NotHeld };
            return self.answer_refused(state, serving, refusal, buf);
        };
        let remaining_ms = u32::try_from(remaining_ms).unwrap_or(u32::MAX);
        let len = Frame::Head {
            record: head,
            remaining_ms,
        }
        .encode(network, buf)?;
        let last = Record::decode(head).ok()?.payload::<Head<'_>>().ok()?.last;
        serving.next = self.first_post(state, serving, last);
        serving.step = self.step_at(state, serving, Ending::NothingNew);
        Some(len)
    }

    /// The newest post that an answer sends, given the head that it has sent.
    fn first_post(&self, state: &State<P>, serving: &Serving, last: u64) -> PostId {
        let posts = &state.posts;
        let newest = if serving.author == state.me.user() {
            state.log.shown_posts(posts).next().map(|post| post.id)
        } else {
            state
                .copies
                .view(self.now, posts, &serving.author)
                .map(|view| view.newest)
        };
        let newest = newest.unwrap_or(PostId::NONE);
        posts
            .walk(newest)
            .find(|post| post.seq <= last)
            .map_or(PostId::NONE, |post| post.id)
    }

    /// Whether there is a post to send; else how the answer ended.
    fn step_at(&self, state: &State<P>, serving: &Serving, otherwise: Ending) -> Step {
        match state.posts.get(serving.next) {
            Some(post) if serving.left > 0 && post.seq > serving.since => Step::Posts,
            Some(_) | None => Step::Done(otherwise),
        }
    }

    fn answer_post(
        &mut self,
        state: &mut State<P>,
        serving: &mut Serving,
        buf: &mut [u8],
    ) -> Option<usize> {
        let own = serving.author == state.me.user();
        let fresh = own
            || state
                .copies
                .view(self.now, &state.posts, &serving.author)
                .is_some();
        let Some(post) = state.posts.get(serving.next).filter(|_| fresh) else {
            // It expired or was dropped for something newer since the frame before.
            return self.answer_done(state, serving, Ending::Complete, buf);
        };
        let len = Frame::Post { post: post.bytes }.encode(state.me.network(), buf)?;
        serving.left -= 1;
        serving.next = post.older;
        serving.step = self.step_at(state, serving, Ending::Complete);
        Some(len)
    }

    fn answer_done(
        &self,
        state: &State<P>,
        serving: &mut Serving,
        outcome: Ending,
        buf: &mut [u8],
    ) -> Option<usize> {
        serving.step = Step::Rest;
        let frame = Frame::Done {
            author: serving.author,
            outcome,
        };
        frame.encode(state.me.network(), buf)
    }

    fn answer_refused(
        &self,
        state: &State<P>,
        serving: &mut Serving,
        reason: Refusal,
        buf: &mut [u8],
    ) -> Option<usize> {
        serving.step = Step::Over;
        let frame = Frame::Refused { reason, head: &[] };
        frame.encode(state.me.network(), buf)
    }

    /// After the own posts: who was not reached (`settled` says which target that was), a sign of life, or the end.
    fn answer_rest(
        &self,
        state: &State<P>,
        serving: &mut Serving,
        settled: &mut Option<usize>,
        buf: &mut [u8],
    ) -> Option<usize> {
        if let Some(reason) = serving.refusal {
            return self.answer_refused(state, serving, reason, buf);
        }
        let job = serving.job.and_then(|job| self.tree.job(job));
        let frame = if let Some((at, why)) = job.and_then(Job::next_failed) {
            *settled = Some(at);
            Frame::Done {
                author: job.and_then(|job| job.targets().get(at))?.user,
                outcome: Ending::Unreached(why),
            }
        } else if job.is_none_or(Job::is_over) {
            serving.step = Step::Over;
            Frame::End
        } else if serving.working {
            Frame::Working
        } else {
            return None;
        };
        frame.encode(state.me.network(), buf)
    }
}
