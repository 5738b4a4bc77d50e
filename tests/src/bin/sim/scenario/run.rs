//! Runs the scenarios as their options say, once for each size, and brings their numbers to where they go: words, JSON, CSV,
//! plots.
//!
//! Owns nothing of what can be asked for: the options are the parent's.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use strandline_tests::sim::heap::{self, Side};
use strandline_tests::sim::scenarios::plot::Plot;
use strandline_tests::sim::scenarios::{
    Basis, Report, churn, flash_crowd, half_die, join, lookup, newcomers, partition, ring, sending,
    silent, skew,
};
use strandline_tests::sim::{Cryptography, Overlay, World};

use super::{Common, Scenario, basis};
use crate::progress::Progress;

/// Runs a scenario once for each size, and prints each.
///
/// # Errors
/// Which option does not go with another; then nothing was run.
pub fn run(scenario: &Scenario) -> Result<ExitCode, String> {
    let (common, widths) = (scenario.common(), scenario.widths()?);
    let mut out = Printer {
        common,
        failed: false,
        headed: false,
    };
    let mut plots = Vec::new();
    for nodes in &common.nodes {
        run_one(
            scenario,
            &basis(common, widths, *nodes),
            &mut out,
            &mut plots,
        );
    }
    if let Some(folder) = &common.plots
        && let Err(error) = write_plots(folder, scenario, &plots)
    {
        eprintln!("error: cannot write plots to {}: {error}", folder.display());
        return Ok(ExitCode::FAILURE);
    }
    if out.failed {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A point for a plot: which plot, and where.
type Point = (PlotOf, f64, f64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlotOf {
    Hops,
    Success,
    Bandwidth,
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
