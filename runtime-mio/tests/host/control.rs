//! The control channel of a running node, spoken to as curl and scripts do.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::{PATIENCE, Scratch, none, options, up};
use serde_json::json;
use strandline_mio::Exit;

#[test]
fn get_serves_for_commands_without_arguments() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("home"), &options("alice", &[]));
    let (head, body) = node.exchange("GET /v1/whoami HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\nStrandline-Exit: 0\r\n"),
        "{head}"
    );
    assert!(
        body.starts_with(r#"{"v":1,"name":"alice","handle":"alice~"#),
        "{body}"
    );
    assert!(body.ends_with("}\n") && body.lines().count() == 1, "{body}");
}

#[test]
fn mistakes_get_their_status_and_exit_code() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("home"), &options("alice", &[]));
    for (request, status, exit) in [
        ("GET /v1/dance HTTP/1.0\r\n\r\n", 404, 2),
        ("GET /v2/post HTTP/1.0\r\n\r\n", 404, 2),
        ("DELETE /v1/post HTTP/1.0\r\n\r\n", 405, 2),
        ("GET /v1/post HTTP/1.0\r\n\r\n", 400, 2),
        (
            "POST /v1/post HTTP/1.0\r\nContent-Length: 3\r\n\r\n{}x",
            400,
            2,
        ),
        (
            "POST /v1/post HTTP/1.0\r\nContent-Length: 70000\r\n\r\n",
            413,
            2,
        ),
    ] {
        let (head, body) = node.exchange(request);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {head}"
        );
        assert!(
            head.contains(&format!("Strandline-Exit: {exit}\r\n")),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body.pointer("/error/exit").unwrap(), exit);
    }
    for (name, arguments) in [
        ("post", json!({ "text": "" })),
        ("post", json!({ "text": "x".repeat(513) })),
        ("follow", json!({ "handle": "No Name" })),
        ("timeline", json!({ "limit": "all" })),
    ] {
        assert_eq!(node.call(name, &arguments).0, Exit::Usage, "{name}");
    }
}

#[test]
fn silent_and_crowding_clients_hold_up_nobody() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("home"), &options("alice", &[]));
    let mut silent = Vec::new();
    for _ in 0..strandline_mio::control::CLIENTS_MAX - 1 {
        let mut client = UnixStream::connect(&node.ready.control).unwrap();
        client
            .write_all(b"POST /v1/post HTTP/1.1\r\nContent-Le")
            .unwrap();
        silent.push(client);
    }
    for _ in 0..50 {
        node.ok("whoami", &none());
    }
}

#[test]
fn one_connection_carries_many_calls() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("home"), &options("alice", &[]));
    let mut client = UnixStream::connect(&node.ready.control).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let calls = 100;
    let one = "GET /v1/whoami HTTP/1.1\r\n\r\n";
    let last = "GET /v1/whoami HTTP/1.1\r\nConnection: close\r\n\r\n";
    let requests = one.repeat(calls - 1) + last;
    client.write_all(requests.as_bytes()).unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("Strandline-Exit: 0\r\n").count(), calls);
}
