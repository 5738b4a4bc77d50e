//! The scenarios' commands: their options, their help, and where their numbers go.
//!
//! Owns no measuring: that is [`strandline_tests::sim::scenarios`]'s.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};

use strandline_tests::sim::heap::{self, Side};
use strandline_tests::sim::scenarios::plot::Plot;
use strandline_tests::sim::scenarios::{
    Basis, Report, churn, flash_crowd, half_die, join, lookup, newcomers, partition, ring, sending,
    silent, skew,
};
use strandline_tests::sim::{Chance, Cryptography, Overlay, World};

use super::day::{CryptoOption, OverlayOption};
use super::progress::Progress;

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
    /// that live: is the first the nearest, and how many of the twenty nearest are there? Requests are those that the
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

/// Runs a scenario once for each size, and prints each.
pub fn run(scenario: &Scenario) -> ExitCode {
    let common = scenario.common();
    let mut out = Printer {
        common,
        failed: false,
        headed: false,
    };
    let mut plots = Vec::new();
    for nodes in &common.nodes {
        run_one(scenario, &basis(common, *nodes), &mut out, &mut plots);
    }
    if let Some(folder) = &common.plots
        && let Err(error) = write_plots(folder, scenario, &plots)
    {
        eprintln!("error: cannot write plots to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    if out.failed {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A point for a plot: which plot, and where.
type Point = (PlotOf, f64, f64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlotOf {
    Hops,
    Success,
    Bandwidth,
}

fn basis(common: &Common, nodes: u32) -> Basis {
    let command: Vec<String> = std::env::args().skip(1).collect();
    Basis {
        delay_us: u64::from(common.delay) * 1_000,
        loss: common.loss,
        cryptography: common.crypto.into(),
        overlay: common.overlay.into(),
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

fn run_one(scenario: &Scenario, basis: &Basis, out: &mut Printer<'_>, plots: &mut Vec<Point>) {
    let mut line = Progress::default();
    let mut show = |world: &World, stage: &str| line.show(world, || stage.to_owned());
    let nodes = basis.nodes as f64;
    let began = Instant::now();
    match scenario {
        Scenario::Join { .. } => {
            let (mut report, crowd) = join::run(basis, &mut show);
            memory(&mut report, &crowd.world);
            out.print(&report, began);
        }
        Scenario::Lookup {
            dead,
            lookups,
            per_second,
            ..
        } => {
            let options = lookup::Options {
                lookups: *lookups,
                per_s: *per_second,
                dead_percent: *dead as usize,
            };
            let (report, hops) = lookup::run(basis, options, &mut show);
            plots.extend(hops.map(|hops| (PlotOf::Hops, nodes, hops)));
            out.print(&report, began);
        }
        Scenario::Churn {
            median,
            hours,
            values,
            reads,
            ..
        } => {
            for minutes in median {
                let options = churn::Options {
                    median_s: minutes * 60,
                    time_s: hours * 3_600,
                    values: *values as usize,
                    reads_per_min: *reads,
                };
                run_churn(basis, options, out, plots, &mut show);
            }
        }
        Scenario::HalfDie { dead, asking, .. } => {
            let options = asking.half_die(*dead);
            out.print(&half_die::run(basis, options, &mut show), began);
        }
        Scenario::Partition { asking, .. } => {
            out.print(&partition::run(basis, asking.partition(), &mut show), began);
        }
        Scenario::FlashCrowd { .. } => out.print(&flash_crowd::run(basis, &mut show), began),
        Scenario::Skew {
            error,
            lying,
            drift,
            asking,
            ..
        } => {
            let options = asking.skew(*error, !lying, *drift);
            out.print(&skew::run(basis, options, &mut show), began);
        }
        Scenario::RingPaths { .. } | Scenario::RingFailures { .. } | Scenario::RingChurn { .. } => {
            run_ring(scenario, basis, out, plots, &mut show);
        }
        Scenario::Silent { .. } | Scenario::Newcomers { .. } | Scenario::Send { .. } => {
            if let Some(report) = run_toolkit(scenario, basis, &mut show) {
                out.print(&report, began);
            }
        }
    }
}

/// Runs a scenario of a ring, once for each of its numbers.
fn run_ring(
    scenario: &Scenario,
    basis: &Basis,
    out: &mut Printer<'_>,
    plots: &mut Vec<Point>,
    show: &mut dyn FnMut(&World, &str),
) {
    let chord = Basis {
        overlay: Overlay::Chord,
        publishes: false,
        ..basis.clone()
    };
    match scenario {
        Scenario::RingPaths {
            lookups,
            per_second,
            rest,
            ..
        } => {
            let narrow = Basis {
                overlay: Overlay::NarrowChord,
                cryptography: Cryptography::StandIn,
                ..chord
            };
            let options = ring::paths::Options {
                lookups: *lookups,
                per_s: *per_second,
                rest_s: *rest,
            };
            let began = Instant::now();
            let (report, steps) = ring::paths::run(&narrow, options, show);
            plots.extend(steps.map(|steps| (PlotOf::Hops, basis.nodes as f64, steps)));
            out.print(&report, began);
        }
        Scenario::RingFailures { dead, networks, .. } => {
            for dead in dead {
                let options = ring::failures::Options {
                    dead_percent: *dead as usize,
                    networks: *networks,
                };
                let began = Instant::now();
                out.print(&ring::failures::run(&chord, options, show).0, began);
            }
        }
        Scenario::RingChurn {
            rates,
            lookups,
            per_second,
            ..
        } => {
            for rate in rates {
                let options = ring::churn::Options {
                    per_100_s: *rate,
                    lookups: *lookups,
                    per_s: *per_second,
                };
                let began = Instant::now();
                out.print(&ring::churn::run(&chord, options, show), began);
            }
        }
        Scenario::Join { .. }
        | Scenario::Lookup { .. }
        | Scenario::Churn { .. }
        | Scenario::HalfDie { .. }
        | Scenario::Partition { .. }
        | Scenario::FlashCrowd { .. }
        | Scenario::Skew { .. }
        | Scenario::Silent { .. }
        | Scenario::Newcomers { .. }
        | Scenario::Send { .. } => {}
    }
}

/// The scenarios of which an application of the toolkit asks.
fn run_toolkit(
    scenario: &Scenario,
    basis: &Basis,
    show: &mut dyn FnMut(&World, &str),
) -> Option<Report> {
    Some(match scenario {
        Scenario::Silent {
            silent,
            lookups,
            per_second,
            ..
        } => {
            let options = silent::Options {
                silent: *silent as usize,
                lookups: *lookups,
                per_s: *per_second,
            };
            silent::run(basis, options, show)
        }
        Scenario::Send {
            median,
            minutes,
            sends,
            ..
        } => {
            let options = sending::Options {
                median_s: median * 60,
                time_s: minutes * 60,
                sends_per_min: *sends,
            };
            sending::run(basis, options, show)
        }
        Scenario::Newcomers { newcomers, .. } => newcomers::run(basis, *newcomers as usize, show),
        Scenario::Join { .. }
        | Scenario::Lookup { .. }
        | Scenario::Churn { .. }
        | Scenario::HalfDie { .. }
        | Scenario::Partition { .. }
        | Scenario::FlashCrowd { .. }
        | Scenario::Skew { .. }
        | Scenario::RingPaths { .. }
        | Scenario::RingFailures { .. }
        | Scenario::RingChurn { .. } => return None,
    })
}

fn run_churn(
    basis: &Basis,
    options: churn::Options,
    out: &mut Printer<'_>,
    plots: &mut Vec<Point>,
    show: &mut dyn FnMut(&World, &str),
) {
    let began = Instant::now();
    let (report, measured) = churn::run(basis, options, show);
    let minutes = options.median_s as f64 / 60.0;
    plots.push((PlotOf::Success, minutes, measured.found_percent));
    plots.push((PlotOf::Bandwidth, minutes, measured.maintenance_bps));
    out.print(&report, began);
}

/// What the allocator counted.
fn memory(report: &mut Report, world: &World) {
    let nodes = world.len().max(1) as f64;
    for (name, side) in [("core", Side::Core), ("simulator", Side::Simulator)] {
        let bytes = heap::bytes(side) as f64;
        report.row(format!("heap of {name} per node"), bytes / nodes, "B");
    }
    report.count("events queued", world.queued());
}

struct Printer<'c> {
    common: &'c Common,
    failed: bool,
    headed: bool,
}

impl Printer<'_> {
    fn print(&mut self, report: &Report, began: Instant) {
        let wall = began.elapsed();
        let text = if self.common.json {
            let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
            report.json(wall_ms) + "\n"
        } else if self.common.csv {
            let header = if self.headed {
                String::new()
            } else {
                format!("{}\n", Report::CSV_HEADER)
            };
            header + &report.csv()
        } else {
            format!("{}It took {:.1} s.\n\n", report.words(), wall.as_secs_f64())
        };
        self.headed = true;
        let written = std::io::stdout().lock().write_all(text.as_bytes());
        self.failed |= written.is_err() || !report.failures.is_empty();
    }
}

/// Writes those plots of which there are points.
fn write_plots(folder: &Path, scenario: &Scenario, points: &[Point]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let seed = scenario.common().seed;
    for (of, file, title, x, y, logarithmic) in [
        (
            PlotOf::Hops,
            "path-length.svg",
            "Path length against the number of nodes",
            "nodes",
            "mean hops to the nearest node",
            true,
        ),
        (
            PlotOf::Success,
            "success-under-churn.svg",
            "Success of reads against churn",
            "median session, minutes",
            "reads that found the value, %",
            false,
        ),
        (
            PlotOf::Bandwidth,
            "bandwidth.svg",
            "Maintenance traffic against session time",
            "median session, minutes",
            "bytes per node and second",
            false,
        ),
    ] {
        let mut points: Vec<_> = points
            .iter()
            .filter(|(for_plot, ..)| *for_plot == of)
            .map(|(_, x, y)| (*x, *y))
            .collect();
        if points.is_empty() {
            continue;
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let plot = Plot {
            title: format!("{title} (seed {seed})"),
            x: x.to_owned(),
            y: y.to_owned(),
            logarithmic,
            points,
        };
        fs::write(folder.join(file), plot.svg())?;
    }
    Ok(())
}
