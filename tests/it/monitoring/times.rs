//! What is measured: by the clock, and on processors.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::{Figures, ManagerHandle, Monitoring};

use super::{instance, method};
use crate::gate::local_node;

const MS: Duration = Duration::from_millis(1);

#[derive(Clone)]
struct Timed;

#[service(name = "timed")]
impl Timed {
    pub async fn take(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub async fn share(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Whether a quantile is what it should be, within a bucket and a turn of the timer.
fn is_about(found: Duration, expected: Duration) -> bool {
    (expected..=expected + expected / 32 + 2 * MS).contains(&found)
}

#[tokio::test(start_paused = true)]
async fn quantiles_tell_how_long_handlers_took() {
    let node = local_node().await;
    let timed = node.spawn(Timed);
    for number in 1..=200 {
        let time = if number % 100 == 0 { 500 * MS } else { 10 * MS };
        timed.take(time).await.unwrap();
        timed.share(time * 2).await.unwrap();
    }
    for (name, factor) in [("take", 1), ("share", 2)] {
        let report = method(&node.manager(), "timed", name).await;
        let latency = report.handler.unwrap();
        assert_eq!(latency.count, 200, "what is long is measured each time");
        assert!(is_about(latency.p50, 10 * factor * MS), "{latency:?}");
        assert!(is_about(latency.p99, 10 * factor * MS), "{latency:?}");
        assert!(is_about(latency.p999, 500 * factor * MS), "{latency:?}");
        assert!(is_about(latency.mean, 149 * factor * MS / 10), "{latency:?}");
        assert_eq!(report.sojourn, None, "nobody waited");
    }
}

#[tokio::test(start_paused = true)]
async fn quantiles_tell_how_long_messages_waited() {
    let node = local_node().await;
    let timed = node.spawn(Timed);
    let calls: Vec<_> =
        (0..100).map(|_| tokio::spawn(timed.take(10 * MS).timeout(60_000 * MS).into_future())).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let sojourn = method(&node.manager(), "timed", "take").await.sojourn.unwrap();
    assert_eq!(sojourn.count, 100);
    assert!((600 * MS..=1200 * MS).contains(&sojourn.max), "{sojourn:?}");
    assert!(method(&node.manager(), "timed", "share").await.sojourn.is_none());
}

/// A service that works and waits for real.
struct Real(Arc<Mutex<Receiver<()>>>);

#[service(local, name = "real")]
impl Real {
    /// Runs on the processor until the thread has run so long.
    pub fn work(&mut self, time: Duration) {
        let before = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let before = Duration::try_from(before).unwrap();
        loop {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            if Duration::try_from(now).unwrap() - before >= time {
                break;
            }
        }
    }

    /// Keeps its thread until the other end says something.
    pub fn block(&mut self) {
        self.0.lock().unwrap().recv().unwrap();
    }

    /// As `work`, in a child task.
    pub fn work_beside(&mut self, context: &Context, time: Duration, done: tokio::sync::oneshot::Sender<()>) {
        let mut real = Self(Arc::clone(&self.0));
        context.spawn(async move {
            real.work(time);
            let _ = done.send(());
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_keeps_its_thread_is_seen_while_it_does() {
    let node = local_node().await;
    let (sender, receiver) = sync_channel(1);
    let real = node.spawn(Real(Arc::new(Mutex::new(receiver))));
    real.work(Duration::ZERO).await.unwrap();
    let blocked = tokio::spawn(real.block().into_future());
    let manager = node.manager();
    let handler = loop {
        let report = instance(&manager, "real").await;
        let mut handlers = report.handlers.into_iter();
        if let Some(handler) = handlers.find(|handler| handler.age.is_some_and(|age| age > 20 * MS)) {
            assert_eq!(report.figures.unwrap().in_flight, 1);
            break handler;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(handler.method, "block");
    sender.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    assert!(instance(&manager, "real").await.handlers.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_on_the_processor_is_told_from_time_in_which_a_thread_was_kept_waiting() {
    for monitoring in [Monitoring::Sampled, Monitoring::Precise] {
        let node = Node::builder("a").monitoring(monitoring).start().await.unwrap();
        let (sender, receiver) = sync_channel(1);
        let real = node.spawn(Real(Arc::new(Mutex::new(receiver))));
        let manager = node.manager();
        // Of the first poll only the clock is asked.
        while instance(&manager, "real").await.figures.unwrap().polls == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            real.work(20 * MS).await.unwrap();
        }
        let worked = once(&manager, |figures| figures.cpu.unwrap() >= 199 * MS).await;
        let cpu = worked.cpu.unwrap();
        assert!(cpu <= 230 * MS, "{worked:?} for 200 ms, {monitoring}");
        assert!(worked.busy >= cpu, "{worked:?}");

        let blocked = tokio::spawn(real.block().into_future());
        // It waits while the test's own thread works for as long.
        while instance(&manager, "real").await.running.as_deref() != Some("block") {
            tokio::task::yield_now().await;
        }
        let begun = std::time::Instant::now();
        while begun.elapsed() < 300 * MS {
            tokio::task::yield_now().await;
        }
        sender.send(()).unwrap();
        blocked.await.unwrap().unwrap();
        let waited = once(&manager, |figures| figures.busy >= worked.busy + 290 * MS).await;
        let more = waited.cpu.unwrap() - cpu;
        assert!(more <= 50 * MS, "{more:?} for waiting, {monitoring}");

        let (done, ends) = tokio::sync::oneshot::channel();
        real.work_beside(100 * MS, done).await.unwrap();
        ends.await.unwrap();
        let child = once(&manager, |figures| figures.cpu.unwrap() >= waited.cpu.unwrap() + 99 * MS).await;
        let more = child.cpu.unwrap() - waited.cpu.unwrap();
        assert!((90 * MS..=130 * MS).contains(&more), "{more:?} for 100 ms, {monitoring}");
        assert!(child.longest_poll >= 99 * MS, "{child:?}");
        node.shutdown().await.unwrap();
    }
}

/// What is told of the service once it is this: a poll is counted when it ends, which is after its messages are answered.
async fn once(manager: &ManagerHandle, is_it: impl Fn(&Figures) -> bool) -> Figures {
    let begun = std::time::Instant::now();
    loop {
        let figures = instance(manager, "real").await.figures.unwrap();
        if is_it(&figures) {
            return figures;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{figures:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_process_tells_its_memory_its_threads_and_its_time() {
    let node = local_node().await;
    let process = node.manager().node().await.unwrap().process;
    assert!(process.resident.unwrap() > 1 << 20, "{process:?}");
    assert!(process.threads.unwrap() >= 1, "{process:?}");
    assert!(!process.cpu.unwrap().is_zero(), "{process:?}");
}
