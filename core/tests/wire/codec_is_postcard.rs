//! Core's encoding against postcard itself: the same bytes for every value, and the same verdict on any bytes.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Deserialize;
use strandline_core::wire::codec::{Decode, Encode, Reader, Writer, decode, encode};

/// What core writes, into just as much room as it takes; with a byte less it writes nothing.
fn written<T: Encode>(value: &T) -> Vec<u8> {
    let mut buf = [0; 400];
    let len = encode(value, &mut buf).unwrap();
    assert_eq!(encode(value, &mut buf[..len]), Some(len));
    assert_eq!(encode(value, &mut buf[..len - 1]), None);
    buf[..len].to_vec()
}

/// Both read the same value from `bytes`, and leave the same behind it, or neither reads one.
fn read_alike<'a, T: Decode<'a> + Deserialize<'a> + PartialEq + Debug>(
    bytes: &'a [u8],
) -> Result<(), TestCaseError> {
    prop_assert_eq!(decode::<T>(bytes), postcard::take_from_bytes(bytes).ok());
    Ok(())
}

/// Bytes in which varints end early, go on for long, and overflow.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        0..4_u8,
        Just(0x7f),
        Just(0x80),
        Just(0x81),
        Just(0xff)
    ];
    vec(byte, 0..24)
}

proptest! {
    #[test]
    fn values_have_the_same_bytes(
        (byte, flag, narrow, middle, wide) in any::<(u8, bool, u16, u32, u64)>(),
        maybe in option::of(any::<u64>()),
        bytes in vec(any::<u8>(), 0..300),
        text in ".{0,40}",
        array in any::<[u8; 16]>(),
        shift in 0..64_u32,
    ) {
        let (bytes, text, wide) = (&*bytes, &*text, wide >> shift);
        prop_assert_eq!(written(&byte), postcard::to_stdvec(&byte).unwrap());
        prop_assert_eq!(written(&flag), postcard::to_stdvec(&flag).unwrap());
        prop_assert_eq!(written(&narrow), postcard::to_stdvec(&narrow).unwrap());
        prop_assert_eq!(written(&middle), postcard::to_stdvec(&middle).unwrap());
        prop_assert_eq!(written(&wide), postcard::to_stdvec(&wide).unwrap());
        prop_assert_eq!(written(&maybe), postcard::to_stdvec(&maybe).unwrap());
        prop_assert_eq!(written(&bytes), postcard::to_stdvec(&bytes).unwrap());
        prop_assert_eq!(written(&text), postcard::to_stdvec(&text).unwrap());
        prop_assert_eq!(written(&array), postcard::to_stdvec(&array).unwrap());
        for value in [u64::from(narrow), u64::from(middle), wide] {
            let bytes = written(&value);
            prop_assert_eq!(decode(&bytes), Some((value, &[][..])));
        }
    }

    #[test]
    fn any_bytes_are_read_alike(bytes in hostile()) {
        read_alike::<u8>(&bytes)?;
        read_alike::<bool>(&bytes)?;
        read_alike::<u16>(&bytes)?;
        read_alike::<u32>(&bytes)?;
        read_alike::<u64>(&bytes)?;
        read_alike::<Option<u16>>(&bytes)?;
        read_alike::<[u8; 8]>(&bytes)?;
    }

    /// A length has 32 bits at most, on servers too, so that all nodes agree on what decodes; postcard's has the machine's.
    #[test]
    fn any_slices_are_read_alike(len in 0..40_u32, zeros in 0..4_usize, bytes in vec(0x20..0x90_u8, 0..40)) {
        let mut whole = written(&len);
        if zeros > 0 {
            *whole.last_mut().unwrap() |= 0x80;
            whole.extend(vec![0x80; zeros - 1]);
            whole.push(0);
        }
        whole.extend(bytes);
        read_alike::<&[u8]>(&whole)?;
        read_alike::<&str>(&whole)?;
        read_alike::<Option<&[u8]>>(&[&[1], &*whole].concat())?;
    }
}

#[test]
fn a_length_beyond_32_bits_does_not_decode() {
    let mut long = [0x80; 6];
    long[5] = 0;
    assert_eq!(decode::<&[u8]>(&long), None);
    assert_eq!(decode::<&[u8]>(&[0x80, 0]), Some((&[][..], &[][..])));
}

#[test]
fn nothing_is_read_behind_what_is_not_as_it_must_be() {
    let mut from = Reader::new(&[2, 1, 1]);
    assert!(!from.get::<bool>());
    assert_eq!(from.get::<u8>(), 0);
    assert_eq!(from.get::<Option<u64>>(), None);
    assert_eq!(from.rest(), None);
}

#[test]
fn nothing_is_written_behind_what_did_not_fit() {
    let mut buf = [7; 3];
    let mut to = Writer::new(&mut buf);
    1_u8.encode(&mut to);
    [0_u8; 3].encode(&mut to);
    2_u8.encode(&mut to);
    assert_eq!(to.written(), None);
    assert_eq!(buf, [1, 7, 7]);
}
