//! A user's own balancer.

use std::future::IntoFuture;

use skyhold::Candidate;

use super::*;
use crate::gate::settle;

/// What a balancer was shown the last time: node, whether it is local, calls under way, latency.
type Seen = Vec<(String, bool, usize, Option<Duration>)>;

/// Always picks one index, and remembers what it has seen.
#[derive(Clone, Default)]
struct Fixed {
    index: usize,
    seen: Arc<Mutex<Seen>>,
    was_asked: Arc<AtomicBool>,
}

impl Balancer for Fixed {
    fn pick(&self, candidates: Candidates<'_>) -> usize {
        self.was_asked.store(true, Ordering::SeqCst);
        let seen = |candidate: &Candidate| {
            assert_eq!(candidate.node(), &candidate.address().node);
            (candidate.node().to_string(), candidate.is_local(), candidate.in_flight(), candidate.latency())
        };
        *self.seen.lock().unwrap() = candidates.iter().map(seen).collect();
        self.index
    }
}

impl Fixed {
    fn at(index: usize) -> Self {
        Self { index, ..Self::default() }
    }

    /// How many calls were under way the last time it was asked.
    fn in_flight(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|seen| seen.2).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_shown_all_instances_and_its_choice_counts() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    let fixed = Fixed::at(1);
    let routed = scene.routed.balance(fixed.clone());
    scene.takes(1, Duration::from_millis(30));
    assert_eq!(spread(&routed, 10).await.into_iter().collect::<Vec<_>>(), [("n1".into(), 10)]);
    let seen = fixed.seen.lock().unwrap().clone();
    let nodes: Vec<_> = seen.iter().map(|(node, is_local, ..)| (node.as_str(), *is_local)).collect();
    assert_eq!(nodes, [("n0", true), ("n1", false), ("n2", false)]);
    let latency = seen[1].3.unwrap();
    assert!((29..33).contains(&latency.as_millis()), "{latency:?}");
    assert_eq!((seen[0].3, seen[2].3), (None, None));
}

#[tokio::test(start_paused = true)]
async fn an_index_where_nobody_is_counts_as_any_other() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    for index in [3, usize::MAX] {
        let spread = spread(&scene.routed.balance(Fixed::at(index)), 60).await;
        assert_eq!(spread.len(), 3, "{spread:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_not_asked_where_there_is_no_choice() {
    let scene = Scene::new(2, &[1]).await;
    let fixed = Fixed::at(7);
    assert_eq!(spread(&scene.routed.balance(fixed.clone()), 10).await.len(), 1);
    assert!(!fixed.was_asked.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn calls_are_under_way_until_they_are_answered_fail_or_are_given_up() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    for index in 0..3 {
        let fixed = Fixed::at(index);
        let routed = scene.routed.balance(fixed.clone());
        let probe = scene.routed.balance(fixed.clone());
        let is_here = |count: usize| {
            let mut expected = vec![0; 3];
            expected[index] = count;
            expected
        };
        scene.fail(index, Fault::NeverAnswers);
        let call = || routed.work().timeout(Duration::from_secs(5)).into_future();
        let (given_up, timed_out) = (tokio::spawn(call()), tokio::spawn(call()));
        let queued: Vec<_> = (0..3).map(|_| tokio::spawn(call())).collect();
        settle().await;
        scene.fail(index, Fault::None);
        probe.work().await.unwrap().unwrap();
        assert_eq!(fixed.in_flight(), is_here(5));
        given_up.abort();
        queued.iter().for_each(tokio::task::JoinHandle::abort);
        settle().await;
        probe.work().await.unwrap().unwrap();
        assert_eq!(fixed.in_flight(), is_here(1));
        assert!(matches!(timed_out.await.unwrap(), Err(CallError::Timeout(_))));
        probe.work().await.unwrap().unwrap();
        assert_eq!(fixed.in_flight(), [0; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_is_under_way_only_until_it_is_handed_over() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    (0..3).for_each(|index| scene.takes(index, Duration::from_secs(1)));
    for index in 0..3 {
        let fixed = Fixed::at(index);
        let routed = scene.routed.balance(fixed.clone());
        let mut sends = vec![];
        for _ in 0..10 {
            let mut send = Box::pin(routed.work().send());
            send.as_mut().await.unwrap();
            sends.push(send); // ended, and kept
            routed.work().try_send().unwrap();
        }
        assert_eq!(fixed.in_flight(), [0; 3]);
    }
}

/// Goes by what nodes say that their instances have to do.
struct Idlest;

impl Balancer for Idlest {
    fn pick(&self, candidates: Candidates<'_>) -> usize {
        let all = candidates.iter().enumerate();
        all.min_by_key(|(_, candidate)| candidate.reported_load()).map_or(0, |(index, _)| index)
    }
}

#[tokio::test(start_paused = true)]
async fn it_may_go_by_what_instances_have_to_do_for_others() {
    let mut scene = Scene::new(3, &[1, 2]).await;
    let idlest = scene.routed.balance(Idlest);
    // Another node keeps the first one busy. What is asked meanwhile it answers at once.
    let busy = WorkerHandle::lookup_on(&scene.cluster[2], "n1", "worker").await.unwrap();
    scene.takes(1, Duration::from_secs(20));
    let mut others: JoinSet<_> = (0..40).map(|_| busy.work().into_future()).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.takes(1, Duration::ZERO);
    assert_eq!(scene.ran()[1], 40, "they run");
    assert_eq!(spread(&idlest, 10).await.into_iter().collect::<Vec<_>>(), [("n2".into(), 10)]);
    // Who comes later is told too.
    scene.cluster.add().await;
    let late = WorkerHandle::lookup(&scene.cluster[3], "worker").await.unwrap().balance(Idlest);
    let mut watch = late.watch_instances().unwrap();
    while watch.next().await.unwrap().instances.len() != 2 {}
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(spread(&late, 10).await.into_iter().collect::<Vec<_>>(), [("n2".into(), 10)]);

    while others.join_next().await.is_some() {}
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        spread(&idlest, 10).await.into_iter().collect::<Vec<_>>(),
        [("n1".into(), 10)],
        "the first of equals"
    );
}
