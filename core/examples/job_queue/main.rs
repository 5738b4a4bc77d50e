//! A job queue without a master: each job is done by the node that is responsible for its key, and nodes that come, die and
//! go change who that is.
//!
//! The application is in `queue.rs`: it runs on any host, and `tests/tests/own_application.rs` runs the same file in the
//! simulator. Here the host is a network in memory, whose time is that of a counter: the same run each time. Ten nodes on a
//! ring are given forty jobs; then one comes, and one dies in the middle of its work. It ends well only if every job was done.

mod queue;

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::net::SocketAddr;

use strandline_core::config::{Config, Identity};
use strandline_core::crypto::{Ed25519, SecretKey};
use strandline_core::drive::{self, Transport};
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::{PersistId, Restored, Stored, StreamId};
use strandline_core::plan::{Server, ServerRing};
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;

use queue::Queue;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Plan = Server<Ed25519, ServerRing>;

/// How long a datagram travels, in ms.
const DELAY_MS: u64 = 20;
const JOBS: usize = 40;

/// A datagram under way: when it arrives, from where, where, and what.
type Flying = VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>;

/// A node with its part of the queue.
struct Worker {
    node: Box<Node<Plan>>,
    queue: Queue,
    addr: SocketAddr,
    /// When it wants to be called.
    wake: Option<Instant>,
}

/// The workers, and what is under way between them.
struct Network {
    now: Instant,
    workers: Vec<Worker>,
    flying: Flying,
}

/// What a node does to this world.
struct Wire<'w> {
    now: Instant,
    from: SocketAddr,
    flying: &'w mut Flying,
    /// Streams that a node wants to open: there are none here.
    refused: Vec<StreamId>,
    written: Option<PersistId>,
}

impl Transport for Wire<'_> {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let arrival = self.now.after_ms(DELAY_MS);
        self.flying
            .push_back((arrival, self.from, to, bytes.to_vec()));
    }

    fn open(&mut self, stream: StreamId, _to: SocketAddr) {
        self.refused.push(stream);
    }

    fn write(&mut self, _stream: StreamId, _bytes: &[u8]) {}

    fn close(&mut self, _stream: StreamId) {}

    // Nobody here starts again: what is written is forgotten.
    fn persist(&mut self, id: PersistId, _item: Stored<'_>) {
        self.written = Some(id);
    }
}

fn main() -> Result<()> {
    let mut network = Network {
        now: Instant::from_s(1),
        workers: Vec::new(),
        flying: Flying::new(),
    };
    for _ in 0..10 {
        network.join()?;
        network.run(1_000);
    }
    network.run(60_000); // The ring closes.

    let jobs: Vec<String> = (0..JOBS).map(|n| format!("job {n}")).collect();
    network.worker(3)?.queue.inbox.extend(jobs.iter().cloned());
    network.run(3_000);
    network.join()?;
    network.run(2_000);
    let dead = network.workers.swap_remove(0);
    println!("one worker came, one died");
    network.run(180_000);

    let mut done: Vec<&str> = Vec::new();
    for worker in network.workers.iter().chain([&dead]) {
        println!("{} did {}", worker.addr.ip(), worker.queue.done.len());
        done.extend(worker.queue.done.iter().map(String::as_str));
    }
    let different: BTreeSet<&str> = done.iter().copied().collect();
    let again = done.len() - different.len();
    println!("{} jobs done, {again} of them twice", different.len());
    let missing = jobs.iter().find(|job| !different.contains(job.as_str()));
    match missing {
        Some(job) => Err(format!("nobody did {job}").into()),
        None => Ok(()),
    }
}

impl Network {
    /// Adds a worker, which joins through the first.
    fn join(&mut self) -> Result<()> {
        let n = u8::try_from(self.workers.len() + 1)?;
        let addr = SocketAddr::from(([10, 0, n, 1], 7_827));
        // In memory nobody listens: elsewhere these must be unpredictable.
        let identity = Identity {
            user: SecretKey::from_bytes([n; 32]),
            node: SecretKey::from_bytes([n + 40; 32]),
            name: Name::parse(&format!("worker-{n}")).map_err(|_| "no name")?,
        };
        let config = Config::new(NetworkId::of_name::<Ed25519>("jobs"), addr);
        let mut node = Box::new(Node::unstarted());
        let refused = |error| format!("{error:?}");
        node.start(self.now, identity, &Seed([n; 32]), &config)
            .map_err(refused)?;
        node.restored_all(self.now, Restored::Fresh)
            .map_err(|damaged| format!("{damaged:?}"))?;
        if let Some(first) = self.workers.first() {
            let joining = node.join(self.now, first.addr, 5_000);
            joining.map_err(|error| format!("{error:?}"))?;
        }
        self.workers.push(Worker {
            node,
            queue: Queue::default(),
            addr,
            wake: Some(self.now),
        });
        Ok(())
    }

    fn worker(&mut self, n: usize) -> Result<&mut Worker> {
        let worker = self.workers.get_mut(n).ok_or("no such worker")?;
        worker.wake = Some(self.now);
        Ok(worker)
    }

    /// Lets happen what happens within so many ms.
    fn run(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        loop {
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let timers = self.workers.iter().filter_map(|worker| worker.wake);
            let Some(next) = timers.chain(arrival).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now)
                && let Some((_, from, to, bytes)) = self.flying.pop_front()
                && let Some(worker) = self.workers.iter_mut().find(|worker| worker.addr == to)
            {
                worker.node.handle_datagram(self.now, from, &bytes);
                worker.attend(self.now, &mut self.flying);
            }
            for worker in &mut self.workers {
                if worker.wake.is_some_and(|at| at <= self.now) {
                    worker.node.handle_timeout(self.now);
                    worker.attend(self.now, &mut self.flying);
                }
            }
        }
    }
}

impl Worker {
    /// Carries out what the node wants done, and lets the queue act.
    fn attend(&mut self, now: Instant, flying: &mut Flying) {
        let mut wire = Wire {
            now,
            from: self.addr,
            flying,
            refused: Vec::new(),
            written: None,
        };
        loop {
            self.wake = drive::attend(now, &mut self.node, &mut wire, &mut self.queue);
            let (written, refused) = (wire.written.take(), std::mem::take(&mut wire.refused));
            if written.is_none() && refused.is_empty() {
                return;
            }
            if let Some(up_to) = written {
                self.node.persisted(now, up_to);
            }
            for stream in refused {
                self.node.stream_closed(now, stream);
            }
        }
    }
}

#[test]
fn it_ends_well() -> Result<()> {
    main()
}
