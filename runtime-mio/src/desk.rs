//! Where commands are carried out: those that are running, and whom to answer when they end. Owns the jobs and their
//! time-outs; what an answer looks like is [`crate::answer`]'s. Invariant: every call is answered once, by its deadline at
//! the latest, unless its client went away.

use strandline_core::output::{CommandError, Event, Outcome, QueryId};
use strandline_core::time::{Instant, earliest};

use crate::answer::{Answer, Gathered, Myself, finished, refused};
use crate::command::{Call, Command};
use crate::control::ClientId;

/// How much longer than core a job may take, in ms: then it is answered with what there is.
const GRACE_MS: u64 = 1_000;

#[derive(Debug)]
struct Job {
    client: ClientId,
    command: Command,
    /// Those of its queries that have not ended.
    running: Vec<QueryId>,
    outcomes: Vec<Outcome>,
    gathered: Gathered,
    deadline: Instant,
}

/// The jobs. There are no more than clients of the control channel.
#[derive(Debug, Default)]
pub struct Desk {
    jobs: Vec<Job>,
    /// Queries that still run, whose jobs are gone: nobody's, until they end.
    orphans: Vec<QueryId>,
}

impl Desk {
    /// Takes on a call whose queries core has begun, or refused to.
    ///
    /// # Errors
    /// The answer, when core refused.
    pub fn begin(
        &mut self,
        now: Instant,
        client: ClientId,
        call: Call,
        begun: Result<Vec<QueryId>, CommandError>,
    ) -> Result<(), Answer> {
        let running = begun.map_err(|error| Answer::from(refused(&call.command, error)))?;
        self.jobs.push(Job {
            client,
            gathered: Gathered::new(&call.command),
            command: call.command,
            running,
            outcomes: Vec::new(),
            deadline: now.after_ms(call.timeout_ms.into()).after_ms(GRACE_MS),
        });
        Ok(())
    }

    /// Hears an event about a query; whether the query was begun here. Those of clients that went away are nobody's.
    pub fn on_event(&mut self, query: QueryId, event: &Event<'_>) -> bool {
        let is_last = matches!(event, Event::QueryDone { .. });
        let of_query = |job: &&mut Job| job.running.contains(&query);
        let Some(job) = self.jobs.iter_mut().find(of_query) else {
            let orphan = self.orphans.iter().position(|orphan| *orphan == query);
            if let Some(at) = orphan.filter(|_| is_last) {
                self.orphans.swap_remove(at);
            }
            return orphan.is_some();
        };
        if let Event::QueryDone { outcome, .. } = event {
            job.running.retain(|running| *running != query);
            job.outcomes.push(*outcome);
        } else {
            job.gathered.on_event(event);
        }
        true
    }

    /// A client went away: its job is dropped.
    pub fn on_gone(&mut self, client: ClientId) {
        let of_client = |job: &mut Job| job.client == client;
        for job in self.jobs.extract_if(.., of_client) {
            self.orphans.extend(job.running);
        }
    }

    /// When the next job is out of time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.jobs.iter().map(|job| Some(job.deadline));
        deadlines.fold(None, earliest)
    }

    /// The next job that has ended, or is out of time, with its answer.
    pub fn poll_answer(
        &mut self,
        now: Instant,
        me: &Myself,
        alone: bool,
    ) -> Option<(ClientId, Answer)> {
        let over = |job: &Job| job.running.is_empty() || job.deadline <= now;
        let at = self.jobs.iter().position(over)?;
        let job = self.jobs.swap_remove(at);
        self.orphans.extend(&job.running);
        Some(job.answer(me, alone))
    }

    /// Ends the next job with what there is.
    pub fn give_up(&mut self, me: &Myself, alone: bool) -> Option<(ClientId, Answer)> {
        Some(self.jobs.pop()?.answer(me, alone))
    }
}

impl Job {
    fn answer(mut self, me: &Myself, alone: bool) -> (ClientId, Answer) {
        if !self.running.is_empty() {
            self.outcomes.push(Outcome::TimedOut);
        }
        let answer = finished(&self.command, &self.gathered, &self.outcomes, me, alone);
        (self.client, answer)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use strandline_core::id::{NodeId, UserId};
    use strandline_core::name::Name;
    use strandline_core::output::Person;

    use super::*;
    use crate::failure::Exit;

    const NOW: Instant = Instant::from_s(5);
    const LATER: Instant = NOW.after_ms(250 + GRACE_MS);

    fn me() -> Myself {
        Myself {
            person: Person {
                user: UserId::ZERO,
                name: Name::parse("me").unwrap(),
            },
            node: NodeId::ZERO,
            listen: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn begin(desk: &mut Desk, client: usize, command: Command, queries: &[u64]) {
        let call = Call {
            command,
            timeout_ms: 250,
        };
        let queries = queries.iter().copied().map(QueryId).collect();
        desk.begin(NOW, ClientId::for_test(client), call, Ok(queries))
            .unwrap();
    }

    fn post() -> Command {
        Command::Post { text: "x".into() }
    }

    fn done(desk: &mut Desk, query: u64, outcome: Outcome) -> bool {
        let query = QueryId(query);
        desk.on_event(query, &Event::QueryDone { query, outcome })
    }

    fn poll(desk: &mut Desk, now: Instant) -> Option<(ClientId, Exit)> {
        let (client, answer) = desk.poll_answer(now, &me(), false)?;
        Some((client, answer.exit))
    }

    const POSTED: Outcome = Outcome::Posted { seq: 1, time_ms: 1 };

    #[test]
    fn each_client_gets_the_answer_to_its_own_call() {
        let mut desk = Desk::default();
        begin(&mut desk, 1, post(), &[10]);
        begin(&mut desk, 2, post(), &[20]);
        assert_eq!(poll(&mut desk, NOW), None);
        done(&mut desk, 20, Outcome::StorageFailed);
        assert_eq!(
            poll(&mut desk, NOW),
            Some((ClientId::for_test(2), Exit::Full))
        );
        done(&mut desk, 10, POSTED);
        assert_eq!(
            poll(&mut desk, NOW),
            Some((ClientId::for_test(1), Exit::Ok))
        );
        assert_eq!(desk.next_deadline(), None);
    }

    #[test]
    fn a_call_of_two_queries_ends_with_the_second() {
        let mut desk = Desk::default();
        begin(&mut desk, 1, Command::Export, &[10, 11]);
        done(&mut desk, 11, Outcome::Read { complete: true });
        assert_eq!(poll(&mut desk, NOW), None);
        let (count, complete) = (0, true);
        done(&mut desk, 10, Outcome::Found { count, complete });
        assert_eq!(
            poll(&mut desk, NOW),
            Some((ClientId::for_test(1), Exit::Ok))
        );
    }

    #[test]
    fn a_call_is_answered_by_its_deadline_whatever_core_does() {
        let mut desk = Desk::default();
        begin(&mut desk, 1, post(), &[10]);
        assert_eq!(desk.next_deadline(), Some(LATER));
        assert_eq!(
            poll(&mut desk, LATER),
            Some((ClientId::for_test(1), Exit::Partial))
        );
        done(&mut desk, 10, POSTED);
        assert_eq!(poll(&mut desk, LATER), None, "only once");
    }

    #[test]
    fn a_client_that_went_away_is_not_answered() {
        let mut desk = Desk::default();
        begin(&mut desk, 1, post(), &[10]);
        desk.on_gone(ClientId::for_test(1));
        assert!(done(&mut desk, 10, POSTED), "nobody else's");
        assert_eq!(poll(&mut desk, LATER), None);
    }

    #[test]
    fn queries_that_were_begun_elsewhere_are_left_to_others() {
        let mut desk = Desk::default();
        begin(&mut desk, 1, post(), &[10]);
        assert!(!done(&mut desk, 11, POSTED));
        assert!(done(&mut desk, 10, POSTED));
        assert!(!done(&mut desk, 10, POSTED), "it has ended");
        begin(&mut desk, 1, post(), &[12]);
        assert!(poll(&mut desk, LATER).is_some(), "out of time");
        assert!(done(&mut desk, 12, POSTED), "late, and nobody's");
        assert!(!done(&mut desk, 12, POSTED));
    }

    #[test]
    fn a_refused_call_is_answered_at_once() {
        let mut desk = Desk::default();
        let call = Call {
            command: post(),
            timeout_ms: 250,
        };
        let refused = Err(CommandError::TextEmpty);
        let answer = desk.begin(NOW, ClientId::for_test(1), call, refused);
        assert_eq!(answer.unwrap_err().exit, Exit::Usage);
        assert_eq!(desk.next_deadline(), None);
    }
}
