//! The memory that services hold, in a program that has the allocator which counts it.

use skyhold::prelude::*;
use skyhold::{ManagerHandle, Monitoring};
use skyhold_memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

const MEGABYTE: usize = 1 << 20;

#[derive(Default)]
struct Keeper(Vec<Vec<u8>>);

#[service(name = "keeper")]
impl Keeper {
    pub async fn hold(&mut self, bytes: usize) {
        let block = vec![1; bytes];
        tokio::task::yield_now().await;
        self.0.push(block);
    }

    pub fn take(&mut self, block: Vec<u8>) {
        self.0.push(block);
    }

    pub fn give(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0)
    }

    /// Holds it in a child task.
    pub fn hold_beside(&mut self, context: &Context, bytes: usize) {
        context.spawn(async move {
            let block = vec![1_u8; bytes];
            std::future::pending::<()>().await;
            drop(block);
        });
    }

    pub fn explode(&mut self) {
        panic!("told to");
    }
}

#[derive(Default)]
struct Waster;

#[service(name = "waster")]
impl Waster {
    pub fn drop_all(&mut self, blocks: Vec<Vec<u8>>) {
        drop(blocks);
    }
}

async fn memory(manager: &ManagerHandle, service: &str) -> Option<u64> {
    manager.stats(service.to_owned()).await.unwrap().unwrap().memory
}

/// What a service holds in megabytes, without the few bytes of its own beside them.
async fn megabytes(manager: &ManagerHandle, service: &str) -> u64 {
    let bytes = memory(manager, service).await.unwrap();
    assert!(bytes % MEGABYTE as u64 <= 16 * 1024, "{bytes} bytes");
    bytes / MEGABYTE as u64
}

#[tokio::test]
async fn a_service_that_holds_5_mb_says_so_until_another_gives_them_back() {
    let node = Node::builder("a").start().await.unwrap();
    let (keeper, waster) = (node.spawn(Keeper::default()), node.spawn(Waster));
    let manager = node.manager();
    // What it needs to run at all is there after a call of each.
    keeper.hold(0).await.unwrap();
    waster.drop_all(keeper.give().await.unwrap()).await.unwrap();
    assert_eq!(megabytes(&manager, "keeper").await, 0);
    let before = memory(&manager, "keeper").await.unwrap();

    keeper.hold(5 * MEGABYTE).await.unwrap();
    assert_eq!(megabytes(&manager, "keeper").await, 5);
    assert_eq!(megabytes(&manager, "waster").await, 0);
    let blocks = keeper.give().await.unwrap();
    assert_eq!(megabytes(&manager, "keeper").await, 5, "nobody has given them back");
    waster.drop_all(blocks).await.unwrap();
    assert_eq!(memory(&manager, "keeper").await, Some(before));
    assert_eq!(megabytes(&manager, "waster").await, 0, "less than nothing is none");
}

#[tokio::test]
async fn what_is_sent_counts_for_who_made_it_and_child_tasks_for_their_service() {
    let node = Node::builder("a").start().await.unwrap();
    let keeper = node.spawn(Keeper::default());
    let manager = node.manager();
    keeper.take(vec![1; 3 * MEGABYTE]).await.unwrap();
    assert_eq!(megabytes(&manager, "keeper").await, 0, "the test has made it");
    keeper.hold_beside(2 * MEGABYTE).await.unwrap();
    while megabytes(&manager, "keeper").await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(megabytes(&manager, "keeper").await, 2);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_panics_leaves_nobody_entered_and_what_ends_gives_all_back() {
    // The usual hook may keep megabytes of symbols, which it has read for the backtrace: those would count for whoever panics.
    std::panic::set_hook(Box::new(|_| {}));
    let node = Node::builder("a").start().await.unwrap();
    let keeper = node.service("kept", Keeper::default).start().await.unwrap();
    let manager = node.manager();
    keeper.hold(4 * MEGABYTE).await.unwrap();
    assert_eq!(megabytes(&manager, "kept").await, 4);
    assert!(matches!(keeper.explode().await, Err(CallError::Panicked(_))));
    let block = vec![1_u8; 7 * MEGABYTE];
    while keeper.hold(0).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(megabytes(&manager, "kept").await, 0);
    drop(block);
    assert!(node.stop_service("kept").await);
    assert_eq!(megabytes(&manager, "kept").await, 0);
}

#[tokio::test]
async fn where_nothing_is_measured_no_memory_is_told() {
    let node = Node::builder("a").monitoring(Monitoring::Off).start().await.unwrap();
    node.spawn(Keeper::default()).hold(1).await.unwrap();
    assert_eq!(memory(&node.manager(), "keeper").await, None);
}
