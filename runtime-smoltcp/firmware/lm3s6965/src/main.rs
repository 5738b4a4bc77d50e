//! A Strandline node on the TI LM3S6965. Owns the board's memory and what starts before the program; everything that knows
//! the chip is in this crate, and the program is `strandline-firmware`'s.
#![no_std]
#![no_main]

mod chip;
mod clock;
mod ethernet;
mod uart;

use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use strandline_core::crypto::Ed25519;
use strandline_core::node::Node;
use strandline_core::plan::{Board, BoardTable};
use strandline_firmware::{
    Console, Hardware, Line, SETTINGS_LEN_MAX, Statics, run, sockets_for, start_anew,
};
use strandline_smoltcp::{Memory, Sockets, Stack};

use crate::clock::Clock;
use crate::ethernet::Ethernet;

/// Connections: the streams of the plan, and the spare one that listens.
const CONNECTIONS: usize = 5;

/// The board.
#[derive(Clone, Copy)]
struct Lm3s6965;

#[cortex_m_rt::entry]
fn main() -> ! {
    // The attribute makes these the only references. All zero, or not written, so they lie in .bss.
    static mut NODE: Node<Plan> = Node::unstarted();
    static mut MEMORY: Memory<CONNECTIONS> = Memory::EMPTY;
    static mut SOCKETS: MaybeUninit<Sockets<'static, { sockets_for(CONNECTIONS) }>> =
        MaybeUninit::uninit();
    static mut STACK: MaybeUninit<Stack<'static, Plan, Console<Lm3s6965>>> = MaybeUninit::uninit();
    static mut ETHERNET: Ethernet = Ethernet::OFF;
    static mut LINE: Line = Line::EMPTY;
    static mut ROOM: [u8; SETTINGS_LEN_MAX] = [0; SETTINGS_LEN_MAX];

    chip::start();
    uart::start();
    let clock = Clock::start();
    let statics = Statics {
        node: NODE,
        memory: MEMORY,
        sockets: SOCKETS,
        stack: STACK,
        ethernet: ETHERNET,
        line: LINE,
        settings: ROOM,
    };
    run::<Lm3s6965, _, _>(statics, clock)
}

/// Without storage, and with a console that takes a few commands.
type Plan = Board<Ed25519, BoardTable, false>;

impl Hardware for Lm3s6965 {
    type Plan = Plan;
    type Ethernet = Ethernet;
    type Clock = Clock;

    fn send(byte: u8) {
        uart::send(byte);
    }

    fn received() -> Option<u8> {
        uart::received()
    }

    fn hardware_address() -> Option<[u8; 6]> {
        chip::hardware_address()
    }

    fn reset_cause() -> u32 {
        chip::reset_cause()
    }

    fn stop_watchdog() {
        chip::stop_watchdog();
    }

    fn sleep() {
        cortex_m::asm::wfi();
    }

    fn reset() -> ! {
        SCB::sys_reset()
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    start_anew::<Lm3s6965>("panic")
}

#[cortex_m_rt::exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    start_anew::<Lm3s6965>("fault")
}

/// No interrupt has a handler, since all stay masked; the linker script wants one entry all the same.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Option<extern "C" fn()>; 1] = [None];
