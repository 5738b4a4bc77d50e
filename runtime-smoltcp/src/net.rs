//! The network side of a stack: interface, sockets, and what core's outputs do to them. Decides nothing about the protocol.

use core::net::SocketAddr;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
#[cfg(all(feature = "ethernet", feature = "ip"))]
use smoltcp::phy::Medium;
use smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::socket::udp;
use smoltcp::time::{Duration, Instant as NetInstant};
use smoltcp::wire::IpEndpoint;
use strandline_core::drive::Transport;
use strandline_core::output::{PersistId, Stored, StreamId};
use strandline_core::time::{Instant, earliest};

use crate::connections::Connections;
use crate::convert::{endpoint, instant, net_instant, socket_addr};
use crate::lanes::Lanes;

/// smoltcp keeps the hardware address of whoever asks for the own one, in place of the one that it has heard of least
/// lately: a storm of questions would take the places of those with whom the node talks. An asker counts as heard of so
/// long ago, until it sends a packet.
const ASKERS_YIELD_FOR: Duration = Duration::from_secs(30);
/// smoltcp repeats a request for a stream, a SYN, after a second; in that time core gives the stream up. So requests are
/// made so many µs earlier by smoltcp's clock, and the answers come as much earlier: one that was lost is repeated when
/// half of the time is left. Where the hardware address has to be asked for first, that leaves earlier in the request's place,
/// and the request at its usual time.
const REQUESTS_EARLIER_US: u64 = 500_000;

/// What did not work out, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams that were given up: nobody answered for their receiver's address, or there was no room.
    pub datagrams_lost: u32,
    /// Connections of peers that were turned away or given up before the node heard of them.
    pub connections_refused: u32,
    /// Frames that the device gave.
    pub frames: u32,
    /// The longest that the node was woken after it had wanted to be, in ms.
    pub late_ms: u32,
}

/// Interface and sockets.
pub(crate) struct Net<'a> {
    pub(crate) iface: Interface,
    pub(crate) sockets: SocketSet<'a>,
    pub(crate) connections: Connections<'a>,
    pub(crate) lanes: Lanes,
    pub(crate) datagrams: SocketHandle,
    /// See [`Counters`].
    pub(crate) frames: u32,
    /// See [`Counters`].
    pub(crate) late_ms: u32,
}

impl<'a> Net<'a> {
    /// Takes one frame from the device; `false` when there is none.
    #[inline(never)]
    pub(crate) fn receive<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        let at = net_instant(now);
        let ethernet = is_ethernet(device);
        let Some((received, answer)) = device.receive(at) else {
            return false;
        };
        self.frames = self.frames.wrapping_add(1);
        let (iface, sockets) = (&mut self.iface, &mut self.sockets);
        received.consume(|frame| {
            if ethernet && is_from_nobody(frame) {
                return;
            }
            // What was learned from a question alone makes room for anything else.
            let packet = if ethernet {
                frame.get(14..)
            } else {
                Some(frame)
            };
            let learned = if ethernet && asks_for_hardware_address(frame) {
                at - ASKERS_YIELD_FOR
            } else if packet.is_some_and(answers_request) {
                at - Duration::from_micros(REQUESTS_EARLIER_US)
            } else {
                at
            };
            let mut one = One {
                frame,
                answer: Some(answer),
            };
            let _ = iface.poll_ingress_single(learned, &mut one, sockets);
        });
        iface.poll_maintenance(at);
        true
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

    /// Whether there is an own address of a destination's family: nothing can be sent to it otherwise.
    #[cfg(all(feature = "ipv4", feature = "ipv6"))]
    fn has_family_of(&self, to: &IpEndpoint) -> bool {
        let mut own = self.iface.ip_addrs().iter();
        own.any(|own| own.address().version() == to.addr.version())
    }

    /// There is only one.
    #[cfg(not(all(feature = "ipv4", feature = "ipv6")))]
    fn has_family_of(&self, _: &IpEndpoint) -> bool {
        true
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            datagrams_lost: self.lanes.lost,
            connections_refused: self.connections.refused,
            frames: self.frames,
            late_ms: self.late_ms,
        }
    }
}

/// Whether a device carries Ethernet frames.
fn is_ethernet<D: Device + ?Sized>(device: &D) -> bool {
    #[cfg(all(feature = "ethernet", feature = "ip"))]
    if device.capabilities().medium != Medium::Ethernet {
        return false;
    }
    let _ = device;
    cfg!(feature = "ethernet")
}

/// Whether a frame asks for a hardware address (RFC 826; RFC 4861, section 4.3).
fn asks_for_hardware_address(frame: &[u8]) -> bool {
    let by_arp = matches!(frame.get(12..22), Some([8, 6, .., 0, 1]));
    let by_neighbour_discovery = cfg!(feature = "ipv6")
        && matches!(
            frame.get(12..55),
            Some([0x86, 0xdd, _, _, _, _, _, _, 58, .., 135])
        );
    by_arp || by_neighbour_discovery
}

/// Whether an IP packet without options takes up an own request for a stream: a segment with SYN and ACK (RFC 9293, section 3.1).
fn answers_request(packet: &[u8]) -> bool {
    const SYN_ACK: u8 = 0x12;
    let by_ipv4 = matches!(
        packet.get(..34),
        Some([0x45, _, _, _, _, _, _, _, _, 6, .., flags]) if flags & SYN_ACK == SYN_ACK
    );
    let by_ipv6 = cfg!(feature = "ipv6")
        && matches!(
            packet.get(..54),
            Some([0x60..=0x6f, _, _, _, _, _, 6, .., flags]) if flags & SYN_ACK == SYN_ACK
        );
    by_ipv4 || by_ipv6
}

/// Whether an IPv4 packet has no sender. A DHCP server that says nothing else would be taken for one that has the address 0.0.0.0,
/// and smoltcp asserts that nothing is sent there when a lease is renewed.
fn is_from_nobody(frame: &[u8]) -> bool {
    cfg!(feature = "dhcp") && matches!(frame.get(12..30), Some([8, 0, .., 0, 0, 0, 0]))
}

/// A device that has one frame, and room for the answer to it.
struct One<'f, T> {
    frame: &'f [u8],
    answer: Option<T>,
}

/// Its frame.
struct Received<'f>(&'f [u8]);

impl<'f, T: TxToken> Device for One<'f, T> {
    type RxToken<'a>
        = Received<'f>
    where
        Self: 'a;
    type TxToken<'a>
        = T
    where
        Self: 'a;

    fn receive(&mut self, _now: NetInstant) -> Option<(Received<'f>, T)> {
        Some((Received(self.frame), self.answer.take()?))
    }

    fn transmit(&mut self, _now: NetInstant) -> Option<T> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        DeviceCapabilities::default()
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
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
        if let Some(to) = endpoint(to)
            && self.net.has_family_of(&to)
        {
            self.net.lanes.send(&mut self.net.sockets, to, bytes);
            // At once, so that the lane is free for the next one.
            self.net.transmit(self.now, self.device);
        }
    }

    fn open(&mut self, stream: StreamId, to: SocketAddr) {
        let (net, to) = (&mut *self.net, endpoint(to));
        #[cfg(all(feature = "ipv4", feature = "ipv6"))]
        let to = to.filter(|to| net.has_family_of(to));
        // Only the request is to leave at the earlier time.
        net.transmit(self.now, self.device);
        let context = net.iface.context();
        net.connections
            .open(self.now, &mut net.sockets, context, stream, to);
        let earlier = self.now.as_us().saturating_sub(REQUESTS_EARLIER_US);
        net.transmit(Instant::from_us(earlier), self.device);
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
