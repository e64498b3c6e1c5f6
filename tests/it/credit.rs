//! Credit: what a full mailbox on another node does to its own callers, and to nobody else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use skyhold::Limits;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use tokio::task::JoinHandle;

use crate::gate::{Gate, Watch, settle};

/// Takes numbers behind a gate, and notes them.
#[derive(Clone, Default)]
struct Slow {
    gate: Gate,
    notes: Arc<Mutex<Vec<u64>>>,
    friend: Option<FriendHandle>,
}

/// How many messages wait in the mailbox; one more is taken out to run next.
const MAILBOX: usize = 4;

#[service(mailbox = 4)]
impl Slow {
    pub async fn note(&mut self, number: u64) -> u64 {
        self.gate.pass().await;
        self.notes.lock().unwrap().push(number);
        number
    }

    pub fn long(&mut self, bytes: Vec<u8>) -> usize {
        bytes.len()
    }

    pub fn panic(&mut self) {
        panic!("asked to");
    }

    /// Calls somebody who calls back, and waits for that.
    pub async fn ask_friend(&self) -> u64 {
        self.gate.pass().await;
        self.friend.as_ref().unwrap().call_back().await.unwrap()
    }

    pub fn seven(&self) -> u64 {
        7
    }
}

impl Slow {
    fn notes(&self) -> Vec<u64> {
        self.notes.lock().unwrap().clone()
    }
}

/// Calls the one back that calls it.
struct Friend {
    slow: SlowHandle,
}

#[service(local)]
impl Friend {
    pub async fn call_back(&self) -> u64 {
        self.slow.seven().await.unwrap()
    }
}

struct Echo;

#[service]
impl Echo {
    pub fn echo(&self, number: u64) -> u64 {
        number
    }
}

/// The smallest credit.
const CREDIT: usize = 16;

/// What the node with the service has taken when one message runs and does not end: no more than the credit, as new credit
/// comes when half of it was taken into the mailbox, which has no room for so many.
const HELD: usize = CREDIT;

/// Two nodes; the second runs a slow service and a quick one, the first has handles to both.
struct Scene {
    cluster: Cluster,
    slow: Slow,
    remote: SlowHandle,
    echo: EchoHandle,
}

impl Scene {
    async fn new() -> Self {
        let limits = Limits::default().credit(CREDIT, 64 * 1024);
        let cluster = Cluster::start_with(2, move |node| node.limits(limits)).await;
        let slow = Slow::default();
        let factory = slow.clone();
        cluster[1].service("slow", move || factory.clone()).start().await.unwrap();
        cluster[1].service("echo", || Echo).start().await.unwrap();
        let remote = SlowHandle::lookup(&cluster[0], "slow").await.unwrap();
        let echo = EchoHandle::lookup(&cluster[0], "echo").await.unwrap();
        Self { cluster, slow, remote, echo }
    }

    /// Begins sends of the numbers, each in a task of its own, in their order.
    async fn send(&self, numbers: std::ops::Range<u64>) -> Vec<JoinHandle<Result<(), CallError>>> {
        let mut tasks = Vec::new();
        for number in numbers {
            let send = self.remote.note(number).timeout(Duration::from_secs(60)).send();
            tasks.push(tokio::spawn(send));
            settle().await;
        }
        tasks
    }
}

fn finished<T>(tasks: &[JoinHandle<T>]) -> usize {
    tasks.iter().filter(|task| task.is_finished()).count()
}

#[tokio::test(start_paused = true)]
async fn who_sends_to_a_full_mailbox_waits_and_its_node_keeps_no_more_than_the_credit() {
    let scene = Scene::new().await;
    let tasks = scene.send(0..100).await;
    assert_eq!(finished(&tasks), HELD, "the others wait at their own node");
    let refused = scene.remote.note(100).try_send().unwrap_err();
    assert!(matches!(refused, CallError::Overloaded(_)), "{refused:?}");
    assert!(!refused.may_have_run());
    let watch = Watch::start();
    for number in 0..1000 {
        assert_eq!(scene.echo.echo(number).await, Ok(number), "another service on the same connection");
    }
    watch.assert_at_once();
    assert_eq!(scene.slow.notes(), [0; 0]);

    scene.slow.gate.open();
    join_all(tasks).await.into_iter().for_each(|sent| sent.unwrap().unwrap());
    assert_eq!(scene.remote.note(100).await, Ok(100));
    assert_eq!(scene.slow.notes(), (0..=100).collect::<Vec<_>>(), "nothing is lost, and in order");
    assert_eq!(scene.cluster[1].counters().dead_letters, 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_credit_does_so_until_its_deadline_and_did_not_run() {
    let scene = Scene::new().await;
    let tasks = scene.send(0..HELD as u64).await;
    assert_eq!(finished(&tasks), HELD);
    for is_call in [true, false] {
        let watch = Watch::start();
        let message = scene.remote.note(1000).timeout(Duration::from_secs(2));
        let error = if is_call { message.await.unwrap_err() } else { message.send().await.unwrap_err() };
        watch.assert_ended_at(Duration::from_secs(2));
        assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
        assert!(!error.may_have_run());
    }
    scene.slow.gate.open();
    assert_eq!(scene.remote.note(1).await, Ok(1));
    assert!(!scene.slow.notes().contains(&1000));
    assert_eq!(scene.cluster[0].counters().expired.send, 2);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_taken_back_give_their_credit_back() {
    let scene = Scene::new().await;
    for _ in 0..10 {
        // Both those that were handed over and those that wait are dropped.
        let mut calls: Vec<_> = (0..100).map(|number| scene.remote.note(number).into_future()).collect();
        for call in &mut calls {
            assert!(call.now_or_never().is_none());
        }
        settle().await;
        drop(calls);
        settle().await;
    }
    scene.slow.gate.open();
    settle().await;
    let ran = scene.slow.notes();
    assert_eq!(ran.len(), 1, "but for the one that had begun nothing ran: {ran:?}");
    // All of the credit is there again.
    let tasks = scene.send(0..100).await;
    join_all(tasks).await.into_iter().for_each(|sent| sent.unwrap().unwrap());
    assert_eq!(scene.remote.note(100).await, Ok(100));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_stops_answers_all_who_wait_for_it_at_once() {
    let scene = Scene::new().await;
    let calls: Vec<_> = (0..100)
        .map(|number| tokio::spawn(scene.remote.note(number).timeout(Duration::from_secs(60)).into_future()))
        .collect();
    settle().await;
    let watch = Watch::start();
    let stop = async {
        let node = scene.cluster[1].clone();
        let stopped = tokio::spawn(async move { node.stop_service("slow").await });
        settle().await;
        scene.slow.gate.open();
        stopped.await.unwrap()
    };
    assert!(stop.await);
    let (mut ran, mut stopped) = (0, 0);
    for call in join_all(calls).await {
        match call.unwrap() {
            Ok(_) => ran += 1,
            Err(CallError::Stopped(_) | CallError::NoRoute(_)) => stopped += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    watch.assert_at_once();
    assert_eq!((ran, stopped), (1, 99));
    assert_eq!(scene.slow.notes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_served_by_the_next_life() {
    let scene = Scene::new().await;
    let fails = tokio::spawn(scene.remote.panic().into_future());
    let tasks = scene.send(0..100).await;
    assert!(matches!(fails.await.unwrap(), Err(CallError::Panicked(_))));
    scene.slow.gate.open();
    join_all(tasks).await.into_iter().for_each(|sent| sent.unwrap().unwrap());
    assert_eq!(scene.remote.note(100).await, Ok(100));
    assert_eq!(scene.slow.notes(), (0..=100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_drain_runs_what_waits_in_front_of_the_mailbox() {
    let scene = Scene::new().await;
    let tasks = scene.send(0..100).await;
    let node = scene.cluster[1].clone();
    let drained = tokio::spawn(async move { node.drain_service("slow").await });
    settle().await;
    scene.slow.gate.open();
    assert!(drained.await.unwrap());
    let (sent, refused): (Vec<_>, Vec<_>) =
        join_all(tasks).await.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!(sent.len(), HELD);
    assert_eq!(scene.slow.notes(), (0..HELD as u64).collect::<Vec<_>>(), "who was told `Ok` is run");
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(error, CallError::Stopped(_) | CallError::NoRoute(_)), "{error:?}");
    }
    assert_eq!(scene.cluster[1].counters().dead_letters, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_its_receiver_waits_needs_no_credit() {
    let scene = Scene::new().await;
    // The friend runs on the first node and calls back over the network.
    let friend = scene.cluster[0].spawn(Friend { slow: scene.remote.clone() });
    let slow = Slow { friend: Some(friend), ..Slow::default() };
    let factory = slow.clone();
    // Its handle does not leave its process; the slow one is in the same.
    scene.cluster[1].service("asker", move || factory.clone()).start().await.unwrap();
    let asker = SlowHandle::lookup(&scene.cluster[0], "asker").await.unwrap();
    let asks = tokio::spawn(asker.ask_friend().into_future());
    slow.gate.reached(1).await;
    let others: Vec<_> = (0..100).map(|number| tokio::spawn(asker.note(number).into_future())).collect();
    settle().await;
    slow.gate.open();
    assert_eq!(asks.await.unwrap(), Ok(7));
    for call in join_all(others).await {
        call.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_comes_back_begins_with_all_of_the_credit() {
    let scene = Scene::new().await;
    let tasks = scene.send(0..100).await;
    assert_eq!(finished(&tasks), HELD);
    scene.cluster.partition(&[0], &[1]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(scene.cluster[0].peers().is_empty(), "it is given up");
    scene.cluster.heal().await;
    scene.cluster.connected().await;
    scene.slow.gate.open();
    settle().await;
    let held = scene.slow.notes();
    assert_eq!(held, (0..100).collect::<Vec<_>>(), "what had come over, and then what had not left");
    for number in 200..300 {
        scene.remote.note(number).send().await.unwrap();
    }
    assert_eq!(scene.remote.note(300).await, Ok(300));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_connection_left_is_run_before_what_comes_over_the_next_one() {
    let scene = Scene::new().await;
    let tasks = scene.send(0..HELD as u64).await;
    assert_eq!(finished(&tasks), HELD);
    scene.cluster.partition(&[0], &[1]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.cluster.heal().await;
    scene.cluster.connected().await;
    let later = scene.send(100..110).await;
    assert_eq!(finished(&later), 10);
    scene.slow.gate.open();
    assert_eq!(scene.remote.note(110).await, Ok(110));
    assert_eq!(scene.slow.notes(), (0..HELD as u64).chain(100..=110).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_too_and_the_last_message_may_overdraw() {
    let scene = Scene::new().await;
    let holds = tokio::spawn(scene.remote.note(0).into_future());
    settle().await;
    let mut handed_over = 0;
    // Of 64 KiB the third of 30 KiB overdraws. New credit came when half of that was in the mailbox.
    while scene.remote.long(vec![0; 30 * 1024]).try_send().is_ok() {
        handed_over += 1;
        settle().await;
    }
    assert_eq!(handed_over, MAILBOX + 3);
    let huge = scene.remote.long(vec![0; 30 << 20]);
    let huge = tokio::spawn(huge.into_future());
    settle().await;
    scene.slow.gate.open();
    assert_eq!(holds.await.unwrap(), Ok(0));
    assert_eq!(huge.await.unwrap(), Ok(30 << 20), "one message may always go, however long");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_services_are_credited_each_by_itself() {
    let limits = Limits::default().credit(CREDIT, 64 * 1024);
    let cluster = Cluster::start_with(2, move |node| node.limits(limits)).await;
    let slow = Slow::default();
    let mut handles = Vec::new();
    for index in 0..100 {
        let (name, factory) = (format!("slow{index}"), slow.clone());
        cluster[1].service(name.as_str(), move || factory.clone()).start().await.unwrap();
        handles.push(SlowHandle::lookup(&cluster[0], &name).await.unwrap());
    }
    let mut taken = 0;
    for handle in &handles {
        while handle.note(1).try_send().is_ok() {
            taken += 1;
            settle().await;
        }
    }
    assert_eq!(taken, 100 * HELD);
    slow.gate.open();
    for handle in handles {
        assert_eq!(handle.note(2).await, Ok(2));
    }
    assert_eq!(slow.notes().len(), 100 * (HELD + 1));
}
