//! `churn`: sessions of exponential length, every departure a crash, a newcomer for each; the authors of all values went
//! before. Are values still found, is any lost, and what does it cost?

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::sim::{HostId, Random};

use super::asking::{Lookups, Reads};
use super::crowd::{Crowd, REST_S, drain};
use super::publishing::{TTL_MAX_S, Value, by_passers, lost};
use super::{Basis, Progress, Report};

/// How long a step is, in ms.
const STEP_MS: u64 = 250;

/// How the nodes come and go, and what is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Median of a session, in seconds.
    pub median_s: u64,
    /// For how long, in seconds: less than [`TTL_MAX_S`].
    pub time_s: u64,
    /// How many values.
    pub values: usize,
    /// Reads in a minute.
    pub reads_per_min: u64,
}

/// What the plots need.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Reads that found the value, in percent.
    pub found_percent: f64,
    /// Maintenance traffic per node, in bytes a second.
    pub maintenance_bps: f64,
}

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> (Report, Measured) {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("churn", basis.clone());
    let values = by_passers(&mut crowd, options.values, TTL_MAX_S, progress);
    report.share("values stored", values.len() as u64, options.values as u64);
    let before = *crowd.world.meter().flows();
    let mut course = Course::new(&mut crowd, options);
    course.run(&mut crowd, &values, progress);
    let flows = crowd.world.meter().flows().since(&before);
    drain(&mut crowd);
    course.reads.collect(&mut crowd, &values);
    course.report(&crowd, &mut report);
    report.share(
        "values lost before expiry",
        lost(&crowd, &values),
        values.len() as u64,
    );
    report.traffic(&flows, (course.node_us as f64 / 1e6).max(1.0));
    Lookups::of(&mut crowd, 500, 50, progress).report("lookups at the end", &mut report);
    let measured = Measured {
        found_percent: report.value("reads: found the newest").unwrap_or(0.0),
        maintenance_bps: report.value("maintenance sent per node").unwrap_or(0.0),
    };
    (report.close(&crowd.world), measured)
}

/// The time of coming and going.
struct Course {
    options: Options,
    sessions: Sessions,
    reads: Reads,
    /// Holders and those of them asked, at the beginning of each hour.
    hours: Vec<(u64, u64)>,
    /// For how long members were there, all together.
    node_us: u64,
    fewest: usize,
}

impl Course {
    fn new(crowd: &mut Crowd, options: Options) -> Self {
        Self {
            options,
            sessions: Sessions::new(crowd, options.median_s),
            reads: Reads::default(),
            hours: vec![(0, 0)],
            node_us: 0,
            fewest: crowd.members().len(),
        }
    }

    fn run(&mut self, crowd: &mut Crowd, values: &[Value], progress: Progress<'_>) {
        let (began_us, time_s) = (crowd.world.now_us(), self.options.time_s);
        let mut begun = 0;
        loop {
            let past_us = crowd.world.now_us() - began_us;
            if past_us >= time_s * 1_000_000 {
                return;
            }
            let due = past_us * self.options.reads_per_min / 60_000_000;
            while begun < due && !values.is_empty() {
                let (host, at) = (crowd.pick(), crowd.random.index(values.len()));
                self.reads.begin(crowd, host, values, at);
                begun += 1;
            }
            let from_us = crowd.world.now_us();
            self.sessions.turn(crowd);
            crowd.run_ms(STEP_MS);
            self.sessions.note(crowd);
            let members = crowd.members().len();
            self.node_us += (crowd.world.now_us() - from_us) * members as u64;
            self.fewest = self.fewest.min(members);
            self.reads.collect(crowd, values);
            if past_us / 3_600_000_000 >= self.hours.len() as u64 {
                self.hours.push(self.reads.holders);
            }
            let past_s = past_us / 1_000_000;
            progress(&crowd.world, &format!("{past_s} of {time_s} s of churn"));
        }
    }

    fn report(&mut self, crowd: &Crowd, report: &mut Report) {
        report.row("departures", self.sessions.departures as f64, "");
        report.count("fewest members", self.fewest);
        report.row("given up joining", crowd.given_up as f64, "");
        report.samples("join", &crowd.joined_ms, "ms");
        self.reads.report("reads", report);
        self.hours.push(self.reads.holders);
        for (hour, ends) in self.hours.windows(2).enumerate() {
            let what = format!("hour {}: holders asked", hour + 1);
            report.share(&what, ends[1].1 - ends[0].1, ends[1].0 - ends[0].0);
        }
    }
}

/// Who goes when.
pub(super) struct Sessions {
    ends: BinaryHeap<Reverse<(u64, HostId)>>,
    median_us: u64,
    random: Random,
    /// By machine, who has a session already.
    noted: Vec<bool>,
    pub(super) departures: u64,
}

impl Sessions {
    pub(super) fn new(crowd: &mut Crowd, median_s: u64) -> Self {
        let mut sessions = Self {
            ends: BinaryHeap::new(),
            median_us: median_s * 1_000_000,
            random: crowd.random.fork("sessions"),
            noted: Vec::new(),
            departures: 0,
        };
        sessions.note(crowd);
        sessions
    }

    /// Gives those who have joined since the last call a session.
    pub(super) fn note(&mut self, crowd: &Crowd) {
        // An exponential session has no memory: those who were there before have as long to go as newcomers.
        self.noted.resize(crowd.world.len(), false);
        for host in crowd.members() {
            if !std::mem::replace(&mut self.noted[host.0 as usize], true) {
                let length_us = exponential(&mut self.random, self.median_us);
                let end_us = crowd.world.now_us() + length_us;
                self.ends.push(Reverse((end_us, *host)));
            }
        }
    }

    /// Lets those go whose time has come, and as many come.
    pub(super) fn turn(&mut self, crowd: &mut Crowd) {
        while let Some(Reverse((at_us, host))) = self.ends.peek().copied() {
            if at_us > crowd.world.now_us() || crowd.members().len() < 2 {
                return;
            }
            self.ends.pop();
            crowd.retire(host);
            self.departures += 1;
            let through = crowd.pick();
            crowd.add(through);
        }
    }
}

/// A draw from the exponential distribution with this median: the median times −log2 of a number between 0 and 1, in
/// integers, so that every machine draws the same.
fn exponential(random: &mut Random, median: u64) -> u64 {
    let log = u128::from(minus_log2_q32(random.next_u64()));
    u64::try_from((u128::from(median) * log) >> 32).unwrap_or(u64::MAX)
}

/// −log2((n + 1) / 2^64), with 32 bits after the point.
fn minus_log2_q32(n: u64) -> u64 {
    let n = n.max(1);
    let zeros = n.leading_zeros();
    // The fraction's leading digit is 1 now; squaring it yields a binary digit of its logarithm each time.
    let mut x = u128::from(n << zeros); // In [2^63, 2^64), for 1 to 2.
    let mut log = 0_u64;
    for digit in (0..32).rev() {
        x = (x * x) >> 63;
        if x >> 64 != 0 {
            x >>= 1;
            log |= 1 << digit;
        }
    }
    // log2 of the number is 63 - zeros + the digits, less 64.
    ((u64::from(zeros) + 1) << 32) - log
}

#[cfg(test)]
mod tests {
    use super::{Random, exponential, minus_log2_q32};

    #[test]
    fn half_of_all_sessions_are_shorter_than_the_median_and_a_quarter_longer_than_two() {
        let mut random = Random::new(5);
        let lengths: Vec<u64> = (0..40_000)
            .map(|_| exponential(&mut random, 1_000))
            .collect();
        let longer = |than| lengths.iter().filter(|length| **length > than).count();
        assert!(
            (19_500..20_500).contains(&longer(1_000)),
            "{}",
            longer(1_000)
        );
        assert!(
            (9_600..10_400).contains(&longer(2_000)),
            "{}",
            longer(2_000)
        );
        assert!((1_100..1_400).contains(&longer(5_000)), "{}", longer(5_000));
    }

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two() {
        for shift in 0..64 {
            assert_eq!(minus_log2_q32(1 << shift), (64 - shift) << 32);
        }
        // log2(1.5) = 0.5849625007
        let three = minus_log2_q32(3 << 62);
        assert!(three.abs_diff((1 << 32) - 2_512_394_810) < 4, "{three}");
    }
}
