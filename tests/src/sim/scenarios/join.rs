//! `join`: how long, and how many datagrams, until so many nodes are joined; and what each then takes of memory.

use std::collections::BTreeSet;

use strandline_core::id::NodeId;

use super::crowd::{Crowd, REST_S};
use super::report::Samples;
use super::{Basis, Progress, Report};

/// Runs it.
pub fn run(basis: &Basis, progress: Progress<'_>) -> (Report, Crowd) {
    let mut crowd = Crowd::new(basis);
    let mut report = Report::new("join", basis.clone());
    crowd.fill(basis.nodes, progress);
    let (datagrams, filled_us) = (crowd.world.tally().datagrams, crowd.world.now_us());
    report.count("members", crowd.members().len());
    report.row(
        "simulated time until all were joined",
        filled_us as f64 / 1e6,
        "s",
    );
    report.samples("join", &crowd.joined_ms, "ms");
    report.row("tries that failed", crowd.failed_tries as f64, "");
    report.row("given up", crowd.given_up as f64, "");
    let nodes = crowd.members().len().max(1) as f64;
    report.row(
        "datagrams per node until all were joined",
        datagrams as f64 / nodes,
        "",
    );
    crowd.rest(REST_S, progress);
    let after = crowd.world.tally().datagrams;
    report.row(
        "datagrams per node a minute later",
        after as f64 / nodes,
        "",
    );
    report.traffic(
        crowd.world.meter().flows(),
        nodes * crowd.world.now_us() as f64 / 1e6,
    );
    tables(&crowd, &mut report);
    spread(&crowd, &mut report);
    let report = report.close(&crowd.world);
    (report, crowd)
}

/// Parts of the half of all ids that lies across from a node's own; a bucket's twenty contacts, drawn at random, are in
/// some 12 of so many.
const PARTS: u8 = 16;

/// How well the contacts of the farthest bucket are spread: a lookup goes on from the one nearest to its key.
fn spread(crowd: &Crowd, report: &mut Report) {
    let mut parts = Samples::default();
    for host in crowd.members() {
        let Some(node) = crowd.world.running(*host) else {
            continue;
        };
        let leading = |id: &NodeId| id.as_bytes()[0];
        let own = leading(&node.node_id());
        let far = node.peers().into_iter().map(|(id, _)| leading(&id));
        let far = far.filter(|byte| (byte ^ own) & 0x80 != 0);
        let known: BTreeSet<_> = far.map(|byte| (byte & 0x7f) / (128 / PARTS)).collect();
        parts.add(known.len() as u64);
    }
    if let Some(mean) = parts.mean() {
        report.row(format!("of {PARTS} parts across, known"), mean, "");
    }
}

/// How full the tables of the nodes are.
fn tables(crowd: &Crowd, report: &mut Report) {
    let mut used: Vec<(&'static str, Samples, u64)> = Vec::new();
    for host in crowd.members() {
        let Some(node) = crowd.world.running(*host) else {
            continue;
        };
        for (at, table) in node.stats().tables.iter().enumerate() {
            if used.len() <= at {
                used.push((table.name, Samples::default(), 0));
            }
            if let Some((_, samples, bytes)) = used.get_mut(at) {
                samples.add(table.used as u64);
                *bytes += table.bytes as u64;
            }
        }
    }
    let nodes = crowd.members().len().max(1) as f64;
    for (name, samples, bytes) in used {
        let Some(mean) = samples.mean().filter(|mean| *mean > 0.0) else {
            continue;
        };
        report.row(format!("table {name}: mean entries"), mean, "");
        report.row(
            format!("table {name}: most entries"),
            samples.max() as f64,
            "",
        );
        if bytes > 0 {
            report.row(
                format!("table {name}: mean bytes"),
                bytes as f64 / nodes,
                "B",
            );
        }
    }
}
