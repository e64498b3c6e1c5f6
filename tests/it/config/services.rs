//! A reload brings the services that run into line with the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use skyhold::prelude::*;
use skyhold::{FailedService, Reload};

use super::Folder;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    start: u64,
}

/// Counts from where it is told to. 13 is no beginning, and 99 takes 30 s.
struct Counter {
    total: u64,
}

#[service]
impl Counter {
    #[on_start]
    async fn begin(&mut self) -> Result<(), String> {
        if self.total == 99 {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        if self.total == 13 { Err("13 is no beginning".to_owned()) } else { Ok(()) }
    }

    pub async fn add(&mut self, n: u64) -> u64 {
        self.total += n;
        tokio::task::yield_now().await;
        self.total
    }
}

struct Scene {
    folder: Folder,
    node: Node,
}

impl Scene {
    async fn new(services: &str) -> Self {
        let folder = Folder::new();
        let builder = folder.builder("a.toml", &file(services)).unwrap();
        let kinds = builder
            .kind("counter", |config: &Config| Counter { total: config.start })
            .kind("other", |config: &Config| Counter { total: config.start * 1000 })
            .kind("refuses", |_: &Config| Counter { total: 13 });
        Self { node: kinds.start().await.unwrap(), folder }
    }

    /// Writes the file and reloads it.
    async fn reload(&self, services: &str) -> Reload {
        self.folder.write("a.toml", &file(services));
        self.node.cluster().reload().await.unwrap()
    }

    fn find(&self, name: &str) -> Option<CounterHandle> {
        CounterHandle::try_lookup(&self.node, name).ok()
    }

    /// What each instance of a name counts from, by number.
    async fn starts(&self, name: &str) -> Vec<u64> {
        let found = self.find(name).expect("it runs").balance(Balance::RoundRobin);
        let instances = found.watch_instances().unwrap().next().await.unwrap().instances;
        let mut starts = Vec::new();
        for _ in instances {
            starts.push(found.add(0).await.unwrap());
        }
        starts
    }
}

fn file(services: &str) -> String {
    format!("[node]\nname = \"a\"\n{services}")
}

fn service(name: &str, kind: &str, instances: usize, start: u64) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nkind = \"{kind}\"\ninstances = {instances}\nconfig = {{ start = {start} }}\n"
    )
}

fn counter(name: &str, instances: usize, start: u64) -> String {
    service(name, "counter", instances, start)
}

fn shown(reload: &Reload) -> Vec<String> {
    reload.changes.iter().map(ToString::to_string).collect()
}

fn failed(reload: &Reload) -> Vec<(&str, &str)> {
    reload.failed.iter().map(|FailedService { service, problem, .. }| (&**service, &**problem)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_started_what_is_gone_is_drained_and_what_is_changed_goes_on_without_a_failed_call() {
    let scene = Scene::new(&(counter("gone", 1, 1) + &counter("kept", 2, 5) + &counter("same", 1, 7))).await;
    let kept = scene.find("kept").unwrap();
    assert_eq!(scene.starts("kept").await, [5, 5]);
    let (is_over, mut calls) = (Arc::new(AtomicBool::new(false)), Vec::new());
    for _ in 0..8 {
        let (kept, is_over) = (kept.clone(), Arc::clone(&is_over));
        calls.push(tokio::spawn(async move {
            let mut made = 0;
            while !is_over.load(Ordering::Relaxed) {
                kept.add(0).await.unwrap();
                made += 1;
            }
            made
        }));
    }

    let services = counter("new", 1, 3) + &counter("same", 1, 7) + &counter("kept", 4, 50);
    scene.folder.write("a.toml", &file(&services));
    let plan = scene.node.cluster().plan().await.unwrap();
    assert_eq!(
        shown(&plan),
        [
            "service.gone from gone of counter (1) to nothing (live)",
            "service.new from nothing to new of counter (1) (live)",
            "service.kept from kept of counter (2) to kept of counter (4) (live)",
        ]
    );
    assert!(scene.find("gone").is_some() && scene.find("new").is_none(), "a plan changes nothing");
    let reload = scene.node.cluster().reload().await.unwrap();
    assert_eq!((shown(&reload), failed(&reload), reload.version), (shown(&plan), vec![], 2));
    assert!(scene.find("gone").is_none());
    assert_eq!(scene.starts("new").await, [3]);
    assert_eq!(scene.starts("kept").await, [50; 4]);
    assert_eq!(scene.starts("same").await, [7]);
    is_over.store(true, Ordering::Relaxed);
    for made in calls {
        assert!(made.await.unwrap() > 0);
    }
    assert_eq!(scene.node.cluster().reload().await.unwrap().changes, [], "all is as the file says");

    // An instance's next life is made as the file says now.
    assert_eq!(
        shown(&scene.reload(&counter("kept", 4, 60)).await)[2],
        "service.kept from kept of counter (4) to kept of counter (4), configured otherwise (live)"
    );
    assert_eq!(scene.starts("kept").await, [60; 4]);
    assert!(scene.find("new").is_none() && scene.find("same").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_file_with_a_service_that_cannot_be_started_is_refused_and_changes_nothing() {
    let scene = Scene::new(&counter("kept", 1, 5)).await;
    for (services, expected) in [
        (service("new", "conter", 1, 1), "did you mean \"counter\"?"),
        ("[[service]]\nname = \"kept\"\nkind = \"counter\"".to_owned(), "missing field `start`"),
    ] {
        scene.folder.write("a.toml", &file(&services));
        for result in [scene.node.cluster().plan().await, scene.node.cluster().reload().await] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("a.toml:3: ") && error.contains(expected), "{error}");
        }
        assert_eq!(scene.starts("kept").await, [5]);
        assert!(scene.find("new").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_to_start_is_named_and_what_was_before_goes_on() {
    let scene = Scene::new(&counter("kept", 3, 5)).await;
    let services = counter("kept", 4, 13) + &counter("new", 1, 13) + &counter("good", 1, 1);
    for _ in 0..2 {
        // The next reload tries again, though the file is the same.
        let reload = scene.reload(&services).await;
        let failed = failed(&reload);
        assert_eq!(failed.iter().map(|(service, _)| *service).collect::<Vec<_>>(), ["kept", "new"]);
        assert!(failed.iter().all(|(_, problem)| problem.contains("13 is no beginning")), "{failed:?}");
        assert_eq!(scene.starts("kept").await, [5; 3], "as it was");
        assert!(scene.find("new").is_none());
        assert_eq!(scene.starts("good").await, [1], "others are as the file says");
    }
    let reload = scene.reload(&(counter("kept", 4, 6) + &counter("new", 1, 2))).await;
    assert_eq!(failed(&reload), []);
    assert_eq!((scene.starts("kept").await, scene.starts("new").await), (vec![6; 4], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn another_kind_and_other_labels_are_a_drain_and_a_start() {
    let scene = Scene::new(&counter("kept", 2, 5)).await;
    scene.reload(&service("kept", "other", 2, 5)).await;
    assert_eq!(scene.starts("kept").await, [5000, 5000]);
    let reload =
        scene.reload(&format!("{}labels = {{ zone = \"eu\" }}\n", service("kept", "other", 2, 5))).await;
    assert_eq!(failed(&reload), []);
    let known = scene.find("kept").unwrap().watch_instances().unwrap().next().await.unwrap().instances;
    assert!(known.len() == 2 && known.iter().all(|one| one.labels.get("zone") == Some("eu")), "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn what_others_have_made_of_a_service_stays_until_the_file_says_something_else() {
    let scene = Scene::new(&(counter("scaled", 2, 5) + &counter("stopped", 1, 5))).await;
    scene.node.service("mine", || Counter { total: 1 }).start().await.unwrap();
    scene.node.scale_service("scaled", 5).await.unwrap();
    scene.node.stop_service("stopped").await;
    scene.reload(&(counter("scaled", 2, 5) + &counter("stopped", 1, 5) + &counter("new", 1, 1))).await;
    assert_eq!(scene.starts("scaled").await.len(), 5);
    assert!(scene.find("stopped").is_none());
    assert_eq!(scene.starts("mine").await, [1], "it is no matter of the file's");
    scene.reload(&(counter("scaled", 3, 5) + &counter("stopped", 2, 6))).await;
    assert_eq!(scene.starts("scaled").await.len(), 3);
    assert_eq!(scene.starts("stopped").await, [6, 6]);
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_half_way_is_done_again_though_the_file_says_what_it_said_before() {
    let before = counter("kept", 2, 5);
    let scene = Scene::new(&before).await;
    // The second of its instances refuses, and the one before it was restarted already: both have their old configuration again.
    let reload = scene.reload(&counter("kept", 2, 13)).await;
    assert_eq!(failed(&reload).len(), 1);
    assert_eq!(scene.starts("kept").await, [5, 5]);
    // A reload that nobody waits for to its end.
    scene.folder.write("a.toml", &file(&counter("kept", 2, 99)));
    let cluster = scene.node.cluster();
    assert!(
        tokio::time::timeout(Duration::from_secs(10), cluster.reload()).await.is_err(),
        "99 takes its time"
    );
    let reload = scene.reload(&before).await;
    assert_eq!((reload.changes.len(), failed(&reload)), (1, vec![]), "nobody knows how far it came");
    assert_eq!(scene.starts("kept").await, [5, 5]);
    assert_eq!(scene.reload(&before).await.changes, []);
}

#[tokio::test(start_paused = true)]
async fn another_kind_that_refuses_to_start_leaves_what_was_before() {
    let scene = Scene::new(&counter("kept", 2, 5)).await;
    let reload = scene.reload(&service("kept", "refuses", 2, 5)).await;
    assert_eq!(failed(&reload)[0].0, "kept");
    assert_eq!(scene.starts("kept").await, [5, 5]);
    let reload = scene.reload(&counter("kept", 1, 5)).await;
    assert_eq!((failed(&reload), scene.starts("kept").await), (vec![], vec![5]));
}

#[derive(Deserialize)]
struct Nothing {}

/// Reloads its node when it begins.
struct Reloader;

#[service]
impl Reloader {
    #[on_start]
    async fn begin(&mut self, context: &Context) -> Result<(), skyhold::ReloadError> {
        context.node().cluster().reload().await.map(drop)
    }

    pub fn hello(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_reload_while_the_services_of_the_file_start_comes_behind_them() {
    let folder = Folder::new();
    let first = "[[service]]\nname = \"first\"\nkind = \"reloader\"\n";
    let builder = folder.builder("a.toml", &file(&(first.to_owned() + &counter("second", 1, 5)))).unwrap();
    let builder = builder
        .kind("reloader", |_: &Nothing| Reloader)
        .kind("counter", |config: &Config| Counter { total: config.start });
    folder.write("a.toml", &file(&(first.to_owned() + &counter("second", 2, 7) + &counter("third", 1, 1))));
    let scene = Scene { node: builder.start().await.unwrap(), folder };
    assert_eq!((scene.starts("second").await, scene.starts("third").await), (vec![7, 7], vec![1]));
    assert_eq!(scene.node.cluster().reload().await.unwrap().changes, []);
}
