//! `silent`: contacts that never answer are planted, each by one datagram to every node. Does a lookup notice?

use strandline_core::id::NodeId;
use strandline_core::wire::PING_LEN;
use strandline_core::wire::datagram::{Body, Datagram, NO_TOKEN};

use crate::sim::HostId;
use crate::sim::node::AnyNode;

use super::asking::Lookups;
use super::crowd::{Crowd, REST_S};
use super::{Basis, Progress, Report};

/// How long the last datagrams have to arrive, in ms.
const ARRIVE_MS: u64 = 200;

/// What is planted and asked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many contacts never answer.
    pub silent: usize,
    /// How many lookups, each time.
    pub lookups: u64,
    /// How many of them a second.
    pub per_s: u64,
}

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> Report {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("silent", basis.clone());
    let before = Lookups::of(&mut crowd, options.lookups, options.per_s, progress);
    before.report("before", &mut report);
    let silent: Vec<_> = (0..options.silent).map(|_| plant(&mut crowd)).collect();
    crowd.run_ms(ARRIVE_MS);
    let after = Lookups::of(&mut crowd, options.lookups, options.per_s, progress);
    after.report("after", &mut report);
    report.count("contacts that never answer", silent.len());
    let heard: usize = silent
        .iter()
        .map(|host| crowd.world.take_datagrams(*host).len())
        .sum();
    report.count("datagrams to them", heard);
    report.count("places that they have in tables", places(&crowd, &silent));
    let median = |lookups: &Lookups| lookups.took_ms.quantile(50) as f64;
    report.row(
        "median time, of that before",
        100.0 * median(&after) / median(&before).max(1.0),
        "%",
    );
    report.close(&crowd.world)
}

/// A stranger that only listens says one thing to every member, under an id of its own.
fn plant(crowd: &mut Crowd) -> HostId {
    let stranger = crowd.world.stranger(false);
    let sender = NodeId::from_bytes(crowd.random.bytes_32());
    let transaction = crowd.random.next_u64().to_be_bytes();
    let ping = |pad| Datagram {
        transaction,
        sender,
        token: NO_TOKEN,
        body: Body::Ping {
            leaving: false,
            challenge: None,
            pad,
        },
    };
    let bare = crowd.world.encode(&ping(&[])).len();
    let bytes = crowd.world.encode(&ping(&[0; PING_LEN][bare..]));
    for member in crowd.members().to_vec() {
        crowd.world.send_raw(stranger, member, &bytes);
    }
    stranger
}

/// How often some of these machines are contacts of members.
fn places(crowd: &Crowd, of: &[HostId]) -> usize {
    let addrs: Vec<_> = of
        .iter()
        .map(|host| crowd.world.machine(*host).addr)
        .collect();
    let members = crowd.members().iter();
    let contacts = members
        .filter_map(|host| crowd.world.running(*host))
        .flat_map(AnyNode::peers);
    contacts.filter(|(_, addr)| addrs.contains(addr)).count()
}
