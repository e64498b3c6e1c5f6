//! Rules for where the calls of handles to a name go: by labels and weights, denied, redirected, mirrored; in code and in the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Route, RouteRequest, Routes, Routing, Subset};
use tokio::sync::mpsc;

use crate::config::{Folder, open};
use crate::gate::settle;
use crate::raw::soon;

#[derive(Clone, Default)]
struct Place {
    name: &'static str,
    notes: Arc<AtomicUsize>,
}

#[service]
impl Place {
    pub fn name(&self) -> String {
        self.name.to_owned()
    }

    pub fn note(&self, amount: usize) -> usize {
        self.notes.fetch_add(amount, Ordering::SeqCst) + amount
    }

    pub fn other(&self) -> String {
        self.name.to_owned()
    }
}

/// Node `n0` calls; `n1` has version 1 and `n2` version 2 of a service.
struct Scene {
    cluster: Cluster,
    places: [Place; 2],
    place: PlaceHandle,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start_with(3, |node| node.label("zone", "eu")).await;
        let places = ["1", "2"].map(|name| Place { name, ..Place::default() });
        for (index, place) in [1, 2].into_iter().zip(&places) {
            let place = place.clone();
            let service = cluster[index].service("place", move || place.clone());
            service.label("version", places[index - 1].name).start().await.unwrap();
            PlaceHandle::lookup_on(&cluster[0], &format!("n{index}"), "place").await.unwrap();
        }
        let place = PlaceHandle::lookup(&cluster[0], "place").await.unwrap();
        Self { cluster, places, place }
    }

    fn set(&self, routes: Routes) {
        self.cluster[0].set_routes(routes).unwrap();
    }

    /// Which version answered how many of so many calls.
    async fn answers(&self, calls: usize) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for _ in 0..calls {
            *answers.entry(self.place.name().await.unwrap()).or_default() += 1;
        }
        answers
    }

    fn notes(&self) -> [usize; 2] {
        [0, 1].map(|index| self.places[index].notes.load(Ordering::SeqCst))
    }
}

fn version(version: &str) -> Subset {
    Subset::with("version", version)
}

fn counts(answers: &[(&str, usize)]) -> BTreeMap<String, usize> {
    answers.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_go_where_the_first_rule_that_matches_says() {
    let scene = Scene::new().await;
    assert_eq!(scene.answers(10).await.len(), 2, "without rules to any");
    scene.set(Routes::new().route(Route::of("pl*").caller("zone", "eu").to(version("2"))));
    assert_eq!(scene.answers(10).await, counts(&[("2", 10)]));
    scene.set(Routes::new().route(Route::of("place").to(Subset::on("n1"))));
    assert_eq!(scene.answers(10).await, counts(&[("1", 10)]));
    scene.set(Routes::new().route(Route::of("place").caller("zone", "us").to(version("2"))));
    assert_eq!(scene.answers(10).await.len(), 2, "it is about others");
    let on = PlaceHandle::lookup_on(&scene.cluster[0], "n2", "place").await.unwrap();
    scene.set(Routes::new().route(Route::of("place").to(version("1"))));
    assert_eq!(on.name().await.unwrap(), "2", "a handle to a node's instances leads there");
}

#[tokio::test(start_paused = true)]
async fn a_split_gives_each_part_its_share_and_a_key_always_the_same() {
    let scene = Scene::new().await;
    scene.set(Routes::new().route(Route::of("place").split([(90, version("1")), (10, version("2"))])));
    let answers = scene.answers(1000).await;
    assert!((95..=105).contains(&answers["2"]), "{answers:?}");
    let mut second = 0;
    for key in 0..300_u32 {
        let keyed = scene.place.key(&key);
        let first = keyed.name().await.unwrap();
        assert_eq!(keyed.name().await.unwrap(), first, "one key goes one way");
        second += usize::from(first == "2");
    }
    assert!((15..=50).contains(&second), "{second} of 300 keys");
}

#[tokio::test(start_paused = true)]
async fn nobody_in_a_subset_is_an_error_or_anybody() {
    let scene = Scene::new().await;
    scene.set(Routes::new().route(Route::of("place").to(version("3"))));
    let error = scene.place.name().await.unwrap_err();
    let expected = "no instance of \"place\" is known to which its route leads (version=3)";
    assert!(matches!(&error, CallError::NoRoute(detail) if detail.to_string() == expected), "{error}");
    assert!(!error.may_have_run());
    scene.set(Routes::new().route(Route::of("place").to(version("3").or_any())));
    assert_eq!(scene.answers(10).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_denies_does_not_run() {
    let scene = Scene::new().await;
    scene.set(Routes::new().route(Route::of("place").methods(["no*"]).deny()));
    let error = scene.place.note(1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Denied(detail) if detail.to_string() == "a route of node n0 denies `place.note`"),
        "{error}"
    );
    assert!(matches!(scene.place.note(1).try_send(), Err(CallError::Denied(_))));
    assert!(matches!(scene.place.note(1).send().await, Err(CallError::Denied(_))));
    settle().await;
    assert_eq!(scene.notes(), [0, 0]);
    assert!(scene.place.name().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_redirected_name_leads_to_the_instances_of_the_other_by_its_rules() {
    let scene = Scene::new().await;
    let old = Place { name: "old", ..Place::default() };
    scene.cluster[1].service("old", move || old.clone()).start().await.unwrap();
    let handle = PlaceHandle::lookup(&scene.cluster[0], "old").await.unwrap();
    assert_eq!(handle.name().await.unwrap(), "old");
    scene.set(
        Routes::new()
            .route(Route::of("old").redirect("place"))
            .route(Route::of("place").methods(["name"]).to(version("2"))),
    );
    for _ in 0..5 {
        assert_eq!(handle.name().await.unwrap(), "2");
    }
    assert!(["1", "2"].contains(&&*handle.other().await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_mirrored_message_runs_at_its_own_instance_and_at_another() {
    let scene = Scene::new().await;
    scene.set(Routes::new().route(Route::of("place").to(version("1")).mirror(version("2"))));
    assert_eq!(scene.place.note(2).await.unwrap(), 2, "the answer is its own instance's");
    scene.place.note(3).send().await.unwrap();
    settle().await;
    assert_eq!(scene.notes(), [5, 5]);
    // From a node that runs the mirror itself.
    let here = PlaceHandle::lookup(&scene.cluster[2], "place").await.unwrap();
    scene.cluster[2]
        .set_routes(Routes::new().route(Route::of("place").to(version("1")).mirror(version("2"))))
        .unwrap();
    here.note(10).await.unwrap();
    settle().await;
    assert_eq!(scene.notes(), [15, 15]);
    scene.cluster.kill(2).await;
    settle().await;
    assert_eq!(scene.place.note(1).await.unwrap(), 16, "a mirror that is not there is no failure");
}

#[tokio::test(start_paused = true)]
async fn a_router_in_code_is_asked_before_the_rules() {
    let is_on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_on);
    let router = move |request: &RouteRequest<'_>| match request.method {
        "other" => Some(Routing::Deny),
        "name" if switch.load(Ordering::SeqCst) => Some(Routing::To(Subset::with("version", "2"))),
        _ => None,
    };
    let node =
        Node::builder("a").router(router).routes(Routes::new().route(Route::of("place").to(version("1"))));
    let node = node.start().await.unwrap();
    for (name, number) in [("place", "1"), ("other", "2")] {
        let service = node.service(name, move || Place { name: number, ..Place::default() });
        service.label("version", number).start().await.unwrap();
    }
    let place = PlaceHandle::lookup(&node, "place").await.unwrap();
    assert_eq!(place.name().await.unwrap(), "1");
    assert!(matches!(place.other().await, Err(CallError::Denied(_))));
    is_on.store(true, Ordering::SeqCst);
    assert!(matches!(place.name().await, Err(CallError::NoRoute(_))));
}

#[tokio::test(start_paused = true)]
async fn rules_that_cannot_be_used_change_nothing() {
    let scene = Scene::new().await;
    scene.set(Routes::new().route(Route::of("place").to(version("2"))));
    let circle = Routes::new().route(Route::of("place").redirect("place"));
    let error = scene.cluster[0].set_routes(circle.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "route 1 (place to service place) leads in a circle: \"place\" is redirected to itself"
    );
    assert_eq!(scene.answers(3).await, counts(&[("2", 3)]));
    let error = Node::builder("a").routes(circle).start().await.unwrap_err();
    assert!(error.to_string().starts_with("setting `routes`: route 1 "), "{error}");
}

/// From 0 to 100 % of the calls by three reloads of the file, under load.
#[tokio::test]
async fn a_canary_takes_all_calls_after_three_reloads_and_none_fails() {
    let folder = Folder::new();
    let file = |share: u32| {
        let part = |version, weight| format!("{{ to = {{ version = \"{version}\" }}, weight = {weight} }}");
        let split = format!("split = [{}, {}]", part("1", 100 - share), part("2", share));
        open("gate") + &format!("[[route]]\nservice = \"place\"\n{split}\n")
    };
    let gate = folder.start("gate.toml", &file(0)).await;
    let mut nodes = Vec::new();
    for version in ["1", "2"] {
        let node = Node::builder(format!("v{version}")).label("version", version).insecure_without_secret();
        let node = node.seed(gate.address().unwrap().to_string()).start().await.unwrap();
        let place = Place { name: version, ..Place::default() };
        node.service("place", move || place.clone()).start().await.unwrap();
        PlaceHandle::lookup_on(&gate, node.id().as_str(), "place").await.unwrap();
        nodes.push(node);
    }
    let place = PlaceHandle::lookup(&gate, "place").await.unwrap();
    let (answered, mut answers) = mpsc::channel(1);
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (place, answered) = (place.clone(), answered.clone());
            tokio::spawn(async move { while answered.send(place.name().await).await.is_ok() {} })
        })
        .collect();
    for share in [0, 10, 50, 100] {
        folder.write("gate.toml", &file(share));
        gate.cluster().reload().await.unwrap();
        // What was decided before the reload.
        for _ in 0..callers.len() + 1 {
            soon("an answer", answers.recv()).await.unwrap().unwrap();
        }
        let mut second = 0;
        for _ in 0..1000 {
            second += u32::from(soon("an answer", answers.recv()).await.unwrap().unwrap() == "2");
        }
        assert!((share * 10).abs_diff(second) <= 25, "{second} of 1000 at {share} %");
    }
    drop(answers);
    for caller in callers {
        caller.await.unwrap();
    }
}
