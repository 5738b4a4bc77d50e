//! Comparing: what this node says when a holder tells it what lies with that.
//!
//! Owns the answer alone: which of the records told this node lacks and would take, and which it holds too; and which of
//! two records of a slot is the newer. Asking, and what follows from the answer, is `repair`'s. Invariants: nothing
//! changes here; one datagram costs a bounded number of hashes, whatever it tells.

use crate::id::Key;
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::records::Held;
use crate::rules::Rule;
use crate::wire::datagram::{DIGEST_LEN, Digest, Told};
use crate::wire::record::{Kinds, Record};

use super::Dht;

/// A datagram that tells what is held is compared with about this many own records at most, each of which takes a hash.
pub const COMPARED_MAX: usize = 256;

impl<P: Plan> Dht<P> {
    /// Which of the records that a holder tells this node lacks and would take, and which it holds: bit n for the nth.
    pub(super) fn compared(&self, told: &[u8]) -> (u64, u64) {
        let (mut lacks, mut holds) = (0, 0);
        let (mut told_before, mut compared) = (0_u32, 0);
        for Told { location, digests } in Told::iter(told) {
            if compared > COMPARED_MAX {
                // One location told again and again, or many full ones: the rest another time.
                break;
            }
            let (mut count, mut known, mut same) = (0, 0_u64, 0_u64);
            for own in self.records.read(self.now, &location, Kinds::ALL, 0) {
                count += 1;
                compared += 1;
                let Some(own) = digest_of::<P>(&own) else {
                    continue;
                };
                for (theirs, n) in Digest::iter(digests).zip(told_before..u64::BITS) {
                    known |= u64::from(theirs.slot == own.slot) << n;
                    same |= u64::from(theirs == own) << n;
                }
            }
            holds |= same;
            let takes_more = self.takes_more(&location, count);
            for (_, n) in Digest::iter(digests).zip(told_before..u64::BITS) {
                let bit = 1 << n;
                if same & bit == 0 && (takes_more || known & bit != 0) {
                    lacks |= bit;
                }
            }
            let told_here = u32::try_from(digests.len() / DIGEST_LEN).unwrap_or(u32::MAX);
            told_before = told_before.saturating_add(told_here);
            if told_before >= u64::BITS {
                break;
            }
        }
        (lacks, holds)
    }

    /// Whether one more record may find a place at a location that has `count`. Nodes that may be one of those that should
    /// hold it take it: some that seem nearer are perhaps dead.
    fn takes_more(&self, location: &Key, count: usize) -> bool {
        count < P::RECORDS_PER_LOCATION
            && self.overlay.nearer_than_own(location, P::Overlay::near()) < P::Overlay::near()
    }
}

/// What stands for a record when holders compare.
pub(super) fn digest_of<P: Plan>(held: &Held<'_>) -> Option<Digest> {
    let record = &Record::decode(held.bytes);
    let record = record.as_ref().ok()?;
    Some(Digest::of::<P::Crypto>(record, held.depth))
}

/// Whether a record is another one of the same slot, with a higher sequence than an own one, or with the same, unless it
/// is to be `higher`.
///
/// # Errors
/// [`Rule::Older`]: it is not. Or what is wrong with it.
#[inline(never)] // Its frame, of two records, is to be gone before anything is verified.
pub(super) fn is_newer(own: &[u8], theirs: &[u8], higher: bool) -> Result<(), Rule> {
    let (own, theirs) = (&Record::decode(own), &Record::decode(theirs));
    let (own, theirs) = match (own, theirs) {
        (Ok(own), Ok(theirs)) => (own, theirs),
        (Err(rule), _) | (_, Err(rule)) => return Err(*rule),
    };
    let newer = theirs.key == own.key
        && theirs.slot() == own.slot()
        && (theirs.sequence > own.sequence || (theirs.sequence == own.sequence && !higher))
        && theirs.bytes != own.bytes;
    if newer { Ok(()) } else { Err(Rule::Older) }
}
