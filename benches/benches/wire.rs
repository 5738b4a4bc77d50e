//! Decoding, encoding, hashing, signing and verifying, without any node around them.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use strandline_benches::{author, contact, network, value};
use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519};
use strandline_core::id::{Key, NodeId};
use strandline_core::wire::datagram::{Body, Datagram};
use strandline_core::wire::record::Record;
use strandline_core::wire::{DATAGRAM_LEN_MAX, PING_LEN};

fn whole(body: Body<'_>) -> Datagram<'_> {
    Datagram {
        transaction: [1; 8],
        sender: NodeId::from_bytes([2; 32]),
        token: [3; 8],
        body,
    }
}

/// Encodes a datagram with `body`, or nothing when it does not fit.
fn datagram(body: Body<'_>) -> Vec<u8> {
    let mut buf = vec![0; DATAGRAM_LEN_MAX];
    let len = whole(body).encode(network(), &mut buf).unwrap_or(0);
    buf.truncate(len);
    buf
}

fn messages(c: &mut Criterion) {
    let net = network();
    let author = author(1);
    let key = Key::from_bytes([7; 32]);
    let record = value(&author, key, 1, 300);
    let observed: PackedAddr = contact(1).addr;
    let contacts: Vec<u8> = (0..20).flat_map(|n| contact(n).to_bytes()).collect();
    let bodies = [
        (
            "ping",
            Body::Ping {
                leaving: false,
                challenge: None,
                pad: &[0; 39],
            },
        ),
        ("find-node", Body::FindNode { target: key }),
        (
            "get",
            Body::Get {
                key,
                kinds: 0xff,
                after: 0,
                limit: 8,
            },
        ),
        (
            "put",
            Body::Put {
                depth: 0,
                spilled: false,
                age_ms: 0,
                remaining_ms: 1,
                record: &record,
            },
        ),
        (
            "send",
            Body::Send {
                key: Some(key),
                bytes: &[0; 100],
            },
        ),
        (
            "pong",
            Body::Pong {
                observed,
                proof: None,
            },
        ),
        (
            "found-20",
            Body::Found {
                observed,
                more: false,
                spilled: false,
                records: &[],
                contacts: &contacts,
            },
        ),
    ];
    assert_eq!(datagram(bodies[0].1).len(), PING_LEN);
    for (name, body) in bodies {
        let bytes = datagram(body);
        c.bench_function(&format!("decode/{name}"), |b| {
            b.iter(|| Datagram::decode(black_box(&bytes), net).is_ok());
        });
        let mut buf = vec![0; DATAGRAM_LEN_MAX];
        let message = whole(body);
        c.bench_function(&format!("encode/{name}"), |b| {
            b.iter(|| black_box(&message).encode(net, &mut buf));
        });
    }
}

fn crypto(c: &mut Criterion) {
    let net = network();
    let author = author(1);
    let bytes = value(&author, Key::from_bytes([7; 32]), 1, 300);
    c.bench_function("crypto/hash-64", |b| {
        b.iter(|| Ed25519::hash("bench", &[black_box(&[0; 64])]));
    });
    c.bench_function("crypto/record-decode-check", |b| {
        b.iter(|| Record::decode(black_box(&bytes)).and_then(|record| record.check::<Ed25519>()));
    });
    c.bench_function("crypto/record-verify", |b| {
        b.iter(|| {
            Record::decode(black_box(&bytes)).and_then(|record| record.verify::<Ed25519>(net))
        });
    });
    c.bench_function("crypto/sign", |b| {
        b.iter(|| Ed25519::sign(&author.secret, &author.public, black_box(&[9; 32])));
    });
}

criterion_group!(benches, messages, crypto);
criterion_main!(benches);
