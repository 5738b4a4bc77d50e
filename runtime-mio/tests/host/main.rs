//! Hosts as their users meet them: real sockets on the loopback, real files, one thread for each.
//!
//! This file runs hosts and speaks to their control channels; the tests are in the modules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod application;
mod control;
mod hostile;
mod start;
mod timeline;
mod toolkit;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strandline_core::drive::{self, Handler};
use strandline_core::node::Node;
use strandline_core::output::Event;
use strandline_core::plan::Plan;
use strandline_core::time;
use strandline_mio::{Application, Exit, Failure, Home, Host, Options, Ready, Stopper};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("strandline-host-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// Where it is, or a name in it.
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Options for a node of this machine, on a free port, without time servers.
fn options(name: &str, join: &[SocketAddr]) -> Options {
    Options {
        name: Some(name.into()),
        listen: "127.0.0.1:0".parse().unwrap(),
        join: join.iter().map(SocketAddr::to_string).collect(),
        ntp: Vec::new(),
        refresh: Duration::ZERO,
        ..Options::default()
    }
}

/// A host that runs on a thread of its own.
struct Running {
    ready: Ready,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

struct Announce(Sender<Ready>);

impl Handler for Announce {
    fn on_event(&mut self, _event: Event<'_>) {}
}

impl<P: Plan> drive::Application<P> for Announce {
    fn act(&mut self, _now: time::Instant, _node: &mut Node<P>) -> Option<time::Instant> {
        None
    }
}

impl Application for Announce {
    fn on_ready(&mut self, ready: &Ready) {
        self.0.send(ready.clone()).unwrap();
    }
}

/// Opens a host on this home and closes it again.
fn open(dir: &Path, options: &Options) -> Result<Host, Failure> {
    Host::open(Home::open(dir)?, options)
}

/// What keeps a host from opening.
fn failure(dir: &Path, options: &Options) -> Failure {
    open(dir, options).err().unwrap()
}

/// Runs a host and waits until it is ready.
fn up(dir: &Path, options: &Options) -> Running {
    let mut host = open(dir, options).unwrap();
    let stopper = host.stopper();
    let (announce, announced) = channel();
    let thread = std::thread::spawn(move || host.run(&mut Announce(announce)));
    Running {
        ready: announced.recv_timeout(PATIENCE).unwrap(),
        stopper,
        thread: Some(thread),
    }
}

impl Running {
    /// Where it listens.
    fn addr(&self) -> SocketAddr {
        self.ready.listen
    }

    /// The handle of its user.
    fn handle(&self) -> String {
        self.ready.handle.to_string()
    }

    /// Gives a command and returns its exit and answer.
    fn call(&self, name: &str, arguments: &Value) -> (Exit, Value) {
        let body = arguments.to_string();
        let len = body.len();
        let head = format!("POST /v1/{name} HTTP/1.1\r\nContent-Length: {len}\r\n");
        let (head, body) = self.exchange(&format!("{head}Connection: close\r\n\r\n{body}"));
        let exit = head
            .lines()
            .find_map(|line| line.strip_prefix("Strandline-Exit: "))
            .and_then(|exit| Exit::of_code(exit.parse().ok()?));
        (exit.unwrap(), serde_json::from_str(&body).unwrap())
    }

    /// Gives a command that is to succeed.
    fn ok(&self, name: &str, arguments: &Value) -> Value {
        let (exit, answer) = self.call(name, arguments);
        assert_eq!(exit, Exit::Ok, "{name} {arguments}: {answer}");
        answer
    }

    /// Repeats a command until its answer is as wanted.
    fn until(&self, name: &str, arguments: &Value, wanted: impl Fn(Exit, &Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (exit, answer) = self.call(name, arguments);
            if wanted(exit, &answer) {
                return answer;
            }
            assert!(Instant::now() < end, "{name} {arguments}: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends raw bytes, and returns head and body of what comes until the node closes.
    fn exchange(&self, request: &str) -> (String, String) {
        let mut socket = UnixStream::connect(&self.ready.control).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.into(), body.into())
    }

    /// Stops it as a user does.
    fn stop(mut self) {
        self.stopper.stop();
        self.join();
    }

    /// Stops it like a crash.
    fn kill(mut self) {
        self.stopper.halt();
        self.join();
    }

    /// Waits for its end.
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.halt();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// No arguments.
fn none() -> Value {
    json!({})
}
