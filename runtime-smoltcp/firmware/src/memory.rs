//! What the linker knows about memory: how deep the stack went, and what survives a reset.

use core::mem::MaybeUninit;
use core::ptr::{self, addr_of_mut};

/// What the start-up code paints the stack with (cortex-m-rt's feature `paint-stack`).
const PAINT: u32 = 0xcccc_cccc;
/// Tells memory that survived from memory that was just switched on.
const MARK: u32 = 0x5742_4c4e;

unsafe extern "C" {
    static _stack_start: u32;
    static mut _stack_end: u32;
}

/// How many bytes of stack were ever used.
pub fn stack_high_water() -> usize {
    // Only the addresses of the symbols are used.
    let (top, bottom) = (
        &raw const _stack_start as usize,
        &raw mut _stack_end as usize,
    );
    let mut at = bottom;
    // SAFETY: it reads aligned words between the two ends of the stack, which is memory; volatile, since part of it is
    // in use.
    while at < top && unsafe { ptr::read_volatile(at as *const u32) } == PAINT {
        at += 4;
    }
    top - at
}

/// Counts this start; 1 after the power came on.
pub fn count_start() -> u32 {
    #[unsafe(link_section = ".uninit.STARTS")]
    static mut STARTS: MaybeUninit<[u32; 2]> = MaybeUninit::uninit();
    let starts = addr_of_mut!(STARTS).cast::<[u32; 2]>();
    // SAFETY: nothing else refers to it, and any bytes are two numbers. Volatile: the compiler must not think that it was
    // never written.
    let [mark, before] = unsafe { ptr::read_volatile(starts) };
    let now = if mark == MARK {
        before.saturating_add(1)
    } else {
        1
    };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(starts, [MARK, now]) };
    now
}
