//! The TCP connections under core's streams. Owns their table, their time-outs and the spare listener; what the bytes mean
//! is core's business. Invariants: a place of the table listens or soon will, since smoltcp has no queue of connections to
//! be accepted; core is only promised room that is there; a stream that core has forgotten is never mentioned to it again.
//!
//! A place goes round: it listens; a peer connects or core opens; bytes flow; it is closed, and listens again.

use core::net::SocketAddr;

use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::IpEndpoint;
use strandline_core::output::StreamId;
use strandline_core::time::{Instant, earliest};
use strandline_core::wire::frame::Frame;

use crate::convert::socket_addr;
use crate::lanes::unheld;
use crate::memory::BUFFER_LEN_MIN;

/// How long a handshake may take, in ms, whoever began it.
const HANDSHAKE_MS: u64 = 3_000;
/// How long a closed connection may take to get rid of its last bytes, in ms.
const LINGER_MS: u64 = 2_000;
/// How long a reset that is owed to a peer may keep a place, in ms: its hardware address may not be known.
const RESET_MS: u64 = 100;

/// One place of the table.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Option<SocketHandle>,
    role: Role,
    /// The room that core was told of, less what it wrote since.
    told: usize,
    /// Core did not take the frame that is there.
    blocked: bool,
    /// The end of its role; `None` for roles that core ends.
    until: Option<Instant>,
    /// A stream that could not be opened; core has not heard it yet.
    unopened: Option<StreamId>,
}

/// What a place is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Waiting for a peer, whose handshake may be under way.
    Listening,
    /// Being opened for core.
    Opening(StreamId),
    /// Bytes flow.
    Open(StreamId),
    /// Core knows it no more; the last bytes are on their way.
    Closing,
}

/// What core should hear next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// `accept_stream`; answer with [`Connections::accepted`].
    Accept(SocketAddr),
    /// `stream_opened`.
    Opened(StreamId),
    /// `stream_writable` with this much room.
    Writable(StreamId, usize),
    /// `stream_readable` with what [`Connections::offer`] shows.
    Readable(StreamId),
    /// `stream_closed`. The name is free.
    Closed(StreamId),
}

impl Connection {
    /// A place without a socket.
    pub(crate) const EMPTY: Self = Self {
        socket: None,
        role: Role::Listening,
        told: 0,
        blocked: false,
        until: None,
        unopened: None,
    };
}

/// The table.
#[derive(Debug)]
pub(crate) struct Connections<'a> {
    places: &'a mut [Connection],
    /// Where peers connect to.
    port: u16,
    /// Where the next connection comes from.
    next_port: u16,
    /// Connections of peers that were turned away or given up before core heard of them.
    pub(crate) refused: u32,
}

/// The ports from which connections are opened (RFC 6335, section 6).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49_152..=65_535;

impl<'a> Connections<'a> {
    /// Is to listen at `port`. `random` chooses where outgoing ports begin.
    pub(crate) fn new(places: &'a mut [Connection], port: u16, random: u16) -> Self {
        Self {
            places,
            port,
            next_port: random | *EPHEMERAL.start(),
            refused: 0,
        }
    }

    /// Listens in a place, with these buffers.
    pub(crate) fn add(
        &mut self,
        sockets: &mut SocketSet<'a>,
        place: usize,
        received: &'a mut [u8],
        unsent: &'a mut [u8],
    ) {
        let mut socket = Socket::new(SocketBuffer::new(received), SocketBuffer::new(unsent));
        // Frames are written whole, and somebody waits for each of them.
        socket.set_nagle_enabled(false);
        listen(&mut socket, self.port);
        if let Some(place) = self.places.get_mut(place) {
            *place = Connection {
                socket: Some(sockets.add(socket)),
                ..Connection::EMPTY
            };
        }
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Streams that core knows of.
    pub(crate) fn in_use(&self) -> usize {
        let used = |place: &&Connection| matches!(place.role, Role::Opening(_) | Role::Open(_));
        self.places.iter().filter(used).count()
    }

    /// Begins to open a stream for core. Without a place beside the spare one, or without a way there, core hears that it
    /// is closed.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        sockets: &mut SocketSet<'a>,
        context: &mut Context,
        stream: StreamId,
        to: Option<IpEndpoint>,
    ) {
        let local = self.next_port;
        self.next_port = local.checked_add(1).unwrap_or(*EPHEMERAL.start());
        let spare = self.in_use().saturating_add(1) < self.places.len();
        let idle = self.places.iter().position(|place| {
            let state = |handle| sockets.get::<Socket<'_>>(handle).state();
            place.role == Role::Listening && place.socket.map(state) == Some(State::Listen)
        });
        let port = self.port;
        let idle = idle.and_then(|place| self.at(sockets, place));
        if let (true, Some((place, socket)), Some(to)) = (spare, idle, to) {
            socket.abort();
            if socket.connect(context, to, local).is_ok() {
                place.begin(Role::Opening(stream), Some(now.after_ms(HANDSHAKE_MS)));
                return;
            }
            listen(socket, port);
        }
        // Core opens no more than it has streams, and each of them gives up by itself.
        if let Some(place) = self.places.iter_mut().find(|p| p.unopened.is_none()) {
            place.unopened = Some(stream);
        }
    }

    /// Appends a frame, which must fit the room that core was told of; otherwise the connection breaks.
    pub(crate) fn write(&mut self, sockets: &mut SocketSet<'a>, stream: StreamId, bytes: &[u8]) {
        let Some((place, socket)) = self.of(sockets, stream) else {
            return;
        };
        place.told = place.told.saturating_sub(bytes.len());
        if socket.send_slice(bytes) != Ok(bytes.len()) {
            socket.abort();
        }
    }

    /// Core is done with a stream: what it wrote is still sent, then the connection is closed.
    pub(crate) fn close(&mut self, now: Instant, sockets: &mut SocketSet<'a>, stream: StreamId) {
        for place in &mut *self.places {
            // Core may close what it has not yet heard to be gone.
            place.unopened.take_if(|unopened| *unopened == stream);
        }
        if let Some((place, socket)) = self.of(sockets, stream) {
            place.part(now, socket);
        }
    }

    /// Core has answered [`Input::Accept`].
    pub(crate) fn accepted(
        &mut self,
        now: Instant,
        sockets: &mut SocketSet<'a>,
        place: usize,
        stream: Option<StreamId>,
    ) {
        let Some((place, socket)) = self.at(sockets, place) else {
            return;
        };
        if let Some(stream) = stream {
            place.begin(Role::Open(stream), None);
            return;
        }
        place.reset(now, socket);
        self.refused = self.refused.saturating_add(1);
    }

    /// What core should hear next of one place; `None` when there is nothing now.
    pub(crate) fn poll_input(
        &mut self,
        now: Instant,
        sockets: &mut SocketSet<'a>,
        place: usize,
    ) -> Option<Input> {
        let spare = self.in_use().saturating_add(1) < self.places.len();
        let port = self.port;
        let (place, socket) = self.at(sockets, place)?;
        if let Some(stream) = place.unopened.take() {
            return Some(Input::Closed(stream));
        }
        match place.role {
            Role::Listening => match place.poll_listening(now, socket, port) {
                Some(from) if spare => Some(Input::Accept(from)),
                Some(_) => {
                    place.reset(now, socket);
                    self.refused = self.refused.saturating_add(1);
                    None
                }
                None => None,
            },
            Role::Opening(stream) => place.poll_opening(now, socket, stream),
            Role::Open(stream) => place.poll_open(now, socket, stream),
            Role::Closing => {
                place.poll_closing(now, socket, port);
                None
            }
        }
    }

    /// Shows core what arrived: `take` gets a whole frame (or bytes that are none), and what else lies behind it in one
    /// piece; it answers how many bytes it took.
    pub(crate) fn offer(
        &mut self,
        sockets: &mut SocketSet<'a>,
        place: usize,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> bool {
        let Some((place, socket)) = self.at(sockets, place) else {
            return false;
        };
        let queued = socket.recv_queue();
        let piece = socket.peek(queued).unwrap_or_default();
        let taken = if lacks_a_frame(piece) {
            take_around(socket, take)
        } else {
            take(piece)
        };
        place.blocked = taken == 0;
        discard(socket, taken);
        !place.blocked
    }

    /// Core has heard something: it may want now what it did not want before. Whether there is any.
    pub(crate) fn offer_again(&mut self) -> bool {
        let mut any = false;
        for place in &mut *self.places {
            any |= core::mem::take(&mut place.blocked);
        }
        any
    }

    /// Sees to it that a place listens: if none does, the one that is missed least is cut off.
    pub(crate) fn keep_listening(&mut self, sockets: &mut SocketSet<'a>) {
        let mut least: Option<((u8, u64), usize)> = None;
        for (index, place) in self.places.iter().enumerate() {
            let Some(handle) = place.socket else {
                continue;
            };
            let state = sockets.get::<Socket<'_>>(handle).state();
            let worth = match (place.role, state) {
                (Role::Listening, State::Listen) => return,
                (Role::Opening(_) | Role::Open(_), _) => continue,
                // Core is about to hear of it.
                (Role::Listening, State::Established | State::CloseWait) => continue,
                (_, State::Closed | State::TimeWait) => 0,
                (Role::Listening, _) => 1,
                (Role::Closing, _) => 2,
            };
            let worth = (worth, place.until.map_or(0, Instant::as_us));
            if least.is_none_or(|(least, _)| worth < least) {
                least = Some((worth, index));
            }
        }
        let port = self.port;
        if let Some((_, index)) = least
            && let Some((place, socket)) = self.at(sockets, index)
        {
            place.recycle(socket, port);
            // The last peer may not exist: the next one does not wait for it.
            place.socket = place.socket.map(|socket| unheld(sockets, socket));
            self.refused = self.refused.saturating_add(1);
        }
    }

    /// When [`Self::poll_input`] has something to do though nothing arrives.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.places.iter().map(|place| place.until);
        deadlines.fold(None, earliest)
    }

    fn at<'s>(
        &mut self,
        sockets: &'s mut SocketSet<'a>,
        place: usize,
    ) -> Option<(&mut Connection, &'s mut Socket<'a>)> {
        let place = self.places.get_mut(place)?;
        let socket = sockets.get_mut(place.socket?);
        Some((place, socket))
    }

    fn of<'s>(
        &mut self,
        sockets: &'s mut SocketSet<'a>,
        stream: StreamId,
    ) -> Option<(&mut Connection, &'s mut Socket<'a>)> {
        let is = |place: &Connection| match place.role {
            Role::Opening(own) | Role::Open(own) => own == stream,
            Role::Listening | Role::Closing => false,
        };
        let place = self.places.iter().position(is)?;
        self.at(sockets, place)
    }
}

impl Connection {
    fn begin(&mut self, role: Role, until: Option<Instant>) {
        self.role = role;
        self.until = until;
        self.told = 0;
        self.blocked = false;
    }

    /// Cuts off whatever there is and listens.
    fn recycle(&mut self, socket: &mut Socket<'_>, port: u16) {
        socket.abort();
        listen(socket, port);
        self.begin(Role::Listening, None);
    }

    /// Who has connected, if somebody has.
    fn poll_listening(
        &mut self,
        now: Instant,
        socket: &mut Socket<'_>,
        port: u16,
    ) -> Option<SocketAddr> {
        match socket.state() {
            State::Listen => self.until = None,
            State::Established | State::CloseWait => {
                return socket.remote_endpoint().map(socket_addr);
            }
            State::SynReceived => {
                let until = *self.until.get_or_insert(now.after_ms(HANDSHAKE_MS));
                if until <= now {
                    self.recycle(socket, port);
                }
            }
            State::Closed
            | State::SynSent
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.recycle(socket, port),
        }
        None
    }

    fn poll_opening(
        &mut self,
        now: Instant,
        socket: &mut Socket<'_>,
        stream: StreamId,
    ) -> Option<Input> {
        if socket.may_send() {
            self.begin(Role::Open(stream), None);
            return Some(Input::Opened(stream));
        }
        let late = self.until.is_some_and(|until| until <= now);
        if late || !socket.is_open() {
            self.reset(now, socket);
            return Some(Input::Closed(stream));
        }
        None
    }

    fn poll_open(
        &mut self,
        now: Instant,
        socket: &mut Socket<'_>,
        stream: StreamId,
    ) -> Option<Input> {
        let room = match socket.may_send() {
            true => socket.send_capacity().saturating_sub(socket.send_queue()),
            false => 0,
        };
        if room > self.told {
            self.told = room;
            return Some(Input::Writable(stream, room));
        }
        if has_a_frame(socket) {
            return (!self.blocked).then_some(Input::Readable(stream));
        }
        // Nothing more comes, and what there is is no frame.
        let over = !matches!(socket.state(), State::Established);
        over.then(|| {
            self.part(now, socket);
            Input::Closed(stream)
        })
    }

    /// Parts core and the connection, which goes on to send what core wrote.
    fn part(&mut self, now: Instant, socket: &mut Socket<'_>) {
        socket.close();
        self.begin(Role::Closing, Some(now.after_ms(LINGER_MS)));
    }

    /// Breaks the connection off, and gives the peer's reset time to leave.
    #[inline(never)]
    fn reset(&mut self, now: Instant, socket: &mut Socket<'_>) {
        socket.abort();
        self.begin(Role::Closing, Some(now.after_ms(RESET_MS)));
    }

    fn poll_closing(&mut self, now: Instant, socket: &mut Socket<'_>, port: u16) {
        // What the peer still sends is thrown away, so that its end is heard.
        discard(socket, usize::MAX);
        let state = socket.state();
        // A closed one may still owe the peer a reset.
        let owes = socket.remote_endpoint().is_some();
        let gone = state == State::TimeWait || (state == State::Closed && !owes);
        if gone || self.until.is_none_or(|until| until <= now) {
            self.recycle(socket, port);
        }
    }
}

/// As [`Connections::offer`], of a frame that goes round the ring's end. A function of its own: its frame is for nobody
/// else.
#[inline(never)]
fn take_around(socket: &mut Socket<'_>, take: impl FnOnce(&[u8]) -> usize) -> usize {
    let mut whole = [0; BUFFER_LEN_MIN];
    let len = socket.peek_slice(&mut whole).unwrap_or(0);
    take(whole.get(..len).unwrap_or_default())
}

/// Throws away so many of the bytes that arrived, or all that there are.
#[inline(never)]
fn discard(socket: &mut Socket<'_>, mut count: usize) {
    while count > 0 {
        let part = socket.recv(|bytes| {
            let len = bytes.len().min(count);
            (len, len)
        });
        match part {
            Ok(len) if len > 0 => count = count.saturating_sub(len),
            _ => return,
        }
    }
}

/// Listens; the socket is closed, and the port is not zero.
fn listen(socket: &mut Socket<'_>, port: u16) {
    let _ = socket.listen(port);
}

/// All that core can do with these bytes is wait for more.
fn lacks_a_frame(bytes: &[u8]) -> bool {
    matches!(Frame::split(bytes), Ok(None))
}

/// Whether a whole frame has arrived, or something that is none.
fn has_a_frame(socket: &mut Socket<'_>) -> bool {
    let mut prefix = [0; strandline_core::wire::FRAME_PREFIX_LEN];
    let queued = socket.recv_queue();
    if socket.peek_slice(&mut prefix) != Ok(prefix.len()) {
        return false;
    }
    let len = usize::from(u16::from_be_bytes(prefix));
    // An empty or overlong one is for core to judge.
    len == 0
        || len > strandline_core::wire::FRAME_LEN_MAX
        || queued >= prefix.len().saturating_add(len)
}
