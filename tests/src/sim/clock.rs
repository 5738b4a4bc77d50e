//! What a simulated machine's clocks show: a monotonic one that starts anywhere and drifts, and the time of day with an
//! error.
//!
//! The invariant: [`Ticker::when`] is the exact inverse of [`Ticker::read`], so that a node is woken at the first
//! moment at which its own clock has reached the deadline, and never before.

use strandline_core::time::Instant;

/// Unix time in ms at the world's time 0: 2026-01-01T00:00:00Z.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

/// A monotonic clock: where it stood when its machine came up, and how fast it runs.
#[derive(Clone, Copy, Debug)]
pub struct Ticker {
    booted_us: u64,
    origin_us: u64,
    drift_ppm: i32,
}

const PPM: i128 = 1_000_000;

impl Ticker {
    /// The clock of a machine that comes up at `booted_us` of the world's time, shows `origin_us` then, and gains
    /// `drift_ppm` µs in a second.
    #[must_use]
    pub const fn new(booted_us: u64, origin_us: u64, drift_ppm: i32) -> Self {
        Self {
            booted_us,
            origin_us,
            drift_ppm,
        }
    }

    /// What it shows at `world_us` of the world's time.
    #[must_use]
    pub fn read(&self, world_us: u64) -> Instant {
        let up = i128::from(world_us.saturating_sub(self.booted_us));
        let shown = i128::from(self.origin_us) + up * (PPM + i128::from(self.drift_ppm)) / PPM;
        Instant::from_us(u64::try_from(shown).unwrap_or(u64::MAX))
    }

    /// The first moment of the world's time at which it shows at least `shown`.
    #[must_use]
    pub fn when(&self, shown: Instant) -> u64 {
        let up = i128::from(shown.as_us().saturating_sub(self.origin_us));
        let rate = PPM + i128::from(self.drift_ppm);
        // ceil(up · 10^6 / rate): read() rounds down, so anything earlier shows less.
        let world = (up * PPM + rate - 1) / rate;
        u64::try_from(world)
            .unwrap_or(u64::MAX)
            .saturating_add(self.booted_us)
    }
}

/// The source of a machine's time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeOfDay {
    /// There is none: the node never learns the date.
    Unknown,
    /// It is off by `error_ms`, and says that it may be off by `uncertainty_ms`.
    Known {
        /// How far ahead of the true time it is; negative: behind.
        error_ms: i32,
        /// What the node is told about it.
        uncertainty_ms: u32,
    },
}

impl TimeOfDay {
    /// What the node is told at `world_us`: Unix ms and uncertainty.
    #[must_use]
    pub fn read(self, world_us: u64) -> Option<(u64, u32)> {
        match self {
            Self::Unknown => None,
            Self::Known {
                error_ms,
                uncertainty_ms,
            } => Some((
                unix_ms(world_us).saturating_add_signed(i64::from(error_ms)),
                uncertainty_ms,
            )),
        }
    }
}

/// The true Unix time in ms at `world_us`.
#[must_use]
pub const fn unix_ms(world_us: u64) -> u64 {
    EPOCH_MS.saturating_add(world_us / 1_000)
}

#[cfg(test)]
mod tests {
    use strandline_core::time::Instant;

    use super::Ticker;

    #[test]
    fn a_node_is_woken_at_the_first_moment_its_clock_shows_the_deadline() {
        for drift in [-120, -50, 0, 1, 50, 120] {
            let ticker = Ticker::new(1_000_000, 77, drift);
            for step in 0..2_000_u64 {
                let shown = Instant::from_us(77 + step * 1_234_567);
                let world = ticker.when(shown);
                assert!(ticker.read(world) >= shown, "drift {drift}, step {step}");
                assert!(
                    world == 1_000_000 || ticker.read(world - 1) < shown,
                    "drift {drift}"
                );
            }
        }
    }

    #[test]
    fn drift_is_what_it_says() {
        let fast = Ticker::new(0, 0, 50);
        assert_eq!(fast.read(1_000_000_000), Instant::from_us(1_000_050_000));
    }
}
