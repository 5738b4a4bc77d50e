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

    #[inline(never)] // Shorter on a board than inside its caller.
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
                Telling::Claimants => tell_claimant(now, names, handle, query),
                Telling::People if P::Uses::EVERY_COMMAND => self.tell_person(now, handle),
                Telling::OwnFollowing if P::Uses::EVERY_COMMAND => {
                    tell_followed(state, handle, query)
                }
                Telling::Profile if P::Uses::EVERY_COMMAND => {
                    query.tell(Telling::Done);
                    (query.command == Command::Whois).then(|| profile(now, state, handle, query))
                }
                // The plan tells of nobody.
                Telling::People | Telling::OwnFollowing | Telling::Profile => {
                    query.tell(Telling::Done);
                    None
                }
                Telling::Done => {
                    let outcome = query.outcome();
                    if let Some(id) = query.resolution {
                        names.release(id);
                    }
                    self.running.discard(handle);
                    if P::Uses::EVERY_COMMAND {
                        self.results.forget(handle);
                    }
                    return Some(Event::QueryDone {
                        query: id_of(handle),
                        outcome,
                    });
                }
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn tell_person(&mut self, now: Instant, handle: Handle) -> Option<Event<'static>> {
        let query = self.running.get_mut(handle)?;
        let Some((at, told)) = self.results.take_from(handle, query.at) else {
            query.tell(Telling::Profile);
            return None;
        };
        query.at = at;
        let whois = query.command == Command::Whois;
        let relation = match told.what {
            What::Follower { holds_until } if whois => {
                query.met = query.met.saturating_add(1);
                query.followers = query.followers.max(query.met);
                let remaining_ms = holds_until.since_ms(now);
                (remaining_ms > 0).then_some(Relation::Holder { remaining_ms })
            }
            What::Follower { .. } => Some(Relation::Follower),
            What::Followed { .. } => Some(Relation::Followed),
            What::Gone | What::Page => None,
        }?;
        query.count = query.count.saturating_add(u32::from(!whois));
        Some(person(handle, told.user, told.name, relation))
    }
}

/// Lists the claimants where several matter: always for whois, else when one had to be chosen or must be.
fn tell_claimant<P: Plan>(
    now: Instant,
    names: &mut Names<P>,
    handle: Handle,
    query: &mut Query,
) -> Option<Event<'static>> {
    let whois = P::Uses::EVERY_COMMAND && query.command == Command::Whois;
    let list = whois || (P::Uses::EVERY_COMMAND && query.chosen_by == ChosenBy::FirstSeen);
    let resolution = query.resolution.filter(|_| list);
    if let Some(rank) = resolution.and_then(|id| names.next_claimant(id)) {
        let relation = Relation::Claimant {
            held_ms: rank.held_ms,
            taken: rank.user == query.user && query.command != Command::Follow,
        };
        return Some(person(handle, rank.user, query.name, relation));
    }
    match query.command {
        // The end stands: it is ambiguous.
        Command::Follow => query.tell(Telling::Done),
        // A drain does not ask the DHT: the next timeout does.
        Command::Timeline => query.go_to(Stage::Reading, now.after_ms(1)),
        Command::Whois
        | Command::Followers
        | Command::Following
        | Command::Post
        | Command::Register
        | Command::Leave
        | Command::Unfollow => {
            query.end = End::Found;
            query.count = if whois { query.count.max(1) } else { 0 };
            query.tell(Telling::People);
        }
    }
    // Taken by a pin, and its claim was not found.
    let listed = resolution.is_some_and(|id| names.is_claimant(id, &query.user));
    let unlisted = whois && query.chosen_by == ChosenBy::Pin && !listed;
    let relation = Relation::Claimant {
        held_ms: 0,
        taken: true,
    };
    unlisted.then(|| person(handle, query.user, query.name, relation))
}

/// Lists whom this user follows: all, or those among whom a name is ambiguous.
fn tell_followed<P: Plan>(
    state: &State<P>,
    handle: Handle,
    query: &mut Query,
) -> Option<Event<'static>> {
    let ambiguous = query.command == Command::Unfollow;
    let relation = if ambiguous {
        Relation::Claimant {
            held_ms: 0,
            taken: false,
        }
    } else {
        Relation::Followed
    };
    let from = usize::try_from(query.at).unwrap_or(usize::MAX);
    let mut people = (from..state.people.followed_slots())
        .filter_map(|slot| Some((slot, state.people.followed_at(slot)?)));
    let next = people.find(|(_, followed)| !ambiguous || followed.name == query.name);
    let Some((slot, followed)) = next else {
        query.end(if ambiguous {
            End::Ambiguous
        } else {
            End::Found
        });
        return None;
    };
    query.at = u32::try_from(slot).unwrap_or(u32::MAX).saturating_add(1);
    query.count = query.count.saturating_add(1);
    Some(person(handle, followed.user, followed.name, relation))
}

#[inline(never)] // Called from many places: shorter on a board.
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
        person: query.person(),
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
