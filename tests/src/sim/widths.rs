//! How wide the networks of worlds are: k, α and replication, which are types of core's and numbers here.
//!
//! Owns where core finds them: whoever is about to do something to a node enters its widths, and
//! [`Given`] is as wide as what was entered last on the thread. So worlds of different widths live side by side, as those
//! of tests do, and a node's tables need not be compiled for each. The invariant: `AnyNode` enters before every call.

use std::cell::Cell;
use std::fmt;

use strandline_core::overlay::{ALPHA, K, REPLICATION, REPLICATION_MIN, Width};

/// How wide a network is, see [`Width`]; all its nodes are. Never outside the limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Widths {
    k: usize,
    alpha: usize,
    replication: usize,
}

thread_local! {
    static ENTERED: Cell<Widths> = const { Cell::new(Widths::USUAL) };
}

impl Widths {
    /// Those of all nodes outside the simulator.
    pub const USUAL: Self = Self {
        k: K,
        alpha: ALPHA,
        replication: REPLICATION,
    };

    /// These.
    ///
    /// # Errors
    /// Which one is outside its limits, and what those are.
    pub fn new(k: usize, alpha: usize, replication: usize) -> Result<Self, String> {
        let (own, others) = (REPLICATION_MIN..=K, REPLICATION_MIN..=k);
        if !own.contains(&k) {
            return Err(format!("k is {k}: it may be {REPLICATION_MIN} to {K}"));
        }
        if !(1..=k).contains(&alpha) {
            return Err(format!(
                "alpha is {alpha}: with a k of {k} it may be 1 to {k}"
            ));
        }
        if !others.contains(&replication) {
            return Err(format!(
                "replication is {replication}: with a k of {k} it may be {REPLICATION_MIN} to {k}"
            ));
        }
        Ok(Self {
            k,
            alpha,
            replication,
        })
    }

    /// See [`Width::k`].
    #[must_use]
    pub const fn k(self) -> usize {
        self.k
    }

    /// See [`Width::alpha`].
    #[must_use]
    pub const fn alpha(self) -> usize {
        self.alpha
    }

    /// See [`Width::replication`].
    #[must_use]
    pub const fn replication(self) -> usize {
        self.replication
    }

    /// Nodes of which this thread is about to do something are so wide.
    pub(super) fn enter(self) {
        ENTERED.set(self);
    }
}

impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            k,
            alpha,
            replication,
        } = self;
        write!(f, "k {k}, α {alpha}, replication {replication}")
    }
}

/// The widths that were entered last.
#[derive(Clone, Copy, Debug)]
pub struct Given;

impl Width for Given {
    fn k() -> usize {
        ENTERED.get().k
    }

    fn alpha() -> usize {
        ENTERED.get().alpha
    }

    fn replication() -> usize {
        ENTERED.get().replication
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use strandline_core::overlay::Overlay;
    use strandline_core::plan::{ServerRing, ServerTable};

    use super::{Given, Widths};

    #[test]
    fn a_width_outside_its_limits_is_refused() {
        for (k, alpha, replication) in [(4, 4, 4), (20, 1, 20), (8, 2, 4), (20, 3, 8)] {
            let widths = Widths::new(k, alpha, replication).unwrap();
            assert_eq!((widths.k(), widths.alpha()), (k, alpha));
            assert_eq!(widths.replication(), replication);
        }
        for (k, alpha, replication, wrong) in [
            (3, 1, 3, "k is 3"),
            (21, 3, 8, "k is 21"),
            (20, 0, 8, "alpha is 0"),
            (8, 9, 8, "alpha is 9"),
            (20, 3, 3, "replication is 3"),
            (7, 3, 8, "replication is 8"),
        ] {
            let refused = Widths::new(k, alpha, replication).unwrap_err();
            assert!(refused.starts_with(wrong), "{refused}");
        }
    }

    #[test]
    fn both_overlays_are_as_wide_as_was_entered() {
        fn of<O: Overlay>() -> (usize, usize, usize) {
            (O::k(), O::alpha(), O::replication())
        }
        for numbers in [(8, 2, 4), (20, 3, 8), (16, 5, 16)] {
            Widths::new(numbers.0, numbers.1, numbers.2)
                .unwrap()
                .enter();
            assert_eq!(of::<ServerTable<Given>>(), numbers);
            assert_eq!(of::<ServerRing<Given>>(), numbers);
        }
    }
}
