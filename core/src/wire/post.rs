//! Posts: a chain of hashed headers, whose end the author signs.
//!
//! A post travels as header, salt and text. The header commits to the one before and to H(salt, text), so
//! that a text can be deleted and the chain stays whole. Only the [`super::record::Head`] is signed: a reader
//! checks one signature and then hashes, newest first. Owns layout and hashes; the log and the copies live in
//! `timeline`.

use super::codec::{self, coded_struct};
use super::{ATTRIBUTES_LEN_MAX, NetworkId, POST_LEN_MAX, TEXT_LEN_MAX};
use crate::crypto::{Crypto, Digest};
use crate::id::UserId;
use crate::rules::Rule;

/// Random bytes that keep a deleted text from being guessed by its hash.
pub type Salt = [u8; 16];

/// What a post is. Unknown numbers are kept, passed on and not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PostKind {
    /// A text.
    Text,
    /// Numbers before this one were lost with the author's storage; the text is empty.
    Gap,
    /// Something of a later version.
    Other(u8),
}

impl PostKind {
    /// The tag on the wire.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Gap => 1,
            Self::Other(tag) => tag,
        }
    }

    /// The kind with this tag.
    #[must_use]
    pub const fn of_tag(tag: u8) -> Self {
        match tag {
            0 => Self::Text,
            1 => Self::Gap,
            other => Self::Other(other),
        }
    }
}

/// The hashed part of a post. Bytes after the last known field are hashed, kept and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// The author.
    pub user: UserId,
    /// The author's log.
    pub log: u16,
    /// The post's number, from 1.
    pub seq: u64,
    /// When the author wrote it, Unix ms; 0 without a clock.
    pub time_ms: u64,
    /// Hash of the header before; all zero for the first post. Of a gap: the newest post that was recovered, if any.
    pub prev: Digest,
    /// See [`PostKind`].
    pub kind: u8,
    /// For later use, at most [`ATTRIBUTES_LEN_MAX`] bytes.
    pub attributes: &'a [u8],
    /// H("strandline/text/v1", salt, text).
    pub text_hash: Digest,
}

coded_struct! { Header<'a> { user, log, seq, time_ms, prev, kind, attributes, text_hash } }

struct Wire<'a> {
    header: &'a [u8],
    salt: Salt,
    text: &'a str,
}

coded_struct! { Wire<'a> { header, salt, text } }

/// A decoded post.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Post<'a> {
    /// The hashed part.
    pub header: Header<'a>,
    /// See [`Salt`].
    pub salt: Salt,
    /// At most [`TEXT_LEN_MAX`] bytes.
    pub text: &'a str,
    /// The post as it travels and is stored.
    pub bytes: &'a [u8],
    header_bytes: &'a [u8],
}

impl<'a> Post<'a> {
    /// Decodes a post with nothing left over and checks that its text has the hash that the header gives.
    ///
    /// # Errors
    /// [`Rule::Overlong`], [`Rule::Malformed`] or [`Rule::Chain`].
    pub fn decode<C: Crypto>(bytes: &'a [u8]) -> Result<Self, Rule> {
        if bytes.len() > POST_LEN_MAX {
            return Err(Rule::Overlong);
        }
        let wire: Wire<'a> = super::decode_whole(bytes)?;
        let (header, _later) = codec::decode::<Header<'a>>(wire.header).ok_or(Rule::Malformed)?;
        if wire.text.len() > TEXT_LEN_MAX || header.attributes.len() > ATTRIBUTES_LEN_MAX {
            return Err(Rule::Overlong);
        }
        if header.text_hash != text_hash::<C>(&wire.salt, wire.text) {
            return Err(Rule::Chain);
        }
        Ok(Self {
            header,
            salt: wire.salt,
            text: wire.text,
            bytes,
            header_bytes: wire.header,
        })
    }

    /// The hash by which the next post, or the head, names this one.
    #[must_use]
    pub fn hash<C: Crypto>(&self, network: NetworkId) -> Digest {
        header_hash::<C>(network, self.header_bytes)
    }
}

/// The post before encoding.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// See [`Header::user`].
    pub user: UserId,
    /// See [`Header::log`].
    pub log: u16,
    /// See [`Header::seq`].
    pub seq: u64,
    /// See [`Header::time_ms`].
    pub time_ms: u64,
    /// See [`Header::prev`].
    pub prev: Digest,
    /// See [`PostKind`].
    pub kind: PostKind,
    /// See [`Salt`].
    pub salt: Salt,
    /// See [`Post::text`].
    pub text: &'a str,
}

impl Draft<'_> {
    /// Writes the post to `buf`; returns its length and its hash. `None` when the text is over
    /// [`TEXT_LEN_MAX`] or `buf` is too short.
    pub fn encode<C: Crypto>(&self, network: NetworkId, buf: &mut [u8]) -> Option<(usize, Digest)> {
        if self.text.len() > TEXT_LEN_MAX {
            return None;
        }
        let header = Header {
            user: self.user,
            log: self.log,
            seq: self.seq,
            time_ms: self.time_ms,
            prev: self.prev,
            kind: self.kind.tag(),
            attributes: &[],
            text_hash: text_hash::<C>(&self.salt, self.text),
        };
        let mut header_buf = [0; 192];
        let header_len = codec::encode(&header, &mut header_buf)?;
        let header = header_buf.get(..header_len)?;
        let hash = header_hash::<C>(network, header);
        let wire = Wire {
            header,
            salt: self.salt,
            text: self.text,
        };
        let len = codec::encode(&wire, buf)?;
        Some((len, hash))
    }
}

fn text_hash<C: Crypto>(salt: &Salt, text: &str) -> Digest {
    C::hash("strandline/text/v1", &[salt, text.as_bytes()])
}

fn header_hash<C: Crypto>(network: NetworkId, header: &[u8]) -> Digest {
    C::hash("strandline/post/v1", &[&network.0, header])
}
