//! Reading: the `timeline` command and the periodic refresh.
//!
//! Owns the reads under way: for each person, how far reading has come and what was shown. Who is asked through whom
//! is the tree's business, what is kept that of [`super::copies`]. [`course`] takes a read through its phases,
//! [`answers`] verifies what comes, [`holders`] finds copies of those who cannot be reached, [`show`] turns it all into
//! events.
//!
//! A read goes `Looking` (profiles from the DHT) - `Tree` - `Direct` (those whom the tree did not reach, asked from here)
//! - `Holders` - gone, each part with its share of the time; and each person in it
//! ```text
//!  Unknown -> Looking -> Ready -> Asking --answered--> Showing ------------> Over
//!                                 ^   |                  ^                    ^
//!                                 |   +--not reached--> Lacking -> Searching  |
//!                                 |                                  |  |     |
//!                                 +------- not asked yet ------------+  +--> Missing
//! ```
//! A refresh is the same without events. The people of a read are the targets of its job, by the same number.
//!
//! Invariants: a post is shown only if its author's signed head vouches for it, and once in a read; a copy is shown only
//! while it may be kept; every read ends by its deadline, with each person read or named as missing.

pub mod answers;
pub mod course;
pub mod holders;
pub mod show;

use crate::addr::PackedAddr;
use crate::bounded::{Handle, List, Slab};
use crate::dht::Verified;
use crate::id::{Key, UserId};
use crate::output::{Busy, Person, QueryId};
use crate::plan::Plan;
use crate::time::{Deadline, Instant};
use crate::wire::frame::Unreached;
use crate::wire::record::{Kind, Kinds, Record, Sighting};

use super::asks::{Ask, Asking};
use super::chain::Chain;
use super::exchange::Exchange;
use super::people::lease_left_ms;
use super::posts::{PostId, RecordId};
use super::soonest;
use super::state::State;
use super::tags::{self, Part};
use super::tree::Job;
use super::tree::relay::usable_address;
use super::tree::target::{Request, Target, Up};

use course::Phase;
pub use holders::Search;
pub use show::Shown;

/// What is read about a person who is to be asked.
const LOOKUP_KINDS: Kinds = Kinds::of(&[Kind::Profile, Kind::Sighting]);
/// What is read about a person whose holders are to be asked.
const SEARCH_KINDS: Kinds = Kinds::of(&[Kind::Follow, Kind::Head]);

/// Whose posts are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everyone followed, and oneself.
    Everyone,
    /// One person, followed or not.
    One(Person),
}

/// How far reading a person has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing is known, and nobody was asked yet.
    Unknown,
    /// The DHT is asked for its profile.
    Looking,
    /// Whatever can be known is known.
    Ready,
    /// The job asks.
    Asking,
    /// It was not reached: somebody may have copies.
    Lacking(Unreached),
    /// Copies are being looked for.
    Searching(Unreached),
    /// Posts kept here are being shown.
    Showing {
        /// The author confirmed them in this read; else they are a copy.
        live: bool,
    },
    /// It could not be read; the application does not know yet.
    Missing(Unreached),
    /// Done.
    Over,
}

/// How far reading one person has come.
#[derive(Clone, Debug)]
pub struct Reading {
    stage: Stage,
    /// Copies were looked for already.
    searched: bool,
    /// What the source at hand must send next.
    chain: Chain,
    /// The head of the source at hand was confirmed since the read began, as far as clocks tell.
    fresh: bool,
    /// This child of the job passed on something wrong about this person: the rest is ignored.
    spoiled: Option<u8>,
    /// The lowest post shown; 0: none.
    low: u64,
    /// How many posts may still be shown.
    left: u16,
    /// The next post kept here to be shown.
    cursor: PostId,
}

impl Reading {
    const fn new(known: bool, left: u16) -> Self {
        Self {
            stage: if known { Stage::Ready } else { Stage::Unknown },
            searched: false,
            chain: Chain {
                expect_seq: 0,
                expect_hash: [0; 32],
                after_gap: false,
            },
            fresh: false,
            spoiled: None,
            low: 0,
            left,
            cursor: PostId::NONE,
        }
    }
}

/// What is known of a person who is read but not followed.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    sequence: u64,
    address: PackedAddr,
    lease_until: Instant,
}

impl Stranger {
    fn learn(&mut self, now: Instant, record: &Record<'_>, remaining_ms: u64) {
        let Ok(profile) = record.payload() else {
            return;
        };
        if record.sequence >= self.sequence {
            self.sequence = record.sequence;
            self.address = usable_address(&profile);
            self.lease_until = now.after_ms(lease_left_ms(record, &profile, remaining_ms));
        }
    }
}

/// A profile that a read waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// Under which the DHT was asked.
    tag: u32,
    /// Whose profile.
    at: u16,
}

/// One read.
pub struct Read<P: Plan> {
    /// Whom to tell; `None`: a refresh.
    query: Option<QueryId>,
    scope: Scope,
    started: Instant,
    deadline: Instant,
    phase: Phase,
    job: Handle,
    stranger: Stranger,
    /// The next own post to be shown.
    own: PostId,
    /// Somebody could not be read.
    incomplete: bool,
    readings: P::Readings,
    lookups: P::Lookups,
    searches: P::Searches,
}

/// The reads of a node.
pub struct Reads<P: Plan> {
    reads: Slab<Read<P>, P::Reads>,
    /// When everyone is read again unasked.
    refresh: Deadline,
    /// Tells what is asked of the DHT apart.
    serial: u32,
    /// Something changed that a read may have to act on.
    restless: bool,
    /// There may be something to tell.
    telling: bool,
}

impl<P: Plan> Reads<P> {
    /// No reads.
    pub const EMPTY: Self = Self {
        reads: Slab::EMPTY,
        refresh: Deadline::NEVER,
        serial: 0,
        restless: false,
        telling: false,
    };

    /// Something changed that a read may have to act on.
    pub fn wake_up(&mut self) {
        self.restless = true;
    }

    /// Whether something changed that no read has acted on yet.
    #[must_use]
    pub const fn is_restless(&self) -> bool {
        self.restless
    }

    /// When a read has to go on, or the next refresh is due.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        let reads = self.reads.iter().map(|(_, read)| read.phase_ends());
        soonest(reads).or(self.refresh)
    }

    /// How many reads are under way, and how many fit.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.reads.len(), self.reads.capacity())
    }

    fn get(&self, handle: Handle) -> Option<&Read<P>> {
        self.reads.get(handle)
    }

    fn get_mut(&mut self, handle: Handle) -> Option<&mut Read<P>> {
        self.reads.get_mut(handle)
    }

    fn by_tag(&mut self, tag: u32) -> Option<&mut Read<P>> {
        let handle = self.reads.handle_at(tags::slot_of(tag))?;
        self.reads.get_mut(handle)
    }
}

impl<P: Plan> Exchange<P> {
    /// Begins a read, which ends within `within_ms` with a `QueryDone` (a refresh: silently).
    ///
    /// # Errors
    /// [`Busy`] when as many are under way as the plan allows; a refresh gives way to a command.
    pub fn read(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        query: Option<QueryId>,
        scope: Scope,
        within_ms: u32,
    ) -> Result<(), Busy> {
        self.begin_read(now, state, query, scope, within_ms)?;
        self.pump(now, state);
        Ok(())
    }

    #[inline(never)] // A read is built in its frame, which is not to last while it goes on.
    fn begin_read(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        query: Option<QueryId>,
        scope: Scope,
        within_ms: u32,
    ) -> Result<(), Busy> {
        self.now = self.now.max(now);
        if self.reads.reads.is_full() && query.is_some() {
            let refresh = self
                .reads
                .reads
                .iter()
                .find(|(_, read)| read.query.is_none());
            if let Some((refresh, _)) = refresh {
                self.drop_read(state, refresh);
            }
        }
        if self.reads.reads.is_full() {
            return Err(Busy);
        }
        let deadline = now.after_ms(u64::from(within_ms.max(1)));
        let (job, readings) = people_of(now, state, scope, deadline);
        let job = self.tree.insert(now, job).ok_or(Busy)?;
        let mut read = Read {
            query,
            scope,
            started: now,
            deadline,
            phase: Phase::Looking,
            job,
            stranger: Stranger {
                sequence: 0,
                address: PackedAddr::NONE,
                lease_until: now,
            },
            own: PostId::NONE,
            incomplete: false,
            readings,
            lookups: P::Lookups::EMPTY,
            searches: P::Searches::EMPTY,
        };
        let others = matches!(scope, Scope::One(person) if person.user != state.me.user());
        if query.is_some() && !others {
            let newest = state.log.own_posts(&state.posts).next();
            read.own = newest.map_or(PostId::NONE, |post| post.id);
        }
        let Ok(handle) = self.reads.reads.insert(read) else {
            self.drop_job(state, job);
            return Err(Busy);
        };
        if let Some(job) = self.tree.job_mut(job) {
            job.up = Up::Read(handle);
        }
        self.reads.restless = true;
        Ok(())
    }

    /// Ends a read without a word.
    fn drop_read(&mut self, state: &mut State<P>, handle: Handle) {
        let Some(read) = self.reads.reads.get(handle) else {
            return;
        };
        let job = read.job;
        for search in read.searches.iter() {
            if let Some(stream) = search.stream() {
                self.streams.close(stream);
            }
        }
        self.reads.reads.discard(handle);
        self.tree.transit.forget_read(state, handle);
        self.drop_job(state, job);
    }

    /// The next thing that a read wants of the DHT.
    pub fn poll_ask(&mut self) -> Option<Asking> {
        for index in 0..self.reads.reads.slots() {
            let Some(handle) = self.reads.reads.handle_at(index) else {
                continue;
            };
            let serial = self.reads.serial.wrapping_add(1);
            let tag = Part::Reads.tag(u32::try_from(index).ok()?, serial);
            let Some(read) = self.reads.reads.get_mut(handle) else {
                continue;
            };
            let lookup = read
                .begin_lookup(tag)
                .map(|at| (at, LOOKUP_KINDS, read.phase_ends()));
            // A profile lies on its author's way; sightings by others that lie elsewhere are only hints.
            let is_lookup = lookup.is_some();
            let asked =
                lookup.or_else(|| Some((read.begin_search(tag)?, SEARCH_KINDS, read.deadline)));
            let Some((at, kinds, until)) = asked else {
                continue;
            };
            self.reads.serial = serial;
            let user = self.user_at(handle, at)?;
            let key = Key::of_user::<P::Crypto>(&user);
            let author = is_lookup.then_some(user);
            let within_ms = u32::try_from(until.since_ms(self.now))
                .unwrap_or(u32::MAX)
                .max(1);
            return Some(Asking {
                tag,
                ask: Ask::Get { key, kinds, author },
                within_ms,
            });
        }
        None
    }

    /// A verified record that was found for `tag`.
    pub fn on_record(&mut self, now: Instant, state: &mut State<P>, tag: u32, seen: &Verified<'_>) {
        self.now = self.now.max(now);
        let (record, remaining_ms) = (&seen.record, seen.remaining_ms);
        let Some(read) = self.reads.by_tag(tag) else {
            return;
        };
        let at = read.lookup_of(tag).or_else(|| read.search_of(tag));
        let job = self.tree.job(read.job);
        let target = at.and_then(|at| job?.targets().get(usize::from(at)));
        let Some(user) = target.map(|target| target.user) else {
            return;
        };
        let by = record.author == user;
        let about = record.subject == Some(user);
        match record.kind {
            Kind::Profile if by => {
                state
                    .people
                    .on_profile(now, &mut state.posts, record, remaining_ms);
                read.stranger.learn(now, record, remaining_ms);
            }
            Kind::Sighting if about => {
                let missed_ms = record.payload::<Sighting>().map_or(0, |it| it.missed_ms);
                let State { people, posts, .. } = state;
                people.on_sighting(now, posts, &user, missed_ms, remaining_ms);
            }
            Kind::Head if by => read.on_head(tag, record),
            // What is kept here needs no asking.
            Kind::Follow if about && record.author != state.me.user() => {
                read.on_follow(tag, record, remaining_ms);
            }
            Kind::Profile
            | Kind::Sighting
            | Kind::Head
            | Kind::Follow
            | Kind::Claim
            | Kind::Following
            | Kind::Holding
            | Kind::Value => {}
        }
    }

    /// What was asked under `tag` is over: whatever it found has come.
    pub fn on_done(&mut self, now: Instant, state: &mut State<P>, tag: u32) {
        let Some(read) = self.reads.by_tag(tag) else {
            return;
        };
        if let Some(found) = read.lookups.iter().position(|lookup| lookup.tag == tag) {
            let at = read.lookups.swap_remove(found).map(|lookup| lookup.at);
            let reading = at.and_then(|at| read.reading(at));
            if let Some(reading) = reading.filter(|reading| reading.stage == Stage::Looking) {
                reading.stage = Stage::Ready;
            }
        } else {
            read.search_looked_up(tag);
        }
        self.reads.restless = true;
        self.pump(now, state);
    }

    /// Who a person in a read is.
    fn user_at(&self, read: Handle, at: u16) -> Option<UserId> {
        let job = self.tree.job(self.reads.get(read)?.job)?;
        job.targets().get(usize::from(at)).map(|target| target.user)
    }
}

impl<P: Plan> Read<P> {
    /// Somebody whose profile is looked up from now on under `tag`, as long as not too many are.
    fn begin_lookup(&mut self, tag: u32) -> Option<u16> {
        if self.phase != Phase::Looking || self.lookups.is_full() {
            return None;
        }
        let at = self
            .readings
            .iter()
            .position(|reading| reading.stage == Stage::Unknown)?;
        self.readings.get_mut(at)?.stage = Stage::Looking;
        let at = u16::try_from(at).ok()?;
        // Room was checked.
        let _ = self.lookups.push(Lookup { tag, at });
        Some(at)
    }

    /// Whose profile is looked up under a tag.
    fn lookup_of(&self, tag: u32) -> Option<u16> {
        self.lookups
            .iter()
            .find(|lookup| lookup.tag == tag)
            .map(|lookup| lookup.at)
    }

    fn reading(&mut self, at: u16) -> Option<&mut Reading> {
        self.readings.get_mut(usize::from(at))
    }
}

/// The people of a read, as the targets of a job that does not know yet where they are. Those of whom enough is
/// known need no lookup.
fn people_of<P: Plan>(
    now: Instant,
    state: &mut State<P>,
    scope: Scope,
    deadline: Instant,
) -> (Job<P>, P::Readings) {
    let number = state.me.rng().next_u64();
    let signed = state.me.sign_get(now, number);
    let request = Request {
        id: number,
        reader: *state.me.public(),
        issued_ms: signed.map_or(0, |(issued_ms, _)| issued_ms),
        fanout: state.me.fanout(),
        signature: signed.map_or([0; 64], |(_, signature)| signature),
        depth: 0,
    };
    let mut job = Job::new(Up::Read(Handle::from_bits(0)), request, deadline, 0, 0);
    let mut readings = P::Readings::EMPTY;
    let mut add = |user: UserId, known: bool| {
        // There is room for everyone followed: see `Exchange::EMPTY`.
        let _ = job.push(Target::new(user, PackedAddr::NONE, RecordId::NONE));
        let _ = readings.push(Reading::new(known, P::READ_POSTS_MAX));
    };
    match scope {
        Scope::Everyone => {
            for entry in state.people.iter_followed() {
                let kept = state.posts.record(entry.profile).is_some();
                let missed = now < entry.missed_until;
                add(entry.user, kept && entry.is_online(now) && !missed);
            }
        }
        Scope::One(person) if person.user == state.me.user() => {}
        Scope::One(person) => add(person.user, false),
    }
    (job, readings)
}
