//! `skew`: clocks that are minutes off and drift. Are values stored and found for as long as they live, and not after?

use super::asking::Reads;
use super::crowd::{Clocks, Crowd, REST_S};
use super::publishing::by_members;
use super::{Basis, Progress, Report};

/// How long values live, in seconds.
const TTL_S: u32 = 20 * 60;

/// How far off the clocks are.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time of day: off by at most so many seconds, either way.
    pub error_s: u32,
    /// Whether nodes are told how uncertain that makes them.
    pub honest: bool,
    /// Monotonic clocks: so many µs in a second, either way.
    pub drift_ppm: u32,
    /// How many values.
    pub values: usize,
    /// How many reads, each time.
    pub reads: u64,
    /// How many of them a second.
    pub per_s: u64,
}

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> Report {
    let error_ms = options.error_s.saturating_mul(1_000);
    let clocks = Clocks {
        error_ms: i32::try_from(error_ms).unwrap_or(i32::MAX),
        uncertainty_ms: if options.honest { error_ms } else { 0 },
        drift_ppm: i32::try_from(options.drift_ppm).unwrap_or(i32::MAX),
    };
    let mut crowd = Crowd::with_clocks(basis, clocks);
    // A value ends by its author's clock: one that is behind ends it early, which is no broken promise.
    crowd.world.disturb();
    crowd.fill(basis.nodes, progress);
    crowd.rest(REST_S, progress);
    let mut report = Report::new("skew", basis.clone());
    let began_us = crowd.world.now_us();
    let values = by_members(&mut crowd, options.values, TTL_S, progress);
    report.share("values stored", values.len() as u64, options.values as u64);
    if values.is_empty() {
        return report.close(&crowd.world);
    }
    let put_s = (crowd.world.now_us() - began_us) / 1_000_000;
    let ttl_s = u64::from(TTL_S);
    // The last time is before the first value's end, the one after it behind the last one's.
    let before_end_s = ttl_s.saturating_sub(30);
    for (name, at_s) in [
        ("at once", put_s),
        ("after a quarter of the lifetime", ttl_s / 4),
        ("after three quarters", ttl_s / 4 * 3),
        ("half a minute before the first ends", before_end_s),
        ("half a minute after the last ended", put_s + ttl_s + 30),
    ] {
        let past_s = (crowd.world.now_us() - began_us) / 1_000_000;
        let asking_s = options.reads / options.per_s.max(1);
        let early_s = if at_s == before_end_s { asking_s } else { 0 };
        crowd.rest(at_s.saturating_sub(past_s + early_s), progress);
        Reads::of(&mut crowd, &values, options.reads, options.per_s, progress)
            .report(name, &mut report);
    }
    report.close(&crowd.world)
}
