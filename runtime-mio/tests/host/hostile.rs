//! What strangers send: it is refused, counted, and the node serves on.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use serde_json::{Value, json};

use crate::{PATIENCE, Running, Scratch, none, options, up};

fn count(node: &Running, path: &str) -> u64 {
    let status = node.ok("status", &none());
    status.pointer(path).and_then(Value::as_u64).unwrap()
}

/// Waits until a counter has reached a number.
fn counted(node: &Running, path: &str, at_least: u64) {
    let reached =
        |_, status: &Value| status.pointer(path).and_then(Value::as_u64) >= Some(at_least);
    node.until("status", &none(), reached);
}

#[test]
fn datagrams_of_strangers_are_counted_by_the_rule_they_break() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("home"), &options("alice", &[]));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| stranger.send_to(bytes, node.addr()).unwrap();
    send(&[]);
    counted(&node, "/dropped/malformed", 1);
    send(&[9; 100]);
    counted(&node, "/dropped/version", 1);
    send(&[1; 100]);
    counted(&node, "/dropped/network", 1);
    send(&[1; 1201]);
    counted(&node, "/dropped/overlong", 1);
    let longest = vec![1; 9000];
    send(&longest);
    counted(&node, "/dropped/overlong", 2);
    let before = count(&node, "/datagrams/sent");
    for seed in 0..200u32 {
        let bytes: Vec<u8> = (0..seed)
            .map(|n| (n * 31 + seed * 17).to_le_bytes()[0])
            .collect();
        send(&bytes);
    }
    counted(&node, "/datagrams/received", 205);
    assert_eq!(
        count(&node, "/datagrams/sent"),
        before,
        "no answer to noise"
    );
}

#[test]
fn streams_of_strangers_are_closed_and_leave_the_node_at_work() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("one"), &options("alice", &[]));
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0],
        &[0xff; 4096],
        &[0, 5, 9, 9, 9, 9, 9],
    ];
    for bytes in garbage {
        let mut stranger = TcpStream::connect(node.addr()).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(bytes).unwrap();
        // Closed, or reset: either way nothing is said.
        assert_eq!(stranger.read(&mut [0; 16]).unwrap_or(0), 0);
    }
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(node.addr()).unwrap())
        .collect();
    let friend = up(&scratch.path("two"), &options("bob", &[node.addr()]));
    friend.ok("put", &json!({ "key": "k", "value": "v" }));
    node.ok("get", &json!({ "key": "k" }));
    drop(silent);
    let none_open = |_, status: &Value| status.pointer("/streams/open") == Some(&json!(0));
    node.until("status", &none(), none_open);
}
