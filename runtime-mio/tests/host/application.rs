//! Programs on top of a hosted node: they give commands and hear their results, are woken, and answer messages.

use std::sync::mpsc::{Receiver, Sender, channel};

use strandline_core::crypto::Ed25519;
use strandline_core::drive::Answer;
use strandline_core::id::Key;
use strandline_core::output::{Message, Outcome, QueryId, Recipient};

use super::*;

/// Sends what it is given to the node nearest to a key, and passes on what comes back.
struct Caller {
    ready: Sender<Ready>,
    lines: Receiver<String>,
    running: Option<QueryId>,
    heard: Vec<u8>,
    told: Sender<(String, Outcome)>,
}

impl Handler for Caller {
    fn on_event(&mut self, event: Event<'_>) {
        if let Event::Answer { query, bytes, .. } = event {
            assert_eq!(self.running, Some(query), "only its own");
            self.heard = bytes.to_vec();
        } else if let Event::QueryDone { query, outcome } = event {
            assert_eq!(self.running.take(), Some(query), "only its own");
            let text = String::from_utf8(std::mem::take(&mut self.heard)).unwrap();
            self.told.send((text, outcome)).unwrap();
        }
    }
}

impl<P: Plan> drive::Application<P> for Caller {
    fn act(&mut self, now: time::Instant, node: &mut Node<P>) -> Option<time::Instant> {
        if self.running.is_none()
            && let Ok(line) = self.lines.try_recv()
        {
            let to = Recipient::Key(key());
            self.running = Some(node.send(now, to, line.as_bytes(), 5_000).unwrap());
        }
        None
    }
}

impl Application for Caller {
    fn on_ready(&mut self, ready: &Ready) {
        self.ready.send(ready.clone()).unwrap();
    }
}

/// Answers each message with itself, and its own name in front.
struct Echo(Sender<Ready>, &'static str);

impl Handler for Echo {
    fn on_event(&mut self, _event: Event<'_>) {}

    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        let text = String::from_utf8_lossy(message.bytes);
        answer
            .give(format!("{} heard {text}", self.1).as_bytes())
            .unwrap();
    }
}

impl<P: Plan> drive::Application<P> for Echo {
    fn act(&mut self, _now: time::Instant, _node: &mut Node<P>) -> Option<time::Instant> {
        None
    }
}

impl Application for Echo {
    fn on_ready(&mut self, ready: &Ready) {
        self.0.send(ready.clone()).unwrap();
    }
}

fn key() -> Key {
    Key::of_text::<Ed25519>("who answers?")
}

/// An application that acts by its own timer: so many times, 20 ms apart.
struct Ticking {
    left: u32,
    due: Option<time::Instant>,
    over: Sender<()>,
}

impl Handler for Ticking {
    fn on_event(&mut self, _event: Event<'_>) {}
}

impl<P: Plan> drive::Application<P> for Ticking {
    fn act(&mut self, now: time::Instant, _node: &mut Node<P>) -> Option<time::Instant> {
        let due = *self.due.get_or_insert(now);
        if due <= now && self.left > 0 {
            self.left -= 1;
            self.due = Some(now.after_ms(20));
            if self.left == 0 {
                self.over.send(()).unwrap();
            }
        }
        self.due.filter(|_| self.left > 0)
    }
}

impl Application for Ticking {}

#[test]
fn an_application_commands_is_woken_and_is_answered_by_another() {
    let scratch = Scratch::new();
    let (readies, ready) = channel();
    let run =
        |name: &'static str, join: &[SocketAddr], mut application: Box<dyn Application + Send>| {
            let mut host = open(&scratch.path(name), &options(name, join)).unwrap();
            let (stopper, waker) = (host.stopper(), host.waker());
            let thread = std::thread::spawn(move || host.run(&mut *application));
            let ready = ready.recv_timeout(PATIENCE).unwrap();
            let running = Running {
                ready,
                stopper,
                thread: Some(thread),
            };
            (running, waker)
        };
    let (ann, _) = run("ann", &[], Box::new(Echo(readies.clone(), "ann")));
    let (bob, _) = run("bob", &[ann.addr()], Box::new(Echo(readies.clone(), "bob")));
    let (say, lines) = channel();
    let (tell, told) = channel();
    let caller = Caller {
        ready: readies,
        lines,
        running: None,
        heard: Vec::new(),
        told: tell,
    };
    let (cat, waker) = run("cat", &[ann.addr(), bob.addr()], Box::new(caller));

    for line in ["one", "two"] {
        say.send(line.to_owned()).unwrap();
        waker.wake();
        let (answer, outcome) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(outcome, Outcome::Delivered { accepted: true });
        // Whichever is nearest answers; the caller itself does not.
        if let Some((who, what)) = answer.split_once(" heard ") {
            assert!(["ann", "bob"].contains(&who), "{who}");
            assert_eq!(what, line);
        } else {
            assert_eq!(answer, "", "taken by itself, and not answered");
        }
    }
    // A command of the control channel is not told to the application: it would panic.
    let (exit, _) = cat.call("lookup", &json!({ "key": "x" }));
    assert_eq!(exit, Exit::Ok);
    for running in [cat, bob, ann] {
        running.stop();
    }
}

#[test]
fn an_application_has_a_timer() {
    let scratch = Scratch::new();
    let (over, when_over) = channel();
    let mut host = open(&scratch.path("ann"), &options("ann", &[])).unwrap();
    let stopper = host.stopper();
    let thread = std::thread::spawn(move || {
        host.run(&mut Ticking {
            left: 5,
            due: None,
            over,
        })
    });
    when_over.recv_timeout(PATIENCE).unwrap();
    stopper.halt();
    thread.join().unwrap().unwrap();
}
