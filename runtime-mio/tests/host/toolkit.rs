//! The DHT alone, over real sockets: nodes find each other, keep values, and carry messages.

use serde_json::{Value, json};
use strandline_mio::Exit;

use crate::{PATIENCE, Running, Scratch, none, options, up};

/// A network of so many nodes, joined through the first.
fn network(scratch: &Scratch, count: usize) -> Vec<Running> {
    let first = up(&scratch.path("n0"), &options("n0", &[]));
    let addr = first.addr();
    let mut nodes = vec![first];
    for n in 1..count {
        let name = format!("n{n}");
        nodes.push(up(&scratch.path(&name), &options(&name, &[addr])));
    }
    nodes
}

fn peers(node: &Running) -> usize {
    let peers = node.ok("peers", &none());
    peers.get("peers").and_then(Value::as_array).unwrap().len()
}

#[test]
fn nodes_know_each_other_after_joining() {
    let scratch = Scratch::new();
    let nodes = network(&scratch, 5);
    for node in &nodes {
        node.until("peers", &none(), |_, _| peers(node) == 4);
        let status = node.ok("status", &none());
        assert_eq!(status.get("health").unwrap(), "ok");
    }
}

#[test]
fn a_value_is_found_from_every_node() {
    let scratch = Scratch::new();
    let nodes = network(&scratch, 4);
    let [first, .., last] = nodes.as_slice() else {
        return assert_eq!(nodes.len(), 4);
    };
    let stored = first.ok("put", &json!({ "key": "greeting", "value": "hello" }));
    let key = stored.get("key").unwrap();
    for node in &nodes {
        let got = node.ok("get", &json!({ "key": key }));
        assert_eq!(got.pointer("/values/0/value").unwrap(), "hello");
        let by_text = node.ok("get", &json!({ "key": "greeting" }));
        assert_eq!(by_text.get("values"), got.get("values"));
    }
    last.ok("put", &json!({ "key": "greeting", "value": "salut" }));
    let got = first.ok("get", &json!({ "key": "greeting" }));
    let values = got.get("values").and_then(Value::as_array).unwrap();
    assert_eq!(values.len(), 2, "one of each author: {got}");
    first.ok("put", &json!({ "key": "greeting", "value": "hi" }));
    let got = last.ok("get", &json!({ "key": "greeting" }));
    assert!(!got.to_string().contains("hello"), "replaced: {got}");
    let (exit, _) = first.call("get", &json!({ "key": "nothing" }));
    assert_eq!(exit, Exit::NotFound);
}

#[test]
fn lookups_and_messages_reach_the_node_of_a_key() {
    let scratch = Scratch::new();
    let nodes = network(&scratch, 4);
    let Some(first) = nodes.first() else {
        return;
    };
    for other in nodes.iter().skip(1) {
        let id = other.ok("whoami", &none());
        let key = id.get("node").unwrap();
        let found = first.ok("lookup", &json!({ "key": key }));
        assert_eq!(found.pointer("/nodes/0/id").unwrap(), key);
        assert_eq!(
            found.pointer("/nodes/0/addr").unwrap(),
            &other.addr().to_string()
        );
        first.ok("send", &json!({ "key": key, "text": "hi" }));
    }
}

#[test]
fn a_node_that_stops_is_forgotten_and_a_killed_one_does_not_stop_the_rest() {
    let scratch = Scratch::new();
    let mut nodes = network(&scratch, 5);
    let Some(first) = nodes.first().map(Running::addr) else {
        return;
    };
    nodes.pop().unwrap().kill();
    nodes.pop().unwrap().stop();
    let late = up(&scratch.path("late"), &options("late", &[first]));
    late.ok("put", &json!({ "key": "k", "value": "v" }));
    for node in &nodes {
        node.ok("get", &json!({ "key": "k" }));
    }
}

#[test]
fn saved_contacts_are_a_way_back_in() {
    let scratch = Scratch::new();
    let mut nodes = network(&scratch, 3);
    let home = scratch.path("n2");
    let began = std::time::Instant::now();
    nodes.pop().unwrap().stop();
    let back = up(&home, &options("n2", &[]));
    assert!(began.elapsed() < PATIENCE);
    assert!(peers(&back) > 0);
}

#[test]
fn a_node_reaches_others_over_ipv6() {
    let scratch = Scratch::new();
    let mut six = options("six", &[]);
    six.listen = "[::1]:0".parse().unwrap();
    let first = up(&scratch.path("one"), &six);
    six.name = Some("seven".into());
    six.join = vec![first.addr().to_string()];
    let second = up(&scratch.path("two"), &six);
    assert_eq!(peers(&second), 1);
    second.ok("put", &json!({ "key": "k", "value": "v" }));
    first.ok("get", &json!({ "key": "k" }));
}

#[test]
fn networks_of_different_names_do_not_mix() {
    let scratch = Scratch::new();
    let first = up(&scratch.path("one"), &options("one", &[]));
    let mut other = options("two", &[first.addr()]);
    other.network = "elsewhere".into();
    let second = up(&scratch.path("two"), &other);
    assert_eq!((peers(&first), peers(&second)), (0, 0));
    let status = first.ok("status", &none());
    let dropped = status.pointer("/dropped/network").and_then(Value::as_u64);
    assert!(dropped > Some(0), "{status}");
}
