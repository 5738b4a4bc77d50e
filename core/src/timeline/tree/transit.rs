//! One frame or post between the input that brought it and the output that takes it.
//!
//! Frames are not queued: a frame is taken from a stream only when it can go on at once, and the host drains after each
//! frame taken, so that one place serves a whole node. The bytes lie in the store of posts, where copies make room for
//! them. Invariant: the place is free again after a drain, unless the stream that it is for has lost its room meanwhile.

use crate::bounded::Handle;
use crate::plan::Plan;
use crate::wire::{FRAME_PREFIX_LEN, POST_LEN_MAX, PREAMBLE_LEN};

use super::super::posts::{PASSING_LEN_MAX, RecordId};
use super::super::reads::Shown;
use super::super::state::State;

// A post passes, with its frame around it: three bytes are the frame's tag and the length of the post.
const _: () = assert!(FRAME_PREFIX_LEN + PREAMBLE_LEN + 3 + POST_LEN_MAX <= PASSING_LEN_MAX);

/// What is on its way, and where it goes. A tag of its own makes `Nothing` all zero, where the free value of a
/// field would not be: so an unstarted node stays in `.bss`.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Passing {
    Nothing,
    /// A frame, up this stream.
    Frame(Handle, RecordId),
    /// A post, to be shown.
    Post(Shown, RecordId),
}

/// The place.
#[derive(Debug)]
pub struct Transit(Passing);

impl Transit {
    /// Nothing is on its way.
    pub const EMPTY: Self = Self(Passing::Nothing);

    /// Whether the place is free.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        matches!(self.0, Passing::Nothing)
    }

    /// Takes a frame with its prefix, for a stream. False: the place is taken, or there is no room.
    #[must_use]
    pub fn put_frame<P: Plan>(
        &mut self,
        state: &mut State<P>,
        stream: Handle,
        frame: &[u8],
    ) -> bool {
        self.put(state, frame, |id| Passing::Frame(stream, id))
    }

    /// Takes a post, to be shown. False: the place is taken, or there is no room.
    #[must_use]
    pub fn put_post<P: Plan>(&mut self, state: &mut State<P>, shown: Shown, post: &[u8]) -> bool {
        self.put(state, post, |id| Passing::Post(shown, id))
    }

    fn put<P: Plan>(
        &mut self,
        state: &mut State<P>,
        bytes: &[u8],
        passing: impl FnOnce(RecordId) -> Passing,
    ) -> bool {
        if self.is_free() && state.make_passing_room(bytes.len()) {
            let id = state.posts.put_record(RecordId::NONE, bytes);
            if id != RecordId::NONE {
                self.0 = passing(id);
                return true;
            }
        }
        false
    }

    /// Writes the frame for this stream, if there is one and it fits the room; the place is free then.
    pub fn write<P: Plan>(
        &mut self,
        state: &mut State<P>,
        stream: Handle,
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        let Passing::Frame(to, id) = self.0 else {
            return None;
        };
        let len = state.posts.record(id)?.len();
        if to != stream || len > room {
            return None;
        }
        self.take(state, id, buf)
    }

    /// Copies the post that is to be shown to `buf`, and tells its length; the place is free then.
    pub fn take_post<P: Plan>(
        &mut self,
        state: &mut State<P>,
        buf: &mut [u8],
    ) -> Option<(Shown, usize)> {
        let Passing::Post(shown, id) = self.0 else {
            return None;
        };
        Some((shown, self.take(state, id, buf)?))
    }

    fn take<P: Plan>(
        &mut self,
        state: &mut State<P>,
        id: RecordId,
        buf: &mut [u8],
    ) -> Option<usize> {
        let bytes = state.posts.record(id)?;
        let len = bytes.len();
        buf.get_mut(..len)?.copy_from_slice(bytes);
        self.clear(state);
        Some(len)
    }

    /// Drops the frame for a stream that is gone.
    pub fn forget_stream<P: Plan>(&mut self, state: &mut State<P>, stream: Handle) {
        if let Passing::Frame(to, _) = self.0
            && to == stream
        {
            self.clear(state);
        }
    }

    /// Drops the post for a read that is gone.
    pub fn forget_read<P: Plan>(&mut self, state: &mut State<P>, read: Handle) {
        if let Passing::Post(shown, _) = self.0
            && shown.read == read
        {
            self.clear(state);
        }
    }

    fn clear<P: Plan>(&mut self, state: &mut State<P>) {
        if let Passing::Frame(_, id) | Passing::Post(_, id) = self.0 {
            state.posts.remove_record(id);
        }
        self.0 = Passing::Nothing;
    }
}
