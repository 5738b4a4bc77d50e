//! The one source of randomness in a node: [`Rng`], a deterministic generator over the node's hash,
//! seeded by the host. It gathers no entropy. The invariant: equal seeds and equal calls give equal
//! output, and what was handed out can no longer be computed from the state that is left.

use core::fmt;
use core::marker::PhantomData;

use crate::crypto::{Crypto, DomainHasher};

/// The bytes that one refill yields.
const BLOCK_BYTES: usize = 32;

/// How often [`Rng::below`] draws again before it accepts a bias. A fair generator needs a second draw
/// less than every other time, so this is reached with a chance below 2^-64, or by a broken one.
const DRAWS_MAX: u32 = 64;

/// 32 bytes of entropy from which a node draws all its randomness.
///
/// A node's keys of defence (transaction numbers, tokens) follow from it: it must be secret and fresh at
/// every start, except where a run is to be repeated. `Debug` does not show it.
#[derive(Clone)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A deterministic random generator: a key, hashed with a counter.
///
/// A refill computes `H("strandline/rng/v1", key, 1)` as the next block of output and replaces the key by
/// `H("strandline/rng/v1", key, 0)`; the counter is one byte. Output is wiped from the state as it is
/// handed out, so that a captured state does not tell earlier output (the "fast key erasure" of
/// D. J. Bernstein, 2017-07-23). It is as unpredictable as its seed is.
///
/// It is not `Clone`: two copies would hand out the same secrets. Use [`Rng::fork`].
pub struct Rng<C> {
    key: [u8; 32],
    /// The output of the last refill; of it, the last `left` bytes are still to be handed out.
    block: [u8; BLOCK_BYTES],
    left: u8,
    crypto: PhantomData<fn() -> C>,
}

impl<C: Crypto> Rng<C> {
    /// Makes a generator without a seed, all bytes zero: it works, but anyone can predict it.
    ///
    /// It only holds the place of a seeded one in a node that has not been started.
    pub const fn unseeded() -> Self {
        Self {
            key: [0; 32],
            block: [0; BLOCK_BYTES],
            left: 0,
            crypto: PhantomData,
        }
    }

    /// Makes the generator of a seed.
    pub const fn from_seed(seed: &Seed) -> Self {
        Self {
            key: seed.0,
            ..Self::unseeded()
        }
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        let mut out = out.iter_mut().peekable();
        while out.peek().is_some() {
            if self.left == 0 {
                self.refill();
            }
            let used = BLOCK_BYTES - usize::from(self.left);
            for (fresh, byte) in self.block.iter_mut().skip(used).zip(&mut out) {
                *byte = core::mem::take(fresh);
                self.left -= 1;
            }
        }
    }

    /// Returns a number with 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns a number with 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Returns a number below `n`, each as likely as any other; 0 if `n` is 0.
    ///
    /// The high half of a 64 × 64 bit product, drawn again where it would favour some numbers
    /// (D. Lemire, "Fast Random Integer Generation in an Interval", 2019).
    pub fn below(&mut self, n: u64) -> u64 {
        // Of the 2^64 low halves, the first 2^64 mod n would be one too many for some results.
        let surplus = n.wrapping_neg().checked_rem(n).unwrap_or(0);
        let mut result = 0;
        for _ in 0..DRAWS_MAX {
            let product = u128::from(self.next_u64()) * u128::from(n);
            let (high, low) = (product >> 64, product & u128::from(u64::MAX));
            // The high half of a product with `n` is below `n`.
            result = u64::try_from(high).unwrap_or(0);
            if low >= u128::from(surplus) {
                break;
            }
        }
        result
    }

    /// Returns a number within `percent` of `base`, either way, each as likely as any other.
    ///
    /// A percentage above 100 counts as 100, so the result is at most twice `base`, and never overflows.
    pub fn jitter(&mut self, base: u64, percent: u32) -> u64 {
        let percent = u64::from(percent.min(100));
        // base * percent / 100 without the overflow of the product.
        let spread = base / 100 * percent + base % 100 * percent / 100;
        let width = spread.saturating_mul(2).saturating_add(1);
        (base - spread).saturating_add(self.below(width))
    }

    /// Puts the items in a random order, each order as likely as any other (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        let mut rest = items;
        while rest.len() > 1 {
            let last = rest.len() - 1;
            let chosen = self.below(rest.len() as u64);
            // `chosen` is below the length, which is a `usize`.
            rest.swap(usize::try_from(chosen).unwrap_or(last), last);
            (rest, _) = rest.split_at_mut(last);
        }
    }

    /// Makes a generator of its own for a part of the node, named by `label`.
    ///
    /// Its key is `H("strandline/rng-fork/v1", 32 bytes of this generator, label)`. What the parts draw
    /// then does not depend on one another.
    #[must_use]
    pub fn fork(&mut self, label: &str) -> Self {
        let mut fresh = [0; 32];
        self.fill(&mut fresh);
        let key = C::hash("strandline/rng-fork/v1", &[&fresh, label.as_bytes()]);
        Self {
            key,
            ..Self::unseeded()
        }
    }

    fn refill(&mut self) {
        let derive = |counter: u8| {
            let mut hasher = C::Hasher::new("strandline/rng/v1");
            hasher.update(&self.key);
            hasher.update(&[counter]);
            hasher.finish()
        };
        (self.key, self.block) = (derive(0), derive(1));
        self.left = 32;
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test may panic"
    )]

    extern crate alloc;

    use alloc::format;
    use alloc::vec::Vec;

    use super::{BLOCK_BYTES, DRAWS_MAX, Rng, Seed};
    use crate::crypto::{Crypto, Digest, DomainHasher, Ed25519, PublicKey, SecretKey, Signature};

    fn rng() -> Rng<Ed25519> {
        Rng::from_seed(&Seed(core::array::from_fn(|i| i as u8)))
    }

    fn draw<C: Crypto>(rng: &mut Rng<C>, len: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0; len];
        rng.fill(&mut bytes);
        bytes
    }

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_seed_gives_the_documented_stream() {
        // From an independent implementation of the construction.
        let first = "1779b1313717091d49cf39656d1fb73301794e068819716f574198ccb8cee7de";
        let second = "7e20c1c138eac38249e02f9b653524ef617d475321a4b549e546a4b6831ea78d";
        assert_eq!(hex(&draw(&mut rng(), 64)), format!("{first}{second}"));
    }

    #[test]
    fn the_stream_does_not_depend_on_how_it_is_cut() {
        let whole = draw(&mut rng(), 100);
        let mut rng = rng();
        let mut cut = Vec::new();
        for len in [0, 1, 31, 0, 33, 32, 3] {
            cut.extend(draw(&mut rng, len));
        }
        assert_eq!(cut, whole);
    }

    #[test]
    fn numbers_come_from_the_stream() {
        let bytes = draw(&mut rng(), 12);
        let mut rng = rng();
        assert_eq!(rng.next_u64().to_le_bytes(), bytes[..8]);
        assert_eq!(rng.next_u32().to_le_bytes(), bytes[8..]);
    }

    #[test]
    fn seeds_differ_and_an_unseeded_one_is_that_of_zeros() {
        let zeros = draw(&mut Rng::<Ed25519>::unseeded(), 40);
        assert_eq!(
            draw(&mut Rng::<Ed25519>::from_seed(&Seed([0; 32])), 40),
            zeros
        );
        assert_ne!(draw(&mut rng(), 40), zeros);
    }

    #[test]
    fn the_state_forgets_what_it_handed_out() {
        let mut rng = rng();
        let first_key = rng.key;
        let out = draw(&mut rng, 8);
        assert_ne!(rng.key, first_key);
        assert_eq!(rng.block[..8], [0; 8]);
        assert_ne!(
            rng.block[8..16],
            out[..],
            "the next block must not repeat the last"
        );
        let _ = draw(&mut rng, BLOCK_BYTES - 8);
        assert_eq!(rng.block, [0; BLOCK_BYTES]);
    }

    #[test]
    fn forks_are_independent_and_repeatable() {
        let (mut a, mut b) = (rng(), rng());
        let (mut a_left, mut b_left) = (a.fork("left"), b.fork("left"));
        assert_eq!(draw(&mut a_left, 40), draw(&mut b_left, 40));
        assert_eq!(draw(&mut a, 8), draw(&mut b, 8));
        assert_ne!(draw(&mut a_left, 40), draw(&mut a, 40));
        assert_ne!(
            draw(&mut rng().fork("left"), 40),
            draw(&mut rng().fork("right"), 40)
        );
    }

    #[test]
    fn below_stays_below() {
        let mut rng = rng();
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
        for n in [2, 3, 7, 100, 1 << 32, (1 << 63) + 1, u64::MAX] {
            for _ in 0..200 {
                assert!(rng.below(n) < n);
            }
        }
    }

    #[test]
    fn below_is_even() {
        let mut rng = rng();
        let mut seen = [0_u32; 6];
        for _ in 0..6_000 {
            seen[rng.below(6) as usize] += 1;
        }
        // Six standard deviations of a fair die, which are 29 each.
        assert!(
            seen.iter().all(|count| (826..=1_174).contains(count)),
            "{seen:?}"
        );
        // 3 · 2^62: without drawing again, the multiples of 3 would come twice as often.
        let threes = (0..3_000)
            .filter(|_| rng.below(3 << 62).is_multiple_of(3))
            .count();
        assert!((845..=1_155).contains(&threes), "{threes}");
    }

    #[test]
    fn jitter_covers_its_range_and_stays_in_it() {
        let mut rng = rng();
        let drawn: Vec<u64> = (0..500).map(|_| rng.jitter(100, 5)).collect();
        assert_eq!(drawn.iter().min(), Some(&95));
        assert_eq!(drawn.iter().max(), Some(&105));
        assert_eq!(rng.jitter(1_000, 0), 1_000);
        assert_eq!(rng.jitter(0, 50), 0);
        assert_eq!(rng.jitter(19, 5), 19);
    }

    #[test]
    fn jitter_at_the_limits_does_not_overflow() {
        let mut rng = rng();
        for _ in 0..100 {
            assert!(rng.jitter(10, u32::MAX) <= 20);
            assert!(rng.jitter(u64::MAX, 50) >= u64::MAX / 2);
            let _ = rng.jitter(u64::MAX, u32::MAX);
        }
    }

    #[test]
    fn shuffle_keeps_the_items_and_reaches_every_order() {
        let mut rng = rng();
        let mut orders = alloc::collections::BTreeMap::new();
        for _ in 0..2_400 {
            let mut items = [0, 1, 2, 3];
            rng.shuffle(&mut items);
            *orders.entry(items).or_insert(0_u32) += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert_eq!(orders.len(), 24);
        // Six standard deviations around 100 each.
        assert!(
            orders.values().all(|count| (42..=158).contains(count)),
            "{orders:?}"
        );
        rng.shuffle::<u8>(&mut []);
        rng.shuffle(&mut [1]);
    }

    /// A hash of zeros only: from it `below` would draw for ever.
    enum Broken {}

    struct Zeros;

    impl DomainHasher for Zeros {
        fn new(_: &str) -> Self {
            Self
        }
        fn update(&mut self, _: &[u8]) {}
        fn finish(self) -> Digest {
            [0; 32]
        }
    }

    impl Crypto for Broken {
        type Hasher = Zeros;
        fn public_key(_: &SecretKey) -> PublicKey {
            [0; 32]
        }
        fn sign(_: &SecretKey, _: &PublicKey, _: &Digest) -> Signature {
            [0; 64]
        }
        fn verify(_: &PublicKey, _: &Digest, _: &Signature) -> bool {
            false
        }
    }

    #[test]
    fn a_broken_hash_does_not_make_below_spin() {
        let mut rng = Rng::<Broken>::unseeded();
        assert_eq!(rng.below(3), 0);
        // 64 draws of 8 bytes are 16 blocks, all handed out.
        assert_eq!(usize::from(rng.left), DRAWS_MAX as usize * 8 % BLOCK_BYTES);
    }

    #[test]
    fn a_seed_is_never_printed() {
        assert_eq!(format!("{:?}", Seed([0xab; 32])), "Seed(..)");
    }
}
