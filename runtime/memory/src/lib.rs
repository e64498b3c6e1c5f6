//! A global allocator that knows for whom each block was allocated: how many bytes each service of [Skyhold](https://docs.rs/skyhold) holds,
//! exactly, also when another service gives them back.
//!
//! A library may not choose a program's allocator, so the program does:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: skyhold_memory::Counting = skyhold_memory::Counting::new();
//! # fn main() {}
//! ```
//!
//! With skyhold's feature `memory`, `ManagerHandle::stats` then tells the memory of each service. In front of each block stand 16 bytes that say
//! whose it is; a block that is aligned to more has as many. The blocks themselves come from the system's allocator. What is allocated while
//! nobody is [entered](Owner::enter) is not counted. What the standard library keeps of the symbols that it has read for a backtrace counts for whoever panicked first.
//!
//! Invariant: what an owner holds is the sum of the sizes that were asked for while it was entered and that were not given back. An owner's number is
//! given to another only when that is nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The most owners that there are at a time in a process.
pub const MAX_OWNERS: usize = 1024;

/// What stands in front of a block at least; it is aligned to as much.
const HEADER: usize = 16;

/// The number that stands for nobody.
const NOBODY: u32 = 0;

/// What each owner has. The first place is nobody's, and is never written.
static OWNERS: [Account; MAX_OWNERS + 1] = [const { Account::new() }; MAX_OWNERS + 1];

thread_local! {
    /// For whom this thread allocates. Made without an allocation, and never dropped, so that the allocator may use it at any time.
    static CURRENT: Cell<u32> = const { Cell::new(NOBODY) };
}

/// The allocator.
#[derive(Debug, Default)]
pub struct Counting(());

/// Somebody for whom memory is counted. Dropped, its number is free for another once all of its memory was given back.
#[derive(Debug)]
pub struct Owner {
    number: u32,
}

/// As long as this is there, what the thread allocates is counted for an [`Owner`]. Whoever was entered before is again afterwards, also
/// when this is dropped by a panic.
#[derive(Debug)]
pub struct Entered<'o> {
    before: u32,
    /// It belongs to its thread.
    _owner: PhantomData<(&'o Owner, *const ())>,
}

/// A line of the cache for each, as different threads write to different ones.
#[derive(Debug)]
#[repr(align(64))]
struct Account {
    live: AtomicI64,
    is_taken: AtomicBool,
}

impl Account {
    const fn new() -> Self {
        Self { live: AtomicI64::new(0), is_taken: AtomicBool::new(false) }
    }

    /// Takes it, if nobody has it and no block is left of whoever had it.
    fn take(&self) -> bool {
        // Without an owner nobody can be entered, so from nothing it does not become more.
        !self.is_taken.load(Ordering::Acquire)
            && self.live.load(Ordering::Acquire) == 0
            && !self.is_taken.swap(true, Ordering::AcqRel)
    }
}

impl Counting {
    /// The allocator, for a `#[global_allocator]`.
    pub const fn new() -> Self {
        Self(())
    }
}

impl Owner {
    /// A new owner; `None` if the program's allocator is another one, or there are [`MAX_OWNERS`] that hold something.
    pub fn new() -> Option<Self> {
        if is_installed() { Self::take() } else { None }
    }

    fn take() -> Option<Self> {
        let place = OWNERS.iter().skip(1).position(Account::take)?;
        Some(Self { number: u32::try_from(place + 1).ok()? })
    }

    /// Counts what this thread allocates from now on for this owner, until what this gives is dropped.
    #[inline]
    pub fn enter(&self) -> Entered<'_> {
        Entered { before: CURRENT.replace(self.number), _owner: PhantomData }
    }

    /// How many bytes it holds, without what stands in front of the blocks.
    pub fn live(&self) -> u64 {
        let live = account(self.number).map_or(0, |account| account.live.load(Ordering::Relaxed));
        u64::try_from(live).unwrap_or(0)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(account) = account(self.number) {
            account.is_taken.store(false, Ordering::Release);
        }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Counts for nobody what this thread allocates from now on, until what this gives is dropped.
#[inline]
pub fn leave() -> Entered<'static> {
    Entered { before: CURRENT.replace(NOBODY), _owner: PhantomData }
}

/// Whether the program's allocator is [`Counting`]. It is tried out once.
pub fn is_installed() -> bool {
    static IS_INSTALLED: OnceLock<bool> = OnceLock::new();
    *IS_INSTALLED.get_or_init(|| {
        let Some(owner) = Owner::take() else { return false };
        let entered = owner.enter();
        let block = black_box(Box::new([0_u8; 64]));
        let is_counted = owner.live() > 0;
        drop(block);
        drop(entered);
        is_counted
    })
}

#[inline]
fn account(number: u32) -> Option<&'static Account> {
    OWNERS.get(number as usize).filter(|_| number != NOBODY)
}

/// Counts bytes for an owner, or takes them from it.
#[inline]
fn count(owner: u32, bytes: usize, sign: i64) {
    if let Some(account) = account(owner) {
        // A block is at most `isize::MAX` bytes long.
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        account.live.fetch_add(sign * bytes, Ordering::Relaxed);
    }
}

/// A block with what stands in front of it, and how much that is.
#[inline]
fn whole(layout: Layout) -> Option<(Layout, usize)> {
    let front = layout.align().max(HEADER);
    let size = layout.size().checked_add(front)?;
    Some((Layout::from_size_align(size, front).ok()?, front))
}

/// Notes whose a new block is, and gives it without its front.
///
/// # Safety
/// `start` is null, or the start of a block of the layout that [`whole`] gave together with `front`.
#[expect(clippy::cast_ptr_alignment, reason = "it is aligned to 16")]
#[inline]
unsafe fn hand_out(start: *mut u8, front: usize, size: usize) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    let owner = CURRENT.get();
    // SAFETY: `front` bytes of the block are in front of what is handed out, and these are 16 at least; so the block goes on at `start + front`, and the
    // 4 bytes that begin 16 before that are in it. It is aligned to 16, and so are they.
    let block = unsafe {
        let block = start.add(front);
        block.sub(HEADER).cast::<u32>().write(owner);
        block
    };
    count(owner, size, 1);
    block
}

/// Whose a block is.
///
/// # Safety
/// `block` was handed out, and was not given back.
#[expect(clippy::cast_ptr_alignment, reason = "it is aligned to 16")]
#[inline]
unsafe fn owner_of(block: *mut u8) -> u32 {
    // SAFETY: `hand_out` has written it there, and nobody but this crate knows of the place.
    unsafe { block.sub(HEADER).cast::<u32>().read() }
}

// SAFETY: all blocks are the system's, longer by a front that is as long as their alignment, or 16; so what follows it is as long and as aligned as was asked
// for. A block is given back, or made longer, by the layout with which it was taken, since `whole` gives the same for the same. Nothing in here unwinds or allocates:
// `CURRENT` needs neither making nor dropping, and an account is found by a checked index.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, front)) = whole(layout) else { return ptr::null_mut() };
        // SAFETY: `whole` is longer than nothing, and `hand_out` gets what belongs together.
        unsafe { hand_out(System.alloc(whole), front, layout.size()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((whole, front)) = whole(layout) else { return ptr::null_mut() };
        // SAFETY: as in `alloc`. Only the front is written to.
        unsafe { hand_out(System.alloc_zeroed(whole), front, layout.size()) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((whole, front)) = whole(layout) else { return }; // there is no such block
        // SAFETY: the caller promises that the block was handed out with this layout, so it begins `front` before.
        unsafe {
            count(owner_of(block), layout.size(), -1);
            System.dealloc(block.sub(front), whole);
        }
    }

    /// The block stays with its owner, whoever makes it longer.
    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some((old, front)) = whole(layout) else { return ptr::null_mut() };
        let new = Layout::from_size_align(new_size, layout.align()).ok().and_then(whole);
        let Some((new, _)) = new else { return ptr::null_mut() };
        // SAFETY: the block was handed out with this layout, so it begins `front` before; the front is the same for the new size, as the
        // alignment is, and moves along with what is in it.
        unsafe {
            let start = System.realloc(block.sub(front), old, new.size());
            if start.is_null() {
                return start; // the old block is as it was
            }
            let block = start.add(front);
            let owner = owner_of(block);
            count(owner, new_size, 1);
            count(owner, layout.size(), -1);
            block
        }
    }
}
