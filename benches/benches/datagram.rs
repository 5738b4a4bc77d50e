//! The way of a request through a node: decode, handle, encode the reply.
//!
//! One node, its table filled by 500 others that joined, answers a requester that has shown its token. Each iteration is one
//! datagram in and one out; `first-ping` is the same for an address never heard from.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use strandline_benches::network::Network;
use strandline_benches::{author, network, value};
use strandline_core::id::{Key, NodeId};
use strandline_core::node::Node;
use strandline_core::output::{OUTPUT_LEN_MAX, Output};
use strandline_core::plan::Server;
use strandline_core::time::Instant;
use strandline_core::wire::DATAGRAM_LEN_MAX;
use strandline_core::wire::datagram::{Body, Datagram, NO_TOKEN, Token};

/// Who asks.
const REQUESTER: &str = "10.9.9.9:7827";

fn request(token: Token, body: Body<'_>) -> Vec<u8> {
    let datagram = Datagram {
        transaction: [1; 8],
        sender: NodeId::from_bytes([2; 32]),
        token,
        body,
    };
    let mut buf = vec![0; DATAGRAM_LEN_MAX];
    let len = datagram.encode(network(), &mut buf).unwrap_or(0);
    buf.truncate(len);
    buf
}

/// Hands a request in and drains; the length of the datagrams that came out.
fn answer(node: &mut Node<Server>, now: Instant, bytes: &[u8], buf: &mut [u8]) -> usize {
    if let Ok(from) = REQUESTER.parse() {
        node.handle_datagram(now, from, bytes);
    }
    let mut sent = 0;
    loop {
        match node.poll_output(buf) {
            Output::Send { bytes, .. } => sent += bytes.len(),
            Output::Wait(_) => return sent,
            Output::Open { .. }
            | Output::Write { .. }
            | Output::Close { .. }
            | Output::Persist { .. }
            | Output::Event(_) => {}
        }
    }
}

/// The token in the first reply to a ping.
fn token(node: &mut Node<Server>, now: Instant, ping: &[u8]) -> Token {
    let mut buf = [0; OUTPUT_LEN_MAX];
    if let Ok(from) = REQUESTER.parse() {
        node.handle_datagram(now, from, ping);
    }
    loop {
        match node.poll_output(&mut buf) {
            Output::Send { bytes, .. } => {
                if let Ok(Datagram {
                    token,
                    body: Body::Pong { .. },
                    ..
                }) = Datagram::decode(bytes, network())
                {
                    return token;
                }
            }
            Output::Wait(_) => return NO_TOKEN,
            Output::Open { .. }
            | Output::Write { .. }
            | Output::Close { .. }
            | Output::Persist { .. }
            | Output::Event(_) => {}
        }
    }
}

fn datagrams(c: &mut Criterion) {
    let Ok(world) = Network::joined(500) else {
        return;
    };
    let now = world.now;
    let Some(mut node) = world.into_first() else {
        return;
    };
    let mut buf = [0; OUTPUT_LEN_MAX];
    let first = request(
        NO_TOKEN,
        Body::Ping {
            leaving: false,
            challenge: None,
            pad: &[0; 39],
        },
    );
    let token = token(&mut node, now, &first);
    assert_ne!(token, NO_TOKEN);
    let author = author(1);
    let key = Key::from_bytes([7; 32]);
    let record = value(&author, key, 1, 200);
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 3_600_000,
        record: &record,
    };
    let requests = [
        ("first-ping", first.clone()),
        (
            "ping",
            request(
                token,
                Body::Ping {
                    leaving: false,
                    challenge: None,
                    pad: &[0; 39],
                },
            ),
        ),
        ("find-node", request(token, Body::FindNode { target: key })),
        ("put-held-already", request(token, put)),
        (
            "get-record-and-contacts",
            request(
                token,
                Body::Get {
                    key,
                    kinds: 0xff,
                    after: 0,
                    limit: 8,
                },
            ),
        ),
        (
            "get-nothing",
            request(
                token,
                Body::Get {
                    key: Key::from_bytes([9; 32]),
                    kinds: 0xff,
                    after: 0,
                    limit: 8,
                },
            ),
        ),
        (
            "send",
            request(
                token,
                Body::Send {
                    key: Some(key),
                    bytes: &[0; 100],
                },
            ),
        ),
    ];
    println!("contacts in the table: {}", node.stats().contacts);
    for (name, bytes) in &requests {
        assert!(
            answer(&mut node, now, bytes, &mut buf) > 0,
            "{name} is not answered"
        );
        c.bench_function(&format!("datagram/{name}"), |b| {
            b.iter(|| answer(&mut node, now, black_box(bytes), &mut buf));
        });
    }
    let junk = [0x5a; 300];
    c.bench_function("datagram/junk", |b| {
        b.iter(|| answer(&mut node, now, black_box(&junk), &mut buf));
    });
}

criterion_group!(benches, datagrams);
criterion_main!(benches);
