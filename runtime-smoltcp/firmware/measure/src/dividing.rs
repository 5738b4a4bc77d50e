//! Whether the firmware's own division is right, from one bit to 64.

use core::hint::black_box;

/// Numbers of every length, of few ones and of many.
const NUMBERS: [u64; 14] = [
    1,
    2,
    3,
    10,
    50,
    1_000,
    1_000_000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x0123_4567_89ab_cdef,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Panics where a quotient or a rest is not what it should be.
pub fn check() {
    for divisor in NUMBERS {
        for dividend in NUMBERS.into_iter().flat_map(|n| [n - 1, n]) {
            let quotient = black_box(dividend) / black_box(divisor);
            let rest = black_box(dividend) % black_box(divisor);
            assert!(rest < divisor, "{dividend} % {divisor} = {rest}");
            let again = quotient.checked_mul(divisor).map(|whole| whole + rest);
            assert_eq!(again, Some(dividend), "/ {divisor} = {quotient}");
            signed(dividend.cast_signed(), divisor.cast_signed());
        }
    }
}

/// The quotient is rounded towards zero, and the rest has the dividend's sign.
fn signed(dividend: i64, divisor: i64) {
    let quotient = black_box(dividend).wrapping_div(black_box(divisor));
    let rest = black_box(dividend).wrapping_rem(black_box(divisor));
    let (whole, part) = (dividend.unsigned_abs(), divisor.unsigned_abs());
    assert_eq!(
        quotient.unsigned_abs(),
        whole / part,
        "{dividend} / {divisor}"
    );
    assert_eq!(rest.unsigned_abs(), whole % part, "{dividend} % {divisor}");
    let again = quotient.wrapping_mul(divisor).wrapping_add(rest);
    assert_eq!(
        again, dividend,
        "{dividend} / {divisor} = {quotient}, {rest}"
    );
}
