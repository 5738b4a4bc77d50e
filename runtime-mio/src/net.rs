//! The sockets: one UDP socket and one TCP listener at the same port, and how addresses are spelled on them. Owns binding
//! and datagrams; connections are [`crate::streams`]'s. Invariant: core sees canonical addresses only, so that a peer that
//! reaches a dual-stack socket over IPv4 is one peer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpListener, UdpSocket};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::{Exit, Failure};

/// How often a free port is tried when one is asked for: TCP may have one that UDP has not.
const FREE_PORT_TRIES: u32 = 16;
/// Connections that the system may hold before they are accepted.
const BACKLOG: i32 = 128;
/// Receive buffer asked of the system, in bytes; it may grant less.
const UDP_BUFFER_LEN: usize = 1024 * 1024;

/// Binds the UDP socket and the TCP listener of a node at one port.
///
/// # Errors
/// [`Exit::Internal`] when the port is taken or the address is not this machine's.
pub fn bind(listen: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), Failure> {
    let mut tries = if listen.port() == 0 {
        FREE_PORT_TRIES
    } else {
        1
    };
    loop {
        tries -= 1;
        match try_bind(listen) {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => {
                let taken = error.kind() == io::ErrorKind::AddrInUse;
                return Err(Failure::new(
                    Exit::Internal,
                    format!("cannot listen at {listen}"),
                    if taken {
                        "the port is taken".into()
                    } else {
                        error.to_string()
                    },
                    "Choose another address or port (--listen IP:PORT).",
                ));
            }
        }
    }
}

fn try_bind(listen: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let tcp = Socket::new(
        Domain::for_address(listen),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Lets a restarted node have its port back while old connections time out. Never on UDP: two nodes could share a port.
    tcp.set_reuse_address(true)?;
    let tcp = prepared(tcp, listen)?;
    tcp.listen(BACKLOG)?;
    let tcp: std::net::TcpListener = tcp.into();
    let listen = tcp.local_addr()?;
    let udp = Socket::new(
        Domain::for_address(listen),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if let Err(error) = udp.set_recv_buffer_size(UDP_BUFFER_LEN) {
        log::debug!("the system's receive buffer stays as it is: {error}");
    }
    let udp = prepared(udp, listen)?;
    let (udp, tcp) = (UdpSocket::from_std(udp.into()), TcpListener::from_std(tcp));
    Ok((udp, tcp, listen))
}

fn prepared(socket: Socket, listen: SocketAddr) -> io::Result<Socket> {
    if listen.is_ipv6() {
        socket.set_only_v6(!listen.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket)
}

/// What passed through the UDP socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams handed to the system.
    pub sent: u64,
    /// Datagrams that the system would not take just then, or at all.
    pub unsent: u64,
}

/// The UDP socket.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    local: SocketAddr,
    /// The system may hold more than was taken. It tells only once.
    readable: bool,
    traffic: Traffic,
}

impl Datagrams {
    /// Takes a bound socket and asks to be told about it under `token`.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(
        mut socket: UdpSocket,
        local: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self {
            socket,
            local,
            readable: true,
            traffic: Traffic::default(),
        })
    }

    /// The system has something to read.
    pub fn on_ready(&mut self) {
        self.readable = true;
    }

    /// Whether there may be more to take.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// What passed through.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Takes the next datagram; `None` when there is none just now. A datagram longer than `buf` is cut off.
    pub fn receive<'b>(&mut self, buf: &'b mut [u8]) -> Option<(SocketAddr, &'b [u8])> {
        if !self.readable {
            return None;
        }
        match self.socket.recv_from(buf) {
            Ok((len, from)) => {
                self.traffic.received += 1;
                Some((canonical(from), buf.get(..len)?))
            }
            Err(error) => {
                // Other errors are about datagrams sent earlier; the loop comes back for what is behind them.
                self.readable = error.kind() != io::ErrorKind::WouldBlock;
                None
            }
        }
    }

    /// Sends a datagram, or loses it: datagrams may get lost anyway, and waiting would hold up everything else.
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let sent = match spelled_for(self.local, to) {
            Some(to) => self.socket.send_to(bytes, to).is_ok(),
            None => false,
        };
        if sent {
            self.traffic.sent += 1;
        } else {
            self.traffic.unsent += 1;
        }
    }
}

/// The address with an IPv4-mapped one spelled as IPv4, and without scope.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// `to` as a socket bound at `local` takes it; `None` when it cannot reach that family.
fn spelled_for(local: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    match (local.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some(to),
        (IpAddr::V6(any), IpAddr::V4(ip)) if any.is_unspecified() => {
            Some(SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()))
        }
        (IpAddr::V6(_), IpAddr::V4(_)) | (IpAddr::V4(_), IpAddr::V6(_)) => None,
    }
}

/// Whether a node that listens at `local` can reach `to`.
#[must_use]
pub fn reaches(local: SocketAddr, to: SocketAddr) -> bool {
    spelled_for(local, canonical(to)).is_some()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

    use std::time::{Duration, Instant};

    use mio::Poll;

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn open(listen: &str) -> (Poll, Datagrams, SocketAddr) {
        let (udp, _tcp, local) = bind(addr(listen)).unwrap();
        let poll = Poll::new().unwrap();
        let udp = Datagrams::new(udp, local, poll.registry(), Token(0)).unwrap();
        (poll, udp, local)
    }

    fn receive(datagrams: &mut Datagrams) -> (SocketAddr, Vec<u8>) {
        let end = Instant::now() + Duration::from_secs(5);
        let mut buf = [0; 64];
        while Instant::now() < end {
            datagrams.on_ready();
            if let Some((from, bytes)) = datagrams.receive(&mut buf) {
                return (from, bytes.to_vec());
            }
            std::thread::yield_now();
        }
        panic!("nothing arrived");
    }

    #[test]
    fn udp_and_tcp_share_a_free_port_and_the_real_one_is_told() {
        for ip in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let (udp, tcp, local) = bind(addr(ip)).unwrap();
            assert_ne!(local.port(), 0);
            assert_eq!(udp.local_addr().unwrap(), local);
            assert_eq!(tcp.local_addr().unwrap(), local);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told_whether_by_udp_or_tcp() {
        let (udp, tcp, local) = bind(addr("127.0.0.1:0")).unwrap();
        for _ in 0..2 {
            let failure = bind(local).unwrap_err();
            assert_eq!(failure.exit, Exit::Internal);
            assert!(failure.why.contains("taken"), "{failure}");
        }
        drop(tcp);
        assert!(bind(local).is_err(), "udp alone holds it");
        drop(udp);
        bind(local).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let failure = bind(addr("192.0.2.1:0")).unwrap_err();
        assert_eq!(failure.exit, Exit::Internal);
    }

    #[test]
    fn datagrams_arrive_whole_and_in_turn_over_both_families() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let (_poll, mut a, from) = open(listen);
            let (_poll, mut b, to) = open(listen);
            a.send(to, b"one");
            a.send(to, b"two");
            assert_eq!(receive(&mut b), (from, b"one".to_vec()));
            assert_eq!(receive(&mut b), (from, b"two".to_vec()));
            assert!(b.receive(&mut [0; 64]).is_none());
            assert!(!b.is_readable());
            assert_eq!((a.traffic().sent, b.traffic().received), (2, 2));
        }
    }

    #[test]
    fn a_dual_stack_node_talks_ipv4_by_its_plain_name() {
        let (_poll, mut six, local) = open("[::]:0");
        let (_poll, mut four, from) = open("127.0.0.1:0");
        let to = SocketAddr::new(addr("127.0.0.1:0").ip(), local.port());
        four.send(to, b"hello");
        assert_eq!(receive(&mut six), (from, b"hello".to_vec()));
        six.send(from, b"back");
        assert_eq!(receive(&mut four), (to, b"back".to_vec()));
    }

    #[test]
    fn what_cannot_be_reached_is_counted_and_does_not_block() {
        let (_poll, mut four, local) = open("127.0.0.1:0");
        four.send(addr("[::1]:9"), b"no");
        assert_eq!(four.traffic().unsent, 1);
        assert!(!reaches(local, addr("[::1]:9")));
        assert!(reaches(local, addr("[::ffff:127.0.0.1]:9")));
    }
}
