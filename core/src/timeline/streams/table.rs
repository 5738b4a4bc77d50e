//! The table of streams: which are open, what each may write, and until when it has to move.
//!
//! Owns the life of a stream between core and its host, and which stream is polled next. It does not know what
//! is said on a stream: a [`Role`] tells its owner, who asks for it back. Invariants: a stream is in the queue at
//! most once, so that a drain polls each as often as it has something to write and no more; `room` is what the
//! host granted less what was written since; nothing is said about a stream once its `Close` was polled or the
//! host closed it.

use core::net::SocketAddr;

use crate::addr::{PackedAddr, source_of};
use crate::bounded::{Handle, Ring, Slab};
use crate::output::{Busy, StreamId};
use crate::plan::Plan;
use crate::time::{Deadline, Instant};

use super::Role;

/// How long a connection may take to open where nothing is known about the way, in ms.
pub const OPEN_MS: u64 = 1_000;
/// How long a peer that connected may take to send its first whole frame, in ms.
pub const FIRST_FRAME_MS: u64 = 5_000;
/// How long a stream without a request stays open, in ms.
pub const IDLE_MS: u64 = 30_000;
/// How long a stream with a request may go without a whole frame in either direction, in ms.
pub const PROGRESS_MS: u64 = 10_000;
/// A stream without a request gives way to a newcomer after this time, in ms.
pub const YIELD_MS: u64 = 1_000;

/// How long a node that was asked may be silent before it counts as stalled, given the round-trip time of its
/// stream: max(1 s, 4·rtt), in ms.
#[must_use]
pub const fn stall_ms(rtt_ms: u32) -> u64 {
    let four = 4 * rtt_ms as u64;
    if four > OPEN_MS { four } else { OPEN_MS }
}

/// Where a stream is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The host has yet to be told to open it.
    Planned,
    /// The host is opening it.
    Opening,
    /// Frames may flow.
    Open,
    /// The host has yet to be told to close it.
    Closing,
}

/// One stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The other end.
    pub peer: PackedAddr,
    /// What it is used for.
    pub role: Role,
    /// Round-trip time in ms, as opening it took; 0 while unknown and on streams that the peer opened.
    pub rtt_ms: u32,
    /// A peer's: when the last frame was written, or the request taken. The own: when it was opened, so no later than
    /// what was asked on it.
    pub used: Instant,
    state: State,
    incoming: bool,
    /// A whole frame went one way or the other.
    begun: bool,
    queued: bool,
    room: usize,
    /// When it was accepted, planned or opened, or last moved a whole frame.
    moved: Instant,
}

/// What is to be done with a stream next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Tell the host to open it.
    Open(Handle, SocketAddr),
    /// Tell the host to close it; it is forgotten already.
    Close(StreamId),
    /// See whether its owner has a frame for it that fits the room.
    Write(Handle, usize),
}

/// The streams of a node.
pub struct Streams<P: Plan> {
    slab: Slab<Stream, P::Streams>,
    queue: Ring<Handle, P::StreamQueue>,
    /// No deadline is earlier than this.
    wake: Deadline,
}

impl<P: Plan> Streams<P> {
    /// No streams.
    pub const EMPTY: Self = Self {
        slab: Slab::EMPTY,
        queue: Ring::EMPTY,
        wake: Deadline::NEVER,
    };

    /// Takes a stream that a peer opened.
    ///
    /// # Errors
    /// [`Busy`] when as many peers' streams are open as the plan allows and none has been without a request for
    /// [`YIELD_MS`], or when this source has its share.
    pub fn accept(&mut self, now: Instant, from: SocketAddr) -> Result<Handle, Busy> {
        let source = source_of(from);
        let (mut incoming, mut same) = (0, 0);
        for (_, stream) in self
            .slab
            .iter()
            .filter(|(_, s)| s.incoming && s.state == State::Open)
        {
            incoming += 1;
            if stream
                .peer
                .to_socket_addr()
                .is_some_and(|peer| source_of(peer) == source)
            {
                same += 1;
            }
        }
        if same >= P::STREAMS_PER_SOURCE {
            return Err(Busy);
        }
        if incoming >= P::STREAMS_INCOMING {
            let idle = self.longest_idle(now).ok_or(Busy)?;
            self.close(idle);
        }
        let mut stream = Stream::new(now, PackedAddr::from(from), Role::Waiting, State::Open);
        stream.incoming = true;
        self.insert(stream)
    }

    /// Plans a stream to `to`, which has [`OPEN_MS`] to open.
    ///
    /// # Errors
    /// [`Busy`] when as many are open as the plan allows.
    pub fn open(&mut self, now: Instant, to: PackedAddr, role: Role) -> Result<Handle, Busy> {
        let handle = self.insert(Stream::new(now, to, role, State::Planned))?;
        self.queue(handle);
        Ok(handle)
    }

    fn insert(&mut self, stream: Stream) -> Result<Handle, Busy> {
        let deadline = stream.deadline();
        let handle = self.slab.insert(stream).map_err(|_| Busy)?;
        self.wake.lower(deadline);
        Ok(handle)
    }

    /// The peer's stream that has been without a request for longest, at least [`YIELD_MS`].
    fn longest_idle(&self, now: Instant) -> Option<Handle> {
        let mut longest: Option<(Handle, Instant)> = None;
        for (handle, s) in self.slab.iter() {
            let idle = s.incoming && s.state == State::Open && s.role == Role::Waiting;
            let longer = longest.is_none_or(|(_, moved)| s.moved < moved);
            if idle && longer && now.since_ms(s.moved) >= YIELD_MS {
                longest = Some((handle, s.moved));
            }
        }
        longest.map(|(handle, _)| handle)
    }

    /// The host has opened a planned stream; false for any other.
    pub fn opened(&mut self, now: Instant, id: StreamId) -> bool {
        let handle = Handle::from_bits(id.0);
        let Some(stream) = self
            .slab
            .get_mut(handle)
            .filter(|s| s.state == State::Opening)
        else {
            return false;
        };
        stream.state = State::Open;
        stream.used = now;
        stream.rtt_ms = u32::try_from(now.since_ms(stream.moved)).unwrap_or(u32::MAX);
        self.moved(now, handle);
        self.queue(handle);
        true
    }

    /// The host has room for this many bytes. Ignored for a stream that is not there.
    pub fn writable(&mut self, id: StreamId, room: usize) {
        let handle = Handle::from_bits(id.0);
        if let Some(stream) = self.slab.get_mut(handle) {
            stream.room = room;
            self.queue(handle);
        }
    }

    /// The stream that a host means, if frames may flow on it.
    #[must_use]
    pub fn by_id(&self, id: StreamId) -> Option<Handle> {
        let handle = Handle::from_bits(id.0);
        self.slab
            .get(handle)
            .filter(|s| s.state == State::Open)
            .map(|_| handle)
    }

    /// Forgets a stream that the host closed, and tells whose it was and whether it had been open. `None` for one
    /// that was closed from this side.
    pub fn closed(&mut self, id: StreamId) -> Option<(Role, bool)> {
        let handle = Handle::from_bits(id.0);
        let Stream { role, state, .. } = *self.slab.get(handle)?;
        self.slab.discard(handle);
        (state != State::Closing).then_some((role, state == State::Open))
    }

    /// Closes a stream from this side. Whoever calls it has told the owner. Stale handles are ignored.
    pub fn close(&mut self, handle: Handle) {
        let Some(stream) = self.slab.get_mut(handle) else {
            return;
        };
        stream.role = Role::Waiting;
        if stream.state == State::Planned {
            self.slab.discard(handle);
        } else {
            stream.state = State::Closing;
            self.queue(handle);
        }
    }

    /// A whole frame went one way or the other: the stream has its full time again.
    pub fn moved(&mut self, now: Instant, handle: Handle) {
        if let Some(stream) = self.slab.get_mut(handle) {
            (stream.moved, stream.begun) = (now, true);
            self.wake.lower(stream.deadline());
        }
    }

    /// Gives a stream another role, polls it, and starts its time anew.
    pub fn assign(&mut self, now: Instant, handle: Handle, role: Role) {
        if let Some(stream) = self.slab.get_mut(handle) {
            stream.role = role;
            stream.used = now;
        }
        self.moved(now, handle);
        self.queue(handle);
    }

    /// Puts a stream at the end of the queue, unless it is in it.
    pub fn queue(&mut self, handle: Handle) {
        if self.slab.get(handle).is_none_or(|stream| stream.queued) {
            return;
        }
        if self.queue.is_full() {
            self.sweep_queue();
        }
        // There is a place for each stream, and this one has none yet.
        if self.queue.push_back(handle).is_ok()
            && let Some(stream) = self.slab.get_mut(handle)
        {
            stream.queued = true;
        }
    }

    /// Drops the places of streams that the host closed while they were in the queue.
    fn sweep_queue(&mut self) {
        for _ in 0..self.queue.len() {
            if let Some(handle) = self.queue.pop_front()
                && self.slab.get(handle).is_some()
            {
                // A place became free just now.
                let _ = self.queue.push_back(handle);
            }
        }
    }

    /// Takes the next stream out of the queue. After a `Write`, whoever wrote queues it again.
    pub fn next_turn(&mut self) -> Option<Turn> {
        while let Some(handle) = self.queue.pop_front() {
            let Some(stream) = self.slab.get_mut(handle) else {
                continue;
            };
            stream.queued = false;
            match stream.state {
                State::Planned => {
                    let Some(to) = stream.peer.to_socket_addr() else {
                        continue;
                    };
                    stream.state = State::Opening;
                    return Some(Turn::Open(handle, to));
                }
                State::Closing => {
                    self.slab.discard(handle);
                    return Some(Turn::Close(StreamId(handle.to_bits())));
                }
                State::Open => return Some(Turn::Write(handle, stream.room)),
                State::Opening => {}
            }
        }
        None
    }

    /// A frame of `len` bytes was written: takes it off the room, and queues the stream for the next one.
    pub fn wrote(&mut self, now: Instant, handle: Handle, len: usize) {
        if let Some(stream) = self.slab.get_mut(handle) {
            stream.room = stream.room.saturating_sub(len);
            if stream.incoming {
                stream.used = now;
            }
        }
        self.moved(now, handle);
        self.queue(handle);
    }

    /// Whether `len` bytes fit the room that the host granted.
    #[must_use]
    pub fn has_room(&self, handle: Handle, len: usize) -> bool {
        self.slab
            .get(handle)
            .is_some_and(|s| s.state == State::Open && s.room >= len)
    }

    /// Finds a stream that did not move in time; false in the pair: it never opened. Close it.
    #[must_use]
    pub fn overdue(&mut self, now: Instant) -> Option<(Handle, bool)> {
        if !self.wake.is_due(now) {
            return None;
        }
        self.wake = Deadline::NEVER;
        let mut due = None;
        for (handle, stream) in self.slab.iter().filter(|(_, s)| s.state != State::Closing) {
            if stream.deadline() <= now && due.is_none() {
                due = Some((handle, stream.state == State::Open));
            }
            self.wake.lower(stream.deadline());
        }
        due
    }

    /// When [`overdue`](Self::overdue) is next worth a call. May be too early.
    #[must_use]
    pub const fn next_deadline(&self) -> Deadline {
        self.wake
    }

    /// Shows a stream that is not closing.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&Stream> {
        self.slab.get(handle).filter(|s| s.state != State::Closing)
    }

    /// Shows the role of a stream that is not closing, to change it.
    #[must_use]
    pub fn role_mut(&mut self, handle: Handle) -> Option<&mut Role> {
        self.slab
            .get_mut(handle)
            .filter(|s| s.state != State::Closing)
            .map(|s| &mut s.role)
    }

    /// Whether it is no wonder that a stream is quiet: a peer's, with nothing under way after what was.
    #[must_use]
    pub fn is_idle(&self, handle: Handle) -> bool {
        self.slab
            .get(handle)
            .is_some_and(|s| s.begun && s.role == Role::Waiting)
    }

    /// How many streams there are, and how many fit.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.slab.len(), self.slab.capacity())
    }
}

impl Stream {
    fn new(now: Instant, peer: PackedAddr, role: Role, state: State) -> Self {
        Self {
            peer,
            role,
            rtt_ms: 0,
            used: now,
            state,
            incoming: false,
            begun: false,
            queued: false,
            room: 0,
            moved: now,
        }
    }

    /// When it has to have moved.
    fn deadline(&self) -> Instant {
        let within_ms = match (self.state, self.role) {
            (State::Planned | State::Opening, _) => OPEN_MS,
            (State::Open | State::Closing, Role::Waiting) if self.begun => IDLE_MS,
            (State::Open | State::Closing, Role::Waiting) => FIRST_FRAME_MS,
            (_, Role::Serving(_) | Role::Replying { .. }) => PROGRESS_MS,
            (_, Role::Child { .. } | Role::Holder { .. } | Role::Courier(_)) => {
                stall_ms(self.rtt_ms)
            }
        };
        self.moved.after_ms(within_ms)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::plan::Board;

    const T0: Instant = Instant::from_s(100);

    fn peer(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7827))
    }

    fn id(handle: Handle) -> StreamId {
        StreamId(handle.to_bits())
    }

    /// A stream that this node opened, and the host too.
    fn opened(streams: &mut Streams<Board>, last: u8) -> Handle {
        let handle = streams.open(T0, peer(last).into(), Role::Waiting).unwrap();
        assert_eq!(streams.next_turn(), Some(Turn::Open(handle, peer(last))));
        assert!(streams.opened(T0.after_ms(40), id(handle)));
        assert_eq!(streams.next_turn(), Some(Turn::Write(handle, 0)));
        handle
    }

    #[test]
    fn the_host_is_told_to_open_once_and_to_close_once() {
        let mut streams = Streams::<Board>::EMPTY;
        let handle = opened(&mut streams, 1);
        assert_eq!(streams.get(handle).unwrap().rtt_ms, 40);
        assert!(!streams.opened(T0, id(handle)));
        streams.close(handle);
        assert_eq!(streams.by_id(id(handle)), None);
        assert_eq!(streams.next_turn(), Some(Turn::Close(id(handle))));
        assert_eq!(streams.next_turn(), None);
        assert_eq!(streams.closed(id(handle)), None);
        assert_eq!(streams.used().0, 0);
    }

    #[test]
    fn a_stream_that_was_never_announced_is_closed_silently() {
        let mut streams = Streams::<Board>::EMPTY;
        let handle = streams.open(T0, peer(1).into(), Role::Waiting).unwrap();
        streams.close(handle);
        assert_eq!(streams.next_turn(), None);
        assert_eq!(streams.used().0, 0);
    }

    #[test]
    fn peers_leave_room_for_own_streams() {
        let mut streams = Streams::<Board>::EMPTY;
        let first = streams.accept(T0, peer(1)).unwrap();
        streams.accept(T0, peer(2)).unwrap();
        assert_eq!(streams.accept(T0, peer(3)), Err(Busy));
        // One that has said nothing for a while gives way.
        let later = T0.after_ms(YIELD_MS);
        assert!(streams.accept(later, peer(3)).is_ok());
        assert_eq!(streams.next_turn(), Some(Turn::Close(id(first))));
        assert!(streams.open(later, peer(9).into(), Role::Waiting).is_ok());
    }

    #[test]
    fn one_source_has_no_more_than_its_share() {
        let mut streams = Streams::<Board>::EMPTY;
        let first = streams.accept(T0, peer(1)).unwrap();
        streams.accept(T0, peer(1)).unwrap();
        assert_eq!(streams.accept(T0.after_ms(YIELD_MS), peer(1)), Err(Busy));
        assert_eq!(streams.closed(id(first)), Some((Role::Waiting, true)));
        assert!(streams.accept(T0, peer(1)).is_ok());
    }

    #[test]
    fn a_stream_that_does_not_move_is_found_once_its_time_is_up() {
        let mut streams = Streams::<Board>::EMPTY;
        let silent = streams.accept(T0, peer(1)).unwrap();
        let never = streams.open(T0, peer(2).into(), Role::Waiting).unwrap();
        assert_eq!(streams.next_deadline().get(), Some(T0.after_ms(OPEN_MS)));
        assert_eq!(streams.overdue(T0.after_ms(OPEN_MS - 1)), None);
        assert_eq!(streams.overdue(T0.after_ms(OPEN_MS)), Some((never, false)));
        streams.close(never);
        assert_eq!(streams.overdue(T0.after_ms(OPEN_MS)), None);
        assert_eq!(
            streams.next_deadline().get(),
            Some(T0.after_ms(FIRST_FRAME_MS))
        );
        assert_eq!(
            streams.overdue(T0.after_ms(FIRST_FRAME_MS)),
            Some((silent, true))
        );
    }

    #[test]
    fn room_is_what_the_host_granted_less_what_was_written() {
        let mut streams = Streams::<Board>::EMPTY;
        let handle = opened(&mut streams, 1);
        streams.writable(id(handle), 100);
        assert_eq!(streams.next_turn(), Some(Turn::Write(handle, 100)));
        streams.wrote(T0, handle, 60);
        assert!(streams.has_room(handle, 40) && !streams.has_room(handle, 41));
        assert_eq!(streams.next_turn(), Some(Turn::Write(handle, 40)));
        assert_eq!(streams.next_turn(), None);
    }

    #[test]
    fn streams_that_come_and_go_between_drains_do_not_crowd_the_queue() {
        let mut streams = Streams::<Board>::EMPTY;
        for _ in 0..20 {
            let handle = streams.accept(T0, peer(1)).unwrap();
            streams.writable(id(handle), 9);
            streams.closed(id(handle));
        }
        let handle = streams.accept(T0, peer(1)).unwrap();
        streams.writable(id(handle), 9);
        assert_eq!(streams.next_turn(), Some(Turn::Write(handle, 9)));
    }

    #[test]
    fn patience_grows_with_the_round_trip() {
        assert_eq!(
            (stall_ms(0), stall_ms(250), stall_ms(251)),
            (1_000, 1_000, 1_004)
        );
        assert_eq!(stall_ms(u32::MAX), 4 * u64::from(u32::MAX));
    }
}
