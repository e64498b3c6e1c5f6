//! What is scoped to a life ends with it: nothing is left after ten thousand of them.

use super::*;

use skyhold::Intensity;

const LIVES: usize = 10_000;

/// Has child tasks and timers, which never end by themselves.
struct Parent;

#[service]
impl Parent {
    #[on_start]
    fn begin(&mut self, context: &Context) {
        context.spawn(std::future::pending());
        let handle = context.handle::<ParentHandle>();
        context.every(Duration::from_secs(3600), move || handle.answer());
    }

    pub fn answer(&mut self, context: &Context) -> u32 {
        context.spawn(std::future::pending());
        42
    }

    pub fn fail(&mut self) {
        std::panic::resume_unwind(Box::new("boom")); // without a word on the terminal
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_anonymous_instances_leave_nothing() {
    let node = Node::builder("a").start().await.unwrap();
    let before = usage(&node);
    for _ in 0..LIVES {
        let parent = node.spawn(Parent);
        assert_eq!(parent.answer().await.unwrap(), 42);
        node.stop(&parent).await.unwrap();
    }
    assert_nothing_left(&node, before, &[]).await;
    let counters = node.counters();
    assert_eq!((counters.instances_started, counters.instances_ended), (LIVES as u64, LIVES as u64));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_services_leave_nothing() {
    let node = Node::builder("a").start().await.unwrap();
    let before = usage(&node);
    for life in 0..LIVES {
        let parent = node.service("parent", || Parent).start().await.unwrap();
        assert_eq!(parent.answer().await.unwrap(), 42);
        if life % 2 == 0 {
            assert!(node.stop_service("parent").await);
        } else {
            node.drain(&parent).await.unwrap();
        }
    }
    assert_nothing_left(&node, before, &["parent"]).await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_dynamic_children_in_a_row_leave_nothing() {
    let node = Node::builder("a").start().await.unwrap();
    let tree = supervise(&node, Strategy::Dynamic, Vec::new()).await;
    let before = usage(&node);
    for life in 0..LIVES {
        let parent = tree.spawn(Restart::never(), || Parent).await.unwrap();
        assert_eq!(parent.answer().await.unwrap(), 42);
        match life % 3 {
            0 => node.stop(&parent).await.unwrap(),
            1 => drop(parent.fail().await.unwrap_err()),
            _ => node.abort(&parent).unwrap(),
        }
    }
    assert_nothing_left(&node, before, &[]).await;
    assert!(tree.children().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_restarts_leave_nothing_and_each_life_is_told_once() {
    let node = Node::builder("a").start().await.unwrap();
    let mut events = node.events();
    let service = node.service("parent", || Parent).restart(eager(Restart::on_failure()));
    let parent = service.intensity(Intensity::unlimited()).start().await.unwrap();
    assert_eq!(parent.answer().await.unwrap(), 42);
    settle().await;
    let before = usage(&node);
    let (mut ended, mut restarted) = (0, 0);
    for life in 0..LIVES {
        if life % 2 == 0 {
            parent.fail().await.unwrap_err();
        } else {
            node.abort(&parent).unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(parent.answer().await.unwrap(), 42);
        for event in published(&mut events) {
            match event {
                Event::InstanceEnded { .. } => ended += 1,
                Event::Restarted { .. } => restarted += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    settle().await;
    assert_eq!(usage(&node), before);
    assert_eq!(published(&mut events), []);
    assert_eq!((ended, restarted), (LIVES, LIVES));
    assert_eq!(node.counters().restarts, LIVES as u64);
}

#[tokio::test(start_paused = true)]
async fn what_a_life_spawned_is_dropped_when_it_ends() {
    /// Tells of its end.
    struct Tells(Log);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }

    struct Holder(Log);

    #[service(local)]
    impl Holder {
        pub fn hold(&mut self, context: &Context) {
            let tells = Tells(self.0.clone());
            context.spawn(async move {
                std::future::pending::<()>().await;
                drop(tells);
            });
        }

        pub fn finish(&mut self, context: &Context) {
            context.stop();
        }

        pub fn fail(&mut self) {
            panic!("boom");
        }

        pub fn answer(&self) {}
    }

    let node = Node::builder("a").start().await.unwrap();
    let tree = supervise(&node, Strategy::Dynamic, Vec::new()).await;
    for end in ["finish", "fail", "abort"] {
        let log = Log::default();
        let log_here = log.clone();
        let factory = move || Holder(log_here.clone());
        let holder = tree.spawn(eager(Restart::always()), factory).await.unwrap();
        holder.hold().await.unwrap();
        settle().await;
        assert_eq!(log.line(), "", "it lives");
        match end {
            "finish" => holder.finish().await.unwrap(),
            "fail" => drop(holder.fail().await.unwrap_err()),
            _ => node.abort(&holder).unwrap(),
        }
        settle().await;
        assert_eq!(log.line(), "dropped", "{end}");
        holder.answer().await.unwrap();
    }
}
