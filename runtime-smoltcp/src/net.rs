//! The network side of a stack: interface, sockets, and what core's outputs do to them. Decides nothing about the protocol.

use core::net::SocketAddr;

use smoltcp::iface::{Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::udp;
use strandline_core::drive::Transport;
use strandline_core::output::{PersistId, Stored, StreamId};
use strandline_core::time::{Instant, earliest};

use crate::connections::Connections;
use crate::convert::{endpoint, instant, net_instant, socket_addr};
use crate::lanes::Lanes;

/// What did not work out, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams that were given up: nobody answered for their receiver's address, or there was no room.
    pub datagrams_lost: u32,
    /// Connections of peers that were turned away or given up before the node heard of them.
    pub connections_refused: u32,
}

/// Interface and sockets.
pub(crate) struct Net<'a> {
    pub(crate) iface: Interface,
    pub(crate) sockets: SocketSet<'a>,
    pub(crate) connections: Connections<'a>,
    pub(crate) lanes: Lanes,
    pub(crate) datagrams: SocketHandle,
}

impl<'a> Net<'a> {
    /// Takes one frame from the device; `false` when there is none.
    #[inline(never)]
    pub(crate) fn receive<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        let at = net_instant(now);
        let result = self
            .iface
            .poll_ingress_single(at, device, &mut self.sockets);
        !matches!(result, PollIngressSingleResult::None)
    }

    /// Gives every socket the chance to send.
    #[inline(never)]
    pub(crate) fn transmit<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) {
        let at = net_instant(now);
        let _ = self.iface.poll_egress(at, device, &mut self.sockets);
        self.lanes.handle_timeout(now, &mut self.sockets);
    }

    /// The next datagram, where it lies.
    pub(crate) fn datagram(&mut self) -> Option<(SocketAddr, &[u8])> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.datagrams);
        let (bytes, about) = socket.recv().ok()?;
        Some((socket_addr(about.endpoint), bytes))
    }

    /// When the interface has something to do though nothing arrives.
    pub(crate) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let at = self.iface.poll_at(net_instant(now), &self.sockets);
        let own = earliest(self.lanes.next_deadline(), self.connections.next_deadline());
        earliest(at.map(instant), own)
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            datagrams_lost: self.lanes.lost,
            connections_refused: self.connections.refused,
        }
    }
}

/// What core's outputs act on during one drain.
pub(crate) struct Turn<'t, 'a, D: Device + ?Sized> {
    pub(crate) now: Instant,
    pub(crate) net: &'t mut Net<'a>,
    pub(crate) device: &'t mut D,
    /// The last entry for a storage that does not exist.
    pub(crate) persisted: Option<PersistId>,
}

impl<D: Device + ?Sized> Transport for Turn<'_, '_, D> {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        // Nobody is there under an address of a family that was not built in.
        if let Some(to) = endpoint(to) {
            self.net.lanes.send(&mut self.net.sockets, to, bytes);
            // At once, so that the lane is free for the next one.
            self.net.transmit(self.now, self.device);
        }
    }

    fn open(&mut self, stream: StreamId, to: SocketAddr) {
        let (net, to) = (&mut *self.net, endpoint(to));
        let context = net.iface.context();
        net.connections
            .open(self.now, &mut net.sockets, context, stream, to);
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        self.net
            .connections
            .write(&mut self.net.sockets, stream, bytes);
    }

    fn close(&mut self, stream: StreamId) {
        self.net
            .connections
            .close(self.now, &mut self.net.sockets, stream);
    }

    fn persist(&mut self, id: PersistId, _item: Stored<'_>) {
        self.persisted = Some(id);
    }
}
