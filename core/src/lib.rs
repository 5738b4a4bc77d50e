//! Strandline core.
#![no_std]
#![forbid(unsafe_code)]
#[cfg(feature = "alloc")]
extern crate alloc;

pub mod addr;
pub mod bounded;
pub mod clock;
pub mod crypto;
pub mod id;
pub mod name;
pub mod rng;
pub mod time;
