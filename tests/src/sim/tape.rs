//! A tape: every input of one node, and what came out of each drain, so that the node can be run again alone.
//!
//! This is rule 7 of core's contract: a record of all inputs (time, kind, bytes) replays a node exactly. Owns copies of
//! the inputs. The invariant: replaying into a fresh node gives the digests and deadlines on the tape, in order.

use std::net::SocketAddr;

use strandline_core::config::{Config, Identity};
use strandline_core::output::{Class, PersistId, Restored, Stored, StreamId};
use strandline_core::rng::Seed;
use strandline_core::time::Instant;

use super::node::{AnyNode, Command, Input};
use super::trace::Outputs;

/// What happened at one point of the tape.
enum Taped {
    /// Something was done to the node.
    Input(Instant, Owned),
    /// It was drained: the hash of the outputs, and the deadline.
    Drained(u64, Option<Instant>),
}

/// An [`Input`] with everything that it borrowed.
enum Owned {
    Start(Box<(Identity, Seed, Config)>),
    Clock(u64, u32),
    Restored(Class, Vec<u8>, Option<Vec<u8>>),
    RestoredAll(Restored),
    Datagram(SocketAddr, Vec<u8>),
    Timeout,
    Accept(SocketAddr),
    Opened(StreamId),
    Readable(StreamId, Vec<u8>),
    Writable(StreamId, usize),
    Closed(StreamId),
    Persisted(PersistId),
    PersistFailed(PersistId),
    Command(Box<Command>, u32),
}

/// See the file's first paragraph.
#[derive(Default)]
pub struct Tape(Vec<Taped>);

impl Tape {
    /// Records an input.
    pub fn record(&mut self, now: Instant, input: &Input<'_>) {
        self.0.push(Taped::Input(now, Owned::of(input)));
    }

    /// Records what a drain brought.
    pub fn drained(&mut self, digest: u64, deadline: Option<Instant>) {
        self.0.push(Taped::Drained(digest, deadline));
    }

    /// How many inputs are on it.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.0
            .iter()
            .filter(|taped| matches!(taped, Taped::Input(..)))
            .count()
    }

    /// Runs the tape through a node that was not started. Allocates nothing itself.
    ///
    /// # Errors
    /// At which place of the tape the node did something else.
    pub fn replay(&self, node: &mut AnyNode) -> Result<(), usize> {
        for (place, taped) in self.0.iter().enumerate() {
            match taped {
                Taped::Input(now, input) => {
                    node.apply(*now, &input.borrow());
                }
                Taped::Drained(digest, deadline) => {
                    let outputs = Outputs::default();
                    let waits = node.drain(&mut &outputs, &mut &outputs);
                    if (outputs.digest(), waits) != (*digest, *deadline) {
                        return Err(place);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Owned {
    fn of(input: &Input<'_>) -> Self {
        match input {
            Input::Start {
                identity,
                seed,
                config,
            } => Self::Start(Box::new((
                (*identity).clone(),
                (*seed).clone(),
                (*config).clone(),
            ))),
            Input::Clock {
                unix_ms,
                uncertainty_ms,
            } => Self::Clock(*unix_ms, *uncertainty_ms),
            Input::Restored(item) => Self::Restored(
                item.class,
                item.key.to_vec(),
                item.value.map(<[u8]>::to_vec),
            ),
            Input::RestoredAll(how) => Self::RestoredAll(*how),
            Input::Datagram { from, bytes } => Self::Datagram(*from, bytes.to_vec()),
            Input::Timeout => Self::Timeout,
            Input::Accept(from) => Self::Accept(*from),
            Input::Opened(stream) => Self::Opened(*stream),
            Input::Readable(stream, bytes) => Self::Readable(*stream, bytes.to_vec()),
            Input::Writable(stream, room) => Self::Writable(*stream, *room),
            Input::Closed(stream) => Self::Closed(*stream),
            Input::Persisted(id) => Self::Persisted(*id),
            Input::PersistFailed(id) => Self::PersistFailed(*id),
            Input::Command(command, within_ms) => {
                Self::Command(Box::new((*command).clone()), *within_ms)
            }
        }
    }

    fn borrow(&self) -> Input<'_> {
        match self {
            Self::Start(all) => {
                let (identity, seed, config) = &**all;
                Input::Start {
                    identity,
                    seed,
                    config,
                }
            }
            Self::Clock(unix_ms, uncertainty_ms) => Input::Clock {
                unix_ms: *unix_ms,
                uncertainty_ms: *uncertainty_ms,
            },
            Self::Restored(class, key, value) => Input::Restored(Stored {
                class: *class,
                key,
                value: value.as_deref(),
            }),
            Self::RestoredAll(how) => Input::RestoredAll(*how),
            Self::Datagram(from, bytes) => Input::Datagram { from: *from, bytes },
            Self::Timeout => Input::Timeout,
            Self::Accept(from) => Input::Accept(*from),
            Self::Opened(stream) => Input::Opened(*stream),
            Self::Readable(stream, bytes) => Input::Readable(*stream, bytes),
            Self::Writable(stream, room) => Input::Writable(*stream, *room),
            Self::Closed(stream) => Input::Closed(*stream),
            Self::Persisted(id) => Input::Persisted(*id),
            Self::PersistFailed(id) => Input::PersistFailed(*id),
            Self::Command(command, within_ms) => Input::Command(command, *within_ms),
        }
    }
}
