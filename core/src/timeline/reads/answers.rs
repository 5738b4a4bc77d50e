//! What comes in for a read: verified here, whoever sent it.
//!
//! Owns the checks between a frame and a shown post: the head's signature, the chain of hashes, whether the head is
//! as new as the read, and what is shown already. Invariant: what breaks a check changes nothing. An author or holder
//! that sent it is dropped; a relay may be innocent, so only that person is taken from it and asked directly.

use crate::bounded::Handle;
use crate::id::UserId;
use crate::output::Via;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::frame::{Ending, Unreached};
use crate::wire::post::{Post, PostKind};
use crate::wire::record::{Head, Record};

use super::super::chain::Chain;
use super::super::copies::{HeadNews, Offer};
use super::super::exchange::Exchange;
use super::super::log::{HEAD_MS, LOG, Log};
use super::super::posts::PostId;
use super::super::state::State;
use super::super::streams::{Message, Parcel, Role, Taken};
use super::super::tree::Piece;
use super::{Reading, Shown, Stage};

/// What the job knows about a piece of an answer.
struct About {
    user: UserId,
    /// There was a head before.
    begun: bool,
    /// The author itself sent it.
    direct: bool,
    /// What was named in the request.
    since: u64,
    /// When the reader signed the request, Unix ms; 0 unknown.
    issued_ms: u64,
}

impl<P: Plan> Exchange<P> {
    /// A piece of an answer from child `slot` about target `at` of a read's job.
    pub(in super::super) fn read_answer(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (handle, stream): (Handle, Handle),
        (job, slot, at): (Handle, u8, u16),
        piece: &Piece<'_>,
    ) -> Taken {
        let Some(about) = self.about(job, slot, at) else {
            return Taken::Gone;
        };
        let Some(reading) = self.reading(handle, at) else {
            return Taken::Gone;
        };
        let spoiled = reading.spoiled == Some(slot) && !about.direct;
        let checked = match piece {
            Piece::Head { .. } | Piece::Post { .. } if spoiled => Some(Ok(false)),
            Piece::Done { .. } if spoiled => Some(Err(Rule::Chain)),
            Piece::Done { outcome, .. } => {
                Some(reading.check_ending(*outcome, &about).map(|()| false))
            }
            Piece::Post { post } => self.check_post(now, state, (handle, at), &about.user, post),
            Piece::Head { .. } => {
                Some(self.check_head(now, state, (handle, at), &about, stream, piece))
            }
        };
        match checked {
            None => return Taken::Later,
            Some(Err(rule)) if about.direct => return Taken::Broke(rule),
            Some(Err(rule)) => {
                if !spoiled {
                    state.dropped.count(rule);
                }
                self.spoil(handle, (job, slot, at), piece);
                return Taken::Yes;
            }
            Some(Ok(show)) => {
                if !self.note_answer(state, (job, slot, at), piece) {
                    return Taken::Broke(Rule::OutOfTurn);
                }
                if show {
                    self.show_next(
                        state,
                        Shown {
                            read: handle,
                            at,
                            via: Via::Author,
                        },
                        piece,
                    );
                }
            }
        }
        match piece {
            Piece::Done {
                outcome: Ending::Complete | Ending::NothingNew,
                ..
            } => {
                self.answered(now, state, (handle, at), &about);
                self.reads.wake_up();
            }
            Piece::Done { .. } => self.reads.wake_up(),
            Piece::Head { .. } | Piece::Post { .. } => {}
        }
        Taken::Yes
    }

    fn reading(&mut self, handle: Handle, at: u16) -> Option<&mut Reading> {
        self.reads.get_mut(handle)?.reading(at)
    }

    /// Verifies the head of a live answer. `false`: it shows nothing by itself.
    fn check_head(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (handle, at): (Handle, u16),
        about: &About,
        stream: Handle,
        piece: &Piece<'_>,
    ) -> Result<bool, Rule> {
        let offer = self.offer(now, stream, piece).ok_or(Rule::OutOfTurn)?;
        let reading = self.reading(handle, at).ok_or(Rule::OutOfTurn)?;
        let head = reading.take_head(now, state, &about.user, &offer)?;
        reading.fresh = is_fresh(now, state, &head, about.issued_ms);
        Ok(false)
    }

    /// The head in a piece, with when its stream was opened.
    fn offer<'a>(&self, now: Instant, stream: Handle, piece: &Piece<'a>) -> Option<Offer<'a>> {
        let Piece::Head {
            record,
            remaining_ms,
        } = *piece
        else {
            return None;
        };
        let sent = self.streams.get(stream).map_or(now, |stream| stream.used);
        Some(Offer {
            head: record,
            sent,
            remaining_ms: u64::from(remaining_ms),
        })
    }

    /// Checks a post against its chain. Tells whether it is to be shown; `None`: there is no room for that now.
    fn check_post(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (handle, at): (Handle, u16),
        user: &UserId,
        post: &[u8],
    ) -> Option<Result<bool, Rule>> {
        let read = self.reads.get_mut(handle)?;
        let told = read.query.is_some();
        if told && !self.tree.transit.is_free() {
            return None;
        }
        Some(read.reading(at)?.take_post(now, state, user, post, told))
    }

    fn about(&self, job: Handle, slot: u8, at: u16) -> Option<About> {
        let job = self.tree.job(job)?;
        let target = job.targets().get(usize::from(at))?;
        let own = job.own_target(slot)?;
        Some(About {
            user: target.user,
            begun: target.heads > 0,
            direct: own.user == target.user,
            since: target.since,
            issued_ms: job.request.issued_ms,
        })
    }

    /// A relay passed on something wrong about a person, who is asked directly once the relay is done with it.
    fn spoil(&mut self, handle: Handle, (job, slot, at): (Handle, u8, u16), piece: &Piece<'_>) {
        let Some(reading) = self.reads.get_mut(handle).and_then(|read| read.reading(at)) else {
            return;
        };
        reading.spoiled = Some(slot);
        if let Piece::Done { .. } = piece {
            reading.spoiled = None;
            if let Some(job) = self.tree.job_mut(job) {
                job.fail(usize::from(at), Unreached::Invalid);
            }
        }
        self.reads.wake_up();
    }

    /// The author answered: what is kept here below its answer is as good as its own word. If that was dropped since it
    /// was asked, it is asked for everything.
    fn answered(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (handle, at): (Handle, u16),
        about: &About,
    ) {
        let Some(read) = self.reads.get_mut(handle) else {
            return;
        };
        let lost = state.copies.since(now, &state.posts, &about.user) < about.since;
        if lost && let Some(job) = self.tree.job_mut(read.job) {
            if let Some(target) = job.targets_mut().get_mut(usize::from(at)) {
                target.since = 0;
            }
            if job.ask_directly(usize::from(at)) {
                return;
            }
        }
        if let Some(reading) = read.reading(at) {
            reading.begin_showing(now, state, &about.user, true);
            state.on_read(now, &about.user);
        }
    }

    /// A piece of an answer from the holder that a search asks.
    pub(super) fn read_copy(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        stream: Handle,
        (handle, at): (Handle, u16),
        piece: &Piece<'_>,
    ) -> Taken {
        let Some(user) = self.user_at(handle, at) else {
            return Taken::Gone;
        };
        let Some(read) = self.reads.get_mut(handle) else {
            return Taken::Gone;
        };
        let Some(name) = read.search(at).and_then(|search| search.holder()) else {
            return Taken::Gone;
        };
        let checked = match *piece {
            Piece::Head { .. } => self.check_copied_head(now, state, (handle, at), stream, piece),
            Piece::Post { post } => match self.check_post(now, state, (handle, at), &user, post) {
                Some(checked) => checked,
                None => return Taken::Later,
            },
            Piece::Done {
                author,
                outcome: Ending::Complete | Ending::NothingNew,
            } if author == user => {
                if let Some(search) = read.search(at) {
                    search.on_found();
                }
                state.on_read(now, &user);
                Ok(false)
            }
            Piece::Done { .. } => Err(Rule::OutOfTurn),
        };
        match checked {
            Err(rule) => return Taken::Broke(rule),
            Ok(true) => {
                let via = Via::Replica(name);
                self.show_next(
                    state,
                    Shown {
                        read: handle,
                        at,
                        via,
                    },
                    piece,
                );
            }
            Ok(false) => {}
        }
        Taken::Yes
    }

    /// Verifies the head of a copy, and that the copy may still be shown.
    fn check_copied_head(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        (handle, at): (Handle, u16),
        stream: Handle,
        piece: &Piece<'_>,
    ) -> Result<bool, Rule> {
        let offer = self.offer(now, stream, piece).ok_or(Rule::OutOfTurn)?;
        let record = Record::decode(offer.head)?;
        let head = Log::<P>::read_head(&record).ok_or(Rule::Kind)?;
        if expired(now, state, &head, &offer) {
            return Err(Rule::Lifetime);
        }
        let user = self.user_at(handle, at).ok_or(Rule::OutOfTurn)?;
        let reading = self.reading(handle, at).ok_or(Rule::OutOfTurn)?;
        reading.take_head(now, state, &user, &offer).map(|_| false)
    }

    /// Puts a post where the next drain finds it.
    fn show_next(&mut self, state: &mut State<P>, shown: Shown, piece: &Piece<'_>) {
        if let Piece::Post { post } = piece {
            // The place was found free before the post was taken, and own posts leave room: see `SPARE_LEN`.
            let _ = self.tree.transit.put_post(state, shown, post);
        }
    }

    /// An author whose posts are now kept here learns of it on the stream at hand. False: there is nothing to tell.
    pub(in super::super) fn tell_holding(
        &mut self,
        now: Instant,
        state: &State<P>,
        stream: Handle,
        author: UserId,
    ) -> bool {
        let view = state.copies.view(now, &state.posts, &author);
        let holds = view.is_some_and(|view| !view.newest.is_none());
        if holds && state.people.followed(&author).is_some() && !state.me.is_mute() {
            let parcel = Parcel::after_answer(Message::Follow, author);
            self.streams.assign(now, stream, Role::Courier(parcel));
            return true;
        }
        false
    }
}

impl Reading {
    /// Verifies a head, keeps it if its author is followed, and begins its chain.
    fn take_head<'a, P: Plan>(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        user: &UserId,
        offer: &Offer<'a>,
    ) -> Result<Head<'a>, Rule> {
        let head = head_by::<P>(user, offer.head)?;
        let followed = state.people.followed(user).is_some();
        let verified = followed
            && match state.offer_head(now, offer) {
                Ok(HeadNews::Newer | HeadNews::Confirmed | HeadNews::Same) => true,
                // Not compared with anything verified; or there is no room, or no time, to keep it.
                Ok(HeadNews::Older) | Err(Rule::Full | Rule::Lifetime) => false,
                Err(rule) => return Err(rule),
            };
        if !verified {
            Record::prove::<P::Crypto>(offer.head, state.me.network())?;
        }
        self.chain = Chain::of_head(&head);
        Ok(head)
    }

    /// Checks a post against the chain and keeps a copy. Tells whether it is to be shown, if anybody is `told`.
    fn take_post<P: Plan>(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        user: &UserId,
        bytes: &[u8],
        told: bool,
    ) -> Result<bool, Rule> {
        let post = Post::decode::<P::Crypto>(bytes)?;
        if post.header.user != *user {
            return Err(Rule::Author);
        }
        if post.header.log != LOG {
            return Err(Rule::OutOfTurn);
        }
        self.chain.check::<P::Crypto>(&post, state.me.network())?;
        if state.people.followed(user).is_some() {
            // Without room it is shown all the same.
            let _ = state.offer_post(now, bytes);
        }
        Ok(told && self.shows(post.header.seq, PostKind::of_tag(post.header.kind)))
    }

    /// Whether a post is to be shown now; then it counts as shown. Posts of one person are shown in falling order, so
    /// that what is above the lowest shown was shown, or is newer than this read.
    pub(super) fn shows(&mut self, seq: u64, kind: PostKind) -> bool {
        let shown = self.low != 0 && seq >= self.low;
        if shown || self.left == 0 || kind != PostKind::Text {
            return false;
        }
        self.low = seq;
        self.left -= 1;
        true
    }

    /// Whether an answer may end like this.
    fn check_ending(&self, outcome: Ending, about: &About) -> Result<(), Rule> {
        match outcome {
            Ending::Unreached(_) => Ok(()),
            Ending::Complete | Ending::NothingNew if !about.begun => Err(Rule::OutOfTurn),
            Ending::Complete | Ending::NothingNew if !about.direct && !self.fresh => {
                Err(Rule::Older)
            }
            Ending::NothingNew if self.chain.expect_seq > about.since => Err(Rule::Chain),
            Ending::Complete | Ending::NothingNew => Ok(()),
        }
    }

    /// Begins to show what is kept here, below what was shown.
    pub(super) fn begin_showing<P: Plan>(
        &mut self,
        now: Instant,
        state: &State<P>,
        user: &UserId,
        live: bool,
    ) {
        let view = state.copies.view(now, &state.posts, user);
        self.cursor = view.map_or(PostId::NONE, |view| {
            if view.newest.is_none() {
                view.older
            } else {
                view.newest
            }
        });
        self.stage = Stage::Showing { live };
    }
}

/// A head of this user's log, not yet verified.
#[inline(never)] // Its frame is to be gone before anything is verified.
fn head_by<'a, P: Plan>(user: &UserId, bytes: &'a [u8]) -> Result<Head<'a>, Rule> {
    let record = Record::decode(bytes)?;
    let head = Log::<P>::read_head(&record).ok_or(Rule::Kind)?;
    if record.author == *user {
        Ok(head)
    } else {
        Err(Rule::Author)
    }
}

/// Whether a head was confirmed since the read began, as far as clocks tell.
fn is_fresh<P: Plan>(now: Instant, state: &State<P>, head: &Head<'_>, issued_ms: u64) -> bool {
    if head.confirmed_ms == 0 || issued_ms == 0 {
        return true;
    }
    // The author's clock may be off by as much as ours, and it signs once a second at most.
    let off_ms = u64::from(state.me.clock().uncertainty_ms(now).unwrap_or(u32::MAX));
    let tolerance_ms = off_ms.saturating_mul(2).saturating_add(HEAD_MS);
    head.confirmed_ms.saturating_add(tolerance_ms) >= issued_ms
}

/// Whether a copy may not be shown any more.
fn expired<P: Plan>(now: Instant, state: &State<P>, head: &Head<'_>, offer: &Offer<'_>) -> bool {
    let keep_ms = u64::from(head.keep_ms);
    if offer.sent.after_ms(offer.remaining_ms.min(keep_ms)) <= now {
        return true;
    }
    let clock = state.me.clock();
    let (Some(unix_ms), Some(off_ms)) = (clock.unix_ms(now), clock.uncertainty_ms(now)) else {
        return false;
    };
    let until = head
        .confirmed_ms
        .saturating_add(keep_ms)
        .saturating_add(u64::from(off_ms));
    head.confirmed_ms != 0 && until <= unix_ms
}
