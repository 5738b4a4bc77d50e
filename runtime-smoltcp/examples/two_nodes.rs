//! Two nodes on one wire: each has a [`Stack`] and a card, and what one sends the other receives. They join, one follows the
//! other, and reads what it posts. No system's network is involved, and no time passes but the clock's in [`run`].

use std::collections::VecDeque;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::SecretKey;
use strandline_core::drive::{Application, Handler};
use strandline_core::name::{Handle, Name};
use strandline_core::node::Node;
use strandline_core::output::{Event, QueryId, Restored};
use strandline_core::plan::{Board, Plan};
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;
use strandline_smoltcp::{Addresses, Memory, Settings, Sockets, Stack, sockets_for};

const CONNECTIONS: usize = 5;
const PORT: u16 = 7827;
const WITHIN_MS: u32 = 10_000;

/// A network card: the frames that have come, and those that are to leave.
#[derive(Default)]
struct Card {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Received, Sent<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        capabilities
    }
}

/// Prints what happens, and keeps what the example waits for.
#[derive(Default)]
struct Printer {
    ended: Vec<QueryId>,
    posts: Vec<String>,
}

impl Handler for Printer {
    fn on_event(&mut self, event: Event<'_>) {
        println!("{event:?}");
        if let Event::QueryDone { query, .. } = event {
            self.ended.push(query);
        } else if let Event::Post { text, .. } = event {
            self.posts.push(text.to_owned());
        }
    }
}

impl<P: Plan> Application<P> for Printer {
    /// Commands come from elsewhere.
    fn act(&mut self, _now: Instant, _node: &mut Node<P>) -> Option<Instant> {
        None
    }
}

/// A node with its card, and when it next wants to be polled.
struct Station<'a> {
    stack: Stack<'a, Board, Printer>,
    card: Card,
    wake: Option<Instant>,
}

fn addr_of(index: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, index), PORT).into()
}

/// Starts a node in the given memory. A board has these as `static`s.
fn start<'a>(
    index: u8,
    name: &str,
    node: &'a mut Node<Board>,
    memory: &'a mut Memory<CONNECTIONS>,
    sockets: &'a mut Sockets<'a, { sockets_for(CONNECTIONS) }>,
) -> Result<Station<'a>, Box<dyn Error>> {
    let now = Instant::ZERO;
    let identity = Identity {
        user: SecretKey::from_bytes([index; 32]), // Draw them!
        node: SecretKey::from_bytes([index + 100; 32]),
        name: Name::parse(name)?,
    };
    let mut config = Config::new(NetworkId(*b"demo"), addr_of(index));
    config.durability = Durability::Holders(1);
    let started = node.start(now, identity, &Seed([index; 32]), &config);
    started.map_err(|error| format!("{error:?}"))?;
    let restored = node.restored_all(now, Restored::Fresh);
    restored.map_err(|error| format!("{error:?}"))?;
    let mut card = Card::default();
    let settings = Settings {
        hardware: HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, index])),
        port: PORT,
        addresses: Addresses::Fixed {
            own: &[(IpAddr::V4(Ipv4Addr::new(10, 0, 0, index)), 24)],
            routers: &[],
        },
        time_server: None,
        seed: Seed([index + 100; 32]),
    };
    let application = Printer::default();
    let stack = Stack::new(
        now,
        &mut card,
        memory,
        sockets,
        node,
        application,
        &settings,
    );
    Ok(Station {
        stack: stack.map_err(|error| format!("{error:?}"))?,
        card,
        wake: Some(now),
    })
}

/// Lets both go on until the command of one of them has ended; the clock jumps to what is next.
#[expect(clippy::indexing_slicing, reason = "there are two of them, 0 and 1")]
fn run(
    now: &mut Instant,
    stations: &mut [Station<'_>; 2],
    who: usize,
    query: QueryId,
) -> Result<(), Box<dyn Error>> {
    stations[who].wake = Some(*now);
    while !stations[who].stack.application().ended.contains(&query) {
        for index in 0..2 {
            let station = &mut stations[index];
            let due = station.wake.is_some_and(|wake| wake <= *now);
            if due || !station.card.received.is_empty() {
                station.wake = station.stack.poll(*now, &mut station.card);
            }
            let sent = std::mem::take(&mut station.card.sent);
            stations[1 - index].card.received.extend(sent);
        }
        let waits = stations
            .iter()
            .all(|station| station.card.received.is_empty());
        let wakes = stations.iter().filter_map(|station| station.wake);
        if waits {
            *now = wakes.min().ok_or("nobody has anything to do")?.max(*now);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut node_a, mut node_b) = (Box::new(Node::unstarted()), Box::new(Node::unstarted()));
    let (mut memory_a, mut memory_b) = (Memory::EMPTY, Memory::EMPTY);
    let (mut sockets_a, mut sockets_b) = (Sockets::new(), Sockets::new());
    let mut stations = [
        start(1, "alice", &mut node_a, &mut memory_a, &mut sockets_a)?,
        start(2, "bob", &mut node_b, &mut memory_b, &mut sockets_b)?,
    ];
    let mut clock = Instant::ZERO;
    let now = &mut clock;
    let refused = |error| format!("{error:?}");
    let joining = stations[1]
        .stack
        .node_mut()
        .join(*now, addr_of(1), WITHIN_MS);
    run(now, &mut stations, 1, joining.map_err(refused)?)?;
    let registering = stations[0].stack.node_mut().register(*now, WITHIN_MS);
    run(now, &mut stations, 0, registering.map_err(refused)?)?;
    let following = stations[1]
        .stack
        .node_mut()
        .follow(*now, &Handle::parse("alice")?, WITHIN_MS);
    run(now, &mut stations, 1, following.map_err(refused)?)?;
    let [alice, bob] = &mut stations;
    let posting = alice.stack.node_mut().post(*now, "low tide at six");
    let reading = bob.stack.node_mut().timeline(*now, None, WITHIN_MS);
    alice.wake = Some(*now);
    run(now, &mut stations, 1, reading.map_err(refused)?)?;
    // Acknowledged now that Bob has it.
    run(now, &mut stations, 0, posting.map_err(refused)?)?;
    let posts = &stations[1].stack.application().posts;
    (posts == &["low tide at six"])
        .then_some(())
        .ok_or_else(|| "the post did not arrive".into())
}

#[test]
fn it_ends_well() -> Result<(), Box<dyn Error>> {
    main()
}
