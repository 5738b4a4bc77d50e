//! Byte arrays in serde: a tuple of bytes, as serde's own, but read and written in a loop.
//!
//! Owns `#[serde(with = "crate::bytes")]` for the wire types and ids. Serde's own code for arrays repeats the reading of
//! one element as often as there are elements, for each length: kilobytes of a board's flash. Invariant: in postcard an
//! array is its bytes and nothing else.

use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes the bytes.
pub fn serialize<S: Serializer, const N: usize>(
    bytes: &[u8; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(N)?;
    for byte in bytes {
        tuple.serialize_element(byte)?;
    }
    tuple.end()
}

/// Reads as many bytes as there are in the array.
pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    deserializer.deserialize_tuple(N, Array::<N>)
}

/// An array that may be missing.
pub mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Whole<const N: usize>(#[serde(with = "crate::bytes")] [u8; N]);

    /// Writes the array if it is there.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.map(Whole).serialize(serializer)
    }

    /// Reads the array if it is there.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        let whole = Option::deserialize(deserializer)?;
        Ok(whole.map(|Whole(bytes)| bytes))
    }
}

struct Array<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Array<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let mut bytes = [0; N];
        fill(seq, &mut bytes)?;
        Ok(bytes)
    }
}

/// The part of reading that is the same for every length.
#[inline(never)]
fn fill<'de, A: SeqAccess<'de>>(mut seq: A, bytes: &mut [u8]) -> Result<(), A::Error> {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = seq
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(at, &"more bytes"))?;
    }
    Ok(())
}
