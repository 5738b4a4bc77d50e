//! How the timeline comes back after a restart.
//!
//! Owns the end of restoring: what is checked before anything is signed, and what is not known.

use super::state::State;
use crate::output::{Damaged, Restored};
use crate::plan::Plan;
use crate::time::Instant;

impl<P: Plan> State<P> {
    /// Ends the restoring, and allows signing unless storage was lost.
    ///
    /// # Errors
    /// What is wrong with the storage; nothing may be signed then, and nothing was changed in storage.
    pub fn restored_all(&mut self, _now: Instant, how: Restored) -> Result<(), Damaged> {
        if how == Restored::Lost {
            self.recovering = true;
            return Ok(());
        }
        self.log.restored_all(&self.me, &self.posts)?;
        self.copies
            .restored_all(&self.me, &mut self.posts, &mut self.persists);
        self.me.unmute();
        Ok(())
    }
}
