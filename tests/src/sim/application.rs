//! Applications on simulated nodes: one's own program, in the world in which Strandline itself is tested.
//!
//! What implements [`Application`] for every plan runs here as it runs on a server or a board. Owns nothing but
//! the glue: events go to the application as they come out of the drain, then it acts, and the node is drained again.

use std::any::Any;

use strandline_core::drive::{Answer, Application, Handler};
use strandline_core::output::{Event, Message};
use strandline_core::time::Instant;

use super::effects::Gathering;
use super::node::{AnyNode, OfPlan};
use super::plans::{
    ChordBoard, ChordServer, RealBoard, RealServer, SimBoard, SimChordBoard, SimChordServer,
    SimNarrowServer, SimServer, SimTimelineBoard,
};

/// An application for a node of any plan. Nothing implements it by hand: every [`Application`] that is written for
/// all plans is one.
pub trait AnyApplication: Handler + Any {
    /// See [`Application::act`].
    fn act_on(&mut self, now: Instant, node: &mut AnyNode) -> Option<Instant>;
}

impl<A> AnyApplication for A
where
    A: Application<RealBoard>
        + Application<RealServer>
        + Application<SimBoard>
        + Application<SimTimelineBoard>
        + Application<SimServer>
        + Application<ChordBoard>
        + Application<ChordServer>
        + Application<SimChordBoard>
        + Application<SimChordServer>
        + Application<SimNarrowServer>
        + Any,
{
    fn act_on(&mut self, now: Instant, node: &mut AnyNode) -> Option<Instant> {
        match node.of_plan_mut() {
            OfPlan::Board(node) => self.act(now, node),
            OfPlan::Server(node) => self.act(now, node),
            OfPlan::SimBoard(node) => self.act(now, node),
            OfPlan::SimTimelineBoard(node) => self.act(now, node),
            OfPlan::SimServer(node) => self.act(now, node),
            OfPlan::ChordBoard(node) => self.act(now, node),
            OfPlan::ChordServer(node) => self.act(now, node),
            OfPlan::SimChordBoard(node) => self.act(now, node),
            OfPlan::SimChordServer(node) => self.act(now, node),
            OfPlan::SimNarrowServer(node) => self.act(now, node),
        }
    }
}

/// Hears for the world and for the application.
pub(super) struct Hearing<'h> {
    gathering: &'h Gathering,
    application: &'h mut dyn AnyApplication,
    /// Whether the application was told anything.
    pub(super) told: bool,
}

impl<'h> Hearing<'h> {
    pub(super) fn new(gathering: &'h Gathering, application: &'h mut dyn AnyApplication) -> Self {
        Self {
            gathering,
            application,
            told: false,
        }
    }
}

impl Handler for Hearing<'_> {
    fn on_event(&mut self, event: Event<'_>) {
        let mut gathering = self.gathering;
        gathering.on_event(event);
        self.told = true;
        self.application.on_event(event);
    }

    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        let mut gathering = self.gathering;
        gathering.on_event(Event::Message(message));
        self.told = true;
        self.application.on_message(message, answer);
    }
}
