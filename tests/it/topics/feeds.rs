//! Items that go into a service's mailbox.

use skyhold::Feed;

use super::*;
use crate::gate::{Gate, Log};

/// Notes what it hears, as fast as its gate lets it.
#[derive(Default)]
struct Listener {
    gate: Gate,
    log: Log,
    feed: Option<Feed<u64>>,
}

#[service(mailbox = 4)]
impl Listener {
    #[on_start]
    async fn start(&mut self, context: &Context) -> Result<(), TopicError> {
        let items = chat::<u64>(&context.node()).subscribe().buffer(8).await?;
        let own = context.handle::<ListenerHandle>();
        self.feed = Some(items.into_mailbox(context, move |item| own.hear(item)));
        Ok(())
    }

    pub async fn hear(&mut self, item: u64) {
        self.gate.pass().await;
        self.log.add(item.to_string());
    }

    pub fn missed(&self) -> u64 {
        self.feed.as_ref().map_or(0, Feed::missed)
    }

    pub fn stop_listening(&mut self) {
        self.feed.as_ref().unwrap().stop();
    }

    pub fn has_ended(&self) -> bool {
        self.feed.as_ref().unwrap().has_ended()
    }
}

impl Listener {
    fn new(gate: &Gate, log: &Log) -> Self {
        Self { gate: gate.clone(), log: log.clone(), feed: None }
    }

    async fn starts_on(self, node: &Node) -> ListenerHandle {
        let listener = node.spawn(self);
        assert_eq!(listener.missed().await, Ok(0));
        listener
    }
}

#[tokio::test(start_paused = true)]
async fn every_item_is_an_ordinary_message_in_order() {
    let cluster = Cluster::start(2).await;
    let log = Log::default();
    let _listener = Listener::new(&Gate::opened(), &log).starts_on(&cluster[1]).await;
    settle().await;
    for item in 0..5 {
        chat::<u64>(&cluster[0]).publish(item).unwrap();
    }
    settle().await;
    assert_eq!(log.line(), "0 1 2 3 4");
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_holds_up_its_own_feed_alone() {
    let cluster = Cluster::start(2).await;
    let (gate, log) = (Gate::new(), Log::default());
    let listener = Listener::new(&gate, &log).starts_on(&cluster[1]).await;
    let beside = Log::default();
    let _beside = Listener::new(&Gate::opened(), &beside).starts_on(&cluster[1]).await;
    settle().await;
    for item in 0..100 {
        assert_eq!(reach(chat::<u64>(&cluster[0]).publish(item).unwrap()), (0, 1, 0));
        settle().await;
    }
    let all: Vec<_> = (0..100_u64).map(|item| item.to_string()).collect();
    assert_eq!(beside.entries(), all, "who is quick has everything");
    assert_eq!((gate.arrived(), log.entries().len()), (1, 0), "the first one is held");
    gate.open();
    settle().await;
    let heard: Vec<_> = log.entries();
    let missed = listener.missed().await.unwrap();
    assert_eq!(heard.len() as u64 + missed, 100);
    assert!(missed > 80, "{missed}");
    // What was taken before the standstill, and what the buffer kept: the newest.
    assert_eq!(heard[heard.len() - 8..], all[92..]);
    assert_eq!(heard[..heard.len() - 8], all[..heard.len() - 8]);
}

#[tokio::test(start_paused = true)]
async fn a_feed_ends_with_its_instance() {
    let node = local_node().await;
    let (gate, log) = (Gate::opened(), Log::default());
    let listener = Listener::new(&gate, &log).starts_on(&node).await;
    assert_eq!(reach(chat(&node).publish(1_u64).unwrap()), (1, 0, 0));
    settle().await;
    node.stop(&listener).await.unwrap();
    settle().await;
    assert!(!is_known(&node));
    assert_eq!(reach(chat(&node).publish(2_u64).unwrap()), (0, 0, 0));
    assert_eq!(log.line(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_feed_is_stopped_without_its_instance() {
    let node = local_node().await;
    let (gate, log) = (Gate::opened(), Log::default());
    let listener = Listener::new(&gate, &log).starts_on(&node).await;
    assert_eq!(listener.has_ended().await, Ok(false));
    listener.stop_listening().await.unwrap();
    settle().await;
    assert_eq!(listener.has_ended().await, Ok(true));
    assert_eq!(reach(chat(&node).publish(1_u64).unwrap()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_feed_into_another_service_ends_with_that_one() {
    let node = local_node().await;
    let log = Log::default();
    let other = node.spawn(Sink { log: log.clone() });
    let owner = node.spawn(Owner { to: other.clone() });
    owner.ready().await.unwrap();
    chat(&node).publish(1_u64).unwrap();
    settle().await;
    node.stop(&other).await.unwrap();
    chat(&node).publish(2_u64).unwrap();
    settle().await;
    assert_eq!(reach(chat(&node).publish(3_u64).unwrap()), (0, 0, 0));
    assert_eq!(log.line(), "1");
    owner.ready().await.unwrap();
}

struct Sink {
    log: Log,
}

#[service]
impl Sink {
    pub fn put(&mut self, item: u64) {
        self.log.add(item.to_string());
    }
}

struct Owner {
    to: SinkHandle,
}

#[service]
impl Owner {
    #[on_start]
    async fn start(&mut self, context: &Context) -> Result<(), TopicError> {
        let to = self.to.clone();
        let items = chat::<u64>(&context.node()).subscribe().await?;
        items.into_mailbox(context, move |item| to.put(item));
        Ok(())
    }

    pub fn ready(&self) {}
}
