//! Handles as arguments, as replies and inside of structures, to instances, names and keys, here and on third nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{LookupError, Restart};

use crate::gate::{Watch, local_node, settle};

/// Says where it runs.
#[derive(Default)]
struct Place {
    visits: u64,
}

#[service]
impl Place {
    pub fn visit(&mut self, context: &Context) -> (String, u64) {
        self.visits += 1;
        (context.address().to_string(), self.visits)
    }

    pub fn own_handle(&self, context: &Context) -> PlaceHandle {
        context.handle()
    }

    pub fn stop(&mut self, context: &Context) {
        context.stop();
    }

    /// Has itself visited through a book: each of the two services takes the other's handle.
    pub async fn be_visited(&self, context: &Context, book: BookHandle) -> bool {
        book.visit_later(context.handle()).send().await.is_ok()
    }
}

/// Another interface, for a handle that is given where it does not belong.
struct Other;

#[service]
impl Other {
    pub fn nothing(&self) {}
}

/// Keeps handles, and gives them to others.
#[derive(Default)]
struct Book {
    pages: BTreeMap<String, Page>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Page {
    places: Vec<PlaceHandle>,
    next: Option<Box<Page>>,
}

#[service]
impl Book {
    pub fn write(&mut self, title: String, page: Page) {
        self.pages.insert(title, page);
    }

    pub fn read(&self, title: String) -> Option<Page> {
        self.pages.get(&title).cloned()
    }

    pub async fn visit(&self, place: PlaceHandle) -> Result<(String, u64), String> {
        place.visit().await.map_err(|error| error.to_string())
    }

    pub async fn visit_later(&self, place: PlaceHandle) {
        place.visit().await.unwrap();
    }

    pub fn itself(&self, context: &Context, other: BookHandle) -> bool {
        other == context.handle::<BookHandle>()
    }

    /// Reads a handle from what somebody has kept as text.
    pub async fn visit_kept(&self, kept: Vec<u8>) -> Result<(String, u64), String> {
        let place: PlaceHandle = text::read(&kept)?;
        place.visit().await.map_err(|error| error.to_string())
    }
}

/// A format that is not the framework's own: what is read inside of a handler is read for its node.
mod text {
    use super::PlaceHandle;

    pub(super) fn write(handle: &PlaceHandle) -> Vec<u8> {
        serde_json::to_vec(handle).unwrap()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<PlaceHandle, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// Three nodes; the second has the book.
async fn scene() -> (Cluster, BookHandle) {
    let cluster = Cluster::start(3).await;
    cluster[1].service("book", Book::default).start().await.unwrap();
    let book = BookHandle::lookup(&cluster[0], "book").await.unwrap();
    (cluster, book)
}

#[tokio::test(start_paused = true)]
async fn a_handle_to_an_anonymous_instance_works_where_it_arrives_and_is_the_same_where_it_comes_back() {
    let (cluster, book) = scene().await;
    let place = cluster[0].spawn(Place::default());
    let address = place.address().unwrap().to_string();
    assert_eq!(
        book.visit(place.clone()).await,
        Ok(Ok((address.clone(), 1))),
        "called back from the second node"
    );
    let page = Page { places: vec![place.clone()], next: None };
    book.write("a".into(), page).await.unwrap();

    // A third node gets it from the second.
    let book = BookHandle::lookup(&cluster[2], "book").await.unwrap();
    let page = book.read("a".into()).await.unwrap().unwrap();
    assert_eq!(page.places[0].visit().await, Ok((address.clone(), 2)));
    assert_eq!(page.places[0], place);

    // And where it lives it is the instance itself again.
    let book = BookHandle::lookup(&cluster[0], "book").await.unwrap();
    let back = book.read("a".into()).await.unwrap().unwrap().places.remove(0);
    assert_eq!(back, place);
    assert_eq!(back.visit().await, Ok((address, 3)));
}

#[tokio::test(start_paused = true)]
async fn handles_travel_inside_of_structures_as_replies_and_to_their_own_service() {
    let (cluster, book) = scene().await;
    let places: Vec<_> = (0..3).map(|node| cluster[node].spawn(Place::default())).collect();
    let inner = Page { places: places[1..].to_vec(), next: None };
    let page = Page { places: places[..1].to_vec(), next: Some(Box::new(inner)) };
    book.write("nested".into(), page).await.unwrap();
    let page = book.read("nested".into()).await.unwrap().unwrap();
    let inner = page.next.unwrap();
    for (place, node) in page.places.iter().chain(&inner.places).zip(["n0", "n1", "n2"]) {
        assert!(place.visit().await.unwrap().0.starts_with(node));
    }
    let own = inner.places[1].own_handle().await.unwrap();
    assert_eq!(own.be_visited(book.clone()).await, Ok(true));
    settle().await;
    assert_eq!(own.visit().await.unwrap().1, 3);
    assert_eq!(own, places[2]);
    let whose = BookHandle::lookup(&cluster[2], "book").await.unwrap();
    assert_eq!(book.itself(whose).await, Ok(false), "a name is not an instance");
}

#[tokio::test(start_paused = true)]
async fn a_handle_to_a_name_leads_where_the_name_leads_for_who_reads_it() {
    let (cluster, book) = scene().await;
    for node in [0, 2] {
        cluster[node].service("place", Place::default).start().await.unwrap();
    }
    let anywhere = PlaceHandle::lookup(&cluster[0], "place").await.unwrap();
    PlaceHandle::lookup_on(&cluster[1], "n2", "place").await.unwrap();
    let mut visited: Vec<_> = Vec::new();
    for _ in 0..4 {
        visited.push(book.visit(anywhere.clone()).await.unwrap().unwrap().0[..2].to_owned());
    }
    visited.sort();
    visited.dedup();
    assert!(!visited.is_empty() && visited.iter().all(|node| node == "n0" || node == "n2"));
    let on_one = PlaceHandle::lookup_on(&cluster[0], "n2", "place").await.unwrap();
    for _ in 0..3 {
        assert!(book.visit(on_one.clone()).await.unwrap().unwrap().0.starts_with("n2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_belongs_to_one_instance_for_every_node() {
    let (cluster, book) = scene().await;
    for node in 0..3 {
        cluster[node].service("place", Place::default).instances(2).start().await.unwrap();
    }
    settle().await;
    let place = PlaceHandle::lookup(&cluster[0], "place").await.unwrap();
    let mut owners = std::collections::BTreeSet::new();
    for key in 0..50_u64 {
        let keyed = place.key(&key);
        let owner = keyed.visit().await.unwrap().0;
        assert_eq!(keyed.visit().await.unwrap().0, owner, "again and again");
        assert_eq!(book.visit(keyed.clone()).await.unwrap().unwrap().0, owner, "and from another node");
        assert_eq!(keyed, place.key(&key));
        assert_ne!(keyed, place);
        owners.insert(owner);
    }
    assert_eq!(owners.len(), 6, "they are spread over all");
    // Without one node its keys belong to others, and no other key moves.
    let before: Vec<_> = {
        let mut before = Vec::new();
        for key in 0..50_u64 {
            before.push(place.key(&key).visit().await.unwrap().0);
        }
        before
    };
    cluster[2].stop_service("place").await;
    settle().await;
    for (key, before) in (0..50_u64).zip(before) {
        let now = place.key(&key).visit().await.unwrap().0;
        assert!(now == before || before.starts_with("n2"), "{key}: {before} {now}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_reached_from_other_nodes_only_after_its_handle_was_sent() {
    let (cluster, book) = scene().await;
    let [secret, sent] = [0, 1].map(|_| cluster[0].spawn(Place::default()));
    book.visit(sent.clone()).await.unwrap().unwrap();
    // Somebody who guesses the other one's number.
    let text = String::from_utf8(text::write(&sent)).unwrap();
    let number = |place: &PlaceHandle| format!("\"instance\":{}", place.address().unwrap().instance);
    let guessed = text.replace(&number(&sent), &number(&secret));
    assert_ne!(guessed, text);
    let error = book.visit_kept(guessed.into_bytes()).await.unwrap().unwrap_err();
    assert!(error.contains("runs no instance"), "{error}");
    assert_eq!(secret.visit().await.unwrap().1, 1, "only from here");
    assert_eq!(book.visit_kept(text.into_bytes()).await.unwrap().unwrap().1, 2);
}

#[tokio::test(start_paused = true)]
async fn a_handle_is_read_for_a_node_or_not_at_all() {
    let node = local_node().await;
    let kept = text::write(&node.spawn(Place::default()));
    let error = text::read(&kept).unwrap_err();
    assert!(error.contains("inside of a handler"), "{error}");
    let book = node.spawn(Book::default());
    assert_eq!(book.visit_kept(kept).await.unwrap().unwrap().1, 1);
    let other = serde_json::to_vec(&node.spawn(Other)).unwrap();
    let error = book.visit_kept(other).await.unwrap().unwrap_err();
    assert!(error.contains("a handle of `other`, one of `place` was expected"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_an_earlier_life_is_stale_and_is_bound_anew() {
    let (mut cluster, book) = scene().await;
    cluster[2].service("place", Place::default).start().await.unwrap();
    let named = PlaceHandle::lookup(&cluster[0], "place").await.unwrap();
    let instance = named.own_handle().await.unwrap();
    let anonymous = cluster[2].spawn(Place::default());
    book.write("a".into(), Page { places: vec![anonymous.clone()], next: None }).await.unwrap();
    let anonymous = book.read("a".into()).await.unwrap().unwrap().places.remove(0);
    assert_eq!(instance.visit().await.unwrap().1, 1);
    assert_eq!(instance.rebind().await.unwrap(), instance, "as long as it is there");

    cluster.restart(2).await;
    for handle in [&instance, &anonymous] {
        let error = handle.visit().await.unwrap_err();
        assert!(matches!(error, CallError::Stale(_)), "{error:?}");
        assert!(!error.may_have_run());
    }
    let rebound = tokio::spawn({
        let instance = instance.clone();
        async move { instance.rebind().await }
    });
    settle().await;
    assert!(!rebound.is_finished(), "there is nobody yet");
    cluster[2].service("place", Place::default).start().await.unwrap();
    let rebound = rebound.await.unwrap().unwrap();
    assert_ne!(rebound, instance);
    assert_eq!(rebound.visit().await.unwrap().1, 1, "a new life with a new state");
    let error = anonymous.rebind().await.unwrap_err();
    assert!(matches!(error, LookupError::Anonymous { .. }), "{error:?}");
    assert_eq!(named.rebind().await.unwrap(), named);
}

#[tokio::test(start_paused = true)]
async fn a_handle_to_what_has_stopped_is_bound_to_another_of_its_name_on_its_node_first() {
    let (cluster, _) = scene().await;
    for node in [1, 2] {
        cluster[node]
            .service("place", Place::default)
            .instances(2)
            .restart(Restart::never())
            .start()
            .await
            .unwrap();
    }
    let on_n2 = PlaceHandle::lookup_on(&cluster[0], "n2", "place").await.unwrap();
    let instance = on_n2.own_handle().await.unwrap();
    instance.stop().await.unwrap();
    settle().await;
    let error = instance.visit().await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    let rebound = instance.rebind().await.unwrap();
    assert!(rebound.visit().await.unwrap().0.starts_with("n2"));
    rebound.stop().await.unwrap();
    settle().await;
    let rebound = instance.rebind().await.unwrap();
    assert!(rebound.visit().await.unwrap().0.starts_with("n1"));
}

#[tokio::test]
async fn a_node_that_is_not_connected_is_found_by_the_handle() {
    // The first and the third know the second, and not each other.
    let second =
        Node::builder("second").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let address = second.address().unwrap().to_string();
    second.service("book", Book::default).start().await.unwrap();
    let start = |name: &str| {
        Node::builder(name).insecure_without_secret().listen("127.0.0.1:0").seed(address.clone()).start()
    };
    let first = start("first").await.unwrap();
    let book = BookHandle::lookup(&first, "book").await.unwrap();
    let place = first.spawn(Place::default());
    book.write("a".into(), Page { places: vec![place], next: None }).await.unwrap();
    let third = start("third").await.unwrap();
    let book = BookHandle::lookup(&third, "book").await.unwrap();
    // Whoever is introduced first: the handle works at once.
    let place = book.read("a".into()).await.unwrap().unwrap().places.remove(0);
    assert_eq!(place.visit().await.unwrap().1, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handle_to_an_instance_of_a_node_that_nobody_finds_has_no_route() {
    let (mut cluster, book) = scene().await;
    let place = cluster[2].spawn(Place::default());
    book.write("a".into(), Page { places: vec![place], next: None }).await.unwrap();
    cluster.kill(2).await;
    settle().await;
    let place = book.read("a".into()).await.unwrap().unwrap().places.remove(0);
    let watch = Watch::start();
    let error = place.visit().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    watch.assert_at_once();
    cluster.restart(2).await;
    let error = place.visit().await.unwrap_err();
    assert!(matches!(error, CallError::Stale(_)), "{error:?}");
}
