//! A station: a card, a stack with a whole node on it, and an application that keeps a diary. What it is called and where it
//! is follows from its place in the world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::Medium;
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::SecretKey;
use strandline_core::drive::{Application, Handler};
use strandline_core::name::{Handle, Name};
use strandline_core::node::Node;
use strandline_core::output::{Event, Outcome, QueryId, Restored, Via};
use strandline_core::plan::{Board, Plan};
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;
use strandline_smoltcp::{Addresses, Memory, Settings, Sockets, Stack, sockets_for};

use crate::card::Card;
use crate::router;

/// Connections of a station: four streams and the spare listener.
pub const CONNECTIONS: usize = 5;
/// Where every station's node listens.
pub const PORT: u16 = 7827;
/// The date at which every station believes to be when it starts.
pub const START_UNIX_MS: u64 = 1_700_000_000_000;

/// What a station's application heard.
#[derive(Default)]
pub struct Diary {
    pub posts: Vec<(QueryId, String, String, Via)>,
    pub ended: Vec<(QueryId, Outcome)>,
    /// What it is to post of its own accord, once a command has ended.
    pub to_post: Option<&'static str>,
}

impl Handler for Diary {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Post {
                query,
                author,
                text,
                via,
                ..
            } => {
                let name = author.name.as_str().to_owned();
                self.posts.push((query, name, text.to_owned(), via));
            }
            Event::QueryDone { query, outcome } => self.ended.push((query, outcome)),
            _ => {}
        }
    }
}

impl<P: Plan> Application<P> for Diary {
    fn act(&mut self, now: Instant, node: &mut Node<P>) -> Option<Instant> {
        if !self.ended.is_empty()
            && let Some(text) = self.to_post.take()
        {
            node.post(now, text).unwrap();
        }
        None
    }
}

/// Where a station has its addresses from, and of which families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Own {
    V4,
    V6,
    Both,
    /// Those of both families, in a network of the station's own: a router is between it and the others.
    Apart,
    /// An IPv4 address, which a DHCP server gives it.
    Leased,
}

impl Own {
    /// The addresses that are known.
    fn fixed(self, index: usize) -> Vec<(IpAddr, u8)> {
        let v4 = (ip_of(index).into(), 24);
        let v6 = (ip6_of(index).into(), 64);
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Both => vec![v4, v6],
            Self::Apart => {
                let [v4, v6] = apart(index, 1);
                vec![(v4, 24), (v6, 64)]
            }
            Self::Leased => vec![],
        }
    }

    fn routers(self, index: usize) -> Vec<IpAddr> {
        match self {
            Self::Apart => apart(index, router::HOST).into(),
            Self::V4 | Self::V6 | Self::Both | Self::Leased => vec![],
        }
    }

    /// Where the node is told that it listens: others tell it where that is if it cannot know.
    fn listen(self, index: usize) -> SocketAddr {
        match self {
            Self::V4 | Self::Both => addr_of(index),
            Self::V6 => (ip6_of(index), PORT).into(),
            Self::Apart | Self::Leased => (Ipv4Addr::UNSPECIFIED, PORT).into(),
        }
    }
}

pub struct Station {
    pub stack: Stack<'static, Board, Diary>,
    pub card: Card,
    /// When it next wants to be polled.
    pub wake: Option<Instant>,
    /// It is on the network.
    pub up: bool,
}

pub fn hardware(index: usize) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, 0, u8::try_from(index + 1).unwrap()])
}

pub fn ip_of(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).unwrap())
}

pub fn ip6_of(index: usize) -> Ipv6Addr {
    let host = u16::try_from(index + 1).unwrap();
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host)
}

/// Addresses in a network that is one station's alone.
fn apart(index: usize, host: u8) -> [IpAddr; 2] {
    let network = u8::try_from(index + 1).unwrap();
    [
        Ipv4Addr::new(10, network, 0, host).into(),
        Ipv6Addr::new(0xfd00, 0, 0, network.into(), 0, 0, 0, host.into()).into(),
    ]
}

pub fn addr_of(index: usize) -> SocketAddr {
    (ip_of(index), PORT).into()
}

/// The handle of a station's user.
pub fn handle(index: usize) -> Handle {
    Handle::parse(&name(index)).unwrap()
}

pub fn name(index: usize) -> String {
    format!("station{index}")
}

/// Starts a station.
pub fn station(
    now: Instant,
    index: usize,
    (medium, own): (Medium, Own),
    time_server: Option<SocketAddr>,
    adjust: &impl Fn(usize, &mut Config),
) -> Station {
    let secret = |kind: u8| {
        SecretKey::from_bytes(
            [kind, u8::try_from(index + 1).unwrap()]
                .repeat(16)
                .try_into()
                .unwrap(),
        )
    };
    let node = Box::leak(Box::new(Node::unstarted()));
    let identity = Identity {
        user: secret(1),
        node: secret(2),
        name: Name::parse(&name(index)).unwrap(),
    };
    let mut config = Config::new(NetworkId(*b"test"), own.listen(index));
    config.durability = Durability::Holders(1);
    adjust(index, &mut config);
    let byte = u8::try_from(index).unwrap();
    node.start(now, identity, &Seed([byte; 32]), &config)
        .unwrap();
    node.set_clock(now, START_UNIX_MS, 10);
    node.restored_all(now, Restored::Fresh).unwrap();
    let (fixed, routers) = (own.fixed(index), own.routers(index));
    let mut card = Card::new(medium);
    let stack = Stack::new(
        now,
        &mut card,
        Box::leak(Box::new(Memory::<CONNECTIONS>::EMPTY)),
        Box::leak(Box::new(Sockets::<{ sockets_for(CONNECTIONS) }>::new())),
        node,
        Diary::default(),
        &Settings {
            hardware: match medium {
                Medium::Ethernet => HardwareAddress::Ethernet(hardware(index)),
                Medium::Ip => HardwareAddress::Ip,
            },
            port: PORT,
            addresses: match own {
                Own::Leased => Addresses::Dhcp,
                Own::V4 | Own::V6 | Own::Both | Own::Apart => Addresses::Fixed {
                    own: &fixed,
                    routers: &routers,
                },
            },
            time_server,
            seed: Seed([byte ^ 0xff; 32]),
        },
    );
    Station {
        stack: stack.unwrap(),
        card,
        wake: Some(now),
        up: true,
    }
}
