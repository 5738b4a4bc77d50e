//! A Strandline node on the TI LM3S6965: it routes, stores records, posts, follows, answers reads, relays and keeps copies.
//!
//! Owns the wiring: what is started in which order, and the one loop. Everything that decides is in the node, everything
//! that knows a network in the stack, and everything that knows the chip in this crate's other files.
#![no_std]
#![no_main]

mod chip;
mod clock;
mod commands;
mod console;
mod ethernet;
mod memory;
mod settings;

use core::net::{IpAddr, SocketAddr};
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use static_cell::StaticCell;
use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::Restored;
use strandline_core::plan::Board;
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;
use strandline_smoltcp::{Addresses, Memory, Sockets, Stack, sockets_for};

use crate::clock::Clock;
use crate::console::{Console, Line};
use crate::ethernet::Ethernet;
use crate::settings::Settings;

/// The node's memory plan.
type Plan = Board;
/// Connections: the streams of the plan, and the spare one that listens.
const CONNECTIONS: usize = 5;
/// How long a command may take, in ms.
const WITHIN_MS: u32 = 10_000;
/// How long to wait before a join is tried again that found nobody, in s.
const REJOIN_S: u64 = 5;

#[cortex_m_rt::entry]
fn main() -> ! {
    // The attribute makes these the only references. All zero, so they lie in .bss.
    static mut NODE: Node<Plan> = Node::unstarted();
    static mut MEMORY: Memory<CONNECTIONS> = Memory::EMPTY;
    static mut ETHERNET: Ethernet = Ethernet::OFF;
    static mut LINE: Line = Line::EMPTY;

    chip::start();
    let console = Console::start();
    let mut clock = Clock::start();
    let started = begin(&mut clock, NODE, console).and_then(|settings| {
        restore(clock.now(), NODE, &settings)?;
        let stack = connect(clock.now(), &settings, NODE, MEMORY, ETHERNET, console)?;
        Ok((stack, settings))
    });
    match started {
        Ok((stack, settings)) => run(stack, ETHERNET, &mut clock, LINE, &settings),
        Err(wrong) => halt(console, wrong),
    }
}

/// Puts the node on the network. A function of its own: what it builds goes through its frame, which then is gone.
#[inline(never)]
fn connect(
    now: Instant,
    settings: &Settings<'_>,
    node: &'static mut Node<Plan>,
    memory: &'static mut Memory<CONNECTIONS>,
    ethernet: &mut Ethernet,
    console: Console,
) -> Result<&'static mut Stack<'static, Plan, Console>, &'static str> {
    // Not all zero: filled in here.
    static SOCKETS: StaticCell<Sockets<'static, { sockets_for(CONNECTIONS) }>> = StaticCell::new();
    static STACK: StaticCell<Stack<'static, Plan, Console>> = StaticCell::new();

    let mac = settings
        .mac
        .or_else(chip::hardware_address)
        .unwrap_or_else(|| {
            let [a, b, c, d, e, ..] = Ed25519::hash("strandline/firmware/mac", &[&settings.seed]);
            [2, a, b, c, d, e]
        });
    ethernet.start(mac);
    let (ip, bits) = settings.addr;
    let stack = Stack::new(
        now,
        ethernet,
        memory,
        SOCKETS.init_with(Sockets::new),
        node,
        console,
        &strandline_smoltcp::Settings {
            hardware: HardwareAddress::Ethernet(EthernetAddress(mac)),
            port: settings.port,
            addresses: Addresses::Fixed {
                own: &[(IpAddr::V4(ip), bits)],
                routers: settings.router.map(IpAddr::V4).as_slice(),
            },
            time_server: settings.ntp.map(SocketAddr::V4),
            seed: fresh(settings, "strandline/firmware/net"),
        },
    );
    let stack = STACK.init(stack.map_err(|_| "addr")?);
    if let Some(name) = stack.node().name() {
        let line = console.text("ready").person(name, &stack.node().user_id());
        line.addr((ip, settings.port).into()).end();
    }
    Ok(stack)
}

/// Polls, hears the console, keeps the board in the network, and sleeps.
#[inline(never)]
fn run(
    stack: &mut Stack<'static, Plan, Console>,
    ethernet: &mut Ethernet,
    clock: &mut Clock,
    line: &mut Line,
    settings: &Settings<'_>,
) -> ! {
    let mut join_at = clock.now();
    loop {
        let now = clock.now();
        if now >= join_at && settings.joins.iter().any(Option::is_some) {
            join_at = now.after_s(REJOIN_S);
            if stack.node().peers().next().is_none() {
                for join in settings.joins.iter().flatten() {
                    // Busy: it is tried again.
                    let _ = stack.node_mut().join(now, (*join).into(), WITHIN_MS);
                }
            }
        }
        while let Some(text) = line.poll() {
            commands::take(now, stack, clock, ethernet, text);
        }
        let wake = stack.poll(now, ethernet);
        let joined = stack.node().peers().next().is_some();
        let alone = !joined && settings.joins.iter().any(Option::is_some);
        clock.sleep_until(match wake {
            Some(wake) if alone => Some(wake.min(join_at)),
            None if alone => Some(join_at),
            wake => wake,
        });
    }
}

/// Reads the settings and starts the node by them. Functions of their own, as [`connect`].
#[inline(never)]
fn begin(
    clock: &mut Clock,
    node: &mut Node<Plan>,
    console: Console,
) -> Result<Settings<'static>, &'static str> {
    static ROOM: StaticCell<[u8; settings::LINE_LEN_MAX]> = StaticCell::new();
    let room = ROOM.init_with(|| [0; settings::LINE_LEN_MAX]);
    let mut settings = settings::parse(settings::line(room))?;
    settings.starts = memory::count_start();
    let cause = chip::reset_cause();
    console
        .text("start")
        .number(settings.starts.into())
        .number(cause.into())
        .end();
    let secret = |domain| SecretKey::from_bytes(Ed25519::hash(domain, &[&settings.seed]));
    let identity = Identity {
        user: secret("strandline/firmware/user"),
        node: secret("strandline/firmware/node"),
        name: Name::parse(settings.name).map_err(|_| "name")?,
    };
    start(clock.now(), node, identity, &settings)?;
    Ok(settings)
}

#[inline(never)]
fn start(
    now: Instant,
    node: &mut Node<Plan>,
    identity: Identity,
    settings: &Settings<'_>,
) -> Result<(), &'static str> {
    let network = NetworkId::of_name::<Ed25519>(settings.network);
    let mut config = Config::new(network, (settings.addr.0, settings.port).into());
    config.durability = Durability::Holders(settings.holders);
    let seed = fresh(settings, "strandline/firmware/core");
    node.start(now, identity, &seed, &config).map_err(|_| "net")
}

#[inline(never)]
fn restore(
    now: Instant,
    node: &mut Node<Plan>,
    settings: &Settings<'_>,
) -> Result<(), &'static str> {
    // A reset has forgotten what was posted before it.
    let how = match settings.new && settings.starts == 1 {
        true => Restored::Fresh,
        false => Restored::Lost,
    };
    node.restored_all(now, how).map_err(|_| "new")
}

/// A seed that is fresh at every start as far as a chip without a generator can make it: another one after each reset, and
/// after the power came on only if the settings' `seed` is.
fn fresh(settings: &Settings<'_>, domain: &str) -> Seed {
    let parts: [&[u8]; 2] = [&settings.seed, &settings.starts.to_le_bytes()];
    Seed(Ed25519::hash(domain, &parts))
}

/// Says which setting is wrong, once, and sleeps for good.
fn halt(console: Console, wrong: &str) -> ! {
    console.text("halted: setting ").text(wrong).end();
    chip::stop_watchdog();
    loop {
        cortex_m::asm::wfi();
    }
}

/// Starts anew: whatever it was, the node comes back under the same identity.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    Console.text("panic").end();
    SCB::sys_reset()
}

#[cortex_m_rt::exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    Console.text("fault").end();
    SCB::sys_reset()
}

/// No interrupt has a handler, since all stay masked; the linker script wants one entry all the same.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Option<extern "C" fn()>; 1] = [None];
