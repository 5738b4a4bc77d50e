//! No address that was not proven gets more bytes than it sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use strandline_core::id::Key;
use strandline_core::plan::{Board, Plan, Server, TimelineBoard};
use strandline_core::wire::datagram::{Body, Contact, NO_TOKEN};
use strandline_core::wire::record::Kind;

use super::by_hand::{
    NOW, Peer, contact, encode, found, id, join_through, observed, public_node, record, sent,
};

/// What a stranger may send.
#[derive(Clone, Debug)]
enum Say {
    Ping {
        leaving: bool,
        challenge: bool,
        pad: usize,
    },
    FindNode(u8),
    Get {
        key: u8,
        after: u16,
        limit: u8,
    },
    Put(usize),
    Send(usize),
    Found(Vec<(u8, u8)>),
    Pong,
    Noise(Vec<u8>),
}

fn says() -> impl Strategy<Value = (u8, u8, bool, Say)> {
    let say = prop_oneof![
        (any::<bool>(), any::<bool>(), 0_usize..600).prop_map(|(leaving, challenge, pad)| {
            Say::Ping {
                leaving,
                challenge,
                pad,
            }
        }),
        any::<u8>().prop_map(Say::FindNode),
        (any::<u8>(), any::<u16>(), any::<u8>()).prop_map(|(key, after, limit)| Say::Get {
            key,
            after,
            limit
        }),
        (0_usize..900).prop_map(Say::Put),
        (0_usize..1_000).prop_map(Say::Send),
        proptest::collection::vec(any::<(u8, u8)>(), 0..20).prop_map(Say::Found),
        Just(Say::Pong),
        proptest::collection::vec(any::<u8>(), 0..1_300).prop_map(Say::Noise),
    ];
    (0_u8..4, any::<u8>(), any::<bool>(), say)
}

/// Sends what strangers say, and counts bytes to and from each address that never showed a valid token and was
/// never asked anything.
fn amplification<P: Plan>(all: &[(u8, u8, bool, Say)]) -> Result<(), TestCaseError> {
    let mut dht = public_node::<P>();
    // Something worth asking for.
    let mut friend = Peer::new(5, "198.18.9.1:1000");
    join_through(&mut dht, &friend, &[]);
    let held = record(1, Kind::Value, Key::from_bytes([1; 32]), &[7; 600]);
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 60_000,
        record: &held,
    };
    for _ in 0..2 {
        let _ = friend.ask(&mut dht, NOW, put, |_| ());
    }
    let mut balance: BTreeMap<SocketAddr, i64> = BTreeMap::new();
    let mut now = NOW;
    for (from, sender, forged, say) in all {
        let from = SocketAddr::from(([203, 0, 1, *from], 4_000));
        let token = if *forged { [3; 8] } else { NO_TOKEN };
        let zeros = [0; 1_000];
        let contacts: Vec<u8> = match say {
            Say::Found(named) => {
                let named = named
                    .iter()
                    .map(|&(n, at)| contact(n, &format!("203.0.1.{at}:4000")));
                named.flat_map(Contact::to_bytes).collect()
            }
            _ => Vec::new(),
        };
        let body = match say {
            Say::Ping {
                leaving,
                challenge,
                pad,
            } => Some(Body::Ping {
                leaving: *leaving,
                challenge: challenge.then_some([1; 16]),
                pad: &zeros[..*pad],
            }),
            Say::FindNode(n) => Some(Body::FindNode {
                target: Key::from_bytes([*n; 32]),
            }),
            Say::Get { key, after, limit } => Some(Body::Get {
                key: Key::from_bytes([*key % 2; 32]),
                kinds: u16::MAX,
                after: *after % 2,
                limit: *limit,
            }),
            Say::Put(len) => Some(Body::Put {
                depth: 0,
                spilled: false,
                age_ms: 0,
                remaining_ms: 1,
                record: &zeros[..*len],
            }),
            Say::Send(len) => Some(Body::Send {
                key: None,
                bytes: &zeros[..*len],
            }),
            Say::Found(_) => Some(found(&[], &contacts, true)),
            Say::Pong => Some(Body::Pong {
                observed: observed(from),
                proof: None,
            }),
            Say::Noise(_) => None,
        };
        let bytes = match (body, say) {
            (Some(body), _) => encode(id(*sender), [*sender; 8], token, body),
            (None, Say::Noise(noise)) => noise.clone(),
            (None, _) => Vec::new(),
        };
        now = now.after_ms(10);
        prop_assert!(dht.handle_datagram(now, from, &bytes).is_none());
        *balance.entry(from).or_default() += i64::try_from(bytes.len()).unwrap();
        for (to, bytes) in sent(&mut dht) {
            if to != friend.addr {
                let left = balance.entry(to).or_default();
                *left -= i64::try_from(bytes.len()).unwrap();
                prop_assert!(*left >= 0, "more went to {to} than came from it");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_unproven_address_gets_more_than_it_sent(all in proptest::collection::vec(says(), 1..40)) {
        amplification::<Server>(&all)?;
        amplification::<Board>(&all)?;
        amplification::<TimelineBoard>(&all)?;
    }
}
