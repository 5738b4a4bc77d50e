//! What this user says in the DHT: how each of its records looks.
//!
//! Owns payloads and pages, and no schedule: that is [`super::publish`]'s. Invariant: a record says what is known at the
//! moment of signing, so a repeated put never spreads something older.

use crate::id::{ID_BYTES, Key, UserId};
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::codec;
use crate::wire::record::{
    Claim, FOLLOWING_PER_PAGE, Followed, Following, HELD_LEN, HOLDING_PER_PAGE, Holding, Kind,
    Profile, Sighting,
};
use crate::wire::{PAYLOAD_LEN_MAX, RECORD_LEN_MAX};

use super::me::About;
use super::persist::Entry;
use super::state::State;

/// How long a profile may be taken for a sign of life, in ms (90 min; it is renewed hourly).
pub const LEASE_MS: u32 = 90 * 60 * 1000;

/// One thing that this user says in the DHT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statement {
    /// "I use this name."
    Claim,
    /// Where the node is, and that it is online.
    Profile,
    /// The same, and that it is going offline.
    Goodbye,
    /// The end of the log.
    Head,
    /// A page of those whom the user follows.
    Following(u16),
    /// A page of those whose posts are kept here.
    Holding(u16),
    /// "I follow this user."
    Follow(UserId),
    /// "I follow this user no more."
    Gone(UserId),
    /// "This user did not answer me."
    Sighting(UserId),
}

impl Statement {
    /// Signs the record into `buf` and returns its length. `None` while nothing may be signed, or when there is nothing to
    /// say (holdings without a clock).
    pub fn sign<P: Plan>(
        self,
        now: Instant,
        state: &mut State<P>,
        buf: &mut [u8],
    ) -> Option<usize> {
        match self {
            Self::Claim => sign_claim(now, state, buf),
            Self::Profile => sign_profile(now, state, LEASE_MS, buf),
            Self::Goodbye => sign_profile(now, state, 0, buf),
            Self::Head => state.log.sign_head(now, &mut state.me, &state.people, buf),
            Self::Following(page) => sign_following(now, state, page, buf),
            Self::Holding(page) => sign_holding(now, state, page, buf),
            Self::Follow(user) => state.sign_follow(now, &user, true, buf),
            Self::Gone(user) => state.sign_follow(now, &user, false, buf),
            Self::Sighting(user) => {
                let about = About {
                    kind: Kind::Sighting,
                    key: Key::of_user::<P::Crypto>(&user),
                    subject: Some(user),
                    page: 0,
                    lifetime_ms: u32::MAX,
                };
                let missed_ms = state.me.unix_ms(now);
                state.me.sign(now, &about, &Sighting { missed_ms }, buf)
            }
        }
    }

    /// How many pages of `Following` there are: one for each twelve places of the table, in use or not, so that a change
    /// touches one page.
    #[must_use]
    pub fn following_pages<P: Plan>(state: &State<P>) -> u16 {
        pages(state.people.followed_slots(), FOLLOWING_PER_PAGE)
    }

    /// How many pages of `Holding` there are, likewise.
    #[must_use]
    pub fn holding_pages<P: Plan>(state: &State<P>) -> u16 {
        pages(state.copies.slots(), HOLDING_PER_PAGE)
    }
}

fn pages(slots: usize, per_page: usize) -> u16 {
    u16::try_from(slots.div_ceil(per_page)).unwrap_or(u16::MAX)
}

fn about_me<P: Plan>(state: &State<P>, kind: Kind, page: u16) -> About {
    About {
        kind,
        key: Key::of_user::<P::Crypto>(&state.me.user()),
        subject: None,
        page,
        lifetime_ms: u32::MAX,
    }
}

fn sign_claim<P: Plan>(now: Instant, state: &mut State<P>, buf: &mut [u8]) -> Option<usize> {
    let name = state.me.name();
    if state.me.claim_since(now) {
        // Unwritten, the next start dates the claim anew; holders know better how old it is.
        state.persists.hint(Entry::Log);
    }
    let claim = Claim {
        name,
        first_claimed_ms: state.me.claimed_ms(),
    };
    let about = About {
        key: Key::of_name::<P::Crypto>(&name),
        ..about_me(state, Kind::Claim, 0)
    };
    state.me.sign(now, &about, &claim, buf)
}

fn sign_profile<P: Plan>(
    now: Instant,
    state: &mut State<P>,
    lease_ms: u32,
    buf: &mut [u8],
) -> Option<usize> {
    let address = state.address;
    let known = if address.is_none() { 0 } else { 18 };
    let profile = Profile {
        name: state.me.name(),
        addresses: address.as_bytes().get(..known)?,
        lease_ms,
        logs: &[],
        followers: u32::try_from(state.people.followers_len()).unwrap_or(u32::MAX),
        next_key: [0; 32],
    };
    let about = about_me(state, Kind::Profile, 0);
    state.me.sign(now, &about, &profile, buf)
}

fn sign_following<P: Plan>(
    now: Instant,
    state: &mut State<P>,
    page: u16,
    buf: &mut [u8],
) -> Option<usize> {
    let first = usize::from(page) * FOLLOWING_PER_PAGE;
    let mut entries = [0; PAYLOAD_LEN_MAX];
    let mut used = 0;
    for slot in first..first.saturating_add(FOLLOWING_PER_PAGE) {
        let Some(followed) = state.people.followed_at(slot) else {
            continue;
        };
        let entry = Followed {
            user: followed.user,
            name: followed.name,
        };
        let written = codec::encode(&entry, entries.get_mut(used..)?)?;
        used = used.checked_add(written)?;
    }
    let following = Following {
        pages: Statement::following_pages(state),
        entries: entries.get(..used)?,
    };
    let about = about_me(state, Kind::Following, page);
    state.me.sign(now, &about, &following, buf)
}

fn sign_holding<P: Plan>(
    now: Instant,
    state: &mut State<P>,
    page: u16,
    buf: &mut [u8],
) -> Option<usize> {
    let unix_ms = state.me.clock().unix_ms(now)?;
    let first = usize::from(page) * HOLDING_PER_PAGE;
    let mut entries = [0; HELD_LEN * HOLDING_PER_PAGE];
    let mut used = 0;
    let mut longest_ms = 1_000;
    for slot in first..first.saturating_add(HOLDING_PER_PAGE) {
        let Some(view) = state.copies.at(now, &state.posts, slot) else {
            continue;
        };
        longest_ms = longest_ms.max(view.remaining_ms);
        let until = unix_ms.saturating_add(view.remaining_ms).to_be_bytes();
        let place = entries.get_mut(used..)?.get_mut(..HELD_LEN)?;
        let (author, date) = place.split_at_mut_checked(ID_BYTES)?;
        author.copy_from_slice(view.author.as_bytes());
        date.copy_from_slice(&until);
        used += HELD_LEN;
    }
    let holding = Holding {
        entries: entries.get(..used)?,
    };
    let about = About {
        lifetime_ms: u32::try_from(longest_ms).unwrap_or(u32::MAX),
        ..about_me(state, Kind::Holding, page)
    };
    state.me.sign(now, &about, &holding, buf)
}

// The fullest page, 12 entries of the longest names, and the fullest page of holdings fit a record.
const _: () = assert!(
    FOLLOWING_PER_PAGE * (32 + 1 + crate::name::NAME_CHARS_MAX) + 8 <= PAYLOAD_LEN_MAX
        && HOLDING_PER_PAGE * HELD_LEN + 2 <= PAYLOAD_LEN_MAX
        && PAYLOAD_LEN_MAX < RECORD_LEN_MAX
);
