//! `lookup`: a static network, filled by joining; random nodes look up random keys, with some of the contacts dead.

use super::asking::Lookups;
use super::crowd::{Crowd, REST_S};
use super::{Basis, Progress, Report};

/// What to look up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many lookups.
    pub lookups: u64,
    /// How many a second.
    pub per_s: u64,
    /// Of the nodes, in percent, those that vanish at once, just before.
    pub dead_percent: usize,
}

/// Runs it. Beside the report: the mean hops.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> (Report, Option<f64>) {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("lookup", basis.clone());
    let mut hops = None;
    if options.dead_percent > 0 {
        let healthy = Lookups::of(&mut crowd, options.lookups, options.per_s, progress);
        healthy.report("all alive", &mut report);
        let dead = crowd.members().len() * options.dead_percent / 100;
        crowd.retire_some(dead);
        report.count("nodes that vanished at once", dead);
    }
    report.count("members", crowd.members().len());
    let lookups = Lookups::of(&mut crowd, options.lookups, options.per_s, progress);
    lookups.report("lookup", &mut report);
    if options.dead_percent == 0 {
        hops = lookups.mean_hops();
    }
    (report.close(&crowd.world), hops)
}
