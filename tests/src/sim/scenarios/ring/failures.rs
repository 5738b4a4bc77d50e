//! `ring-failures`: a share of all nodes vanishes at once; every survivor looks up a key in the same moment, before any
//! stabilisation. Table II of the paper.

use strandline_core::id::Key;

use super::super::crowd::{Crowd, REST_S};
use super::super::{Basis, Progress, Report};
use super::{Around, Lookups, STEP_MS};

/// How long a lookup may take, in ms. The paper's may take as long as they want; how many take over 10 s is told.
const WITHIN_MS: u32 = 30_000;

/// Who dies, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of the nodes, in percent, those that vanish.
    pub dead_percent: usize,
    /// How many networks this is done to, each with a seed of its own, from that of the basis on.
    pub networks: u64,
}

/// Runs it. Beside the report: the mean path to the owner.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> (Report, Option<f64>) {
    let mut report = Report::new("ring-failures", basis.clone());
    let mut lookups = Lookups::default();
    let (mut dead, mut last) = (0, None);
    for network in 0..options.networks.max(1) {
        let basis = Basis {
            seed: basis.seed + network,
            ..basis.clone()
        };
        let mut crowd = Crowd::filled(&basis, REST_S, progress);
        let count = crowd.members().len() * options.dead_percent / 100;
        crowd.retire_some(count);
        crowd.world.within_ms = WITHIN_MS;
        dead += count;
        ask_from_all(&mut lookups, &mut crowd, progress);
        if network + 1 < options.networks {
            let failures = crowd.world.failures().iter();
            report.failures.extend(failures.map(ToString::to_string));
        }
        last = Some(crowd);
    }
    report.row("networks", options.networks as f64, "");
    report.count("nodes that vanished at once", dead);
    lookups.report("lookup", &mut report);
    let mean = lookups.before.mean().map(|steps| steps + 1.0);
    if let Some(crowd) = last {
        report = report.close(&crowd.world);
    }
    (report, mean)
}

/// Every member asks in the same moment.
fn ask_from_all(lookups: &mut Lookups, crowd: &mut Crowd, progress: Progress<'_>) {
    let around = Around::of(crowd);
    for host in crowd.members().to_vec() {
        let key = Key::from_bytes(crowd.random.bytes_32());
        let _owns_it = lookups.begin(crowd, &around, host, key);
    }
    while !lookups.open.is_empty() {
        crowd.run_ms(STEP_MS);
        lookups.collect(crowd);
        let open = lookups.open.len();
        progress(&crowd.world, &format!("{open} lookups under way"));
    }
}
