//! In a program that has the allocator, what each owner holds is exact.

use std::alloc::{GlobalAlloc, Layout};
use std::panic::{AssertUnwindSafe, catch_unwind};

use skyhold_memory::{Counting, MAX_OWNERS, Owner, is_installed};

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// Blocks come and go in one test at a time that needs all owners.
static ALL_OWNERS: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn owner() -> Owner {
    Owner::new().expect("there are enough")
}

#[test]
fn what_is_allocated_inside_counts_until_it_is_given_back_anywhere() {
    let _others = ALL_OWNERS.lock();
    assert!(is_installed());
    let (one, other) = (owner(), owner());
    let block = {
        let _entered = one.enter();
        vec![1_u8; 5_000_000]
    };
    assert_eq!((one.live(), other.live()), (5_000_000, 0));
    let _entered = other.enter();
    std::thread::spawn(move || drop(block)).join().unwrap();
    assert_eq!(one.live(), 0);
}

#[test]
fn a_block_stays_with_its_owner_when_another_makes_it_longer_or_shorter() {
    let _others = ALL_OWNERS.lock();
    let (one, other) = (owner(), owner());
    let entered = one.enter();
    let mut block = Vec::<u64>::with_capacity(100);
    drop(entered);
    let _entered = other.enter();
    block.extend(0..100);
    block.reserve_exact(10_000);
    assert_eq!((one.live(), other.live()), (8 * 10_100, 0));
    assert!(block.iter().copied().eq(0..100), "it moved whole");
    block.shrink_to(200);
    assert_eq!(one.live(), 8 * 200);
    drop(block);
    assert_eq!((one.live(), other.live()), (0, 0));
}

#[test]
fn blocks_are_as_aligned_and_as_empty_as_was_asked_for() {
    let _others = ALL_OWNERS.lock();
    let owner = owner();
    let _entered = owner.enter();
    for align in (0..14).map(|power| 1_usize << power) {
        for size in [1, 7, 16, 100, 5000] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layout is of more than nothing; the block is written and read within it, and given back by it.
            unsafe {
                let block = ALLOCATOR.alloc_zeroed(layout);
                assert!(!block.is_null() && block.addr().is_multiple_of(align));
                assert!((0..size).all(|at| block.add(at).read() == 0));
                block.write_bytes(7, size);
                assert_eq!(owner.live(), size as u64);
                let block = ALLOCATOR.realloc(block, layout, size * 3);
                assert!(!block.is_null() && block.addr().is_multiple_of(align));
                assert!((0..size).all(|at| block.add(at).read() == 7));
                assert_eq!(owner.live(), 3 * size as u64);
                ALLOCATOR.dealloc(block, Layout::from_size_align(size * 3, align).unwrap());
            }
            assert_eq!(owner.live(), 0);
        }
    }
    let too_large = Layout::from_size_align(isize::MAX as usize - 15, 16).unwrap();
    // SAFETY: the layout is of more than nothing.
    assert!(unsafe { ALLOCATOR.alloc(too_large) }.is_null());
}

#[test]
fn whoever_was_entered_before_is_again_afterwards_also_after_a_panic() {
    let _others = ALL_OWNERS.lock();
    let (one, other) = (owner(), owner());
    let _entered = one.enter();
    let before = one.live();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _entered = other.enter();
        std::panic::resume_unwind(Box::new(()));
    }));
    drop(panicked);
    let block = vec![0_u8; 1000];
    assert_eq!((one.live() - before, other.live()), (1000, 0));
    drop(block);
}

#[test]
fn a_number_is_given_to_another_only_when_nothing_of_its_owner_is_left() {
    let _others = ALL_OWNERS.lock();
    let mut all: Vec<_> = std::iter::from_fn(Owner::new).collect();
    assert_eq!(all.len(), MAX_OWNERS);
    let last = all.pop().unwrap();
    let block = {
        let _entered = last.enter();
        Box::new([0_u8; 100])
    };
    drop(last);
    assert!(Owner::new().is_none(), "100 bytes are left");
    drop(block);
    let again = Owner::new().unwrap();
    assert_eq!(again.live(), 0);
}
