//! The binary as people and scripts meet it: real processes, real sockets on the loopback, homes of their own.
//!
//! One test program with a module for each subject, so that the harness is compiled once. Ports are always chosen by the
//! system; nothing waits by sleeping for a time and hoping, but looks again until a deadline.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod contract;
mod contract_node;
mod crash;
mod demo;
mod harness;
mod hostile;
mod mistakes;
mod network;
mod replicas;
