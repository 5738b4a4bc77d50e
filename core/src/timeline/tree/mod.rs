//! The get tree: asking many people through few streams.
//!
//! Owns the jobs of this node, of its own reads and of those that it relays for; whom it relays for; and the frames
//! on their way up. [`job`] decides who is asked for whom; here, that becomes frames and streams. A relay checks what
//! keeps it from being used (the reader's signature and follow record, the targets' profiles, the number of frames)
//! and passes heads and posts on as they came: their signatures are the reader's business.
//!
//! Back-pressure goes from end to end: a frame is taken from a child's stream only when the stream upstream has room
//! for it; until then it stays with the host, and from there in the network. A child whose frame has to wait does not
//! count as silent.
//!
//! Invariants: a job ends when its stream upstream does, and takes its children along; each target gets one `Done`;
//! nobody is asked at an address that its own signed profile does not name.

pub mod job;
pub mod relay;
pub mod target;
pub mod transit;

use crate::bounded::{Handle, Slab};
use crate::config::FANOUT_MAX;
use crate::id::UserId;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::{Deadline, Instant};
use crate::wire::frame::{self, Ending, Frame, Get, Unreached};
use crate::wire::post::Post;
use crate::wire::record::{Kind, Record};

pub use job::{Child, Job, Lost};
pub use relay::Seen;
pub use target::Target;

use super::exchange::Exchange;
use super::posts::{PASSING_LEN_MAX, RecordId};
use super::state::State;
use super::streams::{Role, Taken};
use job::Tell;
use relay::SeenRequests;
use target::{Reach, Up};
use transit::Transit;

/// How often a relay shows upstream that it is still at it, in ms.
pub const WORKING_MS: u64 = 500;
/// A child's deadline is before its parent's by this much at least, in ms; and by two round trips.
pub const MARGIN_MS: u64 = 500;

/// The jobs of a node.
pub struct Tree<P: Plan> {
    jobs: Slab<Job<P>, P::Jobs>,
    seen: SeenRequests<P>,
    /// What is on its way up, or to be shown.
    pub transit: Transit,
    /// A job may have somebody to call.
    restless: bool,
    /// No job has anything to do for time alone before this.
    wake: Deadline,
}

impl<P: Plan> Tree<P> {
    /// No jobs.
    pub const EMPTY: Self = Self {
        jobs: Slab::EMPTY,
        seen: SeenRequests::EMPTY,
        transit: Transit::EMPTY,
        restless: false,
        wake: Deadline::NEVER,
    };

    /// A job.
    #[must_use]
    pub fn job(&self, handle: Handle) -> Option<&Job<P>> {
        self.jobs.get(handle)
    }

    /// A job, to change it. Its children may be called afterwards.
    #[must_use]
    pub fn job_mut(&mut self, handle: Handle) -> Option<&mut Job<P>> {
        self.restless = true;
        self.jobs.get_mut(handle)
    }

    /// Adds a job. `None`: the plan allows no more.
    pub fn insert(&mut self, now: Instant, job: Job<P>) -> Option<Handle> {
        let wake = job.deadline.min(now.after_ms(WORKING_MS));
        let handle = self.jobs.insert(job).ok()?;
        self.wake.lower(wake);
        self.restless = true;
        Some(handle)
    }

    /// The stream of a child is open.
    pub fn opened(&mut self, job: Handle, slot: u8) {
        if let Some(job) = self.jobs.get_mut(job) {
            job.opened(slot);
        }
    }

    /// When [`Exchange::handle_timeout`] is next worth a call. May be too early.
    #[must_use]
    pub const fn next_deadline(&self) -> Deadline {
        self.wake
    }

    /// How many jobs there are, and how many fit.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.jobs.len(), self.jobs.capacity())
    }
}

/// A piece of an author's answer, as authors, relays and holders send it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// The signed head.
    Head {
        /// The record.
        record: &'a [u8],
        /// What is left of the time for which the posts may be kept, in ms.
        remaining_ms: u32,
    },
    /// A post.
    Post {
        /// As it travels.
        post: &'a [u8],
    },
    /// Nothing more comes about this author.
    Done {
        /// Whom it is about.
        author: UserId,
        /// How it ended.
        outcome: Ending,
    },
}

impl<'a> Piece<'a> {
    /// The piece that a frame is, if it is one.
    #[must_use]
    pub const fn of(frame: &Frame<'a>) -> Option<Self> {
        match *frame {
            Frame::Head {
                record,
                remaining_ms,
            } => Some(Self::Head {
                record,
                remaining_ms,
            }),
            Frame::Post { post } => Some(Self::Post { post }),
            Frame::Done { author, outcome } => Some(Self::Done { author, outcome }),
            Frame::Follow { .. }
            | Frame::Unfollow { .. }
            | Frame::Get(_)
            | Frame::Target(_)
            | Frame::GetStored(_)
            | Frame::Deleted { .. }
            | Frame::Working
            | Frame::End
            | Frame::Refused { .. } => None,
        }
    }

    /// Whom it is about, and which log where it says so.
    fn about<P: Plan>(&self) -> Result<(UserId, Option<u16>), Rule> {
        match self {
            Self::Head { record, .. } => {
                let record = Record::decode(record)?;
                let head = record.kind == Kind::Head;
                head.then_some((record.author, Some(record.page)))
                    .ok_or(Rule::Kind)
            }
            Self::Post { post } => {
                let header = Post::decode::<P::Crypto>(post)?.header;
                Ok((header.user, Some(header.log)))
            }
            Self::Done { author, .. } => Ok((*author, None)),
        }
    }
}

impl<P: Plan> Exchange<P> {
    /// A frame from a child, and the bytes that it came as.
    #[inline(never)] // As `handle_frame`.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        stream: Handle,
        (job, slot): (Handle, u8),
        frame: &Frame<'_>,
        raw: &[u8],
    ) -> Taken {
        let Some(piece) = Piece::of(frame) else {
            return match frame {
                Frame::Working => Taken::Yes,
                Frame::Refused { .. } => {
                    self.lose_child(now, state, (job, slot), Unreached::Refused);
                    Taken::Gone
                }
                // A child that had answered for everyone would have left by now.
                Frame::End => {
                    self.lose_child(now, state, (job, slot), Unreached::Invalid);
                    Taken::Gone
                }
                Frame::Follow { .. }
                | Frame::Unfollow { .. }
                | Frame::Get(_)
                | Frame::Target(_)
                | Frame::GetStored(_)
                | Frame::Head { .. }
                | Frame::Post { .. }
                | Frame::Done { .. }
                | Frame::Deleted { .. } => Taken::Broke(Rule::OutOfTurn),
            };
        };
        let (author, log) = match piece.about::<P>() {
            Ok(about) => about,
            Err(rule) => return Taken::Broke(rule),
        };
        let Some(asked) = self.tree.job(job) else {
            return Taken::Gone;
        };
        let at = asked.target_of(slot, &author).filter(|at| {
            let target = asked.targets().get(*at);
            target.is_some_and(|target| log.is_none_or(|log| target.log == log))
        });
        let at = at.and_then(|at| u16::try_from(at).ok());
        let taken = match (at, asked.up) {
            (None, _) => Taken::Broke(Rule::OutOfTurn),
            (Some(at), Up::Read(read)) => {
                self.read_answer(now, state, (read, stream), (job, slot, at), &piece)
            }
            (Some(at), Up::Stream(up)) => self.pass_on(state, up, (job, slot, at), &piece, raw),
        };
        if let (Taken::Yes, Piece::Done { .. }) = (taken, piece) {
            self.finish_child(now, state, stream, (job, slot));
        }
        taken
    }

    /// Sends a frame of a child up, as it came.
    fn pass_on(
        &mut self,
        state: &mut State<P>,
        up: Handle,
        about: (Handle, u8, u16),
        piece: &Piece<'_>,
        raw: &[u8],
    ) -> Taken {
        if raw.len() > PASSING_LEN_MAX {
            return Taken::Broke(Rule::Overlong);
        }
        let room = self.tree.transit.is_free() && state.make_passing_room(raw.len());
        if !room || !self.streams.has_room(up, raw.len()) {
            return Taken::Later;
        }
        if !self.note_answer(state, about, piece) {
            return Taken::Broke(Rule::OutOfTurn);
        }
        // The place is free, and there is room.
        let _ = self.tree.transit.put_frame(state, up, raw);
        self.streams.queue(up);
        Taken::Yes
    }

    /// Keeps the books of a job about a piece of an answer. False: it is out of turn.
    pub(super) fn note_answer(
        &mut self,
        state: &mut State<P>,
        (handle, slot, at): (Handle, u8, u16),
        piece: &Piece<'_>,
    ) -> bool {
        let Some(job) = self.tree.job_mut(handle) else {
            return false;
        };
        let at = usize::from(at);
        match piece {
            Piece::Head { .. } => job.on_head(slot, at),
            Piece::Post { .. } => job.on_post(at),
            Piece::Done { outcome, .. } => {
                if job.on_done(at, *outcome) {
                    self.settle_target(state, handle, at);
                }
                true
            }
        }
    }

    /// A target has its outcome. A relay drops the profile that it kept for it.
    pub(super) fn settle_target(&mut self, state: &mut State<P>, handle: Handle, at: usize) {
        let Some(job) = self.tree.jobs.get_mut(handle) else {
            return;
        };
        job.settle(at);
        let relay = matches!(job.up, Up::Stream(_));
        if let Some(target) = job.targets_mut().get_mut(at).filter(|_| relay) {
            let profile = core::mem::replace(&mut target.profile, RecordId::NONE);
            state.posts.remove_record(profile);
        }
    }

    /// A child that has nothing left to answer leaves its place; its stream may have one more thing to carry.
    pub(super) fn finish_child(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        stream: Handle,
        (handle, slot): (Handle, u8),
    ) {
        let Some(job) = self
            .tree
            .job_mut(handle)
            .filter(|job| job.is_answered(slot))
        else {
            return;
        };
        let author = job.own_target(slot).map(|target| target.user);
        let reader = matches!(job.up, Up::Read(_));
        // Nothing is lost with it.
        let Lost { .. } = job.lose(slot, Unreached::Stalled);
        if !(reader && author.is_some_and(|author| self.tell_holding(now, state, stream, author))) {
            self.streams.close(stream);
        }
        self.freed = true;
    }

    /// A child is gone: closes its stream, tells the network if it died, and sees to what is left of its share.
    pub(super) fn lose_child(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (handle, slot): (Handle, u8),
        why: Unreached,
    ) {
        let Some(job) = self.tree.job_mut(handle) else {
            return;
        };
        let up = job.up;
        let lost = job.lose(slot, why);
        self.child_lost(now, state, up, &lost, why);
    }

    /// What follows when a child is lost.
    pub(super) fn child_lost(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        up: Up,
        lost: &Lost,
        why: Unreached,
    ) {
        if let Some(stream) = lost.stream {
            self.streams.close(stream);
        }
        self.freed = true;
        if let (Some(user), Unreached::NoConnection | Unreached::Stalled) = (lost.missed, why) {
            self.missed(now, state, user);
        }
        match up {
            // There may be somebody to tell of.
            Up::Stream(up) => self.streams.queue(up),
            Up::Read(_) => self.reads.wake_up(),
        }
    }

    /// Writes to a child what it is to know next: the request, then its share.
    pub(super) fn write_child(
        &mut self,
        state: &mut State<P>,
        stream: Handle,
        (handle, slot): (Handle, u8),
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        if let Tell::Get { .. } = self.tree.job(handle)?.next_tell(slot)? {
            self.drop_untellable(state, (handle, slot));
        }
        let told = match self.tree.job(handle)?.next_tell(slot)? {
            Tell::Get {
                target,
                promotions,
                share,
            } => self.write_get(state, (handle, stream), target, (promotions, share), buf),
            Tell::Target(at) => self.write_target(state, handle, at, buf),
        };
        match told {
            Ok(len) if len <= room => {
                self.tree.jobs.get_mut(handle)?.told(slot);
                Some(len)
            }
            Ok(_) => None,
            Err(why) => {
                self.lose_child(self.now, state, (handle, slot), why);
                None
            }
        }
    }

    /// Takes those out of a share whose profiles had to make room, before the child is told how many there are.
    fn drop_untellable(&mut self, state: &State<P>, (handle, slot): (Handle, u8)) {
        let Some(job) = self.tree.job_mut(handle) else {
            return;
        };
        for at in 0..job.targets().len() {
            let gone = job.targets().get(at).is_some_and(|target| {
                target.reach == Reach::Share(slot) && state.posts.record(target.profile).is_none()
            });
            if gone {
                job.fail(at, Unreached::Refused);
            }
        }
    }

    /// Encodes the request to a child. Fails when there is no time left for it to answer.
    fn write_get(
        &self,
        state: &State<P>,
        (handle, stream): (Handle, Handle),
        at: usize,
        (promotions, targets): (u8, u16),
        buf: &mut [u8],
    ) -> Result<usize, Unreached> {
        let why = Unreached::Deadline;
        let job = self.tree.job(handle).ok_or(why)?;
        let target = job.targets().get(at).ok_or(why)?;
        let rtt_ms = self.streams.get(stream).map_or(0, |stream| stream.rtt_ms);
        let margin_ms = MARGIN_MS.max(2 * u64::from(rtt_ms));
        let left_ms = job.deadline.since_ms(self.now).saturating_sub(margin_ms);
        if left_ms == 0 {
            return Err(why);
        }
        let get = Get {
            request: job.request.id,
            reader: job.request.reader,
            issued_ms: job.request.issued_ms,
            fanout: job.request.fanout,
            signature: &job.request.signature,
            depth: job.request.depth,
            promotions,
            deadline_ms: u32::try_from(left_ms).unwrap_or(u32::MAX),
            log: target.log,
            since: target.since,
            limit: target.limit,
            targets,
        };
        Frame::Get(get).encode(state.me.network(), buf).ok_or(why)
    }

    /// Encodes one target of a child's share. When its profile had to make room meanwhile, the child cannot be told as
    /// many as it was promised: the target fails, and the child is asked again without it.
    fn write_target(
        &mut self,
        state: &State<P>,
        handle: Handle,
        at: usize,
        buf: &mut [u8],
    ) -> Result<usize, Unreached> {
        let why = Unreached::Refused;
        let job = self.tree.job_mut(handle).ok_or(why)?;
        let target = job.targets().get(at).ok_or(why)?;
        let Some(profile) = state.posts.record(target.profile) else {
            job.fail(at, why);
            return Err(why);
        };
        let (log, since, limit) = (target.log, target.since, target.limit);
        let frame = Frame::Target(frame::Target {
            profile,
            log,
            since,
            limit,
        });
        frame.encode(state.me.network(), buf).ok_or(why)
    }

    /// Opens streams to children that wait for one. False when no stream is free.
    pub(super) fn call_children(&mut self, now: Instant, state: &mut State<P>) -> bool {
        if !core::mem::take(&mut self.tree.restless) {
            return true;
        }
        for index in 0..self.tree.jobs.slots() {
            let Some(handle) = self.tree.jobs.handle_at(index) else {
                continue;
            };
            while let Some((slot, addr)) = self.tree.jobs.get_mut(handle).and_then(Job::next_call) {
                if !self.may_call(state, handle, slot) {
                    state.dropped.count(Rule::Signature);
                    self.lose_child(now, state, (handle, slot), Unreached::Invalid);
                    continue;
                }
                let role = Role::Child { job: handle, slot };
                let Ok(stream) = self.streams.open(now, addr, role) else {
                    self.tree.restless = true;
                    return false;
                };
                if let Some(job) = self.tree.jobs.get_mut(handle) {
                    job.called(slot, stream);
                }
            }
        }
        true
    }

    /// Whether the address of a child is its own word. The profiles of a read were verified as they came, and so were
    /// those that a relay had no room to keep.
    fn may_call(&self, state: &State<P>, handle: Handle, slot: u8) -> bool {
        let Some(job) = self.tree.job(handle) else {
            return false;
        };
        let profile = job
            .own_target(slot)
            .map_or(RecordId::NONE, |target| target.profile);
        if matches!(job.up, Up::Read(_)) || profile == RecordId::NONE {
            return true;
        }
        let record = state.posts.record(profile).map(Record::decode);
        record.is_some_and(|record| {
            record
                .and_then(|record| record.verify::<P::Crypto>(state.me.network()))
                .is_ok()
        })
    }

    /// The time of a job is up: everyone without an outcome failed, and nobody is asked any more.
    pub(super) fn expire_job(&mut self, now: Instant, state: &mut State<P>, handle: Handle) {
        let Some(job) = self.tree.jobs.get_mut(handle) else {
            return;
        };
        job.expire(Unreached::Deadline);
        for slot in 0..FANOUT_MAX {
            self.lose_child(now, state, (handle, slot), Unreached::Deadline);
        }
    }

    /// Ends a job and all that it asked.
    pub(super) fn drop_job(&mut self, state: &mut State<P>, handle: Handle) {
        let Some(job) = self.tree.jobs.get(handle) else {
            return;
        };
        for stream in job.streams() {
            self.streams.close(stream);
        }
        if matches!(job.up, Up::Stream(_)) {
            for target in job.targets() {
                state.posts.remove_record(target.profile);
            }
        }
        self.tree.jobs.discard(handle);
    }

    /// Shows signs of life, and ends jobs whose time is up. A read's job is ended by the read.
    pub(super) fn tree_timeout(&mut self, now: Instant, state: &mut State<P>) {
        if !self.tree.wake.is_due(now) {
            return;
        }
        self.tree.wake = Deadline::NEVER;
        for index in 0..self.tree.jobs.slots() {
            let Some((handle, job)) = self.tree.jobs.at_mut(index) else {
                continue;
            };
            let (Up::Stream(up), deadline) = (job.up, job.deadline) else {
                continue;
            };
            let mut wake = deadline;
            if deadline <= now {
                self.expire_job(now, state, handle);
                self.streams.queue(up);
                wake = now.after_ms(WORKING_MS);
            } else {
                let quiet_since = self.streams.get(up).map_or(now, |stream| stream.used);
                let mut due = quiet_since.after_ms(WORKING_MS);
                if due <= now {
                    if let Some(Role::Serving(serving)) = self.streams.role_mut(up) {
                        serving.working = true;
                    }
                    self.streams.queue(up);
                    due = now.after_ms(WORKING_MS);
                }
                wake = wake.min(due);
            }
            self.tree.wake.lower(wake);
        }
    }
}
