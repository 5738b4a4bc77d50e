//! The TCP connections under core's streams. Owns their sockets, buffers, caps and time-outs; what the bytes mean is core's
//! business. Invariants: a connection's buffers never grow beyond their fixed size, core is only ever promised room that is
//! there, and a name that core has given up is never mentioned to it again.
//!
//! The loop pulls what core should hear with [`Streams::poll_input`], one at a time, in turn over the connections, so that
//! none starves another.

mod connection;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use strandline_core::addr::{Source, source_of};
use strandline_core::output::StreamId;
use strandline_core::time::Instant;

use crate::net::canonical;
use connection::{Connection, Served, State, Unread};

pub use connection::SEND_LEN;

/// Connections at one time.
pub const STREAMS_MAX: usize = 1024;
/// Of these, opened by peers: the rest is for what this node opens.
pub const INBOUND_MAX: usize = 768;
/// Of these, from one source.
pub const INBOUND_PER_SOURCE_MAX: u32 = 32;
/// How long a connection may take to open, in ms.
const CONNECT_MS: u64 = 3_000;
/// How long nothing may move on an open connection, in ms.
const IDLE_MS: u64 = 60_000;
/// How long a closed one may take to get rid of its last bytes, in ms.
const LINGER_MS: u64 = 2_000;
/// How often time-outs are looked for, in ms.
const SWEEP_MS: u64 = 500;
/// How long to wait after the system would not accept, in ms: it may be out of descriptors.
const ACCEPT_PAUSE_MS: u64 = 200;

const _: () = assert!(INBOUND_MAX < STREAMS_MAX);

/// Names a connection to this table until core has named it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(usize);

/// What core should hear next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// `accept_stream`; answer with [`Streams::accepted`] or [`Streams::refuse`].
    Accept(Slot, SocketAddr),
    /// `stream_opened`.
    Opened(StreamId),
    /// `stream_readable` with [`Streams::unread`]; answer with [`Streams::consumed`].
    Readable(StreamId),
    /// `stream_writable` with this much room.
    Writable(StreamId, usize),
    /// `stream_closed`. The name is free.
    Closed(StreamId),
}

/// How many connections did not come about, and why.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals {
    /// Closed at once because a cap was reached, or core was busy.
    pub full: u64,
    /// Did not open in time, or were refused.
    pub unopened: u64,
    /// Closed because nothing moved.
    pub idle: u64,
}

/// The table of connections.
#[derive(Debug)]
pub struct Streams {
    registry: Registry,
    listener: TcpListener,
    first_token: usize,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    by_stream: HashMap<StreamId, usize>,
    by_source: HashMap<Source, u32>,
    inbound: usize,
    queue: VecDeque<usize>,
    blocked: Vec<usize>,
    /// Streams that core believes in and that are gone.
    gone: VecDeque<StreamId>,
    /// The listener may have more to accept.
    acceptable: bool,
    accept_after: Option<Instant>,
    sweep_at: Option<Instant>,
    refusals: Refusals,
}

impl Streams {
    /// Takes a bound listener. It is told of under `listener_token`, connections under the tokens from `first_token` on.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(
        mut listener: TcpListener,
        registry: Registry,
        listener_token: Token,
        first_token: usize,
    ) -> io::Result<Self> {
        registry.register(&mut listener, listener_token, Interest::READABLE)?;
        Ok(Self {
            registry,
            listener,
            first_token,
            slots: Vec::new(),
            free: Vec::new(),
            by_stream: HashMap::new(),
            by_source: HashMap::new(),
            inbound: 0,
            queue: VecDeque::new(),
            blocked: Vec::new(),
            gone: VecDeque::new(),
            acceptable: true,
            accept_after: None,
            sweep_at: None,
            refusals: Refusals::default(),
        })
    }

    /// How many connections there are, those included that core has closed and that are on their way out.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// What did not come about.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// The listener has connections to accept.
    pub fn on_acceptable(&mut self) {
        self.acceptable = true;
    }

    /// The system says something about a connection.
    pub fn on_ready(&mut self, event: &Event) {
        let Some(slot) = event.token().0.checked_sub(self.first_token) else {
            return;
        };
        let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let failed = event.is_error();
        connection.readable |= failed || event.is_readable() || event.is_read_closed();
        connection.writable |= failed || event.is_writable() || event.is_write_closed();
        self.enqueue(slot);
    }

    /// Begins to open a stream for core. When the cap is reached or the system refuses, `Closed` follows.
    pub fn open(&mut self, now: Instant, stream: StreamId, to: SocketAddr) {
        if self.count() >= STREAMS_MAX {
            self.refusals.full += 1;
            self.gone.push_back(stream);
            return;
        }
        match TcpStream::connect(to) {
            Ok(socket) => {
                if let Some(slot) = self.insert(now, socket, State::Connecting, None) {
                    self.name(slot, stream);
                    return;
                }
            }
            Err(error) => log::debug!("cannot open a stream to {to}: {error}"),
        }
        self.refusals.unopened += 1;
        self.gone.push_back(stream);
    }

    /// Appends a frame, which must fit the room that core was told of; otherwise the connection breaks.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let Some((slot, connection)) = self.connection(stream) else {
            return;
        };
        if bytes.len() > connection.told {
            log::error!("a stream was written to beyond its room");
            self.remove(slot);
            return;
        }
        connection.told -= bytes.len();
        connection.unsent.extend(bytes);
        self.enqueue(slot);
    }

    /// Core is done with a stream: what it wrote is still sent, then the connection is closed.
    pub fn close(&mut self, now: Instant, stream: StreamId) {
        // Core may close what it has not yet heard to be gone.
        self.gone.retain(|gone| *gone != stream);
        let Some((slot, connection)) = self.connection(stream) else {
            return;
        };
        let opened = connection.state == State::Open;
        connection.stream = None;
        self.by_stream.remove(&stream);
        if opened {
            self.part(now, slot);
        } else {
            self.remove(slot);
        }
    }

    /// Core has taken an accepted connection under this name.
    pub fn accepted(&mut self, slot: Slot, stream: StreamId) {
        if let Some(connection) = self.slots.get_mut(slot.0).and_then(Option::as_mut) {
            connection.state = State::Open;
            self.name(slot.0, stream);
            self.enqueue(slot.0);
        }
    }

    /// Core does not want an accepted connection.
    pub fn refuse(&mut self, slot: Slot) {
        self.refusals.full += 1;
        self.remove(slot.0);
    }

    /// What arrived on a stream and was not taken.
    #[must_use]
    pub fn unread(&self, stream: StreamId) -> &[u8] {
        self.by_stream
            .get(&stream)
            .and_then(|slot| self.slots.get(*slot)?.as_ref())
            .map_or(&[], |connection| connection.unread.as_slice())
    }

    /// Core took so many bytes. After 0 it is not offered them again before [`Self::offer_again`].
    pub fn consumed(&mut self, stream: StreamId, len: usize) {
        let Some((slot, connection)) = self.connection(stream) else {
            return;
        };
        if len == 0 {
            connection.blocked = true;
            self.blocked.push(slot);
        } else {
            connection.unread.consume(len);
        }
    }

    /// Core has heard something: it may want now what it did not want before.
    pub fn offer_again(&mut self) {
        for slot in std::mem::take(&mut self.blocked) {
            if let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut)
                && std::mem::take(&mut connection.blocked)
            {
                self.enqueue(slot);
            }
        }
    }

    /// Whether core left something lying.
    #[must_use]
    pub fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Whether [`Self::poll_input`] has something to do without the system saying more.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
            || !self.gone.is_empty()
            || (self.acceptable && self.accept_after.is_none())
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        strandline_core::time::earliest(self.sweep_at, self.accept_after)
    }

    /// Closes what took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.accept_after.is_some_and(|after| after <= now) {
            self.accept_after = None;
        }
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        for slot in 0..self.slots.len() {
            let Some(Some(connection)) = self.slots.get(slot) else {
                continue;
            };
            if connection.deadline > now {
                continue;
            }
            match connection.state {
                State::Connecting => self.refusals.unopened += 1,
                State::Open | State::Accepting => self.refusals.idle += 1,
                State::Flushing | State::Lingering => {}
            }
            self.remove(slot);
        }
        self.sweep_at = (self.count() > 0).then(|| now.after_ms(SWEEP_MS));
    }

    /// What core should hear next; `None` when there is nothing before the next [`Self::on_ready`]. The caller decides how
    /// many of these make a turn.
    pub fn poll_input(&mut self, now: Instant) -> Option<Input> {
        loop {
            if let Some(stream) = self.gone.pop_front() {
                return Some(Input::Closed(stream));
            }
            let Some(slot) = self.queue.pop_front() else {
                return self.accept(now);
            };
            let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            connection.queued = false;
            let state = connection.state;
            match connection.serve(now) {
                Served::Input(input) => {
                    self.enqueue(slot);
                    return Some(input);
                }
                Served::Idle => {}
                Served::Ended => self.part(now, slot),
                Served::Over => {
                    if state == State::Connecting {
                        self.refusals.unopened += 1;
                    }
                    self.remove(slot);
                }
            }
        }
    }

    fn accept(&mut self, now: Instant) -> Option<Input> {
        while self.acceptable && self.accept_after.is_none() {
            match self.listener.accept() {
                Ok((socket, from)) => {
                    let from = canonical(from);
                    let source = source_of(from);
                    let of_source = self.by_source.get(&source).copied().unwrap_or(0);
                    let full = self.count() >= STREAMS_MAX
                        || self.inbound >= INBOUND_MAX
                        || of_source >= INBOUND_PER_SOURCE_MAX;
                    if full {
                        // Dropping it closes it.
                        self.refusals.full += 1;
                        continue;
                    }
                    if let Some(slot) = self.insert(now, socket, State::Accepting, Some(source)) {
                        return Some(Input::Accept(Slot(slot), from));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.acceptable = false,
                // It came and went.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    self.accept_after = Some(now.after_ms(ACCEPT_PAUSE_MS));
                }
            }
        }
        None
    }

    fn connection(&mut self, stream: StreamId) -> Option<(usize, &mut Connection)> {
        let slot = *self.by_stream.get(&stream)?;
        Some((slot, self.slots.get_mut(slot)?.as_mut()?))
    }

    fn name(&mut self, slot: usize, stream: StreamId) {
        if let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) {
            connection.stream = Some(stream);
            self.by_stream.insert(stream, slot);
        }
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    /// Parts core and a connection, which goes on to send what core wrote.
    fn part(&mut self, now: Instant, slot: usize) {
        if let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) {
            if let Some(stream) = connection.stream.take() {
                self.by_stream.remove(&stream);
                self.gone.push_back(stream);
            }
            connection.state = State::Flushing;
            connection.deadline = now.after_ms(LINGER_MS);
            self.enqueue(slot);
        }
    }

    /// Puts a connection into the table and asks the system to tell of it; `None` when the system refuses.
    fn insert(
        &mut self,
        now: Instant,
        mut socket: TcpStream,
        state: State,
        inbound_from: Option<Source>,
    ) -> Option<usize> {
        let slot = self.free.last().copied().unwrap_or(self.slots.len());
        let token = Token(self.first_token.saturating_add(slot));
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut socket, token, both) {
            log::warn!("cannot watch a connection: {error}");
            return None;
        }
        // Frames are written whole, and somebody waits for each of them.
        if let Err(error) = socket.set_nodelay(true) {
            log::debug!("cannot hurry a connection: {error}");
        }
        let patience = match state {
            State::Connecting => CONNECT_MS,
            State::Accepting | State::Open => IDLE_MS,
            State::Flushing | State::Lingering => LINGER_MS,
        };
        let connection = Connection {
            socket,
            state,
            stream: None,
            inbound_from,
            readable: false,
            writable: false,
            ended: false,
            queued: false,
            blocked: false,
            unread: Unread::EMPTY,
            unsent: VecDeque::new(),
            told: 0,
            deadline: now.after_ms(patience),
        };
        self.free.pop();
        match self.slots.get_mut(slot) {
            Some(vacant) => *vacant = Some(connection),
            None => self.slots.push(Some(connection)),
        }
        if let Some(source) = inbound_from {
            self.inbound += 1;
            *self.by_source.entry(source).or_insert(0) += 1;
        }
        self.sweep_at = self.sweep_at.or(Some(now.after_ms(SWEEP_MS)));
        Some(slot)
    }

    /// Takes a connection out of the table and closes it; core will hear of it if it knows it.
    fn remove(&mut self, slot: usize) {
        let Some(mut connection) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.free.push(slot);
        if let Some(stream) = connection.stream {
            self.by_stream.remove(&stream);
            self.gone.push_back(stream);
        }
        if let Some(source) = connection.inbound_from {
            self.inbound = self.inbound.saturating_sub(1);
            if let Some(count) = self.by_source.get_mut(&source) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.by_source.remove(&source);
                }
            }
        }
        if let Err(error) = self.registry.deregister(&mut connection.socket) {
            log::debug!("a connection was not watched: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
