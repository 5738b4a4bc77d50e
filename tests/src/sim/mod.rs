//! The simulator: a deterministic world of real nodes.
//!
//! A [`World`] holds machines, the network between them and virtual time. Each node is core's own state machine, driven
//! through core's own drain loop; only clocks, links and disks are made up. Oracles look at every output of every step
//! and compare it with a reference model, so that a test need not ask for what must always hold (DESIGN §3 and §11):
//! a broken promise stops it at once, with the seed and the command that shows it again.
//!
//! ```
//! use strandline_tests::sim::{Kind, World, secs};
//!
//! let mut world = World::new(7);
//! world.network_mut().delay_us = 1_000..=1_000;
//! let node = world.node(Kind::Server);
//! world.run_for(secs(1));
//! assert!(world.running(node).is_some());
//! ```
//!
//! | file | what it owns |
//! |---|---|
//! | `world` | machines, queue, steps; what every output must fulfil |
//! | `scenario` | the verbs of tests: nodes, commands, crashes, partitions, strangers |
//! | `hostile` | strangers: raw datagrams and streams, forged records |
//! | `workload` | what happens in a world that runs by itself (`cargo sim`) |
//! | `scenarios` | one thing done to a network of any size, and measured (`cargo sim -- lookup`, …) |
//! | `model` | what must, may and must not be seen |
//! | `ledger` | bytes sent to addresses that were not validated |
//! | `meter` | how many datagrams of which kind, for what; who holds what |
//! | `carry`, `streams` | TCP-like streams: their motion, their state |
//! | `network` | delay, loss, duplication, reordering, partitions |
//! | `machine`, `storage`, `clock` | a machine, its disk, its clocks |
//! | `application` | one's own program on a simulated node |
//! | `node`, `effects`, `answers` | a node of any plan, its inputs, its outputs, what its application hears |
//! | `plans`, `widths`, `crypto` | the plans of simulated nodes, how wide their networks are, the stand-in cryptography of large worlds |
//! | `queue`, `random` | order and chance |
//! | `heap`, `fetch` | whose memory is allocated: the simulator's or core's; memory fetched before it is needed |
//! | `trace`, `tape` | the hash of everything that happened; a node's inputs, to be replayed |

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "the simulator is a test: it may panic, and looks at a few outcomes among many"
)]

pub mod answers;
pub mod application;
mod carry;
pub mod clock;
pub mod crypto;
pub mod effects;
mod fetch;
pub mod heap;
pub mod hostile;
pub mod ledger;
pub mod machine;
pub mod meter;
pub mod model;
pub mod network;
pub mod node;
pub mod plans;
pub mod queue;
pub mod random;
pub mod scenario;
pub mod scenarios;
pub mod storage;
pub mod streams;
pub mod tape;
pub mod trace;
pub mod widths;
pub mod workload;
pub mod world;

pub use answers::{Answer, Notice, Shown, State, Ticket};
pub use application::AnyApplication;
pub use machine::Setup;
pub use node::Command;
pub use plans::{Cryptography, Kind, Overlay};
pub use random::{Chance, Random};
pub use scenario::{Follows, Read, mins, ms, secs};
pub use streams::ConnId;
pub use tape::Tape;
pub use widths::Widths;
pub use world::{HostId, Tally, World};
