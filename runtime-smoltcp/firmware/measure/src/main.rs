//! Counts the instructions of what a node does most. Two nodes of a board's plan lie in one memory and hand each other
//! their datagrams, under a clock that is a number; QEMU's `-icount shift=0` makes an instruction a nanosecond, and the
//! board's counter tells them in steps of [`STEP`]. Prints a line for each operation. The code is built as the firmware is,
//! with its loops that copy memory, which are checked first. `footprint` and the boards' tests run it; it means nothing on
//! a board.
#![no_std]
#![no_main]

mod copying;
mod dividing;

use core::hint::black_box;
use core::net::SocketAddr;
use core::panic::PanicInfo;

use cortex_m_semihosting::{debug, hprintln};
use strandline_core::config::{Config, Identity};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::drive::{Handler, Transport, drain};
use strandline_core::id::{Key, UserId};
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::{Event, PersistId, Restored, Stored, StreamId};
use strandline_core::plan::Board;
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{Body, Datagram, PutOutcome};
use strandline_core::wire::post::{self, Post, PostKind};
use strandline_core::wire::record::{self, Head, Kind, Record};
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId, POST_LEN_MAX, RECORD_LEN_MAX};

strandline_firmware::registers! { 0x4002_8000:
    /// Counts up, once in so many instructions.
    COUNTER = 0x018,
}

/// Instructions for each count: 25 MHz, and a nanosecond for each.
const STEP: u32 = 40;
const NETWORK: NetworkId = NetworkId(*b"cost");
/// A date, Unix ms.
const DATE_MS: u64 = 1_700_000_000_000;
/// How long a command may take, in ms.
const WITHIN_MS: u32 = 5_000;
/// Datagrams on their way.
const QUEUE: usize = 16;
/// Turns of the world in which a command must have ended.
const TURNS: u32 = 400;

/// Instructions of a piece of work, and what it gave.
fn count<T>(work: impl FnOnce() -> T) -> (u32, T) {
    let before = COUNTER.read();
    let result = black_box(work());
    (COUNTER.read().wrapping_sub(before) * STEP, result)
}

/// What one node sent.
struct Outbox {
    datagrams: [(usize, [u8; DATAGRAM_LEN_MAX]); QUEUE],
    len: usize,
    persisted: Option<PersistId>,
}

impl Outbox {
    const EMPTY: Self = Self {
        datagrams: [(0, [0; DATAGRAM_LEN_MAX]); QUEUE],
        len: 0,
        persisted: None,
    };
}

impl Transport for Outbox {
    fn send(&mut self, _to: SocketAddr, bytes: &[u8]) {
        if let Some((len, room)) = self.datagrams.get_mut(self.len)
            && let Some(room) = room.get_mut(..bytes.len())
        {
            room.copy_from_slice(bytes);
            *len = bytes.len();
            self.len += 1;
        }
    }
    fn open(&mut self, _: StreamId, _: SocketAddr) {}
    fn write(&mut self, _: StreamId, _: &[u8]) {}
    fn close(&mut self, _: StreamId) {}
    fn persist(&mut self, id: PersistId, _: Stored<'_>) {
        self.persisted = Some(id);
    }
}

/// Nobody listens.
struct Silence;

impl Handler for Silence {
    fn on_event(&mut self, _: Event<'_>) {}
}

/// One node, its address, and what it sent.
struct Place {
    node: &'static mut Node<Board>,
    outbox: &'static mut Outbox,
    addr: SocketAddr,
}

impl Place {
    fn start(&mut self, number: u8) {
        let secret = |domain| SecretKey::from_bytes(Ed25519::hash(domain, &[&[number]]));
        let identity = Identity {
            user: secret("measure/user"),
            node: secret("measure/node"),
            name: Name::parse("measure").unwrap(),
        };
        let config = Config::new(NETWORK, self.addr);
        let seed = Seed(Ed25519::hash("measure/seed", &[&[number]]));
        self.node
            .start(Instant::ZERO, identity, &seed, &config)
            .unwrap();
        self.node
            .restored_all(Instant::ZERO, Restored::Fresh)
            .unwrap();
        self.node.set_clock(Instant::ZERO, DATE_MS, 10);
    }

    /// Polls until there is nothing left.
    fn drain(&mut self, now: Instant) {
        loop {
            drain(self.node, self.outbox, &mut Silence);
            let Some(id) = self.outbox.persisted.take() else {
                return;
            };
            self.node.persisted(now, id);
        }
    }
}

/// What was counted, for the last of each.
#[derive(Default)]
struct Costs {
    answered: u32,
    stored: u32,
}

/// Gives a datagram of one node to the other, and counts what it took if it was one of those to be counted.
fn deliver(now: Instant, from: SocketAddr, bytes: &[u8], to: &mut Place, costs: &mut Costs) {
    let asked = Datagram::decode(bytes, NETWORK).map(|datagram| match datagram.body {
        Body::Get { .. } | Body::FindNode { .. } => 1,
        Body::Put { .. } => 2,
        _ => 0,
    });
    let (before, at) = (to.outbox.len, to.outbox.len);
    let (cost, ()) = count(|| {
        to.node.handle_datagram(now, from, bytes);
        to.drain(now);
    });
    let Some((len, reply)) = to
        .outbox
        .datagrams
        .get(at)
        .filter(|_| to.outbox.len > before)
    else {
        return;
    };
    let reply = Datagram::decode(reply.get(..*len).unwrap_or_default(), NETWORK);
    match (asked, reply.map(|reply| reply.body)) {
        (Ok(1), Ok(Body::Found { .. })) => costs.answered = cost,
        (
            Ok(2),
            Ok(Body::Stored {
                outcome: PutOutcome::Stored,
                ..
            }),
        ) => costs.stored = cost,
        _ => {}
    }
}

/// Lets time pass until all that was begun has ended.
fn run(now: &mut Instant, places: &mut [Place; 2], costs: &mut Costs) {
    for _ in 0..TURNS {
        *now = now.after_ms(25);
        let [left, right] = &mut *places;
        for place in [&mut *left, &mut *right] {
            place.node.handle_timeout(*now);
            place.drain(*now);
        }
        for _ in 0..QUEUE {
            carry(*now, left, right, costs);
            carry(*now, right, left, costs);
        }
    }
}

/// Carries everything that one sent to the other.
fn carry(now: Instant, from: &mut Place, to: &mut Place, costs: &mut Costs) {
    let sent = core::mem::take(&mut from.outbox.len);
    for (len, bytes) in from.outbox.datagrams.iter().take(sent) {
        deliver(
            now,
            from.addr,
            bytes.get(..*len).unwrap_or_default(),
            to,
            costs,
        );
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut NODES: [Node<Board>; 2] = [const { Node::unstarted() }; 2];
    static mut OUTBOXES: [Outbox; 2] = [const { Outbox::EMPTY }; 2];
    copying::check();
    dividing::check();
    let ([left, right], [sent_left, sent_right]) = (NODES, OUTBOXES);
    let addr = |host| SocketAddr::from(([10, 0, 0, host], 7827));
    let mut places = [
        Place {
            node: left,
            outbox: sent_left,
            addr: addr(1),
        },
        Place {
            node: right,
            outbox: sent_right,
            addr: addr(2),
        },
    ];
    let (mut now, mut costs) = (Instant::ZERO, Costs::default());
    for (number, place) in (1..).zip(&mut places) {
        place.start(number);
    }
    let [first, second] = &mut places;
    second.node.join(now, first.addr, WITHIN_MS).unwrap();
    run(&mut now, &mut places, &mut costs);
    let [_, second] = &mut places;
    second
        .node
        .put(now, Key::from_bytes([7; 32]), &[7; 100], 600, WITHIN_MS)
        .unwrap();
    run(&mut now, &mut places, &mut costs);
    // What was not seen is no result.
    assert!(costs.answered > 0 && costs.stored > 0);
    hprintln!(
        "cost {} a datagram answered: contacts and records near a key",
        costs.answered
    );
    hprintln!(
        "cost {} a record stored: 100 bytes, its signature verified",
        costs.stored
    );
    posts();
    debug::exit(debug::EXIT_SUCCESS);
    loop {
        cortex_m::asm::wfi();
    }
}

/// What an author and a reader do for a post: a hash each, and the signature of the head that covers it.
fn posts() {
    let secret = SecretKey::from_bytes([1; 32]);
    let public = Ed25519::public_key(&secret);
    let user = UserId::of_key::<Ed25519>(&public);
    let text = "A line of things that a tide leaves on the beach, until the next one comes and takes them: a hundred letters.";
    let (mut post, mut head) = ([0; POST_LEN_MAX], [0; RECORD_LEN_MAX]);
    let (signed, (post_len, head_len)) = count(|| {
        let draft = post::Draft {
            user,
            log: 0,
            seq: 1,
            time_ms: DATE_MS,
            prev: [0; 32],
            kind: PostKind::Text,
            salt: [1; 16],
            text,
        };
        let (len, hash) = draft.encode::<Ed25519>(NETWORK, &mut post).unwrap();
        let draft = record::Draft {
            kind: Kind::Head,
            key: Key::of_user::<Ed25519>(&user),
            author: user,
            subject: None,
            page: 0,
            sequence: 1,
            issued_ms: DATE_MS,
            lifetime_ms: 3_600_000,
        };
        let payload = Head {
            last: 1,
            hash,
            reserved: 32,
            keep_ms: 3_600_000,
            confirmed_ms: DATE_MS,
            holders: &[],
        };
        let head = draft.sign_payload::<Ed25519, _>(&payload, &secret, &public, NETWORK, &mut head);
        (len, head.unwrap())
    });
    let (post, head) = (&post[..post_len], &head[..head_len]);
    let (verified, good) = count(|| {
        let head = Record::decode(head)?;
        head.check::<Ed25519>()?;
        head.verify::<Ed25519>(NETWORK)?;
        let hash = Post::decode::<Ed25519>(post)?.hash::<Ed25519>(NETWORK);
        head.payload::<Head<'_>>().map(|head| head.hash == hash)
    });
    assert_eq!(good, Ok(true));
    hprintln!(
        "cost {} a post signed: its hash, and the head over it",
        signed
    );
    hprintln!(
        "cost {} a post verified: the head's signature, and the post's hash",
        verified
    );
}

#[panic_handler]
fn panic(why: &PanicInfo<'_>) -> ! {
    hprintln!("{}", why);
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
