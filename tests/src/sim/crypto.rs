//! [`StandIn`]: cryptography for large worlds, some hundred times cheaper than the real one and worth nothing outside.
//!
//! A signature is a hash of the public key and the digest: anyone who knows that could forge one. The simulated
//! attackers do not, and any change of key, digest or signature is noticed, which is what the tests of forgery need.
//! The invariant: every function is one of all its inputs, and of nothing else.

use strandline_core::crypto::{Crypto, Digest, DomainHasher, PublicKey, SecretKey, Signature};

use super::random::scramble;

/// Keyed mixing in place of SHA-512/256 and Ed25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {}

/// Four lanes of 64 bits; each word of the message goes to all of them.
pub struct Mixer {
    lanes: [u64; 4],
    word: u64,
    /// How many bytes of `word` are filled: 0 to 7.
    filled: u32,
    len: u64,
}

/// Odd numbers without a pattern (the leading digits of some square roots).
const FACTORS: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

impl Mixer {
    fn word(&mut self, word: u64) {
        for (lane, factor) in self.lanes.iter_mut().zip(FACTORS) {
            *lane = (*lane ^ word).wrapping_mul(factor);
            *lane ^= *lane >> 29;
        }
    }
}

impl DomainHasher for Mixer {
    fn new(domain: &str) -> Self {
        let mut mixer = Self {
            lanes: FACTORS,
            word: 0,
            filled: 0,
            len: 0,
        };
        mixer.update(domain.as_bytes());
        // The domain ends a word, and its length is part of the next: it cannot run into the data.
        let (word, len) = (mixer.word, mixer.len);
        mixer.word(word);
        mixer.word(len);
        Self {
            word: 0,
            filled: 0,
            len: 0,
            ..mixer
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.len = self
            .len
            .wrapping_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let mut rest = bytes;
        while let Some((first, tail)) = rest.split_first() {
            if self.filled == 0
                && let Some((chunk, tail)) = rest.split_first_chunk::<8>()
            {
                self.word(u64::from_le_bytes(*chunk));
                rest = tail;
                continue;
            }
            self.word |= u64::from(*first) << (8 * self.filled);
            self.filled += 1;
            if self.filled == 8 {
                let word = std::mem::take(&mut self.word);
                self.filled = 0;
                self.word(word);
            }
            rest = tail;
        }
    }

    fn finish(mut self) -> Digest {
        let (word, len) = (self.word, self.len);
        self.word(word);
        self.word(len);
        let mut digest = [0; 32];
        let mut carry = 0;
        for (chunk, lane) in digest.chunks_exact_mut(8).zip(self.lanes) {
            carry = scramble(lane ^ carry);
            chunk.copy_from_slice(&carry.to_be_bytes());
        }
        digest
    }
}

impl Crypto for StandIn {
    type Hasher = Mixer;

    fn public_key(secret: &SecretKey) -> PublicKey {
        Self::hash("stand-in/public", &[secret.expose_bytes()])
    }

    fn sign(_secret: &SecretKey, public: &PublicKey, digest: &Digest) -> Signature {
        signature(public, digest)
    }

    fn verify(public: &PublicKey, digest: &Digest, claimed: &Signature) -> bool {
        signature(public, digest) == *claimed
    }
}

fn signature(public: &PublicKey, digest: &Digest) -> Signature {
    let (left, right) = (
        StandIn::hash("stand-in/left", &[public, digest]),
        StandIn::hash("stand-in/right", &[public, digest]),
    );
    let mut signature = [0; 64];
    for (to, from) in signature.iter_mut().zip(left.iter().chain(&right)) {
        *to = *from;
    }
    signature
}

#[cfg(test)]
mod tests {
    use strandline_core::crypto::{Crypto, DomainHasher, SecretKey};

    use super::{Mixer, StandIn};

    #[test]
    fn pieces_are_concatenated() {
        let text = b"a message of more than three words of eight bytes";
        let whole = StandIn::hash("test", &[text]);
        for cut in 0..text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(StandIn::hash("test", &[a, b]), whole, "cut at {cut}");
        }
        let mut hasher = Mixer::new("test");
        text.iter().for_each(|byte| hasher.update(&[*byte]));
        assert_eq!(hasher.finish(), whole);
    }

    #[test]
    fn a_domain_never_runs_into_the_data() {
        assert_ne!(StandIn::hash("ab", &[b"c"]), StandIn::hash("a", &[b"bc"]));
        assert_ne!(
            StandIn::hash("domain12", &[b"x"]),
            StandIn::hash("", &[b"domain12x"])
        );
        assert_ne!(StandIn::hash("", &[b"abc\0"]), StandIn::hash("", &[b"abc"]));
    }

    #[test]
    fn any_change_breaks_a_signature() {
        let secret = SecretKey::from_bytes([3; 32]);
        let (public, digest) = (StandIn::public_key(&secret), [5; 32]);
        let signature = StandIn::sign(&secret, &public, &digest);
        assert!(StandIn::verify(&public, &digest, &signature));
        for byte in 0..64 {
            let flip = |at: usize, bytes: &mut [u8]| {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                }
            };
            let (mut other_key, mut other_digest, mut other) = (public, digest, signature);
            flip(byte % 32, &mut other_key);
            flip(byte % 32, &mut other_digest);
            flip(byte, &mut other);
            assert!(!StandIn::verify(&other_key, &digest, &signature));
            assert!(!StandIn::verify(&public, &other_digest, &signature));
            assert!(!StandIn::verify(&public, &digest, &other));
        }
    }

    #[test]
    fn leading_bits_are_spread_evenly() {
        // Node ids are hashes: their first byte decides the bucket.
        let mut counts = [0_u32; 16];
        for n in 0..16_000_u32 {
            let [first, ..] = StandIn::hash("test", &[&n.to_le_bytes()]);
            if let Some(count) = counts.get_mut(usize::from(first >> 4)) {
                *count += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }
}
