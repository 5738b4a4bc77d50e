//! Finding copies of the posts of those who cannot be reached.
//!
//! Owns the searches of a read: from the DHT who follows the person and what they hold, then one holder after the
//! other. As many people are searched for at a time as the fan-out says. The order: whom the person's last head names,
//! whose record says that it holds the posts, the longest first, then other followers. The copy kept here is shown
//! after what holders add to it. Invariant: a search asks at most [`CANDIDATES`] holders.

use crate::addr::{PackedAddr, is_usable_contact};
use crate::bounded::{Handle, List, sort_by};
use crate::id::prefix64;
use crate::name::Name;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::frame::{Frame, GetStored, Unreached};
use crate::wire::record::{Follow, HEAD_HOLDERS_MAX, Head, Record};

use super::super::exchange::Exchange;
use super::super::log::LOG;
use super::super::state::State;
use super::super::streams::{Role, Taken};
use super::super::tree::Piece;
use super::course::Phase;
use super::{Read, Stage};

/// Most holders that are asked for the posts of one person.
pub const CANDIDATES: usize = 5;

/// The first 64 bits of a user's id: to compare, not to prove anything.
type Short = u64;

/// Somebody who may hold copies.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    user: Short,
    name: Name,
    addr: PackedAddr,
    /// For how much longer it holds the posts by its own word, in ms; 0: it says nothing.
    holds_ms: u32,
}

/// What a search is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    /// Waits for the DHT to take its question.
    Wishing,
    /// Waits for the DHT's answer under this tag.
    LookingUp(u32),
    /// Is ready to ask the next candidate.
    Choosing,
    /// Asks one.
    Asking(Handle, Name),
}

/// The search for copies of one person's posts.
#[derive(Clone, Debug)]
pub struct Search {
    at: u16,
    why: Unreached,
    doing: Doing,
    /// A holder sent everything.
    found: bool,
    /// The best first, then empty places; those asked are gone.
    candidates: [Option<Candidate>; CANDIDATES],
    /// Whom the person's newest head names.
    named: [Short; HEAD_HOLDERS_MAX],
    head_sequence: u64,
}

impl Search {
    const fn new(at: u16, why: Unreached) -> Self {
        Self {
            at,
            why,
            doing: Doing::Wishing,
            found: false,
            candidates: [None; CANDIDATES],
            named: [0; HEAD_HOLDERS_MAX],
            head_sequence: 0,
        }
    }

    /// The stream to the holder that is being asked.
    #[must_use]
    pub const fn stream(&self) -> Option<Handle> {
        match self.doing {
            Doing::Asking(stream, _) => Some(stream),
            Doing::Wishing | Doing::LookingUp(_) | Doing::Choosing => None,
        }
    }

    /// The name of the holder that is being asked.
    #[must_use]
    pub const fn holder(&self) -> Option<Name> {
        match self.doing {
            Doing::Asking(_, name) => Some(name),
            Doing::Wishing | Doing::LookingUp(_) | Doing::Choosing => None,
        }
    }

    /// The holder has sent everything that was asked for.
    pub fn on_found(&mut self) {
        self.found = true;
    }

    fn rank(&self, candidate: &Candidate) -> (bool, u32) {
        (self.named.contains(&candidate.user), candidate.holds_ms)
    }

    /// The best first, empty places last.
    fn sort(&mut self) {
        let mut candidates = self.candidates;
        let key = |place: &Option<Candidate>| place.as_ref().map(|c| (self.rank(c), c.user));
        sort_by(&mut candidates, |a, b| key(b).cmp(&key(a)));
        self.candidates = candidates;
    }

    /// Takes a candidate in, in the place of what was known of the same one; the least likely falls out.
    fn add(&mut self, candidate: Candidate) {
        for place in &mut self.candidates {
            if place.is_some_and(|held| held.user == candidate.user) {
                *place = None;
            }
        }
        self.sort();
        let better = |place: &Option<Candidate>| {
            place.is_none_or(|last| self.rank(&candidate) > self.rank(&last))
        };
        let better = self.candidates.last().is_some_and(better);
        if let Some(place) = self.candidates.last_mut().filter(|_| better) {
            *place = Some(candidate);
        }
    }

    /// Takes the best candidate out.
    fn choose(&mut self) -> Option<Candidate> {
        self.sort();
        self.candidates.first_mut()?.take()
    }
}

impl<P: Plan> Read<P> {
    /// A search that asks the DHT from now on under `tag`.
    pub(super) fn begin_search(&mut self, tag: u32) -> Option<u16> {
        let search = self
            .searches
            .iter_mut()
            .find(|search| search.doing == Doing::Wishing)?;
        search.doing = Doing::LookingUp(tag);
        Some(search.at)
    }

    /// The DHT has answered a search.
    pub(super) fn search_looked_up(&mut self, tag: u32) {
        if let Some(search) = self.by_tag(tag) {
            search.doing = Doing::Choosing;
        }
    }

    /// For whose posts holders are looked up under a tag.
    pub(super) fn search_of(&mut self, tag: u32) -> Option<u16> {
        self.by_tag(tag).map(|search| search.at)
    }

    fn by_tag(&mut self, tag: u32) -> Option<&mut Search> {
        self.searches
            .iter_mut()
            .find(|search| search.doing == Doing::LookingUp(tag))
    }

    /// The search for a person's copies.
    pub(super) fn search(&mut self, at: u16) -> Option<&mut Search> {
        self.searches.iter_mut().find(|search| search.at == at)
    }

    /// Takes a `Follow` record about the person: its author may hold copies.
    pub(super) fn on_follow(&mut self, tag: u32, record: &Record<'_>, remaining_ms: u64) {
        let (Some(search), Ok(follow)) = (self.by_tag(tag), record.payload::<Follow>()) else {
            return;
        };
        let usable = follow
            .address
            .to_socket_addr()
            .is_some_and(is_usable_contact);
        if !follow.following || !usable {
            return;
        }
        let age_ms = u64::from(record.lifetime_ms).saturating_sub(remaining_ms);
        let age_ms = u32::try_from(age_ms).unwrap_or(u32::MAX);
        search.add(Candidate {
            user: prefix64(record.author.as_bytes()),
            name: follow.name,
            addr: follow.address,
            holds_ms: follow.holds_ms.saturating_sub(age_ms),
        });
    }

    /// Takes the person's head: it names holders.
    pub(super) fn on_head(&mut self, tag: u32, record: &Record<'_>) {
        let (Some(search), Ok(head)) = (self.by_tag(tag), record.payload::<Head<'_>>()) else {
            return;
        };
        if record.page != LOG || record.sequence < search.head_sequence {
            return;
        }
        search.head_sequence = record.sequence;
        search.named = [0; HEAD_HOLDERS_MAX];
        for (place, (user, _)) in search.named.iter_mut().zip(head.holders()) {
            *place = prefix64(user.as_bytes());
        }
    }

    /// The first person whose copies nobody has looked for yet; those for whom that was done are settled.
    fn next_lacking(&mut self) -> Option<(u16, Unreached, bool)> {
        (0_u16..)
            .zip(self.readings.iter())
            .find_map(|(at, reading)| match reading.stage {
                Stage::Lacking(why) => Some((at, why, reading.searched)),
                Stage::Unknown
                | Stage::Looking
                | Stage::Ready
                | Stage::Asking
                | Stage::Searching(_)
                | Stage::Showing { .. }
                | Stage::Missing(_)
                | Stage::Over => None,
            })
    }
}

impl<P: Plan> Exchange<P> {
    /// Begins searches as far as there is room, and lets those go on that are ready.
    pub(super) fn step_searches(&mut self, now: Instant, state: &State<P>, handle: Handle) {
        let width = usize::from(state.me.fanout().max(1));
        while let Some(read) = self.reads.get_mut(handle) {
            let Some((at, why, searched)) = read.next_lacking() else {
                break;
            };
            if searched {
                let Some(user) = self.user_at(handle, at) else {
                    break;
                };
                if let Some(read) = self.reads.get_mut(handle) {
                    read.settle_with_copy(now, state, (at, &user), why);
                }
                continue;
            }
            if read.searches.len() >= width || read.searches.push(Search::new(at, why)).is_err() {
                break;
            }
            if let Some(reading) = read.reading(at) {
                (reading.searched, reading.stage) = (true, Stage::Searching(why));
            }
        }
        let mut index = 0;
        while let Some(search) = self
            .reads
            .get_mut(handle)
            .and_then(|read| read.searches.get_mut(index))
        {
            if search.doing != Doing::Choosing {
                index += 1;
                continue;
            }
            let Some(candidate) = (if search.found { None } else { search.choose() }) else {
                self.end_search(now, state, handle, index);
                continue;
            };
            let role = Role::Holder {
                read: handle,
                at: search.at,
                asked: false,
            };
            if let Ok(stream) = self.streams.open(now, candidate.addr, role) {
                search.doing = Doing::Asking(stream, candidate.name);
            } else {
                // As soon as a stream is free.
                search.add(candidate);
                self.reads.wake_up();
                return;
            }
        }
    }

    /// Nobody is left to ask, or a holder has sent all.
    fn end_search(&mut self, now: Instant, state: &State<P>, handle: Handle, index: usize) {
        let Some(read) = self.reads.get_mut(handle) else {
            return;
        };
        let Some(search) = read.searches.remove(index) else {
            return;
        };
        let job = self.tree.job_mut(read.job);
        let user = job.and_then(|job| Some(job.targets().get(usize::from(search.at))?.user));
        let Some(user) = user else { return };
        read.settle_with_copy(now, state, (search.at, &user), search.why);
        let (job, late) = (read.job, read.phase == Phase::Holders);
        let Some(reading) = read.reading(search.at) else {
            return;
        };
        let Stage::Missing(why) = reading.stage else {
            return;
        };
        if search.found {
            // There are no posts to show, but that much is known.
            reading.stage = Stage::Over;
        } else if why == Unreached::Offline
            && !late
            && let Some(job) = self.tree.job_mut(job)
            && job.ask_directly(usize::from(search.at))
        {
            // Others only said that it is gone.
            reading.stage = Stage::Asking;
        }
    }

    /// Writes the question to a holder.
    pub(in super::super) fn write_get_stored(
        &self,
        state: &State<P>,
        (read, at): (Handle, u16),
        room: usize,
        buf: &mut [u8],
    ) -> Option<usize> {
        let author = self.user_at(read, at)?;
        let since = state.copies.since(self.now, &state.posts, &author);
        let get = GetStored {
            author,
            log: LOG,
            since,
            limit: P::READ_POSTS_MAX,
        };
        Self::fit(state, &Frame::GetStored(get), room, buf)
    }

    /// A frame from a holder.
    #[inline(never)] // As `handle_frame`.
    pub(in super::super) fn handle_copy(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        stream: Handle,
        about: (Handle, u16),
        frame: &Frame<'_>,
    ) -> Taken {
        let Some(piece) = Piece::of(frame) else {
            return match frame {
                Frame::Working => Taken::Yes,
                Frame::End | Frame::Refused { .. } => {
                    self.streams.close(stream);
                    self.lose_holder(about);
                    Taken::Gone
                }
                Frame::Follow { .. }
                | Frame::Unfollow { .. }
                | Frame::Get(_)
                | Frame::Target(_)
                | Frame::GetStored(_)
                | Frame::Head { .. }
                | Frame::Post { .. }
                | Frame::Done { .. }
                | Frame::Deleted { .. } => Taken::Broke(Rule::OutOfTurn),
            };
        };
        self.read_copy(now, state, stream, about, &piece)
    }

    /// A holder is gone, with or without having sent everything.
    pub(in super::super) fn lose_holder(&mut self, (read, at): (Handle, u16)) {
        if let Some(search) = self.reads.get_mut(read).and_then(|read| read.search(at)) {
            search.doing = Doing::Choosing;
        }
        self.reads.wake_up();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn candidate(user: Short, holds_ms: u32) -> Candidate {
        let name = Name::parse("holder").unwrap();
        Candidate {
            user,
            name,
            addr: PackedAddr::NONE,
            holds_ms,
        }
    }

    fn order(search: &mut Search) -> [Option<Short>; CANDIDATES + 1] {
        core::array::from_fn(|_| search.choose().map(|candidate| candidate.user))
    }

    #[test]
    fn holders_are_asked_named_ones_first_then_by_how_long_they_hold() {
        let mut search = Search::new(0, Unreached::Offline);
        for (user, holds_ms) in [(1, 10), (2, 0), (3, 30), (4, 20)] {
            search.add(candidate(user, holds_ms));
        }
        search.named = [2, 0, 0, 0];
        assert_eq!(
            order(&mut search),
            [Some(2), Some(3), Some(4), Some(1), None, None]
        );
    }

    #[test]
    fn the_least_likely_of_too_many_falls_out() {
        let mut search = Search::new(0, Unreached::Offline);
        for user in 1..=9 {
            search.add(candidate(user, u32::try_from(user).unwrap()));
        }
        for user in 1..=3 {
            search.add(candidate(user, 0));
        }
        assert_eq!(
            order(&mut search),
            [Some(9), Some(8), Some(7), Some(6), Some(5), None]
        );
    }

    #[test]
    fn a_holder_counts_once() {
        let mut search = Search::new(0, Unreached::Offline);
        for holds_ms in [5, 0, 9] {
            search.add(candidate(1, holds_ms));
        }
        search.add(candidate(2, 7));
        assert_eq!(
            order(&mut search),
            [Some(1), Some(2), None, None, None, None]
        );
    }
}
