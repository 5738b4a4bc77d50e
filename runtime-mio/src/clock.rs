//! Time on this machine: the monotonic clock that core counts by, and the date, from the system or from time servers.
//! Owns the choice between the two; asking servers is [`crate::ntp`]'s. Invariant: what core was told as `now` never runs
//! backwards, whatever happens to the system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use strandline_core::time::Instant;

use crate::ntp::Estimate;

/// How far off a machine's own clock is taken to be, in ms: nobody vouches for it.
pub const SYSTEM_UNCERTAINTY_MS: u32 = 1_000;
/// How often core is told the date again while the system's clock serves, in ms.
const SYSTEM_READ_MS: u64 = 60_000;
/// By how much the system's clock gets ahead between two turns when it was set or the machine slept, in µs.
const JUMP_US: i64 = 2_000_000;
/// How often the two clocks are compared for one reading.
const READINGS: usize = 3;

/// The monotonic clock, and what the system's clock said when it was started.
#[derive(Clone, Copy, Debug)]
pub struct Timebase {
    origin: std::time::Instant,
    unix_us: u64,
}

impl Timebase {
    /// Starts at [`Instant::ZERO`], now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: std::time::Instant::now(),
            unix_us: system_unix_us(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_us(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// By how much the system's clock is ahead of this one, in µs.
    fn system_lead_us(&self) -> i64 {
        // A thread may be held up between two clocks: the reading that took least time is the best.
        let readings = (0..READINGS).map(|_| {
            let before = self.now();
            let system_us = system_unix_us();
            let took_us = self.now().since_us(before);
            let ours_us = self.unix_us(before.after_us(took_us / 2));
            let lead_us = clamp(i128::from(system_us) - i128::from(ours_us));
            (took_us, lead_us)
        });
        readings.min().map_or(0, |(_, lead_us)| lead_us)
    }

    /// The Unix time in µs at `now`, had the system's clock been right at the start.
    #[must_use]
    pub fn unix_us(&self, now: Instant) -> u64 {
        self.unix_us.saturating_add(now.as_us())
    }
}

/// The Unix time in µs that the system's clock shows.
fn system_unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// What core is to be told: the date, with its uncertainty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Unix time in ms.
    pub unix_ms: u64,
    /// How far off it may be, in ms.
    pub uncertainty_ms: u32,
}

/// Where the date comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The machine's own clock.
    System,
    /// So many time servers.
    Ntp(usize),
}

impl Source {
    /// Its name, as `status` shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Ntp(_) => "ntp",
        }
    }
}

/// The date.
#[derive(Clone, Copy, Debug)]
pub struct Date {
    timebase: Timebase,
    source: Source,
    /// What to add to the timebase, in µs.
    offset_us: i64,
    uncertainty_ms: u32,
    set_at: Instant,
    /// By how much the system's clock was ahead of the timebase when it was last looked at, in µs.
    system_lead_us: i64,
}

impl Date {
    /// The date as the system's clock shows it.
    #[must_use]
    pub fn of_system(timebase: Timebase, now: Instant) -> Self {
        Self::of_lead(timebase, now, timebase.system_lead_us())
    }

    const fn of_lead(timebase: Timebase, now: Instant, lead_us: i64) -> Self {
        Self {
            timebase,
            source: Source::System,
            offset_us: lead_us,
            uncertainty_ms: SYSTEM_UNCERTAINTY_MS,
            set_at: now,
            system_lead_us: lead_us,
        }
    }

    /// Time servers have answered: from now on they are believed.
    pub fn on_estimate(&mut self, now: Instant, estimate: &Estimate) {
        self.source = Source::Ntp(estimate.servers);
        self.offset_us = estimate.offset_us;
        let ms = estimate.uncertainty_us.div_ceil(1000);
        self.uncertainty_ms = u32::try_from(ms).unwrap_or(u32::MAX);
        self.set_at = now;
    }

    /// When core is to be told again what the system's clock shows; never once time servers have answered.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        (self.source == Source::System).then(|| self.set_at.after_ms(SYSTEM_READ_MS))
    }

    /// Reads the system's clock again if that is due or it has jumped ahead, and tells whether it did. Call it in every
    /// turn: the monotonic clock stands still while a machine sleeps, and what the time servers said of it then holds no
    /// longer.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.look(now, self.timebase.system_lead_us())
    }

    fn look(&mut self, now: Instant, lead_us: i64) -> bool {
        let ahead_us = lead_us.saturating_sub(self.system_lead_us);
        self.system_lead_us = lead_us;
        let due = self.next_deadline().is_some_and(|at| at <= now);
        if due || ahead_us > JUMP_US {
            *self = Self::of_lead(self.timebase, now, lead_us);
            return true;
        }
        false
    }

    /// What core is to be told.
    #[must_use]
    pub fn setting(&self, now: Instant) -> Setting {
        let unix_us = self
            .timebase
            .unix_us(now)
            .saturating_add_signed(self.offset_us);
        Setting {
            unix_ms: unix_us / 1000,
            uncertainty_ms: self.uncertainty_ms,
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// How far the system's clock lags behind it, in ms.
    #[must_use]
    pub fn offset_ms(&self) -> i64 {
        self.offset_us
            .saturating_sub(self.timebase.system_lead_us())
            / 1000
    }

    /// How long ago it was set, in ms.
    #[must_use]
    pub fn age_ms(&self, now: Instant) -> u64 {
        now.since_ms(self.set_at)
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_serves_until_servers_answer_and_never_after() {
        let timebase = Timebase::start();
        let now = timebase.now();
        let mut date = Date::of_system(timebase, now);
        assert_eq!(date.source(), Source::System);
        assert!(date.offset_ms().abs() <= 1_000);
        let setting = date.setting(now);
        assert_eq!(setting.uncertainty_ms, SYSTEM_UNCERTAINTY_MS);
        assert!(setting.unix_ms.abs_diff(system_unix_us() / 1000) <= 1_000);
        assert!(!date.handle_timeout(now));
        assert!(date.handle_timeout(now.after_ms(SYSTEM_READ_MS)));

        let estimate = Estimate {
            offset_us: -5_000_000,
            uncertainty_us: 1_001,
            servers: 3,
        };
        date.on_estimate(now, &estimate);
        assert_eq!(date.source(), Source::Ntp(3));
        let behind = timebase.unix_us(now) / 1000 - date.setting(now).unix_ms;
        assert!((4_999..=5_001).contains(&behind), "{behind}");
        assert_eq!(date.setting(now).uncertainty_ms, 2);
        assert_eq!(date.next_deadline(), None);
        assert!(!date.handle_timeout(now.after_s(3_600)));
        assert_eq!(date.age_ms(now.after_s(60)), 60_000);
    }

    #[test]
    fn after_a_sleep_the_system_serves_until_servers_answer_again() {
        let timebase = Timebase::start();
        let now = timebase.now();
        let mut date = Date::of_system(timebase, now);
        let estimate = Estimate {
            offset_us: 7,
            uncertainty_us: 1_000,
            servers: 1,
        };
        date.on_estimate(now, &estimate);
        let lead_us = date.system_lead_us;
        assert!(!date.look(now, lead_us));
        // Small steps, and those back, are the servers' to judge.
        assert!(!date.look(now, lead_us + 1_900_000));
        assert!(!date.look(now, lead_us - 3_600_000_000));
        assert_eq!(date.source(), Source::Ntp(1));
        date.look(now, lead_us);
        date.on_estimate(now, &estimate);
        let before_ms = date.setting(now).unix_ms;
        assert!(date.look(now, lead_us + 600_000_000));
        assert_eq!(date.source(), Source::System);
        let slept_ms = date.setting(now).unix_ms - before_ms;
        assert!((599_900..600_100).contains(&slept_ms), "{slept_ms}");
        date.on_estimate(now, &estimate);
        assert_eq!(date.source(), Source::Ntp(1));
    }

    #[test]
    fn time_never_runs_backwards() {
        let timebase = Timebase::start();
        let mut last = timebase.now();
        for _ in 0..1000 {
            let now = timebase.now();
            assert!(now >= last);
            last = now;
        }
    }
}
