//! TCP-like streams between machines: the state of every connection, without the machines.
//!
//! A connection is two [`End`]s. Each has what its node wrote and the network has not taken yet (`unsent`), what is on
//! its way (`flying`), and what arrived and its node has not consumed (`inbox`). Bytes stay in order; the sender may
//! have no more than the receiver's window outstanding, and a node is only granted the room that its send buffer has.
//! Who is told what, and when, is [`super::World`]'s business: it moves segments by the clock. Simplifications: the
//! window opens when the node consumed, not when the machine received; bytes for an end whose node has closed it are
//! dropped without a reset. The invariant: a byte is in one place, and leaves in the order in which it came.

use std::collections::{BTreeMap, VecDeque};

use strandline_core::output::StreamId;
use strandline_core::wire::frame::Frame;
use strandline_core::wire::{FRAME_LEN_MAX, FRAME_PREFIX_LEN};

/// Names a connection for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// One of the two ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// The end that connected.
    Opener,
    /// The end that accepted.
    Accepter,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Opener => Self::Accepter,
            Self::Accepter => Self::Opener,
        }
    }
}

/// What one end of a connection is to the program behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Socket {
    /// Not accepted yet.
    Pending,
    /// In use under this name; the opener's from the moment at which it asked for it.
    Open(StreamId),
    /// The program has forgotten it: it closed it, or was told that it broke.
    Gone,
    /// The program died with it: whatever still arrives is answered by a reset, if the machine is up.
    Dead,
}

/// A piece of a stream on its way.
#[derive(Clone, Debug)]
pub enum Segment {
    /// The connection was accepted: the first segment of the accepter.
    Accepted,
    /// Bytes.
    Data(Vec<u8>),
    /// The sender will send no more.
    Fin,
}

/// The smallest buffer: a host needs room for one frame.
pub const BUFFER_LEN_MIN: usize = FRAME_LEN_MAX + FRAME_PREFIX_LEN;
/// Longest segment in bytes.
pub const SEGMENT_LEN_MAX: usize = 1_400;

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct End {
    /// The machine.
    pub host: u32,
    /// Which start of the program there.
    pub incarnation: u32,
    /// What it is to the program.
    pub socket: Socket,
    /// Bytes that fit into `unsent`.
    pub buffer_len: usize,
    /// The room that the node counts on: what it was told, less what it wrote since.
    pub granted: usize,
    /// Written and not yet on its way.
    pub unsent: VecDeque<u8>,
    /// On its way to the other end, with the times of arrival.
    pub flying: VecDeque<(u64, Segment)>,
    /// Sent and not yet consumed by the other node; at most the other end's window.
    pub outstanding: usize,
    /// Nothing more will be written: a `Fin` follows the last byte.
    pub closing: bool,
    /// The `Fin` is on its way, or has arrived.
    pub finished: bool,
    /// Since when nothing gets through from this end, if so, and when that is next tried.
    pub stalled: Option<(u64, u64)>,
    /// Arrived and not yet consumed.
    pub inbox: Vec<u8>,
    /// Bytes that fit into `inbox`, those on their way included.
    pub window_len: usize,
    /// The other end has finished.
    pub eof: bool,
}

impl End {
    /// An end that is not connected yet.
    #[must_use]
    pub const fn new(host: u32, incarnation: u32, buffer_len: usize) -> Self {
        Self {
            host,
            incarnation,
            socket: Socket::Pending,
            buffer_len,
            granted: 0,
            unsent: VecDeque::new(),
            flying: VecDeque::new(),
            outstanding: 0,
            closing: false,
            finished: false,
            stalled: None,
            inbox: Vec::new(),
            window_len: buffer_len,
            eof: false,
        }
    }

    /// The name under which the program knows it, while it does.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        match self.socket {
            Socket::Open(stream) => Some(stream),
            Socket::Pending | Socket::Gone | Socket::Dead => None,
        }
    }

    /// Whether a whole frame, or something that is none, waits in the inbox.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        !matches!(Frame::split(&self.inbox), Ok(None))
    }

    /// Bytes that may be written now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.buffer_len.saturating_sub(self.unsent.len())
    }

    /// Takes what the network may carry next: at most `len` bytes and as many as the other's window allows, then the
    /// `Fin`.
    pub fn next_segment(&mut self, len: usize, window_len: usize) -> Option<Segment> {
        let len = len
            .min(self.unsent.len())
            .min(window_len.saturating_sub(self.outstanding));
        if len > 0 {
            self.outstanding += len;
            return Some(Segment::Data(self.unsent.drain(..len).collect()));
        }
        if self.closing && self.unsent.is_empty() && !self.finished {
            self.finished = true;
            return Some(Segment::Fin);
        }
        None
    }
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Conn {
    opener: End,
    accepter: End,
}

impl Conn {
    /// A connection between two ends.
    #[must_use]
    pub const fn new(opener: End, accepter: End) -> Self {
        Self { opener, accepter }
    }

    /// One end.
    #[must_use]
    pub const fn end(&self, side: Side) -> &End {
        match side {
            Side::Opener => &self.opener,
            Side::Accepter => &self.accepter,
        }
    }

    /// One end, to change.
    pub const fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Opener => &mut self.opener,
            Side::Accepter => &mut self.accepter,
        }
    }

    /// Both programs have forgotten it, and nothing is left to carry.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let done = |end: &End| match end.socket {
            Socket::Pending | Socket::Open(_) => false,
            Socket::Gone => !end.closing || (end.finished && end.flying.is_empty()),
            Socket::Dead => true,
        };
        done(&self.opener) && done(&self.accepter)
    }
}

/// All connections of a world, by name, and by the names that the nodes have for them.
#[derive(Debug, Default)]
pub struct Streams {
    conns: BTreeMap<ConnId, Conn>,
    by_stream: BTreeMap<(u32, StreamId), (ConnId, Side)>,
    next: u64,
}

impl Streams {
    /// Adds a connection.
    pub fn insert(&mut self, conn: Conn) -> ConnId {
        let id = ConnId(self.next);
        self.next += 1;
        self.conns.insert(id, conn);
        id
    }

    /// A connection that still exists.
    #[must_use]
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(&id)
    }

    /// A connection that still exists, to change.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    /// Which connection and end a node means by `stream`.
    #[must_use]
    pub fn find(&self, host: u32, stream: StreamId) -> Option<(ConnId, Side)> {
        self.by_stream.get(&(host, stream)).copied()
    }

    /// Gives an end the name that its program has for it.
    ///
    /// # Errors
    /// The name is in use at that machine.
    pub fn name(&mut self, id: ConnId, side: Side, stream: StreamId) -> Result<(), String> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let end = conn.end_mut(side);
        if self.by_stream.contains_key(&(end.host, stream)) {
            return Err(format!("{stream:?} names two streams"));
        }
        end.socket = Socket::Open(stream);
        self.by_stream.insert((end.host, stream), (id, side));
        Ok(())
    }

    /// An end's program forgets it: `how` is [`Socket::Gone`] or [`Socket::Dead`]. Removes the connection once both
    /// have and nothing is left to carry.
    pub fn forget(&mut self, id: ConnId, side: Side, how: Socket) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let end = conn.end_mut(side);
        if let Some(stream) = end.stream() {
            self.by_stream.remove(&(end.host, stream));
        }
        end.socket = how;
        end.inbox.clear();
        self.collect(id);
    }

    /// Removes the connection if it is over.
    pub fn collect(&mut self, id: ConnId) {
        if self.conns.get(&id).is_some_and(Conn::is_over) {
            self.conns.remove(&id);
        }
    }

    /// The ends of a machine's program at which a whole frame waits.
    #[must_use]
    pub fn waiting(&self, host: u32) -> Vec<(ConnId, Side)> {
        let mut ends = self.of_host(host);
        ends.retain(|&(id, side)| self.get(id).is_some_and(|conn| conn.end(side).has_frame()));
        ends
    }

    /// Every end that a machine's program has, in the order in which the connections were made.
    #[must_use]
    pub fn of_host(&self, host: u32) -> Vec<(ConnId, Side)> {
        let mut ends: Vec<_> = self
            .by_stream
            .range((host, StreamId(0))..=(host, StreamId(u64::MAX)))
            .map(|(_, end)| *end)
            .collect();
        ends.sort_unstable();
        ends
    }

    /// The number that the next connection gets.
    #[must_use]
    pub const fn next_id(&self) -> u64 {
        self.next
    }

    /// How many connections exist.
    #[must_use]
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::{Conn, End, Segment, Side, Socket, StreamId, Streams};

    fn data(segment: Option<Segment>) -> Vec<u8> {
        match segment {
            Some(Segment::Data(bytes)) => bytes,
            Some(Segment::Fin | Segment::Accepted) | None => Vec::new(),
        }
    }

    #[test]
    fn a_sender_never_has_more_than_the_window_outstanding() {
        let mut end = End::new(0, 0, 2_000);
        end.unsent.extend([7; 1_500]);
        assert_eq!(end.room(), 500);
        assert_eq!(data(end.next_segment(1_000, 1_200)).len(), 1_000);
        assert_eq!(data(end.next_segment(1_000, 1_200)).len(), 200);
        assert!(end.next_segment(1_000, 1_200).is_none());
        end.outstanding -= 600;
        assert_eq!(data(end.next_segment(1_000, 1_200)).len(), 300);
        assert_eq!(end.room(), 2_000);
    }

    #[test]
    fn the_fin_follows_the_last_byte_and_comes_once() {
        let mut end = End::new(0, 0, 2_000);
        end.unsent.extend([7; 10]);
        end.closing = true;
        assert_eq!(data(end.next_segment(6, 100)).len(), 6);
        assert_eq!(data(end.next_segment(6, 100)).len(), 4);
        assert!(matches!(end.next_segment(6, 100), Some(Segment::Fin)));
        assert!(end.next_segment(6, 100).is_none());
    }

    #[test]
    fn a_connection_goes_when_both_ends_have_forgotten_it() {
        let mut streams = Streams::default();
        let id = streams.insert(Conn::new(End::new(1, 0, 2_000), End::new(2, 0, 2_000)));
        streams.name(id, Side::Opener, StreamId(5)).unwrap();
        streams.name(id, Side::Accepter, StreamId(5)).unwrap();
        assert_eq!(streams.find(1, StreamId(5)), Some((id, Side::Opener)));
        assert_eq!(streams.of_host(2), [(id, Side::Accepter)]);
        let second = streams.insert(Conn::new(End::new(1, 0, 2_000), End::new(3, 0, 2_000)));
        assert!(
            streams.name(second, Side::Opener, StreamId(5)).is_err(),
            "a name is used once"
        );

        streams.forget(id, Side::Opener, Socket::Gone);
        assert_eq!((streams.find(1, StreamId(5)), streams.len()), (None, 2));
        streams.forget(id, Side::Accepter, Socket::Dead);
        assert_eq!(streams.len(), 1);
    }
}
