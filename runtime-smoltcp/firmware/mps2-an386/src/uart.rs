//! UART 0, the console's line. Owns its registers (Cortex-M System Design Kit, DDI 0479).

use crate::chip::CLOCK_HZ;

mod registers {
    strandline_firmware::registers! { 0x4000_4000:
        /// A byte.
        DATA = 0x000,
        /// Bit 0: cannot take a byte; bit 1: has one.
        STATE = 0x004,
        /// Bits 0, 1, 3: sends, receives, interrupts for a byte that came.
        CTRL = 0x008,
        /// Bit 1: a byte came; written: forgets it.
        INTSTATUS = 0x00c,
        /// Divisor.
        BAUDDIV = 0x010,
    }
}

const BAUD: u32 = 115_200;
/// How long a byte may take to leave, in looks at it.
const SEND_LOOKS: u32 = 100_000;
const FULL: u32 = 1;
const CAME: u32 = 1 << 1;

/// Turns it on.
pub fn start() {
    registers::BAUDDIV.write(CLOCK_HZ / BAUD);
    registers::CTRL.write(1 << 3 | 1 << 1 | 1);
}

/// Sends a byte, or loses it if the line does not take it.
pub fn send(byte: u8) {
    for _ in 0..SEND_LOOKS {
        if registers::STATE.read() & FULL == 0 {
            break;
        }
    }
    registers::DATA.write(u32::from(byte));
}

/// A byte that came.
pub fn received() -> Option<u8> {
    registers::INTSTATUS.write(CAME);
    if registers::STATE.read() & CAME == 0 {
        return None;
    }
    let [byte, ..] = registers::DATA.read().to_le_bytes();
    Some(byte)
}
