//! Where contacts lie in the table: buckets, and the order by distance within them.
//!
//! Looks and changes nothing. Invariant: as the table's, that the list is sorted by bucket.

use crate::bounded::{Fixed, List, sort_by};
use crate::id::{Distance, ID_BYTES, Key, NodeId, prefix64};
use crate::wire::datagram::Contact;

use super::{BUCKET_MAX, Kademlia};
use crate::overlay::{Entry, K, Nearest, Overlay, Silent, Spare};

/// One bucket's places in the list, to be sorted by distance: its leading bits and the place.
type Ranked = Fixed<(u64, u16), BUCKET_MAX>;

/// Whether a contact would find a place.
pub(super) enum Room {
    /// There is one.
    Free,
    /// There is if the contact at this place goes.
    Of(usize),
    /// There is none; the contact at this place was not heard for longest.
    None(Option<usize>),
}

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>> Kademlia<L, S, F> {
    /// The bucket of an id: the bits that it shares with the own id.
    pub(super) fn bucket_of(&self, id: &NodeId) -> u8 {
        let shared = Distance::between(self.own.as_bytes(), id.as_bytes()).leading_zeros();
        u8::try_from(shared).unwrap_or(u8::MAX)
    }

    pub(super) fn bucket_at(&self, place: usize) -> u8 {
        self.entries
            .get(place)
            .map_or(u8::MAX, |entry| entry.bucket)
    }

    /// The first place of a bucket that is `bucket` or deeper.
    pub(super) fn bucket_start(&self, bucket: u32) -> usize {
        self.entries
            .as_slice()
            .partition_point(|entry| u32::from(entry.bucket) < bucket)
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
        let start = self.bucket_start(u32::from(self.bucket_of(id)));
        let end = self.run_end(start);
        let run = self.entries.as_slice().get(start..end)?;
        // The one heard last is the most likely to be heard again.
        run.iter()
            .rposition(|entry| entry.contact.id == *id)
            .map(|at| start + at)
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
        let to = prefix64(target.as_bytes());
        let mut ranked = Ranked::EMPTY;
        let run = self.entries.as_slice().get(start..end).unwrap_or_default();
        for (place, entry) in (start..).zip(run) {
            // Places fit 16 bits, and a bucket fits the list.
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            let _ = ranked.push((prefix64(entry.contact.id.as_bytes()) ^ to, place));
        }
        let whole = |place: u16| {
            let id = self
                .at(place)
                .map_or(&[0; ID_BYTES], |entry| entry.contact.id.as_bytes());
            Distance::between(id, target.as_bytes())
        };
        sort_by(ranked.as_mut_slice(), |(a, a_place), (b, b_place)| {
            a.cmp(b).then_with(|| whole(*a_place).cmp(&whole(*b_place)))
        });
        for &(_, place) in ranked.as_slice() {
            if nearest.push(place).is_err() {
                return;
            }
        }
    }

    /// Counts the contacts nearer to this node than `id`, which is in or belongs to `bucket`.
    pub(super) fn nearer_neighbours(&self, id: &NodeId, bucket: u8) -> usize {
        let start = self.bucket_start(u32::from(bucket));
        let end = self.bucket_start(u32::from(bucket) + 1);
        let own = Key::from_bytes(*self.own.as_bytes());
        let run = self.entries.as_slice().get(start..end).unwrap_or_default();
        let nearer = run
            .iter()
            .filter(|e| self.is_nearer(&own, &e.contact.id, id))
            .count();
        nearer + self.entries.len() - end
    }

    /// Whether a newcomer would find a place, see [`BUCKET_MAX`].
    pub(super) fn room(&self, id: &NodeId, bucket: u8) -> Room {
        let start = self.bucket_start(u32::from(bucket));
        let len = self.bucket_start(u32::from(bucket) + 1) - start;
        let rank = if len < K {
            0
        } else {
            self.nearer_neighbours(id, bucket)
        };
        if len >= BUCKET_MAX || (len >= K && rank >= K) {
            return Room::None(Some(start));
        }
        if !self.entries.is_full() {
            return Room::Free;
        }
        // A table smaller than its buckets: the nearest neighbours are safe, the other buckets share the
        // rest evenly.
        let safe = K.min(L::CAPACITY / 2);
        let fullest = self.fullest_bucket(self.entries.len().saturating_sub(safe));
        let near = self.nearer_neighbours(id, bucket) < safe;
        match fullest {
            Some((place, count)) if near || count > len + 1 => Room::Of(place),
            Some(_) | None => Room::None((len > 0).then_some(start)),
        }
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

/// Whether two ids at this distance differ at a bit.
pub(super) fn differs(distance: &Distance, bit: u8) -> bool {
    let byte = distance
        .as_bytes()
        .get(usize::from(bit / 8))
        .copied()
        .unwrap_or(0);
    byte & (0x80 >> (bit % 8)) != 0
}
