//! The sans-I/O heart of Strandline: a Kademlia DHT and a decentralised timeline.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod addr;
pub mod bounded;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod drive;
pub mod id;
pub mod name;
pub mod node;
pub mod output;
pub mod plan;
pub mod rng;
pub mod rules;
pub mod time;
pub mod wire;
