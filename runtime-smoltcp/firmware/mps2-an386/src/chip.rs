//! What the whole chip has in common: how fast it runs, and which interrupts end a sleep (AN386, DAI 0386).

/// What the processor and what is on its buses run at, in Hz.
pub const CLOCK_HZ: u32 = 25_000_000;

/// The interrupts that end a sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Interrupt {
    /// A byte on the console.
    Uart0 = 0,
    /// The time to wake up.
    Timer0 = 8,
    /// A frame.
    Ethernet = 13,
}

// SAFETY: the numbers are the data sheet's, and each belongs to one variant.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// All of them.
pub const INTERRUPTS: [Interrupt; 3] = [Interrupt::Uart0, Interrupt::Timer0, Interrupt::Ethernet];
