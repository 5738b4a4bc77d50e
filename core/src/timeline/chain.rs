//! Checks posts against a signed head, newest first, one at a time.
//!
//! Owns the position in a chain of hashes and nothing else. Invariant: what [`Chain::check`] accepts is what the author's
//! head vouches for, whoever sent it.

use crate::crypto::{Crypto, Digest};
use crate::rules::Rule;
use crate::wire::NetworkId;
use crate::wire::post::{Post, PostKind};
use crate::wire::record::Head;

/// Where in an author's chain a reader is: what the next older post must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The number of the next post; after a gap, the highest that it can have. 0: there is none.
    pub expect_seq: u64,
    /// The hash of its header. All zero: there is none.
    pub expect_hash: Digest,
    /// The post before was a [`PostKind::Gap`], so numbers may be missing.
    pub after_gap: bool,
}

impl Chain {
    /// Before the newest post that a head vouches for.
    #[must_use]
    pub const fn of_head(head: &Head<'_>) -> Self {
        Self {
            expect_seq: head.last,
            expect_hash: head.hash,
            after_gap: false,
        }
    }

    /// Behind a post that was checked.
    #[must_use]
    pub fn behind(post: &Post<'_>) -> Self {
        Self {
            expect_seq: post.header.seq.saturating_sub(1),
            expect_hash: post.header.prev,
            after_gap: PostKind::of_tag(post.header.kind) == PostKind::Gap,
        }
    }

    /// Whether no older post exists.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.expect_seq == 0 || self.expect_hash == [0; 32]
    }

    /// Whether a post with this number and hash is the next one.
    #[must_use]
    pub fn fits(&self, seq: u64, hash: &Digest) -> bool {
        let number = seq == self.expect_seq || (self.after_gap && seq < self.expect_seq);
        number && seq != 0 && *hash == self.expect_hash
    }

    /// Checks that `post` is the next older one and moves behind it. The author and the log are the caller's to compare.
    ///
    /// # Errors
    /// [`Rule::Chain`]; the position stays.
    pub fn check<C: Crypto>(&mut self, post: &Post<'_>, network: NetworkId) -> Result<(), Rule> {
        if self.is_end() || !self.fits(post.header.seq, &post.hash::<C>(network)) {
            return Err(Rule::Chain);
        }
        *self = Self::behind(post);
        Ok(())
    }
}
