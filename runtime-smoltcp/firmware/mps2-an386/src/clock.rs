//! Time, sleep and the watchdog. Owns the board's free counter, which is the clock, timer 0, which ends a sleep, and the
//! watchdog. Invariants: time never runs backwards; a program that does not come back to the clock for a minute is reset.

use cortex_m::asm;
use cortex_m::peripheral::NVIC;
use strandline_core::time::Instant;

use crate::chip::{CLOCK_HZ, INTERRUPTS};

mod counter {
    strandline_firmware::registers! { 0x4002_8000:
        /// Counts up, and around.
        COUNTER = 0x018,
        /// Cycles for each count, less one.
        PRESCALE = 0x01c,
    }
}

mod timer {
    strandline_firmware::registers! { 0x4000_0000:
        /// Bit 0: runs; bit 3: interrupts at the end.
        CTRL = 0x000,
        /// What it counts down from; written: begins there.
        RELOAD = 0x008,
        /// Bit 0: it has ended; written: forgets it.
        INTSTATUS = 0x00c,
    }
}

mod watchdog {
    strandline_firmware::registers! { 0x4000_8000:
        /// What it counts down from.
        LOAD = 0x000,
        /// Bit 0: counts and interrupts; bit 1: resets.
        CONTROL = 0x008,
        /// Any write begins a new round.
        INTCLR = 0x00c,
        /// The registers are locked.
        LOCK = 0xc00,
    }
    /// Unlocks.
    pub const KEY: u32 = 0x1acc_e551;
}

const CYCLES_PER_US: u32 = CLOCK_HZ / 1_000_000;
/// The watchdog's round, in s. It ends with the interrupt that cannot be masked, whose handler does nothing for ever, and the
/// next one with a reset.
const ROUND_S: u32 = 30;
/// The longest sleep, in µs: shorter than a round.
const SLEEP_US_MAX: u64 = (ROUND_S as u64 - 1) * 1_000_000;

const _: () = assert!(SLEEP_US_MAX * (CYCLES_PER_US as u64) < u32::MAX as u64);

/// The clock.
pub struct Clock {
    /// Time since the start, in µs.
    us: u64,
    /// Where the counter was at that time.
    count: u32,
    /// Sleeps so far.
    sleeps: u32,
}

impl Clock {
    /// Starts at [`Instant::ZERO`], and with it the watchdog.
    pub fn start() -> Self {
        watchdog::LOCK.write(watchdog::KEY);
        watchdog::LOAD.write(CLOCK_HZ * ROUND_S);
        watchdog::CONTROL.write(0b11);
        counter::PRESCALE.write(CYCLES_PER_US - 1);
        // Masked for good: a pending interrupt ends a sleep, and there is no handler that could run.
        cortex_m::interrupt::disable();
        for interrupt in INTERRUPTS {
            // SAFETY: interrupts are masked, and nothing relies on this one being off.
            unsafe { NVIC::unmask(interrupt) };
        }
        Self {
            us: 0,
            count: counter::COUNTER.read(),
            sleeps: 0,
        }
    }
}

/// Stops the watchdog, for a board that waits for nothing but the power.
pub fn stop_watchdog() {
    watchdog::CONTROL.write(0);
}

impl strandline_firmware::Clock for Clock {
    fn now(&mut self) -> Instant {
        watchdog::INTCLR.write(1);
        let count = counter::COUNTER.read();
        // It goes round in 71 minutes, and no look at it comes later than the watchdog.
        self.us += u64::from(count.wrapping_sub(self.count));
        self.count = count;
        Instant::from_us(self.us)
    }

    fn sleep_until(&mut self, wake: Option<Instant>) {
        let us = wake.map_or(SLEEP_US_MAX, |wake| {
            wake.since_us(self.now()).min(SLEEP_US_MAX)
        });
        let cycles = u32::try_from(us * u64::from(CYCLES_PER_US)).unwrap_or(u32::MAX);
        if cycles > 0 {
            self.sleeps = self.sleeps.wrapping_add(1);
            timer::RELOAD.write(cycles);
            timer::CTRL.write(1 << 3 | 1);
            // What became pending since the last look at it does not sleep at all.
            asm::wfi();
            timer::CTRL.write(0);
        }
        timer::INTSTATUS.write(1);
        for interrupt in INTERRUPTS {
            NVIC::unpend(interrupt);
        }
    }

    fn sleeps(&self) -> u32 {
        self.sleeps
    }
}
