//! A station: a card, a stack with a whole node on it, and an application that keeps a diary. What it is called and where it
//! is follows from its place in the world.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
    let mut config = Config::new(NetworkId(*b"test"), addr_of(index));
    config.durability = Durability::Holders(1);
    adjust(index, &mut config);
    let byte = u8::try_from(index).unwrap();
    node.start(now, identity, &Seed([byte; 32]), &config)
        .unwrap();
    node.set_clock(now, START_UNIX_MS, 10);
    node.restored_all(now, Restored::Fresh).unwrap();
    let mut card = Card::default();
    let stack = Stack::new(
        now,
        &mut card,
        Box::leak(Box::new(Memory::<CONNECTIONS>::EMPTY)),
        Box::leak(Box::new(Sockets::<{ sockets_for(CONNECTIONS) }>::new())),
        node,
        Diary::default(),
        &Settings {
            hardware: HardwareAddress::Ethernet(hardware(index)),
            port: PORT,
            addresses: Addresses::Fixed {
                own: &[(IpAddr::V4(ip_of(index)), 24)],
                routers: &[],
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
