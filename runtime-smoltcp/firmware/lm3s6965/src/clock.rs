//! Time, sleep and the watchdog. Owns the chip's watchdog, whose 32-bit counter is also the clock, and timer 0, which ends
//! a sleep. Invariants: time never runs backwards; a program that does not come back to [`Clock::now`] for a minute is
//! reset.
//!
//! SysTick has 24 bits: at 50 MHz it would wake the board 179 times a minute, only to be counted.

use cortex_m::asm;
use cortex_m::peripheral::NVIC;
use strandline_core::time::Instant;

use crate::chip::{CLOCK_HZ, INTERRUPTS};

mod watchdog {
    strandline_firmware::registers! { 0x4000_0000:
        /// What it counts down from.
        LOAD = 0x000,
        /// Where it is.
        VALUE = 0x004,
        /// Bit 0: counts and interrupts; bit 1: resets.
        CTL = 0x008,
        /// Any write clears the interrupt and begins a new round.
        ICR = 0x00c,
        /// The registers are locked.
        LOCK = 0xc00,
    }
    /// Unlocks.
    pub const KEY: u32 = 0x1acc_e551;
}

mod timer {
    strandline_firmware::registers! { 0x4003_0000:
        /// 0: both halves as one of 32 bits.
        CFG = 0x000,
        /// 1: runs once.
        TAMR = 0x004,
        /// Bit 0: runs.
        CTL = 0x00c,
        /// Bit 0: interrupts at the end.
        IMR = 0x018,
        /// Bit 0: clears it.
        ICR = 0x024,
        /// What it counts down from.
        TAILR = 0x028,
    }
}

const CYCLES_PER_US: u32 = CLOCK_HZ / 1_000_000;
/// The watchdog's round, in s. It interrupts after one and resets after two, so that is how long a fault may last.
const ROUND_S: u32 = 30;
const ROUND: u32 = CLOCK_HZ * ROUND_S;
/// The longest sleep, in µs: the watchdog must not come round twice in between.
const SLEEP_US_MAX: u64 = (ROUND_S as u64 - 1) * 1_000_000;

const _: () = assert!(SLEEP_US_MAX * (CYCLES_PER_US as u64) < u32::MAX as u64);

/// The clock.
pub struct Clock {
    /// Cycles since the start.
    cycles: u64,
    /// Where the watchdog was at that time.
    value: u32,
    sleeps: u32,
}

impl Clock {
    /// Starts at [`Instant::ZERO`], and with it the watchdog.
    pub fn start() -> Self {
        watchdog::LOCK.write(watchdog::KEY);
        watchdog::LOAD.write(ROUND);
        watchdog::CTL.write(0b11);
        timer::CTL.write(0);
        timer::CFG.write(0);
        timer::TAMR.write(1);
        timer::IMR.write(1);
        // Masked for good: a pending interrupt ends a sleep, and there is no handler that could run.
        cortex_m::interrupt::disable();
        for interrupt in INTERRUPTS {
            // SAFETY: interrupts are masked, and nothing relies on this one being off.
            unsafe { NVIC::unmask(interrupt) };
        }
        Self {
            cycles: 0,
            value: ROUND,
            sleeps: 0,
        }
    }
}

impl strandline_firmware::Clock for Clock {
    fn now(&mut self) -> Instant {
        let value = watchdog::VALUE.read();
        let passed = match self.value.checked_sub(value) {
            Some(passed) => passed,
            // It came round, once: twice would have been a reset.
            None => self.value + (ROUND - value),
        };
        let came_round = value > self.value;
        self.cycles += u64::from(passed);
        self.value = value;
        // This begins a new round, and loses the cycles since the look at it: so it is done seldom.
        if came_round || value < ROUND / 2 {
            watchdog::ICR.write(1);
            self.value = ROUND;
        }
        Instant::from_us(self.cycles / u64::from(CYCLES_PER_US))
    }

    /// Sleeps until that time, a frame, a byte on the console, or 29 s have passed.
    fn sleep_until(&mut self, wake: Option<Instant>) {
        let us = wake.map_or(SLEEP_US_MAX, |wake| {
            wake.since_us(self.now()).min(SLEEP_US_MAX)
        });
        let cycles = u32::try_from(us * u64::from(CYCLES_PER_US)).unwrap_or(u32::MAX);
        if cycles > 0 {
            self.sleeps = self.sleeps.wrapping_add(1);
            timer::CTL.write(0);
            timer::ICR.write(1);
            timer::TAILR.write(cycles);
            timer::CTL.write(1);
            // What became pending since the last look at it does not sleep at all.
            asm::wfi();
            timer::CTL.write(0);
        }
        timer::ICR.write(1);
        for interrupt in INTERRUPTS {
            NVIC::unpend(interrupt);
        }
    }
    fn sleeps(&self) -> u32 {
        self.sleeps
    }
}
