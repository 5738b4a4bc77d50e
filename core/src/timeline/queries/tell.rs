//! What the host is told about a command, one event at a time.

use super::*;
use crate::output::{Event, Person, Relation};

impl<P: Plan> Queries<P> {
    /// The next event of the commands: what they found, then how they ended. After its `QueryDone` a command is forgotten.
    pub fn poll_event(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
    ) -> Option<Event<'static>> {
        let mut at = 0;
        loop {
            let handle = self.running.first_from(at)?;
            at = handle.index().saturating_add(1);
            if let Some(event) = self.tell(now, state, names, handle) {
                return Some(event);
            }
        }
    }

    fn tell(
        &mut self,
        now: Instant,
        state: &State<P>,
        names: &mut Names<P>,
        handle: Handle,
    ) -> Option<Event<'static>> {
        loop {
            let query = self.running.get_mut(handle)?;
            let Stage::Telling(telling) = query.stage else {
                return None;
            };
            let event = match telling {
                Telling::Claimants(last) => tell_claimant(now, names, handle, query, last),
                Telling::People(from) => self.tell_person(now, handle, from),
                Telling::OwnFollowing(from) => tell_followed(state, handle, query, from),
                Telling::Profile => {
                    query.stage = Stage::Telling(Telling::Done);
                    (query.command == Command::Whois).then(|| profile(now, state, handle, query))
                }
                Telling::Done => {
                    let query = self.running.remove(handle)?;
                    if let Some(id) = query.resolution {
                        names.release(id);
                    }
                    self.results.forget(handle);
                    return Some(Event::QueryDone {
                        query: id_of(handle),
                        outcome: query.outcome,
                    });
                }
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn tell_person(&mut self, now: Instant, handle: Handle, from: usize) -> Option<Event<'static>> {
        let found = self.results.take_from(handle, from);
        let query = self.running.get_mut(handle)?;
        let Some((at, told)) = found else {
            if query.command != Command::Whois {
                query.outcome = Outcome::Found {
                    count: query.count,
                    complete: query.complete,
                };
            }
            query.stage = Stage::Telling(Telling::Profile);
            return None;
        };
        query.stage = Stage::Telling(Telling::People(at));
        let relation = match told.what {
            What::Follower { holds_until } if query.command == Command::Whois => {
                let remaining_ms = holds_until.since_ms(now);
                (remaining_ms > 0).then_some(Relation::Holder { remaining_ms })
            }
            What::Follower { .. } => Some(Relation::Follower),
            What::Followed { .. } => Some(Relation::Followed),
            What::Gone | What::Page => None,
        }?;
        if query.command != Command::Whois {
            query.count = query.count.saturating_add(1);
        }
        Some(person(handle, told.user, told.name, relation))
    }
}

/// Lists the claimants where several matter: always for whois, else when one had to be chosen or must be.
fn tell_claimant<P: Plan>(
    now: Instant,
    names: &Names<P>,
    handle: Handle,
    query: &mut Query,
    last: Option<Rank>,
) -> Option<Event<'static>> {
    let whois = query.command == Command::Whois;
    let list = whois || query.chosen_by == ChosenBy::FirstSeen;
    let resolution = query.resolution.filter(|_| list);
    let next = resolution.and_then(|id| names.next_claimant(id, last));
    if let Some(rank) = next {
        query.stage = Stage::Telling(Telling::Claimants(Some(rank)));
        let relation = Relation::Claimant {
            held_ms: rank.held_ms,
            taken: rank.user == query.user && query.command != Command::Follow,
        };
        return Some(person(handle, rank.user, query.name, relation));
    }
    if query.command == Command::Follow {
        // The outcome stands: it is ambiguous.
        query.stage = Stage::Telling(Telling::Done);
        return None;
    }
    if query.command == Command::Timeline {
        // A drain does not ask the DHT: the next timeout does.
        query.stage = Stage::Reading(now.after_ms(1));
        return None;
    }
    query.stage = Stage::Telling(Telling::People(0));
    if whois {
        query.outcome = Outcome::Found {
            count: query.count.max(1),
            complete: query.complete,
        };
        // Taken by a pin, and its claim was not found.
        let unlisted = query.chosen_by == ChosenBy::Pin
            && last.is_none_or(|_| {
                let first = resolution.and_then(|id| names.next_claimant(id, None));
                first.is_none_or(|first| first.user != query.user)
            });
        let relation = Relation::Claimant {
            held_ms: 0,
            taken: true,
        };
        return unlisted.then(|| person(handle, query.user, query.name, relation));
    }
    query.count = 0;
    None
}

/// Lists whom this user follows: all, or those among whom a name is ambiguous.
fn tell_followed<P: Plan>(
    state: &State<P>,
    handle: Handle,
    query: &mut Query,
    from: usize,
) -> Option<Event<'static>> {
    let ambiguous = query.command == Command::Unfollow;
    let mut at = from;
    while let Some((slot, followed)) = state.people.followed_from(at) {
        at = slot.saturating_add(1);
        query.stage = Stage::Telling(Telling::OwnFollowing(at));
        if ambiguous && followed.name != query.name {
            continue;
        }
        query.count = query.count.saturating_add(1);
        let relation = if ambiguous {
            Relation::Claimant {
                held_ms: 0,
                taken: false,
            }
        } else {
            Relation::Followed
        };
        return Some(person(handle, followed.user, followed.name, relation));
    }
    let outcome = if ambiguous {
        Outcome::Ambiguous
    } else {
        Outcome::Found {
            count: query.count,
            complete: true,
        }
    };
    query.end(outcome);
    None
}

fn person(handle: Handle, user: UserId, name: Name, relation: Relation) -> Event<'static> {
    Event::Person {
        query: id_of(handle),
        person: Person { user, name },
        relation,
    }
}

fn profile<P: Plan>(
    now: Instant,
    state: &State<P>,
    handle: Handle,
    query: &Query,
) -> Event<'static> {
    let mine = query.user == state.me.user();
    let followers = u32::try_from(state.people.followers_len()).unwrap_or(u32::MAX);
    Event::Profile {
        query: id_of(handle),
        person: Person {
            user: query.user,
            name: query.name,
        },
        chosen_by: query.chosen_by,
        addr: if mine { state.address } else { query.address },
        online: mine || (now < query.lease_until && !query.missed),
        last: if mine {
            state.log.durable()
        } else {
            query.last
        },
        followers: if mine { followers } else { query.followers },
    }
}
