//! A node on a device. Owns the order of a call and how much one may do. Invariants: after every input the node is drained;
//! a call ends, whatever arrives; what it answers is the earlier of what the node and the interface want.
//!
//! What is never inlined is so for a board's stack: its frame would last while the node goes deepest.

use core::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, Medium};
use smoltcp::socket::udp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use strandline_core::drive::{Answer, Application, Handler, drain};
use strandline_core::node::Node;
use strandline_core::output::{Event, Message};
use strandline_core::plan::{Plan, Uses};
use strandline_core::rng::{Rng, Seed};
use strandline_core::time::{Instant, earliest};

use crate::connections::{Connections, Input};
use crate::convert::{ip, net_instant, net_ip};
use crate::lanes::{LANES, Lanes};
use crate::memory::{Buffers, Memory, Room, Sockets, packets, sockets_for};
use crate::net::{Counters, Net, Turn};
use crate::ntp::TimeServer;

/// Frames that one call of [`Stack::poll`] takes from the device.
pub const FRAMES_PER_POLL: usize = 8;
/// What core hears of one connection before it is the next one's turn.
const INPUTS_PER_CONNECTION: usize = 4;
/// What is still to be made durable after a drain is acknowledged, which may make more.
const DRAINS_MAX: usize = 8;

/// Who a stack is on the network.
#[derive(Clone, Debug)]
pub struct Settings<'s> {
    /// The own hardware address, which must suit the device; `HardwareAddress::Ip` where it carries IP packets.
    pub hardware: HardwareAddress,
    /// The port at which the node receives datagrams and streams; that of the node's `Config::listen`.
    pub port: u16,
    /// Under which addresses it is reached.
    pub addresses: Addresses<'s>,
    /// Who is asked for the time; without one, the node has no date, and what it publishes lives an hour at most.
    pub time_server: Option<core::net::SocketAddr>,
    /// Entropy for ports and sequence numbers: another one than the node's.
    pub seed: Seed,
}

/// Where the addresses come from.
#[derive(Clone, Copy, Debug)]
pub enum Addresses<'s> {
    /// They are known.
    Fixed {
        /// The own addresses, each with the bits that its network shares. As many as smoltcp was built for: 2.
        own: &'s [(IpAddr, u8)],
        /// The routers to everybody else, one for each family.
        routers: &'s [IpAddr],
    },
    /// A server on the Ethernet gives an IPv4 address and a router (RFC 2131), for as long as it likes; before and after, the
    /// node is silent. Let the node's `Config::listen` have an unspecified address then: others tell it where it is.
    #[cfg(feature = "dhcp")]
    Dhcp,
}

/// Why there can be no such stack. Nothing was done but what the memory knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupError {
    /// The hardware address is not one of the device's medium, or belongs to a group.
    Hardware,
    /// An address is of a family that was not built in, belongs to a group or to nobody, or there are too many; or DHCP is to
    /// give one on a device that carries IP packets.
    Address,
    /// Port 0.
    Port,
}

/// A node on a network interface.
///
/// `P` is the node's plan, `H` the application on it.
pub struct Stack<'a, P: Plan, H> {
    net: Net<'a>,
    node: &'a mut Node<P>,
    application: H,
    time_server: Option<TimeServer>,
    #[cfg(feature = "dhcp")]
    dhcp: Option<smoltcp::iface::SocketHandle>,
    /// When the node next wants to be woken, as of the last drain.
    wake: Option<Instant>,
    /// The application was told something since it last acted.
    heard: bool,
}

impl<P: Plan, H> core::fmt::Debug for Stack<'_, P, H> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack")
            .field("node", &self.node)
            .field("counters", &self.net.counters())
            .finish_non_exhaustive()
    }
}

impl<'a, P: Plan, H: Application<P>> Stack<'a, P, H> {
    /// Puts a node on a device. The node has been started, with the settings' port. Nothing is sent yet: call
    /// [`Self::poll`].
    ///
    /// # Errors
    /// See [`SetupError`].
    #[inline(never)] // What it builds goes through its frame.
    pub fn new<
        D: Device + ?Sized,
        const CONNECTIONS: usize,
        const SOCKETS: usize,
        const BUFFER: usize,
    >(
        now: Instant,
        device: &mut D,
        memory: &'a mut Memory<CONNECTIONS, BUFFER>,
        sockets: &'a mut Sockets<'a, SOCKETS>,
        node: &'a mut Node<P>,
        application: H,
        settings: &Settings<'_>,
    ) -> Result<Self, SetupError> {
        const {
            assert!(
                SOCKETS >= sockets_for(CONNECTIONS),
                "too few places for sockets"
            );
        };
        if settings.port == 0 {
            return Err(SetupError::Port);
        }
        let mut rng = Rng::<P::Crypto>::from_seed(&settings.seed);
        let iface = interface(now, device, settings, rng.next_u64())?;
        let Sockets { places, about } = sockets;
        let mut sockets = SocketSet::new(&mut places[..]);
        // The first that is bound to the port gets what arrives: this one, before the lanes.
        let received: Room<'_> = (&mut about.received, &mut memory.datagram);
        let datagrams = add_datagrams(&mut sockets, settings.port, Some(received), None);
        let mut buffers = about.lanes.iter_mut().zip(&mut memory.lanes);
        let lanes = [(); LANES].map(|()| {
            let sent = buffers.next().map(|(about, lane)| (about, &mut lane[..]));
            add_datagrams(&mut sockets, settings.port, None, sent)
        });
        let lanes = Lanes::new(lanes, settings.port);
        let [low, high, ..] = rng.next_u64().to_le_bytes();
        let outgoing = u16::from_le_bytes([low, high]);
        let mut connections = Connections::new(&mut memory.connections, settings.port, outgoing);
        for (place, Buffers { received, unsent }) in memory.buffers.iter_mut().enumerate() {
            connections.add(&mut sockets, place, received, unsent);
        }
        let [told, asked] = &mut about.time;
        let [received, sent] = &mut memory.time;
        let time_server = settings.time_server.map(|addr| {
            let (received, sent): (Room<'_>, Room<'_>) = ((told, received), (asked, sent));
            // Connections count up from it.
            let port = outgoing.wrapping_sub(1) | 0xc000;
            let socket = add_datagrams(&mut sockets, port, Some(received), Some(sent));
            TimeServer::new(now, socket, addr, port, rng.next_u64())
        });
        #[cfg(feature = "dhcp")]
        let dhcp = matches!(settings.addresses, Addresses::Dhcp)
            .then(|| sockets.add(smoltcp::socket::dhcpv4::Socket::new()));
        Ok(Self {
            net: Net {
                iface,
                sockets,
                connections,
                lanes,
                datagrams,
                frames: 0,
                late_ms: 0,
            },
            node,
            application,
            time_server,
            #[cfg(feature = "dhcp")]
            dhcp,
            wake: Some(now),
            heard: false,
        })
    }

    /// Carries out what the node wants, takes up to [`FRAMES_PER_POLL`] frames from the device, hears streams, lets the application act, and answers
    /// until when there is nothing more to do: call it again then, or as soon as a frame has come, or after a command.
    /// `None`: not before a frame. A time that is not in the future: at once, when the host has seen to its other duties.
    ///
    /// Call it any time; too early is harmless.
    pub fn poll<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> Option<Instant> {
        self.net.iface.poll_maintenance(net_instant(now));
        if let Some(wake) = self.wake.filter(|wake| *wake <= now) {
            let late_ms = u32::try_from(now.since_ms(wake)).unwrap_or(u32::MAX);
            self.net.late_ms = self.net.late_ms.max(late_ms);
            self.node.handle_timeout(now);
        }
        // Commands may have been given since.
        self.drain(now, device);
        self.net.connections.offer_again();
        let mut more = false;
        for _ in 0..FRAMES_PER_POLL {
            more = self.net.receive(now, device);
            if !more {
                break;
            }
            // There is room for one.
            if let Some((from, bytes)) = self.net.datagram() {
                self.node.handle_datagram(now, from, bytes);
                self.drain(now, device);
            } else {
                more |= self.hear_streams(now, device);
            }
        }
        more |= self.hear_streams(now, device);
        self.tell_time(now, device);
        self.heard = false;
        let again = self.application.act(now, self.node);
        self.drain(now, device);
        self.net.transmit(now, device);
        #[cfg(feature = "dhcp")]
        self.take_address();
        // What it was told after it acted, it may act on at once.
        if more || self.heard {
            return Some(now);
        }
        let asks = self.time_server.as_ref().map(TimeServer::next_deadline);
        let wake = earliest(earliest(self.wake, again), asks);
        earliest(wake, self.net.next_deadline(now)).map(|at| at.max(now))
    }

    /// Hears every connection once; whether to come back at once.
    #[inline(never)]
    fn hear_streams<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        let (mut heard, mut more) = (false, false);
        for place in 0..self.net.connections.len() {
            let mut left = INPUTS_PER_CONNECTION;
            while left > 0 {
                let net = &mut self.net;
                let Some(input) = net.connections.poll_input(now, &mut net.sockets, place) else {
                    break;
                };
                heard |= self.take_input(now, place, input);
                self.drain(now, device);
                left = left.saturating_sub(1);
            }
            more |= left == 0;
        }
        self.net.connections.keep_listening(&mut self.net.sockets);
        // What core refused before it heard the last input, it may take after it.
        let again = heard && self.net.connections.offer_again();
        more || again
    }

    /// Tells the node; whether that can have changed anything.
    fn take_input(&mut self, now: Instant, place: usize, input: Input) -> bool {
        let (net, node) = (&mut self.net, &mut *self.node);
        let sockets = &mut net.sockets;
        match input {
            Input::Accept(from) => {
                let stream = node.accept_stream(now, from).ok();
                net.connections.accepted(now, sockets, place, stream);
            }
            Input::Opened(stream) => node.stream_opened(now, stream),
            Input::Writable(stream, room) => node.stream_writable(now, stream, room),
            Input::Closed(stream) => node.stream_closed(now, stream),
            Input::Readable(stream) => {
                let take = |bytes: &[u8]| node.stream_readable(now, stream, bytes);
                return net.connections.offer(sockets, place, take);
            }
        }
        true
    }

    /// Carries out what the node wants. Called after every input.
    #[inline(never)]
    fn drain<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) {
        for _ in 0..DRAINS_MAX {
            let mut turn = Turn {
                now,
                net: &mut self.net,
                device,
                persisted: None,
            };
            let mut hearing = Hearing {
                application: &mut self.application,
                heard: &mut self.heard,
            };
            self.wake = drain(self.node, &mut turn, &mut hearing);
            let Some(persisted) = turn.persisted.filter(|_| P::Uses::STORAGE) else {
                return;
            };
            self.node.persisted(now, persisted);
            self.wake = Some(now);
        }
    }

    #[inline(never)]
    fn tell_time<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) {
        let Some(time_server) = &mut self.time_server else {
            return;
        };
        if let Some(date) = time_server.poll(now, &mut self.net.sockets) {
            self.node.set_clock(now, date.unix_ms, date.uncertainty_ms);
            self.drain(now, device);
        }
    }

    /// Takes over what DHCP found. Called last in a turn: the next one may come when the lease is to be renewed.
    #[cfg(feature = "dhcp")]
    fn take_address(&mut self) {
        use smoltcp::socket::dhcpv4::{Event, Socket};

        let Some(dhcp) = self.dhcp else {
            return;
        };
        let net = &mut self.net;
        let Some(event) = net.sockets.get_mut::<Socket<'_>>(dhcp).poll() else {
            return;
        };
        let (own, router) = match event {
            Event::Configured(config) => (Some(config.address), config.router),
            Event::Deconfigured => (None, None),
        };
        net.iface.update_ip_addrs(|addrs| {
            addrs.clear();
            // There is room: it is empty.
            addrs.extend(own.map(IpCidr::Ipv4));
        });
        let routes = net.iface.routes_mut();
        routes.remove_default_ipv4_route();
        // smoltcp asserts that a router is one station, and takes any that it is told.
        if let Some(router) = router.filter(|router| IpAddress::from(*router).is_unicast()) {
            // There is room: the old one was removed.
            let _ = routes.add_default_ipv4_route(router);
        }
    }

    /// The node, to look at.
    #[must_use]
    pub fn node(&self) -> &Node<P> {
        self.node
    }

    /// The node, to give it commands; then call [`Self::poll`].
    pub fn node_mut(&mut self) -> &mut Node<P> {
        self.node
    }

    /// The application on the node.
    pub fn application(&mut self) -> &mut H {
        &mut self.application
    }

    /// The own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.net
            .iface
            .ip_addrs()
            .iter()
            .map(|own| ip(own.address()))
    }

    /// Streams that are open or being opened.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.net.connections.in_use()
    }

    /// What did not work out.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.net.counters()
    }
}

/// Notes that the application was told something.
struct Hearing<'h, H> {
    application: &'h mut H,
    heard: &'h mut bool,
}

impl<H: Handler> Handler for Hearing<'_, H> {
    fn on_event(&mut self, event: Event<'_>) {
        *self.heard = true;
        self.application.on_event(event);
    }

    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        *self.heard = true;
        self.application.on_message(message, answer);
    }
}

/// The interface with its addresses and routes.
#[inline(never)] // What it builds goes through its frame.
fn interface<D: Device + ?Sized>(
    now: Instant,
    device: &mut D,
    settings: &Settings<'_>,
    random: u64,
) -> Result<Interface, SetupError> {
    let hardware = settings.hardware;
    if !suits(hardware, device.capabilities().medium) {
        return Err(SetupError::Hardware);
    }
    let mut config = Config::new(hardware);
    config.random_seed = random;
    let mut iface = Interface::new(config, device, net_instant(now));
    let (own, routers) = match settings.addresses {
        Addresses::Fixed { own, routers } => (own, routers),
        // Only on Ethernet does smoltcp ask for one.
        #[cfg(feature = "dhcp")]
        Addresses::Dhcp => {
            let on_ethernet = matches!(hardware, HardwareAddress::Ethernet(_));
            return on_ethernet.then_some(iface).ok_or(SetupError::Address);
        }
    };
    let mut placed = Ok(());
    iface.update_ip_addrs(|addrs| {
        for (address, prefix_bits) in own {
            placed = placed.and_then(|()| {
                let address = net_ip(*address).filter(IpAddress::is_unicast);
                let address = address.ok_or(SetupError::Address)?;
                if usize::from(*prefix_bits) > address_bits(&address) {
                    return Err(SetupError::Address);
                }
                let cidr = IpCidr::new(address, *prefix_bits);
                addrs.push(cidr).map_err(|_| SetupError::Address)
            });
        }
    });
    placed?;
    for router in routers {
        let routes = iface.routes_mut();
        let added = match net_ip(*router).filter(IpAddress::is_unicast) {
            #[cfg(feature = "ipv4")]
            Some(IpAddress::Ipv4(router)) => routes.add_default_ipv4_route(router).is_ok(),
            #[cfg(feature = "ipv6")]
            Some(IpAddress::Ipv6(router)) => routes.add_default_ipv6_route(router).is_ok(),
            None => false,
        };
        if !added {
            return Err(SetupError::Address);
        }
    }
    Ok(iface)
}

fn address_bits(address: &IpAddress) -> usize {
    match address {
        #[cfg(feature = "ipv4")]
        IpAddress::Ipv4(_) => 32,
        #[cfg(feature = "ipv6")]
        IpAddress::Ipv6(_) => 128,
    }
}

/// Whether it can be the address of one station on this medium.
fn suits(hardware: HardwareAddress, medium: Medium) -> bool {
    #[cfg(feature = "ip")]
    if matches!((hardware, medium), (HardwareAddress::Ip, Medium::Ip)) {
        return true;
    }
    #[cfg(feature = "ethernet")]
    if matches!((hardware, medium), (HardwareAddress::Ethernet(own), Medium::Ethernet) if own.is_unicast())
    {
        return true;
    }
    false
}

/// A socket for datagrams at a port which is not zero.
#[inline(never)] // It is long, and called from three places.
fn add_datagrams<'a>(
    sockets: &mut SocketSet<'a>,
    port: u16,
    received: Option<Room<'a>>,
    sent: Option<Room<'a>>,
) -> SocketHandle {
    let mut socket = udp::Socket::new(packets(received), packets(sent));
    // It is closed, and there is a port: it cannot fail.
    let _ = socket.bind(port);
    sockets.add(socket)
}
