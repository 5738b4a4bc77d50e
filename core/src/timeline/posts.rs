//! The bytes behind log, copies and profiles: one bounded store, in which posts lie as chains, newest first.
//!
//! Every stored post begins with a link to the next older one, so that a chain needs no table of its own: a board
//! could not afford it. Owns links and bytes; whose chain it is, and what goes when the store is full, is decided by
//! [`super::log`] and [`super::copies`]. Invariant: a link is either [`PostId::NONE`], or stale, or leads to a
//! post with a lower number.

use crate::bounded::{BlobId, Blobs};
use crate::plan::Plan;

/// The longest frame or post that passes through the store on its way to somebody else, in bytes.
pub const PASSING_LEN_MAX: usize = 800;
/// What own posts leave free, in bytes: room for the own head, and for one frame on its way. Everything else in the
/// store gives way to those.
pub const SPARE_LEN: usize = 480 + PASSING_LEN_MAX;

/// Bytes before a stored post: link, number and time of first sight, 8 each.
const PREFIX_LEN: usize = 24;

/// The place of a stored post. Finds nothing once the post is gone, so it may be kept across calls as a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PostId(u64);

impl PostId {
    /// No post: the end of a chain. All zero.
    pub const NONE: Self = Self(0);

    /// Whether this is [`PostId::NONE`]. A stale id is not.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    const fn blob(self) -> BlobId {
        BlobId::from_bits(self.0)
    }
}

/// The place of a stored record (a head, a profile). Finds nothing once the record is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordId(u64);

impl RecordId {
    /// No record. All zero.
    pub const NONE: Self = Self(0);
}

/// A stored post, as [`Posts::get`] shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredPost<'a> {
    /// Where it lies.
    pub id: PostId,
    /// The next older one of the chain.
    pub older: PostId,
    /// Its number.
    pub seq: u64,
    /// When this node first saw it, Unix ms; 0 without a clock.
    pub seen_ms: u64,
    /// The post as it travels, see [`crate::wire::post`].
    pub bytes: &'a [u8],
}

/// The store.
pub struct Posts<P: Plan> {
    blobs: P::Posts,
}

impl<P: Plan> Posts<P> {
    /// A store of nothing.
    pub const EMPTY: Self = Self {
        blobs: P::Posts::EMPTY,
    };

    /// Whether a post of `len` bytes fits now.
    #[must_use]
    pub fn fits(&self, len: usize) -> bool {
        self.blobs.fits(len.saturating_add(PREFIX_LEN))
    }

    /// Whether a record of `len` bytes fits now.
    #[must_use]
    pub fn fits_record(&self, len: usize) -> bool {
        self.blobs.fits(len)
    }

    /// Stores a post in front of `older`. `None`, and nothing changed, when there is no room.
    pub fn add(&mut self, older: PostId, seq: u64, seen_ms: u64, bytes: &[u8]) -> Option<PostId> {
        let parts: [&[u8]; 4] = [
            &older.0.to_be_bytes(),
            &seq.to_be_bytes(),
            &seen_ms.to_be_bytes(),
            bytes,
        ];
        let blob = self.blobs.insert_parts(&parts)?;
        Some(PostId(blob.to_bits()))
    }

    /// Stores a post at its place by number in the chain that begins at `newest`; returns where the chain begins then. A
    /// number that is there already stays as it is. `None`, and nothing changed, when there is no room.
    ///
    /// Fast when posts come by ascending number, as ordered storage hands them back; else in proportion to the chain.
    pub fn add_sorted(
        &mut self,
        newest: PostId,
        seq: u64,
        seen_ms: u64,
        bytes: &[u8],
    ) -> Option<PostId> {
        let newer = self.walk(newest).take_while(|post| post.seq > seq).last();
        let newer = newer.map_or(PostId::NONE, |post| post.id);
        let older = self.get(newer).map_or(newest, |post| post.older);
        if self.get(older).is_some_and(|post| post.seq == seq) {
            return Some(newest);
        }
        let id = self.add(older, seq, seen_ms, bytes)?;
        self.link(newer, id);
        Some(if newer.is_none() { id } else { newest })
    }

    /// Shows a post; `None` for [`PostId::NONE`] and when the id is stale.
    #[must_use]
    pub fn get(&self, id: PostId) -> Option<StoredPost<'_>> {
        let blob = self.blobs.get(id.blob())?;
        let (older, rest) = blob.split_first_chunk::<8>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (seen_ms, bytes) = rest.split_first_chunk::<8>()?;
        Some(StoredPost {
            id,
            older: PostId(u64::from_be_bytes(*older)),
            seq: u64::from_be_bytes(*seq),
            seen_ms: u64::from_be_bytes(*seen_ms),
            bytes,
        })
    }

    /// Puts `older` behind a stored post, in place of what was there. Nothing happens when `id` is stale.
    pub fn link(&mut self, id: PostId, older: PostId) {
        let link = self.blobs.get_mut(id.blob());
        if let Some(link) = link.and_then(|blob| blob.first_chunk_mut::<8>()) {
            *link = older.0.to_be_bytes();
        }
    }

    /// Drops a post, and returns the next older one.
    pub fn remove(&mut self, id: PostId) -> PostId {
        let older = self.get(id).map_or(PostId::NONE, |post| post.older);
        self.blobs.remove(id.blob());
        older
    }

    /// Walks along a chain from `newest` to older posts; ends at a stale link.
    pub fn walk(&self, newest: PostId) -> impl Iterator<Item = StoredPost<'_>> {
        let mut next = newest;
        // Links lead to lower numbers, so the walk ends; the bound costs nothing.
        let steps = P::Posts::SLOTS;
        core::iter::from_fn(move || {
            let post = self.get(next)?;
            next = post.older;
            Some(post)
        })
        .take(steps)
    }

    /// Stores a record in the place of `old`, which may be none or stale. [`RecordId::NONE`], and `old` dropped, when
    /// there is no room.
    #[must_use]
    pub fn put_record(&mut self, old: RecordId, bytes: &[u8]) -> RecordId {
        let blob = BlobId::from_bits(old.0);
        if self.blobs.replace(blob, bytes) {
            return old;
        }
        self.blobs.remove(blob);
        let new = self.blobs.insert(bytes);
        new.map_or(RecordId::NONE, |blob| RecordId(blob.to_bits()))
    }

    /// Shows a record; `None` when the id is none or stale.
    #[must_use]
    pub fn record(&self, id: RecordId) -> Option<&[u8]> {
        self.blobs.get(BlobId::from_bits(id.0))
    }

    /// Drops a record.
    pub fn remove_record(&mut self, id: RecordId) {
        self.blobs.remove(BlobId::from_bits(id.0));
    }

    /// Whether half of the bytes or places are in use.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        let (len, bytes) = self.used();
        bytes >= P::Posts::BYTES / 2 || len >= P::Posts::SLOTS / 2
    }

    /// How many posts and records fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        P::Posts::SLOTS
    }

    /// Posts and records that are there, and their bytes.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.blobs.len(), self.blobs.used_bytes())
    }
}
