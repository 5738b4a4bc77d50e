//! Registers of a chip: how they are read and written, and how a board names its own. Invariant: an address becomes a
//! register where a data sheet is copied, and nowhere else.

use core::ptr;

/// One 32-bit register.
#[derive(Clone, Copy)]
pub struct Register(u32);

impl Register {
    /// The register at an address.
    ///
    /// # Safety
    /// It is a register of the chip, reading and writing which changes no memory.
    pub const unsafe fn at(address: u32) -> Self {
        Self(address)
    }

    /// Reads it.
    pub fn read(self) -> u32 {
        // SAFETY: it is an aligned register of the chip, as whoever made it promised.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    /// Writes it.
    pub fn write(self, value: u32) {
        // SAFETY: it is an aligned register of the chip, as whoever made it promised.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }

    /// Sets bits and leaves the others.
    pub fn set(self, bits: u32) {
        self.write(self.read() | bits);
    }
}

/// Names registers: offset from a module's base.
///
/// The data sheet of the board's chip must have each of them there: this is where it is promised.
#[macro_export]
macro_rules! registers {
    ($base:literal: $($(#[$doc:meta])* $name:ident = $offset:literal,)*) => {
        $($(#[$doc])* pub const $name: $crate::Register =
            // SAFETY: the data sheet has this register at this offset.
            unsafe { $crate::Register::at($base + $offset) };)*
    };
}
