#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as Client};
use std::time::{Duration, Instant as Time};

use mio::{Events, Poll};
use socket2::SockRef;

use super::connection::RECEIVE_LEN;
use super::*;

const LISTENER: Token = Token(0);
const FIRST: usize = 1;
const PATIENCE: Duration = Duration::from_secs(10);

/// A table, and what it said.
struct Table {
    poll: Poll,
    streams: Streams,
    local: SocketAddr,
    now: Instant,
    next: u64,
}

impl Table {
    fn new() -> Self {
        let (_udp, tcp, local) = crate::net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        Self {
            streams: Streams::new(tcp, registry, LISTENER, FIRST).unwrap(),
            poll,
            local,
            now: Instant::ZERO,
            next: 100,
        }
    }

    /// The next input, waited for; accepted streams are named at once.
    fn next(&mut self) -> Input {
        self.next_within(PATIENCE)
            .unwrap_or_else(|| panic!("nothing happened"))
    }

    fn next_within(&mut self, patience: Duration) -> Option<Input> {
        let end = Time::now() + patience;
        loop {
            if let Some(input) = self.streams.poll_input(self.now) {
                if let Input::Accept(slot, _) = input {
                    self.next += 1;
                    self.streams.accepted(slot, StreamId(self.next));
                }
                return Some(input);
            }
            let left = end.checked_duration_since(Time::now())?;
            let mut events = Events::with_capacity(16);
            self.poll.poll(&mut events, Some(left)).unwrap();
            for event in &events {
                if event.token() == LISTENER {
                    self.streams.on_acceptable();
                } else {
                    self.streams.on_ready(event);
                }
            }
        }
    }

    /// Accepts a connection of a client; core knows its room.
    fn accept(&mut self) -> (Client, StreamId) {
        let client = Client::connect(self.local).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(self.next(), Input::Accept(..)));
        let stream = StreamId(self.next);
        assert_eq!(self.next(), Input::Writable(stream, SEND_LEN));
        (client, stream)
    }

    fn expect_frame(&mut self, stream: StreamId, frame: &[u8]) {
        assert_eq!(self.next(), Input::Readable(stream));
        assert!(self.streams.unread(stream).starts_with(frame));
        self.streams.consumed(stream, frame.len());
    }

    fn quiet(&mut self) {
        let input = self.next_within(Duration::from_millis(50));
        assert_eq!(input, None);
    }
}

fn frame(fill: u8, len: u8) -> Vec<u8> {
    let mut frame = vec![0, len];
    frame.resize(2 + usize::from(len), fill);
    frame
}

#[test]
fn bytes_flow_both_ways_frame_by_frame() {
    let mut table = Table::new();
    let (mut client, stream) = table.accept();
    let (one, two) = (frame(1, 10), frame(2, 200));
    let (head, tail) = two.split_at(5);
    client.write_all(&one).unwrap();
    client.write_all(head).unwrap();
    table.expect_frame(stream, &one);
    table.quiet();
    client.write_all(tail).unwrap();
    table.expect_frame(stream, &two);

    table.streams.write(stream, b"answer");
    assert_eq!(table.next(), Input::Writable(stream, SEND_LEN));
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

#[test]
fn an_opened_stream_is_told_and_a_refused_one_closed() {
    let mut table = Table::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    table.streams.open(table.now, StreamId(1), to);
    assert_eq!(table.next(), Input::Opened(StreamId(1)));
    assert_eq!(table.next(), Input::Writable(StreamId(1), SEND_LEN));
    drop(listener);
    table.streams.open(table.now, StreamId(2), to);
    let mut inputs = vec![table.next()];
    inputs.extend(table.next_within(Duration::from_millis(50)));
    assert!(inputs.contains(&Input::Closed(StreamId(2))), "{inputs:?}");
    assert_eq!(table.streams.refusals().unopened, 1);
}

#[test]
fn what_core_does_not_take_stops_the_sender_and_nothing_is_lost() {
    let mut table = Table::new();
    let (client, stream) = table.accept();
    let frames = 40_000u32;
    let sender = std::thread::spawn(move || {
        let mut client = client;
        for n in 0..frames {
            let mut bytes = frame(7, 200);
            bytes
                .get_mut(2..6)
                .unwrap()
                .copy_from_slice(&n.to_be_bytes());
            client.write_all(&bytes).unwrap();
        }
    });
    assert_eq!(table.next(), Input::Readable(stream));
    table.streams.consumed(stream, 0);
    table.quiet();
    assert!(table.streams.has_blocked());
    assert!(table.streams.unread(stream).len() <= RECEIVE_LEN);
    assert!(!sender.is_finished());
    table.streams.offer_again();
    for n in 0..frames {
        assert_eq!(table.next(), Input::Readable(stream));
        let told = table.streams.unread(stream).get(2..6).unwrap();
        assert_eq!(told, n.to_be_bytes());
        table.streams.consumed(stream, 202);
    }
    sender.join().unwrap();
    assert_eq!(table.next(), Input::Closed(stream));
}

#[test]
fn room_is_what_is_left_and_beyond_it_the_stream_breaks() {
    let mut table = Table::new();
    let (client, stream) = table.accept();
    // Fill the system's buffers until ours stays full.
    let mut room = SEND_LEN;
    while let Some(input) = {
        table.streams.write(stream, &vec![0; room]);
        table.next_within(Duration::from_millis(100))
    } {
        let Input::Writable(_, told) = input else {
            panic!("{input:?}");
        };
        assert!(told <= SEND_LEN);
        room = told;
    }
    table.streams.write(stream, b"x");
    assert_eq!(table.next(), Input::Closed(stream));
    drop(client);
}

#[test]
fn frames_before_the_end_are_delivered_and_answers_after_it_too() {
    let mut table = Table::new();
    let (mut client, stream) = table.accept();
    let (one, two) = (frame(1, 9), frame(2, 9));
    client
        .write_all(&[one.clone(), two.clone()].concat())
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    table.expect_frame(stream, &one);
    assert_eq!(table.next(), Input::Readable(stream));
    table.streams.write(stream, b"answer");
    table.streams.consumed(stream, two.len());
    while table.next() != Input::Closed(stream) {}
    table.quiet();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
    assert_eq!(table.streams.count(), 0);
}

#[test]
fn closing_delivers_the_last_frame_to_a_peer_that_still_talks() {
    let mut table = Table::new();
    let (mut client, stream) = table.accept();
    client.write_all(&[0; 20_000]).unwrap();
    table.streams.write(stream, b"refused");
    table.streams.close(table.now, stream);
    table.quiet();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"refused");
    drop(client);
    table.quiet();
    assert_eq!(table.streams.count(), 0);
}

#[test]
fn a_reset_is_told_once() {
    let mut table = Table::new();
    let (client, stream) = table.accept();
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert_eq!(table.next(), Input::Closed(stream));
    table.quiet();
    assert_eq!(table.streams.count(), 0);
}

#[test]
fn what_does_not_open_or_move_or_go_in_time_is_closed() {
    let mut table = Table::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    table.streams.open(table.now, StreamId(1), to);
    table
        .streams
        .handle_timeout(Instant::from_ms(CONNECT_MS - 1));
    assert_eq!(table.streams.count(), 1);
    table
        .streams
        .handle_timeout(Instant::from_ms(CONNECT_MS + SWEEP_MS));
    assert_eq!(table.next(), Input::Closed(StreamId(1)));

    let (mut client, stream) = table.accept();
    table.now = Instant::from_ms(IDLE_MS - 1);
    client.write_all(&[0]).unwrap();
    table.quiet();
    table
        .streams
        .handle_timeout(Instant::from_ms(IDLE_MS + SWEEP_MS));
    table.quiet();
    table
        .streams
        .handle_timeout(Instant::from_ms(2 * IDLE_MS + SWEEP_MS));
    assert_eq!(table.next(), Input::Closed(stream));

    let (client, stream) = table.accept();
    table.streams.close(table.now, stream);
    table.quiet();
    assert_eq!(table.streams.count(), 1, "waits for the client's end");
    let later = table.now.after_ms(LINGER_MS + SWEEP_MS);
    table.streams.handle_timeout(later.after_ms(IDLE_MS));
    assert_eq!(table.streams.count(), 0);
    assert_eq!(table.streams.next_deadline(), None);
    drop(client);
}

#[test]
fn one_source_cannot_take_all_connections() {
    let mut table = Table::new();
    let client = Client::connect(table.local).unwrap();
    let source = source_of(client.local_addr().unwrap());
    table
        .streams
        .by_source
        .insert(source, INBOUND_PER_SOURCE_MAX);
    table.quiet();
    assert_eq!(table.streams.refusals().full, 1);
    table.streams.by_source.clear();
    let (client, stream) = table.accept();
    assert_eq!(table.streams.by_source.len(), 1);
    drop(client);
    assert_eq!(table.next(), Input::Closed(stream));
    table.quiet();
    assert!(table.streams.by_source.is_empty());
}

#[test]
fn strangers_leave_room_for_what_this_node_opens() {
    let mut table = Table::new();
    table.streams.inbound = INBOUND_MAX;
    let _client = Client::connect(table.local).unwrap();
    table.quiet();
    assert_eq!(table.streams.refusals().full, 1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    table.streams.open(table.now, StreamId(1), to);
    assert_eq!(table.next(), Input::Opened(StreamId(1)));
}

#[test]
fn a_closed_stream_is_never_mentioned_again() {
    let mut table = Table::new();
    let nobody = "127.0.0.1:1".parse().unwrap();
    table.streams.open(table.now, StreamId(1), nobody);
    table.streams.close(table.now, StreamId(1));
    let (client, stream) = table.accept();
    drop(client);
    table.streams.close(table.now, stream);
    table.streams.write(stream, b"late");
    table.streams.consumed(stream, 0);
    table.quiet();
    assert_eq!(table.streams.count(), 0);
}
