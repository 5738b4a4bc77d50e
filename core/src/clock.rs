//! The date: [`Clock`] maps the host's [`Instant`] to Unix time, as far as anybody told the node. It asks
//! no one for the time and keeps no schedule. The invariant: between two settings Unix time advances
//! exactly as the instants do, so it never runs backwards by itself.

use crate::time::Instant;

/// How far a host's oscillator may drift: 50 parts in a million, which is 180 ms in an hour.
///
/// Common crystals keep within 20 to 50 ppm at room temperature.
pub const DRIFT_PPM: u64 = 50;

const PPM: u64 = 1_000_000;

/// Unix time in milliseconds as a function of the host's instants, with its uncertainty.
///
/// A clock that was never set knows nothing and says so: its answers are `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    set: Option<Setting>,
}

/// What the host said, and when.
#[derive(Clone, Copy, Debug)]
struct Setting {
    at: Instant,
    unix_ms: u64,
    uncertainty_ms: u32,
}

impl Clock {
    /// Makes a clock that was never set.
    pub const fn unset() -> Self {
        Self { set: None }
    }

    /// Sets the clock: `now` is `unix_ms` milliseconds after 1970-01-01T00:00:00Z, give or take
    /// `uncertainty_ms`.
    ///
    /// The new setting always replaces the old one, even by a less certain or an earlier time: only the
    /// host knows which of its sources to trust. Unix time can therefore step, back too, at this call.
    pub const fn set(&mut self, now: Instant, unix_ms: u64, uncertainty_ms: u32) {
        self.set = Some(Setting {
            at: now,
            unix_ms,
            uncertainty_ms,
        });
    }

    /// Returns the Unix time in milliseconds, `None` if the clock was never set.
    ///
    /// A `now` before the setting counts as the setting's.
    pub fn unix_ms(&self, now: Instant) -> Option<u64> {
        self.set
            .map(|setting| setting.unix_ms.saturating_add(now.since_ms(setting.at)))
    }

    /// Returns how far off [`Clock::unix_ms`] may be, either way: the uncertainty of the setting and
    /// [`DRIFT_PPM`] of its age, rounded up. `None` if the clock was never set.
    pub fn uncertainty_ms(&self, now: Instant) -> Option<u32> {
        self.set.map(|setting| {
            let drift_ms = now.since_ms(setting.at).div_ceil(PPM / DRIFT_PPM);
            let drift_ms = u32::try_from(drift_ms).unwrap_or(u32::MAX);
            setting.uncertainty_ms.saturating_add(drift_ms)
        })
    }

    /// Returns how long ago the clock was set, in milliseconds; `None` if it never was.
    pub fn age_ms(&self, now: Instant) -> Option<u64> {
        self.set.map(|setting| now.since_ms(setting.at))
    }
}

const _: () = assert!(PPM.is_multiple_of(DRIFT_PPM));

#[cfg(test)]
mod tests {
    use super::Clock;
    use crate::time::Instant;

    const SET_AT: Instant = Instant::from_s(100);
    const UNIX_MS: u64 = 1_700_000_000_000;

    fn set(uncertainty_ms: u32) -> Clock {
        let mut clock = Clock::unset();
        clock.set(SET_AT, UNIX_MS, uncertainty_ms);
        clock
    }

    #[test]
    fn a_clock_never_set_does_not_invent_a_date() {
        let clock = Clock::unset();
        assert_eq!(clock.unix_ms(SET_AT), None);
        assert_eq!(clock.uncertainty_ms(SET_AT), None);
        assert_eq!(clock.age_ms(SET_AT), None);
    }

    #[test]
    fn unix_time_follows_the_instants() {
        let clock = set(0);
        assert_eq!(clock.unix_ms(SET_AT), Some(UNIX_MS));
        assert_eq!(clock.unix_ms(SET_AT.after_us(1_999)), Some(UNIX_MS + 1));
        assert_eq!(clock.unix_ms(SET_AT.after_s(60)), Some(UNIX_MS + 60_000));
        assert_eq!(clock.age_ms(SET_AT.after_s(60)), Some(60_000));
    }

    #[test]
    fn unix_time_never_runs_backwards_by_itself() {
        let clock = set(0);
        let mut last = clock.unix_ms(Instant::ZERO);
        for ms in 0..200 {
            let next = clock.unix_ms(Instant::from_s(99).after_ms(ms * 10));
            assert!(next >= last, "at {ms}");
            last = next;
        }
        assert_eq!(clock.unix_ms(Instant::ZERO), Some(UNIX_MS));
    }

    #[test]
    fn a_later_setting_may_step_back() {
        let mut clock = set(5);
        let later = SET_AT.after_s(10);
        clock.set(later, UNIX_MS, 40);
        assert_eq!(clock.unix_ms(later), Some(UNIX_MS));
        assert_eq!(clock.uncertainty_ms(later), Some(40));
    }

    #[test]
    fn uncertainty_grows_with_the_age_of_the_setting() {
        let clock = set(5);
        assert_eq!(clock.uncertainty_ms(SET_AT), Some(5));
        assert_eq!(clock.uncertainty_ms(SET_AT.after_ms(1)), Some(6));
        assert_eq!(clock.uncertainty_ms(SET_AT.after_ms(20_000)), Some(6));
        assert_eq!(clock.uncertainty_ms(SET_AT.after_ms(20_001)), Some(7));
        assert_eq!(clock.uncertainty_ms(SET_AT.after_s(3_600)), Some(5 + 180));
    }

    #[test]
    fn the_largest_values_saturate() {
        let mut clock = Clock::unset();
        clock.set(Instant::ZERO, u64::MAX, u32::MAX);
        let end = Instant::from_us(u64::MAX);
        assert_eq!(clock.unix_ms(end), Some(u64::MAX));
        assert_eq!(clock.uncertainty_ms(end), Some(u32::MAX));
        assert_eq!(set(0).uncertainty_ms(end), Some(u32::MAX));
    }
}
