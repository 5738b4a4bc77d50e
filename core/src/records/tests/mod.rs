//! Each rule of a holder, its limit, and the limit plus one, in literals.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic"
)]

extern crate alloc;

mod lifetimes;
mod quotas;
mod reading;
mod replacing;
mod room;
mod sweeping;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;
use crate::addr::{PackedAddr, source_of};
use crate::crypto::{Crypto, Ed25519, PublicKey, SecretKey};
use crate::id::UserId;
use crate::name::Name;
use crate::plan::Board;
use crate::rng::Seed;
use crate::wire::codec::{self, Encode};
use crate::wire::record::{self, Draft};

const NETWORK: NetworkId = NetworkId([1, 2, 3, 4]);
/// When the tests begin: late enough for what happened before.
const START: Instant = Instant::from_s(1_000_000);
const UNIX_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u32 = 60 * 60 * 1000;
const KEY: Key = Key::from_bytes([9; 32]);

struct Author {
    secret: SecretKey,
    public: PublicKey,
    id: UserId,
}

fn author(n: u8) -> Author {
    let secret = SecretKey::from_bytes([n; 32]);
    let public = Ed25519::public_key(&secret);
    let id = UserId::of_key::<Ed25519>(&public);
    Author { secret, public, id }
}

impl Author {
    /// A value at [`KEY`] for an hour, by an author without a clock.
    fn draft(&self) -> Draft {
        Draft {
            kind: Kind::Value,
            key: KEY,
            author: self.id,
            subject: None,
            page: 0,
            sequence: 5,
            issued_ms: 0,
            lifetime_ms: HOUR_MS,
        }
    }

    fn sign(&self, draft: &Draft, payload: &[u8]) -> Vec<u8> {
        let mut buf = [0; RECORD_LEN_MAX];
        let len = draft
            .sign::<Ed25519>(payload, &self.secret, &self.public, NETWORK, &mut buf)
            .unwrap();
        buf[..len].to_vec()
    }

    fn value(&self, change: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let mut draft = self.draft();
        change(&mut draft);
        self.sign(&draft, b"value")
    }

    /// A record of `kind` at the key of `at`, which is its subject too where the kind has one.
    fn about(&self, at: &Self, kind: Kind, payload: &impl Encode) -> Vec<u8> {
        let has_subject = matches!(kind, Kind::Follow | Kind::Sighting);
        let draft = Draft {
            kind,
            key: Key::of_user::<Ed25519>(&at.id),
            subject: has_subject.then_some(at.id),
            lifetime_ms: HOUR_MS.min(kind.lifetime_max_ms()),
            ..self.draft()
        };
        self.sign(&draft, &encoded(payload))
    }

    fn follow(&self, followed: &Self) -> Vec<u8> {
        let follow = record::Follow {
            name: name("bob"),
            address: PackedAddr::NONE,
            following: true,
            holds_ms: 0,
            last_seen: 0,
        };
        self.about(followed, Kind::Follow, &follow)
    }

    fn sighting(&self, missed: &Self) -> Vec<u8> {
        let sighting = record::Sighting { missed_ms: 0 };
        self.about(missed, Kind::Sighting, &sighting)
    }

    fn holding(&self) -> Vec<u8> {
        self.about(self, Kind::Holding, &record::Holding { entries: &[] })
    }

    fn head(&self) -> Vec<u8> {
        let head = record::Head {
            last: 0,
            hash: [0; 32],
            reserved: 0,
            keep_ms: 0,
            confirmed_ms: 0,
            holders: &[],
        };
        self.about(self, Kind::Head, &head)
    }

    fn profile(&self) -> Vec<u8> {
        let profile = record::Profile {
            name: name("alice"),
            addresses: &[],
            lease_ms: 0,
            logs: &[],
            followers: 0,
            next_key: [0; 32],
        };
        self.about(self, Kind::Profile, &profile)
    }

    /// A page of those whom the author follows.
    fn following(&self, page: u16) -> Vec<u8> {
        let draft = Draft {
            kind: Kind::Following,
            key: Key::of_user::<Ed25519>(&self.id),
            page,
            ..self.draft()
        };
        let following = record::Following {
            pages: 9,
            entries: &[],
        };
        self.sign(&draft, &encoded(&following))
    }

    /// A claim of the name "alice".
    fn claim(&self, sequence: u64) -> Vec<u8> {
        let name = name("alice");
        let draft = Draft {
            kind: Kind::Claim,
            key: Key::of_name::<Ed25519>(&name),
            sequence,
            ..self.draft()
        };
        let claim = record::Claim {
            name,
            first_claimed_ms: 0,
        };
        self.sign(&draft, &encoded(&claim))
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn encoded<T: Encode>(payload: &T) -> Vec<u8> {
    let mut buf = [0; RECORD_LEN_MAX];
    let len = codec::encode(payload, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// What the author itself offers, with the whole lifetime left.
fn fresh(bytes: &[u8]) -> Offer<'_> {
    let record = Record::decode(bytes).unwrap();
    Offer {
        // It has to outlive the offer, and a test makes few.
        record: Box::leak(Box::new(record)),
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: u64::from(record.lifetime_ms),
        source: None,
    }
}

fn offered<'a>(bytes: &'a [u8], change: impl FnOnce(&mut Offer<'a>)) -> Offer<'a> {
    let mut offer = fresh(bytes);
    change(&mut offer);
    offer
}

fn source(port: u16) -> Option<Source> {
    Some(source_of(SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Age, rest and bytes of every record, then how many and how long they are.
type Contents = (Vec<(u64, u64, Vec<u8>)>, usize, usize);

/// A started store with what it told as lost.
struct Holder<P: Plan> {
    records: Records<P>,
    clock: Clock,
    lost: Vec<Key>,
}

impl<P: Plan<Crypto = Ed25519>> Holder<P> {
    fn new() -> Self {
        let mut records = Records::EMPTY;
        records.start(&mut Rng::from_seed(&Seed([5; 32])));
        Self {
            records,
            clock: Clock::unset(),
            lost: Vec::new(),
        }
    }

    fn with_clock(uncertainty_ms: u32) -> Self {
        let mut holder = Self::new();
        holder.clock.set(START, UNIX_MS, uncertainty_ms);
        holder
    }

    fn put(&mut self, now: Instant, offer: &Offer<'_>) -> Result<Accepted, PutError> {
        self.put_near(now, offer, |_| true)
    }

    fn put_near(
        &mut self,
        now: Instant,
        offer: &Offer<'_>,
        near: impl Fn(&Key) -> bool,
    ) -> Result<Accepted, PutError> {
        let lost = &mut self.lost;
        self.records
            .put(now, &self.clock, Some(NETWORK), offer, near, |key| {
                lost.push(key);
            })
    }

    /// Asserts that an offer is refused, counted under its rule, and changes nothing.
    fn refuses(&mut self, now: Instant, offer: &Offer<'_>, error: PutError) {
        let before = self.contents(now);
        let counted = self.records.dropped().of(error.rule());
        let total = self.records.dropped().total();
        assert_eq!(self.put(now, offer), Err(error));
        assert_eq!(self.records.dropped().of(error.rule()), counted + 1);
        assert_eq!(self.records.dropped().total(), total + 1);
        assert_eq!(self.contents(now), before);
        assert!(self.lost.is_empty());
    }

    fn contents(&self, now: Instant) -> Contents {
        let held = (0..self.records.slots()).filter_map(|slot| self.records.at(now, slot));
        let held = held.map(|held| (held.age_ms, held.remaining_ms, held.bytes.to_vec()));
        (
            held.collect(),
            self.records.len(),
            self.records.used_bytes(),
        )
    }

    fn sweep(&mut self, now: Instant) {
        let lost = &mut self.lost;
        self.records.handle_timeout(now, |key| lost.push(key));
    }

    fn read(&self, now: Instant, location: &Key) -> Vec<Held<'_>> {
        self.records.read(now, location, Kinds::ALL, 0).collect()
    }

    /// What is left of the only record at [`KEY`].
    fn remaining_ms(&self, now: Instant) -> Option<u64> {
        let held = self.read(now, &KEY);
        assert!(held.len() <= 1);
        held.first().map(|held| held.remaining_ms)
    }
}

type BoardHolder = Holder<Board>;
