//! A chat without a server: each room is kept by the node nearest to its key, and a line is a message with an answer.
//!
//! Whoever speaks sends the line to the key of the room; the node that gets it numbers it and answers with all lines
//! since the speaker's last. Twelve nodes live in this process, on a network in memory whose time is that of a counter:
//! the same run each time. It ends well only if everybody in a room has read the same lines in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::net::SocketAddr;

use strandline_core::crypto::{Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::Key;
use strandline_core::output::{Event, Message, OUTPUT_LEN_MAX, Recipient};
use strandline_core::plan::Server;
use strandline_core::rng::{Rng, Seed};
use strandline_core::time::Instant;
use strandline_core::wire::{MESSAGE_LEN_MAX, NetworkId};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WITHIN_MS: u32 = 5_000;
/// How long a datagram travels, in ms.
const DELAY_MS: u64 = 20;
/// Most lines that a room keeps.
const LINES_MAX: usize = 100;

/// A node and its chat.
struct Chatter {
    dht: Box<Dht<Server>>,
    addr: SocketAddr,
    /// The rooms whose lines this node keeps, since their keys are nearest to it.
    rooms: BTreeMap<[u8; 32], Vec<String>>,
    /// What this one has read.
    read: Vec<String>,
}

/// The nodes and what is under way between them.
struct Network {
    now: Instant,
    chatters: Vec<Chatter>,
    flying: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
}

fn main() -> Result<()> {
    let mut network = Network::of(12)?;
    let talk = [
        (2, "harbour", "is the boat back?"),
        (5, "harbour", "not yet"),
        (3, "beach", "who lost a shoe?"),
        (9, "harbour", "it is in sight"),
        (2, "harbour", "good"),
        (7, "beach", "me"),
        (5, "harbour", ""),
        (9, "harbour", ""),
        (3, "beach", ""),
    ];
    for (who, room, line) in talk {
        network.say(who, room, line)?;
    }
    for (who, room) in [
        (2, "harbour"),
        (5, "harbour"),
        (9, "harbour"),
        (3, "beach"),
        (7, "beach"),
    ] {
        let said = talk
            .iter()
            .filter(|(_, at, line)| *at == room && !line.is_empty());
        let said: Vec<&str> = said.map(|(_, _, line)| *line).collect();
        let read = network.chatters.get(who).map(|chatter| &chatter.read);
        if read.is_none_or(|read| *read != said) {
            return Err(format!("{who} read {read:?} in {room}, not {said:?}").into());
        }
    }
    let keepers = network
        .chatters
        .iter()
        .filter(|chatter| !chatter.rooms.is_empty());
    println!(
        "everybody read the same; {} nodes kept the rooms",
        keepers.count()
    );
    Ok(())
}

impl Network {
    /// So many nodes, of which each but the first joined through the first.
    fn of(count: u8) -> Result<Self> {
        let mut network = Self {
            now: Instant::from_s(1),
            chatters: Vec::new(),
            flying: VecDeque::new(),
        };
        for n in 0..count {
            let addr = SocketAddr::from(([10, 0, n, 1], 7_827));
            let mut dht = Box::new(Dht::EMPTY);
            // In memory nobody listens: elsewhere both must be unpredictable.
            let (secret, rng) = (
                SecretKey::from_bytes([n + 1; 32]),
                Rng::from_seed(&Seed([n + 1; 32])),
            );
            dht.start(
                network.now,
                &secret,
                rng,
                NetworkId::of_name::<Ed25519>("chat"),
                addr,
            );
            if let Some(first) = network.chatters.first() {
                let begun = dht.join(network.now, first.addr, Owner::Application, WITHIN_MS);
                begun.map_err(|busy| format!("{busy:?}"))?;
            }
            network.chatters.push(Chatter {
                dht,
                addr,
                rooms: BTreeMap::new(),
                read: Vec::new(),
            });
            network.rest();
        }
        Ok(network)
    }

    /// Says a line in a room, or nothing to hear what the others say.
    fn say(&mut self, who: usize, room: &str, line: &str) -> Result<()> {
        let to = Recipient::Key(Key::of_text::<Ed25519>(room));
        let chatter = self.chatters.get_mut(who).ok_or("no such node")?;
        let message = format!("{} {line}", chatter.read.len());
        let sent = chatter.dht.send(
            self.now,
            to,
            message.as_bytes(),
            Owner::Application,
            WITHIN_MS,
        );
        sent.map_err(|busy| format!("{busy:?}"))?;
        self.rest();
        Ok(())
    }

    /// Lets happen what happens within the next second.
    fn rest(&mut self) {
        let end = self.now.after_s(1);
        loop {
            for chatter in &mut self.chatters {
                chatter.drain(self.now, &mut self.flying);
            }
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let timers = self
                .chatters
                .iter()
                .filter_map(|chatter| chatter.dht.next_deadline());
            let Some(next) = timers.chain(arrival).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = next;
            if arrival == Some(next)
                && let Some((_, from, to, bytes)) = self.flying.pop_front()
            {
                let receiver = self.chatters.iter_mut().find(|chatter| chatter.addr == to);
                if let Some(chatter) = receiver {
                    let _ = chatter.dht.handle_datagram(next, from, &bytes);
                }
            }
            for chatter in &mut self.chatters {
                chatter.dht.handle_timeout(next);
            }
        }
    }
}

impl Chatter {
    /// Carries out what the node wants done now, and answers the messages that came.
    fn drain(
        &mut self,
        now: Instant,
        flying: &mut VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    ) {
        let mut buf = [0; OUTPUT_LEN_MAX];
        loop {
            if let Some((to, len)) = self.dht.poll_send(&mut buf) {
                let bytes = buf.get(..len).unwrap_or_default().to_vec();
                flying.push_back((now.after_ms(DELAY_MS), self.addr, to, bytes));
            } else if let Some(event) = self.dht.poll_event(&mut buf) {
                if let Event::Message(message) = event {
                    let lines = keep(&mut self.rooms, &message);
                    // The answer has to be given before the next output is asked for.
                    if self.dht.answer(lines.as_bytes()).is_err() {
                        eprintln!("there is no room for an answer");
                    }
                } else if let Event::Answer { bytes, .. } = event {
                    let lines = String::from_utf8_lossy(bytes);
                    self.read.extend(lines.lines().map(str::to_owned));
                }
            } else if self.dht.poll_contact().is_none() {
                return;
            }
        }
    }
}

/// Puts a line into its room, and tells what the speaker has not read, as far as it fits.
fn keep(rooms: &mut BTreeMap<[u8; 32], Vec<String>>, message: &Message<'_>) -> String {
    // To this very node nobody speaks: rooms have keys.
    let Recipient::Key(room) = message.to else {
        return String::new();
    };
    let text = String::from_utf8_lossy(message.bytes);
    let (read, line) = text.split_once(' ').unwrap_or_default();
    let lines = rooms.entry(*room.as_bytes()).or_default();
    if !line.is_empty() && lines.len() < LINES_MAX {
        lines.push(line.to_owned());
    }
    let mut answer = String::new();
    for line in lines.iter().skip(read.parse().unwrap_or(0)) {
        if answer.len() + line.len() < MESSAGE_LEN_MAX {
            answer.push_str(line);
            answer.push('\n');
        }
    }
    answer
}

#[test]
fn it_ends_well() -> Result<()> {
    main()
}
