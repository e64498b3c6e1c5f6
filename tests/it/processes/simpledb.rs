//! The `simpledb` example: a server in a process of its own, called from this one and from a client process.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::{Event, Events, NodeBuilder};

use super::{LIMIT, Process, signal, within};

/// The server's contract, as a client without its code writes it.
#[service]
trait Store {
    fn get(&self, key: String) -> Option<String>;
    fn set(&mut self, key: String, value: String) -> Option<String>;
    fn delete(&mut self, key: String) -> Option<String>;
    fn scan(&self, prefix: String, limit: usize) -> Vec<(String, String)>;
}

/// Starts a server, and gives its address.
async fn server(listen: &str) -> (Process, String) {
    let mut server = Process::start("simpledb", ["server", "--listen", listen]);
    let line = server.line().await;
    let address = line.strip_prefix("listening on ").expect("the first line tells the address").to_owned();
    (server, address)
}

fn client_of(address: &str) -> NodeBuilder {
    Node::builder("test").insecure_without_secret().cluster("simpledb").seed(address)
}

async fn store(node: &Node) -> StoreHandle {
    within(LIMIT, "the lookup", StoreHandle::lookup(node, "store")).await.unwrap()
}

async fn until(events: &mut Events, is_it: impl Fn(&Event) -> bool) {
    let search = async { while !is_it(&events.next().await.expect("the node goes on")) {} };
    within(LIMIT, "the event", search).await;
}

/// Asserts that the process does not answer, though it has not ended: the stop signal is in force.
async fn assert_stopped(store: &StoreHandle) {
    let silent = store.get("key".into()).timeout(Duration::from_millis(200)).await;
    assert!(matches!(silent, Err(CallError::Timeout(_))), "{silent:?}");
}

#[tokio::test]
async fn a_service_is_used_from_another_process() {
    let (_server, address) = server("127.0.0.1:0").await;
    let node = client_of(&address).start().await.unwrap();
    let store = store(&node).await;

    assert_eq!(store.get("a/1".into()).await, Ok(None));
    for (key, value) in [("a/2", "two"), ("b/1", "other"), ("a/1", "one"), ("a", "short")] {
        assert_eq!(store.set(key.into(), value.into()).await, Ok(None));
    }
    assert_eq!(store.get("a/1".into()).await, Ok(Some("one".into())));
    assert_eq!(store.set("a/1".into(), "uno".into()).await, Ok(Some("one".into())));

    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(store.scan("a/".into(), 10).await, Ok(vec![pair("a/1", "uno"), pair("a/2", "two")]));
    assert_eq!(store.scan("a/".into(), 1).await, Ok(vec![pair("a/1", "uno")]));
    assert_eq!(store.scan("c".into(), 10).await, Ok(vec![]));

    assert_eq!(store.delete("a/1".into()).await, Ok(Some("uno".into())));
    assert_eq!(store.delete("a/1".into()).await, Ok(None));
    assert_eq!(store.get("a/1".into()).await, Ok(None));
}

#[tokio::test]
async fn a_value_of_one_mebibyte_goes_to_another_process_and_back() {
    let (_server, address) = server("127.0.0.1:0").await;
    let node = client_of(&address).start().await.unwrap();
    let store = store(&node).await;
    let value: String = ('a'..='z').cycle().take(1 << 20).collect();
    assert_eq!(store.set("large".into(), value.clone()).await, Ok(None));
    let back = store.get("large".into()).await.unwrap().unwrap();
    assert!(back == value, "{} bytes came back, and they differ", back.len());
}

#[tokio::test]
async fn a_call_whose_server_is_killed_is_answered_disconnected_at_once() {
    let (mut server, address) = server("127.0.0.1:0").await;
    let node = client_of(&address).silence(LIMIT).start().await.unwrap();
    let store = store(&node).await;
    let mut events = node.events();
    // A stopped process cannot answer, so the call is in flight for certain when the process dies: it was written before the
    // other one, whose time is over.
    signal(server.pid(), "STOP").await;
    let call = tokio::spawn(store.get("key".into()).timeout(LIMIT).into_future());
    tokio::task::yield_now().await;
    assert_stopped(&store).await;
    server.child.kill().await.unwrap();
    let result = within(Duration::from_secs(5), "the answer", call).await.unwrap();
    assert!(matches!(result, Err(CallError::Disconnected(_))), "{result:?}");
    until(&mut events, |event| matches!(event, Event::PeerDown { .. })).await;
    let result =
        within(Duration::from_secs(5), "the next answer", async { store.get("key".into()).await }).await;
    assert!(matches!(result, Err(CallError::NoRoute(_))), "{result:?}");
}

#[tokio::test]
async fn a_stopped_server_is_given_up_after_the_silence_and_found_again_when_it_goes_on() {
    let (server, address) = server("127.0.0.1:0").await;
    let (heartbeat, silence) = (Duration::from_millis(250), Duration::from_secs(2));
    let builder = client_of(&address).heartbeat(heartbeat).silence(silence).handshake_timeout(silence);
    let node = builder.start().await.unwrap();
    let store = store(&node).await;
    store.set("key".into(), "kept".into()).await.unwrap();
    let mut events = node.events();

    signal(server.pid(), "STOP").await;
    assert_stopped(&store).await;
    let call = async { store.get("key".into()).timeout(LIMIT).await };
    let result = within(Duration::from_secs(15), "the silence", call).await;
    assert!(matches!(result, Err(CallError::Disconnected(_))), "{result:?}");
    until(&mut events, |event| matches!(event, Event::PeerDown { .. })).await;
    let result = store.get("key".into()).timeout(Duration::from_millis(300)).await;
    assert!(matches!(result, Err(CallError::NoRoute(_))), "{result:?}");
    let waits = tokio::spawn(store.get("key".into()).into_future());

    signal(server.pid(), "CONT").await;
    assert_eq!(waits.await.unwrap(), Ok(Some("kept".into())), "who waited is served");
    until(&mut events, |event| matches!(event, Event::PeerUp { .. })).await;
    let again = self::store(&node).await;
    assert_eq!(again.get("key".into()).await, Ok(Some("kept".into())));
    assert_eq!(store.get("key".into()).await, Ok(Some("kept".into())), "the first handle leads there again");
}

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_is_found_again() {
    let (mut first, address) = server("127.0.0.1:0").await;
    let node = client_of(&address).start().await.unwrap();
    let store = store(&node).await;
    store.set("key".into(), "lost".into()).await.unwrap();
    let mut events = node.events();
    first.child.kill().await.unwrap();
    until(&mut events, |event| matches!(event, Event::PeerDown { .. })).await;

    let (_second, _) = server(&address).await;
    until(&mut events, |event| matches!(event, Event::PeerUp { .. })).await;
    self::store(&node).await;
    assert_eq!(store.get("key".into()).await, Ok(None), "the same handle, another life of the server");
}

#[tokio::test]
async fn the_client_says_what_it_gets_when_its_server_is_killed() {
    let (mut server, address) = server("127.0.0.1:0").await;
    let calls = u64::MAX.to_string();
    let mut client = Process::start("simpledb", ["client", "--connect", &address, "--calls", &calls]);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("now calling")) {
        lines.push(client.line().await);
    }
    let expected = [
        "set fruit/apple = red, before: None",
        "set fruit/banana = yellow, before: None",
        "set root/carrot = orange, before: None",
        "get fruit/apple: Some(\"red\")",
        "scan fruit/: [(\"fruit/apple\", \"red\"), (\"fruit/banana\", \"yellow\")]",
        "delete fruit/apple: Some(\"red\")",
        "get fruit/apple: None",
        "set and get 1048576 bytes: the same",
    ];
    assert_eq!(lines[..lines.len() - 1], expected);

    // Stopped first, so that a call is in flight when the server dies.
    signal(server.pid(), "STOP").await;
    server.child.kill().await.unwrap();
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let errors: Vec<_> = ended.stdout.lines().filter(|line| line.ends_with("run)")).collect();
    let (first, last) = (errors[0], errors[errors.len() - 1]);
    assert!(first.starts_with("disconnected: ") && first.ends_with("(it may have run)"), "{errors:?}");
    assert!(last.starts_with("no route: ") && last.ends_with("(it did not run)"), "{errors:?}");
    assert!(
        ended.stdout.lines().last().unwrap().starts_with("the server is gone, after "),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn a_server_that_is_asked_to_end_by_a_signal_ends_in_order() {
    for name in ["TERM", "INT"] {
        let (server, address) = server("127.0.0.1:0").await;
        let node = client_of(&address).start().await.unwrap();
        let store = store(&node).await;
        let mut events = node.events();
        assert_eq!(store.set("a".into(), "b".into()).await, Ok(None));
        signal(server.pid(), name).await;
        let ended = server.end().await;
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "SIG{name}");
        until(&mut events, |event| matches!(event, Event::PeerDown { .. })).await;
        let error = store.get("a".into()).await.unwrap_err();
        assert!(!error.may_have_run(), "{error:?}");
    }
}
