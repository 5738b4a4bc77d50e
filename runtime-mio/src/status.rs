//! The answers about the node itself: `status` and `peers`. Owns which condition counts as the node's health; asks nobody.

use std::path::Path;

use serde_json::{Map, Value, json};
use strandline_core::node::Node;
use strandline_core::plan::Server;
use strandline_core::time::Instant;

use crate::answer::{Answer, Myself, handle};
use crate::clock::{Date, Source};
use crate::net::Traffic;
use crate::streams::Refusals;

/// What the host knows and core does not.
#[derive(Clone, Copy, Debug)]
pub struct View<'h> {
    /// Who the node is.
    pub me: &'h Myself,
    /// The home folder.
    pub home: &'h Path,
    /// Where it listens.
    pub listen: std::net::SocketAddr,
    /// The name of the network.
    pub network: &'h str,
    /// The date.
    pub date: &'h Date,
    /// What passed through the UDP socket.
    pub traffic: Traffic,
    /// Connections open, and those that did not come about.
    pub streams: (usize, Refusals),
    /// What is wrong, if anything is.
    pub trouble: Option<Trouble>,
}

/// What can be wrong with a node, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trouble {
    /// Something could not be written: nothing more is signed until the node was restarted.
    StorageFailed,
    /// Somebody else signs with the user's key.
    Forked,
    /// The storage was lost, and is not yet recovered from the network.
    Recovering,
}

impl Trouble {
    const fn name(self) -> &'static str {
        match self {
            Self::StorageFailed => "storage-failed",
            Self::Forked => "forked",
            Self::Recovering => "recovering",
        }
    }
}

/// The answer to `status`: health first.
#[must_use]
pub fn status(now: Instant, node: &Node<Server>, view: &View<'_>) -> Answer {
    let stats = node.stats();
    let health = match view.trouble {
        Some(trouble) => trouble.name(),
        None if stats.contacts == 0 => "alone",
        None => "ok",
    };
    let tables: Map<String, Value> = stats
        .tables
        .iter()
        .filter(|table| !table.name.is_empty())
        .map(|table| {
            let use_of = json!({
                "used": table.used, "capacity": table.capacity, "bytes": table.bytes,
            });
            (table.name.into(), use_of)
        })
        .collect();
    let dropped: Map<String, Value> = stats
        .dropped
        .iter()
        .map(|(rule, count)| (rule.name().into(), count.into()))
        .collect();
    let (open, refusals) = view.streams;
    Answer::ok(json!({
        "v": 1,
        "health": health,
        "name": view.me.person.name.as_str(),
        "handle": handle(&view.me.person),
        "id": view.me.person.user.to_string(),
        "node": view.me.node.to_string(),
        "network": view.network,
        "home": view.home.display().to_string(),
        "listen": view.listen.to_string(),
        "observed": stats.observed.map(|addr| addr.to_string()),
        "uptime_ms": now.as_ms(),
        "peers": stats.contacts,
        "seq": stats.last,
        "following": stats.following,
        "followers": stats.followers,
        "clock": clock(now, node, view.date),
        "tables": tables,
        "dropped": dropped,
        "datagrams": {
            "received": view.traffic.received,
            "sent": view.traffic.sent,
            "unsent": view.traffic.unsent,
        },
        "streams": {
            "open": open,
            "full": refusals.full,
            "unopened": refusals.unopened,
            "idle": refusals.idle,
        },
    }))
}

fn clock(now: Instant, node: &Node<Server>, date: &Date) -> Value {
    let (unix_ms, uncertainty_ms) = node.unix_ms(now).unwrap_or_else(|| {
        let setting = date.setting(now);
        (setting.unix_ms, setting.uncertainty_ms)
    });
    let servers = match date.source() {
        Source::System => 0,
        Source::Ntp(servers) => servers,
    };
    json!({
        "source": date.source().name(),
        "servers": servers,
        "offset_ms": date.offset_ms(),
        "uncertainty_ms": uncertainty_ms,
        "age_ms": date.age_ms(now),
        "time": unix_ms,
    })
}

/// The answer to `peers`.
#[must_use]
pub fn peers(node: &Node<Server>) -> Answer {
    let peer = |peer: strandline_core::node::Peer| {
        json!({
            "id": peer.id.to_string(), "addr": peer.addr.to_string(), "rtt_ms": peer.rtt_ms,
        })
    };
    let peers: Vec<Value> = node.peers().map(peer).collect();
    Answer::ok(json!({ "v": 1, "peers": peers }))
}
