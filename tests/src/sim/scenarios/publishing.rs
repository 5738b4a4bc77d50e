//! Values of a scenario: who puts them, and what became of that.
//!
//! Owns the list of values and whether enough holders took each. The invariant: a value is counted as stored only if the
//! network said so.

use strandline_core::id::Key;
use strandline_core::output::Outcome;

use crate::sim::{Command, HostId, State, Ticket};

use super::Progress;
use super::crowd::Crowd;

/// Longest lifetime of a value, in seconds.
pub const TTL_MAX_S: u32 = 24 * 3_600;
/// How many values are being put at a time.
const AT_ONCE: usize = 64;
/// How many values an author puts in a network of the DHT alone.
const EACH_ALONE: usize = 16;
/// Bytes of a value.
const VALUE_LEN: usize = 100;

/// A value in the network.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where.
    pub key: Key,
    /// Who put it.
    pub author: HostId,
    /// The bytes put last.
    pub newest: Vec<u8>,
}

/// Text of a fixed length that says which value it is.
#[must_use]
pub fn bytes_of(serial: usize, version: u32) -> Vec<u8> {
    let mut bytes = format!("value {serial}, version {version}.").into_bytes();
    bytes.resize(VALUE_LEN, b' ');
    bytes
}

/// Begins to put a version of a value.
pub fn begin(crowd: &mut Crowd, author: HostId, key: Key, bytes: &[u8], ttl_s: u32) -> Ticket {
    let command = Command::Put {
        key,
        value: bytes.to_vec(),
        ttl_s,
    };
    crowd.world.begin(author, &command, None)
}

/// Whether a put ended, and then whether enough took it.
pub fn outcome(crowd: &mut Crowd, ticket: Ticket) -> Option<bool> {
    let answer = crowd.world.take(ticket)?;
    Some(matches!(
        answer.state,
        State::Done(Outcome::Stored { accepted, wanted }) if accepted >= wanted
    ))
}

/// Members put `count` values, each at a key of its own. Those that were not stored are left out.
pub fn by_members(
    crowd: &mut Crowd,
    count: usize,
    ttl_s: u32,
    progress: Progress<'_>,
) -> Vec<Value> {
    let mut values = Vec::new();
    for some in (0..count).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut open: Vec<_> = some
            .iter()
            .map(|serial| {
                let author = crowd.pick();
                put(crowd, author, *serial, ttl_s)
            })
            .collect();
        while !open.is_empty() {
            crowd.run_ms(50);
            open.retain(|(ticket, value)| match outcome(crowd, *ticket) {
                None => true,
                Some(stored) => {
                    values.extend(stored.then(|| value.clone()));
                    false
                }
            });
        }
        progress(
            &crowd.world,
            &format!("{} of {count} values stored", values.len()),
        );
    }
    values
}

/// Newcomers put `count` values, one each, and vanish as soon as theirs is stored.
pub fn by_passers(
    crowd: &mut Crowd,
    count: usize,
    ttl_s: u32,
    progress: Progress<'_>,
) -> Vec<Value> {
    let residents = crowd.members().len();
    let mut values = Vec::new();
    let mut serial = 0;
    // Where all others are of the DHT alone, a few have users, and put more each: what else they publish is little.
    let alone = !crowd.world.publishes;
    let each = if alone { EACH_ALONE } else { 1 };
    while serial < count {
        let some = AT_ONCE.min(count - serial);
        crowd.world.publishes = true;
        crowd.fill(residents + some.div_ceil(each), progress);
        crowd.world.publishes = !alone;
        let authors: Vec<_> = crowd.members().iter().skip(residents).copied().collect();
        if authors.is_empty() {
            return values;
        }
        let mut open = Vec::new();
        let mut writers = authors.iter().flat_map(|author| [author].repeat(each));
        for (_, author) in (0..some).zip(&mut writers) {
            open.push(put(crowd, *author, serial, ttl_s));
            serial += 1;
        }
        while !open.is_empty() {
            crowd.run_ms(50);
            open.retain(|(ticket, value)| match outcome(crowd, *ticket) {
                None => true,
                Some(stored) => {
                    values.extend(stored.then(|| value.clone()));
                    false
                }
            });
        }
        for author in authors {
            crowd.retire(author);
        }
        progress(
            &crowd.world,
            &format!("{} of {count} values stored", values.len()),
        );
    }
    values
}

fn put(crowd: &mut Crowd, author: HostId, serial: usize, ttl_s: u32) -> (Ticket, Value) {
    let key = crowd.world.key(&format!("scenario value {serial}"));
    crowd.world.meter_mut().watch(key);
    let newest = bytes_of(serial, 1);
    let ticket = begin(crowd, author, key, &newest, ttl_s);
    let value = Value {
        key,
        author,
        newest,
    };
    (ticket, value)
}

/// How many of the values nobody holds any more.
#[must_use]
pub fn lost(crowd: &Crowd, values: &[Value]) -> u64 {
    let held = |value: &&Value| crowd.world.meter().holders(&value.key).next().is_none();
    values.iter().filter(held).count() as u64
}
