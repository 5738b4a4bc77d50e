//! Whom this node relays for, and whom it asks for them.
//!
//! Owns the checks at the door of the get tree and a short memory of the requests that came through it. Invariant: a
//! reader gets nothing relayed unless it follows this user and signed the request not long ago, and no request twice.

use crate::addr::{PackedAddr, is_usable_contact};
use crate::bounded::{Handle, List, Ring};
use crate::config::FANOUT_MAX;
use crate::crypto::PublicKey;
use crate::id::{UserId, prefix64};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::frame::{Get, Refusal, Target, Unreached};
use crate::wire::record::{Kind, Profile, Record};

use super::super::exchange::Exchange;
use super::super::posts::{RecordId, SPARE_LEN};
use super::super::state::State;
use super::super::streams::Taken;
use super::job::{Job, PROMOTIONS_MAX, SHARE_MAX};
use super::target::{self, Request, Up};

/// Longest time that a request may take at a relay, in ms.
pub const RELAY_MS_MAX: u32 = 60_000;
/// Deepest place in a tree that asks others.
pub const DEPTH_MAX: u8 = 32;
/// A request that was signed this long ago is not relayed, in ms.
pub const REQUEST_AGE_MAX_MS: u64 = 120_000;
/// Jobs that are relayed for one reader at a time.
pub const JOBS_PER_READER: usize = 4;

/// A request that came by: the reader and the request's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    reader: u64,
    request: u64,
}

impl Seen {
    /// Of a request. Whoever makes another reader's key with the same first 64 bits has earned the collision.
    #[must_use]
    pub const fn of(reader: &PublicKey, request: u64) -> Self {
        Self {
            reader: prefix64(reader),
            request,
        }
    }
}

/// The requests that came by last.
pub struct SeenRequests<P: Plan>(Ring<Seen, P::SeenRequests>);

impl<P: Plan> SeenRequests<P> {
    /// None yet.
    pub const EMPTY: Self = Self(Ring::EMPTY);

    /// Whether it came by before, as far as remembered.
    #[must_use]
    pub fn contains(&self, seen: Seen) -> bool {
        self.0.iter().any(|&other| other == seen)
    }

    /// Remembers a request, and forgets the oldest if there is no room.
    pub fn insert(&mut self, seen: Seen) {
        if self.0.is_full() {
            self.0.pop_front();
        }
        let _ = self.0.push_back(seen);
    }
}

impl<P: Plan> Exchange<P> {
    /// Begins to relay a request that came up `up`, if it may; its targets follow. Own posts are served either way.
    ///
    /// # Errors
    /// What to tell the peer, and what to count.
    pub(in super::super) fn begin_relay(
        &mut self,
        now: Instant,
        state: &mut State<P>,
        up: Handle,
        get: &Get<'_>,
    ) -> Result<Handle, (Refusal, Rule)> {
        let fanout_ok = get.fanout != 0 && get.fanout <= FANOUT_MAX;
        if get.depth >= DEPTH_MAX || get.promotions > PROMOTIONS_MAX || !fanout_ok {
            return Err((Refusal::Invalid, Rule::Malformed));
        }
        self.room_to_relay(get)?;
        let reader = UserId::of_key::<P::Crypto>(&get.reader);
        if !state.people.is_follower(now, &reader) {
            return Err((Refusal::NotFollowing, Rule::NotFollowing));
        }
        self.dated(now, state, get.issued_ms)?;
        let seen = Seen::of(&get.reader, get.request);
        if self.tree.seen.contains(seen) {
            return Err((Refusal::Repeated, Rule::Repeated));
        }
        get.verify::<P::Crypto>(state.me.network())
            .map_err(|rule| (Refusal::Invalid, rule))?;
        let signature = get
            .signature
            .try_into()
            .map_err(|_| (Refusal::Invalid, Rule::Signature))?;
        let request = Request {
            id: get.request,
            reader: get.reader,
            issued_ms: get.issued_ms,
            fanout: get.fanout,
            signature,
            depth: get.depth + 1,
        };
        let deadline = now.after_ms(u64::from(get.deadline_ms.min(RELAY_MS_MAX)));
        let job = Job::new(
            Up::Stream(up),
            request,
            deadline,
            get.targets,
            get.promotions,
        );
        let handle = self
            .tree
            .insert(now, job)
            .ok_or((Refusal::Busy, Rule::Full))?;
        self.tree.seen.insert(seen);
        Ok(handle)
    }

    /// Whether there are a job and targets to spare for somebody else's read. One job is kept for the own reads.
    fn room_to_relay(&self, get: &Get<'_>) -> Result<(), (Refusal, Rule)> {
        let (mut relayed, mut same) = (0, 0);
        for (_, job) in self.tree.jobs.iter() {
            if matches!(job.up, Up::Stream(_)) {
                relayed += 1;
                same += usize::from(job.request.reader == get.reader);
            }
        }
        let room = relayed + 1 < self.tree.jobs.capacity()
            && get.targets <= SHARE_MAX
            && usize::from(get.targets) <= P::Targets::CAPACITY;
        if room && same < JOBS_PER_READER {
            Ok(())
        } else {
            Err((Refusal::Busy, Rule::Full))
        }
    }

    /// Whether a request was signed lately, as far as both sides have a clock.
    fn dated(&self, now: Instant, state: &State<P>, issued_ms: u64) -> Result<(), (Refusal, Rule)> {
        let clock = state.me.clock();
        let (Some(unix_ms), Some(off_ms)) = (clock.unix_ms(now), clock.uncertainty_ms(now)) else {
            return Ok(());
        };
        let tolerance_ms = REQUEST_AGE_MAX_MS.saturating_add(u64::from(off_ms));
        if issued_ms == 0 || issued_ms.abs_diff(unix_ms) <= tolerance_ms {
            Ok(())
        } else if issued_ms > unix_ms {
            Err((Refusal::Invalid, Rule::Future))
        } else {
            Err((Refusal::Invalid, Rule::Lifetime))
        }
    }

    /// A target of a request that is relayed. With the last one the asking begins.
    pub(in super::super) fn relay_target(
        &mut self,
        state: &mut State<P>,
        handle: Handle,
        target: &Target<'_>,
    ) -> Taken {
        if self.tree.job(handle).is_none_or(|job| job.expected == 0) {
            return Taken::Broke(Rule::OutOfTurn);
        }
        let (user, addr) = match read_profile::<P>(target.profile) {
            Ok(found) => found,
            Err(rule) => return Taken::Broke(rule),
        };
        let mut profile = RecordId::NONE;
        if state
            .posts
            .fits_record(target.profile.len().saturating_add(SPARE_LEN))
        {
            profile = state.posts.put_record(RecordId::NONE, target.profile);
        }
        // Without room for it, it cannot be verified later, when it is asked.
        let unverified = profile == RecordId::NONE
            && Record::decode(target.profile)
                .and_then(|record| record.verify::<P::Crypto>(state.me.network()))
                .is_err();
        let mut entry = target::Target::new(user, addr, profile);
        (entry.log, entry.since, entry.limit) = (target.log, target.since, target.limit);
        let me = state.me.user();
        let Some(job) = self.tree.job_mut(handle) else {
            return Taken::Gone;
        };
        job.expected -= 1;
        let at = job.targets().len();
        // The announced number fits, see `room_to_relay`.
        let _ = job.push(entry);
        if user == me || unverified {
            job.fail(at, Unreached::Invalid);
        } else if addr.is_none() {
            job.fail(at, Unreached::Offline);
        }
        if job.expected == 0 {
            job.deal();
        }
        Taken::Yes
    }
}

/// Whose a signed profile is, and where it listens. Its signature is checked when it is asked.
fn read_profile<P: Plan>(bytes: &[u8]) -> Result<(UserId, PackedAddr), Rule> {
    let record = Record::decode(bytes)?;
    if record.kind != Kind::Profile {
        return Err(Rule::Kind);
    }
    record.check::<P::Crypto>()?;
    let profile = record.payload::<Profile<'_>>()?;
    Ok((record.author, usable_address(&profile)))
}

/// The first address of a profile that a stream can be opened to; none if there is none.
pub(in super::super) fn usable_address(profile: &Profile<'_>) -> PackedAddr {
    let usable = |addr: &PackedAddr| addr.to_socket_addr().is_some_and(is_usable_contact);
    profile.addresses().find(usable).unwrap_or(PackedAddr::NONE)
}
