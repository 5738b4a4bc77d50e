//! The reference model: what must, may and must not be seen, fed by the commands given and the answers that came.
//!
//! It knows no protocol. For each author it keeps what was handed over to be posted, what was acknowledged under which
//! number, and until when the author lived; for each pair whether a follow was begun, acknowledged, or taken back; for
//! each key which values were put. From that alone it judges every post shown and every answer. The invariant: a check
//! that fails is a broken promise of DESIGN §11, never a matter of luck; where loss of machines or of links makes an
//! outcome a matter of luck, the check is only made while the world was calm (see `Model::disturbed`).

use std::collections::{BTreeMap, BTreeSet};

use strandline_core::id::{Key, UserId};
use strandline_core::output::{Outcome, Relation, Via};

use super::answers::{Answer, Shown};
use super::node::Command;
use super::plans::Kind;
use super::world::HostId;

/// How much longer than its author's `keep` a copy may be shown, in µs: the drift of two clocks over that time, at most
/// 120 ppm each, is added to this.
const KEEP_SLACK_US: u64 = 1_000;
/// See [`KEEP_SLACK_US`].
const DRIFT_PPM: u64 = 240;
/// An author signs its head anew at most once a second: what it acknowledged since may be missing from a read, in µs.
pub const HEAD_AGE_US: u64 = 1_100_000;
/// A board keeps at least this many of its own newest posts, and shows as many of each author.
pub const BOARD_POSTS_CERTAIN: usize = 4;

/// What is known about one author.
#[derive(Debug)]
struct Author {
    kind: Kind,
    user: UserId,
    keep_us: u64,
    /// Every text handed over to be posted.
    texts: BTreeSet<String>,
    /// Acknowledged posts, by number.
    acked: BTreeMap<u64, Acked>,
    /// Posts that anybody was shown, by number.
    shown: BTreeMap<u64, String>,
    /// When it stopped running, if it does not run; and when it last started.
    stopped_us: Option<u64>,
    started_us: u64,
    /// When its storage was last lost.
    lost: bool,
}

#[derive(Debug)]
struct Acked {
    at_us: u64,
    text: String,
}

/// What is known about one follower and one followed.
#[derive(Debug, Default)]
struct Edge {
    /// Since when it is acknowledged, and was not taken back.
    acked_us: Option<u64>,
    /// Taking it back was begun at some time: whether it is seen is open.
    doubtful: bool,
}

#[derive(Debug)]
struct Put {
    author: HostId,
    value: Vec<u8>,
    began_us: u64,
    acked_us: Option<u64>,
    expires_us: u64,
}

/// See the file's first paragraph.
#[derive(Debug, Default)]
pub struct Model {
    authors: BTreeMap<HostId, Author>,
    by_user: BTreeMap<UserId, HostId>,
    edges: BTreeMap<(HostId, HostId), Edge>,
    puts: BTreeMap<Key, Vec<Put>>,
    /// The highest number that a reader was shown of an author since it last started.
    newest: BTreeMap<(HostId, HostId), (u64, u64)>,
    disturbed: bool,
    /// Users whose applications give commands of their own, of which the model does not hear.
    unheard: BTreeSet<HostId>,
}

impl Model {
    /// From now on an application gives commands at this node: its values are not judged.
    pub fn unheard(&mut self, host: HostId) {
        self.unheard.insert(host);
    }

    /// A node starts, for the first time or again.
    pub fn started(&mut self, host: HostId, user: UserId, kind: Kind, keep_us: u64, now_us: u64) {
        self.by_user.insert(user, host);
        self.newest.retain(|(reader, _), _| *reader != host);
        let author = self.authors.entry(host).or_insert_with(|| Author {
            kind,
            user,
            keep_us,
            texts: BTreeSet::new(),
            acked: BTreeMap::new(),
            shown: BTreeMap::new(),
            stopped_us: None,
            started_us: now_us,
            lost: false,
        });
        author.stopped_us = None;
        author.started_us = now_us;
    }

    /// A node stops, with its storage or without.
    pub fn stopped(&mut self, host: HostId, now_us: u64) {
        self.disturbed = true;
        if let Some(author) = self.authors.get_mut(&host) {
            author.stopped_us = Some(now_us);
        }
    }

    /// A machine's storage is lost.
    pub fn storage_lost(&mut self, host: HostId) {
        if let Some(author) = self.authors.get_mut(&host) {
            author.lost = true;
        }
    }

    /// Something happened after which holders may be missing or out of reach: from now on what is *found* is a matter of
    /// luck. What is shown stays subject to every rule.
    pub const fn disturb(&mut self) {
        self.disturbed = true;
    }

    /// Whether nothing has disturbed the world so far.
    #[must_use]
    pub const fn is_calm(&self) -> bool {
        !self.disturbed
    }

    /// Which node's user this is.
    #[must_use]
    pub fn host_of(&self, user: &UserId) -> Option<HostId> {
        self.by_user.get(user).copied()
    }

    /// The highest number acknowledged to an author; 0 for none.
    #[must_use]
    pub fn last_acked(&self, host: HostId) -> u64 {
        self.authors
            .get(&host)
            .and_then(|author| author.acked.last_key_value())
            .map_or(0, |(seq, _)| *seq)
    }

    /// A command is given.
    pub fn begun(&mut self, host: HostId, command: &Command, other: Option<HostId>, now_us: u64) {
        match command {
            Command::Post(text) => {
                if let Some(author) = self.authors.get_mut(&host) {
                    author.texts.insert(text.clone());
                }
            }
            Command::Follow(_) | Command::Unfollow(_) => {
                if let Some(other) = other {
                    let edge = self.edges.entry((host, other)).or_default();
                    if matches!(command, Command::Unfollow(_)) {
                        edge.acked_us = None;
                        edge.doubtful = true;
                    }
                }
            }
            Command::Put { key, value, ttl_s } => {
                self.puts.entry(*key).or_default().push(Put {
                    author: host,
                    value: value.clone(),
                    began_us: now_us,
                    acked_us: None,
                    expires_us: now_us + u64::from(*ttl_s) * 1_000_000,
                });
            }
            Command::Join(_)
            | Command::Leave
            | Command::Register
            | Command::Timeline(_)
            | Command::Whois(_)
            | Command::Followers(_)
            | Command::Following(_)
            | Command::Lookup(_)
            | Command::Get(_)
            | Command::Send { .. } => {}
        }
    }

    /// A post is shown to the application at `reader`.
    ///
    /// # Errors
    /// Says which promise that breaks.
    pub fn shown(&mut self, answer: &Answer, post: &Shown, now_us: u64) -> Result<(), String> {
        let (reader, what) = (answer.host, format!("{} #{}", post.author.name, post.seq));
        let Some(host) = self.host_of(&post.author.user) else {
            return Err(format!("shows {what} of a user that does not exist"));
        };
        let Some(author) = self.authors.get_mut(&host) else {
            return Ok(());
        };
        let gap = author.lost && post.text.is_empty();
        if !gap && !author.texts.contains(&post.text) {
            return Err(format!(
                "shows {what} {:?}, which its author never wrote",
                post.text
            ));
        }
        if let Some(acked) = author.acked.get(&post.seq)
            && acked.text != post.text
        {
            return Err(format!("shows {what} {:?} for {:?}", post.text, acked.text));
        }
        let before = author
            .shown
            .entry(post.seq)
            .or_insert_with(|| post.text.clone());
        if *before != post.text {
            return Err(format!(
                "shows {what} {:?}, others saw {before:?}",
                post.text
            ));
        }
        match post.via {
            Via::Own if host != reader => return Err(format!("shows {what} as its own")),
            Via::Author if author.stopped_us.is_some_and(|at| at < answer.began_us) => {
                return Err(format!("shows {what} as by its author, who was gone"));
            }
            Via::Own | Via::Author => {}
            Via::Replica(_) => {
                let limit = author.expires_us(now_us);
                if now_us > limit {
                    let late_ms = (now_us - limit) / 1_000;
                    return Err(format!("shows {what} from a copy expired {late_ms} ms ago"));
                }
            }
        }
        if answer.posts.iter().any(|other| same_post(other, post)) {
            return Err(format!("shows {what} twice"));
        }
        let newer = answer
            .posts
            .iter()
            .rev()
            .find(|other| other.author.user == post.author.user);
        if newer.is_some_and(|newer| (newer.log, newer.seq) < (post.log, post.seq)) {
            return Err(format!("shows {what} after an older one"));
        }
        Ok(())
    }

    /// A frame that carries a post or head of `user` is written by `writer`.
    ///
    /// # Errors
    /// It is a copy that has expired.
    pub fn served(&self, writer: HostId, user: &UserId, now_us: u64) -> Result<(), String> {
        let Some(host) = self.host_of(user).filter(|host| *host != writer) else {
            return Ok(());
        };
        let limit = self
            .authors
            .get(&host)
            .map_or(u64::MAX, |author| author.expires_us(now_us));
        if now_us <= limit {
            return Ok(());
        }
        let late_ms = (now_us - limit) / 1_000;
        Err(format!(
            "serves a post of {user:?} from a copy expired {late_ms} ms ago"
        ))
    }

    /// A command ended.
    ///
    /// # Errors
    /// Says which promise the answer breaks.
    pub fn ended(
        &mut self,
        answer: &Answer,
        other: Option<HostId>,
        outcome: Outcome,
        now_us: u64,
    ) -> Result<(), String> {
        match (&answer.command, outcome) {
            (Command::Post(text), Outcome::Posted { seq, time_ms: _ }) => {
                self.posted(answer.host, text, seq, now_us)
            }
            (
                Command::Follow(_),
                Outcome::Followed {
                    accepted, wanted, ..
                },
            ) => {
                if accepted >= wanted
                    && let Some(other) = other
                    && let Some(edge) = self.edges.get_mut(&(answer.host, other))
                {
                    edge.acked_us = Some(now_us);
                    edge.doubtful = false;
                }
                Ok(())
            }
            (Command::Timeline(whose), Outcome::Read { complete }) => {
                if complete != answer.missing.is_empty() {
                    let missing = answer.missing.len();
                    return Err(format!(
                        "a read with {missing} missing says complete: {complete}"
                    ));
                }
                let wanted = match whose {
                    Some(_) => other.into_iter().collect(),
                    None => self.read_by(answer.host, answer.began_us),
                };
                wanted
                    .into_iter()
                    .try_for_each(|author| self.read(answer, author))
            }
            (Command::Followers(_), Outcome::Found { complete, .. }) => {
                self.followers(answer, other.unwrap_or(answer.host), complete)
            }
            (Command::Put { key, value, .. }, Outcome::Stored { accepted, wanted }) => {
                if accepted >= wanted {
                    let puts = self.puts.entry(*key).or_default();
                    let put = puts
                        .iter_mut()
                        .find(|put| put.author == answer.host && put.value == *value);
                    if let Some(put) = put {
                        put.acked_us = Some(now_us);
                    }
                }
                Ok(())
            }
            (Command::Get(key), Outcome::Found { .. } | Outcome::NotFound) => {
                self.got(answer, *key, now_us)
            }
            _ => Ok(()),
        }
    }

    /// How many of the values that must be found at `key` an answer to `get` lacks, and how many there are.
    #[must_use]
    pub fn lacking(&self, answer: &Answer, key: Key, now_us: u64) -> (usize, usize) {
        let wanted: Vec<&Put> = self.certain(answer, key, now_us).collect();
        let lacking = wanted.iter().filter(|put| !self.holds(answer, put)).count();
        (lacking, wanted.len())
    }

    fn posted(&mut self, host: HostId, text: &str, seq: u64, now_us: u64) -> Result<(), String> {
        let Some(author) = self.authors.get_mut(&host) else {
            return Ok(());
        };
        let acked = author.acked.last_key_value().map_or(0, |(last, _)| *last);
        if seq <= acked {
            return Err(format!("acknowledges #{seq} after #{acked}"));
        }
        if let Some(shown) = author.shown.get(&seq)
            && shown != text
        {
            return Err(format!(
                "acknowledges #{seq} {text:?}, which was shown as {shown:?}"
            ));
        }
        author.acked.insert(
            seq,
            Acked {
                at_us: now_us,
                text: text.to_owned(),
            },
        );
        Ok(())
    }

    /// Whom a node follows for certain, and itself.
    fn read_by(&self, reader: HostId, before_us: u64) -> Vec<HostId> {
        let followed = self
            .edges
            .range((reader, HostId(0))..=(reader, HostId(u32::MAX)))
            .filter(|(_, edge)| edge.acked_us.is_some_and(|at| at < before_us))
            .map(|((_, followed), _)| *followed);
        followed.chain([reader]).collect()
    }

    /// Whether a finished read shows what it must of one author.
    fn read(&mut self, answer: &Answer, host: HostId) -> Result<(), String> {
        let Some(author) = self.authors.get(&host) else {
            return Ok(());
        };
        if answer
            .missing
            .iter()
            .any(|(person, _)| person.user == author.user)
        {
            return if host == answer.host {
                Err("misses itself".to_owned())
            } else {
                Ok(())
            };
        }
        let shown: BTreeSet<u64> = answer
            .posts
            .iter()
            .filter(|post| post.author.user == author.user)
            .map(|post| post.seq)
            .collect();
        let newest = shown.last().copied().unwrap_or(0);
        self.not_older(answer, host, newest)?;
        let Some(author) = self.authors.get(&host) else {
            return Ok(());
        };
        // A dead author's newest posts may have died with it, and a lost disk leaves a gap.
        let alive = author.stopped_us.is_none() && author.started_us < answer.began_us;
        if !alive || author.lost {
            return Ok(());
        }
        let small = [host, answer.host]
            .iter()
            .any(|who| self.authors.get(who).is_some_and(|who| who.kind.is_board()));
        let certain = if small {
            BOARD_POSTS_CERTAIN
        } else {
            usize::MAX
        };
        let must = author
            .acked
            .iter()
            .rev()
            .filter(|(_, acked)| acked.at_us + HEAD_AGE_US < answer.began_us);
        for (seq, acked) in must.take(certain) {
            if !shown.contains(seq) {
                let (text, user) = (&acked.text, author.user);
                return Err(format!(
                    "a read without {user:?} missing lacks its #{seq} {text:?}"
                ));
            }
        }
        Ok(())
    }

    /// A reader that has once seen a number is not shown less later, while the copy may still be kept.
    fn not_older(&mut self, answer: &Answer, host: HostId, newest: u64) -> Result<(), String> {
        let Some(author) = self.authors.get(&host) else {
            return Ok(());
        };
        let ended_us = answer.ended_us.unwrap_or(answer.began_us);
        let small = self
            .authors
            .get(&answer.host)
            .is_some_and(|who| who.kind.is_board());
        let (before, seen_us) = self
            .newest
            .get(&(answer.host, host))
            .copied()
            .unwrap_or((0, 0));
        let expired = ended_us > seen_us + author.keep_us;
        if newest < before && !expired && !small && !author.lost && seen_us < answer.began_us {
            let user = author.user;
            return Err(format!(
                "is shown {user:?} up to #{newest}, and was up to #{before} before"
            ));
        }
        if newest >= before {
            self.newest.insert((answer.host, host), (newest, ended_us));
        }
        Ok(())
    }

    fn followers(&self, answer: &Answer, of: HostId, complete: bool) -> Result<(), String> {
        let mut listed = BTreeSet::new();
        for (person, relation) in &answer.people {
            if !matches!(relation, Relation::Follower) {
                continue;
            }
            let Some(host) = self.host_of(&person.user) else {
                return Err(format!(
                    "lists the follower {}, who does not exist",
                    person.name
                ));
            };
            if !self.edges.contains_key(&(host, of)) {
                return Err(format!("lists {}, who never followed", person.name));
            }
            listed.insert(host);
        }
        if self.disturbed || !complete {
            return Ok(());
        }
        let must = self.edges.iter().filter(|((_, followed), edge)| {
            *followed == of && edge.acked_us.is_some_and(|at| at < answer.began_us)
        });
        let lacking = must
            .filter(|((follower, _), _)| !listed.contains(follower))
            .count();
        if lacking > 0 {
            let listed = listed.len();
            return Err(format!(
                "lists {listed} followers and lacks {lacking} acknowledged ones"
            ));
        }
        Ok(())
    }

    fn got(&self, answer: &Answer, key: Key, now_us: u64) -> Result<(), String> {
        for (user, _, value) in &answer.values {
            let author = self.host_of(user);
            if author.is_some_and(|host| self.unheard.contains(&host)) {
                continue;
            }
            let puts = self.puts.get(&key).map_or(&[][..], Vec::as_slice);
            let put = puts
                .iter()
                .filter(|put| Some(put.author) == author && put.value == *value);
            let Some(last) = put.map(|put| put.expires_us).max() else {
                return Err(format!("finds a value of {user:?} that it never put there"));
            };
            // A holder counts the lifetime from when it got the record, which took a moment.
            if now_us > last + 5_000_000 {
                return Err(format!("finds a value of {user:?} that has expired"));
            }
        }
        if self.disturbed {
            return Ok(());
        }
        let (lacking, wanted) = self.lacking(answer, key, now_us);
        if lacking > 0 {
            let (outcome, took_ms) = (answer.outcome(), answer.took_ms());
            return Err(format!(
                "does not find {lacking} of {wanted} stored values at {key:?}: {outcome:?} in {took_ms} ms"
            ));
        }
        Ok(())
    }

    /// The values that must be found: the last that each author put, if it was stored before and lives on.
    fn certain<'m>(
        &'m self,
        answer: &'m Answer,
        key: Key,
        now_us: u64,
    ) -> impl Iterator<Item = &'m Put> + 'm {
        let puts = self.puts.get(&key).map_or(&[][..], Vec::as_slice);
        puts.iter().filter(move |put| {
            put.acked_us.is_some_and(|at| at < answer.began_us)
                && put.expires_us > now_us
                && !puts
                    .iter()
                    .any(|other| other.author == put.author && other.began_us > put.began_us)
        })
    }

    fn holds(&self, answer: &Answer, put: &Put) -> bool {
        let Some(author) = self.authors.get(&put.author) else {
            return false;
        };
        answer
            .values
            .iter()
            .any(|(user, _, value)| *user == author.user && *value == put.value)
    }
}

impl Author {
    /// Until when copies of its posts may be shown or served.
    fn expires_us(&self, now_us: u64) -> u64 {
        let drift_us = self.keep_us / 1_000_000 * DRIFT_PPM;
        self.stopped_us.unwrap_or(now_us) + self.keep_us + drift_us + KEEP_SLACK_US
    }
}

fn same_post(a: &Shown, b: &Shown) -> bool {
    (a.author.user, a.log, a.seq) == (b.author.user, b.log, b.seq)
}

#[cfg(test)]
mod tests;
