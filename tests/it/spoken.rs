//! Services that describe themselves, and are called by the names of their methods with JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt, Stream, stream};
use serde::{Deserialize, Serialize};
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Access, HandlerEnd, ManagerHandle, TraceEvent, TraceItem};

use crate::gate::{Gate, Watch, settle};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub(crate) struct Order {
    item: String,
    count: u32,
    notes: Option<Vec<String>>,
}

#[derive(Default)]
struct Shop {
    orders: Vec<Order>,
    gate: Gate,
}

#[service(mailbox = 1)]
impl Shop {
    /// Takes an order, and gives its number.
    ///
    /// The first one has number 0.
    pub fn order(&mut self, order: Order, is_urgent: Option<bool>) -> Result<usize, String> {
        if order.count == 0 {
            return Err("nothing is ordered".into());
        }
        self.orders.push(order);
        Ok(self.orders.len() - usize::from(is_urgent != Some(true)))
    }

    pub async fn total(&self, by: u64) -> BTreeMap<String, u64> {
        self.orders.iter().map(|order| (order.item.clone(), u64::from(order.count) * by)).collect()
    }

    pub fn caller(&self, context: &Context) -> NodeId {
        context.caller().clone()
    }

    pub async fn hold(&mut self) {
        self.gate.pass().await;
    }

    pub fn fail(&mut self) {
        panic!("out of stock");
    }

    pub fn all(&self) -> impl Stream<Item = String> + Send + use<> {
        stream::iter(Vec::new())
    }
}

/// Calls the shop by the manager of a node.
async fn call(manager: &ManagerHandle, method: &str, arguments: &str) -> Result<String, CallError> {
    manager.call_json("shop".into(), method.into(), arguments.into(), None).await.unwrap()
}

/// A cluster whose last node has a shop.
async fn with_shop(nodes: usize) -> (Cluster, Gate) {
    let cluster = Cluster::start(nodes).await;
    let gate = Gate::new();
    let held = gate.clone();
    let shop = move || Shop { gate: held.clone(), ..Shop::default() };
    cluster[nodes - 1].service("shop", shop).start().await.unwrap();
    ShopHandle::lookup(&cluster[0], "shop").await.unwrap();
    (cluster, gate)
}

#[tokio::test(start_paused = true)]
async fn a_service_describes_its_methods_wherever_it_is() {
    let (cluster, _) = with_shop(2).await;
    for node in 0..2 {
        let report = cluster[node].manager().describe("shop".into()).await.unwrap().unwrap();
        assert_eq!((report.service.as_str(), report.node.as_str()), ("shop", "n1"));
        assert_eq!(report.interface, "shop");
        let names: Vec<_> = report.methods.iter().map(|method| method.name.as_str()).collect();
        assert_eq!(names, ["order", "total", "caller", "hold", "fail", "all"]);
        let order = &report.methods[0];
        assert_eq!(order.docs, "Takes an order, and gives its number.\n\nThe first one has number 0.");
        let arguments: Vec<_> =
            order.arguments.iter().map(|(name, ty)| (name.as_str(), ty.as_str())).collect();
        assert_eq!(arguments, [("order", "Order"), ("is_urgent", "Option<bool>")]);
        assert_eq!((order.reply.as_str(), order.is_exclusive), ("Result<usize, String>", true));
        assert_eq!(
            (report.methods[1].is_exclusive, report.methods[1].reply.as_str()),
            (false, "BTreeMap<String, u64>")
        );
        assert_eq!(report.methods[3].reply, "()");
        assert!(report.methods[5].has_stream && !report.methods[4].has_stream);
    }
    let error = cluster[0].manager().describe("shoe".into()).await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::NoRoute(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_method_is_called_with_json_here_and_from_elsewhere() {
    let (cluster, gate) = with_shop(3).await;
    gate.open();
    let remote = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    for (number, manager) in [cluster[2].manager(), cluster[0].manager(), remote].iter().enumerate() {
        let order = r#"{"order": {"item": "pen", "count": 2}}"#;
        assert_eq!(call(manager, "order", order).await.unwrap(), format!(r#"{{"Ok":{number}}}"#));
    }
    let manager = cluster[1].manager();
    let in_order = r#"[{"item": "ink", "count": 1, "notes": ["blue"]}, true]"#;
    assert_eq!(call(&manager, "order", in_order).await.unwrap(), r#"{"Ok":4}"#);
    let none = r#"{"order": {"item": "ink", "count": 0}}"#;
    assert_eq!(call(&manager, "order", none).await.unwrap(), r#"{"Err":"nothing is ordered"}"#);
    assert_eq!(call(&manager, "total", r#"{"by": 10}"#).await.unwrap(), r#"{"ink":10,"pen":20}"#);
    assert_eq!(call(&manager, "hold", "").await.unwrap(), "null");
    manager.send_json("shop".into(), "order".into(), in_order.into()).await.unwrap().unwrap();
    assert_eq!(call(&manager, "total", "[1]").await.unwrap(), r#"{"ink":1,"pen":2}"#);
    let itself = manager.call_json("skyhold/manager".into(), "node".into(), String::new(), None).await;
    assert!(itself.unwrap().unwrap().contains(r#""node":"n1""#));
    let shop = ShopHandle::lookup(&cluster[0], "shop").await.unwrap();
    let address = shop.watch_instances().unwrap().next().await.unwrap().instances[0].address.to_string();
    let by_address = manager.call_json(address, "total".into(), "[1]".into(), None).await.unwrap();
    assert_eq!(by_address.unwrap(), r#"{"ink":1,"pen":2}"#);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_called_is_refused_with_the_thing_and_what_was_expected() {
    let (cluster, _) = with_shop(2).await;
    for manager in [cluster[0].manager(), cluster[1].manager()] {
        for (method, arguments, expected) in [
            ("oder", "", "`shop` has no method `oder`; did you mean `order`?"),
            ("sell", "", "it has order, total, caller, hold, fail, all"),
            ("all", "", "`shop.all` gives a stream, and JSON carries none"),
            ("total", "{", "the arguments are not JSON: EOF while parsing"),
            ("total", "7", "an object of them by name is expected, or an array of them in order"),
            ("total", "{}", "`by` is missing: u64 is expected"),
            ("total", r#"{"by": "x"}"#, r#"`by`: invalid type: string "x", expected u64"#),
            ("total", r#"{"bye": 1}"#, "there is no argument `bye`; did you mean `by`?"),
            ("total", "[1, 2]", "2 arguments are given, and it takes 1"),
            ("hold", r#"{"by": 1}"#, "there is no argument `by`; it takes none"),
            ("order", r#"{"order": {"item": "pen", "count": -2}}"#, "`order.count`: invalid value"),
            ("order", r#"{"order": {"item": "pen", "count": 1, "notes": [1]}}"#, "`order.notes[0]`: invalid"),
        ] {
            let error = call(&manager, method, arguments).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{method} {arguments}: {error}");
            assert!(!error.may_have_run(), "{error}");
        }
        let error = manager.call_json("shpo".into(), "total".into(), String::new(), None).await.unwrap();
        assert!(matches!(error, Err(CallError::NoRoute(_))), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_by_name_ends_as_any_other_does() {
    let (cluster, gate) = with_shop(2).await;
    let (here, elsewhere) = (cluster[1].manager(), cluster[0].manager());
    let panicked = call(&elsewhere, "fail", "").await.unwrap_err();
    assert!(matches!(&panicked, CallError::Panicked(_)), "{panicked}");
    let second = Some(Duration::from_secs(1));
    for manager in [&here, &elsewhere] {
        let watch = Watch::start();
        let late = manager.call_json("shop".into(), "hold".into(), String::new(), second).await.unwrap();
        assert!(matches!(late, Err(CallError::Timeout(_))), "{late:?}");
        watch.assert_ended_at(Duration::from_secs(1));
    }
    // The one that runs, the one that was taken out of the mailbox, and the one in it: the next one waits for room.
    let held: Vec<_> = (0..3).map(|_| here.send_json("shop".into(), "hold".into(), String::new())).collect();
    for held in held {
        drop(held.await.unwrap());
    }
    let full = here.call_json("shop".into(), "hold".into(), String::new(), second).await.unwrap();
    assert!(matches!(full, Err(CallError::Overloaded(_) | CallError::Timeout(_))), "{full:?}");
    gate.open();
    assert_eq!(call(&here, "hold", "").await.unwrap(), "null");
    assert!(cluster[1].stop_service("shop").await);
    settle().await;
    let gone = call(&elsewhere, "hold", "").await.unwrap_err();
    assert!(matches!(&gone, CallError::NoRoute(_)), "{gone}");
}

#[tokio::test(start_paused = true)]
async fn a_call_by_name_that_nobody_waits_for_never_begins() {
    let (cluster, gate) = with_shop(1).await;
    let manager = cluster[0].manager();
    let shop = ShopHandle::lookup(&cluster[0], "shop").await.unwrap();
    shop.hold().send().await.unwrap();
    gate.reached(1).await;
    let order = r#"[{"item": "pen", "count": 1}]"#;
    let mut given_up = Box::pin(call(&manager, "order", order));
    assert!((&mut given_up).now_or_never().is_none());
    settle().await;
    drop(given_up);
    settle().await;
    gate.open();
    assert_eq!(call(&manager, "total", "[1]").await.unwrap(), "{}");
}

#[tokio::test(start_paused = true)]
async fn who_may_call_the_manager_may_not_thereby_call_what_is_denied_to_it() {
    let rules = || Access::open().allow("n1", "shop").allow_methods("n2", "shop", ["total"]);
    let cluster = Cluster::start_with(4, move |node| node.access(rules())).await;
    cluster[0].service("shop", Shop::default).start().await.unwrap();
    ShopHandle::lookup(&cluster[3], "shop").await.unwrap();
    for (from, method, is_allowed) in
        [(1, "order", true), (2, "order", false), (2, "total", true), (3, "total", false), (0, "order", true)]
    {
        for by in ["n0", "n3"] {
            // By its own node, or by that of a third one, whose rules are the same.
            let manager = ManagerHandle::on(&cluster[from], by).await.unwrap();
            let arguments = if method == "total" { "[1]" } else { r#"[{"item": "pen", "count": 1}]"# };
            let answer = call(&manager, method, arguments).await;
            let expected = is_allowed && by == "n0";
            let is_denied = matches!(answer, Err(CallError::Denied(_)));
            assert_eq!((answer.is_ok(), is_denied), (expected, !expected), "{from} by {by}: {answer:?}");
        }
    }
    let manager = ManagerHandle::on(&cluster[1], "n0").await.unwrap();
    assert_eq!(call(&manager, "caller", "").await.unwrap(), r#""n1""#, "who really calls is seen");
    let denied = ManagerHandle::on(&cluster[3], "n0").await.unwrap().describe("shop".into()).await.unwrap();
    assert!(matches!(denied, Err(CallError::Denied(_))), "{denied:?}");
}

#[derive(Default)]
struct Shelf<K, V>(BTreeMap<K, V>);

#[service]
impl<K, V> Shelf<K, V>
where
    K: Ord + Wire,
    V: Clone + Wire,
{
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }
}

trait Wire: Serialize + serde::de::DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + serde::de::DeserializeOwned + Send + Sync + 'static> Wire for T {}

#[service]
trait Bank {
    /// What is there.
    async fn balance(&self, account: u32) -> i64;
}

struct OneAccount;

#[service]
impl Bank for OneAccount {
    async fn balance(&self, account: u32) -> i64 {
        -i64::from(account)
    }
}

#[tokio::test(start_paused = true)]
async fn generic_services_and_contracts_are_called_by_name_too() {
    let cluster = Cluster::start(1).await;
    let manager = cluster[0].manager();
    cluster[0].service("shelf", Shelf::<String, u8>::default).start().await.unwrap();
    cluster[0].service("bank", || OneAccount).start().await.unwrap();
    let call = |service: &str, method: &str, arguments: &str| {
        manager.call_json(service.into(), method.into(), arguments.into(), None).into_future()
    };
    assert_eq!(call("shelf", "put", r#"["a", 1]"#).await.unwrap().unwrap(), "null");
    assert_eq!(call("shelf", "put", r#"{"value": 2, "key": "a"}"#).await.unwrap().unwrap(), "1");
    let report = manager.describe("shelf".into()).await.unwrap().unwrap();
    assert_eq!(report.type_arguments, ["String", "u8"]);
    assert_eq!(call("bank", "balance", "[7]").await.unwrap().unwrap(), "-7");
    assert_eq!(manager.describe("bank".into()).await.unwrap().unwrap().methods[0].docs, "What is there.");
}

/// The next items of a trace.
async fn items(trace: &mut skyhold::Streaming<TraceItem>, count: usize) -> Vec<TraceItem> {
    let mut items = Vec::new();
    while items.len() < count {
        items.push(trace.next().await.expect("it goes on").expect("it is connected"));
    }
    items
}

/// Calls the shop.
struct Clerk(ShopHandle);

#[service]
impl Clerk {
    pub async fn sell(&self) -> bool {
        let order = Order { item: "pen".into(), count: 1, notes: None };
        self.0.order(order, None).await.is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_trace_shows_each_message_with_its_arguments_and_who_called() {
    let (cluster, gate) = with_shop(2).await;
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    let mut trace = manager.trace("shop".into()).await.unwrap().unwrap();
    let shop = ShopHandle::lookup(&cluster[0], "shop").await.unwrap();
    assert!(cluster[0].spawn(Clerk(shop.clone())).sell().await.unwrap());
    let seen = items(&mut trace, 2).await;
    let TraceEvent::Begun { arguments, caller, handler } = &seen[0].event else { panic!("{seen:?}") };
    assert_eq!(seen[0].method, "order");
    assert_eq!(
        arguments.as_deref(),
        Some(r#"{"order":{"item":"pen","count":1,"notes":null},"is_urgent":null}"#)
    );
    assert_eq!((caller.as_str(), handler.as_deref()), ("n0", Some("clerk.sell@n0#1")));
    let TraceEvent::Ended { took: Some(_), how: HandlerEnd::Done, reply } = &seen[1].event else {
        panic!("{seen:?}")
    };
    assert_eq!(reply.as_deref(), Some(r#"{"Ok":0}"#));
    assert_eq!((seen[0].turn, &seen[0].instance), (seen[1].turn, &seen[1].instance));

    // A handler that waits is shown when it begins, and how long it took when it has ended.
    shop.hold().send().await.unwrap();
    gate.reached(1).await;
    assert_eq!(items(&mut trace, 1).await[0].method, "hold");
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.open();
    let ended = items(&mut trace, 1).await.remove(0);
    let TraceEvent::Ended { took: Some(took), .. } = ended.event else { panic!("{ended:?}") };
    assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert!(shop.fail().await.is_err());
    let failed = items(&mut trace, 2).await.remove(1);
    let is_panic = matches!(failed.event, TraceEvent::Ended { how: HandlerEnd::Panicked, reply: None, .. });
    assert!(is_panic, "{failed:?}");
    // Its hooks are shown too, and its next life.
    shop.total(1).await.unwrap();
    let seen = items(&mut trace, 3).await;
    assert_eq!(seen.iter().map(|item| &*item.method).collect::<Vec<_>>(), ["on_start", "on_start", "total"]);
    let long = Order { item: "é".repeat(2000), count: 1, notes: None };
    shop.order(long, None).await.unwrap().unwrap();
    let seen = items(&mut trace, 3).await;
    let TraceEvent::Begun { arguments: Some(cut), .. } = &seen[1].event else { panic!("{seen:?}") };
    assert!(cut.ends_with('…') && cut.len() < 1100, "{}", cut.len());
    shop.total(1).await.unwrap();
    let ended = items(&mut trace, 2).await.remove(1);
    let TraceEvent::Ended { reply: Some(cut), .. } = ended.event else { panic!("{ended:?}") };
    assert!(cut.ends_with('…') && cut.len() < 1100, "{}", cut.len());

    // An `Err` of the service is an answer, and counted apart. A stream cannot be shown.
    let nothing = Order { item: "pen".into(), count: 0, notes: None };
    shop.order(nothing, None).await.unwrap().unwrap_err();
    let ended = items(&mut trace, 2).await.remove(1);
    let TraceEvent::Ended { how, reply, .. } = &ended.event else { panic!("{ended:?}") };
    assert_eq!((*how, reply.as_deref()), (HandlerEnd::Failed, Some(r#"{"Err":"nothing is ordered"}"#)));
    drop(shop.all().await.unwrap());
    let ended = items(&mut trace, 2).await.remove(1);
    assert!(matches!(ended.event, TraceEvent::Ended { how: HandlerEnd::Done, reply: None, .. }), "{ended:?}");
    let stats = manager.stats("shop".into()).await.unwrap().unwrap();
    let order = stats.methods.iter().find(|method| method.method == "order").unwrap();
    assert_eq!((order.outcomes.done, order.outcomes.failed, order.in_flight), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_is_read_slowly_misses_the_oldest_and_says_how_many() {
    let node = crate::gate::local_node().await;
    node.service("shop", Shop::default).start().await.unwrap();
    let shop = ShopHandle::lookup(&node, "shop").await.unwrap();
    let mut trace = node.manager().trace("shop".into()).await.unwrap().unwrap();
    for _ in 0..1000 {
        shop.total(1).await.unwrap();
    }
    let first = items(&mut trace, 1).await.remove(0);
    assert_eq!(first.event, TraceEvent::Missed { items: 2000 - 1024 });
    assert_eq!(items(&mut trace, 1024).await.pop().unwrap().method, "total");
    let mut second = node.manager().trace("shop".into()).await.unwrap().unwrap();
    drop(trace);
    shop.total(1).await.unwrap();
    assert_eq!(items(&mut second, 2).await[1].method, "total", "another reader goes on");
    let error = node.manager().trace("other".into()).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error}");
}
