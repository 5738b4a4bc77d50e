//! The 256-bit identifiers: [`NodeId`], [`UserId`] and [`Key`], the distance between two of them, and
//! how each is derived from what it stands for. Types of their own, so that a user is never looked up
//! as a node. What the ids lead to lives elsewhere. The invariant: the hash inputs below are part of
//! the protocol; a changed byte here moves every record of the network.

use core::fmt;

use crate::crypto::{Crypto, PublicKey};
use crate::name::Name;

/// The length of an id in bytes.
pub const ID_BYTES: usize = 32;

/// How deep a key can be split into shards: one level for each 4 bits of an id.
pub const SHARD_DEPTH_MAX: u8 = 64;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 32 bytes, compared as a big-endian number. `Display` prints 64 lower-case hexadecimal
        /// digits, `Debug` the first 8. On the wire it is the 32 bytes and nothing else.
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_BYTES]);

        impl $name {
            /// The id whose bytes are all zero; stands for no one.
            pub const ZERO: Self = Self([0; ID_BYTES]);

            /// Takes 32 bytes as an id. Every value is an id.
            pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }

            /// Reads what `Display` prints: exactly 64 hexadecimal digits, of either case.
            pub fn parse_hex(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                write_hex(f, self.0.get(..4).unwrap_or_default())?;
                f.write_str("…)")
            }
        }
    };
}

id_type! {
    /// Names a node: the hash of the node's public key, its place in the overlay.
    NodeId
}

id_type! {
    /// Names a user for good: the hash of the first public key of the user's identity.
    UserId
}

id_type! {
    /// A place in the overlay where records lie.
    Key
}

impl NodeId {
    /// Derives the id of the node that holds `public`: `H("strandline/node-id/v1", public)`.
    pub fn of_key<C: Crypto>(public: &PublicKey) -> Self {
        Self(C::hash("strandline/node-id/v1", &[public]))
    }
}

impl UserId {
    /// Derives the id of the user whose first key is `public`: `H("strandline/user-id/v1", public)`.
    pub fn of_key<C: Crypto>(public: &PublicKey) -> Self {
        Self(C::hash("strandline/user-id/v1", &[public]))
    }
}

impl Key {
    /// Derives where the claims of a name lie: `H("strandline/name/v1", name)`.
    pub fn of_name<C: Crypto>(name: &Name) -> Self {
        Self(C::hash("strandline/name/v1", &[name.as_str().as_bytes()]))
    }

    /// Derives where the records about a user lie: `H("strandline/user/v1", user)`.
    pub fn of_user<C: Crypto>(user: &UserId) -> Self {
        Self(C::hash("strandline/user/v1", &[&user.0]))
    }

    /// Derives where an immutable value lies: `H("strandline/value/v1", value)`.
    pub fn of_value<C: Crypto>(value: &[u8]) -> Self {
        Self(C::hash("strandline/value/v1", &[value]))
    }

    /// Derives the key that a person names by a text: `H("strandline/key/v1", text)`.
    pub fn of_text<C: Crypto>(text: &str) -> Self {
        Self(C::hash("strandline/key/v1", &[text.as_bytes()]))
    }

    /// Derives the shard of this key, `depth` levels down, that takes the records of `author`.
    ///
    /// An author's records move one level deeper each time that a shard answers that it is full;
    /// depth 0 is the key itself. See [`Key::child`] for the formula and the limit.
    #[must_use]
    pub fn shard<C: Crypto>(self, author: &UserId, depth: u8) -> Self {
        self.child::<C>(depth, author.as_bytes())
    }

    /// Derives the shard of this key that takes the authors whose ids begin with `prefix`.
    ///
    /// It is `H("strandline/shard/v1", key, depth, bits)`: `depth` is one byte and `bits` the first
    /// 4·`depth` bits of `prefix`, in whole bytes, the unused half of the last one zero. Depth 0 is the
    /// key itself; a depth beyond [`SHARD_DEPTH_MAX`] counts as that. Bits of `prefix` beyond 4·`depth`
    /// do not matter. Always derived from the root key, never from another shard. A reader finds the
    /// 16 shards below a prefix with [`extend_prefix`].
    #[must_use]
    pub fn child<C: Crypto>(self, depth: u8, prefix: &[u8; ID_BYTES]) -> Self {
        let depth = depth.min(SHARD_DEPTH_MAX);
        if depth == 0 {
            return self;
        }
        let (whole, half) = (usize::from(depth / 2), depth % 2 == 1);
        let bytes = prefix.get(..whole).unwrap_or_default();
        let parts: &[&[u8]] = match prefix.get(whole) {
            Some(last) if half => &[&self.0, &[depth], bytes, &[last & 0xf0]],
            Some(_) | None => &[&self.0, &[depth], bytes],
        };
        Self(C::hash("strandline/shard/v1", parts))
    }
}

/// Returns `prefix` with its 4 bits number `depth` set to `digit`: one of the 16 prefixes that are a
/// digit longer than a prefix of `depth` digits.
///
/// Only the low 4 bits of `digit` count; at a depth of [`SHARD_DEPTH_MAX`] or more nothing changes.
///
/// ```
/// use strandline_core::crypto::Ed25519;
/// use strandline_core::id::{Key, UserId, extend_prefix};
///
/// // Among the 16 children of a full key is the one that an author turns to.
/// let (root, author) = (Key::from_bytes([1; 32]), UserId::from_bytes([0xa7; 32]));
/// let mut children = (0..16).map(|digit| root.child::<Ed25519>(1, &extend_prefix(&[0; 32], 0, digit)));
/// assert_eq!(children.nth(0xa), Some(root.shard::<Ed25519>(&author, 1)));
/// ```
#[must_use]
pub fn extend_prefix(prefix: &[u8; ID_BYTES], depth: u8, digit: u8) -> [u8; ID_BYTES] {
    let mut longer = *prefix;
    if let Some(byte) = longer.get_mut(usize::from(depth / 2)) {
        *byte = if depth.is_multiple_of(2) {
            (*byte & 0x0f) | (digit << 4)
        } else {
            (*byte & 0xf0) | (digit & 0x0f)
        };
    }
    longer
}

/// The distance between two places in the overlay, compared as a big-endian number: their exclusive or (the metric of
/// Kademlia, Maymounkov and Mazières 2002, section 2.1), or how far it is from one to the other around the ring of all
/// ids (that of Chord, Stoica et al. 2003, section IV).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; ID_BYTES]);

impl Distance {
    /// Measures the distance between two ids, of whatever types: `Distance::between(a.as_bytes(), …)`.
    pub fn between(a: &[u8; ID_BYTES], b: &[u8; ID_BYTES]) -> Self {
        let mut xor = *a;
        for (x, y) in xor.iter_mut().zip(b) {
            *x ^= y;
        }
        Self(xor)
    }

    /// Measures how far `to` lies behind `from`, clockwise: `to` − `from` modulo 2^256.
    ///
    /// ```
    /// use strandline_core::id::Distance;
    ///
    /// let (a, b) = ([0xff; 32], [0; 32]);
    /// assert_eq!(Distance::clockwise(&a, &b).leading_zeros(), 255); // one step, over the top
    /// assert_eq!(Distance::clockwise(&b, &a).leading_zeros(), 0);
    /// ```
    pub fn clockwise(from: &[u8; ID_BYTES], to: &[u8; ID_BYTES]) -> Self {
        let mut gap = *to;
        let mut borrow = false;
        for (x, y) in gap.iter_mut().zip(from).rev() {
            let (less, below) = x.overflowing_sub(*y);
            let (less, below_again) = less.overflowing_sub(u8::from(borrow));
            (*x, borrow) = (less, below || below_again);
        }
        Self(gap)
    }

    /// Counts the leading zero bits, 0 to 256: for the exclusive or, those in which the two ids agree.
    pub fn leading_zeros(&self) -> u32 {
        let mut zeros = 0;
        for byte in self.0 {
            zeros += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        zeros
    }

    /// Tells whether the two ids are equal.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; ID_BYTES]
    }

    /// Returns the bytes of the number.
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

/// Returns the first 8 bytes of an id as a big-endian number.
///
/// Good for the index of a hash table, since ids are hashes; but whoever makes an id can choose these
/// bits with some work, so a table that strangers fill must mix in a secret of its own.
pub const fn prefix64(id: &[u8; ID_BYTES]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str) -> Option<[u8; ID_BYTES]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != ID_BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; ID_BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]

    extern crate alloc;

    use alloc::format;

    use super::*;
    use crate::crypto::Ed25519;
    use crate::wire::codec;

    const ROOT: Key = Key::from_bytes([7; 32]);

    /// An id that begins with the digits 1, 2, 3, 4, 5, 6, f, f.
    fn author() -> UserId {
        let mut bytes = [0xff; 32];
        bytes[..3].copy_from_slice(&[0x12, 0x34, 0x56]);
        UserId::from_bytes(bytes)
    }

    fn key(hex: &str) -> Key {
        Key::parse_hex(hex).unwrap()
    }

    // The expected digests of these two tests come from an independent implementation.
    #[test]
    fn derivations_are_those_of_the_protocol() {
        let name = Name::parse("alice").unwrap();
        assert_eq!(
            Key::of_name::<Ed25519>(&name),
            key("631b0226edd252ff75253adf8ef3545d2d5273039a312b0c931d8d5e2a57168d")
        );
        assert_eq!(
            Key::of_user::<Ed25519>(&author()),
            key("defd06a6377e9f7077d09f47bd0ddb40655dfc312e07b8a1052a87fc1efbb3e9")
        );
        assert_eq!(
            Key::of_value::<Ed25519>(b"value"),
            key("c5861afd34ff473713887eb724fcedcbd23432fb5a7f9542ecc21b06e6fcfa1e")
        );
        assert_eq!(
            UserId::of_key::<Ed25519>(&[7; 32]).as_bytes(),
            key("62d4b86605aa766afaf2449db9a01e6a4498b3b7fcdc502ecb0b636c3c9d4580").as_bytes()
        );
        assert_eq!(
            NodeId::of_key::<Ed25519>(&[7; 32]).as_bytes(),
            key("71bee6b74786605196b4b9242cdfdc0473bad25526cd24f88e87d447bd9faa33").as_bytes()
        );
    }

    #[test]
    fn shards_are_those_of_the_protocol() {
        let shard = |depth| ROOT.shard::<Ed25519>(&author(), depth);
        assert_eq!(shard(0), ROOT);
        assert_eq!(
            shard(1),
            key("01a76ae2419aa85e14a79637d05555a7ac806ab9e517f3cf1e48bf8ac6ee845d")
        );
        assert_eq!(
            shard(2),
            key("f2df117ade4013325321a6d1585842990799a20404279dfe7d941c749f982528")
        );
        assert_eq!(
            shard(3),
            key("e74cda11e7046063ce3e0d9ba4e5a922b253effba7c23f8c691e199de671e1f8")
        );
        assert_eq!(
            shard(64),
            key("0fb9dd1a4b2d9556088e8dad362a4eef825be1f9cd638ff37d94d41c57d98441")
        );
    }

    #[test]
    fn bits_beyond_the_depth_do_not_move_a_shard() {
        let mut other = *author().as_bytes();
        other[1] ^= 0x0f;
        other[31] = 0;
        let other = UserId::from_bytes(other);
        assert_eq!(
            ROOT.shard::<Ed25519>(&author(), 3),
            ROOT.shard::<Ed25519>(&other, 3)
        );
        assert_ne!(
            ROOT.shard::<Ed25519>(&author(), 4),
            ROOT.shard::<Ed25519>(&other, 4)
        );
    }

    #[test]
    fn a_depth_beyond_the_limit_counts_as_the_limit() {
        assert_eq!(
            ROOT.shard::<Ed25519>(&author(), 255),
            ROOT.shard::<Ed25519>(&author(), SHARD_DEPTH_MAX)
        );
    }

    #[test]
    fn a_reader_walks_digit_by_digit_to_an_authors_shard() {
        let mut prefix = [0; 32];
        for (depth, digit) in [1, 2, 3, 4, 5, 6, 0xf].into_iter().enumerate() {
            let depth = u8::try_from(depth).unwrap();
            prefix = extend_prefix(&prefix, depth, digit);
            assert_eq!(
                ROOT.child::<Ed25519>(depth + 1, &prefix),
                ROOT.shard::<Ed25519>(&author(), depth + 1)
            );
        }
        assert_eq!(extend_prefix(&prefix, SHARD_DEPTH_MAX, 9), prefix);
        assert_eq!(
            extend_prefix(&[0; 32], 0, 0xab),
            extend_prefix(&[0; 32], 0, 0x0b)
        );
    }

    #[test]
    fn hex_is_read_back_and_nothing_else_is() {
        let id = NodeId::from_bytes(*author().as_bytes());
        let shown = format!("{id}");
        assert_eq!(shown.len(), 64);
        assert_eq!(NodeId::parse_hex(&shown), Some(id));
        assert_eq!(NodeId::parse_hex(&shown.to_uppercase()), Some(id));
        assert_eq!(NodeId::parse_hex(&shown[1..]), None);
        assert_eq!(NodeId::parse_hex(&format!("{shown}0")), None);
        assert_eq!(NodeId::parse_hex(&format!("{shown}00")), None);
        assert_eq!(NodeId::parse_hex(&shown.replace('4', "g")), None);
        assert_eq!(NodeId::parse_hex(&shown.replace("34", "é")), None);
        assert_eq!(NodeId::parse_hex(""), None);
    }

    #[test]
    fn debug_is_short() {
        assert_eq!(format!("{:?}", author()), "UserId(123456ff…)");
    }

    #[test]
    fn an_id_is_32_raw_bytes_on_the_wire() {
        let mut buf = [0; 40];
        assert_eq!(codec::encode(&author(), &mut buf), Some(32));
        assert_eq!(&buf[..32], author().as_bytes());
        let (read, rest) = codec::decode::<UserId>(&buf).unwrap();
        assert_eq!((read, rest.len()), (author(), 8));
        assert_eq!(codec::decode::<UserId>(&buf[9..]), None);
    }

    #[test]
    fn distance_is_the_exclusive_or() {
        let at = |first: u8, last: u8| {
            let mut id = [0; 32];
            (id[0], id[31]) = (first, last);
            id
        };
        let distance = Distance::between(&at(0b1100, 1), &at(0b1010, 1));
        assert_eq!(distance.as_bytes(), &at(0b0110, 0));
        assert_eq!(distance.leading_zeros(), 5);
        assert_eq!(distance, Distance::between(&at(0b1010, 1), &at(0b1100, 1)));
        assert!(Distance::between(&at(0, 9), &at(0, 0)) < Distance::between(&at(1, 0), &at(0, 0)));
    }

    #[test]
    fn leading_zeros_reach_from_none_to_all() {
        let zero = [0; 32];
        for bit in 0..256 {
            let mut id = [0; 32];
            id[bit / 8] = 0x80 >> (bit % 8);
            let distance = Distance::between(&id, &zero);
            assert_eq!(distance.leading_zeros(), u32::try_from(bit).unwrap());
            assert!(!distance.is_zero());
        }
        assert_eq!(Distance::between(&zero, &zero).leading_zeros(), 256);
        assert!(Distance::between(&zero, &zero).is_zero());
    }

    #[test]
    fn prefix_is_big_endian() {
        assert_eq!(prefix64(author().as_bytes()), 0x1234_56ff_ffff_ffff);
    }
}
