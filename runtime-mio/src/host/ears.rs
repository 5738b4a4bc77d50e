//! What core's events mean to the host: which of them answer a command, end one of the host's own, or are trouble. Owns
//! who waits for what; sends nothing and asks nobody.

use strandline_core::drive::{Answer, Handler};
use strandline_core::output::{CommandError, Event, Message, Outcome, QueryId};
use strandline_core::time::Instant;

use super::Application;
use crate::answer::query_of;
use crate::desk::Desk;
use crate::entrance::Entrances;
use crate::status::Trouble;

/// A command of the host's own, whose end it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    /// Not begun.
    Due,
    /// Core is at it.
    Running(QueryId),
    /// It has ended, well or not, or could not even begin.
    Over,
}

impl Errand {
    /// Begun, or refused: then it is over.
    pub(super) fn begun(what: &str, query: Result<QueryId, CommandError>) -> Self {
        match query {
            Ok(query) => Self::Running(query),
            Err(error) => {
                log::info!("cannot {what} now: {error:?}");
                Self::Over
            }
        }
    }

    /// A query ended; whether it was this one.
    fn on_done(&mut self, query: QueryId) -> bool {
        let mine = *self == Self::Running(query);
        if mine {
            *self = Self::Over;
        }
        mine
    }
}

/// What core's events mean to the host.
#[derive(Debug)]
pub(super) struct Ears {
    /// Who waits for an answer.
    pub(super) desk: Desk,
    /// The ways into the network.
    pub(super) entrances: Entrances,
    /// Making the user known.
    pub(super) registering: Errand,
    /// Saying goodbye.
    pub(super) leaving: Errand,
    /// The application was told something since it last acted.
    pub(super) told: bool,
    /// The storage has to be told that it was recovered.
    pub(super) recovered: bool,
    /// What is wrong, if anything is.
    pub(super) trouble: Option<Trouble>,
}

impl Ears {
    fn on_event(&mut self, now: Instant, event: &Event<'_>, application: &mut dyn Application) {
        if let Some(query) = query_of(event) {
            if let Event::QueryDone { outcome, .. } = event {
                if self.registering.on_done(query) || self.leaving.on_done(query) {
                    return;
                }
                let contacts = if let Outcome::Joined { contacts } = outcome {
                    *contacts
                } else {
                    0
                };
                if self.entrances.on_joined(now, query, contacts) {
                    return;
                }
            }
            if self.desk.on_event(query, event) {
                return;
            }
        } else if let Event::StorageFailed = event {
            self.trouble(Trouble::StorageFailed);
        } else if let Event::Forked = event {
            log::error!("somebody else signs with this user's key: this identity runs elsewhere");
            self.trouble(Trouble::Forked);
        } else if let Event::Recovered { next } = event {
            log::warn!("recovered from the network; the next post has number {next}");
            // 0: nobody knew a head, and the log stays closed.
            if *next > 0 {
                self.recovered = true;
                self.trouble = self
                    .trouble
                    .filter(|trouble| *trouble != Trouble::Recovering);
            }
        }
        self.told = true;
        application.on_event(*event);
    }

    /// Notes what is wrong, unless something worse is.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        self.trouble = Some(self.trouble.map_or(trouble, |worse| worse.min(trouble)));
    }
}

/// Ears for one drain.
pub(super) struct Hearing<'h> {
    pub(super) now: Instant,
    pub(super) ears: &'h mut Ears,
    pub(super) application: &'h mut dyn Application,
}

impl Handler for Hearing<'_> {
    fn on_event(&mut self, event: Event<'_>) {
        self.ears.on_event(self.now, &event, self.application);
    }

    fn on_message(&mut self, message: Message<'_>, answer: &mut Answer<'_>) {
        let text = String::from_utf8_lossy(message.bytes);
        log::info!("message from {}: {text}", message.from);
        self.ears.told = true;
        self.application.on_message(message, answer);
    }
}
