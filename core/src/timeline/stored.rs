//! The entries of the host's storage: what each [`Class`] holds, byte by byte.
//!
//! Owns the formats and the way back. Numbers in keys are big-endian, so that ordered storage hands posts back by
//! number; values are encoded as on the wire. Like the wire's, these types only ever grow at their end: bytes after the last known field
//! are ignored. Dates are Unix ms, 0 where there was no clock.
//!
//! | class | key | value |
//! |---|---|---|
//! | `Log` | log (2) | last, hash (32), reserved, sequence, name first claimed |
//! | `Post` | log (2), number (8) | the post as it travels |
//! | `Following` | user (32) | name, pinned, cursor |
//! | `Follower` | user (32) | name, address (18), last seen, sequence, holds until, expires |
//! | `Copy` | author (32), log (2) | expires, head record |
//! | `CopyPost` | author (32), log (2), number (8) | first seen, post |
//!
//! Invariant: what was restored is as trustworthy as what came from the network: it is decoded, checked against its hash
//! chain, and copies against their signed head.

use crate::addr::PackedAddr;
use crate::crypto::Digest;
use crate::id::UserId;
use crate::name::Name;
use crate::output::{Class, Damaged, PersistId, STORED_KEY_LEN_MAX, STORED_VALUE_LEN_MAX, Stored};
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::codec::{self, Decode, coded_struct, encode};
use crate::wire::post::Post;
use crate::wire::{POST_LEN_MAX, RECORD_LEN_MAX};

use super::log::{LOG, LogState};
use super::me::LIFETIME_UNDATED_MS;
use super::people::Follower;
use super::persist::Entry;
use super::state::State;

// The widest values: a head with its date, a post with its date.
const _: () = assert!(RECORD_LEN_MAX + 20 <= STORED_VALUE_LEN_MAX);
const _: () = assert!(POST_LEN_MAX + 20 <= STORED_VALUE_LEN_MAX);

struct LogValue {
    last: u64,
    hash: Digest,
    reserved: u64,
    sequence: u64,
    claimed_ms: u64,
}

coded_struct! { LogValue { last, hash, reserved, sequence, claimed_ms } }

struct FollowingValue {
    name: Name,
    pinned: bool,
    cursor: u64,
}

coded_struct! { FollowingValue { name, pinned, cursor } }

struct FollowerValue {
    name: Name,
    address: PackedAddr,
    last_seen: u64,
    sequence: u64,
    holds_until_ms: u64,
    expires_ms: u64,
}

coded_struct! { FollowerValue { name, address, last_seen, sequence, holds_until_ms, expires_ms } }

struct CopyValue<'a> {
    expires_ms: u64,
    head: &'a [u8],
}

coded_struct! { CopyValue<'a> { expires_ms, head } }

struct CopyPostValue<'a> {
    seen_ms: u64,
    post: &'a [u8],
}

coded_struct! { CopyPostValue<'a> { seen_ms, post } }

impl<P: Plan> State<P> {
    /// The next thing that storage has to write or delete, encoded into `buf` (which needs
    /// [`crate::output::OUTPUT_LEN_MAX`] bytes).
    ///
    /// # Errors
    /// Gives the buffer back when there is nothing.
    pub fn poll_persist<'b>(
        &mut self,
        now: Instant,
        buf: &'b mut [u8],
    ) -> Result<(PersistId, Stored<'b>), &'b mut [u8]> {
        let Some((id, entry)) = self.persists.pop() else {
            return Err(buf);
        };
        let (key_buf, value_buf) = buf
            .split_at_mut_checked(STORED_KEY_LEN_MAX)
            .unwrap_or_default();
        let (class, key_len) = encode_key(&entry, key_buf);
        let value_len = self.encode_value(now, &entry, value_buf);
        let item = Stored {
            class,
            key: key_buf.get(..key_len).unwrap_or_default(),
            value: value_len.and_then(|len| value_buf.get(..len)),
        };
        Ok((id, item))
    }

    /// Writes the value of an entry as it is now; `None` when it is gone.
    fn encode_value(&self, now: Instant, entry: &Entry, buf: &mut [u8]) -> Option<usize> {
        match entry {
            Entry::Log => {
                let state = self.log.state(&self.me);
                encode(
                    &LogValue {
                        last: state.last,
                        hash: state.hash,
                        reserved: state.reserved,
                        sequence: state.sequence,
                        claimed_ms: self.me.claimed_ms(),
                    },
                    buf,
                )
            }
            Entry::Post(_, id) => {
                let post = self.posts.get(*id)?.bytes;
                buf.get_mut(..post.len())?.copy_from_slice(post);
                Some(post.len())
            }
            Entry::Following(user) => {
                let followed = self.people.followed(user)?;
                encode(
                    &FollowingValue {
                        name: followed.name,
                        pinned: followed.pinned,
                        cursor: followed.cursor,
                    },
                    buf,
                )
            }
            Entry::Follower(user) => {
                let follower = self.people.follower(user)?;
                encode(
                    &FollowerValue {
                        name: follower.name,
                        address: follower.address,
                        last_seen: follower.last_seen,
                        sequence: follower.sequence,
                        holds_until_ms: self.date_of(now, follower.holds_until),
                        expires_ms: self.date_of(now, follower.expires),
                    },
                    buf,
                )
            }
            Entry::Copy(author) => {
                let (expires_ms, head) = self.copies.stored(&self.posts, author)?;
                encode(&CopyValue { expires_ms, head }, buf)
            }
            Entry::CopyPost(_, _, id) => {
                let post = self.posts.get(*id)?;
                let (seen_ms, post) = (post.seen_ms, post.bytes);
                encode(&CopyPostValue { seen_ms, post }, buf)
            }
        }
    }

    /// The date of a coming moment; 0 without a clock or when it is over.
    fn date_of(&self, now: Instant, then: Instant) -> u64 {
        let unix_ms = self.me.clock().unix_ms(now);
        let left_ms = then.since_ms(now);
        match unix_ms {
            Some(unix_ms) if left_ms > 0 => unix_ms.saturating_add(left_ms),
            Some(_) | None => 0,
        }
    }

    /// The moment of a date, at least now; `None` without a clock or date.
    fn moment_of(&self, now: Instant, date_ms: u64) -> Option<Instant> {
        let unix_ms = self.me.clock().unix_ms(now)?;
        (date_ms != 0).then(|| now.after_ms(date_ms.saturating_sub(unix_ms)))
    }

    /// Takes one entry of storage. Classes come in the order of [`Class::ALL`]; within one, ascending keys are fastest.
    ///
    /// Copies that have expired, or may have, are left out, and so is what no longer fits this plan's tables, except own
    /// posts and people followed.
    ///
    /// # Errors
    /// [`Damaged`] when the entry does not decode, is not this user's, or an own post or a followed person does not fit.
    pub fn restored(&mut self, now: Instant, item: Stored<'_>) -> Result<(), Damaged> {
        let damaged = |what| Damaged {
            class: item.class,
            what,
        };
        let Some(value) = item.value else {
            return Ok(());
        };
        let undecodable = damaged("an entry does not decode");
        match item.class {
            Class::Log => self.restore_log(item.key, value).ok_or(undecodable),
            Class::Post => self.restore_post(item.key, value).map_err(damaged),
            Class::Following => {
                let (user, value): (_, FollowingValue) =
                    keyed(item.key, value).ok_or(undecodable)?;
                let (name, cursor) = (value.name, value.cursor);
                let fits = self
                    .people
                    .restore_followed(user, name, value.pinned, cursor);
                fits.then_some(())
                    .ok_or(damaged("more people are followed than this node can hold"))
            }
            Class::Follower => {
                let (user, value) = keyed(item.key, value).ok_or(undecodable)?;
                self.restore_follower(now, user, &value);
                Ok(())
            }
            Class::Copy => {
                let (author, log) = author_and_log(item.key).ok_or(undecodable)?;
                let value: CopyValue<'_> = decode(value).ok_or(undecodable)?;
                let expires = self.moment_of(now, value.expires_ms);
                if let (LOG, Some(expires), true) = (log, expires, author != self.me.user()) {
                    let head = (value.head, expires, value.expires_ms);
                    self.copies
                        .restore(now, &self.me, &mut self.posts, &author, head);
                }
                Ok(())
            }
            Class::CopyPost => {
                let (author, rest) = item.key.split_first_chunk().ok_or(undecodable)?;
                let seq = numbered(rest).ok_or(undecodable)?;
                let value: CopyPostValue<'_> = decode(value).ok_or(undecodable)?;
                let post = (seq, value.seen_ms, value.post);
                let author = UserId::from_bytes(*author);
                self.copies.restore_post(&mut self.posts, &author, post);
                Ok(())
            }
            Class::Contact => Ok(()),
        }
    }

    fn restore_log(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let value: LogValue = decode(value)?;
        if u16::from_be_bytes(key.try_into().ok()?) != LOG {
            return Some(());
        }
        self.me.saw_sequence(value.sequence);
        self.me.restore_claimed(value.claimed_ms);
        self.log.restore_state(&LogState {
            last: value.last,
            hash: value.hash,
            reserved: value.reserved,
            sequence: value.sequence,
        });
        Some(())
    }

    fn restore_post(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let post = Post::decode::<P::Crypto>(value).map_err(|_| "a post does not decode")?;
        let seq = numbered(key).ok_or("an entry does not decode")?;
        let header = &post.header;
        if (header.user, header.log, header.seq) != (self.me.user(), LOG, seq) {
            return Err("a post is not this user's, or under another number");
        }
        self.make_room(value.len().saturating_add(64));
        let fits = self
            .log
            .restore_post(&mut self.posts, seq, header.time_ms, value);
        fits.then_some(())
            .ok_or("more posts than this node can hold")
    }

    fn restore_follower(&mut self, now: Instant, user: UserId, value: &FollowerValue) {
        // Without a clock on either side, the record may be almost over: the DHT tells better within the hour.
        let undated = now.after_ms(u64::from(LIFETIME_UNDATED_MS));
        let expires = self.moment_of(now, value.expires_ms).unwrap_or(undated);
        if expires <= now {
            return;
        }
        let entry = Follower {
            user,
            name: value.name,
            address: value.address,
            holds_until: self
                .moment_of(now, value.holds_until_ms)
                .unwrap_or(Instant::ZERO),
            last_seen: value.last_seen,
            sequence: value.sequence,
            expires,
        };
        // One that does not fit is found again in the DHT.
        let _ = self.people.insert_follower(now, entry);
    }
}

/// Writes the key of an entry; the longest, that of a post of a copy, has 42 bytes.
fn encode_key(entry: &Entry, buf: &mut [u8]) -> (Class, usize) {
    let log = LOG.to_be_bytes();
    let (class, parts): (_, [&[u8]; 3]) = match entry {
        Entry::Log => (Class::Log, [&log, &[], &[]]),
        Entry::Post(seq, _) => (Class::Post, [&log, &seq.to_be_bytes(), &[]]),
        Entry::Following(user) => (Class::Following, [user.as_bytes(), &[], &[]]),
        Entry::Follower(user) => (Class::Follower, [user.as_bytes(), &[], &[]]),
        Entry::Copy(author) => (Class::Copy, [author.as_bytes(), &log, &[]]),
        Entry::CopyPost(author, seq, _) => (
            Class::CopyPost,
            [author.as_bytes(), &log, &seq.to_be_bytes()],
        ),
    };
    let mut len = 0;
    for (to, from) in buf.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
        len += 1;
    }
    (class, len)
}

/// Later versions may append fields: what follows the known ones is ignored.
fn decode<'a, T: Decode<'a>>(value: &'a [u8]) -> Option<T> {
    codec::decode(value).map(|(value, _)| value)
}

fn keyed<'a, T: Decode<'a>>(key: &[u8], value: &'a [u8]) -> Option<(UserId, T)> {
    Some((UserId::from_bytes(key.try_into().ok()?), decode(value)?))
}

fn author_and_log(key: &[u8]) -> Option<(UserId, u16)> {
    let (author, log) = key.split_first_chunk()?;
    let log = u16::from_be_bytes(log.try_into().ok()?);
    Some((UserId::from_bytes(*author), log))
}

/// The number in a key that ends with a log and a number.
fn numbered(key: &[u8]) -> Option<u64> {
    let (log, seq) = key.split_first_chunk()?;
    if u16::from_be_bytes(*log) != LOG {
        return None;
    }
    Some(u64::from_be_bytes(seq.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    extern crate alloc;

    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;
    use crate::config::Durability;
    use crate::output::OUTPUT_LEN_MAX;
    use crate::timeline::testing::{self, Tested, at, hex, name, publish, user};

    fn written(state: &mut Tested) -> Vec<(Class, String, Option<String>)> {
        let mut buf = [0; OUTPUT_LEN_MAX];
        let mut all = Vec::new();
        while let Ok((_, item)) = state.poll_persist(at(1), &mut buf) {
            all.push((item.class, hex(item.key), item.value.map(hex)));
        }
        all
    }

    // Hosts keep these bytes for years: a change here must still read the old ones.
    #[test]
    fn formats_are_as_documented() {
        let mut state: Tested = testing::fresh(1);
        assert!(state.people.follow(user(2), name("alice")));
        let id = hex(user(2).as_bytes());
        state.persists.push(Entry::Following(user(2)));
        state.people.followed_mut(&user(2)).unwrap().cursor = 300;
        assert_eq!(
            written(&mut state),
            [(
                Class::Following,
                id.clone(),
                Some("05616c69636501ac02".into())
            )]
        );
        let follower = Follower {
            user: user(2),
            name: name("bob"),
            address: testing::address(7).into(),
            holds_until: at(2),
            last_seen: 1,
            sequence: 2,
            expires: at(3),
        };
        state.people.insert_follower(at(1), follower).unwrap();
        state.persists.push(Entry::Follower(user(2)));
        let address = "00000000000000000000ffff7f0000071e93";
        let dates = "d0df95ffbc31b8e795ffbc31";
        assert_eq!(
            written(&mut state),
            [(
                Class::Follower,
                id,
                Some(["03626f62", address, "0102", dates].concat())
            )]
        );
    }

    #[test]
    fn the_log_is_stored_as_documented() {
        let mut state: Tested = testing::fresh(1);
        state.post(at(1), "one").unwrap();
        let post = state.log.own_posts(&state.posts).count();
        assert_eq!(post, 0, "not durable yet");
        let all = written(&mut state);
        let hash = hex(&state.log.state(&state.me).hash);
        assert_eq!(all.len(), 2);
        let (class, key, value) = all.first().unwrap();
        assert_eq!(
            (*class, key.as_str()),
            (Class::Post, "00000000000000000001")
        );
        assert!(
            value.as_ref().unwrap().ends_with("036f6e65"),
            "length and text come last"
        );
        assert_eq!(
            all.last().unwrap(),
            &(
                Class::Log,
                "0000".into(),
                Some(["01", &hash, "000000"].concat())
            )
        );
    }

    #[test]
    fn copies_are_stored_as_documented() {
        let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
        publish(at(1), &mut author, "one");
        let head = author.head(at(1)).unwrap().to_vec();
        let offer = super::super::copies::Offer {
            head: &head,
            sent: at(1),
            remaining_ms: 10_000,
        };
        assert!(state.offer_head(at(1), &offer).is_ok());
        let post = testing::shown(&author).remove(0);
        assert!(state.offer_post(at(1), &post).is_ok());
        let id = hex(user(2).as_bytes());
        let expires = "f8a596ffbc31";
        let len = |bytes: &[u8]| {
            let mut buf = [0; 3];
            let len = codec::encode(&u16::try_from(bytes.len()).unwrap(), &mut buf).unwrap();
            hex(buf.get(..len).unwrap())
        };
        assert_eq!(
            written(&mut state),
            [
                (
                    Class::Copy,
                    [&id, "0000"].concat(),
                    Some([expires, &len(&head), &hex(&head)].concat())
                ),
                (
                    Class::CopyPost,
                    [&id, "00000000000000000001"].concat(),
                    Some(["e8d795ffbc31", &len(&post), &hex(&post)].concat())
                ),
            ]
        );
    }

    #[test]
    fn what_is_gone_is_deleted() {
        let mut state: Tested = testing::fresh(1);
        state.persists.push(Entry::Following(user(2)));
        let id = hex(user(2).as_bytes());
        assert_eq!(written(&mut state), [(Class::Following, id, None)]);
    }

    #[test]
    fn later_versions_may_append_and_garbage_is_damage() {
        let mut state: Tested = testing::unready(1, Durability::Host);
        let key = user(2);
        let item = |class, value: &'static [u8]| (class, value);
        for (class, value) in [
            item(Class::Following, b"\x05alice\x01\x07and more"),
            item(Class::Contact, b"not ours"),
        ] {
            let stored = Stored {
                class,
                key: key.as_bytes(),
                value: Some(value),
            };
            assert_eq!(state.restored(at(0), stored), Ok(()));
        }
        assert_eq!(state.people.followed(&user(2)).unwrap().cursor, 7);
        for (class, value) in [
            item(Class::Log, b"\x01"),
            item(Class::Post, b"junk"),
            item(Class::Following, b"\x05Alice\x01\x07"),
            item(Class::Follower, b""),
            item(Class::Copy, b""),
            item(Class::CopyPost, b""),
        ] {
            let stored = Stored {
                class,
                key: key.as_bytes(),
                value: Some(value),
            };
            assert_eq!(state.restored(at(0), stored).unwrap_err().class, class);
        }
    }
}
