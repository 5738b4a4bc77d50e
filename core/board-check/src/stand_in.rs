//! Cryptography that cannot panic and is worth nothing, in place of the real one: the proof that no panic can be reached
//! is about what this project wrote. A signature is a hash of key and digest.

use strandline_core::crypto::{Crypto, Digest, DomainHasher, PublicKey, SecretKey, Signature};

/// The stand-in.
#[derive(Debug)]
pub enum StandIn {}

/// FNV-1a, four times with other beginnings.
pub struct Mixer([u64; 4]);

impl DomainHasher for Mixer {
    fn new(domain: &str) -> Self {
        let mut mixer = Self([0xcbf2_9ce4_8422_2325, 1, 2, 3]);
        mixer.update(domain.as_bytes());
        mixer.update(&[u8::MAX]);
        mixer
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            for lane in &mut self.0 {
                *lane = (*lane ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }

    fn finish(self) -> Digest {
        let mut digest = [0; 32];
        for (to, from) in digest
            .iter_mut()
            .zip(self.0.iter().flat_map(|lane| lane.to_le_bytes()))
        {
            *to = from;
        }
        digest
    }
}

impl Crypto for StandIn {
    type Hasher = Mixer;

    fn public_key(secret: &SecretKey) -> PublicKey {
        Self::hash("public", &[secret.expose_bytes()])
    }

    fn sign(_secret: &SecretKey, public: &PublicKey, digest: &Digest) -> Signature {
        let half = Self::hash("signature", &[public, digest]);
        let mut signature = [0; 64];
        for (to, from) in signature.iter_mut().zip(half.iter().chain(&half)) {
            *to = *from;
        }
        signature
    }

    fn verify(public: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        Self::sign(&SecretKey::UNSET, public, digest) == *signature
    }
}
