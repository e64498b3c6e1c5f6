//! Streams as replies and as arguments: the same through a local handle and through a remote one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Limits, Restart};

use crate::gate::{Watch, settle};

/// Makes streams, and counts what becomes of them.
#[derive(Clone, Default)]
struct Source {
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

/// Counts a stream that is dropped.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Crosses the wire in one direction only.
#[derive(Debug, Clone, PartialEq)]
struct Odd(u64);

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            7 => Err(serde::ser::Error::custom("seven is not written")),
            8 => panic!("eight is not written"),
            number => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            9 => Err(serde::de::Error::custom("nine is not read")),
            10 => panic!("ten is not read"),
            number => Ok(Self(number)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Pages {
    by_name: BTreeMap<String, Streaming<u64>>,
    rest: Option<Streaming<String>>,
}

#[service]
impl Source {
    pub fn count(&self, to: u64) -> impl Stream<Item = u64> {
        let (made, guard) = (Arc::clone(&self.made), Guard(Arc::clone(&self.dropped)));
        stream::iter(0..to).inspect(move |_| {
            let _keeps = &guard;
            made.fetch_add(1, Ordering::SeqCst);
        })
    }

    /// As many as were asked for, and then it waits.
    pub async fn count_and_wait(&self, to: u64) -> impl Stream<Item = u64> {
        let guard = Guard(Arc::clone(&self.dropped));
        stream::iter(0..to).chain(stream::pending()).inspect(move |_| {
            let _keeps = &guard;
        })
    }

    pub fn perhaps(&self, context: &Context, refuse: bool) -> Result<impl Stream<Item = String>, String> {
        if refuse {
            return Err("refused".to_owned());
        }
        Ok(stream::iter([context.address().to_string()]))
    }

    pub fn panics_after(&mut self, count: u64) -> impl Stream<Item = u64> {
        stream::iter(0..=count).map(move |number| if number < count { number } else { panic!("no more") })
    }

    pub fn odd(&self, numbers: Vec<u64>) -> impl Stream<Item = Odd> {
        stream::iter(numbers.into_iter().map(Odd))
    }

    pub fn long(&self, sizes: Vec<usize>) -> impl Stream<Item = Vec<u8>> {
        stream::iter(sizes.into_iter().map(|size| vec![7; size]))
    }

    pub async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, String> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number.map_err(|error| error.to_string())?;
        }
        Ok(sum)
    }

    /// Takes a number of items and drops the rest.
    pub async fn take(&self, mut numbers: Streaming<u64>, count: usize) -> usize {
        let mut taken = 0;
        while taken < count && numbers.next().await.is_some() {
            taken += 1;
        }
        taken
    }

    pub fn double(&self, numbers: Streaming<u64>) -> impl Stream<Item = u64> {
        numbers.filter_map(async |number| Some(number.ok()? * 2)).boxed()
    }

    pub fn pages(&self) -> Pages {
        let page = |to: u64| Streaming::new(stream::iter(0..to));
        let by_name = (1..4).map(|to| (format!("page {to}"), page(to))).collect();
        Pages { by_name, rest: Some(Streaming::new(stream::iter(["end".to_owned()]))) }
    }

    /// Passes on what another one makes.
    pub async fn relay(&self, from: SourceHandle, to: u64) -> Result<Streaming<u64>, String> {
        from.count(to).await.map_err(|error| error.to_string())
    }

    pub fn stop(&mut self, context: &Context) {
        context.stop();
    }

    pub fn nothing(&self) {}
}

struct Scene {
    cluster: Cluster,
    source: Source,
    /// A handle on the source's own node, and one on another.
    handles: [SourceHandle; 2],
}

const LIMITS: (usize, usize) = (8, 64 * 1024);

impl Scene {
    async fn new() -> Self {
        let limits = Limits::default().stream_credit(LIMITS.0, LIMITS.1).streams(64);
        let cluster = Cluster::start_with(3, move |node| node.limits(limits)).await;
        let source = Source::default();
        let factory = source.clone();
        cluster[1]
            .service("source", move || factory.clone())
            .restart(Restart::always())
            .start()
            .await
            .unwrap();
        let near = SourceHandle::lookup(&cluster[1], "source").await.unwrap();
        let far = SourceHandle::lookup(&cluster[0], "source").await.unwrap();
        Self { cluster, source, handles: [near, far] }
    }

    fn dropped(&self) -> usize {
        self.source.dropped.load(Ordering::SeqCst)
    }

    fn made(&self) -> usize {
        self.source.made.load(Ordering::SeqCst)
    }
}

async fn all<T>(items: Streaming<T>) -> (Vec<T>, Option<CallError>) {
    let (mut given, mut error) = (vec![], None);
    let mut items = items;
    while let Some(item) = items.next().await {
        assert!(error.is_none(), "something came after the error");
        match item {
            Ok(item) => given.push(item),
            Err(failed) => error = Some(failed),
        }
    }
    assert!(items.next().await.is_none(), "the end stays");
    (given, error)
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_every_item_in_order_and_ends() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        for count in [0, 1, 7, 8, 9, 1000] {
            let items = handle.count(count).await.unwrap();
            assert_eq!(all(items).await, ((0..count).collect(), None));
        }
    }
    settle().await;
    assert_eq!(scene.dropped(), 12, "each was dropped at its end");
}

#[tokio::test(start_paused = true)]
async fn who_reads_decides_how_far_ahead_items_are_made() {
    let scene = Scene::new().await;
    for (handle, ahead) in scene.handles.iter().zip([0, LIMITS.0]) {
        let before = scene.made();
        let mut items = handle.count(1_000_000).await.unwrap();
        settle().await;
        assert_eq!(scene.made() - before, ahead);
        for number in 0..100 {
            assert_eq!(items.next().await, Some(Ok(number)));
        }
        settle().await;
        let made = scene.made() - before;
        assert!((100..=100 + ahead).contains(&made), "{made}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_is_dropped_where_it_is_made() {
    let scene = Scene::new().await;
    for (at, handle) in scene.handles.iter().enumerate() {
        let mut waits = handle.count_and_wait(3).await.unwrap();
        let fresh = handle.count(100).await.unwrap();
        assert_eq!(waits.next().await, Some(Ok(0)));
        settle().await;
        assert_eq!(scene.dropped(), 2 * at);
        drop(waits);
        drop(fresh);
        settle().await;
        assert_eq!(scene.dropped(), 2 * at + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_item_may_give_up_and_loses_none() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let mut items = handle.count_and_wait(2).await.unwrap();
        for number in 0..2 {
            assert_eq!(items.next().await, Some(Ok(number)));
        }
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::from_secs(1), items.next()).await.is_err());
        }
        assert!(items.next().now_or_never().is_none());
        // It is a stream like any other.
        let items = handle.count(5).await.unwrap();
        assert_eq!(items.map(Result::unwrap).collect::<Vec<_>>().await, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_may_hold_a_stream() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        assert_eq!(handle.perhaps(true).await.unwrap().unwrap_err(), "refused");
        let items = handle.perhaps(false).await.unwrap().unwrap();
        let (items, end) = all(items).await;
        assert_eq!((items.len(), end), (1, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_says_so_and_ends_the_life_of_its_instance() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let mut ends = handle.watch();
        let (items, error) = all(handle.panics_after(3).await.unwrap()).await;
        assert_eq!(items, [0, 1, 2]);
        assert!(
            matches!(&error, Some(CallError::Panicked(text)) if text.as_str().contains("no more")),
            "{error:?}"
        );
        assert_eq!(ends.next().await.unwrap().reason, StopReason::Panicked("no more".to_owned()));
        assert_eq!(handle.count(1).await.unwrap().next().await, Some(Ok(0)), "the next life");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_life_of_the_instance_that_made_it() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let mut items = handle.count_and_wait(1).await.unwrap();
        assert_eq!(items.next().await, Some(Ok(0)));
        handle.stop().await.unwrap();
        let watch = Watch::start();
        let (rest, error) = all(items).await;
        assert!(rest.is_empty());
        assert!(
            matches!(&error, Some(CallError::NoReply(text)) if text.as_str().contains("ended")),
            "{error:?}"
        );
        watch.assert_at_once();
        let mut waiting = handle.count_and_wait(0).await.unwrap();
        let waits = tokio::spawn(async move { waiting.next().await });
        settle().await;
        handle.stop().await.unwrap();
        assert!(matches!(waits.await.unwrap(), Some(Err(CallError::NoReply(_)))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_carried_is_the_last() {
    let scene = Scene::new().await;
    let [near, far] = &scene.handles;
    for (bad, problem) in
        [(7, "seven is not written"), (8, "panicked"), (9, "nine is not read"), (10, "panicked")]
    {
        let numbers = vec![1, 2, bad, 3];
        let (items, end) = all(near.odd(numbers.clone()).await.unwrap()).await;
        assert_eq!((items.len(), end), (4, None), "in a process nothing is carried");
        let (items, end) = all(far.odd(numbers).await.unwrap()).await;
        assert_eq!(items, [Odd(1), Odd(2)]);
        assert!(
            matches!(&end, Some(CallError::BadReply(text)) if text.as_str().contains(problem)),
            "{end:?}"
        );
    }
    let (items, end) = all(far.long(vec![5, 65 << 20, 5]).await.unwrap()).await;
    assert_eq!(items, [vec![7; 5]]);
    assert!(
        matches!(&end, Some(CallError::BadReply(text)) if text.as_str().contains("it takes more than")),
        "{end:?}"
    );
    assert_eq!(far.nothing().await, Ok(()), "the connection is as it was");
}

#[tokio::test(start_paused = true)]
async fn long_items_go_in_pieces_and_keep_their_place() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let sizes: Vec<usize> = [1, 100_000, 2, 3 << 20, 3, 64 * 1024, 65_500, 0, 70_000].repeat(3);
        let (items, end) = all(handle.long(sizes.clone()).await.unwrap()).await;
        assert_eq!((items.iter().map(Vec::len).collect::<Vec<_>>(), end), (sizes, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_may_take_a_stream() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let numbers = Streaming::new(stream::iter(0..100));
        assert_eq!(handle.sum(numbers).await, Ok(Ok(4950)));
        let guard = Guard(Arc::clone(&scene.source.dropped));
        let numbers = Streaming::new(stream::repeat(1).inspect(move |_| {
            let _keeps = &guard;
        }));
        let before = scene.dropped();
        assert_eq!(handle.take(numbers, 100).await, Ok(100));
        settle().await;
        assert_eq!(scene.dropped(), before + 1);
        // And give one for it.
        let doubled = handle.double(Streaming::new(stream::iter(0..50))).await.unwrap();
        assert_eq!(all(doubled).await, ((0..50).map(|number| number * 2).collect(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_at_its_caller_fails_at_who_takes_it() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let numbers =
            stream::iter(0..3).map(|number| if number < 2 { number } else { panic!("lost the count") });
        let error = handle.sum(Streaming::new(numbers)).await.unwrap().unwrap_err();
        assert!(error.contains("lost the count"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_travel_inside_of_structures() {
    let scene = Scene::new().await;
    for handle in &scene.handles {
        let Pages { by_name, rest } = handle.pages().await.unwrap();
        let pages = join_all(by_name.into_values().map(all)).await;
        assert_eq!(pages, [(vec![0], None), (vec![0, 1], None), (vec![0, 1, 2], None)]);
        assert_eq!(all(rest.unwrap()).await, (vec!["end".to_owned()], None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_passed_on_to_a_third_node() {
    let scene = Scene::new().await;
    let relay = scene.cluster[2].spawn(Source::default());
    scene.cluster[2].service("relay", Source::default).start().await.unwrap();
    let far = SourceHandle::lookup(&scene.cluster[0], "relay").await.unwrap();
    for handle in [&relay, &far] {
        let mut items = handle.relay(scene.handles[1].clone(), 1000).await.unwrap().unwrap();
        for number in 0..50 {
            assert_eq!(items.next().await, Some(Ok(number)));
        }
        let dropped = scene.dropped();
        drop(items);
        settle().await;
        assert_eq!(scene.dropped(), dropped + 1);
    }
    // What goes wrong at one end is told at the other.
    let mut items = far.relay(scene.handles[1].clone(), 1_000_000).await.unwrap().unwrap();
    assert_eq!(items.next().await, Some(Ok(0)));
    scene.handles[0].stop().await.unwrap();
    let (items, error) = all(items).await;
    assert!(items.len() < 100);
    assert!(matches!(&error, Some(CallError::NoReply(_))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_says_so_on_both_sides() {
    let scene = Scene::new().await;
    let handle = &scene.handles[1];
    let mut items = handle.count_and_wait(5).await.unwrap();
    assert_eq!(items.next().await, Some(Ok(0)));
    settle().await;
    scene.cluster.partition(&[0], &[1]).await;
    let (rest, error) = all(items).await;
    assert_eq!(rest, [1, 2, 3, 4], "what had come");
    assert!(matches!(&error, Some(CallError::Disconnected(_))), "{error:?}");
    settle().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_up_is_dropped_after_a_minute() {
    let scene = Scene::new().await;
    scene.cluster.delay(Duration::from_millis(100)).await;
    // The reply is on its way when its caller gives up.
    let call = scene.handles[1].count_and_wait(1).timeout(Duration::from_millis(150));
    assert!(matches!(call.await, Err(CallError::Timeout(_))));
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(scene.dropped(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_may_be_are_refused_by_name() {
    let scene = Scene::new().await;
    let handle = &scene.handles[1];
    let mut streams = vec![];
    for _ in 0..64 {
        streams.push(handle.count(1).await.unwrap());
    }
    let error = handle.count(1).await.unwrap().next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, CallError::Overloaded(text) if text.as_str().contains("limits.streams")),
        "{error:?}"
    );
    streams.clear();
    assert_eq!(handle.count(1).await.unwrap().next().await, Some(Ok(0)));
    settle().await;
    assert_eq!(scene.dropped(), 66);
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_may_be_made_for_a_node_are_refused_by_name() {
    let scene = Scene::new().await;
    let handle = &scene.handles[1];
    let mut streams = vec![];
    for _ in 0..64 {
        streams.push(handle.count(1_000_000).await.unwrap());
    }
    let error = handle.count(1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::BadReply(text) if text.as_str().contains("limits.streams")),
        "{error:?}"
    );
    streams.clear();
    settle().await;
    assert_eq!(handle.count(1).await.unwrap().next().await, Some(Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_nobody_else() {
    let scene = Scene::new().await;
    let handle = &scene.handles[1];
    let mut idle = vec![];
    for _ in 0..32 {
        idle.push(handle.count(1_000_000).await.unwrap());
    }
    settle().await;
    assert_eq!(scene.made(), 32 * LIMITS.0);
    let watch = Watch::start();
    assert_eq!(all(handle.count(5000).await.unwrap()).await.0.len(), 5000);
    for _ in 0..1000 {
        handle.nothing().await.unwrap();
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_written_nowhere_but_into_a_message() {
    let streaming = Streaming::new(stream::iter(0..3_u64));
    let error = serde_json::to_string(&streaming).unwrap_err();
    assert!(error.to_string().contains("nowhere else"), "{error}");
    let error = serde_json::from_str::<Streaming<u64>>("1").unwrap_err();
    assert!(error.to_string().contains("nowhere else"), "{error}");
    assert_eq!(all(streaming).await, (vec![0, 1, 2], None), "it is as it was");
}
