//! What the store knows about a record beside its bytes: [`Entry`], 24 bytes, since a board holds 32 of them.
//!
//! Whatever the bytes of the record tell is not repeated here; tags of 16 and 32 bits stand in for ids, so that
//! most comparisons need no decoding. A tag that agrees proves nothing: whoever finds one compares the record.
//! Invariant: the tags are functions of the store's secret, so that a stranger cannot choose what collides.

use crate::addr::Source;
use crate::id::Key;
use crate::time::Instant;
use crate::wire::record::{Kind, Slot};

/// The longest age that a holder believes and tells, in milliseconds: ten years.
pub const AGE_MAX_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// The place of one record in the tables of the store: opaque, named by memory plans alone.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of the location.
    pub(super) location: u32,
    /// Of kind, author, subject and page.
    pub(super) slot: u16,
    /// Of who brought the record; see [`Tags::source`].
    pub(super) source: u16,
    /// The slot of the next record at the location; its own if it is the last.
    next: u16,
    expires: Stamp,
    /// When the slot was first seen, plus [`AGE_MAX_MS`]: that may have been before the host's clock began.
    seen: Stamp,
    /// See [`Key::shard`].
    depth: u8,
    /// The tag of the kind, and the flags below.
    flags: u8,
}

const _: () = assert!(size_of::<Entry>() == 24);

const KIND: u8 = 0b111;
const LIVE: u8 = 1 << 3;
const HEAD: u8 = 1 << 4;
const SPILLED: u8 = 1 << 5;

impl Entry {
    /// The entry of a slot without a record.
    pub(super) const FREE: Self = Self {
        location: 0,
        slot: 0,
        source: 0,
        next: 0,
        expires: Stamp::ZERO,
        seen: Stamp::ZERO,
        depth: 0,
        flags: 0,
    };

    /// The entry of a record that was first seen `age_ms` ago. Tags and link are for the table to set.
    pub(super) fn new(now: Instant, kind: Kind, depth: u8, age_ms: u64, expires: Instant) -> Self {
        let seen_ms = now.as_ms().saturating_add(AGE_MAX_MS);
        Self {
            expires: Stamp::from_ms(expires.as_ms()),
            seen: Stamp::from_ms(seen_ms.saturating_sub(age_ms.min(AGE_MAX_MS))),
            depth,
            flags: LIVE | kind as u8,
            ..Self::FREE
        }
    }

    /// Tells whether there is a record.
    pub(super) const fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    /// Tells whether the record is the first of its location, by which the others are found.
    pub(super) const fn is_head(&self) -> bool {
        self.flags & HEAD != 0
    }

    pub(super) const fn set_head(&mut self) {
        self.flags |= HEAD;
    }

    /// The slot of the next record at the location, for the entry in slot `own`.
    pub(super) fn next(&self, own: usize) -> Option<usize> {
        let next = usize::from(self.next);
        (next != own).then_some(next)
    }

    /// Sets the next slot; the entry's own makes it the last.
    pub(super) fn set_next(&mut self, slot: usize) {
        // A table asserts that its slots are below 2^16.
        self.next = u16::try_from(slot).unwrap_or(u16::MAX);
    }

    /// Tells whether the location is, or was, full.
    pub(super) const fn is_spilled(&self) -> bool {
        self.flags & SPILLED != 0
    }

    pub(super) const fn set_spilled(&mut self) {
        self.flags |= SPILLED;
    }

    /// The tag of the record's kind, below 8.
    pub(super) const fn kind_tag(&self) -> u8 {
        self.flags & KIND
    }

    /// When the record expires.
    pub(super) const fn expires(&self) -> Instant {
        Instant::from_ms(self.expires.as_ms())
    }

    /// Sets the expiry, rounded down to a millisecond.
    pub(super) const fn set_expires(&mut self, at: Instant) {
        self.expires = Stamp::from_ms(at.as_ms());
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires()
    }

    /// How long ago the slot was first seen, at most [`AGE_MAX_MS`].
    pub(super) fn age_ms(&self, now: Instant) -> u64 {
        let now_ms = now.as_ms().saturating_add(AGE_MAX_MS);
        now_ms.saturating_sub(self.seen.as_ms()).min(AGE_MAX_MS)
    }

    pub(super) const fn depth(&self) -> u8 {
        self.depth
    }

    /// Under which an index keeps the head of a location with this tag.
    pub(super) const fn hash(location: u32) -> u64 {
        spread(location)
    }
}

const _: () = assert!(Kind::ALL.len() == KIND as usize + 1);

/// Spreads a tag over 64 bits, for an index that looks at the highest and the lowest.
pub(super) const fn spread(tag: u32) -> u64 {
    // 2^64 divided by the golden ratio, made odd: multiplication permutes.
    (tag as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whole milliseconds in 6 bytes: they count 8,900 years, and then stay.
#[derive(Clone, Copy, Debug)]
struct Stamp([u8; 6]);

impl Stamp {
    const ZERO: Self = Self([0; 6]);
    const MAX_MS: u64 = (1 << 48) - 1;

    const fn from_ms(ms: u64) -> Self {
        let ms = if ms < Self::MAX_MS { ms } else { Self::MAX_MS };
        let [bytes @ .., _, _] = ms.to_le_bytes();
        Self(bytes)
    }

    const fn as_ms(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// Makes the tags of one store: a polynomial over the integers modulo 2^61 - 1, evaluated at a secret point
/// (Carter and Wegman, "Universal classes of hash functions", 1979).
///
/// Two inputs of n words collide for at most n of 2^61 points, however they were chosen. Nothing that depends on a
/// tag is shown to anybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tags {
    point: u64,
}

/// The prime 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;

impl Tags {
    /// Tags that anybody can predict; they only hold the place of others.
    pub(super) const UNSEEDED: Self = Self { point: 0 };

    pub(super) const fn new(secret: u64) -> Self {
        Self {
            point: secret % PRIME,
        }
    }

    pub(super) fn location(self, location: &Key) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.of(&[location.as_bytes()]).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    pub(super) fn slot(self, slot: &Slot) -> u16 {
        let subject = slot.subject.unwrap_or_default();
        let [high, low] = slot.page.to_be_bytes();
        let rest = [slot.kind as u8, u8::from(slot.subject.is_some()), high, low];
        self.short(&[slot.author.as_bytes(), subject.as_bytes(), &rest])
    }

    /// The tag of a source, never 0: that is for this node itself.
    pub(super) fn source(self, source: Source) -> u16 {
        self.short(&[source.as_bytes()]).max(1)
    }

    fn short(self, parts: &[&[u8]]) -> u16 {
        let [_, _, _, _, _, _, a, b] = self.of(parts).to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    fn of(self, parts: &[&[u8]]) -> u64 {
        let mut sum = 0;
        for part in parts {
            for bytes in part.chunks(4) {
                let word = bytes.iter().fold(0, |word, &b| word << 8 | u64::from(b));
                // Below 2^61 + 2^32, so that the product is below 2^123.
                sum = reduce(u128::from(sum + word) * u128::from(self.point));
            }
        }
        sum
    }
}

/// The remainder modulo 2^61 - 1 of a number below 2^123.
fn reduce(number: u128) -> u64 {
    let prime = u128::from(PRIME);
    let folded = (number & prime) + (number >> 61);
    let folded = (folded & prime) + (folded >> 61);
    // Less than 2^61 + 4 now, which fits.
    let folded = u64::try_from(folded).unwrap_or(0);
    if folded >= PRIME {
        folded - PRIME
    } else {
        folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;

    #[test]
    fn times_come_back_in_whole_milliseconds_and_saturate() {
        let now = Instant::from_us(5_999);
        let mut entry = Entry::new(now, Kind::Value, 3, 2, now.after_ms(7));
        assert_eq!(entry.expires(), Instant::from_ms(12));
        assert!(!entry.is_expired(Instant::from_us(11_999)));
        assert!(entry.is_expired(Instant::from_ms(12)));
        assert_eq!(entry.age_ms(now), 2);
        assert_eq!(entry.age_ms(Instant::from_ms(10)), 7);
        entry.set_expires(Instant::from_us(u64::MAX));
        assert_eq!(entry.expires(), Instant::from_ms((1 << 48) - 1));
        assert_eq!(entry.age_ms(Instant::from_us(u64::MAX)), AGE_MAX_MS);
        let oldest = Entry::new(now, Kind::Value, 0, u64::MAX, now);
        assert_eq!(oldest.age_ms(now), AGE_MAX_MS);
    }

    #[test]
    fn flags_and_kind_do_not_touch_each_other() {
        for kind in Kind::ALL {
            let mut entry = Entry::new(Instant::ZERO, kind, 0, 0, Instant::ZERO);
            assert!(entry.is_live() && !entry.is_head() && !entry.is_spilled());
            entry.set_head();
            assert!(entry.is_head() && !entry.is_spilled());
            entry.set_spilled();
            assert!(entry.is_head() && entry.is_spilled() && entry.is_live());
            assert_eq!(Kind::of_tag(entry.kind_tag()), Some(kind));
        }
        assert!(!Entry::FREE.is_live());
    }

    #[test]
    fn the_polynomial_is_evaluated_modulo_the_prime() {
        let p = u128::from(PRIME);
        for (number, remainder) in [
            (0, 0),
            (p - 1, PRIME - 1),
            (p, 0),
            (p + 1, 1),
            (p * p, 0),
            ((p - 1) * (p - 1), 1),
            ((1 << 123) - 1, 1),
        ] {
            assert_eq!(reduce(number), remainder, "{number}");
        }
        // 0x01020304 · 10^2 + 0x05 · 10
        let tags = Tags::new(10);
        assert_eq!(tags.of(&[&[1, 2, 3, 4, 5]]), 0x0102_0304 * 100 + 50);
        assert_eq!(Tags::new(PRIME + 10).of(&[&[1], &[2]]), 120);
    }

    #[test]
    fn tags_depend_on_every_part_and_on_the_secret() {
        let tags = Tags::new(0x1234_5678_9abc_def1);
        let base = Slot {
            kind: Kind::Follow,
            author: UserId::from_bytes([1; 32]),
            subject: Some(UserId::from_bytes([2; 32])),
            page: 3,
        };
        let others = [
            Slot {
                kind: Kind::Sighting,
                ..base
            },
            Slot {
                author: UserId::from_bytes([4; 32]),
                ..base
            },
            Slot {
                subject: None,
                ..base
            },
            Slot { page: 4, ..base },
        ];
        for other in others {
            assert_ne!(tags.slot(&base), tags.slot(&other), "{other:?}");
        }
        assert_ne!(tags.slot(&base), Tags::new(77).slot(&base));
        // Without a subject is not the same as about nobody.
        let (none, nobody) = (None, Some(UserId::ZERO));
        assert_ne!(
            tags.slot(&Slot {
                subject: none,
                ..base
            }),
            tags.slot(&Slot {
                subject: nobody,
                ..base
            })
        );
        assert_ne!(
            tags.location(&Key::from_bytes([1; 32])),
            tags.location(&Key::from_bytes([2; 32]))
        );
        assert_eq!(Tags::UNSEEDED.source(Source::default()), 1, "never 0");
    }
}
