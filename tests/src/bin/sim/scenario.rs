//! The scenarios' commands: their options and their help.
//!
//! Owns no measuring: that is [`strandline_tests::sim::scenarios`]'s, which `run` calls.

mod run;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use strandline_tests::sim::scenarios::{Basis, half_die, partition, skew};
use strandline_tests::sim::{Chance, Widths};

use super::day::{CryptoOption, OverlayOption};
use super::widths::WidthOptions;

pub use run::run;

/// What is done to a network.
#[derive(Subcommand, Debug)]
pub enum Scenario {
    /// Fill a network by joining: how long, how many datagrams, how full the tables, how much memory
    ///
    /// Each node joins through a member drawn at random. A network grows by a twentieth in a second, and rests for a
    /// minute at the end. Memory is counted by the allocator: what core allocates inside nodes, and the rest.
    Join {
        #[command(flatten)]
        common: Common,
    },
    /// Look random keys up from random nodes of a static network
    ///
    /// The network is filled by joining and rests for a minute. An answer is compared with the truth about all nodes
    /// that live: is the first the nearest, and how many of the k nearest are there? Requests are those that the
    /// asker sent about its key; pings to addresses that it never heard from count apart.
    Lookup {
        #[command(flatten)]
        common: Common,
        /// Of the nodes, in percent, those that vanish at once just before; measured with all alive first
        #[arg(long, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=95))]
        dead: u32,
        /// How many lookups
        #[arg(long, default_value_t = 2_000)]
        lookups: u64,
        /// How many of them begin in a second
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        per_second: u64,
    },
    /// Let nodes crash and others come, all the time, and read values whose authors are gone
    ///
    /// Sessions are exponential with the median given; every departure is a crash without a word, and a newcomer joins
    /// at once. The values were put by nodes that vanished once theirs was stored, so that nobody writes them again. A
    /// value is lost when no running node holds a copy before it expires. Bytes are UDP payload; those that a read led
    /// to count as workload, everything else as maintenance, repetitions after a time-out included.
    Churn {
        #[command(flatten)]
        common: Common,
        /// Median of the sessions in minutes; several, separated by commas, are run one after the other
        #[arg(long, value_name = "MIN", value_delimiter = ',', default_value = "60", value_parser = clap::value_parser!(u64).range(1..))]
        median: Vec<u64>,
        /// How many hours of churn; values live for 24
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=23))]
        hours: u64,
        /// How many values
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        values: u32,
        /// Reads in a minute, all nodes together
        #[arg(long, default_value_t = 60)]
        reads: u64,
    },
    /// Let half of all nodes vanish at once; ask at once and ten minutes later
    ///
    /// Asked are lookups of nodes, compared with the truth about who lives, and reads of values of which some holder
    /// survived. `--dead` takes another share than half.
    HalfDie {
        #[command(flatten)]
        common: Common,
        /// Of the nodes, in percent, those that vanish
        #[arg(long, value_name = "PCT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=95))]
        dead: u32,
        #[command(flatten)]
        asking: Asking,
    },
    /// Cut the network in two for ten minutes, write on both sides, heal it, and read
    ///
    /// Every author is in one half and writes its value anew there. After the healing both sides are asked, after half
    /// a minute, one, two and ten: do they find the newest?
    Partition {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let very many join at once through one node, and all of them read one key
    ///
    /// A tenth of the nodes is there before; the rest comes in one moment, all through the first. Then one value is put,
    /// and read by every node within ten seconds.
    FlashCrowd {
        #[command(flatten)]
        common: Common,
    },
    /// Let clocks be minutes off and drift; are values found while they live, and not after?
    ///
    /// Values live for twenty minutes. Each node's time of day is off by up to the seconds given, either way, and its
    /// monotonic clock gains or loses up to the parts per million given. Nodes are told how uncertain their time of day
    /// is, unless `--lying`.
    Skew {
        #[command(flatten)]
        common: Common,
        /// Time of day is off by at most so many seconds
        #[arg(long, value_name = "SECS", default_value_t = 300)]
        error: u32,
        /// Nodes are told that their time of day is good
        #[arg(long)]
        lying: bool,
        /// Monotonic clocks gain or lose up to so many µs in a second
        #[arg(long, value_name = "PPM", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
        drift: u32,
        #[command(flatten)]
        asking: Asking,
    },
    /// Chord: count the steps of lookups where a node has one successor, and a reply names one next node
    ///
    /// The network is filled by joining and rests until all fingers were looked up again. Counted are the steps to the
    /// node before the key, as in the paper (Stoica et al. 2003, section V-C), which has half the logarithm of the number
    /// of nodes. Cryptography is the stand-in.
    RingPaths {
        #[command(flatten)]
        common: Common,
        /// How many lookups
        #[arg(long, default_value_t = 10_000)]
        lookups: u64,
        /// How many of them begin in a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
        per_second: u64,
        /// How long the network rests before, in seconds
        #[arg(long, value_name = "SECS", default_value_t = 600)]
        rest: u64,
    },
    /// Chord: let a share of all nodes vanish at once, and every survivor look a key up in the same moment
    ///
    /// As table II of the paper, before any stabilisation. Counted are the steps to the owner, and the nodes that did not
    /// answer.
    RingFailures {
        #[command(flatten)]
        common: Common,
        /// Of the nodes, in percent, those that vanish; several, separated by commas, are run one after the other
        #[arg(long, value_name = "PCT", value_delimiter = ',', default_value = "0,10,20,30,40,50", value_parser = clap::value_parser!(u32).range(0..=95))]
        dead: Vec<u32>,
        /// How many networks this is done to, each with a seed of its own
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        networks: u64,
    },
    /// Chord: let nodes join and others vanish all the time, and look a key up every second
    ///
    /// As table III of the paper, but that nodes vanish without a word.
    RingChurn {
        #[command(flatten)]
        common: Common,
        /// Joins in a hundred seconds, and as many departures; several, separated by commas, are run one after the other
        #[arg(long, value_delimiter = ',', default_value = "5,10,15,20,25,30,35,40", value_parser = clap::value_parser!(u64).range(0..=1_000))]
        rates: Vec<u64>,
        /// How many lookups
        #[arg(long, default_value_t = 10_000)]
        lookups: u64,
        /// How many of them in a second
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=20))]
        per_second: u64,
    },
    /// Plant contacts that never answer, each by one datagram to every node; do lookups notice?
    Silent {
        #[command(flatten)]
        common: Common,
        /// How many contacts never answer
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        silent: u32,
        /// How many lookups, before and after
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
        lookups: u64,
        /// How many of them begin in a second
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        per_second: u64,
    },
    /// Let nodes join that are the nearest of all to a stored value; when has each the value?
    ///
    /// A round of maintenance is a quarter of an hour: that is how long each may take.
    Newcomers {
        #[command(flatten)]
        common: Common,
        /// How many, one a second
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        newcomers: u32,
    },
    /// Send messages to keys while nodes crash and others come
    ///
    /// The owner of a key is the nearest of all who have joined and live: when the message was sent, or when its sender
    /// was answered. Messages whose sender died are left out.
    Send {
        #[command(flatten)]
        common: Common,
        /// Median of the sessions in minutes
        #[arg(long, value_name = "MIN", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        median: u64,
        /// How many minutes
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_440))]
        minutes: u64,
        /// Messages in a minute, all nodes together
        #[arg(long, default_value_t = 60)]
        sends: u64,
    },
}

/// What every scenario can be told.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// The number from which everything random is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes, all servers; several numbers, separated by commas, are run one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    nodes: Vec<u32>,
    /// Longest one-way delay between two machines, in ms; the shortest is a tenth of it
    #[arg(long, value_name = "MS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    delay: u32,
    /// Datagrams lost, in percent
    #[arg(long, value_name = "PCT", default_value = "0", value_parser = Chance::parse_percent)]
    loss: Chance,
    /// The cryptography of the nodes: the real one, or a cheap stand-in
    #[arg(long, value_enum, default_value_t = CryptoOption::StandIn)]
    crypto: CryptoOption,
    /// The overlay of all nodes; scenarios of rings have theirs
    #[arg(long, value_enum, default_value_t = OverlayOption::Kademlia)]
    overlay: OverlayOption,
    #[command(flatten)]
    widths: WidthOptions,
    /// Whether oracles look at every step: by themselves up to 10,000 nodes, since they take memory
    #[arg(long, value_enum, default_value_t = Oracles::Auto)]
    oracles: Oracles,
    /// Let nodes publish nothing of their users: the DHT alone. Those that put values, and go, do
    #[arg(long)]
    dht_alone: bool,
    /// Print one JSON object on a line for each run
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print a line for each number, with commas
    #[arg(long)]
    csv: bool,
    /// Write plots as SVG into this folder: path length against nodes (`lookup`), success and bandwidth against the
    /// median session (`churn`)
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Oracles {
    Auto,
    On,
    Off,
}

/// What is put and asked.
#[derive(Args, Debug, Clone, Copy)]
pub struct Asking {
    /// How many values lie in the network
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    values: u32,
    /// How many lookups and as many reads, each time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    questions: u64,
    /// How many of them begin in a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    per_second: u64,
}

impl Asking {
    const fn half_die(self, dead: u32) -> half_die::Options {
        half_die::Options {
            values: self.values as usize,
            questions: self.questions,
            per_s: self.per_second,
            dead_percent: dead as usize,
        }
    }

    const fn partition(self) -> partition::Options {
        partition::Options {
            values: self.values as usize,
            reads: self.questions,
            per_s: self.per_second,
        }
    }

    const fn skew(self, error_s: u32, honest: bool, drift_ppm: u32) -> skew::Options {
        skew::Options {
            error_s,
            honest,
            drift_ppm,
            values: self.values as usize,
            reads: self.questions,
            per_s: self.per_second,
        }
    }
}

impl Scenario {
    /// How wide the network is to be.
    ///
    /// # Errors
    /// Which option does not go with another.
    fn widths(&self) -> Result<Widths, String> {
        let widths = self.common().widths.widths()?;
        if !matches!(self, Self::RingPaths { .. }) {
            return Ok(widths);
        }
        if widths.alpha() != Widths::USUAL.alpha() {
            return Err("ring-paths has an alpha of 1 and no other".to_owned());
        }
        Widths::new(widths.k(), 1, widths.replication())
    }

    const fn common(&self) -> &Common {
        match self {
            Self::Join { common }
            | Self::Lookup { common, .. }
            | Self::Churn { common, .. }
            | Self::HalfDie { common, .. }
            | Self::Partition { common, .. }
            | Self::FlashCrowd { common }
            | Self::RingPaths { common, .. }
            | Self::RingFailures { common, .. }
            | Self::RingChurn { common, .. }
            | Self::Skew { common, .. }
            | Self::Silent { common, .. }
            | Self::Newcomers { common, .. }
            | Self::Send { common, .. } => common,
        }
    }
}

fn basis(common: &Common, widths: Widths, nodes: u32) -> Basis {
    let command: Vec<String> = std::env::args().skip(1).collect();
    Basis {
        delay_us: u64::from(common.delay) * 1_000,
        loss: common.loss,
        cryptography: common.crypto.into(),
        overlay: common.overlay.into(),
        widths,
        judges: match common.oracles {
            Oracles::Auto => None,
            Oracles::On => Some(true),
            Oracles::Off => Some(false),
        },
        publishes: !common.dht_alone,
        command: format!("cargo sim -- {}", command.join(" ")),
        ..Basis::new(common.seed, nodes as usize)
    }
}
