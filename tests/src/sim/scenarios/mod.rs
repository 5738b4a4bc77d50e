//! Scenarios: networks of one size that one thing is done to, and what is then measured.
//!
//! Owns the scenarios of `cargo sim` beside its default world, and their numbers. Each fills a network by joining, node
//! by node, and asks real nodes through their commands; nothing looks into a node but to know the truth that an answer
//! is compared with. The invariant: everything follows from the options, so that a row of a report can be run again.
//!
//! | file | what it owns |
//! |---|---|
//! | `crowd` | the network of a scenario, who lives in it, and the truth about who is near a key |
//! | `asking` | lookups and reads from everywhere, and what came of them |
//! | `publishing` | values put, and authors that go once they are |
//! | `join`, `lookup`, `churn`, `half_die`, `partition`, `flash_crowd`, `skew`, `silent`, `newcomers`, `sending` | a scenario each |
//! | `ring` | what the paper on Chord measured: `ring-paths`, `ring-failures`, `ring-churn` |
//! | `report` | rows of numbers, in words, JSON and CSV |
//! | `plot` | lines over two axes, as SVG |

pub mod asking;
pub mod churn;
pub mod crowd;
pub mod flash_crowd;
pub mod half_die;
pub mod join;
pub mod lookup;
pub mod newcomers;
pub mod partition;
pub mod plot;
pub mod publishing;
pub mod report;
pub mod ring;
pub mod sending;
pub mod silent;
pub mod skew;

use super::{Chance, Cryptography, Overlay, Widths, World};

pub use crowd::Crowd;
pub use report::Report;

/// From this many nodes on, the oracles that look at every step are off unless they are asked for.
pub const JUDGED_MAX: usize = 10_000;

/// What every scenario needs to know.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The number from which everything random is drawn.
    pub seed: u64,
    /// How many nodes the network has.
    pub nodes: usize,
    /// Longest one-way delay, in µs; the shortest is a tenth.
    pub delay_us: u64,
    /// Datagrams lost.
    pub loss: Chance,
    /// The cryptography of the nodes.
    pub cryptography: Cryptography,
    /// The overlay of all nodes.
    pub overlay: Overlay,
    /// How wide the network is.
    pub widths: Widths,
    /// Whether nodes publish what they have to say of their users, see [`World::publishes`].
    pub publishes: bool,
    /// Whether the oracles look at every step; `None`: up to [`JUDGED_MAX`] nodes.
    pub judges: Option<bool>,
    /// The command that runs this again.
    pub command: String,
}

impl Basis {
    /// A network of so many nodes with the usual conditions: 6 to 60 ms one way, nothing lost, stand-in cryptography.
    #[must_use]
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            delay_us: 60_000,
            loss: Chance::NEVER,
            cryptography: Cryptography::StandIn,
            overlay: Overlay::Kademlia,
            widths: Widths::USUAL,
            publishes: true,
            judges: None,
            command: String::new(),
        }
    }

    /// Whether the oracles look at every step.
    #[must_use]
    pub fn judged(&self) -> bool {
        self.judges.unwrap_or(self.nodes <= JUDGED_MAX)
    }

    /// The empty world of the scenario.
    #[must_use]
    pub fn world(&self) -> World {
        let mut world = World::with_cryptography(self.seed, self.cryptography);
        world.panics = false;
        world.overlay = self.overlay;
        world.widths = self.widths;
        world.judges = self.judged();
        world.keeps_disks = false;
        world.publishes = self.publishes;
        world.replay.clone_from(&self.command);
        let network = world.network_mut();
        network.delay_us = self.delay_us / 10..=self.delay_us;
        network.loss = self.loss;
        world
    }
}

/// Told now and then how far a scenario is: what it does, of which how much.
pub type Progress<'p> = &'p mut dyn FnMut(&World, &str);
