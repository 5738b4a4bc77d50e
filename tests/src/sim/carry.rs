//! Streams in motion: what the network does with connections, step by step.
//!
//! Owns the rules by which segments travel, stall, and break; [`super::streams`] owns their state. A connection takes a
//! round trip. It is refused where nothing listens, and silence is given up after [`GIVE_UP_US`]. A program that dies
//! resets its connections; a machine that vanishes does not, and its peers find out when what they send gets no answer.
//! The invariant: a node is told about a stream only under a name that it has not been told the end of.

use std::net::SocketAddr;

use strandline_core::output::StreamId;
use strandline_core::plan::{Plan, Server};
use strandline_core::wire::frame::Frame;
use strandline_core::wire::post::Post;
use strandline_core::wire::record::Record;

use super::machine::Program;
use super::node::{Input, Reply};
use super::plans::{Cryptography, Kind, SimServer};
use super::streams::{BUFFER_LEN_MIN, Conn, ConnId, End, SEGMENT_LEN_MAX, Segment, Side, Socket};
use super::world::{Event, HostId, World};

/// How long a machine tries to connect, or to get a segment through, in µs.
pub const GIVE_UP_US: u64 = 20_000_000;
/// The longest time between two tries, in µs.
const RETRY_MAX_US: u64 = 3_000_000;
/// The shortest.
const RETRY_MIN_US: u64 = 200_000;
/// Where the ports of openers begin.
const EPHEMERAL: u64 = 32_768;
/// The names that strangers have for streams, so that no node's are among them.
const STRANGERS: u64 = 1 << 63;
/// Marks those that they opened.
const OPENED: u64 = 1 << 62;

/// What happens to a connection next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// The request to connect arrives, if it does; it was first sent at this time.
    Connect(u64),
    /// What this end sent arrives at the other.
    Arrive(Side),
    /// This end learns that the other consumed so many bytes.
    Acknowledge(Side, usize),
    /// This end may have more room for its node.
    Grant(Side),
    /// This end learns that the connection is no more.
    Reset(Side),
}

impl World {
    fn stream_event(&mut self, delay_us: u64, conn: ConnId, signal: Signal) {
        self.queue
            .push(self.now_us() + delay_us, Event::Stream(conn, signal));
    }

    /// Smaller buffers on boards, where a frame barely fits.
    fn buffer_len(&self, host: u32) -> usize {
        let machine = &self.machines[host as usize];
        match (&machine.program, machine.setup.kind) {
            (Program::Stranger(_), _) | (_, Kind::Server) => 16 * BUFFER_LEN_MIN,
            (_, Kind::Board | Kind::TimelineBoard) => BUFFER_LEN_MIN + 500,
        }
    }

    pub(super) fn open_stream(&mut self, host: u32, stream: StreamId, to: SocketAddr) {
        self.connect(host, stream, to);
    }

    /// Begins to connect; the result is the connection's name.
    pub(super) fn connect(
        &mut self,
        host: u32,
        stream: StreamId,
        to: SocketAddr,
    ) -> Option<ConnId> {
        let Some(target) = self.machine_at(to) else {
            // Nobody has this address: silence, until the machine gives up. A connection to itself never answers.
            return self.dial(host, stream, host, None);
        };
        self.dial(host, stream, target, Some(target))
    }

    fn dial(&mut self, host: u32, stream: StreamId, to: u32, reach: Option<u32>) -> Option<ConnId> {
        let (ours, theirs) = (self.buffer_len(host), self.buffer_len(to));
        let incarnation = |world: &Self, of: u32| world.machines[of as usize].incarnation;
        let opener = End::new(host, incarnation(self, host), ours);
        let accepter = End::new(to, incarnation(self, to), theirs);
        let conn = self.streams.insert(Conn::new(opener, accepter));
        self.tally.streams += 1;
        if let Err(what) = self.streams.name(conn, Side::Opener, stream) {
            self.fail(HostId(host), what);
            return None;
        }
        let now_us = self.now_us();
        match reach {
            Some(target) => {
                let delay_us = self.network.segment(host, target);
                self.stream_event(delay_us, conn, Signal::Connect(now_us));
            }
            None => self.stream_event(GIVE_UP_US, conn, Signal::Reset(Side::Opener)),
        }
        Some(conn)
    }

    /// A node writes a frame.
    pub(super) fn write_stream(&mut self, host: u32, stream: StreamId, bytes: &[u8]) {
        let Some((conn, side)) = self.streams.find(host, stream) else {
            self.fail(
                HostId(host),
                format!("writes to {stream:?}, which is not open"),
            );
            return;
        };
        let granted = self
            .streams
            .get(conn)
            .map_or(0, |conn| conn.end(side).granted);
        if bytes.len() > granted {
            let len = bytes.len();
            self.fail(
                HostId(host),
                format!("writes {len} bytes to a stream with room for {granted}"),
            );
        }
        self.write(conn, side, bytes);
    }

    /// Puts bytes into an end's send buffer.
    pub(super) fn write(&mut self, conn: ConnId, side: Side, bytes: &[u8]) {
        if let Some(conn) = self.streams.get_mut(conn) {
            let end = conn.end_mut(side);
            end.granted = end.granted.saturating_sub(bytes.len());
            end.unsent.extend(bytes);
        }
        self.pump(conn, side);
    }

    /// A node closes a stream.
    pub(super) fn close_stream(&mut self, host: u32, stream: StreamId) {
        match self.streams.find(host, stream) {
            Some((conn, side)) => self.finish_end(conn, side),
            None => self.fail(
                HostId(host),
                format!("closes {stream:?}, which is not open"),
            ),
        }
    }

    /// An end is closed by its program: what was written is still sent.
    pub(super) fn finish_end(&mut self, conn: ConnId, side: Side) {
        if let Some(conn) = self.streams.get_mut(conn) {
            conn.end_mut(side).closing = true;
        }
        self.streams.forget(conn, side, Socket::Gone);
        self.pump(conn, side);
        self.streams.collect(conn);
    }

    /// Sends what the window allows.
    fn pump(&mut self, id: ConnId, side: Side) {
        let now_us = self.now_us();
        loop {
            let len = 1 + self.segments_random.index(SEGMENT_LEN_MAX);
            let Some(conn) = self.streams.get_mut(id) else {
                return;
            };
            if matches!(conn.end(Side::Accepter).socket, Socket::Pending) {
                break; // Not accepted yet.
            }
            let window_len = conn.end(side.peer()).window_len;
            let (from, to) = (conn.end(side).host, conn.end(side.peer()).host);
            let end = conn.end_mut(side);
            let Some(segment) = end.next_segment(len, window_len) else {
                break;
            };
            let last_us = end.flying.back().map_or(0, |(at, _)| *at);
            let at_us = last_us.max(now_us + self.network.segment(from, to));
            end.flying.push_back((at_us, segment));
            self.queue
                .push(at_us, Event::Stream(id, Signal::Arrive(side)));
        }
        if self
            .streams
            .get(id)
            .is_some_and(|conn| conn.end(side).room() > conn.end(side).granted)
        {
            self.stream_event(0, id, Signal::Grant(side));
        }
    }

    pub(super) fn signal(&mut self, conn: ConnId, signal: Signal) {
        match signal {
            Signal::Connect(since_us) => self.arrive_at_listener(conn, since_us),
            Signal::Arrive(side) => self.arrive(conn, side),
            Signal::Acknowledge(side, len) => {
                if let Some(conn) = self.streams.get_mut(conn) {
                    let end = conn.end_mut(side);
                    end.outstanding = end.outstanding.saturating_sub(len);
                }
                self.pump(conn, side);
            }
            Signal::Grant(side) => self.grant(conn, side),
            Signal::Reset(side) => self.reset(conn, side),
        }
    }

    fn grant(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.streams.get_mut(id) else {
            return;
        };
        let opened = !matches!(conn.end(Side::Accepter).socket, Socket::Pending);
        let end = conn.end_mut(side);
        let (room, host) = (end.room(), end.host);
        let Some(stream) = end.stream().filter(|_| opened && room > end.granted) else {
            return;
        };
        end.granted = room;
        self.input(host, &Input::Writable(stream, room));
    }

    fn arrive_at_listener(&mut self, id: ConnId, since_us: u64) {
        let Some(conn) = self.streams.get(id) else {
            return;
        };
        let (from, to) = (conn.end(Side::Opener).host, conn.end(Side::Accepter).host);
        if conn.end(Side::Opener).stream().is_none() {
            self.streams.forget(id, Side::Accepter, Socket::Dead);
            return;
        }
        let silent = matches!(self.machines[to as usize].program, Program::Vanished);
        if silent || !self.network.connects(from, to) {
            self.retry(id, Side::Opener, since_us, Signal::Connect(since_us));
            return;
        }
        let back_us = self.network.segment(to, from);
        let port = EPHEMERAL + id.0 % (65_536 - EPHEMERAL);
        let mut opener_addr = self.machines[from as usize].addr;
        opener_addr.set_port(u16::try_from(port).unwrap_or(u16::MAX));
        let incarnation = self.machines[to as usize].incarnation;
        let accepted = match &self.machines[to as usize].program {
            Program::Node(_) => match self.accept(to, opener_addr, id) {
                Reply::Accepted(Ok(_)) => true,
                _ => {
                    // The machine accepts before the node is asked: opened, and closed at once.
                    if let Some(conn) = self.streams.get_mut(id) {
                        let end = conn.end_mut(Side::Accepter);
                        end.socket = Socket::Gone;
                        end.closing = true;
                    }
                    true
                }
            },
            Program::Stranger(stranger) if stranger.listens => {
                // A name made of the connection's: it is free.
                self.streams
                    .name(id, Side::Accepter, StreamId(STRANGERS | id.0))
                    .is_ok()
            }
            Program::Stranger(_) | Program::Stopped | Program::Vanished => false,
        };
        if !accepted {
            self.streams.forget(id, Side::Accepter, Socket::Dead);
            self.stream_event(back_us, id, Signal::Reset(Side::Opener));
            return;
        }
        if let Some(conn) = self.streams.get_mut(id) {
            let end = conn.end_mut(Side::Accepter);
            end.incarnation = incarnation;
            let at_us = self.queue.now_us() + back_us;
            end.flying.push_front((at_us, Segment::Accepted));
            // What the node has written meanwhile comes after it.
            for (at, _) in end.flying.iter_mut().skip(1) {
                *at = (*at).max(at_us);
            }
            let times: Vec<u64> = end.flying.iter().map(|(at, _)| *at).collect();
            for at_us in times {
                self.queue
                    .push(at_us, Event::Stream(id, Signal::Arrive(Side::Accepter)));
            }
        }
        self.stream_event(0, id, Signal::Grant(Side::Accepter));
        self.pump(id, Side::Accepter);
    }

    /// Tries something again later, or gives up: the end learns that the connection is no more.
    fn retry(&mut self, id: ConnId, side: Side, since_us: u64, signal: Signal) {
        let waited_us = self.now_us().saturating_sub(since_us);
        if waited_us >= GIVE_UP_US {
            self.abort(id, side);
            self.reset(id, side);
        } else {
            self.stream_event(waited_us.clamp(RETRY_MIN_US, RETRY_MAX_US), id, signal);
        }
    }

    /// Throws away what an end had to send.
    fn abort(&mut self, id: ConnId, side: Side) {
        if let Some(conn) = self.streams.get_mut(id) {
            let end = conn.end_mut(side);
            end.unsent.clear();
            end.flying.clear();
            end.closing = false;
        }
        self.streams.collect(id);
    }

    /// What an end sent gets to the other, as far as it is due.
    fn arrive(&mut self, id: ConnId, side: Side) {
        loop {
            let now_us = self.now_us();
            let Some(conn) = self.streams.get_mut(id) else {
                return;
            };
            let (from, to) = (conn.end(side).host, conn.end(side.peer()).host);
            let receiver = conn.end(side.peer());
            let (socket, incarnation) = (receiver.socket, receiver.incarnation);
            let sender = conn.end_mut(side);
            if sender.flying.front().is_none_or(|(at, _)| *at > now_us) {
                break;
            }
            let vanished = matches!(self.machines[to as usize].program, Program::Vanished);
            if vanished || !self.network.connects(from, to) {
                let (since_us, next_us) = sender.stalled.unwrap_or((now_us, now_us));
                if next_us <= now_us {
                    let waited_us = now_us - since_us;
                    let next_us = now_us + waited_us.clamp(RETRY_MIN_US, RETRY_MAX_US);
                    sender.stalled = Some((since_us, next_us));
                    self.retry(id, side, since_us, Signal::Arrive(side));
                }
                return;
            }
            sender.stalled = None;
            let Some((_, segment)) = sender.flying.pop_front() else {
                break;
            };
            let same_start = self.machines[to as usize].incarnation == incarnation;
            match socket {
                Socket::Open(stream) if same_start => {
                    self.take_in(id, side.peer(), to, stream, segment);
                }
                Socket::Gone if same_start => match segment {
                    Segment::Data(bytes) => {
                        if let Some(conn) = self.streams.get_mut(id) {
                            let end = conn.end_mut(side);
                            end.outstanding = end.outstanding.saturating_sub(bytes.len());
                        }
                        self.pump(id, side);
                    }
                    Segment::Accepted => self.pump(id, side.peer()),
                    Segment::Fin => {}
                },
                Socket::Pending | Socket::Open(_) | Socket::Gone | Socket::Dead => {
                    let back_us = self.network.segment(to, from);
                    self.abort(id, side);
                    self.stream_event(back_us, id, Signal::Reset(side));
                }
            }
        }
        self.streams.collect(id);
    }

    /// A segment reaches the program that the end belongs to.
    fn take_in(&mut self, id: ConnId, side: Side, host: u32, stream: StreamId, segment: Segment) {
        match segment {
            Segment::Accepted => {
                self.input(host, &Input::Opened(stream));
                self.stream_event(0, id, Signal::Grant(side));
                self.pump(id, side); // Strangers write without waiting.
                return;
            }
            Segment::Data(bytes) => {
                if let Some(conn) = self.streams.get_mut(id) {
                    conn.end_mut(side).inbox.extend(bytes);
                }
            }
            Segment::Fin => {
                if let Some(conn) = self.streams.get_mut(id) {
                    conn.end_mut(side).eof = true;
                }
            }
        }
        match &self.machines[host as usize].program {
            Program::Node(_) => {
                while self.offer(id, side) {}
                self.offer_waiting(host);
            }
            Program::Stranger(stranger) => {
                let stalls = stranger.stalls;
                self.read_by_stranger(id, side, stalls);
            }
            Program::Stopped | Program::Vanished => {}
        }
    }

    /// Strangers keep all that came in the inbox; it is acknowledged unless they stall.
    fn read_by_stranger(&mut self, id: ConnId, side: Side, stalls: bool) {
        if stalls {
            return;
        }
        let Some(conn) = self.streams.get_mut(id) else {
            return;
        };
        let len = conn.end(side.peer()).outstanding;
        let (from, to) = (conn.end(side).host, conn.end(side.peer()).host);
        let back_us = self.network.segment(from, to);
        self.stream_event(back_us, id, Signal::Acknowledge(side.peer(), len));
    }

    /// Offers a node what has come on a stream. True if it took some and more is there.
    fn offer(&mut self, id: ConnId, side: Side) -> bool {
        let Some(conn) = self.streams.get(id) else {
            return false;
        };
        let end = conn.end(side);
        let (Some(stream), host) = (end.stream(), end.host) else {
            return false;
        };
        let (inbox, eof) = (end.inbox.clone(), end.eof);
        let mut consumed = 0;
        if !inbox.is_empty() {
            let reply = self.input_once_alone(host, &Input::Readable(stream, &inbox));
            if let Reply::Consumed(len) = reply {
                consumed = len;
            }
            if consumed > inbox.len() {
                self.fail(
                    HostId(host),
                    format!("took {consumed} of {} bytes", inbox.len()),
                );
                consumed = inbox.len();
            }
        }
        // The node may have closed it in answer.
        let Some(conn) = self.streams.get_mut(id) else {
            return false;
        };
        let (from, to) = (conn.end(side).host, conn.end(side.peer()).host);
        let end = conn.end_mut(side);
        let still_open = end.stream().is_some();
        if still_open {
            end.inbox.drain(..consumed);
        }
        let (frame_waits, empty) = (end.has_frame(), end.inbox.is_empty());
        if consumed > 0 {
            let back_us = self.network.segment(from, to);
            self.stream_event(back_us, id, Signal::Acknowledge(side.peer(), consumed));
        }
        if !still_open {
            return false;
        }
        if eof && (empty || !frame_waits) {
            self.tell_closed(id, side);
            return false;
        }
        consumed > 0 && !empty
    }

    /// A node that left a frame unread is asked again after every input.
    pub(super) fn offer_waiting(&mut self, host: u32) {
        loop {
            let mut progress = false;
            for (id, side) in self.streams.waiting(host) {
                let before = self.unread(id, side);
                while self.offer(id, side) {}
                progress |= self.unread(id, side) < before;
            }
            if !progress {
                return;
            }
        }
    }

    fn unread(&self, id: ConnId, side: Side) -> usize {
        self.streams
            .get(id)
            .map_or(0, |conn| conn.end(side).inbox.len())
    }

    /// An end learns that the connection is no more.
    fn reset(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.streams.get(id) else {
            return;
        };
        let (host, peer) = (conn.end(side).host, conn.end(side.peer()).host);
        if host != peer && !self.network.connects(host, peer) && conn.end(side).stalled.is_none() {
            let opening = matches!(conn.end(Side::Accepter).socket, Socket::Pending);
            if !opening {
                return; // The news is lost; it finds out when it sends.
            }
        }
        self.abort(id, side);
        self.tell_closed(id, side);
    }

    fn tell_closed(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.streams.get(id) else {
            return;
        };
        let end = conn.end(side);
        let (host, stream, opening) = (
            end.host,
            end.stream(),
            matches!(conn.end(Side::Accepter).socket, Socket::Pending),
        );
        if opening {
            self.streams.forget(id, Side::Accepter, Socket::Dead);
        }
        let stranger = matches!(self.machines[host as usize].program, Program::Stranger(_));
        if stranger {
            // It may still look at what it got.
            if let Some(conn) = self.streams.get_mut(id) {
                conn.end_mut(side).eof = true;
            }
            return;
        }
        self.streams.forget(id, side, Socket::Gone);
        if let Some(stream) = stream {
            self.input(host, &Input::Closed(stream));
        }
    }

    /// A program stops: its connections are reset, or, if the machine vanishes, left to silence.
    pub(super) fn drop_streams(&mut self, host: u32, silently: bool) {
        for (id, side) in self.streams.of_host(host) {
            let Some(conn) = self.streams.get(id) else {
                continue;
            };
            let peer = conn.end(side.peer()).host;
            self.abort(id, side);
            self.streams.forget(id, side, Socket::Dead);
            if !silently {
                let delay_us = self.network.segment(host, peer);
                self.stream_event(delay_us, id, Signal::Reset(side.peer()));
            }
        }
    }

    /// A stranger connects; the result is the connection's name.
    pub(super) fn connect_stranger(&mut self, host: u32, to: SocketAddr) -> Option<ConnId> {
        let stream = StreamId(STRANGERS | OPENED | self.streams.next_id());
        self.connect(host, stream, to)
    }

    /// Every frame that a node writes is one whole frame of its network, and serves nothing that has expired.
    pub(super) fn check_frame(&mut self, host: HostId, bytes: &[u8]) {
        let now_us = self.now_us();
        let frame = match Frame::split(bytes) {
            Ok(Some((body, len))) if len == bytes.len() => Frame::decode(body, self.network_id()),
            Ok(_) => {
                self.fail(
                    host,
                    format!("wrote {} bytes that are not one frame", bytes.len()),
                );
                return;
            }
            Err(rule) => Err(rule),
        };
        let author = match frame {
            Ok(Frame::Post { post }) => match self.cryptography() {
                Cryptography::Real => Post::decode::<<Server as Plan>::Crypto>(post)
                    .map(|post| Some(post.header.user)),
                Cryptography::StandIn => Post::decode::<<SimServer as Plan>::Crypto>(post)
                    .map(|post| Some(post.header.user)),
            },
            Ok(Frame::Head { record, .. }) => Record::decode(record).map(|head| Some(head.author)),
            Ok(_) => Ok(None),
            Err(rule) => Err(rule),
        };
        let wrong = match author {
            Ok(Some(user)) => self.model.served(host, &user, now_us).err(),
            Ok(None) => None,
            Err(rule) => Some(format!("wrote a frame that breaks {rule:?}")),
        };
        if let Some(what) = wrong {
            self.fail(host, what);
        }
    }
}
