//! The one drain loop, shared by every runtime and the simulator.
//!
//! Owns the order in which outputs reach a host: until the node says [`Output::Wait`]. Hosts implement [`Transport`]
//! (what the node does to the world), applications [`Handler`] (what they hear) and [`Application`] (what they do).

use core::net::SocketAddr;

use crate::node::Node;
use crate::output::{
    AnswerError, Event, Message, OUTPUT_LEN_MAX, Output, PersistId, Stored, StreamId,
};
use crate::plan::Plan;
use crate::time::{Instant, earliest};

/// The host's side of the network and of storage. Nothing here answers: answers are inputs of the node, later.
pub trait Transport {
    /// Sends a datagram, or loses it.
    fn send(&mut self, to: SocketAddr, bytes: &[u8]);
    /// Begins to open a stream; `stream_opened` or `stream_closed` follows.
    fn open(&mut self, stream: StreamId, to: SocketAddr);
    /// Appends a frame to a stream; never more than the room that the host last granted.
    fn write(&mut self, stream: StreamId, bytes: &[u8]);
    /// Closes a stream once everything written was sent; the node has forgotten it already.
    fn close(&mut self, stream: StreamId);
    /// Writes or deletes an entry of storage; `persisted` follows when it is durable, `persist_failed` when it cannot be.
    fn persist(&mut self, id: PersistId, item: Stored<'_>);
}

/// The application's side: what happened.
pub trait Handler {
    /// An event; what it borrows is gone after the call.
    fn on_event(&mut self, event: Event<'_>);

    /// A message came, and may be answered now. Without this method it is an event like any other, and is
    /// acknowledged without an answer.
    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        let _ = answer;
        self.on_event(Event::Message(message));
    }
}

/// The place for the answer to a message.
pub struct Answer<'a> {
    give: &'a mut dyn FnMut(&[u8]) -> Result<(), AnswerError>,
}

impl Answer<'_> {
    /// Sends these bytes back with the acknowledgement; the last one given counts. See
    /// [`Dht::answer`](crate::dht::Dht::answer).
    ///
    /// # Errors
    /// [`AnswerError::TooLong`], [`AnswerError::Full`]; it is acknowledged without an answer then.
    pub fn give(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        (self.give)(bytes)
    }
}

/// Ignores every event.
impl Handler for () {
    fn on_event(&mut self, _event: Event<'_>) {}
}

/// A program on top of a node. It hears what happens as a [`Handler`], when the node may not be touched, and then acts.
///
/// Written for every plan, the same code runs on each runtime and in the simulator: `impl<P: Plan> Application<P> for …`.
pub trait Application<P: Plan>: Handler {
    /// Gives the node commands, if there are any to give, and says when it wants to be called again at the latest.
    ///
    /// Called after what happened was told, before the host waits; a host may call it more often than that. Results of
    /// a command are events under the id that it returned, and never come before this has returned.
    fn act(&mut self, now: Instant, node: &mut Node<P>) -> Option<Instant>;
}

/// Does nothing.
impl<P: Plan> Application<P> for () {
    fn act(&mut self, _now: Instant, _node: &mut Node<P>) -> Option<Instant> {
        None
    }
}

/// [Drains](drain) the node, lets the application act, and drains it again. Returns when to call `handle_timeout` and
/// then this: at once (`now`), if there is something new for the application to act on.
pub fn attend<P: Plan>(
    now: Instant,
    node: &mut Node<P>,
    transport: &mut impl Transport,
    application: &mut (impl Application<P> + ?Sized),
) -> Option<Instant> {
    let mut listening = Listening {
        handler: application,
        heard: false,
    };
    drain(node, transport, &mut listening);
    let again = listening.handler.act(now, node);
    listening.heard = false;
    let wake = drain(node, transport, &mut listening);
    if listening.heard {
        return Some(now);
    }
    earliest(wake, again)
}

/// Notes whether anything was heard.
struct Listening<'h, H: ?Sized> {
    handler: &'h mut H,
    heard: bool,
}

impl<H: Handler + ?Sized> Handler for Listening<'_, H> {
    fn on_event(&mut self, event: Event<'_>) {
        self.heard = true;
        self.handler.on_event(event);
    }

    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        self.heard = true;
        self.handler.on_message(message, answer);
    }
}

/// Carries out everything that `node` wants done now, and returns when it next wants `handle_timeout`.
///
/// Call it after any input (or several). It ends: one drain's outputs are bounded by the capacities of the tables.
#[inline(never)] // The buffer is to be gone from the stack when the caller goes on.
pub fn drain<P: Plan>(
    node: &mut Node<P>,
    transport: &mut impl Transport,
    handler: &mut impl Handler,
) -> Option<Instant> {
    let mut buf = [0; OUTPUT_LEN_MAX];
    loop {
        match node.poll_output(&mut buf) {
            Output::Send { to, bytes } => transport.send(to, bytes),
            Output::Open { stream, to } => transport.open(stream, to),
            Output::Write { stream, bytes } => transport.write(stream, bytes),
            Output::Close { stream } => transport.close(stream),
            Output::Persist { id, item } => transport.persist(id, item),
            Output::Event(Event::Message(message)) => {
                let give = &mut |bytes: &[u8]| node.answer(bytes);
                handler.on_message(message, &mut Answer { give });
            }
            Output::Event(event) => handler.on_event(event),
            Output::Wait(deadline) => return deadline,
        }
    }
}
