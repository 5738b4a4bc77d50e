//! Says on stderr, in words, what a watched node is given and what it does.
//!
//! Owns the words; changes nothing.

use strandline_core::wire::datagram::{Body, Contact, Datagram};
use strandline_core::wire::frame::Frame;
use strandline_core::wire::record::Copy;

use super::World;
use crate::sim::effects::Effect;
use crate::sim::node::{Input, Reply};

impl World {
    /// Says on stderr what is done to the watched node.
    pub(super) fn tell(&self, input: &Input<'_>, reply: Reply) {
        let words = match input {
            Input::Datagram { from, bytes } => format!("from {from} {}", self.in_words(bytes)),
            Input::Readable(stream, bytes) => {
                let frame = match Frame::split(bytes) {
                    Ok(Some((body, _))) => format!("{:?}", Frame::decode(body, self.network_id())),
                    Ok(None) => "not a whole frame".to_owned(),
                    Err(rule) => format!("{rule:?}"),
                };
                format!("{stream:?} {} bytes: {frame:.160}", bytes.len())
            }
            Input::Start { .. } => "start".to_owned(),
            Input::Restored(item) => format!("restored {:?} {:02x?}", item.class, item.key),
            Input::Clock {
                unix_ms,
                uncertainty_ms,
            } => format!("clock {unix_ms} ± {uncertainty_ms}"),
            Input::RestoredAll(how) => format!("restored all, {how:?}"),
            Input::Timeout => "timeout".to_owned(),
            Input::Accept(from) => format!("accept {from}"),
            Input::Opened(stream) => format!("opened {stream:?}"),
            Input::Writable(stream, room) => format!("writable {stream:?} {room}"),
            Input::Closed(stream) => format!("closed {stream:?}"),
            Input::Persisted(id) => format!("persisted {id:?}"),
            Input::PersistFailed(id) => format!("persist failed {id:?}"),
            Input::Command(command, within_ms) => format!("{command:?} within {within_ms} ms"),
        };
        let reply = match reply {
            Reply::None => String::new(),
            reply => format!(" -> {reply:?}"),
        };
        eprintln!("{:>12} us <- {words}{reply}", self.now_us());
    }

    pub(super) fn tell_effect(&self, effect: &Effect) {
        let words = match effect {
            Effect::Send { to, bytes } => format!("to {to} {}", self.in_words(bytes)),
            Effect::Write { stream, bytes } => {
                let frame = bytes
                    .get(2..)
                    .map(|body| Frame::decode(body, self.network_id()));
                format!("{stream:?} {} bytes: {frame:.160?}", bytes.len())
            }
            Effect::Persist {
                id,
                class,
                key,
                value,
            } => {
                let len = value.as_ref().map(Vec::len);
                format!("persist {id:?} {class:?} {key:02x?} {len:?} bytes")
            }
            Effect::Open { .. } | Effect::Close { .. } | Effect::Heard(_) => format!("{effect:?}"),
        };
        eprintln!("{:>12} us -> {words}", self.now_us());
    }

    fn in_words(&self, bytes: &[u8]) -> String {
        let len = bytes.len();
        let body = match Datagram::decode(bytes, self.network_id()) {
            Ok(datagram) => datagram.body,
            Err(rule) => return format!("{len} bytes: {rule:?}"),
        };
        match body {
            Body::Ping { leaving, .. } => format!("{len} bytes: Ping, leaving {leaving}"),
            Body::Found {
                more,
                spilled,
                records,
                contacts,
                ..
            } => {
                let records = Copy::iter(records).count();
                let contacts = Contact::iter(contacts).map(|contact| {
                    let [a, b, c, ..] = *contact.id.as_bytes();
                    let addr = contact.addr.to_socket_addr();
                    let addr = addr.map_or_else(String::new, |addr| addr.ip().to_string());
                    format!(" {a:02x}{b:02x}{c:02x}@{addr}")
                });
                let contacts: String = contacts.collect();
                format!(
                    "{len} bytes: Found {records} records, more {more}, spilled {spilled}, contacts{contacts}"
                )
            }
            _ => format!("{len} bytes: {:.200}", format!("{body:?}")),
        }
    }
}
