//! Strangers who send whatever they like: refused, counted under the rule broken, and the node serves on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Net, Node, SOON, eventually};

/// What the node says to have dropped, in all.
fn dropped(node: &Node) -> u64 {
    let status = node.ask(["status"]);
    let counts = status["dropped"].as_object().expect("an object").values();
    counts.map(|count| count.as_u64().expect("a number")).sum()
}

/// Bytes that mean nothing, the same ones each time.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn datagrams_that_mean_nothing_are_counted_and_not_answered() {
    let net = Net::of(2, &[]);
    let node = &net.nodes[0];
    let before = dropped(node);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut sent = 0;
    let lengths = [0, 1, 4, 5, 20, 79, 80, 96, 500, 1200, 1201, 1472, 9000];
    for (seed, len) in (1..).zip(lengths.into_iter().cycle()).take(200) {
        let mut bytes = noise(len, seed);
        // Half of them with the right version, to get further in.
        if let (Some(first), 0) = (bytes.first_mut(), seed % 2) {
            *first = 1;
        }
        if stranger.send_to(&bytes, node.listen).is_ok() && len > 0 {
            sent += 1;
        }
    }
    // The loopback may lose some of a burst.
    eventually("they are counted", || {
        match dropped(node).saturating_sub(before) {
            counted if counted >= sent / 2 => Ok(()),
            counted => Err(format!("{counted} of {sent}")),
        }
    });
    assert!(
        stranger.recv(&mut [0; 2048]).is_err(),
        "noise is not answered"
    );
    serves(&net);
}

#[test]
fn streams_that_mean_nothing_are_counted_and_closed() {
    let net = Net::of(2, &[]);
    let node = &net.nodes[0];
    let before = dropped(node);
    for (seed, opening) in [
        // Longer than a frame may be.
        &[0xff, 0xff][..],
        // A frame of zero bytes.
        &[0, 0],
        // Another version.
        &[0, 16, 9, 9, 9, 9],
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut bytes = opening.to_vec();
        bytes.extend(noise(2000, seed as u64 + 1));
        assert!(is_closed_after(node.listen, &bytes), "{opening:?}");
    }
    eventually("they are counted", || {
        match dropped(node).saturating_sub(before) {
            counted if counted >= 3 => Ok(()),
            counted => Err(format!("only {counted}")),
        }
    });
    serves(&net);
}

/// Whether the other side closes a connection on which these bytes came.
fn is_closed_after(addr: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // It may be closed before everything was sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn connections_that_say_nothing_do_not_keep_others_out() {
    let net = Net::of(2, &[]);
    let node = &net.nodes[0];
    let silent: Vec<TcpStream> = (0..400)
        .map_while(|_| TcpStream::connect(node.listen).ok())
        .collect();
    assert!(!silent.is_empty());
    serves(&net);
}

#[test]
fn a_control_channel_that_is_spoken_to_in_noise_serves_on() {
    let net = Net::of(2, &[]);
    let path = net.nodes[0].home.join("control.sock");
    for seed in 1..20 {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(&noise(3000, seed));
    }
    let hanging: Vec<UnixStream> = (0..8)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    serves(&net);
    drop(hanging);
}

/// Asserts that the first node posts, and that the second reads it from it.
#[track_caller]
fn serves(net: &Net) {
    let [node, reader] = &net.nodes[..] else {
        panic!("two nodes");
    };
    node.post("still here");
    let timeline: Value = reader.ask(["timeline", &node.handle]);
    assert_eq!(timeline["posts"][0]["text"], "still here");
    assert_eq!(timeline["posts"][0]["via"], "author");
}
