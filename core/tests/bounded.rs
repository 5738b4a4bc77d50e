//! Bounded storage against models from the standard library: whatever the calls, both kinds of
//! each container answer as the model does, up to the limit and at it.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;
use strandline_core::bounded::{
    Arena, BlobId, Blobs, Fixed, Handle, Index, List, Ring, Scan, Slab, Slot,
};
#[cfg(feature = "alloc")]
use strandline_core::bounded::{Boxed, Grown, Hashed};

const CAPACITY: usize = 6;

/// Picks one of the things that exist by the time it is used.
type Which = prop::sample::Index;

#[derive(Clone, Debug)]
enum ListOp {
    Push(u16),
    Insert(usize, u16),
    Pop,
    Remove(usize),
    SwapRemove(usize),
    Truncate(usize),
    RetainOdd,
    Clear,
}

fn list_op() -> impl Strategy<Value = ListOp> {
    let at = 0..CAPACITY + 2;
    prop_oneof![
        6 => any::<u16>().prop_map(ListOp::Push),
        4 => (at.clone(), any::<u16>()).prop_map(|(at, value)| ListOp::Insert(at, value)),
        1 => Just(ListOp::Pop),
        2 => at.clone().prop_map(ListOp::Remove),
        2 => at.clone().prop_map(ListOp::SwapRemove),
        1 => at.prop_map(ListOp::Truncate),
        1 => Just(ListOp::RetainOdd),
        1 => Just(ListOp::Clear),
    ]
}

fn list_is_a_vec<L: List<u16>>(ops: &[ListOp]) {
    let (mut list, mut model) = (L::EMPTY, Vec::new());
    for op in ops {
        let full = model.len() == CAPACITY;
        match *op {
            ListOp::Push(value) if full => assert_eq!(list.push(value), Err(value)),
            ListOp::Push(value) => {
                model.push(value);
                assert_eq!(list.push(value), Ok(()));
            }
            ListOp::Insert(at, value) if full || at > model.len() => {
                assert_eq!(list.insert(at, value), Err(value));
            }
            ListOp::Insert(at, value) => {
                model.insert(at, value);
                assert_eq!(list.insert(at, value), Ok(()));
            }
            ListOp::Pop => assert_eq!(list.pop(), model.pop()),
            ListOp::Remove(at) => {
                let expected = (at < model.len()).then(|| model.remove(at));
                assert_eq!(list.remove(at), expected);
            }
            ListOp::SwapRemove(at) => {
                let expected = (at < model.len()).then(|| model.swap_remove(at));
                assert_eq!(list.swap_remove(at), expected);
            }
            ListOp::Truncate(len) => {
                model.truncate(len);
                list.truncate(len);
            }
            ListOp::RetainOdd => {
                model.retain(|value| value % 2 == 1);
                list.retain(|value| value % 2 == 1);
            }
            ListOp::Clear => {
                model.clear();
                list.clear();
            }
        }
        assert_eq!(list.as_slice(), model);
        assert_eq!((list.first(), list.last()), (model.first(), model.last()));
        assert_eq!(
            (list.len(), list.is_empty()),
            (model.len(), model.is_empty())
        );
        assert_eq!(list.is_full(), model.len() == CAPACITY);
    }
}

#[derive(Clone, Debug)]
enum RingOp {
    Push(u16),
    Pop,
    Change(u16),
    Clear,
}

fn ring_op() -> impl Strategy<Value = RingOp> {
    prop_oneof![
        12 => any::<u16>().prop_map(RingOp::Push),
        8 => Just(RingOp::Pop),
        2 => any::<u16>().prop_map(RingOp::Change),
        1 => Just(RingOp::Clear),
    ]
}

fn ring_is_a_deque<L: List<Option<u16>>>(ops: &[RingOp]) {
    let (mut ring, mut model) = (Ring::<u16, L>::EMPTY, VecDeque::new());
    for op in ops {
        match *op {
            RingOp::Push(value) if model.len() == CAPACITY => {
                assert_eq!(ring.push_back(value), Err(value));
            }
            RingOp::Push(value) => {
                model.push_back(value);
                assert_eq!(ring.push_back(value), Ok(()));
            }
            RingOp::Pop => assert_eq!(ring.pop_front(), model.pop_front()),
            RingOp::Change(by) => {
                let change = |value: &mut u16| *value = value.wrapping_mul(31).wrapping_add(by);
                ring.iter_mut().for_each(change);
                model.iter_mut().for_each(change);
            }
            RingOp::Clear => {
                ring.clear();
                model.clear();
            }
        }
        assert!(ring.iter().eq(&model));
        assert_eq!(ring.front(), model.front());
        assert_eq!(ring.front_mut().copied(), model.front().copied());
        assert_eq!(
            (ring.len(), ring.is_empty()),
            (model.len(), model.is_empty())
        );
        assert_eq!(
            (ring.is_full(), ring.capacity()),
            (model.len() == CAPACITY, CAPACITY)
        );
    }
}

#[derive(Clone, Debug)]
enum SlabOp {
    Insert(u16),
    /// Of all handles that were ever given out.
    Remove(Which),
    Change(Which, u16),
    /// Index and generation of a handle that, perhaps, was never given out.
    RemoveMadeUp(u32, u32),
    Clear,
}

fn slab_op() -> impl Strategy<Value = SlabOp> {
    prop_oneof![
        12 => any::<u16>().prop_map(SlabOp::Insert),
        8 => any::<Which>().prop_map(SlabOp::Remove),
        4 => any::<(Which, u16)>().prop_map(|(which, value)| SlabOp::Change(which, value)),
        2 => (0..8_u32, 0..8_u32).prop_map(|(index, age)| SlabOp::RemoveMadeUp(index, age)),
        1 => Just(SlabOp::Clear),
    ]
}

/// The model is every handle that was ever given out, and what it should find.
fn slab_remembers<L: List<Slot<u16>>>(ops: &[SlabOp]) {
    let mut slab = Slab::<u16, L>::EMPTY;
    let mut model: Vec<(Handle, Option<u16>)> = Vec::new();
    for op in ops {
        let live = model.iter().filter(|(_, value)| value.is_some()).count();
        match op {
            SlabOp::Insert(value) if live == CAPACITY => {
                assert_eq!(slab.insert(*value), Err(*value));
            }
            SlabOp::Insert(value) => {
                let handle = slab.insert(*value);
                assert!(handle.is_ok(), "refused with {live} entries");
                if let Ok(handle) = handle {
                    assert!(handle.index() < CAPACITY && handle.to_bits() != 0);
                    assert!(
                        model.iter().all(|(old, _)| *old != handle),
                        "given out twice"
                    );
                    model.push((handle, Some(*value)));
                }
            }
            SlabOp::Remove(which) if !model.is_empty() => {
                let (handle, value) = which.get_mut(&mut model);
                assert_eq!(slab.remove(*handle), value.take());
            }
            SlabOp::Change(which, new) if !model.is_empty() => {
                let (handle, value) = which.get_mut(&mut model);
                assert_eq!(slab.get_mut(*handle), value.as_mut());
                if let (Some(place), Some(value)) = (slab.get_mut(*handle), value) {
                    (*place, *value) = (*new, *new);
                }
            }
            SlabOp::Remove(_) | SlabOp::Change(..) => {}
            SlabOp::RemoveMadeUp(index, generation) => {
                let handle = Handle::from_bits(u64::from(*generation) << 32 | u64::from(*index));
                let known = model.iter_mut().find(|(known, _)| *known == handle);
                assert_eq!(
                    slab.remove(handle),
                    known.and_then(|(_, value)| value.take())
                );
            }
            SlabOp::Clear => {
                slab.clear();
                model.iter_mut().for_each(|(_, value)| *value = None);
            }
        }
        slab_shows(&mut slab, &model);
    }
}

fn slab_shows<L: List<Slot<u16>>>(slab: &mut Slab<u16, L>, model: &[(Handle, Option<u16>)]) {
    for &(handle, value) in model {
        assert_eq!(Handle::from_bits(handle.to_bits()), handle);
        assert_eq!(slab.get(handle).copied(), value);
    }
    let mut live: Vec<(Handle, u16)> = model
        .iter()
        .filter_map(|&(handle, value)| Some((handle, value?)))
        .collect();
    live.sort_by_key(|(handle, _)| handle.index());
    assert!(
        slab.iter()
            .map(|(handle, value)| (handle, *value))
            .eq(live.clone())
    );
    assert!(
        slab.iter_mut()
            .map(|(handle, value)| (handle, *value))
            .eq(live.clone())
    );
    assert_eq!((slab.len(), slab.is_empty()), (live.len(), live.is_empty()));
    assert_eq!(
        (slab.is_full(), slab.capacity()),
        (live.len() == CAPACITY, CAPACITY)
    );
    assert!(slab.slots() <= CAPACITY);
    for index in 0..CAPACITY + 2 {
        let here = live
            .iter()
            .find(|(handle, _)| handle.index() == index)
            .copied();
        assert_eq!(slab.at(index).map(|(handle, value)| (handle, *value)), here);
        assert_eq!(
            slab.at_mut(index).map(|(handle, value)| (handle, *value)),
            here
        );
        assert_eq!(slab.handle_at(index), here.map(|(handle, _)| handle));
        let next = live.iter().find(|(handle, _)| handle.index() >= index);
        assert_eq!(slab.first_from(index), next.map(|(handle, _)| *handle));
    }
}

#[derive(Clone, Debug)]
enum BlobOp {
    /// Bytes, and where to cut them into parts.
    Insert(Vec<u8>, usize),
    /// Of all ids that were ever given out.
    Replace(Which, Vec<u8>),
    Change(Which, u8),
    Remove(Which),
    Clear,
}

const BYTES: usize = 40;

fn blob_op() -> impl Strategy<Value = BlobOp> {
    let bytes = || {
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..12),
            1 => prop::collection::vec(any::<u8>(), BYTES - 1..BYTES + 2),
        ]
    };
    prop_oneof![
        12 => (bytes(), 0..12_usize).prop_map(|(bytes, cut)| BlobOp::Insert(bytes, cut)),
        6 => (any::<Which>(), bytes()).prop_map(|(which, bytes)| BlobOp::Replace(which, bytes)),
        4 => any::<(Which, u8)>().prop_map(|(which, by)| BlobOp::Change(which, by)),
        6 => any::<Which>().prop_map(BlobOp::Remove),
        1 => Just(BlobOp::Clear),
    ]
}

/// The model is every id that was ever given out, and what it should find.
fn blobs_remember<B: Blobs>(ops: &[BlobOp]) {
    assert_eq!((B::SLOTS, B::BYTES), (CAPACITY, BYTES));
    let mut blobs = B::EMPTY;
    let mut model: Vec<(BlobId, Option<Vec<u8>>)> = Vec::new();
    for op in ops {
        let live = model.iter().filter_map(|(_, bytes)| bytes.as_ref());
        let (count, used) = live.fold((0, 0), |(count, used), b| (count + 1, used + b.len()));
        match op {
            BlobOp::Insert(bytes, cut) => {
                let fits = count < CAPACITY && used + bytes.len() <= BYTES;
                assert_eq!(blobs.fits(bytes.len()), fits);
                let (one, two) = bytes.split_at((*cut).min(bytes.len()));
                let id = if one.is_empty() {
                    blobs.insert(two)
                } else {
                    blobs.insert_parts(&[one, &[], two])
                };
                assert_eq!(id.is_some(), fits);
                if let Some(id) = id {
                    assert!(model.iter().all(|(old, _)| *old != id), "given out twice");
                    model.push((id, Some(bytes.clone())));
                }
            }
            BlobOp::Replace(which, new) if !model.is_empty() => {
                let (id, bytes) = which.get_mut(&mut model);
                let fits = bytes
                    .as_ref()
                    .is_some_and(|old| used - old.len() + new.len() <= BYTES);
                assert_eq!(blobs.replace(*id, new), fits);
                if fits {
                    *bytes = Some(new.clone());
                }
            }
            BlobOp::Change(which, by) if !model.is_empty() => {
                let (id, bytes) = which.get_mut(&mut model);
                let change = |byte: &mut u8| *byte = byte.wrapping_add(*by);
                blobs.get_mut(*id).into_iter().flatten().for_each(change);
                bytes.iter_mut().flatten().for_each(change);
            }
            BlobOp::Remove(which) if !model.is_empty() => {
                let (id, bytes) = which.get_mut(&mut model);
                assert_eq!(blobs.remove(*id), bytes.take().is_some());
            }
            BlobOp::Replace(..) | BlobOp::Change(..) | BlobOp::Remove(_) => {}
            BlobOp::Clear => {
                blobs.clear();
                model.iter_mut().for_each(|(_, bytes)| *bytes = None);
            }
        }
        let live = || model.iter().filter_map(|(_, bytes)| bytes.as_ref());
        assert_eq!(blobs.used_bytes(), live().map(Vec::len).sum());
        assert_eq!(
            (blobs.len(), blobs.is_empty()),
            (live().count(), live().next().is_none())
        );
        for (id, bytes) in &model {
            assert_eq!(blobs.get(*id), bytes.as_deref());
            assert_eq!(blobs.get_mut(*id).as_deref(), bytes.as_deref());
        }
    }
}

#[derive(Clone, Debug)]
enum IndexOp {
    /// Gives a slot another key, or none.
    Set(usize, Option<u8>),
    Clear,
}

const SLOTS: usize = 40;

fn index_op() -> impl Strategy<Value = IndexOp> {
    prop_oneof![
        60 => (0..SLOTS, any::<Option<u8>>()).prop_map(|(slot, key)| IndexOp::Set(slot, key)),
        1 => Just(IndexOp::Clear),
    ]
}

/// Few keys, so that slots share them; many of them share a hash, or its low or its high bits.
fn hash(key: u8) -> u64 {
    u64::from(key % 5) << 60 | u64::from(key % 3)
}

fn index_finds_the_lowest<I: Index>(ops: &[IndexOp]) {
    const KEYS: u8 = 45;
    let mut index = I::EMPTY;
    let mut keys = [None; SLOTS];
    for op in ops {
        match *op {
            IndexOp::Set(slot, key) => {
                if let Some(old) = keys[slot] {
                    index.remove(hash(old), slot);
                }
                keys[slot] = key.map(|key| key % KEYS);
                if let Some(new) = keys[slot] {
                    index.insert(hash(new), slot, |slot| keys[slot].map_or(0, hash));
                }
            }
            IndexOp::Clear => {
                index.clear();
                keys = [None; SLOTS];
            }
        }
        for key in 0..KEYS {
            for slots in [0, SLOTS / 2, SLOTS] {
                let found = index.find(hash(key), slots, |slot| keys[slot] == Some(key));
                assert_eq!(
                    found,
                    keys[..slots].iter().position(|&other| other == Some(key))
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn lists_are_vecs(ops in prop::collection::vec(list_op(), 0..80)) {
        list_is_a_vec::<Fixed<u16, CAPACITY>>(&ops);
        #[cfg(feature = "alloc")]
        list_is_a_vec::<Grown<u16, CAPACITY>>(&ops);
    }

    #[test]
    fn rings_are_deques(ops in prop::collection::vec(ring_op(), 0..120)) {
        ring_is_a_deque::<Fixed<Option<u16>, CAPACITY>>(&ops);
        #[cfg(feature = "alloc")]
        ring_is_a_deque::<Grown<Option<u16>, CAPACITY>>(&ops);
    }

    #[test]
    fn slabs_never_show_an_entry_to_a_stale_handle(ops in prop::collection::vec(slab_op(), 0..80)) {
        slab_remembers::<Fixed<Slot<u16>, CAPACITY>>(&ops);
        #[cfg(feature = "alloc")]
        slab_remembers::<Grown<Slot<u16>, CAPACITY>>(&ops);
    }

    #[test]
    fn blobs_never_mix(ops in prop::collection::vec(blob_op(), 0..80)) {
        blobs_remember::<Arena<BYTES, CAPACITY>>(&ops);
        #[cfg(feature = "alloc")]
        blobs_remember::<Boxed<BYTES, CAPACITY>>(&ops);
    }

    #[test]
    fn indexes_find_the_lowest_slot(ops in prop::collection::vec(index_op(), 0..120)) {
        index_finds_the_lowest::<Scan>(&ops);
        #[cfg(feature = "alloc")]
        index_finds_the_lowest::<Hashed>(&ops);
    }
}

/// Elements that own something are dropped once, whichever way they leave.
#[test]
fn nothing_leaks_and_nothing_is_dropped_twice() {
    let token = Rc::new(());
    let mut list = Fixed::<Rc<()>, 4>::EMPTY;
    let mut slab = Slab::<Rc<()>, Fixed<Slot<Rc<()>>, 4>>::EMPTY;
    let mut ring = Ring::<Rc<()>, Fixed<Option<Rc<()>>, 4>>::EMPTY;
    for _ in 0..5 {
        drop(list.push(Rc::clone(&token)));
        drop(slab.insert(Rc::clone(&token)));
        drop(ring.push_back(Rc::clone(&token)));
    }
    assert_eq!(Rc::strong_count(&token), 1 + 3 * 4);
    let mut turn = 0;
    list.retain(|_| {
        turn += 1;
        turn % 2 == 0
    });
    slab.clear();
    drop(ring.pop_front());
    assert_eq!(Rc::strong_count(&token), 1 + 2 + 3);
    drop((list, slab, ring));
    assert_eq!(Rc::strong_count(&token), 1);
}
