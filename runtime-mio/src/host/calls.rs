//! Commands of the control channel, from the call to the answer. Owns which method of the node carries out which command;
//! what an answer looks like is [`crate::answer`]'s.

use serde_json::json;
use strandline_core::name::Handle;
use strandline_core::output::{CommandError, QueryId, Recipient};
use strandline_core::time::Instant;

use super::{Application, CALLS_PER_TURN, Host};
use crate::answer::Answer;
use crate::command::{Call, Command};
use crate::control::{ClientId, Input as Request};
use crate::status::{self, View};

impl Host {
    /// Takes calls, within the limit of a turn.
    pub(super) fn take_calls(&mut self, now: Instant, application: &mut dyn Application) {
        self.control.handle_timeout(now);
        for _ in 0..CALLS_PER_TURN {
            match self.control.poll_input(now) {
                Some(Request::Call { client, name, body }) => {
                    let begun = Call::read(&name, &body)
                        .map_err(Answer::from)
                        .and_then(|call| self.begin(now, client, call));
                    if let Err(answer) = begun {
                        self.control.answer(now, client, &answer);
                    }
                    self.drain(application);
                }
                Some(Request::Gone(client)) => self.ears.desk.on_gone(client),
                None => return,
            }
        }
    }

    /// Begins a command; `Err` is the answer of one that ends at once.
    fn begin(&mut self, now: Instant, client: ClientId, call: Call) -> Result<(), Answer> {
        let within = call.timeout_ms;
        let node = &mut self.node;
        let one = |query: Result<QueryId, CommandError>| query.map(|query| vec![query]);
        let begun = match &call.command {
            Command::Post { text } => one(node.post(now, text)),
            Command::Follow { handle } => one(node.follow(now, handle, within)),
            Command::Unfollow { handle } => one(node.unfollow(now, handle, within)),
            Command::Timeline { handle, .. } => one(node.timeline(now, handle.as_ref(), within)),
            Command::Following { handle } => one(node.following(now, handle.as_ref(), within)),
            Command::Followers { handle } => one(node.followers(now, handle.as_ref(), within)),
            Command::Whois { handle } => one(node.whois(now, handle, within)),
            Command::Lookup { key, .. } => one(node.lookup(now, key.key, within)),
            Command::Put { key, value, ttl_s } => {
                one(node.put(now, key.key, value.as_bytes(), *ttl_s, within))
            }
            Command::Get { key } => one(node.get(now, key.key, within)),
            Command::Send { key, text } => {
                one(node.send(now, Recipient::Key(key.key), text.as_bytes(), within))
            }
            Command::Export => {
                let handle = Handle::of(self.me.person.name, &self.me.person.user);
                let posts = node.timeline(now, Some(&handle), within);
                posts.and_then(|posts| Ok(vec![posts, node.following(now, None, within)?]))
            }
            Command::Whoami => return Err(self.me.answer()),
            Command::Peers => return Err(status::peers(node)),
            Command::Status => return Err(self.status(now)),
            Command::Stop => {
                self.stopper.stop();
                return Err(Answer::ok(json!({ "v": 1 })));
            }
        };
        self.ears.desk.begin(now, client, call, begun)
    }

    fn status(&self, now: Instant) -> Answer {
        let (datagrams, streams) = (&self.world.datagrams, &self.world.streams);
        let view = View {
            me: &self.me,
            home: self.home.dir(),
            listen: self.ready.listen,
            network: &self.network,
            date: &self.date,
            traffic: datagrams.traffic(),
            streams: (streams.count(), streams.refusals()),
            trouble: self.ears.trouble,
        };
        status::status(now, &self.node, &view)
    }

    /// Answers the jobs that have ended; whether there were any, since a client may have sent its next call ahead.
    pub(super) fn answer(&mut self, now: Instant) -> bool {
        let mut answered = false;
        let alone = self.node.peers().next().is_none();
        while let Some((client, answer)) = self.ears.desk.poll_answer(now, &self.me, alone) {
            self.control.answer(now, client, &answer);
            answered = true;
        }
        answered
    }
}
