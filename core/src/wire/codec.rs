//! How values become bytes and bytes values: postcard's encoding (postcard.jamesmunns.com/wire-format), without serde.
//!
//! Owns [`Encode`], [`Decode`] and what they write to and read from. Integers over 8 bits are varints, `bool` and the mark
//! of an `Option` are a byte of 0 or 1, the variant of an enum is a varint, slices and texts have their length before
//! them, and arrays, ids and the fields of a struct have nothing around them. Nothing can fail on the way: a [`Reader`]
//! that meets what it cannot read hands out zeros from there on and says so when asked at the end, and a [`Writer`] without
//! room does the like. So a field takes a board a call, where serde's way is a call, a check and a return for each.

use crate::id::{Key, NodeId, UserId};

/// What has a form on the wire.
pub trait Encode {
    /// Writes it.
    fn encode(&self, to: &mut Writer<'_>);
}

/// What can be read from the wire; slices and texts stay where they are.
pub trait Decode<'a>: Sized {
    /// Reads it; anything at all from a reader that is [`Reader::spoil`]ed.
    fn decode(from: &mut Reader<'a>) -> Self;
}

/// Writes `value` to the front of `buf`, and returns the length; `None` when it does not fit.
pub fn encode<T: Encode>(value: &T, buf: &mut [u8]) -> Option<usize> {
    let mut to = Writer::new(buf);
    value.encode(&mut to);
    to.written()
}

/// Reads a value from the front of `bytes`, and returns what follows it; `None` when there is no such value.
pub fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut from = Reader::new(bytes);
    let value = T::decode(&mut from);
    Some((value, from.rest()?))
}

/// Fills a buffer from its front.
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    /// `None` once something did not fit.
    len: Option<usize>,
}

impl<'b> Writer<'b> {
    /// Writes to `buf`.
    pub const fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: Some(0) }
    }

    /// Writes bytes as they are.
    #[inline(never)]
    pub fn put(&mut self, bytes: &[u8]) {
        self.len = self.len.and_then(|len| {
            let room = self.buf.get_mut(len..)?.get_mut(..bytes.len())?;
            room.copy_from_slice(bytes);
            len.checked_add(bytes.len())
        });
    }

    /// Writes an integer, the lowest 7 bits first, with the eighth bit set where more follow.
    #[inline(never)]
    pub fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            let [low, ..] = value.to_le_bytes();
            self.put(&[low | 0x80]);
            value >>= 7;
        }
        let [last, ..] = value.to_le_bytes();
        self.put(&[last]);
    }

    /// How much was written; `None` when not all of it fitted.
    #[must_use]
    pub const fn written(&self) -> Option<usize> {
        self.len
    }
}

/// Takes values from the front of bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    /// `None` once something was not as it must be.
    rest: Option<&'a [u8]>,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: Some(bytes) }
    }

    /// What was not read yet; `None` when something was not as it must be.
    #[must_use]
    pub const fn rest(&self) -> Option<&'a [u8]> {
        self.rest
    }

    /// What was read is not as it must be: nothing more can be read.
    pub const fn spoil(&mut self) {
        self.rest = None;
    }

    /// Reads a value.
    pub fn get<T: Decode<'a>>(&mut self) -> T {
        T::decode(self)
    }

    /// Takes bytes as they are; none when there are fewer.
    #[inline(never)]
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let parts = self.rest.and_then(|rest| rest.split_at_checked(len));
        self.rest = parts.map(|(_, rest)| rest);
        parts.map_or(&[], |(taken, _)| taken)
    }

    /// Takes a byte.
    #[inline(never)]
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// Reads an integer of at most so many bits: as [`Writer::varint`] writes it, or with zeros above, as far as an integer
    /// of this width may reach.
    #[inline(never)]
    pub fn varint(&mut self, bits: u32) -> u64 {
        let mut value = 0;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte();
            let part = u64::from(byte & 0x7f);
            value |= part << shift;
            if byte < 0x80 {
                if part >> bits.saturating_sub(shift).min(7) != 0 {
                    break;
                }
                return value;
            }
        }
        self.spoil();
        0
    }
}

impl Encode for u8 {
    fn encode(&self, to: &mut Writer<'_>) {
        to.put(&[*self]);
    }
}

impl Decode<'_> for u8 {
    fn decode(from: &mut Reader<'_>) -> Self {
        from.byte()
    }
}

impl Encode for bool {
    fn encode(&self, to: &mut Writer<'_>) {
        to.put(&[u8::from(*self)]);
    }
}

impl Decode<'_> for bool {
    #[inline(never)]
    fn decode(from: &mut Reader<'_>) -> Self {
        let byte = from.byte();
        if byte > 1 {
            from.spoil();
        }
        byte == 1
    }
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(
            impl Encode for $type {
                fn encode(&self, to: &mut Writer<'_>) {
                    to.varint(u64::from(*self));
                }
            }

            impl Decode<'_> for $type {
                fn decode(from: &mut Reader<'_>) -> Self {
                    Self::try_from(from.varint(Self::BITS)).unwrap_or_default()
                }
            }
        )*
    };
}

integers! { u16 u32 u64 }

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, to: &mut Writer<'_>) {
        self.is_some().encode(to);
        if let Some(value) = self {
            value.encode(to);
        }
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    fn decode(from: &mut Reader<'a>) -> Self {
        from.get::<bool>().then(|| from.get())
    }
}

impl Encode for &[u8] {
    #[inline(never)]
    fn encode(&self, to: &mut Writer<'_>) {
        // A length beyond 64 bits does not fit memory.
        to.varint(u64::try_from(self.len()).unwrap_or(u64::MAX));
        to.put(self);
    }
}

impl<'a> Decode<'a> for &'a [u8] {
    #[inline(never)]
    fn decode(from: &mut Reader<'a>) -> Self {
        // A length that does not fit is more than there is.
        let len = usize::try_from(from.varint(u32::BITS)).unwrap_or(usize::MAX);
        from.take(len)
    }
}

impl Encode for &str {
    fn encode(&self, to: &mut Writer<'_>) {
        self.as_bytes().encode(to);
    }
}

impl<'a> Decode<'a> for &'a str {
    #[inline(never)]
    fn decode(from: &mut Reader<'a>) -> Self {
        core::str::from_utf8(from.get()).unwrap_or_else(|_| {
            from.spoil();
            ""
        })
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, to: &mut Writer<'_>) {
        to.put(self);
    }
}

impl<const N: usize> Decode<'_> for [u8; N] {
    #[inline(never)]
    fn decode(from: &mut Reader<'_>) -> Self {
        from.take(N).try_into().unwrap_or([0; N])
    }
}

macro_rules! ids {
    ($($type:ty)*) => {
        $(
            impl Encode for $type {
                fn encode(&self, to: &mut Writer<'_>) {
                    to.put(self.as_bytes());
                }
            }

            impl Decode<'_> for $type {
                fn decode(from: &mut Reader<'_>) -> Self {
                    Self::from_bytes(from.get())
                }
            }
        )*
    };
}

ids! { Key NodeId UserId crate::addr::PackedAddr }

/// The form of a struct: its fields, in the order in which they are named.
macro_rules! coded_struct {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl<'a> $crate::wire::codec::Encode for $type {
            fn encode(&self, to: &mut $crate::wire::codec::Writer<'_>) {
                $(self.$field.encode(to);)*
            }
        }

        impl<'a> $crate::wire::codec::Decode<'a> for $type {
            fn decode(from: &mut $crate::wire::codec::Reader<'a>) -> Self {
                Self { $($field: from.get()),* }
            }
        }
    };
}

/// The form of an enum: the variant's number, then its fields in the order in which they are named. What stands after
/// `else` is what an unknown number is read as, which spoils the reader.
macro_rules! coded_enum {
    ($type:ty { $($tag:literal => $variant:ident $({ $($field:ident),* $(,)? })? $(($inner:ident))?,)* } else $other:expr) => {
        impl<'a> $crate::wire::codec::Encode for $type {
            fn encode(&self, to: &mut $crate::wire::codec::Writer<'_>) {
                match self {
                    $(
                        Self::$variant $({ $($field),* })? $(($inner))? => {
                            to.put(&[$tag]);
                            $($($field.encode(to);)*)?
                            $($inner.encode(to);)?
                        }
                    )*
                }
            }
        }

        impl<'a> $crate::wire::codec::Decode<'a> for $type {
            fn decode(from: &mut $crate::wire::codec::Reader<'a>) -> Self {
                match from.varint(u32::BITS) {
                    $(
                        $tag => Self::$variant $({ $($field: from.get()),* })? $(({ let $inner = from.get(); $inner }))?,
                    )*
                    _ => {
                        from.spoil();
                        $other
                    }
                }
            }
        }
    };
}

pub(crate) use {coded_enum, coded_struct};
