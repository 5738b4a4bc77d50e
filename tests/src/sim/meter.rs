//! What a world counts about its datagrams: how many of each kind, for what, and for whom.
//!
//! Owns numbers and judges nothing. A datagram is for the workload if a command of the application led to it, through
//! however many replies; else it is maintenance: what timers, joins and the timeline's own records led to. A repetition
//! after a time-out counts as maintenance, whatever was repeated. The invariant: nothing here changes what nodes do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use strandline_core::id::Key;
use strandline_core::wire::PREAMBLE_LEN;
use strandline_core::wire::datagram::NO_TOKEN;

use super::node::Command;
use super::world::HostId;

/// Where the tag of the body lies in a datagram: behind the preamble, the transaction, the sender and the token, each
/// of a fixed length. It saves decoding every datagram twice.
const TAG_AT: usize = PREAMBLE_LEN + 8 + 32 + 8;
/// Where the token begins.
const TOKEN_AT: usize = PREAMBLE_LEN + 8 + 32;

/// A kind of datagram. The order is that of the tags on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A ping.
    Ping,
    /// Who is near?
    FindNode,
    /// What is there?
    Get,
    /// Hold this.
    Put,
    /// A message.
    Send,
    /// The answer to a ping.
    Pong,
    /// Contacts or records.
    Found,
    /// The answer to a put.
    Stored,
    /// The answer to a message.
    Delivered,
    /// The answer to what is not carried out.
    Denied,
    /// What is held: holders compare.
    Have,
    /// The answer to that.
    Lacks,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Ping,
        Self::FindNode,
        Self::Get,
        Self::Put,
        Self::Send,
        Self::Pong,
        Self::Found,
        Self::Stored,
        Self::Delivered,
        Self::Denied,
        Self::Have,
        Self::Lacks,
    ];

    /// The kind of an encoded datagram.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let tag = *bytes.get(TAG_AT)?;
        Self::ALL.get(usize::from(tag)).copied()
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::FindNode => "find_node",
            Self::Get => "get",
            Self::Put => "put",
            Self::Send => "send",
            Self::Pong => "pong",
            Self::Found => "found",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Denied => "denied",
            Self::Have => "have",
            Self::Lacks => "lacks",
        }
    }
}

/// What a datagram is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Cause {
    /// Upkeep: timers, joins, the timeline's records, and all that follows from them.
    #[default]
    Maintenance,
    /// A command of the application, and all that follows from it.
    Workload,
}

impl Cause {
    /// Why a command leads to datagrams.
    #[must_use]
    pub const fn of(command: &Command) -> Self {
        match command {
            Command::Join(_) | Command::Leave | Command::Register => Self::Maintenance,
            Command::Post(_)
            | Command::Follow(_)
            | Command::Unfollow(_)
            | Command::Timeline(_)
            | Command::Whois(_)
            | Command::Followers(_)
            | Command::Following(_)
            | Command::Lookup(_)
            | Command::Put { .. }
            | Command::Get(_)
            | Command::Send { .. } => Self::Workload,
        }
    }
}

/// So many datagrams of so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Datagrams.
    pub count: u64,
    /// Bytes of their payload.
    pub bytes: u64,
}

/// Everything sent so far, by cause and kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flows([[Flow; Kind::ALL.len()]; 2]);

impl Flows {
    /// One kind for one cause.
    #[must_use]
    pub const fn of(&self, cause: Cause, kind: Kind) -> Flow {
        self.0[cause as usize][kind as usize]
    }

    /// All kinds for one cause.
    #[must_use]
    pub fn sum(&self, cause: Cause) -> Flow {
        let add = |sum: Flow, kind| {
            let flow = self.of(cause, kind);
            Flow {
                count: sum.count + flow.count,
                bytes: sum.bytes + flow.bytes,
            }
        };
        Kind::ALL.into_iter().fold(Flow::default(), add)
    }

    /// What was sent since an earlier state of the same counts.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut flows = *self;
        for (row, before) in flows.0.iter_mut().zip(&earlier.0) {
            for (flow, before) in row.iter_mut().zip(before) {
                flow.count -= before.count;
                flow.bytes -= before.bytes;
            }
        }
        flows
    }
}

/// What one node sent on behalf of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Requests {
    /// Questions about the key, repetitions included.
    pub asked: u32,
    /// Pings to addresses of which it had no token: first contacts.
    pub first_pings: u32,
    /// Addresses that it asked or pinged, without repetitions.
    pub addresses: u32,
}

#[derive(Debug)]
struct Tap {
    key: Key,
    requests: Requests,
    addresses: BTreeSet<SocketAddr>,
    asked: BTreeSet<SocketAddr>,
}

/// See the file's first paragraph.
#[derive(Debug, Default)]
pub struct Meter {
    flows: Flows,
    /// Why what is sent at the moment is sent.
    pub(super) cause: Cause,
    taps: BTreeMap<HostId, Tap>,
    /// Who holds what, of the keys that are watched.
    holders: BTreeMap<Key, BTreeSet<HostId>>,
    /// Datagrams that came to each machine.
    received: Vec<u32>,
}

impl Meter {
    /// Everything that nodes sent so far.
    #[must_use]
    pub const fn flows(&self) -> &Flows {
        &self.flows
    }

    /// How many datagrams came to a machine so far.
    #[must_use]
    pub fn received_by(&self, host: HostId) -> u32 {
        self.received.get(host.0 as usize).copied().unwrap_or(0)
    }

    /// Counts from now on what a node asks about a key; one key at a time.
    pub fn tap(&mut self, host: HostId, key: Key) {
        let tap = Tap {
            key,
            requests: Requests::default(),
            addresses: BTreeSet::new(),
            asked: BTreeSet::new(),
        };
        self.taps.insert(host, tap);
    }

    /// Whether a node is being listened to.
    #[must_use]
    pub fn is_tapped(&self, host: HostId) -> bool {
        self.taps.contains_key(&host)
    }

    /// Whether a node has asked this address about its key since it is listened to.
    #[must_use]
    pub fn has_asked(&self, host: HostId, addr: SocketAddr) -> bool {
        let tap = self.taps.get(&host);
        tap.is_some_and(|tap| tap.asked.contains(&addr))
    }

    /// Whom a node has asked about its key, or pinged for the first time, since it is listened to.
    pub fn spoken_to(&self, host: HostId) -> impl Iterator<Item = SocketAddr> + '_ {
        let tap = self.taps.get(&host);
        tap.into_iter()
            .flat_map(|tap| tap.addresses.iter().copied())
    }

    /// Ends the counting at a node.
    pub fn untap(&mut self, host: HostId) -> Requests {
        let Some(tap) = self.taps.remove(&host) else {
            return Requests::default();
        };
        Requests {
            addresses: u32::try_from(tap.addresses.len()).unwrap_or(u32::MAX),
            ..tap.requests
        }
    }

    /// Keeps account from now on of who holds records at a key.
    pub fn watch(&mut self, key: Key) {
        self.holders.entry(key).or_default();
    }

    /// The running nodes that hold something at a watched key.
    pub fn holders(&self, key: &Key) -> impl Iterator<Item = HostId> + '_ {
        self.holders.get(key).into_iter().flatten().copied()
    }

    pub(super) fn holds(&mut self, host: HostId, key: &Key, holds: bool) {
        if let Some(holders) = self.holders.get_mut(key) {
            if holds {
                holders.insert(host);
            } else {
                holders.remove(&host);
            }
        }
    }

    pub(super) fn stopped(&mut self, host: HostId) {
        self.taps.remove(&host);
        for holders in self.holders.values_mut() {
            holders.remove(&host);
        }
    }

    pub(super) fn received(&mut self, host: u32) {
        let index = host as usize;
        if self.received.len() <= index {
            self.received.resize(index + 1, 0);
        }
        self.received[index] += 1;
    }

    pub(super) fn sent(&mut self, host: HostId, to: SocketAddr, bytes: &[u8]) {
        let Some(kind) = Kind::of(bytes) else { return };
        let flow = &mut self.flows.0[self.cause as usize][kind as usize];
        flow.count += 1;
        flow.bytes += bytes.len() as u64;
        if self.taps.is_empty() {
            return;
        }
        let Some(tap) = self.taps.get_mut(&host) else {
            return;
        };
        let counted = match kind {
            Kind::FindNode | Kind::Get => {
                let about = bytes.get(TAG_AT + 1..).unwrap_or_default();
                let ours = about.starts_with(tap.key.as_bytes());
                if ours {
                    tap.requests.asked += 1;
                    tap.asked.insert(to);
                }
                ours
            }
            Kind::Ping => {
                let token = bytes.get(TOKEN_AT..TAG_AT);
                let first = token == Some(NO_TOKEN.as_slice());
                tap.requests.first_pings += u32::from(first);
                first
            }
            Kind::Put
            | Kind::Send
            | Kind::Pong
            | Kind::Found
            | Kind::Stored
            | Kind::Delivered
            | Kind::Denied
            | Kind::Have
            | Kind::Lacks => false,
        };
        if counted {
            tap.addresses.insert(to);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use strandline_core::addr::PackedAddr;
    use strandline_core::id::NodeId;
    use strandline_core::wire::NetworkId;
    use strandline_core::wire::datagram::{Body, Datagram, Denial, NO_TOKEN, PutOutcome, Token};

    use super::{Cause, Flow, HostId, Key, Kind, Meter, Requests};

    const OBSERVED: PackedAddr = PackedAddr::NONE;

    fn encoded(token: Token, body: Body<'_>) -> Vec<u8> {
        let datagram = Datagram {
            transaction: [255; 8],
            sender: NodeId::from_bytes([254; 32]),
            token,
            body,
        };
        let mut buf = [0; 1_200];
        let len = datagram.encode(NetworkId([1, 2, 3, 4]), &mut buf).unwrap();
        buf[..len].to_vec()
    }

    #[rustfmt::skip]
    fn one_of_each(key: Key) -> [Body<'static>; 10] {
        [
            Body::Ping { leaving: false, challenge: None, pad: &[0; 40] },
            Body::FindNode { target: key },
            Body::Get { key, kinds: 1, after: 0, limit: 8 },
            Body::Put { depth: 0, spilled: false, age_ms: 0, remaining_ms: 1, record: &[1; 200] },
            Body::Send { key: Some(key), bytes: &[1] },
            Body::Pong { observed: OBSERVED, proof: None },
            Body::Found { observed: OBSERVED, more: false, spilled: false, records: &[], contacts: &[] },
            Body::Stored { observed: OBSERVED, outcome: PutOutcome::Stored },
            Body::Delivered { observed: OBSERVED, accepted: true, bytes: &[] },
            Body::Denied { observed: OBSERVED, reason: Denial::Busy },
        ]
    }

    #[test]
    fn the_kind_is_read_off_the_wire_without_decoding() {
        for (body, kind) in one_of_each(Key::ZERO).into_iter().zip(Kind::ALL) {
            assert_eq!(Kind::of(&encoded([7; 8], body)), Some(kind));
            assert_eq!(Kind::ALL[kind as usize], kind);
        }
        assert_eq!(Kind::of(&[1; 53]), None);
    }

    #[test]
    fn a_tap_counts_questions_about_its_key_and_first_pings_alone() {
        let (host, key) = (HostId(3), Key::from_bytes([9; 32]));
        let mut meter = Meter::default();
        meter.tap(host, key);
        let there = "16.0.0.1:7827".parse().unwrap();
        for (who, about, token) in [
            (host, key, NO_TOKEN),
            (host, key, [7; 8]),
            (host, Key::ZERO, [7; 8]),
            (HostId(4), key, NO_TOKEN),
        ] {
            for body in one_of_each(about) {
                meter.sent(who, there, &encoded(token, body));
            }
        }
        let expected = Requests {
            asked: 4,
            first_pings: 1,
            addresses: 1,
        };
        assert!(meter.has_asked(host, there) && !meter.has_asked(HostId(4), there));
        assert_eq!(meter.untap(host), expected);
        assert_eq!(meter.untap(host), Requests::default());
    }

    #[test]
    fn what_is_sent_counts_once_for_its_cause() {
        let mut meter = Meter::default();
        let there = "16.0.0.1:7827".parse().unwrap();
        let ping = encoded(NO_TOKEN, one_of_each(Key::ZERO)[0]);
        meter.sent(HostId(0), there, &ping);
        let before = *meter.flows();
        meter.cause = Cause::Workload;
        meter.sent(HostId(0), there, &ping);
        let flow = Flow {
            count: 1,
            bytes: ping.len() as u64,
        };
        let since = meter.flows().since(&before);
        assert_eq!(since.of(Cause::Workload, Kind::Ping), flow);
        assert_eq!(since.sum(Cause::Maintenance), Flow::default());
        assert_eq!(meter.flows().sum(Cause::Maintenance), flow);
    }

    #[test]
    fn a_node_that_stops_holds_nothing() {
        let (mut meter, key) = (Meter::default(), Key::from_bytes([9; 32]));
        meter.holds(HostId(1), &key, true);
        assert_eq!(meter.holders(&key).count(), 0, "nobody watches it");
        meter.watch(key);
        for host in [1, 2] {
            meter.holds(HostId(host), &key, true);
        }
        meter.stopped(HostId(1));
        assert_eq!(meter.holders(&key).collect::<Vec<_>>(), [HostId(2)]);
        meter.holds(HostId(2), &key, false);
        assert_eq!(meter.holders(&key).count(), 0);
    }
}
