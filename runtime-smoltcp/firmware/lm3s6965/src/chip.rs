//! The registers of the LM3S6965 that are used, and the start of its clocks.
//! Invariant: every address is one of the data sheet's (DS-LM3S6965, SPMS046), of a module whose clock runs.

/// System control.
mod system {
    strandline_firmware::registers! { 0x400f_e000:
        /// LDO power.
        LDOPCTL = 0x034,
        /// Raw interrupt status: bit 6, the PLL has locked.
        RIS = 0x050,
        /// Interrupt clear.
        MISC = 0x058,
        /// Why it was reset.
        RESC = 0x05c,
        /// Run-mode clock.
        RCC = 0x060,
        /// Clock gates of modules.
        RCGC0 = 0x100,
        /// Clock gates of modules.
        RCGC1 = 0x104,
        /// Clock gates of modules.
        RCGC2 = 0x108,
        /// Own hardware address, bytes 0 to 2.
        USER_REG0 = 0x1e0,
        /// Own hardware address, bytes 3 to 5.
        USER_REG1 = 0x1e4,
    }
}

/// Pins.
mod pins {
    strandline_firmware::registers! { 0x4000_4000:
        /// Port A: which pins a module drives.
        A_AFSEL = 0x420,
        /// Port A: digital pins.
        A_DEN = 0x51c,
    }
    /// Port F, where the lights of the Ethernet socket are.
    pub mod f {
        strandline_firmware::registers! { 0x4002_5000:
            /// Which pins a module drives.
            AFSEL = 0x420,
            /// Digital pins.
            DEN = 0x51c,
        }
    }
}

/// What the processor runs at, in Hz.
pub const CLOCK_HZ: u32 = 50_000_000;

const PLL_LOCKED: u32 = 1 << 6;
/// Of `RCC`: the PLL is bypassed; it is off; its output is off; the divider is used.
const BYPASS: u32 = 1 << 11;
const PLL_OFF: u32 = 1 << 13;
const OUTPUT_OFF: u32 = 1 << 12;
const USE_DIVIDER: u32 = 1 << 22;
/// Of `RCC`: everything about source, crystal and divider.
const CHOICES: u32 = 0xf << 23 | 0xf << 6 | 0x3 << 4 | 0x1;
/// A divider of 4 (200 MHz to 50), an 8 MHz crystal, the main oscillator.
const CHOSEN: u32 = 3 << 23 | 0xe << 6;
/// How long the PLL may take to lock, in looks at it.
const LOCK_LOOKS: u32 = 100_000;

/// Brings the chip to 50 MHz and powers the modules that are used.
pub fn start() {
    // 2.75 V, which the first chips need above 20 MHz.
    system::LDOPCTL.write(0x1b);
    let rcc = (system::RCC.read() | BYPASS) & !USE_DIVIDER;
    system::RCC.write(rcc);
    system::MISC.write(PLL_LOCKED);
    let rcc = rcc & !(CHOICES | PLL_OFF | OUTPUT_OFF) | CHOSEN | USE_DIVIDER;
    system::RCC.write(rcc);
    for _ in 0..LOCK_LOOKS {
        if system::RIS.read() & PLL_LOCKED != 0 {
            break;
        }
    }
    system::RCC.write(rcc & !BYPASS);
    system::RCGC0.set(1 << 3); // watchdog
    system::RCGC1.set(1 << 16 | 1); // timer 0, UART 0
    system::RCGC2.set(1 << 30 | 1 << 28 | 1 << 5 | 1); // PHY, MAC, ports F and A
    // The data sheet wants three cycles before the first access.
    let _ = system::RCGC2.read();
    pins::A_AFSEL.set(0b11); // UART 0
    pins::A_DEN.set(0b11);
    pins::f::AFSEL.set(0b1100); // the lights of the socket
    pins::f::DEN.set(0b1100);
}

/// The hardware address that was programmed into the chip, if one was.
pub fn hardware_address() -> Option<[u8; 6]> {
    let (low, high) = (system::USER_REG0.read(), system::USER_REG1.read());
    let ([a, b, c, _], [d, e, f, _]) = (low.to_le_bytes(), high.to_le_bytes());
    // Erased flash, or an emulator's zero.
    let programmed = low != u32::MAX && high != u32::MAX && (low, high) != (0, 0);
    (programmed && a & 1 == 0).then_some([a, b, c, d, e, f])
}

/// Why the chip was reset (bits of `RESC`), which is forgotten with this.
pub fn reset_cause() -> u32 {
    let cause = system::RESC.read();
    system::RESC.write(0);
    cause
}

/// Stops the watchdog, for a board that waits for nothing but the power.
pub fn stop_watchdog() {
    system::RCGC0.write(system::RCGC0.read() & !(1 << 3));
}

/// The interrupts that end a sleep: UART 0, watchdog, timer 0 A, Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Interrupt {
    /// Bytes on the console.
    Uart0 = 5,
    /// Half of the watchdog's patience is over.
    Watchdog = 18,
    /// The time to wake up.
    Timer0A = 19,
    /// A frame.
    Ethernet = 42,
}

// SAFETY: the numbers are the data sheet's, and each belongs to one variant.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// All of them.
pub const INTERRUPTS: [Interrupt; 4] = [
    Interrupt::Uart0,
    Interrupt::Watchdog,
    Interrupt::Timer0A,
    Interrupt::Ethernet,
];
