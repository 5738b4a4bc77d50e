//! Streams: follow and timeline frames over TCP, in both directions.
//!
//! Owns what is said on a stream and whose turn it is. A stream has one [`Role`] at a time, and each role allows a
//! few frames; any other, or one that does not decode, closes the stream and is counted. [`table`] owns rooms and
//! deadlines, [`serve`] answers requests, [`courier`] delivers records; the get tree and the fetching of copies are
//! in [`super::tree`] and [`super::reads`].
//!
//! ```text
//! peer's:   Waiting --Follow, Unfollow--> Replying --Done | Refused--> Waiting
//!              |  ^----Deleted
//!              +--Get, Target...-> Serving --Head Post... Done, what children say, End | Refused--> Waiting
//!              +--GetStored------> Serving --Head Post... Done End | Refused--> Waiting
//! our own:  Child:   Get Target... -->  <-- Head Post... Done..., Working, End | Refused
//!           Holder:  GetStored -->      <-- Head Post... Done End | Refused
//!           Courier: Follow | Unfollow -->  <-- Done | Refused,   or Deleted -->
//! ```
//!
//! Invariants: nothing that is to be written is encoded before it is polled, apart from one frame on its way up the
//! tree; a frame is taken from a stream only if what follows from it fits.

pub mod courier;
pub mod serve;
pub mod table;

use core::net::SocketAddr;

use crate::bounded::Handle;
use crate::output::{Busy, Output, StreamId};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::FRAME_PREFIX_LEN;
use crate::wire::frame::{Frame, Refusal, Unreached};

pub use courier::{Message, Parcel};
pub use serve::Serving;
pub use table::{Stream, Streams};

use super::exchange::Exchange;
use super::state::State;
use table::Turn;

/// What a stream is used for, and so which frames may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing is under way. A peer's stream: its next request may come.
    Waiting,
    /// A peer's `Get` or `GetStored` is being answered.
    Serving(Serving),
    /// A peer's `Follow` or `Unfollow` was dealt with; the answer is to be written.
    Replying {
        /// `None`: `Done`.
        refusal: Option<Refusal>,
    },
    /// Opened for a child of a job of the get tree.
    Child {
        /// The job.
        job: Handle,
        /// Which child.
        slot: u8,
    },
    /// Opened to fetch copies from a holder.
    Holder {
        /// The read.
        read: Handle,
        /// Whose posts: its place in the read.
        at: u16,
        /// `GetStored` was written.
        asked: bool,
    },
    /// Opened, or used further, to deliver a record.
    Courier(Parcel),
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Taken {
    /// It was dealt with.
    Yes,
    /// Not now: what follows from it has no room. The host offers it again.
    Later,
    /// It broke a rule: the stream is to be closed.
    Broke(Rule),
    /// It was dealt with, and the stream is closed or somebody else's already.
    Gone,
}

impl<P: Plan> Exchange<P> {
    /// A peer opened a stream.
    ///
    /// # Errors
    /// [`Busy`] when the plan's streams, or those of this source, are used up.
    pub fn accept_stream(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        from: SocketAddr,
    ) -> Result<StreamId, Busy> {
        let accepted = self.streams.accept(now, from);
        if accepted.is_err() {
            state.dropped.count(Rule::Full);
        }
        accepted.map(|handle| StreamId(handle.to_bits()))
    }

    /// The host has opened a stream that it was told to open.
    pub fn stream_opened(&mut self, now: Instant, state: &mut State<P>, stream: StreamId) {
        if self.streams.opened(now, stream) {
            let handle = Handle::from_bits(stream.0);
            if let Some(Role::Child { job, slot }) = self.streams.get(handle).map(|s| s.role) {
                self.tree.opened(job, slot);
            }
        }
        self.pump(now, state);
    }

    /// The host can take this many bytes for a stream.
    pub fn stream_writable(&mut self, _now: Instant, stream: StreamId, room: usize) {
        self.streams.writable(stream, room);
    }

    /// The host offers what has arrived on a stream. Takes at most one frame and returns its length, or all of it from
    /// a stream that is being closed. 0: the frame is not complete, or has to wait until what it leads to (a frame up
    /// the tree, an event) has room; it is offered again after the next drain or input.
    #[inline(never)] // Shorter on a board than inside its caller.
    pub fn stream_readable(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        stream: StreamId,
        bytes: &[u8],
    ) -> usize {
        let Some(handle) = self.streams.by_id(stream) else {
            return bytes.len();
        };
        let network = state.me.network();
        let split = Frame::split(bytes);
        let frame = split.and_then(|found| {
            found
                .map(|(body, len)| Ok((Frame::decode(body, network)?, len)))
                .transpose()
        });
        let (taken, len) = match frame {
            Ok(None) => return 0,
            Ok(Some((frame, len))) => {
                let raw = bytes.get(..len).unwrap_or_default();
                (self.handle_frame(now, state, handle, &frame, raw), len)
            }
            Err(rule) => (Taken::Broke(rule), bytes.len()),
        };
        let taken_len = match taken {
            Taken::Yes => {
                self.streams.moved(now, handle);
                self.streams.queue(handle);
                len
            }
            Taken::Later => {
                // The peer did its part.
                self.streams.moved(now, handle);
                0
            }
            Taken::Gone => len,
            Taken::Broke(rule) => {
                state.dropped.count(rule);
                self.end_stream(now, state, handle, Unreached::Invalid);
                bytes.len()
            }
        };
        self.pump(now, state);
        taken_len
    }

    /// A stream was closed by the peer, broke, or could not be opened.
    pub fn stream_closed(&mut self, now: Instant, state: &mut State<P>, stream: StreamId) {
        if let Some((role, was_open)) = self.streams.closed(stream) {
            let why = if was_open {
                Unreached::Stalled
            } else {
                Unreached::NoConnection
            };
            self.tree
                .transit
                .forget_stream(state, Handle::from_bits(stream.0));
            self.freed = true;
            self.stream_gone(now, state, role, why);
        }
        self.pump(now, state);
    }

    /// Closes a stream and tells whoever used it.
    pub(super) fn end_stream(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        why: Unreached,
    ) {
        if let Some(role) = self.streams.get(handle).map(|stream| stream.role) {
            self.streams.close(handle);
            self.tree.transit.forget_stream(state, handle);
            self.stream_gone(now, state, role, why);
        }
    }

    /// Whoever used a stream learns that it is gone.
    fn stream_gone(&mut self, now: Instant, state: &mut State<P>, role: Role, why: Unreached) {
        match role {
            Role::Waiting | Role::Replying { .. } => {}
            Role::Serving(serving) => {
                if let Some(job) = serving.job {
                    self.drop_job(state, job);
                }
            }
            Role::Child { job, slot } => self.lose_child(now, state, (job, slot), why),
            Role::Holder { read, at, .. } => self.lose_holder((read, at)),
            Role::Courier(parcel) => Self::parcel_done(state, &parcel, false),
        }
    }

    /// Closes streams that did not move in time.
    pub(super) fn streams_timeout(&mut self, now: Instant, state: &mut State<P>) {
        while let Some((handle, was_open)) = self.streams.overdue(now) {
            let why = if was_open {
                Unreached::Stalled
            } else {
                Unreached::NoConnection
            };
            if was_open && !self.streams.is_idle(handle) {
                state.dropped.count(Rule::Stalled);
            }
            self.end_stream(now, state, handle, why);
        }
    }

    #[inline(never)] // Nor are what the roles do inside it: a frame of one is not to lie on the stack while another verifies.
    fn handle_frame(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        handle: Handle,
        frame: &Frame<'_>,
        raw: &[u8],
    ) -> Taken {
        let Some(role) = self.streams.get(handle).map(|stream| stream.role) else {
            return Taken::Gone;
        };
        match role {
            Role::Waiting => self.handle_request(now, state, handle, frame),
            Role::Serving(serving) => self.handle_target(now, state, handle, &serving, frame),
            Role::Replying { .. } => Taken::Broke(Rule::OutOfTurn),
            Role::Child { job, slot } => {
                self.handle_answer(now, state, handle, (job, slot), frame, raw)
            }
            Role::Holder { read, at, .. } => {
                self.handle_copy(now, state, handle, (read, at), frame)
            }

            Role::Courier(parcel) => self.handle_receipt(now, state, handle, &parcel, frame),
        }
    }

    /// The next thing that the host is to do with a stream. `buf` takes a frame.
    ///
    /// # Errors
    /// Gives the buffer back when there is nothing.
    #[inline(never)] // As the output of the node, see there.
    pub fn poll_stream<'b>(
        &mut self,
        state: &mut State<P>,
        buf: &'b mut [u8],
    ) -> Result<Output<'b>, &'b mut [u8]> {
        loop {
            let Some(turn) = self.streams.next_turn() else {
                // Somebody may have waited for a stream that is free now, or wants something since the last input.
                let freed = core::mem::take(&mut self.freed);
                if freed {
                    self.pump(self.now, state);
                }
                if self.run_errands(self.now, state) || freed {
                    continue;
                }
                return Err(buf);
            };
            match turn {
                Turn::Open(handle, to) => {
                    return Ok(Output::Open {
                        stream: StreamId(handle.to_bits()),
                        to,
                    });
                }
                Turn::Close(stream) => {
                    self.freed = true;
                    return Ok(Output::Close { stream });
                }
                Turn::Write(handle, room) => {
                    let Some(len) = self.write_frame(state, handle, room, buf) else {
                        continue;
                    };
                    self.streams.wrote(self.now, handle, len);
                    let bytes = buf.get(..len).unwrap_or_default();
                    return Ok(Output::Write {
                        stream: StreamId(handle.to_bits()),
                        bytes,
                    });
                }
            }
        }
    }

    /// Writes the next frame of a stream to `buf`, if there is one and it fits the room.
    #[inline(never)] // Shorter on a board than inside its caller.
    fn write_frame(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        if room <= FRAME_PREFIX_LEN {
            return None;
        }
        match self.streams.get(handle)?.role {
            Role::Waiting | Role::Holder { asked: true, .. } => None,
            Role::Serving(serving) => self.write_answer(state, handle, serving, room, buf),
            Role::Replying { refusal } => self.write_reply(state, handle, refusal, room, buf),
            Role::Child { job, slot } => self.write_child(state, handle, (job, slot), room, buf),
            Role::Holder {
                read,
                at,
                asked: false,
            } => {
                let len = self.write_get_stored(state, (read, at), room, buf)?;
                if let Some(Role::Holder { asked, .. }) = self.streams.role_mut(handle) {
                    *asked = true;
                }
                Some(len)
            }
            Role::Courier(parcel) => self.write_parcel(state, handle, &parcel, room, buf),
        }
    }

    /// Encodes a frame into `buf` if it fits the room.
    pub(super) fn fit(
        state: &State<P>,
        frame: &Frame<'_>,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        frame
            .encode(state.me.network(), buf)
            .filter(|&len| len <= room)
    }
}
