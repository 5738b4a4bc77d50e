//! One node's part of a get tree: whom it asks for whom, and how each of them ended.
//!
//! Owns the shares: the targets, the children that were asked, and which child is to ask for which target. It
//! reads no bytes, checks no signature and opens no stream; `tree` does, and tells it. The same type serves the
//! reader, whose answers end in a local read, and a relay, whose answers go up a stream.
//!
//! A target goes
//! ```text
//!                      +--> Asked(child) --+                        (asked from here)
//!  Waiting -- deal() --+                   +--> Over                 answered, or told upstream
//!                      +--> Share(child) --+--> Failed(why) --> Over (told by `poll_failed`)
//!                               ^          |
//!                               |          +--> Direct --> Asked     (the reader's only, once)
//!                            promotion
//! ```
//! and a child `Calling -> Telling -> Answering -> Vacant`. When a child is lost, the first target of its share
//! that has no outcome takes its place and the rest stays its share; the share remembers how often.
//!
//! Invariants: a target leaves `Over` never, so that it has one outcome; a target is `Share(c)` or `Asked(c)`
//! only while child `c` is not vacant; a share grows never after its child was told of it.

use crate::addr::PackedAddr;
use crate::bounded::{Handle, List};
use crate::id::UserId;
use crate::plan::Plan;
use crate::time::Instant;
use crate::timeline::posts::RecordId;
use crate::wire::frame::{Ending, Unreached};

use super::target::{Reach, Request, Target, Up};

/// How often a share is reorganised at most, over all levels of the tree.
pub const PROMOTIONS_MAX: u8 = 5;
/// The longest share: most `Target` frames after one `Get`.
pub const SHARE_MAX: u16 = 4_096;
/// How often an author's answer may begin anew on one stream: once, and after each reorganisation further down.
pub const HEADS_MAX: u8 = PROMOTIONS_MAX + 1;

/// What a child is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nobody: the place is free.
    Vacant,
    /// Its stream is to be opened.
    Calling,
    /// It is being sent `Get` and its share: the next target to send is this or a later one.
    Telling {
        /// `None`: the `Get` itself.
        next: Option<u16>,
    },
    /// It has been sent everything.
    Answering,
}

/// One of those that this job asks.
#[derive(Clone, Copy, Debug)]
pub struct Child {
    target: u16,
    promotions: u8,
    phase: Phase,
    stream: Option<Handle>,
    /// The target that its last frame was about.
    hint: u16,
}

/// What is to be sent to a child next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// The `Get`: the child's own target, the promotions used, and the length of its share.
    Get {
        /// Index of the child's own target.
        target: usize,
        /// Promotions that its share has used.
        promotions: u8,
        /// How many `Target` frames follow.
        share: u16,
    },
    /// The `Target` with this index.
    Target(usize),
}

/// What came of a child that was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Its stream, to be closed if it is still there.
    pub stream: Option<Handle>,
    /// The child, if it had not answered for itself.
    pub missed: Option<UserId>,
}

/// One node's part of a get tree.
pub struct Job<P: Plan> {
    /// Where answers go.
    pub up: Up,
    /// What is asked.
    pub request: Request,
    /// When it ends, with whatever it has.
    pub deadline: Instant,
    /// `Target` frames still to come from upstream.
    pub expected: u16,
    promotions: u8,
    targets: P::Targets,
    children: P::Children,
}

impl<P: Plan> Job<P> {
    /// A job without targets, of a share that was reorganised `promotions` times before.
    #[must_use]
    pub fn new(up: Up, request: Request, deadline: Instant, expected: u16, promotions: u8) -> Self {
        let (targets, children) = (P::Targets::EMPTY, P::Children::EMPTY);
        Self {
            up,
            request,
            deadline,
            expected,
            promotions,
            targets,
            children,
        }
    }

    /// Adds a target, before the targets are dealt.
    ///
    /// # Errors
    /// Gives it back when the plan allows no more.
    pub fn push(&mut self, target: Target) -> Result<(), Target> {
        self.targets.push(target)
    }

    /// The targets, in the order in which they came.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        self.targets.as_slice()
    }

    /// The targets, to change what is not the tree's.
    #[must_use]
    pub fn targets_mut(&mut self) -> &mut [Target] {
        self.targets.as_mut_slice()
    }

    /// How many are asked in parallel.
    fn width(&self) -> usize {
        usize::from(self.request.fanout).clamp(1, P::Children::CAPACITY)
    }

    /// Asks the first of the waiting targets, as many as the fan-out allows, and deals the rest among them in
    /// turn. Those without a profile to pass on, and those beyond [`SHARE_MAX`] for each, are asked directly.
    pub fn deal(&mut self) {
        for target in self
            .targets
            .iter_mut()
            .filter(|t| t.reach == Reach::Waiting)
        {
            if target.profile == RecordId::NONE {
                target.reach = Reach::Direct;
            }
        }
        let (width, promotions) = (self.width(), self.promotions);
        let mut dealt = 0;
        for at in 0..self.targets.len() {
            let Some(target) = self
                .targets
                .get_mut(at)
                .filter(|t| t.reach == Reach::Waiting)
            else {
                continue;
            };
            if self.children.len() < width {
                // The list has `width` places or more, and `width` is at most 16.
                let slot = u8::try_from(self.children.len()).unwrap_or(u8::MAX);
                target.reach = Reach::Asked(slot);
                let _ = self.children.push(Child::calling(at, promotions));
            } else if dealt < width * usize::from(SHARE_MAX) {
                target.reach = Reach::Share(u8::try_from(dealt % width).unwrap_or(u8::MAX));
                dealt += 1;
            } else {
                target.reach = Reach::Direct;
            }
        }
    }

    /// A child whose stream is to be opened, and where to. Gives direct targets vacant places first.
    pub fn next_call(&mut self) -> Option<(u8, PackedAddr)> {
        self.place_direct();
        let slot = self
            .children
            .iter()
            .position(|c| c.phase == Phase::Calling && c.stream.is_none())?;
        let child = self.children.get(slot)?;
        let target = self.targets.get(usize::from(child.target))?;
        Some((u8::try_from(slot).ok()?, target.addr))
    }

    /// Puts targets that are to be asked directly in vacant places.
    fn place_direct(&mut self) {
        let mut from = 0;
        while let Some(slot) = self.vacant() {
            let rest = self.targets.as_slice().get(from..).unwrap_or_default();
            let Some(ahead) = rest.iter().position(|t| t.reach == Reach::Direct) else {
                return;
            };
            let at = from + ahead;
            from = at + 1;
            let child = Child::calling(at, PROMOTIONS_MAX);
            let done = match self.children.get_mut(usize::from(slot)) {
                Some(place) => {
                    *place = child;
                    true
                }
                None => self.children.push(child).is_ok(),
            };
            if let Some(target) = self.targets.get_mut(at).filter(|_| done) {
                target.reach = Reach::Asked(slot);
            }
        }
    }

    /// A place where a child may be put.
    fn vacant(&self) -> Option<u8> {
        let free = self.children.iter().position(|c| c.phase == Phase::Vacant);
        let new = Some(self.children.len()).filter(|&len| len < self.width());
        free.or(new).and_then(|slot| u8::try_from(slot).ok())
    }

    /// The stream of a child is being opened.
    pub fn called(&mut self, slot: u8, stream: Handle) {
        if let Some(child) = self.child_mut(slot) {
            child.stream = Some(stream);
        }
    }

    /// The stream of a child is open.
    pub fn opened(&mut self, slot: u8) {
        if let Some(child) = self.child_mut(slot).filter(|c| c.phase == Phase::Calling) {
            child.phase = Phase::Telling { next: None };
        }
    }

    fn child(&self, slot: u8) -> Option<&Child> {
        self.children
            .get(usize::from(slot))
            .filter(|c| c.phase != Phase::Vacant)
    }

    fn child_mut(&mut self, slot: u8) -> Option<&mut Child> {
        self.children
            .get_mut(usize::from(slot))
            .filter(|c| c.phase != Phase::Vacant)
    }

    /// The stream of a child.
    #[must_use]
    pub fn stream(&self, slot: u8) -> Option<Handle> {
        self.child(slot)?.stream
    }

    /// The target that a child is.
    #[must_use]
    pub fn own_target(&self, slot: u8) -> Option<&Target> {
        self.targets.get(usize::from(self.child(slot)?.target))
    }

    /// What a child is to be told next, if anything.
    #[must_use]
    pub fn next_tell(&self, slot: u8) -> Option<Tell> {
        let child = self.child(slot)?;
        let Phase::Telling { next } = child.phase else {
            return None;
        };
        let Some(next) = next.map(usize::from) else {
            let share = self
                .targets
                .iter()
                .filter(|t| t.reach == Reach::Share(slot))
                .count();
            let share = u16::try_from(share).unwrap_or(u16::MAX);
            let target = usize::from(child.target);
            return Some(Tell::Get {
                target,
                promotions: child.promotions,
                share,
            });
        };
        self.next_of_share(slot, next).map(Tell::Target)
    }

    /// The first target of a share at `from` or behind it.
    fn next_of_share(&self, slot: u8, from: usize) -> Option<usize> {
        let rest = self.targets.as_slice().get(from..)?;
        rest.iter()
            .position(|t| t.reach == Reach::Share(slot))
            .map(|ahead| from + ahead)
    }

    /// What [`next_tell`](Self::next_tell) said was written.
    pub fn told(&mut self, slot: u8) {
        let from = match self.next_tell(slot) {
            Some(Tell::Get { .. }) => 0,
            Some(Tell::Target(at)) => at + 1,
            None => return,
        };
        let next = self
            .next_of_share(slot, from)
            .and_then(|at| u16::try_from(at).ok());
        if let Some(child) = self.child_mut(slot) {
            child.phase = match next {
                Some(next) => Phase::Telling { next: Some(next) },
                None => Phase::Answering,
            };
        }
    }

    /// Finds the target that a child may speak of: itself, or one of its share that it was told of, as long as
    /// that has no outcome.
    #[must_use]
    pub fn target_of(&self, slot: u8, author: &UserId) -> Option<usize> {
        let child = self.child(slot)?;
        let told = match child.phase {
            Phase::Vacant | Phase::Calling | Phase::Telling { next: None } => return None,
            Phase::Telling { next: Some(next) } => usize::from(next),
            Phase::Answering => self.targets.len(),
        };
        let is = |at: usize, t: &Target| {
            t.user == *author
                && (t.reach == Reach::Asked(slot) || (t.reach == Reach::Share(slot) && at < told))
        };
        let hint = usize::from(child.hint);
        if self.targets.get(hint).is_some_and(|t| is(hint, t)) {
            return Some(hint);
        }
        self.targets
            .iter()
            .enumerate()
            .position(|(at, t)| is(at, t))
    }

    /// A child sends an author's head: its answer begins (again). False: once too often.
    #[must_use]
    pub fn on_head(&mut self, slot: u8, at: usize) -> bool {
        if let (Some(child), Ok(hint)) = (self.child_mut(slot), u16::try_from(at)) {
            child.hint = hint;
        }
        let Some(target) = self.targets.get_mut(at).filter(|t| t.heads < HEADS_MAX) else {
            return false;
        };
        target.heads += 1;
        target.posts = 0;
        true
    }

    /// A child sends a post. False: there was no head, or more than was asked for.
    #[must_use]
    pub fn on_post(&mut self, at: usize) -> bool {
        let Some(target) = self
            .targets
            .get_mut(at)
            .filter(|t| t.heads > 0 && t.posts < t.limit)
        else {
            return false;
        };
        target.posts += 1;
        true
    }

    /// A child says that nothing more comes about a target, which has its outcome with that, except for the
    /// reader: there, somebody who was not reached is asked directly.
    ///
    /// Tells whether the outcome goes upstream.
    pub fn on_done(&mut self, at: usize, outcome: Ending) -> bool {
        match outcome {
            Ending::Complete | Ending::NothingNew => {
                self.settle(at);
                true
            }
            Ending::Unreached(why) => match self.up {
                Up::Stream(_) => {
                    self.settle(at);
                    true
                }
                Up::Read(_) => {
                    self.fail(at, why);
                    false
                }
            },
        }
    }

    /// Gives a target its outcome. Its profile is no longer needed.
    pub fn settle(&mut self, at: usize) {
        if let Some(target) = self.targets.get_mut(at) {
            target.reach = Reach::Over;
        }
    }

    /// A target was not reached, as far as the child asked is concerned.
    pub fn fail(&mut self, at: usize, why: Unreached) {
        let reader = matches!(self.up, Up::Read(_));
        let Some(target) = self.targets.get_mut(at) else {
            return;
        };
        target.reach = match target.reach {
            Reach::Share(_) if reader => Reach::Direct,
            Reach::Waiting | Reach::Share(_) | Reach::Asked(_) | Reach::Direct => {
                Reach::Failed(why)
            }
            over @ (Reach::Failed(_) | Reach::Over) => over,
        };
        (target.heads, target.posts) = (0, 0);
    }

    /// Asks a target that has its outcome after all. False: it has none yet.
    pub fn ask_directly(&mut self, at: usize) -> bool {
        let Some(target) = self.targets.get_mut(at).filter(|t| t.reach == Reach::Over) else {
            return false;
        };
        target.reach = Reach::Direct;
        (target.heads, target.posts) = (0, 0);
        true
    }

    /// Whether a child has nothing left to answer: it may go.
    #[must_use]
    pub fn is_answered(&self, slot: u8) -> bool {
        !self
            .targets
            .iter()
            .any(|t| t.reach == Reach::Asked(slot) || t.reach == Reach::Share(slot))
    }

    /// A child is gone, for whatever reason: its own target failed with `why` unless it has answered. What is
    /// left of its share goes to the next of it, or fails when the share was reorganised
    /// [`PROMOTIONS_MAX`] times. A child without anything left costs nothing.
    #[must_use]
    pub fn lose(&mut self, slot: u8, why: Unreached) -> Lost {
        let Some(&child) = self.child(slot) else {
            return Lost {
                stream: None,
                missed: None,
            };
        };
        let own = usize::from(child.target);
        let answered = self
            .targets
            .get(own)
            .is_none_or(|t| t.reach != Reach::Asked(slot));
        let missed = self.targets.get(own).filter(|_| !answered).map(|t| t.user);
        if !answered {
            self.fail(own, why);
        }
        let heir = self.next_of_share(slot, 0);
        let place = match heir.filter(|_| child.promotions < PROMOTIONS_MAX) {
            Some(heir) => Child::calling(heir, child.promotions + 1),
            None => Child::VACANT,
        };
        for at in 0..self.targets.len() {
            let Some(target) = self.targets.get_mut(at) else {
                continue;
            };
            if target.reach != Reach::Share(slot) {
                continue;
            }
            (target.heads, target.posts) = (0, 0);
            if place.phase == Phase::Vacant {
                self.fail(at, Unreached::TooManyPromotions);
            } else if heir == Some(at) {
                target.reach = Reach::Asked(slot);
            }
        }
        if let Some(at) = self.children.get_mut(usize::from(slot)) {
            *at = place;
        }
        Lost {
            stream: child.stream,
            missed,
        }
    }

    /// Time is up for those whom others ask: they fail, or for the reader are asked directly. Returns a child that
    /// had a share, and is lost; call again until there is none.
    #[must_use]
    pub fn cut(&mut self, why: Unreached) -> Option<Lost> {
        let slot = self.targets.iter().find_map(|t| match t.reach {
            Reach::Share(slot) => Some(slot),
            Reach::Waiting | Reach::Asked(_) | Reach::Direct | Reach::Failed(_) | Reach::Over => {
                None
            }
        })?;
        for at in 0..self.targets.len() {
            if self
                .targets
                .get(at)
                .is_some_and(|t| t.reach == Reach::Share(slot))
            {
                self.fail(at, why);
            }
        }
        Some(self.lose(slot, why))
    }

    /// Time is up: everybody without an outcome fails.
    pub fn expire(&mut self, why: Unreached) {
        for target in self.targets.iter_mut() {
            match target.reach {
                Reach::Failed(_) | Reach::Over => {}
                Reach::Waiting | Reach::Share(_) | Reach::Asked(_) | Reach::Direct => {
                    target.reach = Reach::Failed(why);
                }
            }
        }
        self.expected = 0;
    }

    /// The streams of all children.
    pub fn streams(&self) -> impl Iterator<Item = Handle> + '_ {
        self.children
            .iter()
            .filter(|c| c.phase != Phase::Vacant)
            .filter_map(|c| c.stream)
    }

    /// A target that was not reached, of which upstream has to be told; [`settle`](Self::settle) it then.
    #[must_use]
    pub fn next_failed(&self) -> Option<(usize, Unreached)> {
        self.targets
            .iter()
            .enumerate()
            .find_map(|(at, target)| match target.reach {
                Reach::Failed(why) => Some((at, why)),
                Reach::Waiting
                | Reach::Share(_)
                | Reach::Asked(_)
                | Reach::Direct
                | Reach::Over => None,
            })
    }

    /// Whether every target has come and has its outcome.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.expected == 0 && self.targets.iter().all(|t| t.reach == Reach::Over)
    }
}

impl Child {
    const VACANT: Self = Self {
        target: 0,
        promotions: 0,
        phase: Phase::Vacant,
        stream: None,
        hint: 0,
    };

    /// A child that is target `at`.
    fn calling(at: usize, promotions: u8) -> Self {
        // No plan has more targets in a job than a `u16` counts, see `Tree::EMPTY`.
        let target = u16::try_from(at).unwrap_or(u16::MAX);
        Self {
            target,
            promotions,
            phase: Phase::Calling,
            stream: None,
            hint: target,
        }
    }
}

#[cfg(test)]
mod tests;
