//! A Strandline node as the program of a board: it routes, stores records, posts, follows, answers reads, relays and keeps
//! copies.
//!
//! Owns the wiring: what is started in which order, and the one loop. Everything that decides is in the node, everything
//! that knows a network in the stack, and everything that knows the chip in the board's crate, which implements
//! [`Hardware`] and calls [`run`].
#![no_std]

mod commands;
mod console;
#[cfg(target_arch = "arm")]
mod copy;
#[cfg(target_arch = "arm")]
mod divide;
mod hardware;
mod memory;
mod registers;
mod settings;

use core::mem::MaybeUninit;
use core::net::{IpAddr, SocketAddr};

use smoltcp::wire::{EthernetAddress, HardwareAddress};
use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::Restored;
use strandline_core::plan::Plan;
use strandline_core::rng::Seed;
use strandline_core::time::{Instant, earliest};
use strandline_core::wire::NetworkId;
pub use strandline_smoltcp::sockets_for;
use strandline_smoltcp::{Addresses, Memory, Sockets, Stack};

pub use crate::console::{Console, Line};
pub use crate::hardware::{Clock, Ethernet, Hardware};
pub use crate::registers::Register;
pub use crate::settings::LINE_LEN_MAX as SETTINGS_LEN_MAX;
use crate::settings::Settings;

/// How long a command may take, in ms.
const WITHIN_MS: u32 = 10_000;
/// How long to wait before a join is tried again that found nobody, in s.
const REJOIN_S: u64 = 5;

/// What lives as long as the program, each a `static` of the board's. All of it may be zero, for `.bss`.
pub struct Statics<H: Hardware, const CONNECTIONS: usize, const SOCKETS: usize> {
    /// [`Node::unstarted`].
    pub node: &'static mut Node<H::Plan>,
    /// [`Memory::EMPTY`], for the streams of the plan and one connection more: the spare one, which listens.
    pub memory: &'static mut Memory<CONNECTIONS>,
    /// Places for sockets, [`sockets_for`] the connections. They are not all zero: filled in at the start.
    pub sockets: &'static mut MaybeUninit<Sockets<'static, SOCKETS>>,
    /// The stack; filled in at the start as well.
    pub stack: &'static mut MaybeUninit<Stack<'static, H::Plan, Console<H>>>,
    /// The network controller.
    pub ethernet: &'static mut H::Ethernet,
    /// [`Line::EMPTY`].
    pub line: &'static mut Line,
    /// Zeros.
    pub settings: &'static mut [u8; SETTINGS_LEN_MAX],
}

/// The program, once the chip's clocks and the console's line were started.
pub fn run<H: Hardware, const CONNECTIONS: usize, const SOCKETS: usize>(
    statics: Statics<H, CONNECTIONS, SOCKETS>,
    mut clock: H::Clock,
) -> ! {
    let Statics {
        node,
        memory,
        sockets,
        stack,
        ethernet,
        line,
        settings: room,
    } = statics;
    let mut settings = Settings::UNTOLD;
    let started = begin::<H>(&mut clock, node, room, &mut settings).and_then(|()| {
        restore(clock.now(), node, &settings)?;
        let now = clock.now();
        connect(now, &settings, node, memory, sockets, stack, ethernet)
    });
    match started {
        Ok(stack) => turn::<H>(stack, ethernet, &mut clock, line, &settings),
        Err(wrong) => halt::<H>(wrong),
    }
}

/// Puts the node on the network. A function of its own: what it builds goes through its frame, which then is gone.
#[inline(never)]
fn connect<H: Hardware, const CONNECTIONS: usize, const SOCKETS: usize>(
    now: Instant,
    settings: &Settings<'_>,
    node: &'static mut Node<H::Plan>,
    memory: &'static mut Memory<CONNECTIONS>,
    sockets: &'static mut MaybeUninit<Sockets<'static, SOCKETS>>,
    room: &'static mut MaybeUninit<Stack<'static, H::Plan, Console<H>>>,
    ethernet: &mut H::Ethernet,
) -> Result<&'static mut Stack<'static, H::Plan, Console<H>>, &'static str> {
    let console = Console::OPEN;
    let mac = settings
        .mac
        .or_else(H::hardware_address)
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
        sockets.write(Sockets::new()),
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
            seed: fresh::<H>(settings, "strandline/firmware/net"),
        },
    );
    let stack = room.write(stack.map_err(|_| "addr")?);
    if let Some(name) = stack.node().name() {
        let line = console.text("ready").person(name, &stack.node().user_id());
        line.addr((ip, settings.port).into()).end();
    }
    Ok(stack)
}

/// Polls, hears the console, keeps the board in the network, and sleeps.
#[inline(never)]
fn turn<H: Hardware>(
    stack: &mut Stack<'static, H::Plan, Console<H>>,
    ethernet: &mut H::Ethernet,
    clock: &mut H::Clock,
    line: &mut Line,
    settings: &Settings<'_>,
) -> ! {
    let mut join_at = clock.now();
    loop {
        let now = clock.now();
        if now >= join_at {
            join_at = now.after_s(REJOIN_S);
            if is_alone(stack, settings) {
                for join in settings.joins.iter().flatten() {
                    // Busy: it is tried again.
                    let _ = stack.node_mut().join(now, (*join).into(), WITHIN_MS);
                }
            }
        }
        while let Some(text) = line.poll::<H>() {
            commands::take::<H>(now, stack, clock, ethernet, text);
        }
        let wake = stack.poll(now, ethernet);
        let join = is_alone(stack, settings).then_some(join_at);
        clock.sleep_until(earliest(wake, join));
    }
}

/// Whether the board has found nobody of those whom it knows to join through.
#[inline(never)]
fn is_alone<H: Hardware>(
    stack: &Stack<'static, H::Plan, Console<H>>,
    settings: &Settings<'_>,
) -> bool {
    settings.joins.iter().any(Option::is_some) && stack.node().peers().next().is_none()
}

/// Reads the settings and starts the node by them. Functions of their own, as [`connect`].
#[inline(never)]
fn begin<H: Hardware>(
    clock: &mut H::Clock,
    node: &mut Node<H::Plan>,
    room: &'static mut [u8; SETTINGS_LEN_MAX],
    settings: &mut Settings<'static>,
) -> Result<(), &'static str> {
    settings.read(settings::line(room))?;
    settings.starts = memory::count_start();
    let cause = H::reset_cause();
    Console::<H>::OPEN
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
    start::<H>(clock.now(), node, identity, settings)
}

#[inline(never)]
fn start<H: Hardware>(
    now: Instant,
    node: &mut Node<H::Plan>,
    identity: Identity,
    settings: &Settings<'_>,
) -> Result<(), &'static str> {
    let network = NetworkId::of_name::<Ed25519>(settings.network);
    let mut config = Config::new(network, (settings.addr.0, settings.port).into());
    config.durability = Durability::Holders(settings.holders);
    let seed = fresh::<H>(settings, "strandline/firmware/core");
    node.start(now, identity, &seed, &config).map_err(|_| "net")
}

#[inline(never)]
fn restore<P: Plan>(
    now: Instant,
    node: &mut Node<P>,
    settings: &Settings<'_>,
) -> Result<(), &'static str> {
    // A reset has forgotten what was posted before it.
    let how = match settings.new && settings.starts == 1 {
        true => Restored::Fresh,
        false => Restored::Lost,
    };
    node.restored_all(now, how).map_err(|_| "new")
}

/// A seed that is fresh at every start. A chip without a generator can only do so much: it is another one after each reset,
/// and after the power came on only if the settings' `seed` is.
fn fresh<H: Hardware>(settings: &Settings<'_>, domain: &str) -> Seed {
    let starts = settings.starts.to_le_bytes();
    Seed(match H::ENTROPY {
        Some(draw) => Ed25519::hash(domain, &[&settings.seed, &starts, &draw()]),
        None => Ed25519::hash(domain, &[&settings.seed, &starts]),
    })
}

/// Says which setting is wrong, once, and sleeps for good.
fn halt<H: Hardware>(wrong: &str) -> ! {
    Console::<H>::OPEN
        .text("halted: setting ")
        .text(wrong)
        .end();
    H::stop_watchdog();
    loop {
        H::sleep();
    }
}

/// What a board's panic handler and its handler of faults do: the node comes back under the same identity.
pub fn start_anew<H: Hardware>(why: &str) -> ! {
    Console::<H>::OPEN.text(why).end();
    H::reset()
}
