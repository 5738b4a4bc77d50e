//! A key-value store on five nodes, each with a UDP socket of its own on the loopback interface, in one thread.
//!
//! One node stores a value, another reads it; a newer value takes its place; and a value whose key is its hash needs
//! nobody's word for it. `cargo run -p strandline-core --example key_value_store` ends well only if all of that held.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Key, UserId};
use strandline_core::output::{Event, OUTPUT_LEN_MAX, Outcome, QueryId};
use strandline_core::plan::Server;
use strandline_core::rng::{Rng, Seed};
use strandline_core::time::Instant;
use strandline_core::wire::record::{Draft, Kind, Kinds};
use strandline_core::wire::{NetworkId, RECORD_LEN_MAX};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a command may take, in ms.
const WITHIN_MS: u32 = 5_000;
/// How long a value is kept, in ms. Holders that do not know the date keep none for longer than an hour.
const LIFETIME_MS: u32 = 10 * 60 * 1_000;

/// A node of the store.
struct Node {
    dht: Box<Dht<Server>>,
    socket: UdpSocket,
}

/// All of them, on one clock.
struct Store {
    nodes: Vec<Node>,
    began: std::time::Instant,
    network: NetworkId,
}

fn main() -> Result<()> {
    let mut store = Store::of(5)?;
    let author = SecretKey::from_bytes(random()?);

    // A mutable value: anybody may write at any key, each author has one place there, the higher sequence wins.
    let key = Key::of_text::<Ed25519>("tide");
    for (sequence, value) in [(1, &b"low"[..]), (2, b"high")] {
        let record = store.sign(&author, key, sequence, value)?;
        let put = |dht: &mut Dht<Server>, now| dht.put(now, &record, Owner::Application, WITHIN_MS);
        let (_, outcome) = store.run(1, put)?;
        let stored = matches!(outcome, Outcome::Stored { accepted, wanted } if accepted >= wanted);
        check(stored, "stored by enough nodes")?;
    }
    let read = |dht: &mut Dht<Server>, now| {
        let kinds = Kinds::of(&[Kind::Value]);
        dht.get(now, key, kinds, None, Owner::Application, WITHIN_MS)
    };
    let (values, _) = store.run(4, read)?;
    check(values == [b"high"], "the newer value is read")?;

    // An immutable one: whoever knows the key knows the value when it comes, whoever wrote it.
    let value = b"what the tide left";
    let key = Key::of_value::<Ed25519>(value);
    for (writer, value) in [
        (author, &value[..]),
        (SecretKey::from_bytes(random()?), b"junk"),
    ] {
        let record = store.sign(&writer, key, 1, value)?;
        let put = |dht: &mut Dht<Server>, now| dht.put(now, &record, Owner::Application, WITHIN_MS);
        store.run(2, put)?;
    }
    let (values, _) = store.run(3, |dht, now| dht.get_value(now, key, WITHIN_MS))?;
    check(
        values == [value],
        "what hashes to the key is read, and nothing else",
    )?;

    println!("put and got through {} nodes", store.nodes.len());
    Ok(())
}

impl Store {
    /// So many nodes, of which each but the first joined through the first.
    fn of(count: usize) -> Result<Self> {
        let mut store = Self {
            nodes: Vec::new(),
            began: std::time::Instant::now(),
            network: NetworkId::of_name::<Ed25519>("example"),
        };
        for n in 0..count {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            let mut dht = Box::new(Dht::EMPTY);
            // The seed must be unpredictable: tokens and transactions come from it.
            let (secret, rng) = (
                SecretKey::from_bytes(random()?),
                Rng::from_seed(&Seed(random()?)),
            );
            dht.start(
                store.now(),
                &secret,
                rng,
                store.network,
                socket.local_addr()?,
            );
            store.nodes.push(Node { dht, socket });
            if n > 0 {
                let first = store.addr(0)?;
                let join = |dht: &mut Dht<Server>, now| {
                    dht.join(now, first, Owner::Application, WITHIN_MS)
                };
                let (_, outcome) = store.run(n, join)?;
                check(
                    matches!(outcome, Outcome::Joined { contacts: 1.. }),
                    "joined",
                )?;
            }
        }
        Ok(store)
    }

    /// Gives a command to a node and lets all of them work until it has ended: the values found, and how it ended.
    fn run<E: std::fmt::Debug>(
        &mut self,
        n: usize,
        command: impl FnOnce(
            &mut Dht<Server>,
            Instant,
        ) -> std::result::Result<strandline_core::dht::OpId, E>,
    ) -> Result<(Vec<Vec<u8>>, Outcome)> {
        let now = self.now();
        let node = self.nodes.get_mut(n).ok_or("no such node")?;
        let query = command(&mut node.dht, now)
            .map_err(|busy| format!("{busy:?}"))?
            .query();
        let mut values = Vec::new();
        loop {
            for at in 0..self.nodes.len() {
                let now = self.now();
                let node = self.nodes.get_mut(at).ok_or("no such node")?;
                node.receive(now)?;
                if let Some(outcome) = node.drain(query, &mut values)? {
                    return Ok((values, outcome));
                }
            }
        }
    }

    /// A signed value.
    fn sign(&self, author: &SecretKey, key: Key, sequence: u64, value: &[u8]) -> Result<Vec<u8>> {
        let public = Ed25519::public_key(author);
        let draft = Draft {
            kind: Kind::Value,
            key,
            author: UserId::of_key::<Ed25519>(&public),
            subject: None,
            page: 0,
            sequence,
            issued_ms: 0, // A node without a date.
            lifetime_ms: LIFETIME_MS,
        };
        let mut record = vec![0; RECORD_LEN_MAX];
        let len = draft.sign::<Ed25519>(value, author, &public, self.network, &mut record);
        record.truncate(len.ok_or("the value is too long")?);
        Ok(record)
    }

    fn now(&self) -> Instant {
        Instant::from_us(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn addr(&self, n: usize) -> Result<SocketAddr> {
        Ok(self
            .nodes
            .get(n)
            .ok_or("no such node")?
            .socket
            .local_addr()?)
    }
}

impl Node {
    /// Takes what has come, or what was due.
    fn receive(&mut self, now: Instant) -> Result<()> {
        let mut datagram = [0; 2_048];
        match self.socket.recv_from(&mut datagram) {
            Ok((len, from)) => {
                // Records for a timeline: there is none here.
                let _ = self
                    .dht
                    .handle_datagram(now, from, datagram.get(..len).ok_or("too long")?);
            }
            Err(_) => self.dht.handle_timeout(now),
        }
        Ok(())
    }

    /// Carries out what the node wants done now. Returns how `query` ended, if it did.
    fn drain(&mut self, query: QueryId, values: &mut Vec<Vec<u8>>) -> Result<Option<Outcome>> {
        let mut buf = [0; OUTPUT_LEN_MAX];
        let mut ended = None;
        loop {
            if let Some((to, len)) = self.dht.poll_send(&mut buf) {
                self.socket.send_to(buf.get(..len).ok_or("too long")?, to)?;
            } else if let Some(event) = self.dht.poll_event(&mut buf) {
                if let Event::Value { bytes, .. } = event {
                    values.push(bytes.to_vec());
                } else if let Event::QueryDone {
                    query: done,
                    outcome,
                } = event
                    && done == query
                {
                    ended = Some(outcome);
                }
            } else if self.dht.poll_contact().is_none() {
                // A host with a disk would keep those contacts for the next start.
                return Ok(ended);
            }
        }
    }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(format!("not so: {what}").into())
    }
}

#[test]
fn it_ends_well() -> Result<()> {
    main()
}
