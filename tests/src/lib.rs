//! What Strandline is tested with, as a library.

pub mod fuzzing;
pub mod sim;
