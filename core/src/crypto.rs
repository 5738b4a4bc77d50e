//! The cryptography that the rest of the core asks for, behind one trait, and its real implementation
//! [`Ed25519`]. Nobody else names a cryptographic crate, so that a large simulation can plug a cheap
//! stand-in. This file makes no keys (a secret is 32 bytes of the host's entropy) and decides nothing
//! about formats. The invariant: every hash opens with the name of its purpose, its domain, so that a
//! digest made for one purpose is never valid for another.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha512_256};

/// A public key: 32 bytes, for [`Ed25519`] the encoded point of RFC 8032, section 5.1.2.
pub type PublicKey = [u8; 32];

/// A signature: 64 bytes, for [`Ed25519`] `R ‖ S` of RFC 8032, section 5.1.6.
pub type Signature = [u8; 64];

/// The output of the hash: 32 bytes.
pub type Digest = [u8; 32];

/// The longest domain in bytes; its length takes one byte.
pub const DOMAIN_BYTES_MAX: usize = 255;

/// A secret key: 32 bytes of entropy, the "private key" of RFC 8032, section 5.1.5.
///
/// All bytes zero stands for "not set yet", which lets a node lie in zeroed memory before it starts.
/// `Debug` never shows the bytes. Memory is not wiped on drop: a node holds its key as long as it lives.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// The key that is not set; all bytes zero.
    pub const UNSET: Self = Self([0; 32]);

    /// Takes 32 bytes of the host's entropy as a key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the secret bytes, for the host to store and for [`Crypto`] to use.
    pub const fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells whether a key was set.
    pub fn is_set(&self) -> bool {
        self.0 != [0; 32]
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() {
            "SecretKey(..)"
        } else {
            "SecretKey(unset)"
        })
    }
}

/// Hashes a message piece by piece under a domain.
///
/// The input of the hash is one byte with the length of the domain, the domain, and then every piece
/// in turn. The length keeps a domain from running into the data. Pieces are *not* delimited: two
/// messages cut differently have one digest, so callers fix the layout of what they hash.
pub trait DomainHasher {
    /// Begins a hash. Of a domain longer than [`DOMAIN_BYTES_MAX`], only that many bytes count.
    fn new(domain: &str) -> Self;

    /// Appends bytes to the message.
    fn update(&mut self, bytes: &[u8]);

    /// Ends the message and returns its digest.
    fn finish(self) -> Digest;
}

/// The hash and the signatures of a network. All its nodes must use the same.
///
/// Implementations are types without values, passed as a type parameter. A stand-in for simulations
/// must still be a function of all its inputs, and its `verify` must accept what its `sign` made and
/// refuse any change of key, digest or signature: tests of forgery run on it.
pub trait Crypto {
    /// The incremental form of [`Crypto::hash`].
    type Hasher: DomainHasher;

    /// Hashes the parts, concatenated without delimiters, under a domain: see [`DomainHasher`].
    fn hash(domain: &str, parts: &[&[u8]]) -> Digest {
        let mut hasher = Self::Hasher::new(domain);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// Derives the public key of a secret.
    fn public_key(secret: &SecretKey) -> PublicKey;

    /// Signs a digest. The digest is the whole signed message; its domain separates its purpose.
    ///
    /// `public` is the key of `secret`, for schemes that need it. An implementation for which a
    /// wrong one would be dangerous must not rely on it.
    fn sign(secret: &SecretKey, public: &PublicKey, digest: &Digest) -> Signature;

    /// Tells whether `signature` was made over `digest` by the owner of `public`.
    ///
    /// Takes any bytes. At most one encoding of a key and of a signature is accepted.
    fn verify(public: &PublicKey, digest: &Digest, signature: &Signature) -> bool;
}

/// Ed25519 (RFC 8032, section 5.1) with strict verification, and SHA-512/256 (FIPS 180-4, section 6.7).
///
/// Strict means more than the RFC asks: keys and `R` of small order are refused beside encodings that
/// are not canonical, so that a signature fits one message and one key only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ed25519 {}

/// SHA-512/256 (FIPS 180-4, section 6.7) under a domain.
pub struct Sha512Trunc256(Sha512_256);

impl DomainHasher for Sha512Trunc256 {
    fn new(domain: &str) -> Self {
        let domain = domain.as_bytes();
        let domain = domain.get(..DOMAIN_BYTES_MAX).unwrap_or(domain);
        let mut hash = Sha512_256::new();
        hash.update([u8::try_from(domain.len()).unwrap_or(u8::MAX)]);
        hash.update(domain);
        Self(hash)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

impl Crypto for Ed25519 {
    type Hasher = Sha512Trunc256;

    fn public_key(secret: &SecretKey) -> PublicKey {
        SigningKey::from_bytes(secret.expose_bytes())
            .verifying_key()
            .to_bytes()
    }

    /// Signs as RFC 8032, section 5.1.6. The public key is derived anew, at the price of one more
    /// multiplication: two signatures of one digest under different public keys give the secret away.
    fn sign(secret: &SecretKey, _public: &PublicKey, digest: &Digest) -> Signature {
        SigningKey::from_bytes(secret.expose_bytes())
            .sign(digest)
            .to_bytes()
    }

    fn verify(public: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        let Some(key) = decode_point(public) else {
            return false;
        };
        key.verify_strict(digest, &ed25519_dalek::Signature::from_bytes(signature))
            .is_ok()
    }
}

/// Decodes a public key as RFC 8032, section 5.1.3, does, including step 1: y must be below
/// p = 2^255 - 19.
///
/// The curve's own decoder reduces y instead, which would give some keys a second encoding, and with it
/// a second id.
fn decode_point(encoded: &PublicKey) -> Option<VerifyingKey> {
    let [low, middle @ .., high] = encoded;
    let at_least_p = *low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high & 0x7f == 0x7f;
    if at_least_p {
        return None;
    }
    VerifyingKey::from_bytes(encoded).ok()
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]

    extern crate alloc;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    /// The key pair of RFC 8032, section 7.1, TEST 1.
    fn rfc_pair() -> (SecretKey, PublicKey) {
        (
            SecretKey::from_bytes(hex(
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            )),
            hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
        )
    }

    /// SHA-512/256 of 0x12, "strandline/test/v1", "abc"; from an independent implementation.
    fn known_digest() -> Digest {
        hex("5b2d38e40263a94e15ef8447fe76b7c20e9915e3a2c92cb52d61b734427c6bbb")
    }

    fn signed() -> (PublicKey, Digest, Signature) {
        let (secret, public) = rfc_pair();
        let digest = known_digest();
        (public, digest, Ed25519::sign(&secret, &public, &digest))
    }

    #[test]
    fn hash_has_the_documented_layout() {
        assert_eq!(
            Ed25519::hash("strandline/test/v1", &[b"abc"]),
            known_digest()
        );
        assert_eq!(
            Ed25519::hash("", &[b"abc"]),
            hex("64d275cb26236eb1635d5cf27db52e976c56213ac054664975ecaba238744768")
        );
        // The function below the prefix is that of FIPS 180-4: its example, "abc" alone.
        assert_eq!(
            <Digest>::from(Sha512_256::digest(b"abc")),
            hex("53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23")
        );
    }

    #[test]
    fn a_domain_never_runs_into_the_data() {
        assert_ne!(Ed25519::hash("ab", &[b"c"]), Ed25519::hash("a", &[b"bc"]));
        assert_ne!(Ed25519::hash("", &[b"abc"]), Ed25519::hash("abc", &[]));
    }

    #[test]
    fn pieces_are_concatenated() {
        let whole = Ed25519::hash("test", &[b"hello world"]);
        assert_eq!(Ed25519::hash("test", &[b"hello", b"", b" world"]), whole);
        let mut hasher = <Ed25519 as Crypto>::Hasher::new("test");
        for byte in b"hello world" {
            hasher.update(&[*byte]);
        }
        assert_eq!(hasher.finish(), whole);
    }

    #[test]
    fn an_overlong_domain_counts_up_to_its_limit() {
        let domain = alloc::string::String::from_utf8(alloc::vec![b'd'; 257]).unwrap();
        let at_limit = Ed25519::hash(&domain[..255], &[]);
        assert_eq!(Ed25519::hash(&domain[..256], &[]), at_limit);
        assert_eq!(Ed25519::hash(&domain, &[]), at_limit);
        assert_ne!(Ed25519::hash(&domain[..254], &[]), at_limit);
    }

    #[test]
    fn key_derivation_matches_rfc_8032() {
        let (secret, public) = rfc_pair();
        assert_eq!(Ed25519::public_key(&secret), public);
    }

    #[test]
    fn a_signature_matches_an_independent_implementation() {
        let (public, digest, signature) = signed();
        assert_eq!(
            signature,
            hex(concat!(
                "c1013aee7b1559398e1344f4d8819faf7d2ffb8e9a83186a496d0440c513e0c2",
                "0898ae53ce519220642257a564cf98f07a659761611466a8458161364965ef07"
            ))
        );
        assert!(Ed25519::verify(&public, &digest, &signature));
    }

    #[test]
    fn a_wrong_public_key_does_not_change_the_signature() {
        let (_, digest, signature) = signed();
        let (secret, _) = rfc_pair();
        assert_eq!(Ed25519::sign(&secret, &[9; 32], &digest), signature);
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let (public, digest, signature) = signed();
        for bit in 0..256 {
            let mut other = digest;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !Ed25519::verify(&public, &other, &signature),
                "digest bit {bit}"
            );
            let mut other = public;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !Ed25519::verify(&other, &digest, &signature),
                "key bit {bit}"
            );
        }
        for bit in 0..512 {
            let mut other = signature;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !Ed25519::verify(&public, &digest, &other),
                "signature bit {bit}"
            );
        }
    }

    #[test]
    fn a_scalar_beyond_the_group_order_is_refused() {
        let (public, digest, mut signature) = signed();
        // L of RFC 8032, section 5.1, little-endian: S + L satisfies the same equation as S.
        let order: [u8; 32] =
            hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert!(!Ed25519::verify(&public, &digest, &signature));
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The neutral element as key and as R, with S = 0, satisfies the equation for any message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let lax = VerifyingKey::from_bytes(&neutral).unwrap();
        let parsed = ed25519_dalek::Signature::from_bytes(&signature);
        assert!(ed25519_dalek::Verifier::verify(&lax, &known_digest(), &parsed).is_ok());
        assert!(!Ed25519::verify(&neutral, &known_digest(), &signature));
    }

    #[test]
    fn a_key_has_one_encoding() {
        let mut reduced = 0;
        for low in 0xed..=0xff {
            for high in [0x7f, 0xff] {
                let mut beyond = [0xff; 32];
                (beyond[0], beyond[31]) = (low, high);
                reduced += u32::from(VerifyingKey::from_bytes(&beyond).is_ok());
                assert!(decode_point(&beyond).is_none(), "{low:#x} {high:#x}");
            }
        }
        assert!(
            reduced > 0,
            "the decoder's leniency, for which the check is there, is gone"
        );
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xec, 0x7f); // y = p - 1, a point
        assert!(decode_point(&largest).is_some());
        assert!(decode_point(&rfc_pair().1).is_some());
    }

    #[test]
    fn bytes_that_are_no_point_are_refused() {
        let (_, digest, signature) = signed();
        let not_on_curve = [2; 32];
        assert!(VerifyingKey::from_bytes(&not_on_curve).is_err());
        assert!(!Ed25519::verify(&not_on_curve, &digest, &signature));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let shown = alloc::format!("{:?}", SecretKey::from_bytes([0xab; 32]));
        assert_eq!(shown, "SecretKey(..)");
        assert!(!SecretKey::UNSET.is_set());
        assert_eq!(alloc::format!("{:?}", SecretKey::UNSET), "SecretKey(unset)");
    }
}
