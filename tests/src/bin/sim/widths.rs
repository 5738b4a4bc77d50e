//! How wide a network is to be: the switches that both the default world and the scenarios have.
//!
//! Owns their help. What is refused, and why, is said by [`Widths::new`].

use std::fmt::Write;

use clap::Args;

use strandline_core::overlay::{ALPHA, K, REPLICATION, REPLICATION_MIN};
use strandline_tests::sim::Widths;

/// All nodes have the same.
#[derive(Args, Debug, Clone, Copy)]
pub struct WidthOptions {
    /// How many contacts a reply names, a lookup ends with, and a bucket or a list of successors holds: 4 to 20
    #[arg(long, default_value_t = K)]
    k: usize,
    /// How many questions of a lookup are under way at once: 1 to k
    #[arg(long, default_value_t = ALPHA)]
    alpha: usize,
    /// How many nodes hold a record: 4 to k
    #[arg(long, default_value_t = REPLICATION)]
    replication: usize,
}

// What the help says.
const _: () = assert!(REPLICATION_MIN == 4 && K == 20);

impl WidthOptions {
    /// These.
    ///
    /// # Errors
    /// Which one is outside its limits, and what those are.
    pub fn widths(self) -> Result<Widths, String> {
        Widths::new(self.k, self.alpha, self.replication)
    }

    /// Adds those to a command that are not the usual ones.
    pub fn add_to(self, command: &mut String) {
        for (name, width, usual) in [
            ("k", self.k, K),
            ("alpha", self.alpha, ALPHA),
            ("replication", self.replication, REPLICATION),
        ] {
            if width != usual {
                // Writing to a string cannot fail.
                let _ = write!(command, " --{name} {width}");
            }
        }
    }
}
