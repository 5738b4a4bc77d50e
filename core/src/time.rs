//! The core's notion of time: [`Instant`], microseconds on a clock that the host reads and hands in.
//! Nothing here reads a clock or knows the date (that is [`crate::clock`]). The invariant: arithmetic
//! saturates, so that no length that came from a peer can wrap around into the past.
//!
//! A 32-bit board needs a dozen instructions for what is two on a server, at a hundred places: there it is
//! called, not inlined, which saves 3 KB of flash.

const US_PER_MS: u64 = 1_000;
const US_PER_S: u64 = 1_000_000;

/// A point in time: microseconds since an origin that the host chooses and keeps.
///
/// The host's clock must not run backwards while a node lives; an instant handed in that is earlier
/// than the previous one counts as no time having passed. Instants of different hosts cannot be
/// compared. The range is 584,000 years, and all arithmetic saturates at its ends.
///
/// ```
/// use strandline_core::time::Instant;
///
/// let now = Instant::from_s(10);
/// let deadline = now.after_ms(250);
/// assert_eq!(deadline.since_ms(now), 250);
/// assert_eq!(now.since_ms(deadline), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin; all bytes zero.
    pub const ZERO: Self = Self(0);

    /// Makes the instant `us` microseconds after the origin.
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// Makes the instant `ms` milliseconds after the origin, or the last instant if that is too far.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(US_PER_MS))
    }

    /// Makes the instant `s` seconds after the origin, or the last instant if that is too far.
    pub const fn from_s(s: u64) -> Self {
        Self(s.saturating_mul(US_PER_S))
    }

    /// Returns the microseconds since the origin.
    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// Returns the whole milliseconds since the origin, rounded down.
    pub const fn as_ms(self) -> u64 {
        self.0 / US_PER_MS
    }

    /// Returns the instant `us` microseconds later.
    #[must_use]
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Returns the instant `ms` milliseconds later.
    #[must_use]
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn after_ms(self, ms: u64) -> Self {
        self.after_us(ms.saturating_mul(US_PER_MS))
    }

    /// Returns the instant `s` seconds later.
    #[must_use]
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn after_s(self, s: u64) -> Self {
        self.after_us(s.saturating_mul(US_PER_S))
    }

    /// Returns the microseconds that passed since `earlier`, 0 if it is not earlier.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the whole milliseconds that passed since `earlier`, rounded down, 0 if it is not earlier.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.since_us(earlier) / US_PER_MS
    }
}

/// When something is due: at an instant, or never. All zero is never.
///
/// Half as long as an `Option<Instant>`, which a 32-bit board hands over in memory, not in registers.
///
/// ```
/// use strandline_core::time::{Deadline, Instant};
///
/// let due = Deadline::at(Instant::from_ms(5));
/// assert!(!due.is_due(Instant::from_ms(4)) && due.is_due(Instant::from_ms(5)));
/// assert_eq!(due.or(Deadline::NEVER), due);
/// assert_eq!(Deadline::NEVER.get(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline {
    /// The microseconds from then to the last instant of all, which counts as never: the earlier of two has more.
    before_end_us: u64,
}

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self { before_end_us: 0 };

    /// Makes the deadline `at`.
    pub const fn at(at: Instant) -> Self {
        Self {
            before_end_us: u64::MAX - at.0,
        }
    }

    /// Returns the instant, `None` if there is none.
    pub const fn get(self) -> Option<Instant> {
        if self.is_never() {
            None
        } else {
            Some(Instant(u64::MAX - self.before_end_us))
        }
    }

    /// Tells whether there is no deadline.
    pub const fn is_never(self) -> bool {
        self.before_end_us == 0
    }

    /// Tells whether it is due by `now`.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn is_due(self, now: Instant) -> bool {
        !self.is_never() && u64::MAX - self.before_end_us <= now.0
    }

    /// Returns the earlier of two.
    #[must_use]
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn or(self, other: Self) -> Self {
        if self.before_end_us >= other.before_end_us {
            self
        } else {
            other
        }
    }

    /// Sees to it that it is no later than `at`.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub const fn lower(&mut self, at: Instant) {
        *self = self.or(Self::at(at));
    }
}

/// Returns the earlier of two deadlines, where `None` means "no deadline".
///
/// `Option::min` would be wrong here: it takes `None` for the smallest value and so loses the timer.
///
/// ```
/// use strandline_core::time::{Instant, earliest};
///
/// let soon = Some(Instant::from_ms(5));
/// assert_eq!(earliest(soon, None), soon);
/// assert_eq!(soon.min(None), None); // the trap
/// ```
#[cfg_attr(target_pointer_width = "32", inline(never))]
pub const fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Deadline, Instant, earliest};

    const LAST: Instant = Instant::from_us(u64::MAX);

    #[test]
    fn units_agree() {
        assert_eq!(Instant::from_s(3), Instant::from_ms(3_000));
        assert_eq!(Instant::from_ms(3), Instant::from_us(3_000));
        assert_eq!(Instant::from_us(2_999).as_ms(), 2);
        assert_eq!(
            Instant::ZERO.after_s(1).after_ms(1).after_us(1).as_us(),
            1_001_001
        );
    }

    #[test]
    fn nothing_wraps_at_the_end_of_time() {
        assert_eq!(Instant::from_ms(u64::MAX), LAST);
        assert_eq!(Instant::from_s(u64::MAX), LAST);
        assert_eq!(LAST.after_us(1), LAST);
        assert_eq!(Instant::from_us(1).after_ms(u64::MAX), LAST);
        assert_eq!(Instant::from_us(1).after_s(u64::MAX), LAST);
    }

    #[test]
    fn elapsed_time_is_never_negative() {
        let (early, late) = (Instant::from_us(1_000), Instant::from_us(3_999));
        assert_eq!(late.since_us(early), 2_999);
        assert_eq!(late.since_ms(early), 2);
        assert_eq!(early.since_us(late), 0);
        assert_eq!(early.since_ms(late), 0);
    }

    #[test]
    fn a_deadline_is_due_from_its_instant_on_and_never_is_not() {
        let (zero, soon) = (Deadline::at(Instant::ZERO), Instant::from_us(5));
        assert!(zero.is_due(Instant::ZERO) && !Deadline::NEVER.is_due(LAST));
        assert!(!Deadline::at(soon).is_due(Instant::from_us(4)));
        assert!(Deadline::at(soon).is_due(soon) && Deadline::at(soon).is_due(LAST));
        assert!(Deadline::at(LAST).is_never());
        assert_eq!(zero.get(), Some(Instant::ZERO));
        assert_eq!(Deadline::at(soon).get(), Some(soon));
        assert_eq!(Deadline::NEVER.get(), None);
        let mut due = Deadline::NEVER;
        for at in [soon, LAST] {
            due.lower(at);
            assert_eq!(due, Deadline::at(soon));
        }
        assert_eq!(Deadline::NEVER.or(zero).or(due), zero);
        assert!(Deadline::NEVER.or(Deadline::NEVER).is_never());
    }

    #[test]
    fn no_deadline_never_beats_a_deadline() {
        let (soon, late) = (Some(Instant::from_us(1)), Some(Instant::from_us(2)));
        assert_eq!(earliest(soon, late), soon);
        assert_eq!(earliest(late, soon), soon);
        assert_eq!(earliest(soon, None), soon);
        assert_eq!(earliest(None, soon), soon);
        assert_eq!(earliest(None, None), None);
    }
}
