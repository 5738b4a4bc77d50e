//! Datagrams on their way out. A datagram whose receiver's hardware address is not known yet waits in its socket, and
//! smoltcp would keep everything behind it waiting, for ever if nobody answers. So there are several sockets, each for one
//! datagram, and one that waits too long is given up: it is lost, as datagrams are. Invariant: a lane holds one datagram
//! at most, for [`WAIT_MS`] at most.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;
use strandline_core::time::{Instant, earliest};

/// Datagrams that can wait for a hardware address at a time, so that others still leave: one less than this.
pub const LANES: usize = 2;
/// How long a datagram may wait, in ms. smoltcp asks for one hardware address a second, so a second one asked for may
/// take that long.
const WAIT_MS: u64 = 1_500;

/// The way of one datagram.
#[derive(Clone, Copy, Debug)]
struct Lane {
    socket: SocketHandle,
    since: Option<Instant>,
}

/// All of them.
#[derive(Debug)]
pub struct Lanes {
    lanes: [Lane; LANES],
    port: u16,
    /// Datagrams given up.
    pub lost: u32,
}

impl Lanes {
    /// Sends through these sockets, which are open at `port`.
    pub fn new(handles: [SocketHandle; LANES], port: u16) -> Self {
        Self {
            lanes: handles.map(|socket| Lane {
                socket,
                since: None,
            }),
            port,
            lost: 0,
        }
    }

    /// Takes a datagram; if all lanes are taken, in place of the one that has waited longest.
    pub fn send(&mut self, sockets: &mut SocketSet<'_>, to: IpEndpoint, bytes: &[u8]) {
        let Some(lane) = self.lanes.iter_mut().min_by_key(|lane| lane.since) else {
            return;
        };
        if lane.since.take().is_some() {
            self.lost = self.lost.saturating_add(1);
            lane.socket = reopened(sockets, lane.socket, self.port);
        }
        let socket = sockets.get_mut::<udp::Socket<'_>>(lane.socket);
        if socket.send_slice(bytes, to).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Notes what has left, and gives up what waited too long. Call it after the interface was given the chance to send.
    pub fn handle_timeout(&mut self, now: Instant, sockets: &mut SocketSet<'_>) {
        for lane in &mut self.lanes {
            let waits = sockets.get::<udp::Socket<'_>>(lane.socket).send_queue() > 0;
            match lane.since {
                _ if !waits => lane.since = None,
                None => lane.since = Some(now),
                Some(since) if now >= since.after_ms(WAIT_MS) => {
                    lane.since = None;
                    self.lost = self.lost.saturating_add(1);
                    lane.socket = reopened(sockets, lane.socket, self.port);
                }
                Some(_) => {}
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.lanes.iter().filter_map(|lane| lane.since);
        let deadlines = waiting.map(|since| Some(since.after_ms(WAIT_MS)));
        deadlines.fold(None, earliest)
    }
}

/// Throws away what is in a socket and opens it, to send from `port`.
fn reopened(sockets: &mut SocketSet<'_>, socket: SocketHandle, port: u16) -> SocketHandle {
    let opened = sockets.get_mut::<udp::Socket<'_>>(socket);
    opened.close();
    // The port is not zero (checked at the start), and the socket is closed: it cannot fail.
    let _ = opened.bind(port);
    unheld(sockets, socket)
}

/// Takes a socket out of the set and puts it in again: the set remembers whose hardware address it waits for, and would
/// hold up what is next.
#[inline(never)]
pub(crate) fn unheld(sockets: &mut SocketSet<'_>, socket: SocketHandle) -> SocketHandle {
    let taken = sockets.remove(socket);
    sockets.add(taken)
}
