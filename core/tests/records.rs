//! The store of a holder against a naive model: whatever is put, whenever it is read, and however copies travel
//! between two holders.
//!
//! The model keeps a plain list and knows no tables, tags, chains or sweeps. It predicts every answer except when the
//! sweep and the choice of what to evict decide; then it checks that they were allowed to.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::HashMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use strandline_core::addr::{PackedAddr, Source, source_of};
use strandline_core::clock::Clock;
use strandline_core::crypto::{Crypto, Digest, DomainHasher, PublicKey, SecretKey, Signature};
use strandline_core::id::{Key, UserId};
use strandline_core::name::Name;
#[cfg(feature = "alloc")]
use strandline_core::plan::Server;
use strandline_core::plan::{Board, Plan};
use strandline_core::records::{
    CLOCKLESS_LIFETIME_MAX_MS, FUTURE_MAX_MS, Offer, PutError, REMAINING_MIN_MS, Records,
    SWEEP_PAUSE_MS,
};
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::codec::{self, Encode};
use strandline_core::wire::record::{Claim, Draft, Follow, Kind, Kinds, Profile, Record};
use strandline_core::wire::{NetworkId, RECORD_LEN_MAX};

const NETWORK: NetworkId = NetworkId([1, 2, 3, 4]);
const UNIX_MS: u64 = 1_700_000_000_000;
const UNCERTAINTY_MS: u32 = 50;
/// A record that expired is swept by then: sweeps keep a pause between them, and these stores are small.
const SWEPT_AFTER_MS: u64 = SWEEP_PAUSE_MS + 1;

/// A cheap stand-in: signs by hashing the public key, so that anybody could, and checks like a real one.
enum Toy {}

struct ToyHasher([u64; 4]);

impl DomainHasher for ToyHasher {
    fn new(domain: &str) -> Self {
        let mut hasher = Self([1, 2, 3, 4]);
        hasher.update(domain.as_bytes());
        hasher
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            for (n, lane) in (1..).zip(&mut self.0) {
                *lane = (*lane ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3 + 2 * n);
                *lane ^= *lane >> 29;
            }
        }
    }

    fn finish(self) -> Digest {
        let bytes = self.0.map(u64::to_be_bytes).concat();
        bytes.try_into().unwrap()
    }
}

impl Crypto for Toy {
    type Hasher = ToyHasher;

    fn public_key(secret: &SecretKey) -> PublicKey {
        Self::hash("public", &[secret.expose_bytes()])
    }

    fn sign(_: &SecretKey, public: &PublicKey, digest: &Digest) -> Signature {
        let half = Self::hash("sign", &[public, digest]);
        [half, half].concat().try_into().unwrap()
    }

    fn verify(public: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
        *signature == Self::sign(&SecretKey::UNSET, public, digest)
    }
}

/// One record to be signed and offered; small numbers, so that things meet.
#[derive(Clone, Debug)]
struct Put {
    kind: Kind,
    author: u8,
    about: u8,
    page: u16,
    sequence: u64,
    /// From now, Unix time.
    issued_in_ms: Option<i64>,
    lifetime_ms: u32,
    told_ms: u64,
    age_ms: u64,
    depth: u8,
    spilled: bool,
    source: Option<u16>,
    payload_len: usize,
    forged: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Put(Put),
    /// Copies what one holder shows at a slot to the other.
    Copy(prop::sample::Index),
    Step(u64),
    Remove(prop::sample::Index),
}

const KINDS: &[Kind] = &[
    Kind::Claim,
    Kind::Profile,
    Kind::Follow,
    Kind::Value,
    Kind::Value,
];

const FUTURE_EDGE_MS: i64 = FUTURE_MAX_MS.cast_signed() + UNCERTAINTY_MS as i64;

fn lifetime_ms() -> impl Strategy<Value = u32> {
    prop_oneof![
        9 => prop::sample::select(&[60_000_u32, 3_700_000, 5_000_000][..]),
        2 => prop::sample::select(&[1500_u32, 5000][..]),
        1 => prop::sample::select(&[0_u32, 999, u32::MAX][..]),
    ]
}

fn told_ms() -> impl Strategy<Value = u64> {
    prop_oneof![
        9 => prop::sample::select(&[60_000_u64, 4_000_000, u64::MAX][..]),
        2 => 1000..3000_u64,
        1 => Just(999_u64),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    let what = (
        prop::sample::select(KINDS),
        0..6_u8,
        0..3_u8,
        0..4_u16,
        0..4_u64,
    );
    let issued = prop_oneof![4 => -90_000..0_i64, 1 => FUTURE_EDGE_MS - 40..FUTURE_EDGE_MS + 40];
    let (issued, lifetime) = (prop::option::of(issued), lifetime_ms());
    let when = (issued, lifetime, told_ms(), 0..9_u64);
    let how = (
        prop_oneof![20 => Just(0_u8), 10 => Just(1), 5 => Just(2), 1 => Just(65)],
        prop::bool::weighted(0.1),
        prop::option::of(0..3_u16),
        prop_oneof![8 => 0..3_usize, 1 => 600..700_usize],
        prop::bool::weighted(0.05),
    );
    (what, when, how).prop_map(|(what, when, how)| Put {
        kind: what.0,
        author: what.1,
        about: what.2,
        page: what.3,
        sequence: what.4,
        issued_in_ms: when.0,
        lifetime_ms: when.1,
        told_ms: when.2,
        age_ms: when.3 * 1000,
        depth: how.0,
        spilled: how.1,
        source: how.2,
        payload_len: how.3,
        forged: how.4,
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        200 => put().prop_map(Op::Put),
        60 => any::<prop::sample::Index>().prop_map(Op::Copy),
        40 => (0..500_u64).prop_map(Op::Step),
        1 => (0..90_000_u64).prop_map(Op::Step),
        5 => any::<prop::sample::Index>().prop_map(Op::Remove),
    ]
}

fn secret(author: u8) -> SecretKey {
    SecretKey::from_bytes([author + 1; 32])
}

fn user(author: u8) -> UserId {
    UserId::of_key::<Toy>(&Toy::public_key(&secret(author)))
}

fn encoded<'b>(payload: &impl Encode, buf: &'b mut [u8]) -> &'b [u8] {
    let len = codec::encode(payload, buf).unwrap();
    &buf[..len]
}

impl Put {
    fn sign(&self, unix_ms: u64) -> Vec<u8> {
        let name = Name::parse(["anna", "bela", "cleo"][usize::from(self.about)]).unwrap();
        let mut buf = [0; 1000];
        let (key, subject, payload): (_, _, &[u8]) = match self.kind {
            Kind::Claim => {
                let claim = Claim {
                    name,
                    first_claimed_ms: 0,
                };
                let payload = encoded(&claim, &mut buf);
                (Key::of_name::<Toy>(&name), None, payload)
            }
            Kind::Follow => {
                let follow = Follow {
                    name,
                    address: PackedAddr::NONE,
                    following: true,
                    holds_ms: 0,
                    last_seen: 0,
                };
                let payload = encoded(&follow, &mut buf);
                let subject = user(self.about);
                (Key::of_user::<Toy>(&subject), Some(subject), payload)
            }
            Kind::Profile => {
                let profile = Profile {
                    name,
                    addresses: &[],
                    lease_ms: 0,
                    logs: &[],
                    followers: 0,
                    next_key: [0; 32],
                };
                let payload = encoded(&profile, &mut buf);
                (Key::of_user::<Toy>(&user(self.author)), None, payload)
            }
            Kind::Value => (
                // Also at the keys of users, and few more.
                [
                    Key::of_user::<Toy>(&user(0)),
                    Key::from_bytes([8; 32]),
                    Key::from_bytes([9; 32]),
                ][usize::from(self.about)],
                None,
                &[7; 700][..self.payload_len],
            ),
            Kind::Head | Kind::Following | Kind::Holding | Kind::Sighting => panic!("not here"),
        };
        let public = Toy::public_key(&secret(self.author));
        let draft = Draft {
            kind: self.kind,
            key,
            author: user(self.author),
            subject,
            page: self.page,
            sequence: self.sequence,
            issued_ms: self
                .issued_in_ms
                .map_or(0, |ms| unix_ms.strict_add_signed(ms)),
            lifetime_ms: self.lifetime_ms,
        };
        let mut signed = [0; 1000];
        let len = draft
            .sign::<Toy>(payload, &secret(self.author), &public, NETWORK, &mut signed)
            .unwrap();
        let mut bytes = signed[..len].to_vec();
        if self.forged {
            *bytes.last_mut().unwrap() ^= 1;
        }
        bytes
    }

    fn offer<'a>(&self, bytes: &'a [u8]) -> Offer<'a> {
        Offer {
            // It has to outlive the offer, and a test makes few.
            record: Box::leak(Box::new(Record::decode(bytes).unwrap())),
            depth: self.depth,
            spilled: self.spilled,
            age_ms: self.age_ms,
            remaining_ms: self.told_ms,
            source: self.source.map(source),
        }
    }
}

fn source(port: u16) -> Source {
    source_of(SocketAddr::from(([127, 0, 0, 1], port + 1)))
}

/// A third of all locations is not near, and so may be evicted.
fn near(location: &Key) -> bool {
    !location.as_bytes()[31].is_multiple_of(3)
}

/// One record in the model.
#[derive(Clone, Debug)]
struct Entry {
    location: Key,
    bytes: Vec<u8>,
    end_ms: u64,
    seen_ms: u64,
    source: Option<Source>,
}

impl Entry {
    fn record(&self) -> Record<'_> {
        Record::decode(&self.bytes).unwrap()
    }

    fn is_shown(&self, now: Instant) -> bool {
        Instant::from_ms(self.end_ms).since_ms(now) >= REMAINING_MIN_MS
    }
}

/// A store and what it should hold, in the order of arrival.
struct Holder<P: Plan> {
    records: Records<P>,
    /// Without a secret all tags are equal, and all sources share one quota.
    seeded: bool,
    clock: Clock,
    entries: Vec<Entry>,
    /// Locations gained and not lost, as told.
    told: Vec<Key>,
}

impl<P: Plan<Crypto = Toy>> Holder<P> {
    fn new(seeded: bool, start: Instant, with_clock: bool) -> Self {
        let mut holder = Self {
            records: Records::EMPTY,
            seeded,
            clock: Clock::unset(),
            entries: Vec::new(),
            told: Vec::new(),
        };
        if seeded {
            holder.records.start(&mut Rng::from_seed(&Seed([3; 32])));
        }
        if with_clock {
            holder.clock.set(start, UNIX_MS, UNCERTAINTY_MS);
        }
        holder
    }

    /// How long the model would hold a record, by the rules of the design.
    fn rest_ms(&self, now: Instant, record: &Record<'_>, told_ms: u64) -> Result<u64, Rule> {
        let lifetime_ms = u64::from(record.lifetime_ms);
        let mut rests = vec![told_ms, lifetime_ms];
        if record.issued_ms == 0 {
            rests.push(CLOCKLESS_LIFETIME_MAX_MS);
        } else if let Some(unix_ms) = self.clock.unix_ms(now) {
            let uncertainty_ms = u64::from(self.clock.uncertainty_ms(now).unwrap());
            if record.issued_ms > unix_ms + uncertainty_ms + FUTURE_MAX_MS {
                return Err(Rule::Future);
            }
            rests.push((record.issued_ms + lifetime_ms).saturating_sub(unix_ms));
        }
        let rest_ms = rests.into_iter().min().unwrap();
        if rest_ms < REMAINING_MIN_MS {
            return Err(Rule::Lifetime);
        }
        Ok(rest_ms)
    }

    /// Whether a location has a place: each of five kinds has an eighth to itself at depth 0.
    fn has_place(&self, now: Instant, location: &Key, kind: Kind, depth: u8) -> bool {
        let live = self
            .entries
            .iter()
            .filter(|e| e.location == *location && e.end_ms > now.as_ms());
        let kinds: Vec<Kind> = live.map(|entry| entry.record().kind).collect();
        let mut free = P::RECORDS_PER_LOCATION.saturating_sub(kinds.len());
        if depth == 0 && kind != Kind::Claim {
            let reserved = [
                Kind::Profile,
                Kind::Head,
                Kind::Following,
                Kind::Holding,
                Kind::Follow,
            ];
            for other in reserved.into_iter().filter(|&other| other != kind) {
                let held = kinds.iter().filter(|&&held| held == other).count();
                free = free.saturating_sub((P::RECORDS_PER_LOCATION / 8).saturating_sub(held));
            }
        }
        free > 0
    }

    fn put(&mut self, now: Instant, offer: &Offer<'_>) -> bool {
        let record = offer.record;
        let location = record.key.shard::<Toy>(&record.author, offer.depth);
        let was_full = self.records.len() == self.records.capacity()
            || self.records.used_bytes() + record.bytes.len() > self.records.bytes_max();
        let counted = self.records.dropped().total();
        let (told, mut gone) = (&mut self.told, Vec::new());
        let outcome = self
            .records
            .put(now, &self.clock, Some(NETWORK), offer, near, |key| {
                let at = told.iter().position(|told| *told == key).unwrap();
                told.swap_remove(at);
                gone.push(key);
            });
        let refused = u64::from(outcome.is_err());
        assert_eq!(self.records.dropped().total(), counted + refused);

        let rest = self.rest_ms(now, record, offer.remaining_ms);
        let held = self.entries.iter_mut().find(|entry| {
            let held = Record::decode(&entry.bytes).unwrap();
            entry.end_ms > now.as_ms()
                && entry.location == location
                && held.key == record.key
                && held.slot() == record.slot()
        });
        let checked = record
            .check::<Toy>()
            .and_then(|()| record.verify::<Toy>(NETWORK));
        let rest_ms = match (offer.depth, rest) {
            (65.., _) => return refuses(&outcome, Rule::Key),
            (_, Err(rule)) => return refuses(&outcome, rule),
            (_, Ok(rest_ms)) => rest_ms,
        };
        let end_ms = now.as_ms() + rest_ms;
        match (held, outcome) {
            (Some(held), Ok(accepted)) if held.bytes == record.bytes => {
                assert!(!accepted.changed && !accepted.gained);
                return false;
            }
            (Some(held), outcome) if held.record().sequence >= record.sequence => {
                let Err(PutError::Older(id)) = outcome else {
                    panic!("{outcome:?} for an older record");
                };
                // Not shown in its last second.
                let shown = self.records.get(now, id).map(|shown| shown.bytes.to_vec());
                assert!(shown.is_none_or(|shown| shown == held.bytes));
                return false;
            }
            (Some(held), Ok(accepted)) => {
                assert!(checked.is_ok() && accepted.changed && !accepted.gained);
                held.bytes = record.bytes.to_vec();
                held.end_ms = end_ms;
            }
            (None, Ok(accepted)) => {
                assert!(checked.is_ok() && accepted.changed && accepted.location == location);
                assert!(self.has_place(now, &location, record.kind, offer.depth));
                assert_eq!(accepted.gained, !self.told.contains(&location));
                if accepted.gained {
                    self.told.push(location);
                }
                self.entries
                    .retain(|e| e.location != location || e.end_ms > now.as_ms());
                self.entries.push(Entry {
                    location,
                    bytes: record.bytes.to_vec(),
                    end_ms,
                    seen_ms: now.as_ms() - offer.age_ms,
                    source: offer.source,
                });
            }
            (held, Err(PutError::Refused(Rule::Quota))) => {
                assert!(held.is_none());
                let recent = self.entries.iter().filter(|entry| {
                    let counts = entry.source == offer.source || !self.seeded;
                    counts && entry.source.is_some() && entry.end_ms + SWEPT_AFTER_MS > now.as_ms()
                });
                assert!(recent.count() >= P::RECORDS_PER_SOURCE && offer.source.is_some());
            }
            (_, Err(PutError::Refused(rule))) => assert_eq!(checked, Err(rule)),
            (_, Err(PutError::NoRoom)) => assert!(was_full),
            (held, Err(PutError::Full)) => {
                let replaces = held.is_some();
                let no_place = !self.has_place(now, &location, record.kind, offer.depth);
                assert!(was_full || (no_place && !replaces));
                assert!(self.records.is_spilled(&location));
            }
            (_, Err(PutError::Older(_))) => panic!("nothing newer was held"),
        }
        if offer.spilled && outcome.is_ok() {
            assert!(self.records.is_spilled(&location));
        }
        if was_full && outcome.is_ok() {
            self.forget_evicted(now, &location);
        }
        outcome.is_ok()
    }

    /// Forgets what the store evicted, which must be far.
    fn forget_evicted(&mut self, now: Instant, location: &Key) {
        let records = &self.records;
        self.entries.retain(|entry| {
            let kinds = Kinds::ALL;
            let mut shown = records.read(now, &entry.location, kinds, 0);
            let stays = shown.any(|held| held.bytes == entry.bytes) || !entry.is_shown(now);
            assert!(stays || (!near(&entry.location) && entry.location != *location));
            stays
        });
    }

    /// Sweeps at every deadline up to `now`.
    fn sweep_until(&mut self, now: Instant) {
        while let Some(at) = self.records.next_deadline().get().filter(|&at| at <= now) {
            let told = &mut self.told;
            self.records.handle_timeout(at, |key| {
                let lost = told.iter().position(|told| *told == key).unwrap();
                told.swap_remove(lost);
            });
            assert!(
                self.records
                    .next_deadline()
                    .get()
                    .is_none_or(|next| next > at)
            );
        }
    }

    /// Whether something may be evicted of which nobody can tell whether it was: it is in its last second.
    fn is_unclear(&self, now: Instant) -> bool {
        let records = &self.records;
        let is_full = records.len() == records.capacity()
            || records.used_bytes() + RECORD_LEN_MAX > records.bytes_max();
        let fading = |entry: &Entry| entry.end_ms > now.as_ms() && !entry.is_shown(now);
        is_full && self.entries.iter().any(fading)
    }

    fn remove(&mut self, now: Instant, which: &prop::sample::Index) {
        let slots = self.records.slots();
        let Some(held) = (slots > 0)
            .then(|| self.records.at(now, which.index(slots)))
            .flatten()
        else {
            return;
        };
        let (id, bytes) = (held.id, held.bytes.to_vec());
        let location = self.records.location(id).unwrap();
        let told = &mut self.told;
        assert!(
            self.records
                .remove(id, |key| told.retain(|told| *told != key))
        );
        self.entries
            .retain(|e| e.location != location || e.bytes != bytes);
    }

    /// Compares everything shown with the model.
    fn check(&mut self, now: Instant) {
        // Whatever nobody can see any more is out of the model once it is swept for sure.
        self.entries
            .retain(|entry| entry.end_ms + SWEPT_AFTER_MS > now.as_ms());
        assert!(self.records.len() <= self.records.capacity());
        assert!(self.records.used_bytes() <= self.records.bytes_max());
        let mut shown_in_all = 0;
        for location in &self.told {
            let shown: Vec<_> = self.records.read(now, location, Kinds::ALL, 0).collect();
            let expected: Vec<_> = self
                .entries
                .iter()
                .filter(|e| e.location == *location && e.is_shown(now))
                .collect();
            assert!(shown.len() <= P::RECORDS_PER_LOCATION);
            assert_eq!(shown.len(), expected.len());
            for (held, entry) in shown.iter().zip(&expected) {
                assert_eq!(held.bytes, entry.bytes);
                assert_eq!(
                    held.remaining_ms,
                    Instant::from_ms(entry.end_ms).since_ms(now)
                );
                assert_eq!(held.age_ms, now.as_ms() - entry.seen_ms);
                assert_eq!(self.records.location(held.id), Some(*location));
                assert_eq!(self.records.get(now, held.id), Some(*held));
            }
            for (after, held) in (0..).zip(&shown) {
                let page = self.records.read(now, location, Kinds::of(&[held.kind]), 0);
                assert!(page.into_iter().any(|other| other == *held));
                let mut rest = self.records.read(now, location, Kinds::ALL, after);
                assert_eq!(rest.next(), Some(*held));
            }
            shown_in_all += shown.len();
        }
        let slots = 0..self.records.slots();
        let walked = slots.filter(|&slot| self.records.at(now, slot).is_some());
        assert_eq!(walked.count(), shown_in_all);
    }
}

fn refuses(outcome: &Result<impl std::fmt::Debug, PutError>, rule: Rule) -> bool {
    match outcome {
        Err(PutError::Refused(refused)) => assert_eq!(*refused, rule),
        other => panic!("{other:?} instead of {rule:?}"),
    }
    false
}

/// Runs the operations on two holders: records are put to the first, and copied to and fro.
fn run<P: Plan<Crypto = Toy>>(seeded: bool, ops: &[Op]) {
    let start = Instant::from_us(1_000_000_000_500);
    let mut holders = [
        Holder::<P>::new(seeded, start, true),
        Holder::<P>::new(seeded, start, false),
    ];
    let mut now = start;
    // Until when each record may be seen anywhere: what the first who took it from its author was told.
    let mut ends: HashMap<Vec<u8>, u64> = HashMap::new();
    for (step, op) in ops.iter().enumerate() {
        while holders.iter().any(|holder| holder.is_unclear(now)) {
            now = now.after_ms(REMAINING_MIN_MS);
            holders
                .iter_mut()
                .for_each(|holder| holder.sweep_until(now));
        }
        match op {
            Op::Put(put) => {
                let bytes = put.sign(UNIX_MS + now.since_ms(start));
                let [first, _] = &mut holders;
                if first.put(now, &put.offer(&bytes)) {
                    let told_ms = put.told_ms.min(u64::from(put.lifetime_ms));
                    let end_ms = now.as_ms() + told_ms;
                    let known = ends.entry(bytes).or_insert(end_ms);
                    *known = end_ms.max(*known);
                }
            }
            Op::Copy(which) => {
                let (from, to) = if step % 2 == 0 { (0, 1) } else { (1, 0) };
                let [from, to] = holders.get_disjoint_mut([from, to]).unwrap();
                let slots = from.records.slots();
                let at = |slot| from.records.at(now, slot);
                if let Some(held) = (slots > 0).then(|| at(which.index(slots))).flatten() {
                    let copy = held.copy();
                    let record = Record::decode(copy.record).unwrap();
                    let offer = Offer {
                        record: &record,
                        depth: held.depth,
                        spilled: held.spilled,
                        age_ms: copy.age_ms,
                        remaining_ms: copy.remaining_ms,
                        source: Some(source(9)),
                    };
                    to.put(now, &offer);
                }
            }
            Op::Step(ms) => {
                now = now.after_ms(*ms).after_us(333);
                holders
                    .iter_mut()
                    .for_each(|holder| holder.sweep_until(now));
            }
            Op::Remove(which) => holders
                .iter_mut()
                .for_each(|holder| holder.remove(now, which)),
        }
        for holder in &mut holders {
            holder.check(now);
            for slot in 0..holder.records.slots() {
                let Some(held) = holder.records.at(now, slot) else {
                    continue;
                };
                let seen_until_ms = now.as_ms() + held.remaining_ms;
                assert!(
                    seen_until_ms <= ends[held.bytes],
                    "a copy lives longer than it may"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_board_holds_what_the_model_holds(
        seeded: bool,
        ops in prop::collection::vec(op(), 1..400),
    ) {
        run::<Board<Toy>>(seeded, &ops);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_server_holds_what_the_model_holds(
        seeded: bool,
        ops in prop::collection::vec(op(), 1..400),
    ) {
        run::<Server<Toy>>(seeded, &ops);
    }
}
