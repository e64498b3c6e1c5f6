//! What a handle is: a value that leads to an instance or a name, whoever implements it.

use std::collections::HashSet;
use std::future::IntoFuture;
use std::sync::Arc;

use skyhold::prelude::*;

use crate::gate::local_node;

#[derive(Default)]
struct Plain;

#[service]
impl Plain {
    pub fn ping(&self) -> u32 {
        1
    }

    /// The names of `ServiceHandle`'s own methods are free for a service.
    pub fn address(&self) -> String {
        "mine".to_owned()
    }
}

#[test]
fn handles_calls_and_futures_travel_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<PlainHandle>();
    shared::<Node>();
    let _ = |handle: PlainHandle| {
        sent(&handle.ping());
        sent(&handle.ping().into_future());
        sent(&handle.ping().send());
    };
}

#[tokio::test(start_paused = true)]
#[allow(clippy::mutable_key_type, reason = "a handle is hashed by its address or name, which never changes")]
async fn handles_are_equal_when_they_lead_to_the_same_instance_or_name() {
    let node = local_node().await;
    let (one, other) = (node.spawn(Plain), node.spawn(Plain));
    assert_eq!(one, one.clone());
    assert_ne!(one, other);
    let named = node.service("plain", Plain::default).start().await.unwrap();
    let found = PlainHandle::lookup_on(&node, "a", "plain").await.unwrap();
    let anywhere = PlainHandle::lookup(&node, "plain").await.unwrap();
    assert_eq!(named, found);
    assert_ne!(named, one);
    assert_ne!(named, anywhere, "one leads to this node alone");
    let set: HashSet<_> = [one.clone(), one, other, named, found, anywhere].into_iter().collect();
    assert_eq!(set.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_handle_tells_where_it_leads() {
    let node = local_node().await;
    let plain = node.spawn(Plain);
    let address = ServiceHandle::address(&plain).unwrap();
    assert_eq!((address.node.as_str(), address.to_string()), ("a", "a#1".to_owned()));
    assert_eq!(ServiceHandle::name(&plain), None);
    assert!(format!("{plain:?}").contains("a#1"), "{plain:?}");
    assert!(format!("{:?}", plain.ping()).contains("a#1"));
    assert_eq!(plain.address().await.unwrap(), "mine");

    let named = node.service("plain", Plain::default).start().await.unwrap();
    assert_eq!(ServiceHandle::address(&named), None);
    assert_eq!(ServiceHandle::name(&named), Some("plain"));
    assert!(format!("{named:?}").contains("plain@a"), "{named:?}");
}

#[tokio::test(start_paused = true)]
async fn a_context_gives_the_handle_and_the_node_of_its_instance() {
    let node = local_node().await;
    let own = node.spawn(Own);
    let (handle, id, caller) = own.own().await.unwrap();
    assert_eq!(handle, own);
    assert_eq!((&id, &caller), (node.id(), node.id()));
    assert!(handle.own().await.is_ok());
}

struct Own;

#[service(local)]
impl Own {
    pub fn own(&self, context: &Context) -> (OwnHandle, NodeId, NodeId) {
        (context.handle(), context.node().id().clone(), context.caller().clone())
    }
}

/// What every implementation does.
#[service]
trait Greeter {
    fn greet(&self, name: String) -> String;
    async fn rename(&mut self, to: String) -> Result<(), String>;
}

struct Polite(String);

#[service]
impl Greeter for Polite {
    fn greet(&self, name: String) -> String {
        format!("Good day, {name}. I am {}.", self.0)
    }

    async fn rename(&mut self, to: String) -> Result<(), String> {
        self.0 = to;
        Ok(())
    }
}

struct Curt;

#[service]
impl Greeter for Curt {
    fn greet(&self, name: String) -> String {
        name
    }

    async fn rename(&mut self, _to: String) -> Result<(), String> {
        Err("no".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn one_handle_type_leads_to_any_implementation_of_its_contract() {
    let node = local_node().await;
    let polite = node.service("polite", || Polite("P".into())).start().await.unwrap();
    let greeters: [GreeterHandle; 3] =
        [node.spawn(Curt), polite, GreeterHandle::lookup(&node, "polite").await.unwrap()];
    let mut said = Vec::new();
    for greeter in &greeters {
        said.push((
            greeter.rename("Q".into()).await.unwrap().is_ok(),
            greeter.greet("R".into()).await.unwrap(),
        ));
    }
    let polite = (true, "Good day, R. I am Q.".to_owned());
    assert_eq!(said, [(false, "R".to_owned()), polite.clone(), polite]);
}

struct Cell<T>(Option<T>);

#[service]
impl<T> Cell<T>
where
    T: Clone,
{
    pub fn set(&mut self, value: T) -> Option<T> {
        self.0.replace(value)
    }

    pub async fn get(&self) -> Option<T> {
        self.0.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_generic_service_works_over_different_types() {
    let node = local_node().await;
    let text = node.spawn(Cell::<String>(None));
    let number = node.service("number", || Cell(Some(1_u64))).start().await.unwrap();
    assert_eq!(text.set("a".into()).await.unwrap(), None);
    assert_eq!(text.get().await.unwrap(), Some("a".into()));
    assert_eq!(number.set(2).await.unwrap(), Some(1));
    let found = CellHandle::<u64>::lookup(&node, "number").await.unwrap();
    assert_eq!(found.get().await.unwrap(), Some(2));
}

/// What no wire could carry.
struct NotSerializable(Arc<str>);

struct Shelf(Vec<NotSerializable>);

#[service(local)]
impl Shelf {
    pub fn put(&mut self, make: Box<dyn FnOnce() -> NotSerializable + Send>) {
        self.0.push(make());
    }

    pub fn all(&self) -> Vec<Arc<str>> {
        self.0.iter().map(|thing| Arc::clone(&thing.0)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_service_takes_and_gives_what_no_wire_could_carry() {
    let node = local_node().await;
    let shelf = node.spawn(Shelf(Vec::new()));
    let thing: Arc<str> = "thing".into();
    let same = Arc::clone(&thing);
    shelf.put(Box::new(move || NotSerializable(same))).await.unwrap();
    assert!(Arc::ptr_eq(&shelf.all().await.unwrap()[0], &thing));
}
