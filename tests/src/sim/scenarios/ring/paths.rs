//! `ring-paths`: how many steps a lookup takes on a ring at rest, filled by joining, where a node has one successor and
//! fingers, and a reply names one next node: the figure of the paper's section V-C.

use super::super::crowd::Crowd;
use super::super::{Basis, Progress, Report};
use super::{Around, Lookups};

/// What to look up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many lookups.
    pub lookups: u64,
    /// How many a second.
    pub per_s: u64,
    /// How long the network rests first, in seconds: until all fingers were looked up again.
    pub rest_s: u64,
}

/// Runs it. Beside the report: the mean path to the node before the key.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> (Report, Option<f64>) {
    let mut crowd = Crowd::filled(basis, options.rest_s, progress);
    let mut report = Report::new("ring-paths", basis.clone());
    let around = Around::of(&crowd);
    let members = crowd.members().len();
    report.count("members", members);
    let right = around.right_ranges(&crowd);
    report.share("nodes that know their range", right, members as u64);
    let (right, all) = around.right_fingers(&crowd);
    report.share("fingers that are right", right, all);
    let mut lookups = Lookups::default();
    lookups.ask(&mut crowd, options.lookups, options.per_s, progress);
    lookups.report("lookup", &mut report);
    let mean = lookups.before.mean();
    if let Some(mean) = mean {
        let expected = (members as f64).log2() / 2.0;
        report.row("half the logarithm of the members", expected, "");
        let off = 100.0 * (mean / expected - 1.0);
        report.row("path to the predecessor, off by", off, "%");
    }
    (report.close(&crowd.world), mean)
}
