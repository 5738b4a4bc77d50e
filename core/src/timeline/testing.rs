//! What the unit tests of the timeline share: users with known keys, and a started state.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::state::State;
use crate::config::{Config, Durability, Identity};
use crate::crypto::{Crypto, Ed25519, SecretKey};
use crate::id::UserId;
use crate::name::Name;
use crate::output::{Class, OUTPUT_LEN_MAX, PersistId, Restored, Stored};
use crate::plan::{Plan, Server};
use crate::rng::{Rng, Seed};
use crate::time::Instant;
use crate::wire::NetworkId;

pub type Tested = State<Server>;

/// The date at `Instant::ZERO` in these tests.
pub const DATE_MS: u64 = 1_700_000_000_000;

pub fn at(s: u64) -> Instant {
    Instant::from_s(s)
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn identity(n: u8, text: &str) -> Identity {
    Identity {
        user: SecretKey::from_bytes([n; 32]),
        node: SecretKey::from_bytes([n ^ 0x80; 32]),
        name: name(text),
    }
}

/// The user whose key is `[n; 32]`.
pub fn user(n: u8) -> UserId {
    UserId::of_key::<Ed25519>(&Ed25519::public_key(&SecretKey::from_bytes([n; 32])))
}

pub fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 7827))
}

/// A state of the user `n`, without a clock and not allowed to sign yet.
pub fn unready<P: Plan>(n: u8, durability: Durability) -> State<P> {
    unready_called(n, "someone", durability)
}

fn unready_called<P: Plan>(n: u8, called: &str, durability: Durability) -> State<P> {
    let mut state = State::EMPTY;
    let network = NetworkId([1, 2, 3, 4]);
    let mut config = Config::new(network, address(n));
    config.durability = durability;
    let mut rng = Rng::from_seed(&Seed([n; 32]));
    state.people.start(rng.next_u64());
    state.copies.start(rng.next_u64());
    state.me.start(identity(n, called), &config, rng);
    state.on_observed(None);
    state
}

/// A fresh state of the user `n` that may sign, and knows the date.
pub fn fresh<P: Plan>(n: u8) -> State<P> {
    fresh_called(n, "someone")
}

/// The same, under a name.
pub fn fresh_called<P: Plan>(n: u8, called: &str) -> State<P> {
    let mut state = unready_called(n, called, Durability::Host);
    state.me.set_clock(Instant::ZERO, DATE_MS, 0);
    state.restored_all(Restored::Fresh).unwrap();
    state
}

/// The host's storage.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct Disk(pub alloc::collections::BTreeMap<(Class, Vec<u8>), Vec<u8>>);

impl Disk {
    /// Writes everything that is queued; returns the number of the last entry.
    pub fn write<P: Plan>(&mut self, now: Instant, state: &mut State<P>) -> PersistId {
        let mut buf = [0; OUTPUT_LEN_MAX];
        let mut last = PersistId(0);
        while let Ok((id, item)) = state.poll_persist(now, &mut buf) {
            assert!(id > last, "numbers rise");
            last = id;
            let key = (item.class, item.key.to_vec());
            match item.value {
                Some(value) => self.0.insert(key, value.to_vec()),
                None => self.0.remove(&key),
            };
        }
        last
    }

    /// Hands everything back, class by class.
    pub fn read<P: Plan>(
        &self,
        now: Instant,
        state: &mut State<P>,
    ) -> Result<(), crate::output::Damaged> {
        for ((class, key), value) in &self.0 {
            let (class, key, value) = (*class, key.as_slice(), Some(value.as_slice()));
            state.restored(now, Stored { class, key, value })?;
        }
        state.restored_all(Restored::Intact)
    }
}

/// Writes a post all the way: durable, reserved, shown.
pub fn publish<P: Plan>(now: Instant, state: &mut State<P>, text: &str) -> u64 {
    let seq = state.post(now, text).unwrap().seq;
    let written = Disk::default().write(now, state);
    state.persisted(written);
    let reserving = state.log.reserving();
    state
        .log
        .on_reserved(&state.me, &state.posts, &mut state.persists, reserving);
    Disk::default().write(now, state);
    seq
}

/// The own posts that others may see, newest first, as they travel.
pub fn shown<P: Plan>(state: &State<P>) -> Vec<Vec<u8>> {
    let posts = state.log.shown_posts(&state.posts);
    posts.map(|post| post.bytes.to_vec()).collect()
}

/// The numbers of the copy of `author`'s posts, newest first.
pub fn kept<P: Plan>(now: Instant, state: &State<P>, author: &UserId) -> Vec<u64> {
    let view = state.copies.view(now, &state.posts, author);
    let newest = view.map(|view| view.newest).unwrap_or_default();
    state.posts.walk(newest).map(|post| post.seq).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn hex_is_two_digits_a_byte() {
    assert_eq!(hex(&[0, 0xab]), "00ab");
}
