//! Rings that are less wide than usual, and one of which more hold a record.

use super::*;
use crate::overlay::ALPHA;

/// A ring with one of each.
#[derive(Clone, Debug)]
struct One;

impl Width for One {
    fn alpha() -> usize {
        1
    }

    fn successors() -> usize {
        1
    }

    fn named_behind() -> usize {
        1
    }

    fn named() -> usize {
        1
    }

    fn named_far() -> usize {
        1
    }
}

#[test]
fn a_ring_with_one_of_each_names_one_next_node_and_has_one_successor() {
    type Narrow = Chord<Grown<Entry, 320>, Grown<Silent, 16>, One>;
    let ring = joined::<Narrow>((0..u16::MAX).step_by(64));
    let towards = |n| numbers(&ring, &ring.towards(&key(n)));
    assert_eq!(towards(1_010), [1_024], "the successor owns it");
    // Of those that are kept, the closest before the key: a finger.
    let before = all(&ring)
        .into_iter()
        .filter(|n| (1_000..30_000).contains(n));
    assert_eq!(towards(30_000), [before.max().unwrap()]);
    let fingers = ring.entries().iter().map(|entry| entry.bucket);
    let fingers: Vec<u8> = fingers.collect();
    let others = &fingers[..fingers.len() - REPLICATION];
    assert!(others.windows(2).all(|two| two[0] < two[1]), "one of each");
    assert_eq!(Narrow::alpha(), 1);
    assert_eq!(Ring::alpha(), ALPHA);
}

/// A ring less wide than usual.
#[derive(Clone, Debug)]
struct Slim;

impl Width for Slim {
    fn k() -> usize {
        8
    }

    fn replication() -> usize {
        4
    }
}

#[test]
fn of_a_slim_ring_lists_and_replies_are_shorter() {
    type Slender = Chord<Grown<Entry, 320>, Grown<Silent, 16>, Slim>;
    let mut ring = joined::<Slender>((0..u16::MAX).step_by(64));
    let towards = |n| numbers(&ring, &ring.towards(&key(n)));
    // Six at the key or behind it, and as large a share before it as usual: two.
    let behind = (0..6).map(|n| 1_088 + n * 64);
    assert_eq!(
        towards(1_030),
        behind.chain([1_024, 960]).collect::<Vec<_>>()
    );
    assert_eq!(towards(30_000).len(), 8, "all before the key");
    assert_eq!(ring.nearest(&key(5)).len(), 8);
    let fingers: Vec<u8> = ring.entries().iter().map(|entry| entry.bucket).collect();
    let others = &fingers[8..fingers.len() - 4];
    assert!(
        others.windows(2).all(|two| two[0] < two[1]),
        "eight successors, four predecessors"
    );
    // The predecessor, and three others that hold what this node owns.
    let up: Vec<_> = core::iter::from_fn(|| ring.pop_neighbour()).collect();
    assert_eq!(up.len(), 4);
}

#[test]
fn however_many_hold_a_record_a_board_has_a_place_for_a_finger() {
    struct Heavy;

    impl Width for Heavy {
        fn replication() -> usize {
            K
        }
    }

    type Tight = Chord<Fixed<Entry, 39>, Fixed<Silent, 2>, Heavy>;
    let ring = joined::<Tight>((0..u16::MAX).step_by(64));
    assert_eq!((Tight::successors(), Tight::predecessors()), (18, 20));
    assert_eq!(ring.entries().len(), 39);
    assert_eq!(ring.nearer_than_own(&key(200), 20), 12);
}
