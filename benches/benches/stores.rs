//! The store of a holder with 1,000 records: taking a new one, acknowledging one it has, refusing, reading.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use strandline_benches::{author, network, value};
use strandline_core::clock::Clock;
use strandline_core::crypto::{Crypto, Ed25519};
use strandline_core::id::Key;
use strandline_core::plan::Server;
use strandline_core::records::{Offer, PutError, Records};
use strandline_core::rng::{Rng, Seed};
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;
use strandline_core::wire::record::{Kinds, Record};

const HELD: u64 = 1_000;
const NOW: Instant = Instant::from_s(10);

fn key(n: u64) -> Key {
    Key::from_bytes(Ed25519::hash("bench/key", &[&n.to_be_bytes()]))
}

/// Puts a record; `true` when it is held now.
fn put(records: &mut Records<Server>, bytes: &[u8], net: NetworkId) -> Result<bool, PutError> {
    let record = Record::decode(bytes)?;
    let offer = Offer {
        record: &record,
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 3_600_000,
        source: None,
    };
    records
        .put(NOW, &Clock::unset(), Some(net), &offer, |_| true, |_| {})
        .map(|accepted| accepted.changed)
}

fn filled() -> Records<Server> {
    let mut records = Records::EMPTY;
    records.start(&mut Rng::from_seed(&Seed([1; 32])));
    let author = author(1);
    for n in 0..HELD {
        assert_eq!(
            put(&mut records, &value(&author, key(n), 1, 200), network()),
            Ok(true)
        );
    }
    records
}

fn stores(c: &mut Criterion) {
    let net = network();
    let author = author(1);
    let mut records = filled();
    let held = value(&author, key(7), 1, 200);
    c.bench_function("records/put-held-already", |b| {
        b.iter(|| assert_eq!(put(&mut records, black_box(&held), net), Ok(false)));
    });
    let mut forged = value(&author, key(HELD + 1), 1, 200);
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    c.bench_function("records/put-forged", |b| {
        b.iter(|| assert!(put(&mut records, black_box(&forged), net).is_err()));
    });
    let mut sequence = 1;
    c.bench_function("records/put-newer", |b| {
        b.iter_batched(
            || {
                sequence += 1;
                value(&author, key(8), sequence, 200)
            },
            |newer| assert_eq!(put(&mut records, &newer, net), Ok(true)),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("records/read-one-of-1000", |b| {
        b.iter(|| records.read(NOW, black_box(&key(9)), Kinds::ALL, 0).count());
    });
    c.bench_function("records/read-nothing", |b| {
        b.iter(|| {
            records
                .read(NOW, black_box(&key(HELD + 9)), Kinds::ALL, 0)
                .count()
        });
    });
}

criterion_group!(benches, stores);
criterion_main!(benches);
