//! The default world: a day in small.
//!
//! Owns its options and the words of its summary. The world, its workload and its oracles are
//! [`strandline_tests::sim`]'s.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use strandline_tests::sim::workload::{Pair, Plan, Summary, Workload};
use strandline_tests::sim::{Chance, Cryptography, HostId, Overlay, Widths, World};

use super::progress::Progress;
use super::widths::WidthOptions;

/// Its options.
#[derive(Args, Debug)]
pub struct Options {
    /// The number from which everything random is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes there are
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: u32,
    /// How long the world runs, in simulated minutes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,
    /// Datagrams lost, in percent (segments of streams come late instead)
    #[arg(long, value_name = "PCT", default_value = "0", value_parser = Chance::parse_percent)]
    loss: Chance,
    /// Datagrams that arrive twice, in percent
    #[arg(long, value_name = "PCT", default_value = "0", value_parser = Chance::parse_percent)]
    duplicates: Chance,
    /// Datagrams that are overtaken by later ones, in percent
    #[arg(long, value_name = "PCT", default_value = "0", value_parser = Chance::parse_percent)]
    reorder: Chance,
    /// Longest one-way delay between two machines, in ms; the shortest is a tenth of it
    #[arg(long, value_name = "MS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    delay: u32,
    /// Boards among the nodes, in percent; the rest are servers
    #[arg(long, value_name = "PCT", default_value = "50", value_parser = Chance::parse_percent)]
    boards: Chance,
    /// Nodes that crash and return, in percent of all
    #[arg(long, value_name = "PCT", default_value = "0", value_parser = Chance::parse_percent)]
    churn: Chance,
    /// People act while nodes are still arriving, rather than once all are there: harder on the DHT
    #[arg(long)]
    early: bool,
    /// The cryptography of the nodes: the real one, or a cheap stand-in for large worlds
    #[arg(long, value_enum, default_value_t = CryptoOption::Real)]
    crypto: CryptoOption,
    /// The overlay of all nodes
    #[arg(long, value_enum, default_value_t = OverlayOption::Kademlia)]
    overlay: OverlayOption,
    #[command(flatten)]
    widths: WidthOptions,
    /// Tell every input and output of this node on stderr (the number in `n42`)
    #[arg(long, value_name = "NODE")]
    watch: Option<u32>,
    /// Print one JSON object on one line instead of words
    #[arg(long)]
    json: bool,
}

/// Which cryptography.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum CryptoOption {
    /// Ed25519 and SHA-512/256.
    Real,
    /// A keyed mixer, no security.
    StandIn,
}

impl From<CryptoOption> for Cryptography {
    fn from(option: CryptoOption) -> Self {
        match option {
            CryptoOption::Real => Self::Real,
            CryptoOption::StandIn => Self::StandIn,
        }
    }
}

/// Which overlay.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum OverlayOption {
    /// The tree of Kademlia.
    Kademlia,
    /// The ring of Chord.
    Chord,
}

impl From<OverlayOption> for Overlay {
    fn from(option: OverlayOption) -> Self {
        match option {
            OverlayOption::Kademlia => Self::Kademlia,
            OverlayOption::Chord => Self::Chord,
        }
    }
}

impl Options {
    /// The command that runs this very world again, with everything that is not the default.
    pub fn command(&self) -> String {
        let percent = |chance: Chance| {
            let ppm = chance.as_ppm();
            let decimals = format!("{:04}", ppm % 10_000);
            let decimals = decimals.trim_end_matches('0');
            let point = if decimals.is_empty() { "" } else { "." };
            format!("{}{point}{decimals}", ppm / 10_000)
        };
        let mut command = format!(
            "cargo sim -- --seed {} --nodes {} --minutes {} --delay {} --boards {}",
            self.seed,
            self.nodes,
            self.minutes,
            self.delay,
            percent(self.boards)
        );
        for (name, chance) in [
            ("loss", self.loss),
            ("duplicates", self.duplicates),
            ("reorder", self.reorder),
            ("churn", self.churn),
        ] {
            if chance != Chance::NEVER {
                command += &format!(" --{name} {}", percent(chance));
            }
        }
        if self.early {
            command += " --early";
        }
        if matches!(self.crypto, CryptoOption::StandIn) {
            command += " --crypto stand-in";
        }
        if matches!(self.overlay, OverlayOption::Chord) {
            command += " --overlay chord";
        }
        self.widths.add_to(&mut command);
        command
    }

    fn world(&self, widths: Widths) -> World {
        let mut world = World::with_cryptography(self.seed, self.crypto.into());
        world.panics = false;
        world.overlay = self.overlay.into();
        world.widths = widths;
        world.replay = self.command();
        world.watched = self.watch.map(HostId);
        let network = world.network_mut();
        let delay_us = u64::from(self.delay) * 1_000;
        network.delay_us = delay_us / 10..=delay_us;
        network.loss = self.loss;
        network.duplication = self.duplicates;
        network.reordering = self.reorder;
        world
    }

    fn plan(&self) -> Plan {
        let time = Duration::from_secs(60 * u64::from(self.minutes));
        Plan {
            boards: self.boards,
            churn: self.churn,
            early: self.early,
            ..Plan::new(self.nodes as usize, time)
        }
    }
}

/// Runs it.
///
/// # Errors
/// Which option does not go with another.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let widths = options.widths.widths()?;
    let (mut world, began) = (options.world(widths), Instant::now());
    let mut progress = Progress::default();
    let time_s = 60 * u64::from(options.minutes);
    let summary = Workload::new(options.plan(), options.seed).run(&mut world, |world| {
        progress.show(world, || {
            let (now_s, nodes) = (world.now_us() / 1_000_000, world.len());
            format!("{now_s:>4} of {time_s} simulated s, {nodes} nodes")
        });
    });
    progress.clear();
    let wall = began.elapsed();
    let printed = if options.json {
        print_json(options, &world, &summary, wall)
    } else {
        print_words(options, &world, &summary, wall)
    };
    if printed.is_err() || !world.failures().is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_words(
    options: &Options,
    world: &World,
    summary: &Summary,
    wall: Duration,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let tally = world.tally();
    let virtual_s = world.now_us() / 1_000_000;
    writeln!(out, "{}", options.command())?;
    writeln!(
        out,
        "{} nodes ran, {} of them boards; {} run at the end. Overlay: {}, {}. Cryptography: {}.",
        world.len(),
        summary.boards,
        summary.nodes,
        world.overlay,
        world.widths,
        world.cryptography()
    )?;
    for (what, pair) in pairs(summary) {
        if pair.all > 0 {
            writeln!(out, "  {what:<34} {pair}")?;
        }
    }
    for (what, count) in [
        ("posts shown", summary.shown),
        ("commands refused (busy or full)", summary.refused),
        ("commands that timed out", summary.timed_out),
        ("commands still running", summary.running),
    ] {
        if count > 0 {
            writeln!(out, "  {what:<34} {count}")?;
        }
    }
    writeln!(
        out,
        "{} datagrams, {} bytes, the longest {}; {} got nowhere.",
        tally.datagrams, tally.datagram_bytes, tally.datagram_len_max, tally.datagrams_lost
    )?;
    writeln!(
        out,
        "{} streams, {} frames, {} bytes. {} inputs, {} outputs.",
        tally.streams, tally.frames, tally.stream_bytes, tally.inputs, tally.outputs
    )?;
    writeln!(
        out,
        "{virtual_s} simulated seconds took {:.1} s.",
        wall.as_secs_f64()
    )?;
    writeln!(
        out,
        "trace {} over {} entries",
        world.trace(),
        world.trace().entries()
    )?;
    if world.failures().is_empty() {
        writeln!(out, "Every check passed.")
    } else {
        writeln!(out, "\n{} CHECKS FAILED:", world.failures().len())?;
        for failure in world.failures() {
            writeln!(out, "  {failure}")?;
        }
        writeln!(out, "To see it again: {}", world.replay)
    }
}

fn pairs(summary: &Summary) -> [(&'static str, Pair); 8] {
    [
        ("joins that found the network", summary.joins),
        ("lookups that found nodes", summary.lookups),
        ("values stored", summary.stored),
        ("stored values found", summary.found),
        ("follows stored", summary.follows),
        ("posts acknowledged", summary.posts),
        ("timelines complete", summary.reads),
        ("crashed machines back", summary.crashes),
    ]
}

fn print_json(
    options: &Options,
    world: &World,
    summary: &Summary,
    wall: Duration,
) -> std::io::Result<()> {
    let tally = world.tally();
    let pair = |pair: Pair| json!({ "good": pair.good, "all": pair.all });
    let failures: Vec<_> = world
        .failures()
        .iter()
        .map(|failure| json!({ "at_us": failure.at_us, "node": failure.host.0, "what": failure.what }))
        .collect();
    let crypto = match world.cryptography() {
        Cryptography::Real => "real",
        Cryptography::StandIn => "stand-in",
    };
    let object = json!({
        "v": 1,
        "command": options.command(),
        "seed": options.seed,
        "crypto": crypto,
        "overlay": world.overlay.to_string(),
        "k": world.widths.k(),
        "alpha": world.widths.alpha(),
        "replication": world.widths.replication(),
        "nodes": world.len(),
        "boards": summary.boards,
        "running": summary.nodes,
        "joins": pair(summary.joins),
        "lookups": pair(summary.lookups),
        "stored": pair(summary.stored),
        "found": pair(summary.found),
        "follows": pair(summary.follows),
        "posts": pair(summary.posts),
        "reads": pair(summary.reads),
        "crashes": pair(summary.crashes),
        "shown": summary.shown,
        "refused": summary.refused,
        "timed_out": summary.timed_out,
        "unfinished": summary.running,
        "datagrams": tally.datagrams,
        "datagram_bytes": tally.datagram_bytes,
        "datagram_len_max": tally.datagram_len_max,
        "streams": tally.streams,
        "frames": tally.frames,
        "stream_bytes": tally.stream_bytes,
        "virtual_ms": world.now_us() / 1_000,
        "wall_ms": u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        "trace": world.trace().to_string(),
        "entries": world.trace().entries(),
        "failures": failures,
    });
    writeln!(std::io::stdout().lock(), "{object}")
}
