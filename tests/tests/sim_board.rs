//! The board's plan allocates nothing, and a record of a node's inputs replays it exactly.
//!
//! A test binary of its own, because it replaces the global allocator by one that counts.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use strandline_tests::sim::node::AnyNode;
use strandline_tests::sim::{Chance, Cryptography, HostId, Kind, Overlay, Widths, World, secs};

thread_local! {
    /// Allocations of this thread. Tests run in threads of their own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every method hands its arguments to the system's allocator unchanged and returns what that
// returns; the counter is a plain cell of the thread and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`; `ptr` came from there.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `alloc`; `ptr` came from there.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

fn count() {
    // A thread that is being torn down has no cell any more, and runs no node.
    let _ = ALLOCATIONS.try_with(|counter| counter.set(counter.get() + 1));
}

/// How often `f` allocates.
fn allocations(f: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    f();
    ALLOCATIONS.with(Cell::get) - before
}

/// A busy little world around a node that is recorded from its first input.
fn recorded(kind: Kind, seed: u64) -> (World, HostId) {
    let mut world = World::new(seed);
    world.network_mut().loss = Chance::percent(2);
    let servers = world.nodes(Kind::Server, 6);
    let node = world.recorded_node(kind);
    let boards = world.nodes(Kind::Board, 3);
    world.run_for(secs(20));
    for other in [servers[0], servers[1], boards[0]] {
        world.begin_follow(node, other);
        world.begin_follow(other, node);
    }
    world.run_for(secs(15));
    for round in 0..3 {
        for author in [node, servers[0], boards[0]] {
            world.begin_post(author, &format!("post {round} of {author}"));
        }
        world.run_for(secs(2));
        for reader in [node, servers[1], servers[0]] {
            world.begin_timeline(reader);
        }
        world.run_for(secs(12));
    }
    world.run_for(secs(120));
    (world, node)
}

#[test]
fn a_board_allocates_nothing() {
    let (world, board) = recorded(Kind::Board, 11);
    let tape = world.tape(board).unwrap();
    let mut node = AnyNode::unstarted(
        Kind::Board,
        Cryptography::Real,
        Overlay::Kademlia,
        Widths::USUAL,
    );
    let mut replayed = Err(0);
    let count = allocations(|| replayed = tape.replay(&mut node));
    assert_eq!(replayed, Ok(()));
    assert!(
        tape.inputs() > 500,
        "only {} inputs: a quiet node proves nothing",
        tape.inputs()
    );
    assert_eq!(count, 0, "a board allocated");
}

#[test]
fn a_server_does_allocate_so_that_counting_works() {
    let (world, server) = recorded(Kind::Server, 11);
    let tape = world.tape(server).unwrap();
    let mut node = AnyNode::unstarted(
        Kind::Server,
        Cryptography::Real,
        Overlay::Kademlia,
        Widths::USUAL,
    );
    let count = allocations(|| tape.replay(&mut node).unwrap());
    assert!(count > 0);
}

#[test]
fn a_record_of_all_inputs_replays_a_node_and_any_other_does_not() {
    for kind in [Kind::Board, Kind::Server] {
        let (world, host) = recorded(kind, 12);
        let tape = world.tape(host).unwrap();
        let mut same =
            AnyNode::unstarted(kind, Cryptography::Real, Overlay::Kademlia, Widths::USUAL);
        assert_eq!(tape.replay(&mut same), Ok(()));
        let mut again =
            AnyNode::unstarted(kind, Cryptography::Real, Overlay::Kademlia, Widths::USUAL);
        tape.replay(&mut again).unwrap();
        assert!(
            tape.replay(&mut again).is_err(),
            "a node that already ran is in another state"
        );
    }
}
