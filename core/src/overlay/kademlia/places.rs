//! Where contacts lie in the table: buckets, and the order by distance within them.
//!
//! Looks and changes nothing. Invariant: as the table's, that the list is sorted by bucket.

use core::cmp::Ordering;

use crate::bounded::{Fixed, List};
use crate::id::{Distance, ID_BYTES, Key, NodeId};
use crate::wire::datagram::Contact;

use super::Kademlia;
use super::guide::{Guide, prefix32};
use crate::overlay::{Entry, K, Nearest, Overlay, Silent, Spare, Width};

/// Places of one bucket, nearest first: the leading bits of the distance, then the place in [`PLACE_BITS`].
type Ranked = Fixed<u64, K>;
const PLACE_BITS: u32 = 16;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// A bucket is divided by so many bits behind those shared.
const PART_BITS: u32 = 4;
/// Deeper buckets are not divided: their parts are not among the leading bits that are noted.
const PARTED_MAX: u8 = 28;

/// Whether a contact would find a place.
pub(super) enum Room {
    /// There is one.
    Free,
    /// There is if the contact at this place goes.
    Of(usize),
    /// There is none; the contact at this place was not heard for longest.
    None(Option<usize>),
}

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>, G: Guide, W: Width> Kademlia<L, S, F, G, W> {
    /// Most contacts of one bucket.
    pub(super) fn bucket_max() -> usize {
        2 * Self::k()
    }

    /// The bucket of an id: the bits that it shares with the own id.
    pub(super) fn bucket_of(&self, id: &NodeId) -> u8 {
        let shared = Distance::between(self.own.as_bytes(), id.as_bytes()).leading_zeros();
        u8::try_from(shared).unwrap_or(u8::MAX)
    }

    #[inline(never)] // Called from many places: shorter on a board.
    pub(super) fn bucket_at(&self, place: usize) -> u8 {
        self.guide.bucket_at(self.entries.as_slice(), place)
    }

    /// The first place of a bucket that is `bucket` or deeper.
    pub(super) fn bucket_start(&self, bucket: u32) -> usize {
        self.guide.bucket_start(self.entries.as_slice(), bucket)
    }

    /// The place behind the bucket that begins at or holds `place`.
    pub(super) fn run_end(&self, place: usize) -> usize {
        self.bucket_start(u32::from(self.bucket_at(place)) + 1)
    }

    /// The first place of the bucket that ends before `end`, which is not 0.
    pub(super) fn run_start(&self, end: usize) -> usize {
        self.bucket_start(u32::from(self.bucket_at(end - 1)))
    }

    /// Where a contact is.
    pub(super) fn place_of(&self, id: &NodeId) -> Option<usize> {
        let bucket = u32::from(self.bucket_of(id));
        let run = self.bucket_start(bucket)..self.bucket_start(bucket + 1);
        self.guide.place_of(self.entries.as_slice(), run, id)
    }

    /// Where a contact is, if it has this address.
    pub(super) fn place_of_contact(&self, contact: &Contact) -> Option<usize> {
        let place = self.place_of(&contact.id)?;
        self.entries
            .get(place)
            .is_some_and(|entry| entry.contact == *contact)
            .then_some(place)
    }

    /// Appends the contacts of one bucket, nearest first.
    pub(super) fn append(&self, target: &Key, start: usize, end: usize, nearest: &mut Nearest) {
        let to = prefix32(&NodeId::from_bytes(*target.as_bytes()));
        let whole = |ranked: u64| {
            let id = self
                .at(place_in(ranked))
                .map_or(&[0; ID_BYTES], |entry| entry.contact.id.as_bytes());
            Distance::between(id, target.as_bytes())
        };
        let wanted = Self::k().saturating_sub(nearest.len());
        let mut ranked = Ranked::EMPTY;
        for place in start..end {
            let leading = self.guide.prefix_at(self.entries.as_slice(), place) ^ to;
            // Places fit 16 bits.
            let new = u64::from(leading) << PLACE_BITS | (place as u64 & PLACE_MASK);
            let at = ranked.as_slice().partition_point(|&other| {
                match (other >> PLACE_BITS).cmp(&u64::from(leading)) {
                    Ordering::Less => true,
                    Ordering::Equal => whole(other) < whole(new),
                    Ordering::Greater => false,
                }
            });
            if at < wanted {
                ranked.truncate(wanted - 1);
                // There is room, see the line above.
                let _ = ranked.insert(at, new);
            }
        }
        for &one in ranked.as_slice() {
            // No more than there is room for.
            let _ = nearest.push(place_in(one));
        }
    }

    /// Counts the contacts nearer to this node than `id`, which is in or belongs to `bucket`, but only to `limit`.
    pub(super) fn nearer_neighbours(&self, id: &NodeId, bucket: u8, limit: usize) -> usize {
        let start = self.bucket_start(u32::from(bucket));
        let end = self.bucket_start(u32::from(bucket) + 1);
        let mut count = self.entries.len() - end;
        if count >= limit {
            return limit;
        }
        let own = Key::from_bytes(*self.own.as_bytes());
        let run = self.entries.as_slice().get(start..end).unwrap_or_default();
        count += run
            .iter()
            .filter(|e| self.is_nearer(&own, &e.contact.id, id))
            .count();
        count.min(limit)
    }

    /// Whether a newcomer would find a place, see [`Kademlia::bucket_max`].
    pub(super) fn room(&self, id: &NodeId, bucket: u8) -> Room {
        let start = self.bucket_start(u32::from(bucket));
        let len = self.bucket_start(u32::from(bucket) + 1) - start;
        let k = Self::k();
        let rank = if len < k {
            0
        } else {
            self.nearer_neighbours(id, bucket, k)
        };
        if len >= Self::bucket_max() || (len >= k && rank >= k) {
            let crowded = self.crowded(id, bucket, start, start + len);
            return crowded.map_or(Room::None(Some(start)), Room::Of);
        }
        if !self.entries.is_full() {
            return Room::Free;
        }
        // A table smaller than its buckets: the nearest neighbours are safe, the other buckets share the
        // rest evenly.
        let safe = k.min(L::CAPACITY / 2);
        let fullest = self.fullest_bucket(self.entries.len().saturating_sub(safe));
        let near = self.nearer_neighbours(id, bucket, safe) < safe;
        match fullest {
            Some((place, count)) if near || count > len + 1 => Room::Of(place),
            Some(_) | None => Room::None((len > 0).then_some(start)),
        }
    }

    /// The place in a full bucket that a newcomer may have because nobody is in its part of the bucket: that of the
    /// contact not heard for longest in the part with the most. A bucket is filled by looking up one key, with the
    /// nodes around that; where they lie apart, a lookup of any key gets on farther. Where some of the k nearest
    /// are, nobody goes.
    fn crowded(&self, id: &NodeId, bucket: u8, start: usize, end: usize) -> Option<usize> {
        if !G::SPREADS || bucket >= PARTED_MAX || self.entries.len() - end < Self::k() {
            return None;
        }
        let part_of = |prefix: u32| (prefix << (bucket + 1)) >> (u32::BITS - PART_BITS);
        let part_at = |place| part_of(self.guide.prefix_at(self.entries.as_slice(), place));
        let mut counts = [0_u8; 1 << PART_BITS];
        for place in start..end {
            if let Some(count) = counts.get_mut(part_at(place) as usize) {
                *count += 1;
            }
        }
        if counts.get(part_of(prefix32(id)) as usize) != Some(&0) {
            return None;
        }
        let most = counts.iter().copied().max().filter(|most| *most > 1)?;
        (start..end).find(|place| counts.get(part_at(*place) as usize) == Some(&most))
    }

    /// The bucket with the most contacts among those that begin before `end`: its first place and its size.
    /// Of equal ones the farthest.
    pub(super) fn fullest_bucket(&self, end: usize) -> Option<(usize, usize)> {
        let mut fullest = None;
        let mut at = 0;
        while at < end {
            let next = self.run_end(at);
            if fullest.is_none_or(|(_, count)| next - at > count) {
                fullest = Some((at, next - at));
            }
            at = next;
        }
        fullest
    }
}

/// The place in an element of [`Ranked`].
fn place_in(ranked: u64) -> u16 {
    // Masked to 16 bits.
    u16::try_from(ranked & PLACE_MASK).unwrap_or(u16::MAX)
}

/// Whether two ids at this distance differ at a bit.
pub(super) fn differs(distance: &Distance, bit: u8) -> bool {
    let byte = distance
        .as_bytes()
        .get(usize::from(bit / 8))
        .copied()
        .unwrap_or(0);
    byte & (0x80 >> (bit % 8)) != 0
}
