//! Bounded storage: what a memory plan is made of.
//!
//! Every table of a node is one of these: a [`List`] (a bounded vector), a [`Slab`] (slots behind
//! handles that notice when they are stale), an [`Index`] (finds a slot by its content), [`Blobs`]
//! (byte strings of different lengths), or a [`Ring`] (first in, first out). Each comes in a kind
//! that lies in place, for boards, and a kind that grows on the heap up to the same sort of bound,
//! for servers (feature `alloc`).
//!
//! They hold data and refuse what does not fit. They decide nothing: what is evicted when a table
//! is full, and what is counted when a handle is stale, is the business of the layer that owns the
//! table.
//!
//! Invariants that a change must keep:
//! - At its limit a container refuses, hands back what it was given, and is unchanged. Nothing
//!   here panics, whatever the arguments.
//! - `EMPTY` of the kinds that lie in place is all zero (lengths of 0, no `None` that is encoded
//!   as something else), so that a `static` node lies in `.bss` and costs no flash.
//! - The same calls give the same answers in the same order on every platform and in both kinds,
//!   until a table is full.

mod blobs;
mod index;
mod list;
mod ring;
mod slab;
mod sort;

#[cfg(feature = "alloc")]
pub use blobs::Boxed;
pub use blobs::{Arena, BlobId, Blobs};
#[cfg(feature = "alloc")]
pub use index::Hashed;
pub use index::{Index, Scan};
#[cfg(feature = "alloc")]
pub use list::Grown;
pub use list::{Fixed, List};
pub use ring::Ring;
pub use slab::{Handle, Slab, Slot};
pub(crate) use sort::sort_by;
