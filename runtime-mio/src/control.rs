//! The control channel: HTTP/1.1 and JSON over the Unix socket `control.sock` in the home folder.

/// Longest body of a request in bytes.
pub const BODY_LEN_MAX: usize = 64 * 1024;
/// The header of an answer that carries the exit code of the command line.
pub const EXIT_HEADER: &str = "Strandline-Exit";
