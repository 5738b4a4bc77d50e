//! What one drain of a node brings, in order: the simulator's [`Transport`] and [`Handler`].
//!
//! The two write into one list, so that their order is kept; the world carries the list out afterwards. The bound on
//! the outputs of a drain is asserted here, because nothing else could stop a drain that does not end.

use std::cell::RefCell;
use std::net::SocketAddr;

use strandline_core::drive::{Handler, Transport};
use strandline_core::output::{Class, Event, PersistId, Stored, StreamId};

use super::answers::Heard;
use super::heap;
use super::plans::Kind;
use super::trace::Outputs;

/// One output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Box<[u8]>,
    },
    /// A stream to be opened.
    Open {
        /// Its name.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Bytes for a stream.
    Write {
        /// Its name.
        stream: StreamId,
        /// What.
        bytes: Box<[u8]>,
    },
    /// A stream to be closed.
    Close {
        /// Its name.
        stream: StreamId,
    },
    /// An entry of storage.
    Persist {
        /// Its number.
        id: PersistId,
        /// The table.
        class: Class,
        /// The key.
        key: Vec<u8>,
        /// The value; `None` deletes.
        value: Option<Vec<u8>>,
    },
    /// An event.
    Heard(Heard),
}

/// Most outputs of one drain: more than all tables of the plan together could cause.
#[must_use]
pub const fn outputs_max(kind: Kind) -> usize {
    match kind {
        Kind::Board | Kind::TimelineBoard => 4_096,
        Kind::Server => 300_000,
    }
}

/// Gathers the outputs of one drain.
pub struct Gathering {
    effects: RefCell<Vec<Effect>>,
    outputs: Outputs,
    most: usize,
}

impl Gathering {
    /// An empty list for a node of `kind`.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            effects: RefCell::new(Vec::new()),
            outputs: Outputs::default(),
            most: outputs_max(kind),
        }
    }

    /// The outputs, in order.
    #[must_use]
    pub fn into_effects(self) -> Vec<Effect> {
        self.effects.into_inner()
    }

    /// The hash of all of them.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.outputs.digest()
    }

    /// Adds an output; what it takes of memory is the simulator's.
    fn push(&self, effect: impl FnOnce() -> Effect) {
        heap::on(heap::Side::Simulator, || {
            let mut effects = self.effects.borrow_mut();
            effects.push(effect());
            assert!(
                effects.len() <= self.most,
                "a drain of over {} outputs does not end",
                self.most
            );
        });
    }
}

impl Transport for &Gathering {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        (&self.outputs).send(to, bytes);
        self.push(|| Effect::Send {
            to,
            bytes: bytes.into(),
        });
    }

    fn open(&mut self, stream: StreamId, to: SocketAddr) {
        (&self.outputs).open(stream, to);
        self.push(|| Effect::Open { stream, to });
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        (&self.outputs).write(stream, bytes);
        self.push(|| Effect::Write {
            stream,
            bytes: bytes.into(),
        });
    }

    fn close(&mut self, stream: StreamId) {
        (&self.outputs).close(stream);
        self.push(|| Effect::Close { stream });
    }

    fn persist(&mut self, id: PersistId, item: Stored<'_>) {
        (&self.outputs).persist(id, item);
        self.push(|| Effect::Persist {
            id,
            class: item.class,
            key: item.key.to_vec(),
            value: item.value.map(<[u8]>::to_vec),
        });
    }
}

impl Handler for &Gathering {
    fn on_event(&mut self, event: Event<'_>) {
        (&self.outputs).on_event(event);
        self.push(|| Effect::Heard(Heard::of(event)));
    }
}
