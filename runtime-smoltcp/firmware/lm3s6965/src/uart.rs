//! UART 0, the console's line. Owns its registers.

use crate::chip::CLOCK_HZ;

mod registers {
    strandline_firmware::registers! { 0x4000_c000:
        /// A byte.
        DR = 0x000,
        /// Bit 5: cannot take a byte; bit 4: has none.
        FR = 0x018,
        /// Divisor.
        IBRD = 0x024,
        /// Its fraction, in 64ths.
        FBRD = 0x028,
        /// Line.
        LCRH = 0x02c,
        /// Bits 9, 8, 0: receives, sends, is on.
        CTL = 0x030,
        /// Bits 6, 4: interrupts for a rest and for a byte.
        IM = 0x038,
        /// Clears them.
        ICR = 0x044,
    }
}

const BAUD: u32 = 115_200;
/// How long a byte may take to leave, in looks at it.
const SEND_LOOKS: u32 = 100_000;

/// Turns it on.
pub fn start() {
    const DIVISOR: u32 = CLOCK_HZ * 4 / BAUD; // in 64ths
    registers::CTL.write(0);
    registers::IBRD.write(DIVISOR / 64);
    registers::FBRD.write(DIVISOR % 64);
    registers::LCRH.write(0b11 << 5 | 1 << 4); // 8 bits, FIFOs
    registers::CTL.write(1 << 9 | 1 << 8 | 1);
    registers::IM.write(1 << 6 | 1 << 4);
}

/// Sends a byte, or loses it if the line does not take it.
pub fn send(byte: u8) {
    for _ in 0..SEND_LOOKS {
        if registers::FR.read() & 1 << 5 == 0 {
            break;
        }
    }
    registers::DR.write(u32::from(byte));
}

/// A byte that came.
pub fn received() -> Option<u8> {
    registers::ICR.write(1 << 6 | 1 << 4);
    if registers::FR.read() & 1 << 4 != 0 {
        return None;
    }
    let [byte, ..] = registers::DR.read().to_le_bytes();
    Some(byte)
}
