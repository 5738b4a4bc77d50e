//! One sort for everything that is sorted here, small where core's is fast.

use core::cmp::Ordering;

/// Sorts in place; elements that compare as equal end up in any order, the same everywhere.
///
/// Shell's method: an insertion sort for the few elements of a bucket, and about n^1.3 steps for the
/// thousands that a server may have. `sort_unstable_by` takes 2 KB of a board's flash for each type.
pub fn sort_by<T>(items: &mut [T], mut order: impl FnMut(&T, &T) -> Ordering) {
    let mut gap = items.len();
    while gap > 1 {
        gap = (gap * 5 / 11).max(1);
        for end in gap..items.len() {
            let mut at = end;
            while let Some(lower) = at.checked_sub(gap)
                && let (Some(a), Some(b)) = (items.get(lower), items.get(at))
                && order(a, b) == Ordering::Greater
            {
                items.swap(lower, at);
                at = lower;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full cycle of all numbers below a power of two, in no apparent order.
    fn shuffled(len: u32) -> impl Iterator<Item = u32> {
        (0..len).scan(7, move |x: &mut u32, _| {
            *x = x.wrapping_mul(2_891_336_453).wrapping_add(12_345) % len;
            Some(*x)
        })
    }

    #[test]
    fn every_order_of_a_few_is_sorted() {
        for code in 0..5_u32.pow(5) {
            let mut items = [1, 5, 25, 125, 625].map(|digit| code / digit % 5);
            let mut expected = items;
            expected.sort_unstable();
            sort_by(&mut items, u32::cmp);
            assert_eq!(items, expected);
        }
        sort_by(&mut [] as &mut [u32], u32::cmp);
    }

    #[test]
    fn the_steps_for_a_servers_largest_table_are_few() {
        const LEN: u32 = 1 << 14;
        let mut items = [0; LEN as usize];
        items
            .iter_mut()
            .zip(shuffled(LEN))
            .for_each(|(item, x)| *item = x);
        let mut steps = 0;
        sort_by(&mut items, |a, b| {
            steps += 1;
            a.cmp(b)
        });
        assert!(items.iter().copied().eq(0..LEN));
        assert!(steps < 32 * LEN, "{steps} steps for {LEN} elements");
    }
}
