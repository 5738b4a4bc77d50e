//! The world: machines, the network between them, one queue of events, and the oracles that look at every step.
//!
//! Owns the order of everything. A step takes one event, hands its input to one node, drains the node through core's own
//! loop, judges every output, and carries the outputs out as events to come. What the inputs and outputs are is traced,
//! so that two runs can be compared by one number. Streams are moved in `super::carry`; what a test says to a world is
//! in [`super::scenario`]. The invariant: between two steps every running node has been drained to `Wait`, and nothing
//! depends on anything but the seed and the calls of the test.
//!
//! | file | what it does |
//! |---|---|
//! | `boot` | switches machines on |
//! | `turn` | takes an event, drains the node, carries the outputs out |
//! | `tell` | says on stderr what happens to a watched node |

mod boot;
mod tell;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use strandline_core::output::QueryId;
use strandline_core::plan::{Plan, Server};
use strandline_core::wire::NetworkId;

use super::answers::{Answer, Notice, Ticket};
use super::carry::Signal;
use super::ledger::Ledger;
use super::machine::Machine;
use super::meter::{Cause, Meter};
use super::model::Model;
use super::network::Network;
use super::node::AnyNode;
use super::plans::{Cryptography, Overlay, SimServer};
use super::queue::Queue;
use super::random::Random;
use super::streams::{ConnId, Streams};
use super::tape::Tape;
use super::trace::Trace;
use super::widths::Widths;

/// Names a machine of a world, and the node on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A world that collects failures stops collecting here.
const FAILURES_MAX: usize = 50;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    Datagram {
        to: u32,
        from: SocketAddr,
        bytes: Box<[u8]>,
        cause: Cause,
    },
    Wake {
        host: u32,
        at_us: u64,
    },
    Commit {
        host: u32,
        incarnation: u32,
    },
    Sntp {
        host: u32,
        incarnation: u32,
    },
    Stream(ConnId, Signal),
    Overdue(Ticket),
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When, in µs of the world's time.
    pub at_us: u64,
    /// Which node broke it.
    pub host: HostId,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, us) = (self.at_us / 1_000_000, self.at_us % 1_000_000);
        write!(f, "at {s}.{us:06} s, node {}: {}", self.host, self.what)
    }
}

/// How much happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Inputs to nodes.
    pub inputs: u64,
    /// Outputs of nodes.
    pub outputs: u64,
    /// Datagrams that nodes sent.
    pub datagrams: u64,
    /// Bytes in them.
    pub datagram_bytes: u64,
    /// Datagrams that arrived nowhere.
    pub datagrams_lost: u64,
    /// The longest datagram.
    pub datagram_len_max: usize,
    /// Streams opened.
    pub streams: u64,
    /// Frames written to them.
    pub frames: u64,
    /// Bytes in those.
    pub stream_bytes: u64,
    /// Commands begun.
    pub begun: u64,
    /// Commands that ended.
    pub ended: u64,
}

/// See the file's first paragraph.
pub struct World {
    pub(super) seed: u64,
    cryptography: Cryptography,
    network_id: NetworkId,
    pub(super) queue: Queue<Event>,
    pub(super) network: Network,
    pub(super) streams: Streams,
    pub(super) machines: Vec<Machine>,
    /// Keys, seeds, clocks and disks of the machines.
    pub(super) nodes_random: Random,
    /// Sizes of segments.
    pub(super) segments_random: Random,
    trace: Trace,
    pub(super) ledger: Ledger,
    pub(super) model: Model,
    pub(super) meter: Meter,
    pub(super) answers: BTreeMap<Ticket, Answer>,
    open: BTreeMap<(u32, QueryId), Ticket>,
    others: BTreeMap<Ticket, HostId>,
    tickets: u64,
    pub(super) notices: BTreeMap<HostId, Vec<Notice>>,
    pub(super) tapes: BTreeMap<u32, Tape>,
    pub(super) tally: Tally,
    failures: Vec<Failure>,
    /// Which overlay the nodes that are started from now on are in. One world has one.
    pub overlay: Overlay,
    /// How wide its network is. Decide before the first node starts.
    pub widths: Widths,
    /// Whether notices of neighbours, ranges and keys are kept too, see [`World::take_notices`].
    pub keeps_all_notices: bool,
    /// Whether a failed oracle panics at once (in tests), or is collected (in the simulator's binary).
    pub panics: bool,
    /// Whether the oracles look at every step. Without them a large world takes half the memory; what they would have
    /// seen is then not said. Decide before the first node starts.
    pub judges: bool,
    /// Whether machines keep what is written to their disks. Without, a write is acknowledged and forgotten, and no
    /// machine may be started again.
    pub keeps_disks: bool,
    /// Whether nodes that are started from now on publish what they have to say of their users. Without, their storage is
    /// never read to its end, and they are nodes of the DHT alone: they sign nothing, and so put no values either.
    pub publishes: bool,
    /// How long commands may take, in ms.
    pub within_ms: u32,
    /// How to run this world again; printed when an oracle fails.
    pub replay: String,
    /// A node whose every input and output is told on stderr, in words.
    pub watched: Option<HostId>,
}

impl World {
    /// An empty world with real cryptography.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_cryptography(seed, Cryptography::Real)
    }

    /// An empty world.
    #[must_use]
    pub fn with_cryptography(seed: u64, cryptography: Cryptography) -> Self {
        let random = Random::new(seed);
        let network_id = match cryptography {
            Cryptography::Real => NetworkId::of_name::<<Server as Plan>::Crypto>("simulation"),
            Cryptography::StandIn => {
                NetworkId::of_name::<<SimServer as Plan>::Crypto>("simulation")
            }
        };
        Self {
            seed,
            cryptography,
            network_id,
            queue: Queue::new(),
            network: Network::new(random.fork("network")),
            streams: Streams::default(),
            machines: Vec::new(),
            nodes_random: random.fork("nodes"),
            segments_random: random.fork("segments"),
            trace: Trace::new(),
            ledger: Ledger::default(),
            model: Model::default(),
            meter: Meter::default(),
            answers: BTreeMap::new(),
            open: BTreeMap::new(),
            others: BTreeMap::new(),
            tickets: 0,
            notices: BTreeMap::new(),
            tapes: BTreeMap::new(),
            tally: Tally::default(),
            failures: Vec::new(),
            overlay: Overlay::Kademlia,
            widths: Widths::USUAL,
            keeps_all_notices: false,
            panics: true,
            judges: true,
            keeps_disks: true,
            publishes: true,
            within_ms: 10_000,
            replay: String::new(),
            watched: None,
        }
    }

    /// The seed of this world.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Which cryptography its nodes use.
    #[must_use]
    pub const fn cryptography(&self) -> Cryptography {
        self.cryptography
    }

    /// The network that its nodes belong to, with the mark of their overlay.
    #[must_use]
    pub const fn network_id(&self) -> NetworkId {
        self.network_id.marked(self.overlay.mark())
    }

    /// The time in µs since the world began.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.queue.now_us()
    }

    /// The trace of everything so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How much happened so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The promises that were broken so far.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The reference model.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// What is counted about datagrams.
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The same, to tell it what to count.
    pub const fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// How many events are waiting.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many machines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there is no machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// A machine.
    #[must_use]
    pub fn machine(&self, host: HostId) -> &Machine {
        &self.machines[host.0 as usize]
    }

    pub(super) fn machine_mut(&mut self, host: u32) -> &mut Machine {
        &mut self.machines[host as usize]
    }

    /// The running node of a machine.
    #[must_use]
    pub fn running(&self, host: HostId) -> Option<&AnyNode> {
        self.machines.get(host.0 as usize).and_then(Machine::node)
    }

    /// Takes note of a broken promise: panics in tests, collects in the simulator's binary.
    ///
    /// # Panics
    /// With the seed and the command that shows it again, if [`World::panics`] is set.
    pub fn fail(&mut self, host: HostId, what: String) {
        let failure = Failure {
            at_us: self.now_us(),
            host,
            what,
        };
        assert!(
            !self.panics,
            "seed {}: {failure}\n{}",
            self.seed, self.replay
        );
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        }
    }
}
