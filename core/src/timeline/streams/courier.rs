//! Carries out errands: delivers the user's `Follow` records, and fetches own posts back from a holder.
//!
//! Owns one exchange on one stream: the frame out, `Done`, `Refused` or the posts in. What the record says is decided
//! by the state at the moment of writing. A delivery is a courtesy: the record is in the DHT too.

use crate::bounded::Handle;
use crate::id::UserId;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::RECORD_LEN_MAX;
use crate::wire::frame::{Frame, GetStored};

use super::super::copies::Offer;
use super::super::errands::ErrandId;
use super::super::exchange::Exchange;
use super::super::log::LOG;
use super::super::state::State;
use super::{Role, Taken};

pub use super::super::errands::Message;

/// What a stream carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parcel {
    errand: Option<ErrandId>,
    message: Message,
    user: UserId,
    step: Step,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The other side is still to say `End` to what the stream was used for before.
    Ending,
    /// It is to be written.
    Ready,
    /// It was written.
    Sent,
}

impl Parcel {
    /// Something still to be said to `user`; `errand` wants to know how it ended.
    #[must_use]
    pub const fn new(errand: ErrandId, message: Message, user: UserId) -> Self {
        Self {
            errand: Some(errand),
            message,
            user,
            step: Step::Ready,
        }
    }

    /// Something to be said on a stream as soon as the answer on it has ended.
    #[must_use]
    pub const fn after_answer(message: Message, user: UserId) -> Self {
        Self {
            errand: None,
            message,
            user,
            step: Step::Ending,
        }
    }
}

impl<P: Plan> Exchange<P> {
    /// Writes the frame of an errand.
    pub(super) fn write_parcel(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        parcel: &Parcel,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        if parcel.step != Step::Ready {
            return None;
        }
        let len = match parcel.message {
            Message::FetchOwn => {
                let limit = P::READ_POSTS_MAX;
                let get = GetStored {
                    author: state.me.user(),
                    log: LOG,
                    since: 0,
                    limit,
                };
                Self::fit(state, &Frame::GetStored(get), room, buf)?
            }
            Message::Follow | Message::Unfollow | Message::Deleted => {
                self.write_follow(state, handle, parcel, room, buf)?
            }
        };
        if parcel.message == Message::Deleted {
            self.finish_parcel(state, handle, parcel, true);
        } else if let Some(Role::Courier(parcel)) = self.streams.role_mut(handle) {
            parcel.step = Step::Sent;
        }
        Some(len)
    }

    fn write_follow(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        parcel: &Parcel,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        let following = parcel.message != Message::Unfollow;
        let mut record = [0; RECORD_LEN_MAX];
        let Some(len) = state.sign_follow(self.now, &parcel.user, following, &mut record) else {
            // Nothing may be signed.
            self.finish_parcel(state, handle, parcel, false);
            return None;
        };
        let record = record.get(..len)?;
        let frame = match parcel.message {
            Message::Unfollow => Frame::Unfollow { record },
            Message::Deleted => Frame::Deleted { record },
            Message::Follow | Message::FetchOwn => Frame::Follow { record },
        };
        Self::fit(state, &frame, room, buf)
    }

    /// The answer to an errand.
    #[inline(never)] // As `handle_frame`.
    pub(super) fn handle_receipt(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        parcel: &Parcel,
        frame: &Frame<'_>,
    ) -> Taken {
        if parcel.step == Step::Ending && *frame == Frame::End {
            let ready = Parcel {
                step: Step::Ready,
                ..*parcel
            };
            self.streams.assign(now, handle, Role::Courier(ready));
            return Taken::Yes;
        }
        let sent = parcel.step == Step::Sent;
        let fetching = parcel.message == Message::FetchOwn && sent;
        let delivered = match frame {
            Frame::Working => return Taken::Yes,
            Frame::Head {
                record,
                remaining_ms,
            } if fetching => {
                let stream = self.streams.get(handle);
                let offer = Offer {
                    head: record,
                    sent: stream.map_or(now, |stream| stream.used),
                    remaining_ms: u64::from(*remaining_ms),
                };
                return match state.offer_head(now, &offer) {
                    Ok(_) => Taken::Yes,
                    Err(rule) => Taken::Broke(rule),
                };
            }
            Frame::Post { post } if fetching => {
                return match state.offer_post(now, post) {
                    Ok(_) => Taken::Yes,
                    Err(rule) => Taken::Broke(rule),
                };
            }
            Frame::Done { .. } if fetching => return Taken::Yes,
            Frame::End if fetching => true,
            Frame::Done { .. } if sent => true,
            Frame::Refused { .. } if sent => false,
            Frame::Done { .. }
            | Frame::Refused { .. }
            | Frame::Follow { .. }
            | Frame::Unfollow { .. }
            | Frame::Get(_)
            | Frame::Target(_)
            | Frame::GetStored(_)
            | Frame::Head { .. }
            | Frame::Post { .. }
            | Frame::Deleted { .. }
            | Frame::End => return Taken::Broke(Rule::OutOfTurn),
        };
        self.finish_parcel(state, handle, parcel, delivered);
        Taken::Gone
    }

    fn finish_parcel(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        parcel: &Parcel,
        delivered: bool,
    ) {
        self.streams.close(handle);
        Self::parcel_done(state, parcel, delivered);
    }

    /// Whoever sent an errand learns how it ended.
    pub(super) fn parcel_done(state: &mut State<P>, parcel: &Parcel, delivered: bool) {
        if let Some(errand) = parcel.errand {
            state.errands.end(errand, delivered);
        }
    }
}
