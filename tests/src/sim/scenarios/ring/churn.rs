//! `ring-churn`: nodes join and others vanish all the time, each at the same rate by chance; meanwhile random nodes look
//! random keys up, one or more every second on average. Table III of the paper, but that there nodes say that they leave.

use super::super::crowd::{Crowd, REST_S, drain};
use super::super::{Basis, Progress, Report};
use super::{Around, Lookups, STEP_MS};

/// How the nodes come and go, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Joins in a hundred seconds, on average, and as many departures.
    pub per_100_s: u64,
    /// How many lookups.
    pub lookups: u64,
    /// How many of them in a second, on average: one in the paper.
    pub per_s: u64,
}

/// A millionth of a millionth: chances are counted in them.
const CERTAIN: u64 = 1_000_000_000_000;

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> Report {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("ring-churn", basis.clone());
    let mut random = crowd.random.fork("coming and going");
    // Steps are so short that two events of a kind hardly fall into one.
    let chance = CERTAIN / 100_000 * options.per_100_s * STEP_MS;
    let lookup_chance = CERTAIN / 1_000 * options.per_s * STEP_MS;
    let mut lookups = Lookups::default();
    let (mut begun, mut joins, mut departures) = (0, 0_u64, 0_u64);
    let before = *crowd.world.meter().flows();
    let began_us = crowd.world.now_us();
    let mut node_us = 0;
    while begun < options.lookups {
        if random.below(CERTAIN) < chance {
            let through = crowd.pick();
            crowd.add(through);
            joins += 1;
        }
        if random.below(CERTAIN) < chance && crowd.members().len() > 2 {
            let host = crowd.pick();
            crowd.retire(host);
            departures += 1;
        }
        if random.below(CERTAIN) < lookup_chance {
            let around = Around::of(&crowd);
            lookups.begin_any(&mut crowd, &around);
            begun += 1;
        }
        crowd.run_ms(STEP_MS);
        node_us += STEP_MS * 1_000 * crowd.members().len() as u64;
        lookups.collect(&mut crowd);
        let of = options.lookups;
        progress(&crowd.world, &format!("{begun} of {of} lookups begun"));
    }
    let flows = crowd.world.meter().flows().since(&before);
    let past_s = (crowd.world.now_us() - began_us) as f64 / 1e6;
    drain(&mut crowd);
    lookups.collect(&mut crowd);
    report.row("joins", joins as f64, "");
    report.row("departures", departures as f64, "");
    report.row(
        "rate of each",
        joins.midpoint(departures) as f64 / past_s,
        "/s",
    );
    report.count("members in the end", crowd.members().len());
    report.row("given up joining", crowd.given_up as f64, "");
    lookups.report("lookup", &mut report);
    report.traffic(&flows, node_us as f64 / 1e6);
    report.close(&crowd.world)
}
