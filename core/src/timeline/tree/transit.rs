//! One frame or post between the input that brought it and the output that takes it.
//!
//! Frames are not queued: a frame is taken from a stream only when it can go on at once, and the host drains after each
//! frame taken, so that one place serves a whole node. Invariant: it is free again after a drain, unless the stream that
//! it is for has lost its room meanwhile.

use crate::bounded::{BlobId, Blobs, Handle};
use crate::plan::Plan;

use super::super::reads::Shown;

/// Where it goes.
#[derive(Clone, Copy, Debug)]
enum To {
    /// A frame, up this stream.
    Stream(Handle),
    /// A post, to be shown.
    Event(Shown),
}

/// The place.
pub struct Transit<P: Plan> {
    bytes: P::Transit,
    held: Option<(To, BlobId)>,
}

impl<P: Plan> Transit<P> {
    /// Nothing is on its way.
    pub const EMPTY: Self = Self {
        bytes: P::Transit::EMPTY,
        held: None,
    };

    /// Whether the place is free.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.held.is_none()
    }

    /// Takes a frame with its prefix, for a stream. False: the place is taken, or the frame is longer than any that a
    /// relay has to pass on.
    #[must_use]
    pub fn put_frame(&mut self, stream: Handle, frame: &[u8]) -> bool {
        self.put(To::Stream(stream), frame)
    }

    /// Takes a post, to be shown. False: the place is taken.
    #[must_use]
    pub fn put_post(&mut self, shown: Shown, post: &[u8]) -> bool {
        self.put(To::Event(shown), post)
    }

    fn put(&mut self, to: To, bytes: &[u8]) -> bool {
        if self.held.is_none() {
            self.held = self.bytes.insert(bytes).map(|blob| (to, blob));
            return self.held.is_some();
        }
        false
    }

    /// Writes the frame for this stream, if there is one and it fits the room; the place is free then.
    pub fn write(&mut self, stream: Handle, room: usize, buf: &mut [u8]) -> Option<usize> {
        let (To::Stream(to), blob) = self.held? else {
            return None;
        };
        if to != stream {
            return None;
        }
        let frame = self.bytes.get(blob)?;
        if frame.len() > room {
            return None;
        }
        let len = frame.len();
        buf.get_mut(..len)?.copy_from_slice(frame);
        self.clear();
        Some(len)
    }

    /// Copies the post that is to be shown to `buf`, and tells its length; the place is free then.
    pub fn take_post(&mut self, buf: &mut [u8]) -> Option<(Shown, usize)> {
        let (To::Event(shown), blob) = self.held? else {
            return None;
        };
        let post = self.bytes.get(blob)?;
        let len = post.len();
        buf.get_mut(..len)?.copy_from_slice(post);
        self.clear();
        Some((shown, len))
    }

    /// Drops the frame for a stream that is gone.
    pub fn forget_stream(&mut self, stream: Handle) {
        if let Some((To::Stream(to), _)) = self.held
            && to == stream
        {
            self.clear();
        }
    }

    /// Drops the post for a read that is gone.
    pub fn forget_read(&mut self, read: Handle) {
        if let Some((To::Event(shown), _)) = self.held
            && shown.read == read
        {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.held = None;
    }
}
