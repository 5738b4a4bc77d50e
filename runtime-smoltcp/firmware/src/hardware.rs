//! What a board is to the program. Owns nothing: each board's crate implements it, as `BRING-YOUR-OWN-BOARD.md` says step
//! by step.

use smoltcp::phy::Device;
use strandline_core::plan::Plan;
use strandline_core::time::Instant;

/// A board.
pub trait Hardware: Copy + 'static {
    /// The node's memory plan.
    type Plan: Plan;
    /// Its network controller.
    type Ethernet: Ethernet;
    /// Its time.
    type Clock: Clock;

    /// Draws from the chip's generator, if it has one; without, the settings' `seed` is all that nobody can guess.
    const ENTROPY: Option<fn() -> [u8; 32]> = None;

    /// Sends a byte on the console's line; loses it if the line does not take it for long.
    fn send(byte: u8);

    /// A byte that came on the console's line, if one did. A byte that comes later ends a sleep.
    fn received() -> Option<u8>;

    /// The hardware address that was given to the board when it was made, if one was.
    fn hardware_address() -> Option<[u8; 6]>;

    /// Why the board was reset, as its chip says it: shown, and forgotten.
    fn reset_cause() -> u32;

    /// Stops the watchdog, for a board that waits for nothing but the power.
    fn stop_watchdog();

    /// Sleeps until something happens.
    fn sleep();

    /// Starts anew.
    fn reset() -> !;
}

/// A network controller.
pub trait Ethernet: Device {
    /// Turns it on, under this address.
    fn start(&mut self, mac: [u8; 6]);

    /// How many frames it threw away, being too long.
    fn overlong(&self) -> u32;
}

/// Time, sleep and the watchdog.
pub trait Clock {
    /// Now, which is never before an earlier now; keeps the watchdog quiet.
    fn now(&mut self) -> Instant;

    /// Sleeps until that time, a frame, or a byte on the console; less is harmless.
    fn sleep_until(&mut self, wake: Option<Instant>);

    /// How often it slept.
    fn sleeps(&self) -> u32;
}
