//! The limits of a holder that need nothing but numbers: how long a record lives on, and whether its location has a
//! place for its kind. No state. Invariant: what is left to live never rises, whatever path a copy takes.

use crate::clock::Clock;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::record::{Kind, Record};

/// The shortest rest of a lifetime for which a record is taken or passed on, in milliseconds.
pub const REMAINING_MIN_MS: u64 = 1000;

/// The longest that a record of an author without a clock is held from its first receipt, in milliseconds.
pub const CLOCKLESS_LIFETIME_MAX_MS: u64 = 60 * 60 * 1000;

/// How far a clock may be off without its owner's knowing, in milliseconds.
const CLOCK_ERROR_MS: u64 = 5 * 60 * 1000;
/// How far an issuing time may lie in the future, beyond the uncertainty of the holder's or reader's clock, in
/// milliseconds: the author's clock may be as far ahead as theirs is behind. Nothing is gained by a future date, since
/// what is left to live never exceeds the lifetime.
pub const FUTURE_MAX_MS: u64 = 2 * CLOCK_ERROR_MS;

/// Tells how long a record received at `now` may be held, in milliseconds, when its sender said that `told_ms` are
/// left.
///
/// It is the least of what was told, the lifetime, what the holder's clock (if set) says is left since issuing, and
/// for an author without a clock [`CLOCKLESS_LIFETIME_MAX_MS`].
///
/// # Errors
/// [`Rule::Lifetime`] if less than [`REMAINING_MIN_MS`] is left, [`Rule::Future`] if it was issued too far in the
/// future by the holder's clock.
pub(crate) fn remaining_ms(
    now: Instant,
    clock: &Clock,
    record: &Record<'_>,
    told_ms: u64,
) -> Result<u64, Rule> {
    let lifetime_ms = u64::from(record.lifetime_ms);
    let mut remaining_ms = told_ms.min(lifetime_ms);
    if record.issued_ms == 0 {
        remaining_ms = remaining_ms.min(CLOCKLESS_LIFETIME_MAX_MS);
    } else if let (Some(unix_ms), Some(uncertainty_ms)) =
        (clock.unix_ms(now), clock.uncertainty_ms(now))
    {
        let latest_ms = unix_ms
            .saturating_add(u64::from(uncertainty_ms))
            .saturating_add(FUTURE_MAX_MS);
        if record.issued_ms > latest_ms {
            return Err(Rule::Future);
        }
        let end_ms = record.issued_ms.saturating_add(lifetime_ms);
        remaining_ms = remaining_ms.min(end_ms.saturating_sub(unix_ms));
    }
    if remaining_ms < REMAINING_MIN_MS {
        return Err(Rule::Lifetime);
    }
    Ok(remaining_ms)
}

/// How many records of each kind a location holds, by the tag of the kind.
pub(super) type Counts = [u16; Kind::ALL.len()];

/// One of so many places of a key each reserved kind has to itself: `Profile`, `Head`, `Following`, `Holding`, `Follow`.
///
/// All kinds share the rest. Claims may take every place, and so may any kind in a shard below a key.
pub const RESERVED_SHARE: usize = 8;

/// The kinds with places to themselves at the key of a user.
///
/// What a user says about itself always finds room, whatever strangers pile up there: `Follow` records, sightings,
/// values. And what it says does not keep the first followers out.
const RESERVED: [Kind; 5] = [
    Kind::Profile,
    Kind::Head,
    Kind::Following,
    Kind::Holding,
    Kind::Follow,
];

/// Tells whether a location with these records and `places` in all has one for another record of `kind`.
///
/// At a key itself (depth 0) each kind of [`RESERVED`] has an eighth of the places to itself, and all share the
/// rest. Claims may take every place: at the key of a name there is nothing reserved to take away. Neither is there
/// below (depth 1 and more), where a place is as good as any.
pub(super) fn has_place(kind: Kind, depth: u8, counts: &Counts, places: usize) -> bool {
    let count_of = |kind: Kind| counts.get(kind as usize).map_or(0, |&n| usize::from(n));
    let held: usize = counts.iter().map(|&n| usize::from(n)).sum();
    let kept_free: usize = if depth > 0 || kind == Kind::Claim {
        0
    } else {
        let others = RESERVED.into_iter().filter(|&other| other != kind);
        others
            .map(|other| (places / RESERVED_SHARE).saturating_sub(count_of(other)))
            .sum()
    };
    held.saturating_add(kept_free) < places
}
