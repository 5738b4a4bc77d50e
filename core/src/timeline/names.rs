//! Finds out whom a handle means.
//!
//! Owns running resolutions and the claimants that each found. Pins and one's own name are known at once; for anybody
//! else the claims at the name's key are read, and the claim that holders have had for longest (the median of what they
//! say) is the one that reading commands take. Commands that bind somebody refuse instead when there is more than one:
//! see [`Verdict::is_ambiguous`]. Invariant: a pinned name means the pinned key, whatever the claims say.

use crate::bounded::{Handle, List, Slab, sort_by};
use crate::id::{Key, UserId};
use crate::name;
use crate::output::ChosenBy;
use crate::plan::Plan;
use crate::time::{Deadline, Instant};
use crate::wire::record::{Claim, Kind, Kinds};

use super::asks::{Ask, Asking, Ended};
use super::state::State;
use super::tags::Part;
use crate::dht::Verified;

/// Holders whose word about the age of a claim counts: as many as hold a record.
const AGES_MAX: usize = 8;
/// Ages are kept in units of 64 ms: 32 bits last for eight years.
const AGE_UNIT_MS: u64 = 64;
/// Pause before a busy DHT is asked again, in ms.
const RETRY_MS: u64 = 100;

/// Names a resolution until it is released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResolutionId(Handle);

/// A resolution.
#[derive(Clone, Debug)]
pub struct Resolution {
    handle: name::Handle,
    /// Known without asking.
    known: Option<UserId>,
    until: Instant,
    stage: Stage,
    complete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// To be asked at this time.
    Due(Instant),
    Asked,
    Settled,
}

/// Somebody who claims a name.
#[derive(Clone, Debug)]
pub struct Claimant {
    resolution: Handle,
    user: UserId,
    /// What each holder said, in units; sorted.
    ages: [u32; AGES_MAX],
    ages_len: u8,
    /// It was listed.
    told: bool,
}

impl Claimant {
    fn add_age(&mut self, age_ms: u64) {
        let age = u32::try_from(age_ms / AGE_UNIT_MS).unwrap_or(u32::MAX);
        let len = usize::from(self.ages_len).min(AGES_MAX);
        // More holders than count: the rest is a matter of luck, which does not help a liar.
        if let Some(place) = self.ages.get_mut(len) {
            *place = age;
            self.ages_len = self.ages_len.saturating_add(1);
            if let Some(used) = self.ages.get_mut(..=len) {
                sort_by(used, u32::cmp);
            }
        }
    }

    /// The lower median, so that half of the holders must lie to make a claim older.
    fn age(&self) -> u32 {
        let middle = usize::from(self.ages_len).saturating_sub(1) / 2;
        self.ages.get(middle).copied().unwrap_or(0)
    }

    /// How long holders have had the claim, in ms.
    fn held_ms(&self) -> u64 {
        u64::from(self.age()).saturating_mul(AGE_UNIT_MS)
    }
}

/// A claimant, as listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rank {
    /// How long holders have had the claim, in ms.
    pub held_ms: u64,
    /// Who.
    pub user: UserId,
}

/// What a handle means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whom; `None`: nobody is known under it.
    pub user: Option<UserId>,
    /// Why this one.
    pub chosen_by: ChosenBy,
    /// How many claim the name and match the fingerprint.
    pub claimants: u32,
    /// Whether everybody who should know was asked and answered.
    pub complete: bool,
}

impl Verdict {
    /// Whether somebody who binds themselves must say more precisely whom they mean.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.chosen_by == ChosenBy::FirstSeen
    }
}

/// The resolutions.
pub struct Names<P: Plan> {
    running: Slab<Resolution, P::Resolutions>,
    claimants: P::Claimants,
}

impl<P: Plan> Names<P> {
    /// None.
    pub const EMPTY: Self = Self {
        running: Slab::EMPTY,
        claimants: P::Claimants::EMPTY,
    };

    /// Whom a handle means without asking anybody: oneself, the one that the bare name is pinned to, or the only followed
    /// one of that name and fingerprint.
    #[must_use]
    pub fn known(state: &State<P>, handle: &name::Handle) -> Option<UserId> {
        let me = state.me.user();
        let mine = handle.name == state.me.name();
        let Some(fingerprint) = handle.fingerprint else {
            let pinned = state.people.pinned(&handle.name);
            return if mine {
                Some(me)
            } else {
                pinned.map(|entry| entry.user)
            };
        };
        if mine && fingerprint.matches(&me) {
            return Some(me);
        }
        let mut matching = state.people.matching(*handle);
        let first = matching.next()?;
        matching.next().is_none().then_some(first.user)
    }

    /// Begins to resolve a handle; the claims are read even when the answer is known, for who else uses the name. `None`:
    /// too many resolutions are running.
    pub fn begin(
        &mut self,
        now: Instant,
        state: &State<P>,
        handle: &name::Handle,
        until: Instant,
    ) -> Option<ResolutionId> {
        let resolution = Resolution {
            handle: *handle,
            known: Self::known(state, handle),
            until,
            stage: Stage::Due(now),
            complete: false,
        };
        self.running.insert(resolution).ok().map(ResolutionId)
    }

    /// Forgets a resolution and its claimants.
    pub fn release(&mut self, id: ResolutionId) {
        self.running.discard(id.0);
        self.claimants
            .retain(|claimant| claimant.resolution != id.0);
    }

    /// What a part wants of the DHT now.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Asking> {
        let due = |stage: Stage| matches!(stage, Stage::Due(at) if at <= now);
        let mut waiting = self.running.iter_mut();
        let (handle, resolution) = waiting.find(|(_, entry)| due(entry.stage))?;
        resolution.stage = Stage::Asked;
        let within_ms = resolution.until.since_ms(now);
        Some(Asking {
            tag: Part::Names.tag_of(handle),
            ask: Ask::Get {
                key: Key::of_name::<P::Crypto>(&resolution.handle.name),
                kinds: Kinds::of(&[Kind::Claim]),
                author: None,
            },
            within_ms: u32::try_from(within_ms).unwrap_or(u32::MAX),
        })
    }

    /// Takes a claim. When more people claim a name than there is room for, those whose claims are youngest are left out,
    /// and the verdict is not complete.
    pub fn on_record(&mut self, tag: u32, seen: &Verified<'_>) {
        let Some(id) = self.find(tag) else {
            return;
        };
        let Some(resolution) = self.running.get_mut(id) else {
            return;
        };
        let Ok(claim) = super::payload_of::<Claim>(&seen.record, Kind::Claim) else {
            return;
        };
        let (user, wanted) = (seen.record.author, resolution.handle);
        let matches = wanted.fingerprint.is_none_or(|f| f.matches(&user));
        if claim.name != wanted.name || !matches || resolution.stage != Stage::Asked {
            return;
        }
        let same = |c: &&mut Claimant| c.resolution == id && c.user == user;
        if let Some(known) = self.claimants.iter_mut().find(same) {
            known.add_age(seen.age_ms);
            return;
        }
        let mut claimant = Claimant {
            resolution: id,
            user,
            ages: [0; AGES_MAX],
            ages_len: 0,
            told: false,
        };
        claimant.add_age(seen.age_ms);
        if let Err(claimant) = self.claimants.push(claimant) {
            resolution.complete = false;
            let ours = self.claimants.iter_mut().filter(|c| c.resolution == id);
            let youngest = ours.min_by_key(|c| c.age());
            if let Some(place) = youngest.filter(|c| c.age() < claimant.age()) {
                *place = claimant;
            }
        }
    }

    /// Takes the end of a get.
    pub fn on_done(&mut self, now: Instant, tag: u32, ended: Ended) {
        let Some(id) = self.find(tag) else {
            return;
        };
        let Some(resolution) = self.running.get_mut(id) else {
            return;
        };
        match ended {
            Ended::Got { complete, .. } => {
                resolution.complete = complete && !self.claimants.is_full();
                resolution.stage = Stage::Settled;
            }
            Ended::Busy => resolution.stage = Stage::Due(now.after_ms(RETRY_MS)),
            Ended::Put { .. } | Ended::Left => resolution.stage = Stage::Settled,
        }
    }

    fn find(&self, tag: u32) -> Option<Handle> {
        let handle = self.running.handle_at(super::tags::slot_of(tag))?;
        (Part::Names.tag_of(handle) == tag).then_some(handle)
    }

    /// What the handle means; `None` while it is not known yet.
    #[must_use]
    pub fn verdict(&self, id: ResolutionId) -> Option<Verdict> {
        let resolution = self.running.get(id.0)?;
        if resolution.stage != Stage::Settled {
            return None;
        }
        let oldest = self.foremost(id, |_| true);
        let claimants = self.ours(id).count();
        let chosen_by = match resolution.known {
            Some(_) => ChosenBy::Pin,
            None if claimants > 1 => ChosenBy::FirstSeen,
            None => ChosenBy::Only,
        };
        Some(Verdict {
            user: resolution.known.or(oldest.map(|claimant| claimant.user)),
            chosen_by,
            claimants: u32::try_from(claimants).unwrap_or(u32::MAX),
            complete: resolution.complete,
        })
    }

    fn ours(&self, id: ResolutionId) -> impl Iterator<Item = &Claimant> {
        let claimants = self.claimants.iter();
        claimants.filter(move |claimant| claimant.resolution == id.0)
    }

    /// The first in the list of those for whom `counts` holds: one that is known by a pin (or is oneself), then the one
    /// whose claim holders have had for longest.
    fn foremost(&self, id: ResolutionId, counts: impl Fn(&Claimant) -> bool) -> Option<&Claimant> {
        let known = self.running.get(id.0)?.known;
        let ours = self.ours(id).filter(|claimant| counts(claimant));
        ours.max_by_key(|claimant| (Some(claimant.user) == known, claimant.age(), &claimant.user))
    }

    /// Whether somebody claims the name.
    #[must_use]
    pub fn is_claimant(&self, id: ResolutionId, user: &UserId) -> bool {
        self.ours(id).any(|claimant| claimant.user == *user)
    }

    /// Lists the claimants, the one that is taken first, then by age: the next that was not listed yet.
    pub fn next_claimant(&mut self, id: ResolutionId) -> Option<Rank> {
        let next = self.foremost(id, |claimant| !claimant.told)?;
        let next = Rank {
            held_ms: next.held_ms(),
            user: next.user,
        };
        let same = |c: &&mut Claimant| c.resolution == id.0 && c.user == next.user;
        if let Some(claimant) = self.claimants.iter_mut().find(same) {
            claimant.told = true;
        }
        Some(next)
    }

    /// When [`Names::handle_timeout`] or [`Names::poll_ask`] next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        let mut soonest = Deadline::NEVER;
        for (_, entry) in self.running.iter() {
            match entry.stage {
                Stage::Due(at) => soonest.lower(at.min(entry.until)),
                Stage::Asked => soonest.lower(entry.until),
                Stage::Settled => {}
            }
        }
        soonest
    }

    /// Settles what took too long with what is known by then.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (_, resolution) in self.running.iter_mut() {
            if resolution.until <= now && resolution.stage != Stage::Settled {
                resolution.stage = Stage::Settled;
                resolution.complete = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    extern crate alloc;

    use alloc::vec::Vec;

    use super::*;
    use crate::name::Fingerprint;
    use crate::plan::{Board, Server};
    use crate::timeline::me::About;
    use crate::timeline::testing::{self, Tested, at, name, user};
    use crate::wire::record::Record;

    fn claim(n: u8, text: &str) -> Vec<u8> {
        let mut state: Tested = testing::fresh(n);
        let about = About {
            kind: Kind::Claim,
            key: Key::of_name::<crate::crypto::Ed25519>(&name(text)),
            subject: None,
            page: 0,
            lifetime_ms: u32::MAX,
        };
        let claim = Claim {
            name: name(text),
            first_claimed_ms: 0,
        };
        let mut buf = [0; 940];
        let len = state.me.sign(at(0), &about, &claim, &mut buf).unwrap();
        buf.get(..len).unwrap().to_vec()
    }

    fn bare(text: &str) -> name::Handle {
        name::Handle {
            name: name(text),
            fingerprint: None,
        }
    }

    fn exact(text: &str, n: u8) -> name::Handle {
        name::Handle {
            name: name(text),
            fingerprint: Some(Fingerprint::of(&user(n), 8)),
        }
    }

    /// Resolves with these answers of holders: who claims, and for how long.
    fn resolve<P: Plan>(
        state: &State<P>,
        handle: &name::Handle,
        answers: &[(u8, u64)],
    ) -> (Verdict, Vec<(UserId, u64)>) {
        let mut names = Names::<P>::EMPTY;
        let id = names.begin(at(0), state, handle, at(10)).unwrap();
        let asking = names.poll_ask(at(0)).unwrap();
        assert_eq!(names.poll_ask(at(0)), None);
        for (n, age_ms) in answers {
            let bytes = claim(*n, handle.name.as_str());
            let record = Record::decode(&bytes).unwrap();
            let seen = Verified {
                holder: crate::id::NodeId::ZERO,
                record,
                age_ms: *age_ms,
                remaining_ms: 1,
            };
            names.on_record(asking.tag, &seen);
        }
        assert_eq!(names.verdict(id), None);
        names.on_done(
            at(1),
            asking.tag,
            Ended::Got {
                answered: 8,
                complete: true,
            },
        );
        let mut ranked = Vec::new();
        while let Some(rank) = names.next_claimant(id) {
            ranked.push((rank.user, rank.held_ms));
        }
        let found = (names.verdict(id).unwrap(), ranked);
        names.release(id);
        assert!(names.verdict(id).is_none() && names.claimants.is_empty());
        found
    }

    #[test]
    fn the_only_claimant_is_taken_and_nobody_is_not_found() {
        let state: Tested = testing::fresh(1);
        let (verdict, _) = resolve(&state, &bare("alice"), &[(2, 6_400), (2, 6_400)]);
        assert_eq!(
            (verdict.user, verdict.chosen_by),
            (Some(user(2)), ChosenBy::Only)
        );
        assert!(verdict.complete && !verdict.is_ambiguous());
        let (verdict, _) = resolve(&state, &bare("alice"), &[]);
        assert_eq!((verdict.user, verdict.claimants), (None, 0));
    }

    #[test]
    fn of_several_claimants_the_one_that_most_holders_had_for_longest_is_taken() {
        let state: Tested = testing::fresh(1);
        let hour = 3_600_000;
        let honest = [(2, hour), (2, hour), (2, hour), (2, hour), (2, hour)];
        // Two of five holders lie for the squatter.
        let squatter = [(3, 64), (3, 99 * hour), (3, 64), (3, 99 * hour), (3, 64)];
        let (verdict, ranked) = resolve(&state, &bare("alice"), &[squatter, honest].concat());
        assert_eq!((verdict.user, verdict.claimants), (Some(user(2)), 2));
        assert!(verdict.is_ambiguous());
        assert_eq!(ranked, [(user(2), hour), (user(3), 64)]);
    }

    #[test]
    fn a_fingerprint_leaves_only_whom_it_fits() {
        let state: Tested = testing::fresh(1);
        let squatters: Vec<(u8, u64)> = (10..110).map(|n| (n, 1_000_000)).collect();
        let answers = [squatters, alloc::vec![(2, 64)]].concat();
        let (verdict, ranked) = resolve(&state, &exact("alice", 2), &answers);
        assert_eq!(
            (verdict.user, verdict.chosen_by),
            (Some(user(2)), ChosenBy::Only)
        );
        assert_eq!(ranked.len(), 1);
        let (verdict, _) = resolve(&state, &exact("alice", 3), &answers);
        assert_eq!(verdict.user, None);
    }

    #[test]
    fn a_pinned_name_stays_with_its_key_whatever_the_claims_say() {
        let mut state: Tested = testing::fresh(1);
        assert!(state.people.follow(user(2), name("alice")));
        let (verdict, ranked) = resolve(&state, &bare("alice"), &[(3, 1_000_000), (2, 64)]);
        assert_eq!(
            (verdict.user, verdict.chosen_by),
            (Some(user(2)), ChosenBy::Pin)
        );
        assert_eq!(
            ranked.first().unwrap().0,
            user(2),
            "the taken one comes first"
        );
        let (verdict, _) = resolve(&state, &exact("alice", 3), &[(3, 64), (2, 64)]);
        assert_eq!(
            (verdict.user, verdict.chosen_by),
            (Some(user(3)), ChosenBy::Only)
        );
        assert!(state.people.unfollow(&mut state.posts, &user(2)).is_some());
        assert_eq!(Names::known(&state, &bare("alice")), None);
    }

    #[test]
    fn ones_own_name_is_oneself() {
        let mut state: Tested = testing::fresh(1);
        let own = state.me.name();
        assert!(state.people.follow(user(2), own));
        let of = |handle| Names::<Server>::known(&state, &handle);
        assert_eq!(of(bare(own.as_str())), Some(user(1)));
        assert_eq!(of(exact(own.as_str(), 1)), Some(user(1)));
        assert_eq!(of(exact(own.as_str(), 2)), Some(user(2)));
        assert_eq!(of(exact(own.as_str(), 3)), None);
    }

    #[test]
    fn a_board_lists_the_oldest_that_fit_and_says_so() {
        let state: State<Board> = testing::fresh(1);
        let answers: Vec<(u8, u64)> = (10..60).map(|n| (n, u64::from(n) * 64)).collect();
        let (verdict, ranked) = resolve(&state, &bare("alice"), &answers);
        assert_eq!(verdict.user, Some(user(59)));
        assert!(!verdict.complete && ranked.len() >= 3);
        assert!(ranked.is_sorted_by(|a, b| a.1 > b.1));
    }

    #[test]
    fn a_busy_dht_is_asked_again_and_silence_ends() {
        let state: Tested = testing::fresh(1);
        let mut names = Names::<Server>::EMPTY;
        let id = names.begin(at(0), &state, &bare("alice"), at(2)).unwrap();
        let tag = names.poll_ask(at(0)).unwrap().tag;
        names.on_done(at(0), tag, Ended::Busy);
        assert_eq!(names.poll_ask(at(0)), None);
        assert_eq!(names.next_deadline().get(), Some(at(0).after_ms(RETRY_MS)));
        assert!(names.poll_ask(at(1)).is_some());
        assert_eq!(names.next_deadline().get(), Some(at(2)));
        names.handle_timeout(at(2));
        let verdict = names.verdict(id).unwrap();
        assert_eq!((verdict.user, verdict.complete), (None, false));
        assert_eq!(names.next_deadline().get(), None);
    }
}
