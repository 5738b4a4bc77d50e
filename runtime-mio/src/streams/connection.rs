//! One connection: its socket, its buffers, and how it is served. Owns what one connection may hold; the table of them is
//! [`super::Streams`].

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use strandline_core::addr::Source;
use strandline_core::output::StreamId;
use strandline_core::time::Instant;
use strandline_core::wire::frame::Frame;
use strandline_core::wire::{FRAME_LEN_MAX, FRAME_PREFIX_LEN};

use super::{IDLE_MS, Input};

/// Room in bytes for what arrived and core has not taken.
pub(super) const RECEIVE_LEN: usize = 4096;
/// Room in bytes for what core wrote and the system has not taken.
pub const SEND_LEN: usize = 16 * 1024;
/// Reads thrown away from a closed connection before it waits for its next turn.
const DISCARD_READS: u32 = 16;

const _: () = assert!(RECEIVE_LEN >= 2 * (FRAME_LEN_MAX + FRAME_PREFIX_LEN));
const _: () = assert!(SEND_LEN >= 2 * (FRAME_LEN_MAX + FRAME_PREFIX_LEN));

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The handshake is under way.
    Connecting,
    /// Core does not know of it yet.
    Accepting,
    /// Bytes flow.
    Open,
    /// Core has closed it; the last bytes are on their way.
    Flushing,
    /// They are gone, and our half is closed. What the peer still sends is thrown away: closing on unread bytes would make
    /// the system throw away our last bytes as well.
    Lingering,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) state: State,
    /// Core's name for it while core knows it.
    pub(super) stream: Option<StreamId>,
    /// Whose quota it counts against, if a peer opened it.
    pub(super) inbound_from: Option<Source>,
    /// The system may have more to read, or room to write. It tells only once.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has closed its half.
    pub(super) ended: bool,
    /// In the queue of those to be served.
    pub(super) queued: bool,
    /// Core did not take the frame that is there.
    pub(super) blocked: bool,
    pub(super) unread: Unread,
    pub(super) unsent: VecDeque<u8>,
    /// The room that core was told of, less what it wrote since.
    pub(super) told: usize,
    pub(super) deadline: Instant,
}

/// What arrived and was not taken: a fixed buffer that moves its content to the front when it must.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Unread {
    /// Nothing, and no memory for it yet.
    pub(super) const EMPTY: Self = Self {
        bytes: Vec::new(),
        start: 0,
        end: 0,
    };

    /// What arrived.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// All that core can do with it is wait for more bytes.
    fn lacks_a_frame(&self) -> bool {
        matches!(Frame::split(self.as_slice()), Ok(None))
    }

    /// Core took so many bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once, as much as fits; `Ok(0)` is the end of the stream. Call only when it lacks a frame: then there is room.
    fn read_from(&mut self, socket: &mut TcpStream) -> io::Result<usize> {
        // Most connections of a big node never say anything twice: they get their buffer when they first do.
        self.bytes.resize(RECEIVE_LEN, 0);
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        let len = socket.read(self.bytes.get_mut(self.end..).unwrap_or_default())?;
        self.end = self.end.saturating_add(len);
        Ok(len)
    }
}

/// What serving a connection came to.
pub(super) enum Served {
    /// Core should hear this; then serve it again.
    Input(Input),
    /// Nothing more until the system or core says something.
    Idle,
    /// The peer closed its half, and core took all that it can take: core hears that it is over, and what core wrote is
    /// still sent.
    Ended,
    /// It is over; core hears of it if it knows it.
    Over,
}

impl Connection {
    /// Does what there is to do, up to the next thing that core should hear.
    pub(super) fn serve(&mut self, now: Instant) -> Served {
        match self.state {
            State::Connecting => self.serve_connecting(now),
            State::Accepting => Served::Idle,
            State::Open => self.serve_open(now).unwrap_or(Served::Over),
            State::Flushing | State::Lingering => self.serve_closed(),
        }
    }

    fn serve_connecting(&mut self, now: Instant) -> Served {
        let (true, Some(stream)) = (self.writable, self.stream) else {
            return Served::Idle;
        };
        if !matches!(self.socket.take_error(), Ok(None)) {
            return Served::Over;
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                self.state = State::Open;
                self.deadline = now.after_ms(IDLE_MS);
                Served::Input(Input::Opened(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.writable = false;
                Served::Idle
            }
            Err(_) => Served::Over,
        }
    }

    fn serve_open(&mut self, now: Instant) -> io::Result<Served> {
        let Some(stream) = self.stream else {
            return Ok(Served::Over);
        };
        if self.flush()? {
            self.deadline = now.after_ms(IDLE_MS);
        }
        let room = SEND_LEN.saturating_sub(self.unsent.len());
        if room > self.told {
            self.told = room;
            return Ok(Served::Input(Input::Writable(stream, room)));
        }
        while self.readable && !self.ended && self.unread.lacks_a_frame() {
            match self.unread.read_from(&mut self.socket) {
                Ok(0) => self.ended = true,
                Ok(_) => self.deadline = now.after_ms(IDLE_MS),
                Err(error) => self.readable = goes_on(error)?,
            }
        }
        if self.unread.lacks_a_frame() {
            return Ok(if self.ended {
                Served::Ended
            } else {
                Served::Idle
            });
        }
        Ok(if self.blocked {
            Served::Idle
        } else {
            Served::Input(Input::Readable(stream))
        })
    }

    fn serve_closed(&mut self) -> Served {
        if self.flush().is_err() {
            return Served::Over;
        }
        if self.state == State::Flushing && self.unsent.is_empty() {
            if self.socket.shutdown(Shutdown::Write).is_err() {
                return Served::Over;
            }
            self.state = State::Lingering;
        }
        let mut discarded = [0; RECEIVE_LEN];
        for _ in 0..DISCARD_READS {
            if !self.readable {
                return Served::Idle;
            }
            match self.socket.read(&mut discarded) {
                Ok(0) if self.state == State::Lingering => return Served::Over,
                Ok(0) => self.readable = false,
                Ok(_) => {}
                Err(error) => match goes_on(error) {
                    Ok(readable) => self.readable = readable,
                    Err(_) => return Served::Over,
                },
            }
        }
        // It sends faster than is worth reading: give it up.
        Served::Over
    }

    /// Sends what the system takes; whether it took anything.
    fn flush(&mut self) -> io::Result<bool> {
        let before = self.unsent.len();
        while self.writable && !self.unsent.is_empty() {
            let (front, _) = self.unsent.as_slices();
            match self.socket.write(front) {
                Ok(len) => {
                    self.unsent.drain(..len);
                }
                Err(error) => self.writable = goes_on(error)?,
            }
        }
        Ok(self.unsent.len() < before)
    }
}

/// Whether to try again at once after this error; `Err` when the connection is broken.
fn goes_on(error: io::Error) -> io::Result<bool> {
    let kind = error.kind();
    if kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::Interrupted {
        Ok(kind == io::ErrorKind::Interrupted)
    } else {
        Err(error)
    }
}
