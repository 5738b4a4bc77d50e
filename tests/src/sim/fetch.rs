//! Memory fetched before it is needed.
//!
//! A world of thousands of nodes is larger than any cache, and each event is another node's: most of a step would be
//! waiting for memory, one line after the other. The invariant: nothing here changes what happens.

/// How much memory is fetched at a time, in bytes.
const LINE: usize = 64;

/// Has the memory of a value brought near, without waiting for it.
pub fn fetch<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    for at in (0..size_of_val(value)).step_by(LINE) {
        fetch_line(start.wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
fn fetch_line(at: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: it is a hint that changes nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch_line(_at: *const i8) {}
