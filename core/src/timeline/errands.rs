//! What is to be said over streams: each errand is one message to one node, carried out by [`super::streams`].
//!
//! Owns a bounded table of wishes and their results, and neither streams nor records: what an errand carries is signed
//! at the moment of sending. Invariant: every errand that was accepted is reported once, as done or not, at the latest
//! when its time is over.

use crate::addr::PackedAddr;
use crate::bounded::{Handle, Slab};
use crate::id::UserId;
use crate::plan::Plan;
use crate::time::{Deadline, Instant};
use crate::timeline::soonest;

/// What is to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A `Follow` frame: sign it with [`super::state::State::sign_follow`].
    Follow,
    /// An `Unfollow` frame: the same, not following.
    Unfollow,
    /// A `Deleted` frame: the same, following, with nothing held.
    Deleted,
    /// A `GetStored` frame for this user's own posts, of which storage has lost everything: hand what comes to
    /// [`super::state::State::offer_head`] and [`super::state::State::offer_post`].
    FetchOwn,
}

/// How far an errand has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nobody has taken it yet.
    Waiting,
    /// A stream is at it.
    Taken,
    /// It ended; `true`: the other side answered `Done` or `End`.
    Ended(bool),
}

/// One message to one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errand {
    /// Whom it is for.
    pub user: UserId,
    /// Where its node listens.
    pub address: PackedAddr,
    /// What to say.
    pub message: Message,
    /// Give up then.
    pub until: Instant,
    /// Who wants to know how it ended; see [`super::tags`].
    pub tag: u32,
    progress: Progress,
}

/// Names an errand until it was collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrandId(Handle);

/// The table.
pub struct Errands<P: Plan> {
    slots: Slab<Errand, P::Errands>,
}

impl<P: Plan> Errands<P> {
    /// No errands.
    pub const EMPTY: Self = Self { slots: Slab::EMPTY };

    /// Asks for a message to be delivered. `None`: too many are under way, or there is no address; it will not be sent.
    pub fn send(
        &mut self,
        message: Message,
        user: UserId,
        address: PackedAddr,
        until: Instant,
        tag: u32,
    ) -> Option<ErrandId> {
        if address.is_none() {
            return None;
        }
        let errand = Errand {
            user,
            address,
            message,
            until,
            tag,
            progress: Progress::Waiting,
        };
        self.slots.insert(errand).ok().map(ErrandId)
    }

    /// For streams: takes the next errand that nobody is at. Report it with [`Errands::end`].
    pub fn take(&mut self) -> Option<(ErrandId, Errand)> {
        let mut waiting = self.slots.iter_mut();
        let (id, errand) = waiting.find(|(_, e)| e.progress == Progress::Waiting)?;
        errand.progress = Progress::Taken;
        Some((ErrandId(id), *errand))
    }

    /// For streams: puts an errand back that was taken, because no stream is free.
    pub fn put_back(&mut self, id: ErrandId) {
        if let Some(errand) = self.slots.get_mut(id.0)
            && errand.progress == Progress::Taken
        {
            errand.progress = Progress::Waiting;
        }
    }

    /// For streams: reports how an errand ended. Later reports about it are ignored.
    pub fn end(&mut self, id: ErrandId, delivered: bool) {
        if let Some(errand) = self.slots.get_mut(id.0)
            && !matches!(errand.progress, Progress::Ended(_))
        {
            errand.progress = Progress::Ended(delivered);
        }
    }

    /// Whether an errand is still wanted: a stream that carries it out may stop otherwise.
    #[must_use]
    pub fn is_wanted(&self, id: ErrandId) -> bool {
        self.slots.get(id.0).is_some()
    }

    /// For the timeline: drops an errand that ended or whose time is over, and tells whose it was and how it went.
    pub fn collect(&mut self, now: Instant) -> Option<(u32, bool)> {
        let ended = self.slots.iter().find_map(|(id, errand)| {
            let delivered = match errand.progress {
                Progress::Ended(delivered) => delivered,
                Progress::Waiting | Progress::Taken if errand.until <= now => false,
                Progress::Waiting | Progress::Taken => return None,
            };
            Some((id, errand.tag, delivered))
        });
        let (id, tag, delivered) = ended?;
        self.slots.discard(id);
        Some((tag, delivered))
    }

    /// When the next errand is over.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        soonest(self.slots.iter().map(|(_, errand)| errand.until))
    }
}
