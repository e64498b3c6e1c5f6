//! The ring: pushes against the close and against one another.

use std::future::poll_fn;
use std::sync::Arc;

use loom::future::block_on;

use crate::service::models::{aside, in_every_order, in_orders_with_three_interruptions};
use crate::service::ring::{NotTaken, Ring};

/// A ring with room for one. Odd numbers may go.
fn ring() -> Arc<Ring<u32>> {
    Arc::new(Ring::new(1, |number| number % 2 == 1))
}

/// What came of a push: the numbers that came back or were displaced.
fn push(ring: &Ring<u32>, number: u32) -> Option<u32> {
    match ring.push(number) {
        Ok(displaced) => displaced,
        Err(NotTaken::Full(number) | NotTaken::Closed(number)) => Some(number),
    }
}

#[test]
fn what_is_pushed_comes_out_or_back_or_is_displaced_and_each_once() {
    in_every_order(|| {
        let ring = ring();
        let one = aside(&ring, |ring| push(ring, 1));
        let two = aside(&ring, |ring| push(ring, 2));
        let early = ring.pop();
        ring.close();
        let mut seen: Vec<_> = early.into_iter().chain(std::iter::from_fn(|| ring.pop())).collect();
        seen.extend([one, two].into_iter().filter_map(|thread| thread.join().unwrap()));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        assert_eq!(ring.len(), 0, "nothing got in after the close");
    });
}

#[test]
fn a_push_wakes_who_waits_and_nothing_is_left_behind() {
    in_orders_with_three_interruptions(|| {
        let ring = ring();
        let one = aside(&ring, |ring| push(ring, 1));
        let other = aside(&ring, |ring| push(ring, 3));
        let mut seen = Vec::new();
        block_on(poll_fn(|cx| ring.poll_take(cx, &mut seen, 1)));
        assert_eq!(seen.len(), 1);
        seen.extend([one, other].into_iter().filter_map(|thread| thread.join().unwrap()));
        seen.extend(ring.pop());
        seen.sort_unstable();
        assert_eq!(seen, [1, 3]);
    });
}
