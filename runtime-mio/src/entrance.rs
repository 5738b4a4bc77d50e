//! Ways into the network: the nodes that the user named to join through. Owns when each is tried and when it is tried
//! again; resolving names is [`crate::resolve`]'s, joining is core's.

use std::net::SocketAddr;

use strandline_core::output::QueryId;
use strandline_core::time::{Instant, earliest};

/// How long one attempt may take, in ms; also how long `ready` waits for the first.
pub const WITHIN_MS: u32 = 5_000;
/// How long to wait after the first attempt that failed, in ms; it doubles up to [`RETRY_MAX_MS`].
const RETRY_MIN_MS: u64 = 5_000;
/// Longest time between attempts, in ms.
const RETRY_MAX_MS: u64 = 5 * 60_000;

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// To be tried at this time.
    Due(Instant),
    /// Its name is being resolved.
    Resolving,
    /// Core is joining through its addresses.
    Joining(Vec<QueryId>),
    /// It let us in.
    Open,
}

/// A node to join through.
#[derive(Clone, Debug)]
struct Entrance {
    name: String,
    state: State,
    retry_ms: u64,
    tried: bool,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Entrances(Vec<Entrance>);

impl Entrances {
    /// To be tried at once, in turn.
    #[must_use]
    pub fn new(now: Instant, names: &[String]) -> Self {
        let entrance = |name: &String| Entrance {
            name: name.clone(),
            state: State::Due(now),
            retry_ms: RETRY_MIN_MS,
            tried: false,
        };
        Self(names.iter().map(entrance).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the first attempts are over: one succeeded, or all have ended.
    #[must_use]
    pub fn settled(&self) -> bool {
        let open = |entrance: &Entrance| entrance.state == State::Open;
        self.0.iter().any(open) || self.0.iter().all(|entrance| entrance.tried)
    }

    /// When the next attempt is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = |entrance: &Entrance| match entrance.state {
            State::Due(at) => Some(at),
            State::Resolving | State::Joining(_) | State::Open => None,
        };
        self.0.iter().map(due).fold(None, earliest)
    }

    /// The next name to resolve now.
    pub fn poll_due(&mut self, now: Instant) -> Option<String> {
        let due = |entrance: &&mut Entrance| matches!(entrance.state, State::Due(at) if at <= now);
        let entrance = self.0.iter_mut().find(due)?;
        entrance.state = State::Resolving;
        Some(entrance.name.clone())
    }

    /// A name was resolved, or could not be: `join` begins to join through an address.
    pub fn on_resolved(
        &mut self,
        now: Instant,
        name: &str,
        addresses: Result<Vec<SocketAddr>, String>,
        mut join: impl FnMut(SocketAddr) -> Option<QueryId>,
    ) {
        let resolving = |e: &&mut Entrance| e.name == name && e.state == State::Resolving;
        let Some(entrance) = self.0.iter_mut().find(resolving) else {
            return;
        };
        match addresses {
            Ok(addresses) => {
                let queries: Vec<_> = addresses.into_iter().filter_map(&mut join).collect();
                if queries.is_empty() {
                    entrance.fail(now, "it has no address that this node can reach");
                } else {
                    entrance.state = State::Joining(queries);
                }
            }
            Err(why) => entrance.fail(now, &why),
        }
    }

    /// An attempt ended with so many contacts known; whether it was one of these.
    pub fn on_joined(&mut self, now: Instant, query: QueryId, contacts: u32) -> bool {
        for entrance in &mut self.0 {
            let State::Joining(queries) = &mut entrance.state else {
                continue;
            };
            let Some(at) = queries.iter().position(|of| *of == query) else {
                continue;
            };
            queries.swap_remove(at);
            if contacts > 0 {
                log::info!("joined through {}: {contacts} contacts", entrance.name);
                entrance.state = State::Open;
                entrance.tried = true;
            } else if queries.is_empty() {
                entrance.fail(now, "it does not answer");
            }
            return true;
        }
        false
    }
}

impl Entrance {
    fn fail(&mut self, now: Instant, why: &str) {
        let retry_s = self.retry_ms / 1000;
        if self.tried {
            log::info!("cannot join through {}: {why}", self.name);
        } else {
            let name = &self.name;
            log::warn!("cannot join through {name}: {why}; trying again in {retry_s} s");
        }
        self.tried = true;
        self.state = State::Due(now.after_ms(self.retry_ms));
        self.retry_ms = self.retry_ms.saturating_mul(2).min(RETRY_MAX_MS);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const NOW: Instant = Instant::from_s(9);

    fn entrances(names: &[&str]) -> Entrances {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        Entrances::new(NOW, &names)
    }

    fn addr() -> SocketAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn one_that_opens_is_left_alone_and_settles_all() {
        let mut all = entrances(&["a:1", "b:1"]);
        assert!(!all.settled());
        assert_eq!(all.poll_due(NOW).as_deref(), Some("a:1"));
        assert_eq!(all.poll_due(NOW).as_deref(), Some("b:1"));
        assert_eq!(all.poll_due(NOW), None);
        all.on_resolved(NOW, "b:1", Ok(vec![addr()]), |_| Some(QueryId(7)));
        assert!(!all.on_joined(NOW, QueryId(8), 1));
        assert!(all.on_joined(NOW, QueryId(7), 1));
        assert!(all.settled());
        assert!(!all.on_joined(NOW, QueryId(7), 1), "only once");
        assert_eq!(all.next_deadline(), None);
    }

    #[test]
    fn one_that_fails_is_tried_again_ever_later() {
        let mut all = entrances(&["a:1"]);
        let mut now = NOW;
        for pause_s in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(all.poll_due(now).as_deref(), Some("a:1"));
            all.on_resolved(now, "a:1", Ok(vec![addr(), addr()]), {
                let mut next = 0;
                move |_| {
                    next += 1;
                    Some(QueryId(next))
                }
            });
            all.on_joined(now, QueryId(1), 0);
            assert_eq!(all.next_deadline(), None, "one address is left");
            all.on_joined(now, QueryId(2), 0);
            assert!(all.settled());
            assert_eq!(all.next_deadline(), Some(now.after_s(pause_s)));
            now = now.after_s(pause_s);
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_or_cannot_be_reached_is_a_failure() {
        for addresses in [Err("no such host".into()), Ok(Vec::new()), Ok(vec![addr()])] {
            let mut all = entrances(&["a:1"]);
            all.poll_due(NOW);
            all.on_resolved(NOW, "a:1", addresses, |_| None);
            assert!(all.settled());
            assert_eq!(all.next_deadline(), Some(NOW.after_ms(RETRY_MIN_MS)));
        }
    }

    #[test]
    fn nothing_to_join_is_settled() {
        assert!(entrances(&[]).settled());
        assert!(entrances(&[]).is_empty());
    }
}
