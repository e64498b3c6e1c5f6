//! Services that are started by the name of their kind: by the file, and by a manager.

use serde::Deserialize;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{ManageError, ManagerHandle};

use crate::config::Folder;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    start: u64,
    #[serde(default)]
    step: Vec<u64>,
}

struct Counter {
    total: u64,
}

#[service]
impl Counter {
    #[on_start]
    fn begin(&mut self) -> Result<(), String> {
        if self.total == 13 { Err("13 is no beginning".to_owned()) } else { Ok(()) }
    }

    pub fn add(&mut self, n: u64) -> u64 {
        self.total += n;
        self.total
    }
}

fn make(config: &Config) -> Counter {
    Counter { total: config.start + config.step.iter().sum::<u64>() }
}

fn file(services: &str) -> String {
    format!("[node]\nname = \"a\"\n{services}")
}

#[tokio::test(start_paused = true)]
async fn the_services_of_a_file_are_started_with_what_it_says() {
    let folder = Folder::new();
    let services = "[[service]]\nname = \"first\"\nkind = \"counter\"\ninstances = 2\nlabels = { zone = \"eu\" }\nconfig = { start = 5 }\n\
                    [[service]]\nname = \"counter\"\nunique = true\n[service.config]\nstart = 0x10\nstep = [1, 2]\n";
    let node =
        folder.builder("a.toml", &file(services)).unwrap().kind("counter", make).start().await.unwrap();
    let first = CounterHandle::try_lookup(&node, "first").unwrap();
    assert_eq!(first.add(1).await.unwrap(), 6);
    let known = first.watch_instances().unwrap().next().await.unwrap().instances;
    assert_eq!((known.len(), known[0].labels.get("zone")), (2, Some("eu")));
    let second = CounterHandle::try_lookup(&node, "counter").unwrap();
    assert_eq!(second.add(1).await.unwrap(), 20);

    folder.write("a.toml", &file(""));
    let plan = node.cluster().plan().await.unwrap();
    let changes: Vec<_> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "service.first from first of counter (2) to nothing (live)",
            "service.counter from counter of counter (1) to nothing (live)",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_file_that_cannot_be_started_is_named_and_nothing_starts() {
    let folder = Folder::new();
    for (services, expected) in [
        (
            "[[service]]\nname = \"x\"\nkind = \"conter\"",
            "3: `service.kind` is \"conter\", and there is no kind of that name; did you mean \"counter\"?",
        ),
        ("[[service]]\nname = \"counter\"", "3: `service.config` cannot be used: missing field `start`"),
        (
            "[[service]]\nname = \"counter\"\nconfig = { start = \"5\" }",
            "3: `service.config` cannot be used: invalid type: string \"5\", expected u64 in `start`",
        ),
        (
            "[[service]]\nname = \"counter\"\nconfig = { start = 5, stop = 6 }",
            "3: `service.config` cannot be used: unknown field `stop`, expected `start` or `step`",
        ),
        (
            "[[service]]\nkind = \"counter\"",
            "3: `service.name` is missing: the name under which the service is found",
        ),
        (
            "[[service]]\nname = \"counter\"\ninstances = 0",
            "5: `service.instances` is the integer 0; expected a whole number from 1",
        ),
        (
            "[[service]]\nname = \"counter\"\ninstance = 1",
            "5: there is no key `service.instance`; did you mean `service.instances`?",
        ),
        (
            "[[service]]\nname = \"x\"\n[[service]]\nname = \"x\"",
            "5: `service.name` is \"x\", as that of another service of this file",
        ),
    ] {
        let error = match folder.builder("a.toml", &file(services)) {
            Err(error) => error.to_string(),
            Ok(builder) => builder.kind("counter", make).start().await.unwrap_err().to_string(),
        };
        let path = folder.path("a.toml");
        let first = error.lines().next().unwrap_or_default();
        assert_eq!(first, format!("{}:{expected}", path.display()), "{error}");
    }
    let error = folder.start_error("a.toml", &file("[[service]]\nname = \"counter\"")).await;
    assert!(error.contains("this node knows no kinds: `.kind(..)` of its builder gives it some"), "{error}");
    let services = "[[service]]\nname = \"counter\"\nconfig = { start = 13 }";
    let builder = folder.builder("a.toml", &file(services)).unwrap().kind("counter", make);
    assert_eq!(builder.start().await.unwrap_err().to_string(), "`counter` refused to start");
}

#[tokio::test(start_paused = true)]
async fn a_manager_starts_a_service_of_a_kind_on_another_node() {
    let cluster = Cluster::start(2).await;
    cluster[1].kind("counter", make);
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    let start =
        |kind: &str, name: &str, config: &str| manager.start(kind.into(), name.into(), 1, config.into());
    start("counter", "mine", "start = 7").await.unwrap().unwrap();
    let counter = CounterHandle::lookup_on(&cluster[0], "n1", "mine").await.unwrap();
    assert_eq!(counter.add(1).await.unwrap(), 8);
    for (kind, name, config, expected) in [
        ("counter", "mine", "start = 7", "this node already has a service named \"mine\""),
        (
            "clock",
            "other",
            "",
            "`service.kind` is \"clock\", and there is no kind of that name; there are counter",
        ),
        ("counter", "other", "", "`service.config` cannot be used: missing field `start`"),
        ("counter", "other", "start = 13", "`other` refused to start: 13 is no beginning"),
    ] {
        assert_eq!(start(kind, name, config).await.unwrap(), Err(ManageError::Start(expected.to_owned())));
    }
    let error = start("counter", "other", "start =").await.unwrap().unwrap_err();
    assert!(matches!(error, ManageError::Start(_)), "{error}");
    assert!(manager.stop("mine".into()).await.unwrap());
}
