//! Byte strings of different lengths within one bound, in place ([`Arena`]) or on the heap
//! ([`Boxed`]).
//!
//! Records and posts lie here: slots of the largest size would not fit a board. It does not look
//! into the bytes and evicts nothing. Invariant: `used_bytes` is the sum of the lengths of the
//! blobs that are there, and at most [`Blobs::BYTES`].

#[cfg(feature = "alloc")]
use alloc::{boxed::Box, vec::Vec};

#[cfg(feature = "alloc")]
use super::Grown;
use super::{Fixed, Handle, Slab, Slot};

/// Names one blob for as long as it is there; like a [`Handle`] it finds nothing afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlobId(Handle);

impl BlobId {
    /// Packs the id into one number, never 0: see [`Handle::to_bits`].
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// Unpacks what [`to_bits`](Self::to_bits) packed; 0 gives an id that finds nothing.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(Handle::from_bits(bits))
    }

    /// Tells the slot of the blob, less than [`Blobs::SLOTS`]: the place of what somebody keeps beside it.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index()
    }
}

/// A store of byte strings, limited in number and in the sum of their lengths.
///
/// An empty blob takes a slot and no bytes.
///
/// ```
/// use strandline_core::bounded::{Arena, Blobs};
///
/// let mut blobs: Arena<8, 4> = Arena::EMPTY;
/// let tide = blobs.insert(b"tide").unwrap();
/// assert_eq!(blobs.insert(b"flotsam"), None);
/// assert_eq!(blobs.get(tide), Some(b"tide".as_slice()));
/// ```
pub trait Blobs: Sized {
    /// A store of no blobs.
    const EMPTY: Self;

    /// The most blobs that the store ever holds.
    const SLOTS: usize;

    /// The most bytes that the blobs have together.
    const BYTES: usize;

    /// Keeps the concatenation of `parts` as one blob. `None`, and nothing changed, when there is
    /// no slot or no room for it (see [`fits`](Self::fits)), or no memory to be had.
    fn insert_parts(&mut self, parts: &[&[u8]]) -> Option<BlobId>;

    /// Keeps a copy of `bytes`. `None`, and nothing changed, when there is no slot or no room for
    /// it (see [`fits`](Self::fits)), or no memory to be had.
    fn insert(&mut self, bytes: &[u8]) -> Option<BlobId> {
        self.insert_parts(&[bytes])
    }

    /// Gives the id of the blob in slot `index`, if there is one.
    fn id_at(&self, index: usize) -> Option<BlobId>;

    /// Shows a blob; `None` when the id is stale.
    fn get(&self, id: BlobId) -> Option<&[u8]>;

    /// Shows a blob, to change bytes of it; `None` when the id is stale.
    fn get_mut(&mut self, id: BlobId) -> Option<&mut [u8]>;

    /// Puts other bytes, of any length, in the place of a blob, which keeps its id. False, and
    /// nothing changed, when the id is stale, or when there is no room even after the old bytes
    /// are gone.
    #[must_use]
    fn replace(&mut self, id: BlobId, bytes: &[u8]) -> bool;

    /// Drops a blob; false when the id is stale.
    fn remove(&mut self, id: BlobId) -> bool;

    /// Drops all blobs; every id given out is stale from then on.
    fn clear(&mut self);

    /// Counts the bytes of all blobs.
    fn used_bytes(&self) -> usize;

    /// Counts the blobs.
    fn len(&self) -> usize;

    /// Tells whether there are no blobs.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether there are a slot and room for one more blob of `len` bytes.
    #[inline(never)] // Called from many places: shorter on a board.
    fn fits(&self, len: usize) -> bool {
        self.len() < Self::SLOTS && len <= Self::BYTES.saturating_sub(self.used_bytes())
    }
}

/// [`Blobs`] that lie inside the value itself, without gaps: dropping one moves those behind it,
/// which takes time in proportion to `BYTES` and `SLOTS`. `BYTES` is at most 65,535.
#[derive(Clone, Debug)]
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct Arena<const BYTES: usize, const SLOTS: usize> {
    /// Where the blobs end and the room begins.
    used: u16,
    spans: Slab<Span, Fixed<Slot<Span>, SLOTS>>,
    bytes: [u8; BYTES],
}

/// Where a blob of an [`Arena`] lies: `start + len` is at most `used`, and no two overlap.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u16,
    len: u16,
}

impl Span {
    fn range(self) -> core::ops::Range<usize> {
        let start = usize::from(self.start);
        start..start + usize::from(self.len)
    }
}

impl<const BYTES: usize, const SLOTS: usize> Arena<BYTES, SLOTS> {
    /// Tells where a new blob of `len` bytes goes once `spared` bytes of an old one are gone;
    /// `None` if there is no room for it.
    fn span_after(&self, len: usize, spared: u16) -> Option<Span> {
        // What is spared lies within `used`.
        let start = self.used - spared;
        let len = u16::try_from(len).ok()?;
        let end = start.checked_add(len)?;
        (usize::from(end) <= BYTES).then_some(Span { start, len })
    }

    /// Takes the bytes of a span out by moving those behind it, and their spans, forward.
    fn close_gap(&mut self, gap: Span) {
        move_up(&mut self.bytes, gap, self.used);
        self.used -= gap.len;
        for (_, span) in self.spans.iter_mut() {
            if span.start > gap.start {
                // What lies behind the gap begins at its end or later.
                span.start -= gap.len;
            }
        }
    }

    /// Copies `parts` to a span at the end.
    fn fill(&mut self, span: Span, parts: &[&[u8]]) {
        copy_parts(&mut self.bytes, span, parts);
        self.used += span.len;
    }
}

/// Moves what lies behind a gap, up to `used`, to its beginning.
#[inline(never)] // Once for the arenas of all sizes, as the next.
fn move_up(bytes: &mut [u8], gap: Span, used: u16) {
    // A span lies within `used`, which is within the array; the compiler, which must see that this cannot panic, does
    // not know that.
    let (start, len) = (usize::from(gap.start), usize::from(gap.len));
    if let Some(rest) = bytes.get_mut(start..usize::from(used))
        && len <= rest.len()
    {
        rest.copy_within(len.., 0);
    }
}

#[inline(never)]
fn copy_parts(bytes: &mut [u8], span: Span, parts: &[&[u8]]) {
    let mut room = bytes.get_mut(span.range()).unwrap_or_default();
    for part in parts {
        let Some((place, rest)) = room.split_at_mut_checked(part.len()) else {
            return;
        };
        place.copy_from_slice(part);
        room = rest;
    }
}

impl<const BYTES: usize, const SLOTS: usize> Blobs for Arena<BYTES, SLOTS> {
    const EMPTY: Self = {
        assert!(
            BYTES <= u16::MAX as usize,
            "an arena addresses its bytes with 16 bits"
        );
        Self {
            bytes: [0; BYTES],
            used: 0,
            spans: Slab::EMPTY,
        }
    };
    const SLOTS: usize = SLOTS;
    const BYTES: usize = BYTES;

    fn insert_parts(&mut self, parts: &[&[u8]]) -> Option<BlobId> {
        let span = self.span_after(length(parts)?, 0)?;
        let id = self.spans.insert(span).ok()?;
        self.fill(span, parts);
        Some(BlobId(id))
    }

    fn id_at(&self, index: usize) -> Option<BlobId> {
        self.spans.handle_at(index).map(BlobId)
    }

    fn get(&self, id: BlobId) -> Option<&[u8]> {
        self.bytes.get(self.spans.get(id.0)?.range())
    }

    fn get_mut(&mut self, id: BlobId) -> Option<&mut [u8]> {
        self.bytes.get_mut(self.spans.get(id.0)?.range())
    }

    fn replace(&mut self, id: BlobId, bytes: &[u8]) -> bool {
        let Some(&old) = self.spans.get(id.0) else {
            return false;
        };
        let Some(new) = self.span_after(bytes.len(), old.len) else {
            return false;
        };
        self.close_gap(old);
        if let Some(span) = self.spans.get_mut(id.0) {
            *span = new;
        }
        self.fill(new, &[bytes]);
        true
    }

    fn remove(&mut self, id: BlobId) -> bool {
        let Some(span) = self.spans.remove(id.0) else {
            return false;
        };
        self.close_gap(span);
        true
    }

    fn clear(&mut self) {
        self.spans.clear();
        self.used = 0;
    }

    fn used_bytes(&self) -> usize {
        usize::from(self.used)
    }

    fn len(&self) -> usize {
        self.spans.len()
    }
}

#[cfg(feature = "alloc")]
type Blob = Box<[u8]>;

/// [`Blobs`] on the heap, each in an allocation of its own, together at most `BYTES` bytes (not
/// counting the allocator's overhead and 24 bytes for each slot that was ever used).
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Boxed<const BYTES: usize, const SLOTS: usize> {
    blobs: Slab<Blob, Grown<Slot<Blob>, SLOTS>>,
    used: usize,
}

#[cfg(feature = "alloc")]
impl<const BYTES: usize, const SLOTS: usize> Blobs for Boxed<BYTES, SLOTS> {
    const EMPTY: Self = Self {
        blobs: Slab::EMPTY,
        used: 0,
    };
    const SLOTS: usize = SLOTS;
    const BYTES: usize = BYTES;

    fn insert_parts(&mut self, parts: &[&[u8]]) -> Option<BlobId> {
        let len = length(parts)?;
        if !self.fits(len) {
            return None;
        }
        let id = self.blobs.insert(boxed(len, parts)?).ok()?;
        self.used += len;
        Some(BlobId(id))
    }

    fn id_at(&self, index: usize) -> Option<BlobId> {
        self.blobs.handle_at(index).map(BlobId)
    }

    fn get(&self, id: BlobId) -> Option<&[u8]> {
        self.blobs.get(id.0).map(AsRef::as_ref)
    }

    fn get_mut(&mut self, id: BlobId) -> Option<&mut [u8]> {
        self.blobs.get_mut(id.0).map(AsMut::as_mut)
    }

    fn replace(&mut self, id: BlobId, bytes: &[u8]) -> bool {
        let Some(old) = self.blobs.get_mut(id.0) else {
            return false;
        };
        if old.len() == bytes.len() {
            old.copy_from_slice(bytes);
            return true;
        }
        // The blob is there: its length is part of `used`, which is at most `BYTES`.
        let others = self.used - old.len();
        if bytes.len() > BYTES - others {
            return false;
        }
        let Some(new) = boxed(bytes.len(), &[bytes]) else {
            return false;
        };
        *old = new;
        self.used = others + bytes.len();
        true
    }

    fn remove(&mut self, id: BlobId) -> bool {
        let Some(blob) = self.blobs.remove(id.0) else {
            return false;
        };
        self.used -= blob.len();
        true
    }

    fn clear(&mut self) {
        self.blobs.clear();
        self.used = 0;
    }

    fn used_bytes(&self) -> usize {
        self.used
    }

    fn len(&self) -> usize {
        self.blobs.len()
    }
}

/// Adds up the lengths; `None` beyond what a `usize` counts.
fn length(parts: &[&[u8]]) -> Option<usize> {
    parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part.len()))
}

/// Copies `parts`, of `len` bytes together, to the heap; `None` if there is no memory.
#[cfg(feature = "alloc")]
fn boxed(len: usize, parts: &[&[u8]]) -> Option<Blob> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Some(bytes.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn refuses_at_both_limits<B: Blobs>() {
        assert_eq!((B::BYTES, B::SLOTS), (8, 3));
        let mut blobs = B::EMPTY;
        assert!(blobs.fits(8) && !blobs.fits(9) && !blobs.fits(usize::MAX));
        assert_eq!(blobs.insert(&[1; 9]), None);
        let all = blobs.insert(&[1; 8]).unwrap();
        assert_eq!(blobs.insert(&[1]), None, "no room");
        assert!(blobs.insert(&[]).is_some(), "an empty one takes no room");
        assert!(blobs.insert(&[]).is_some());
        assert_eq!(blobs.insert(&[]), None, "no slot");
        assert_eq!((blobs.len(), blobs.used_bytes()), (3, 8));
        assert_eq!(blobs.get(all), Some([1; 8].as_slice()));
        assert!(blobs.remove(all) && !blobs.remove(all));
        assert!(blobs.fits(8));
    }

    fn a_blob_survives_what_happens_to_others<B: Blobs>() {
        let mut blobs = B::EMPTY;
        let first = blobs.insert(b"ab").unwrap();
        let second = blobs.insert_parts(&[b"c", b"", b"d"]).unwrap();
        let third = blobs.insert(b"ef").unwrap();
        assert!(blobs.replace(first, b"wxyz"));
        assert_eq!(blobs.get(first), Some(b"wxyz".as_slice()));
        assert!(!blobs.replace(first, b"vwxyz"), "nine bytes together");
        assert_eq!(blobs.get(first), Some(b"wxyz".as_slice()));
        assert!(blobs.remove(second));
        assert_eq!(blobs.get(third), Some(b"ef".as_slice()));
        assert_eq!(blobs.id_at(third.index()), Some(third));
        assert_eq!(blobs.id_at(second.index()), None);
        assert_eq!(blobs.id_at(B::SLOTS), None);
        blobs.get_mut(third).unwrap().copy_from_slice(b"gh");
        assert_eq!(blobs.get(first), Some(b"wxyz".as_slice()));
        let last = blobs.insert(b"ij").unwrap();
        assert_eq!(
            blobs.get(second),
            None,
            "stale, although its slot is used again"
        );
        assert!(!blobs.replace(second, b"") && blobs.get_mut(second).is_none());
        assert_eq!(
            (blobs.get(third), blobs.get(last)),
            (Some(&b"gh"[..]), Some(&b"ij"[..]))
        );
        blobs.clear();
        assert!(blobs.is_empty() && blobs.used_bytes() == 0 && blobs.get(last).is_none());
    }

    #[test]
    fn arena() {
        refuses_at_both_limits::<Arena<8, 3>>();
        a_blob_survives_what_happens_to_others::<Arena<8, 3>>();
    }

    #[test]
    fn the_largest_arena_can_be_filled() {
        static FULL: [u8; 65_535] = [7; 65_535];
        let mut blobs = Arena::<65_535, 2>::EMPTY;
        let id = blobs.insert(&FULL).unwrap();
        assert!(!blobs.fits(1) && blobs.fits(0));
        assert!(blobs.replace(id, &FULL));
        assert_eq!(blobs.get(id), Some(FULL.as_slice()));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn boxed() {
        refuses_at_both_limits::<Boxed<8, 3>>();
        a_blob_survives_what_happens_to_others::<Boxed<8, 3>>();
        assert_eq!(size_of::<Slot<Blob>>(), 24, "as the documentation says");
    }
}
