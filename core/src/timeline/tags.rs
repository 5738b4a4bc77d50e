//! Who in the timeline asked the DHT for something: the number that the DHT carries with an operation and gives back.
//!
//! The high byte names the part, the rest a slot and its generation, so that an answer to somebody who has gone finds
//! nobody.

use crate::bounded::Handle;

/// The part of the timeline that an operation belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    /// [`super::publish`].
    Publish = 1,
    /// [`super::queries`].
    Queries = 2,
    /// [`super::names`].
    Names = 3,
    /// [`super::recover`].
    Recover = 4,
    /// [`super::reads`].
    Reads = 5,
    /// Nobody wants to know.
    Nobody = 6,
}

/// Bits of the slot number, and of its generation, in a tag.
const SLOT_BITS: u32 = 12;
/// More slots than this a part cannot tell apart.
pub const SLOTS_MAX: usize = 1 << SLOT_BITS;

impl Part {
    const ALL: [Self; 6] = [
        Self::Publish,
        Self::Queries,
        Self::Names,
        Self::Recover,
        Self::Reads,
        Self::Nobody,
    ];

    /// The tag of slot `slot` in its generation `generation`, of which the low 12 bits count each.
    #[must_use]
    pub const fn tag(self, slot: u32, generation: u32) -> u32 {
        let low = (1 << SLOT_BITS) - 1;
        (self as u32) << 24 | (generation & low) << SLOT_BITS | (slot & low)
    }

    /// The tag of an entry of a slab.
    #[must_use]
    pub fn tag_of(self, handle: Handle) -> u32 {
        let slot = u32::try_from(handle.index()).unwrap_or(u32::MAX);
        let generation = u32::try_from(handle.to_bits() >> 32).unwrap_or(0);
        self.tag(slot, generation)
    }

    /// The part that a tag belongs to.
    #[must_use]
    pub fn of(tag: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|part| *part as u32 == tag >> 24)
    }
}

/// The slot number in a tag.
#[must_use]
pub fn slot_of(tag: u32) -> usize {
    // Twelve bits fit.
    usize::try_from(tag & ((1 << SLOT_BITS) - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Part, slot_of};

    #[test]
    fn a_tag_tells_part_and_slot_and_changes_with_the_generation() {
        let tag = Part::Names.tag(0xabc, 0x1_0005);
        assert_eq!(tag, 0x0300_5abc);
        assert_eq!((Part::of(tag), slot_of(tag)), (Some(Part::Names), 0xabc));
        assert_ne!(tag, Part::Names.tag(0xabc, 6));
        assert_eq!(Part::of(0), None);
        assert_eq!(Part::of(7 << 24), None);
    }
}
