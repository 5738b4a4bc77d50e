//! A program for a small board that owns a node and calls all of it, to be linked and measured.
//!
//! It proves what building core for a target cannot: that a node needs no allocator, fits the flash, and
//! lies in `.bss`. What it is fed is unknown to the compiler, and what comes out is needed, so that
//! nothing is optimised away. It is not firmware and has no use on a board. The script `check` builds and
//! measures it, and fails when an entry point of `Node` is not called here.
#![no_std]
#![no_main]

#[cfg(feature = "stand-in")]
mod stand_in;

use core::hint::black_box;
use core::net::SocketAddr;
use core::panic::PanicInfo;
use core::ptr;

use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::SecretKey;
use strandline_core::drive::{Answer, Handler, Transport, drain};
use strandline_core::id::{Key, NodeId};
use strandline_core::name::{Handle, Name};
use strandline_core::node::Node;
use strandline_core::output::{
    Class, Event, Message, OUTPUT_LEN_MAX, PersistId, Recipient, Restored, Stored, StreamId,
};
use strandline_core::plan::Board;
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;

#[cfg(not(feature = "stand-in"))]
use strandline_core::crypto::Ed25519 as Cryptography;
#[cfg(feature = "chord")]
use strandline_core::plan::BoardRing as Contacts;
#[cfg(not(feature = "chord"))]
use strandline_core::plan::BoardTable as Contacts;

#[cfg(feature = "stand-in")]
use crate::stand_in::StandIn as Cryptography;

/// The node's memory plan.
type Plan = Board<Cryptography, Contacts>;

/// The most static memory that a node may take, in bytes.
const NODE_BYTES_MAX: usize = 26 * 1024;
const _: () = assert!(size_of::<Node<Plan>>() <= NODE_BYTES_MAX);

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut NODE: Node<Plan> = Node::unstarted();
    // The attribute makes this the only reference.
    let node: &mut Node<Plan> = NODE;
    begin(node, &mut World::new());
    loop {
        // A fresh one each time: a real loop's buffers do not outlive a turn either.
        let world = &mut World::new();
        hear_network(node, world);
        hear_host(node, world);
        command(node, world);
        look(node, world);
        consume(drain(node, world, &mut Application));
    }
}

/// Gives the node its identity and what was stored.
#[inline(never)]
fn begin(node: &mut Node<Plan>, world: &mut World) {
    let now = world.now();
    let Ok(name) = Name::parse(world.text()) else {
        return;
    };
    let identity = Identity {
        user: SecretKey::from_bytes(world.array()),
        node: SecretKey::from_bytes(world.array()),
        name,
    };
    let mut config = Config::new(NetworkId(world.array()), world.addr());
    config.durability = Durability::Holders(world.byte());
    consume(node.start(now, identity, &Seed(world.array()), &config));
    for class in Class::ALL {
        let item = Stored {
            class,
            key: &world.array::<64>(),
            value: Some(world.rest()),
        };
        consume(node.restored(now, item));
    }
    let how = match world.byte() {
        0 => Restored::Fresh,
        1 => Restored::Intact,
        _ => Restored::Lost,
    };
    consume(node.restored_all(now, how));
}

#[inline(never)]
fn hear_network(node: &mut Node<Plan>, world: &mut World) {
    let now = world.now();
    node.handle_datagram(now, world.addr(), world.rest());
    consume(node.accept_stream(now, world.addr()));
    node.stream_opened(now, world.stream());
    consume(node.stream_readable(now, world.stream(), world.rest()));
    node.stream_writable(now, world.stream(), usize::from(world.byte()));
    node.stream_closed(now, world.stream());
}

#[inline(never)]
fn hear_host(node: &mut Node<Plan>, world: &mut World) {
    let now = world.now();
    node.handle_timeout(now);
    node.set_clock(now, world.number(), u32::from(world.byte()));
    node.persisted(now, PersistId(world.number()));
    node.persist_failed(now, PersistId(world.number()));
}

#[inline(never)]
fn command(node: &mut Node<Plan>, world: &mut World) {
    let now = world.now();
    let within_ms = u32::from(world.byte());
    let ttl_s = u32::from(world.byte());
    let key = Key::from_bytes(world.array());
    let Ok(handle) = &Handle::parse(world.text()) else {
        return;
    };
    let whose = (world.byte() != 0).then_some(handle);
    consume(node.join(now, world.addr(), within_ms));
    consume(node.register(now, within_ms));
    consume(node.post(now, world.text()));
    consume(node.follow(now, handle, within_ms));
    consume(node.unfollow(now, handle, within_ms));
    consume(node.timeline(now, whose, within_ms));
    consume(node.whois(now, handle, within_ms));
    consume(node.followers(now, whose, within_ms));
    consume(node.following(now, whose, within_ms));
    consume(node.lookup(now, key, within_ms));
    consume(node.put(now, key, world.rest(), ttl_s, within_ms));
    consume(node.put_if(
        now,
        key,
        &world.array::<64>(),
        world.number(),
        ttl_s,
        within_ms,
    ));
    consume(node.put_value(now, world.rest(), ttl_s, within_ms));
    consume(node.get(now, key, within_ms));
    consume(node.get_value(now, key, within_ms));
    let to = match world.byte() {
        0 => Recipient::Key(key),
        _ => Recipient::Node(NodeId::from_bytes(world.array())),
    };
    consume(node.send(now, to, world.rest(), within_ms));
    consume(node.leave(now, within_ms));
}

#[inline(never)]
fn look(node: &Node<Plan>, world: &mut World) {
    consume(node.user_id());
    consume(node.node_id());
    consume(node.name());
    consume(node.is_responsible(&Key::from_bytes(world.array())));
    node.peers().for_each(consume);
    consume(node.unix_ms(world.now()));
    consume(node.stats());
}

/// Makes a result needed.
fn consume<T>(value: T) {
    black_box(&value);
}

/// Whatever a node may be told, from memory about which the compiler knows nothing.
struct World {
    bytes: [u8; Self::LEN],
    at: usize,
}

impl World {
    const LEN: usize = OUTPUT_LEN_MAX;

    fn new() -> Self {
        let mut bytes = [0; Self::LEN];
        for byte in &mut bytes {
            // SAFETY: a reference is valid for reads. Volatile: the compiler may not know what it reads.
            *byte = unsafe { ptr::read_volatile(byte) };
        }
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> u8 {
        self.at = (self.at + 1) % Self::LEN;
        self.bytes.get(self.at).copied().unwrap_or_default()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn now(&mut self) -> Instant {
        Instant::from_us(self.number())
    }

    fn addr(&mut self) -> SocketAddr {
        SocketAddr::from((self.array::<4>(), u16::from_le_bytes(self.array())))
    }

    fn stream(&mut self) -> StreamId {
        StreamId(self.number())
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn text(&self) -> &str {
        str::from_utf8(self.rest()).unwrap_or_default()
    }
}

impl Transport for World {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        consume((to, bytes));
    }

    fn open(&mut self, stream: StreamId, to: SocketAddr) {
        consume((stream, to));
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        consume((stream, bytes));
    }

    fn close(&mut self, stream: StreamId) {
        consume(stream);
    }

    fn persist(&mut self, id: PersistId, item: Stored<'_>) {
        consume((id, item));
    }
}

struct Application;

impl Handler for Application {
    fn on_event(&mut self, event: Event<'_>) {
        consume(event);
    }

    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        consume(answer.give(message.bytes));
    }
}

/// Does not link: whoever is linked with it can panic.
#[cfg(feature = "no-panic")]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_is_reachable() -> !;
    }
    a_panic_is_reachable()
}

#[cfg(not(feature = "no-panic"))]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
