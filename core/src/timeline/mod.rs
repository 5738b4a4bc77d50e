//! The timeline: posting, following and reading, on top of the DHT.
//!
//! [`Timeline`] composes the parts and carries what one learns to the others. The parts are plain structs:
//! [`me`] (who signs), [`log`] (own posts), [`people`] (followed and followers), [`copies`] (others' posts, for a
//! while), [`posts`] (the bytes of both), [`persist`] (what storage has to write), together in [`state::State`];
//! [`errands`] (what is to be said over streams). Invariant: nothing here does I/O or
//! knows a node's key; records go through the DHT, frames through streams.

pub mod asks;
pub mod chain;
pub mod copies;
pub mod errands;
pub mod exchange;
pub mod log;
pub mod me;
pub mod names;
pub mod people;
pub mod persist;
pub mod posts;
pub mod publish;
pub mod queries;
pub mod reads;
pub mod recover;
pub mod state;
pub mod statements;
pub mod stored;
pub mod streams;
pub mod tags;
pub mod tree;

#[cfg(test)]
mod testing;

use serde::Deserialize;

use crate::rules::Rule;
use crate::wire::record::{Kind, Record};

/// The payload of a record that must be of `kind`.
fn payload_of<'a, T: Deserialize<'a>>(record: &Record<'a>, kind: Kind) -> Result<T, Rule> {
    if record.kind == kind {
        record.payload()
    } else {
        Err(Rule::Kind)
    }
}
