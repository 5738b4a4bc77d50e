//! `half-die`: half of all nodes vanish at once. What is found at once, and what ten minutes later?

use super::asking::{Lookups, Reads};
use super::crowd::{Crowd, REST_S};
use super::publishing::{TTL_MAX_S, by_members, lost};
use super::{Basis, Progress, Report};

/// How long the survivors have, in seconds.
const AFTER_S: u64 = 10 * 60;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many values lie in the network.
    pub values: usize,
    /// How many lookups and as many reads, each time.
    pub questions: u64,
    /// How many of them a second.
    pub per_s: u64,
    /// Of the nodes, in percent, those that vanish.
    pub dead_percent: usize,
}

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> Report {
    let Options {
        questions, per_s, ..
    } = options;
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("half-die", basis.clone());
    let values = by_members(&mut crowd, options.values, TTL_MAX_S, progress);
    report.share("values stored", values.len() as u64, options.values as u64);
    Lookups::of(&mut crowd, questions, per_s, progress).report("before", &mut report);
    let dead = crowd.members().len() * options.dead_percent / 100;
    crowd.retire_some(dead);
    report.count("nodes that vanished at once", dead);
    report.row("values without a holder", lost(&crowd, &values) as f64, "");
    let died_us = crowd.world.now_us();
    Lookups::of(&mut crowd, questions, per_s, progress).report("at once", &mut report);
    Reads::of(&mut crowd, &values, questions, per_s, progress).report("reads at once", &mut report);
    let past_s = (crowd.world.now_us() - died_us) / 1_000_000;
    crowd.rest(AFTER_S.saturating_sub(past_s), progress);
    Lookups::of(&mut crowd, questions, per_s, progress).report("after 10 min", &mut report);
    Reads::of(&mut crowd, &values, questions, per_s, progress)
        .report("reads after 10 min", &mut report);
    report.row(
        "values without a holder in the end",
        lost(&crowd, &values) as f64,
        "",
    );
    report.close(&crowd.world)
}
