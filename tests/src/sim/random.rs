//! The simulator's own randomness: [`Random`], a small generator, and [`Chance`], a probability.
//!
//! Nothing here is secret, and nothing depends on the platform: integers only. The invariant: equal seeds and equal
//! calls give equal numbers, in every build and on every machine, for ever: published seeds rely on it.

use std::ops::RangeInclusive;

/// SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014).
///
/// A counter that advances by a constant, scrambled on the way out. Three of them, forked from one seed, drive a
/// world: one the network, one the nodes, one the workload, so that a change in one leaves the others' draws alone.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

/// The step of the counter: 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64: every input bit reaches every output bit.
#[must_use]
pub const fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// Makes the generator of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Derives an independent generator for `purpose`, without advancing this one.
    #[must_use]
    pub fn fork(&self, purpose: &str) -> Self {
        let mut state = scramble(self.state ^ STEP);
        for byte in purpose.bytes() {
            state = scramble(state.wrapping_add(STEP) ^ u64::from(byte));
        }
        Self { state }
    }

    /// Returns 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        scramble(self.state)
    }

    /// Returns a number below `n`; 0 when `n` is 0. The bias is below n / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// Returns an index below `len`; 0 when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// Returns a number of the range, both ends included.
    pub fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let span = range.end().saturating_sub(*range.start());
        range
            .start()
            .saturating_add(self.below(span.saturating_add(1)))
    }

    /// Tells whether something that happens with this chance happens now. Always draws once.
    pub fn happens(&mut self, chance: Chance) -> bool {
        self.below(PPM) < u64::from(chance.0)
    }

    /// Picks one of several.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> Option<&'t T> {
        of.get(self.index(of.len()))
    }

    /// Returns 32 random bytes, for keys and seeds.
    pub fn bytes_32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes
    }
}

const PPM: u64 = 1_000_000;

/// A probability, in parts of a million.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Chance(u32);

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self(0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// So many in a hundred; above 100 counts as 100.
    #[must_use]
    pub const fn percent(n: u32) -> Self {
        Self::ppm(n.saturating_mul(10_000))
    }

    /// So many in a million; above a million counts as a million.
    #[must_use]
    pub const fn ppm(n: u32) -> Self {
        if n > Self::ALWAYS.0 {
            Self::ALWAYS
        } else {
            Self(n)
        }
    }

    /// Reads a percentage with up to four decimals, such as `2` or `0.5`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_percent(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a percentage between 0 and 100, such as 2 or 0.5");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        if decimals.len() > 4 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| wrong())?;
        let ppm = whole
            .checked_mul(10_000)
            .and_then(|ppm| ppm.checked_add(decimals));
        match ppm {
            Some(ppm) if ppm <= Self::ALWAYS.0 => Ok(Self(ppm)),
            Some(_) | None => Err(wrong()),
        }
    }

    /// The chance in parts of a million.
    #[must_use]
    pub const fn as_ppm(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::{Chance, Random};

    #[test]
    fn numbers_never_change_since_published_seeds_rely_on_them() {
        // The first outputs of SplitMix64 for seed 0, from its reference implementation.
        let mut random = Random::new(0);
        assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn forks_differ_by_purpose_and_leave_the_origin_alone() {
        let origin = Random::new(5);
        let (mut a, mut b) = (origin.fork("network"), origin.fork("nodes"));
        assert_ne!(a.next_u64(), b.next_u64());
        assert_eq!(origin.clone().next_u64(), Random::new(5).next_u64());
    }

    #[test]
    fn chances_come_true_as_often_as_they_say() {
        let mut random = Random::new(1);
        let hits = (0..100_000)
            .filter(|_| random.happens(Chance::percent(2)))
            .count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| random.happens(Chance::ALWAYS)));
        assert!(!(0..1_000).any(|_| random.happens(Chance::NEVER)));
    }

    #[test]
    fn ranges_reach_both_ends_and_no_further() {
        let mut random = Random::new(2);
        let seen: std::collections::BTreeSet<u64> =
            (0..1_000).map(|_| random.within(&(3..=6))).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(
            (0..64).any(|_| random.within(&(0..=u64::MAX)) > u64::MAX / 2),
            "the widest range"
        );
    }

    #[test]
    fn percentages_are_read_exactly() {
        assert_eq!(Chance::parse_percent("2").unwrap(), Chance::percent(2));
        assert_eq!(Chance::parse_percent("0.5").unwrap(), Chance::ppm(5_000));
        assert_eq!(Chance::parse_percent("100").unwrap(), Chance::ALWAYS);
        for wrong in ["", "101", "-1", "1.23456", "x", "1.x", "100.1"] {
            assert!(Chance::parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
