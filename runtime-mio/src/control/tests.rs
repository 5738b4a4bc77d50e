#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::net::UnixStream as Connection;
use std::path::PathBuf;
use std::time::{Duration, Instant as Time};

use mio::{Events, Poll};
use serde_json::json;

use super::*;
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(10);

struct Channel {
    poll: Poll,
    control: Control,
    path: PathBuf,
    now: Instant,
    _scratch: Scratch,
}

impl Channel {
    fn new() -> Self {
        let scratch = Scratch::new();
        let path = scratch.path().join("control.sock");
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        Self {
            control: Control::open(&path, registry, Token(0), 1).unwrap(),
            poll,
            path,
            now: Instant::ZERO,
            _scratch: scratch,
        }
    }

    fn connect(&self) -> Connection {
        let client = Connection::connect(&self.path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    fn next_within(&mut self, patience: Duration) -> Option<Input> {
        let end = Time::now() + patience;
        loop {
            if let Some(input) = self.control.poll_input(self.now) {
                return Some(input);
            }
            let left = end.checked_duration_since(Time::now())?;
            let mut events = Events::with_capacity(16);
            self.poll.poll(&mut events, Some(left)).unwrap();
            for event in &events {
                if event.token() == Token(0) {
                    self.control.on_acceptable();
                } else {
                    self.control.on_ready(event);
                }
            }
        }
    }

    fn call(&mut self) -> (ClientId, String, Vec<u8>) {
        let input = self.next_within(PATIENCE);
        let Some(Input::Call { client, name, body }) = input else {
            panic!("{input:?}");
        };
        (client, name, body)
    }

    fn quiet(&mut self) {
        assert_eq!(self.next_within(Duration::from_millis(50)), None);
    }

    fn clients(&self) -> usize {
        self.control.clients.iter().flatten().count()
    }
}

fn request(name: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("POST /v1/{name} HTTP/1.1\r\nContent-Length: {len}\r\n\r\n{body}").into_bytes()
}

fn read_answer(client: &mut Connection) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"}\n") {
        client.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
    }
    String::from_utf8(bytes).unwrap()
}

fn yes() -> Answer {
    Answer::ok(json!({ "v": 1 }))
}

#[test]
fn calls_are_answered_in_turn_on_one_connection_also_when_sent_ahead() {
    let mut channel = Channel::new();
    let mut client = channel.connect();
    let both = [request("post", "{\"a\":1}"), request("peers", "")].concat();
    client.write_all(&both).unwrap();
    let (id, name, body) = channel.call();
    assert_eq!(
        (name.as_str(), body.as_slice()),
        ("post", &b"{\"a\":1}"[..])
    );
    channel.quiet();
    channel.control.answer(channel.now, id, &yes());
    let answer = read_answer(&mut client);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nStrandline-Exit: 0\r\n"),
        "{answer}"
    );
    let (id, name, _) = channel.call();
    assert_eq!(name, "peers");
    let partial = Answer {
        exit: Exit::Ambiguous,
        ..yes()
    };
    channel.control.answer(channel.now, id, &partial);
    let answer = read_answer(&mut client);
    assert!(
        answer.starts_with("HTTP/1.1 409 Conflict\r\nStrandline-Exit: 9\r\n"),
        "{answer}"
    );
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut channel = Channel::new();
    let mut client = channel.connect();
    let bytes = request("post", "{}");
    let (last, first) = bytes.split_last().unwrap();
    for byte in first {
        client.write_all(&[*byte]).unwrap();
        assert_eq!(channel.next_within(Duration::ZERO), None);
    }
    client.write_all(&[*last]).unwrap();
    assert_eq!(channel.call().1, "post");
}

#[test]
fn what_is_no_command_is_answered_here() {
    for (bytes, status) in [
        (&b"GET /v1/dance HTTP/1.1\r\n\r\n"[..], "404 Not Found"),
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"PUT /v1/post HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (
            b"POST /v1/post HTTP/1.1\r\nContent-Length: 65537\r\n\r\n",
            "413 Content Too Large",
        ),
        (b"hello\r\n\r\n", "400 Bad Request"),
    ] {
        let mut channel = Channel::new();
        let mut client = channel.connect();
        client.write_all(bytes).unwrap();
        channel.quiet();
        let answer = read_answer(&mut client);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(answer.contains("Strandline-Exit: 2\r\n"), "{answer}");
    }
}

#[test]
fn a_client_that_went_away_is_told_of_once_and_makes_room() {
    let mut channel = Channel::new();
    let mut client = channel.connect();
    client.write_all(&request("timeline", "{}")).unwrap();
    let (id, ..) = channel.call();
    drop(client);
    assert_eq!(channel.next_within(PATIENCE), Some(Input::Gone(id)));
    channel.quiet();
    assert_eq!(channel.clients(), 0);
    channel.control.answer(channel.now, id, &yes());
    let idle = channel.connect();
    channel.quiet();
    assert_eq!(channel.clients(), 1);
    drop(idle);
    channel.quiet();
    assert_eq!(channel.clients(), 0);
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let mut channel = Channel::new();
    let mut client = channel.connect();
    client.write_all(&request("peers", "")).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (id, ..) = channel.call();
    channel.quiet();
    channel.control.answer(channel.now, id, &yes());
    channel.quiet();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"v\":1}\n"), "{answer}");
}

#[test]
fn a_last_call_is_answered_before_the_connection_ends() {
    let mut channel = Channel::new();
    let mut client = channel.connect();
    client.write_all(b"GET /v1/peers HTTP/1.0\r\n\r\n").unwrap();
    let (id, ..) = channel.call();
    channel.quiet();
    channel.control.answer(channel.now, id, &yes());
    channel.quiet();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"v\":1}\n"), "{answer}");
    assert_eq!(channel.clients(), 0);
}

#[test]
fn a_slow_reader_holds_up_nobody() {
    let mut channel = Channel::new();
    let mut slow = channel.connect();
    slow.write_all(&request("timeline", "")).unwrap();
    let (id, ..) = channel.call();
    let long = Answer::ok(json!({ "text": "x".repeat(4_000_000) }));
    channel.control.answer(channel.now, id, &long);
    let mut other = channel.connect();
    other.write_all(&request("peers", "")).unwrap();
    let (id, ..) = channel.call();
    channel.control.answer(channel.now, id, &yes());
    channel.quiet();
    read_answer(&mut other);
    // It takes its time, and still gets all of it.
    let reader = std::thread::spawn(move || read_all(slow));
    let end = Time::now() + PATIENCE;
    while !reader.is_finished() && Time::now() < end {
        assert_eq!(channel.next_within(Duration::from_millis(10)), None);
    }
    assert!(reader.join().unwrap() > 4_000_000);
}

/// Reads one answer of several buffers' length.
fn read_all(mut client: Connection) -> usize {
    let mut buf = vec![0; 65_536];
    let mut total = 0;
    loop {
        let len = client.read(&mut buf).unwrap();
        total += len;
        if len == 0 || buf.get(..len).unwrap().ends_with(b"}\n") {
            return total;
        }
    }
}

#[test]
fn clients_beyond_the_cap_wait_for_their_turn() {
    let mut channel = Channel::new();
    let mut clients: Vec<Connection> = (0..=CLIENTS_MAX).map(|_| channel.connect()).collect();
    let mut last = clients.pop().unwrap();
    last.write_all(&request("peers", "")).unwrap();
    channel.quiet();
    assert_eq!(channel.clients(), CLIENTS_MAX);
    clients.pop();
    assert_eq!(channel.call().1, "peers");
}

#[test]
fn a_silent_client_is_closed_and_one_that_waits_is_not() {
    let mut channel = Channel::new();
    let mut waiting = channel.connect();
    waiting.write_all(&request("timeline", "")).unwrap();
    channel.call();
    let mut half = channel.connect();
    half.write_all(b"POST /v1/po").unwrap();
    channel.quiet();
    assert_eq!(
        channel.control.next_deadline(),
        Some(Instant::from_ms(PATIENCE_MS))
    );
    channel
        .control
        .handle_timeout(Instant::from_ms(PATIENCE_MS));
    assert_eq!(channel.clients(), 1);
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
    assert_eq!(channel.control.next_deadline(), None);
}

#[test]
fn the_socket_is_its_owners_and_replaces_a_dead_nodes() {
    let channel = Channel::new();
    let mode = fs::metadata(&channel.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    Control::open(&channel.path, registry, Token(0), 1).unwrap();
}
