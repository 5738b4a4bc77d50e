//! Concurrent lookups of one key: gets and finds of the application that ask the same share one.
//!
//! Owns who waits for whom. The first goes out; those that come while it is under way wait for its result, and each gets
//! it whole. Invariants: whoever waits ends by its own deadline, with what the first has by then; if the first ends
//! without a complete result, or is cancelled, those that wait begin themselves; nobody waits for a get that began before
//! this node's own put to the key ended, so that a node reads what it wrote.

use crate::bounded::{Blobs, Handle, List};
use crate::id::{ID_BYTES, Key};
use crate::plan::Plan;
use crate::wire::PAYLOAD_LEN_MAX;

use super::Dht;
use super::gets::Value;
use super::ops::{Job, OpResult, Owner};

/// An operation that waits for the result of another; opaque, named by memory plans alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    first: Handle,
    waits: Handle,
}

impl<P: Plan> Dht<P> {
    /// Whether lookups are shared at all.
    pub(super) const SHARES: bool = P::Shares::CAPACITY > 0;

    /// An operation under way that asks the same, to wait for.
    pub(super) fn same_under_way(
        &self,
        owner: Option<Owner>,
        target: &Key,
        job: &Job<P>,
    ) -> Option<Handle> {
        if owner != Some(Owner::Application) || self.shares.is_full() {
            return None;
        }
        let mut others = self.ops.iter().filter(|(_, op)| op.target == *target);
        let same = others.find(|(handle, op)| {
            let alike = match (&op.job, job) {
                (Job::Find, Job::Find) => true,
                (Job::Get(first), Job::Get(get)) => first.is_like(get),
                (_, _) => false,
            };
            alike && op.owner == owner && self.first_of(*handle).is_none()
        });
        same.map(|(handle, _)| handle)
    }

    /// Has an operation wait for another.
    pub(super) fn share(&mut self, first: Handle, waits: Handle) {
        if self.shares.push(Share { first, waits }).is_err() {
            // Room was checked: only memory may lack.
            self.begin_alone(waits);
        }
    }

    /// For which operation this one waits.
    pub(super) fn first_of(&self, waits: Handle) -> Option<Handle> {
        let mut shares = self.shares.iter();
        shares
            .find(|share| share.waits == waits)
            .map(|share| share.first)
    }

    fn begin_alone(&mut self, op: Handle) {
        if let Some(op) = self.ops.get_mut(op) {
            op.waits = true;
            self.waiting = true;
        }
    }

    /// An operation ended or was cancelled (`None`): those that wait for it end too, or begin.
    pub(super) fn share_result(&mut self, op: Handle, result: Option<&OpResult>) {
        self.shares.retain(|share| share.waits != op);
        let whole = result.filter(|result| {
            matches!(
                result,
                OpResult::Got { complete: true, .. } | OpResult::Found { complete: true, .. }
            )
        });
        while let Some(at) = self.shares.iter().position(|share| share.first == op) {
            let Some(Share { waits, .. }) = self.shares.swap_remove(at) else {
                return;
            };
            match whole {
                Some(result) if self.copy_found(op, waits) => self.finish(waits, *result),
                Some(_) | None => self.begin_alone(waits),
            }
        }
    }

    /// A put ended: whoever reads its key from now on sees it, and does not wait for those who began before.
    pub(super) fn put_ended(&mut self, key: &Key) {
        for at in 0..self.ops.slots() {
            if let Some((_, op)) = self.ops.at_mut(at)
                && op.target == *key
                && let Job::Get(get) = &mut op.job
            {
                get.alone = true;
            }
        }
    }

    /// Gives the one that waits what the first has found so far; false, and nothing given, when there is no room.
    pub(super) fn copy_found(&mut self, first: Handle, waits: Handle) -> bool {
        if let Some(visit) = self
            .op_visit(first)
            .and_then(|visit| self.visits.get(visit))
        {
            let is_find = self
                .ops
                .get(waits)
                .is_some_and(|op| matches!(op.job, Job::Find));
            if is_find {
                let copy = visit.copy_for(waits);
                let Ok(visit) = self.visits.insert(copy) else {
                    return false;
                };
                if let Some(op) = self.ops.get_mut(waits) {
                    op.visit = visit;
                }
                return true;
            }
        }
        let mut bytes = [0; ID_BYTES + PAYLOAD_LEN_MAX];
        for at in 0..self.values.len() {
            let Some(value) = self.values.get(at).copied().filter(|v| v.op == first) else {
                continue;
            };
            let copied = self.parked.get(value.blob).and_then(|blob| {
                let copy = bytes.get_mut(..blob.len())?;
                copy.copy_from_slice(blob);
                Some(&*copy)
            });
            let blob = copied.and_then(|copy| self.parked.insert(copy));
            let kept = blob.is_some_and(|blob| {
                let value = Value {
                    op: waits,
                    blob,
                    ..value
                };
                let kept = self.values.push(value).is_ok();
                if !kept {
                    self.parked.remove(blob);
                }
                kept
            });
            if !kept {
                self.drop_values(waits);
                return false;
            }
        }
        true
    }
}
