//! Copies that storage has kept over a restart.

use crate::config::KEEP_MAX_MS;
use crate::id::UserId;
use crate::plan::Plan;
use crate::time::Instant;
use crate::timeline::log::{LOG, Log};
use crate::timeline::me::Me;
use crate::timeline::persist::Persists;
use crate::timeline::posts::{PostId, Posts, RecordId};
use crate::wire::post::Post;
use crate::wire::record::Record;

use super::{Copies, Copy, bottom_chain, free_chain};

impl<P: Plan> Copies<P> {
    /// What storage is to remember of a copy: until when, and the head.
    #[must_use]
    pub fn stored<'a>(&self, posts: &'a Posts<P>, author: &UserId) -> Option<(u64, &'a [u8])> {
        let copy = self.of(author)?;
        Some((copy.expires_ms, posts.record(copy.head)?))
    }

    /// Puts back a copy from storage: its signed head, and until when it may be kept. What has expired, does not verify
    /// or does not fit is left out.
    pub fn restore(
        &mut self,
        now: Instant,
        me: &Me<P>,
        posts: &mut Posts<P>,
        author: &UserId,
        (bytes, expires, expires_ms): (&[u8], Instant, u64),
    ) {
        let verified = Record::decode(bytes).ok().filter(|record| {
            let checked = record.check::<P::Crypto>().is_ok();
            checked && record.author == *author && record.verify::<P::Crypto>(me.network()).is_ok()
        });
        let Some(record) = verified else {
            return;
        };
        let Some(head) = Log::<P>::read_head(&record) else {
            return;
        };
        let longest = now.after_ms(u64::from(head.keep_ms.min(KEEP_MAX_MS)));
        let expires = expires.min(longest);
        if expires <= now || self.copies.is_full() || self.find(author).is_some() {
            return;
        }
        let kept = posts.put_record(RecordId::NONE, bytes);
        let (sequence, last) = (record.sequence, head.last);
        let copy = Copy {
            head: kept,
            sequence,
            last,
            expires,
            expires_ms,
            ..Copy::of(*author)
        };
        if kept == RecordId::NONE || self.insert(copy).is_err() {
            posts.remove_record(kept);
            return;
        }
        self.wake.lower(expires);
    }

    /// Puts back a post (number, first seen, bytes) of a restored copy; without its copy, or without room, it is left
    /// out. [`Copies::restored_all`] checks it.
    pub fn restore_post(
        &mut self,
        posts: &mut Posts<P>,
        author: &UserId,
        (seq, seen_ms, bytes): (u64, u64, &[u8]),
    ) {
        let handle = self.find(author);
        if let Some(copy) = handle.and_then(|handle| self.copies.get_mut(handle)) {
            let newest = posts.add_sorted(copy.newest, seq, seen_ms, bytes);
            copy.newest = newest.unwrap_or(copy.newest);
        }
    }

    /// Ends restoring: drops the posts of each copy from the first on that its head does not vouch for.
    pub fn restored_all(&mut self, me: &Me<P>, posts: &mut Posts<P>, persists: &mut Persists<P>) {
        for (_, copy) in self.copies.iter_mut() {
            let mut chain = bottom_chain(posts, copy);
            let mut bottom = PostId::NONE;
            for stored in posts.walk(copy.newest) {
                let post = Post::decode::<P::Crypto>(stored.bytes).ok();
                let checked = post
                    .filter(|post| post.header.user == copy.author && post.header.log == LOG)
                    .zip(chain.as_mut())
                    .is_some_and(|(post, at)| at.check::<P::Crypto>(&post, me.network()).is_ok());
                if !checked {
                    break;
                }
                bottom = stored.id;
            }
            let rest = if bottom.is_none() {
                core::mem::replace(&mut copy.newest, PostId::NONE)
            } else {
                posts.get(bottom).map_or(PostId::NONE, |post| post.older)
            };
            posts.link(bottom, PostId::NONE);
            copy.bottom = bottom;
            free_chain(posts, persists, copy.author, rest);
        }
    }
}
