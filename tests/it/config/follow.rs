//! Files that are followed, and signals.

use std::time::Duration;

use skyhold::prelude::*;
use tracing::Level;

use super::Folder;
use crate::logged::Logged;
use crate::raw::soon;

fn file(timeout: u64) -> String {
    format!("[node]\nname = \"a\"\n[calls]\ntimeout = \"{timeout}s\"\n")
}

/// The version in force, as a plan without changes tells it; none if there are changes that were not taken.
async fn taken(node: &Node) -> Option<u64> {
    let plan = node.cluster().plan().await.ok()?;
    plan.changes.is_empty().then_some(plan.version)
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_followed_is_taken_when_two_looks_have_seen_the_same() {
    let folder = Folder::new();
    let node = folder.builder("a.toml", &file(1)).unwrap().reload_on_change().start().await.unwrap();
    let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
    wait(3).await;
    // Seen at 4 s and at 6 s.
    folder.write("a.toml", &file(2));
    wait(2).await;
    assert_eq!(taken(&node).await, None, "seen once");
    wait(2).await;
    assert_eq!(taken(&node).await, Some(2));

    // Somebody writes on and on: no two looks see the same.
    for timeout in 3..8 {
        folder.write("a.toml", &file(timeout));
        wait(2).await;
        assert_eq!(taken(&node).await, None);
    }
    wait(2).await;
    assert_eq!(taken(&node).await, Some(3));

    // Half a file stays without effect for as long as it is there, and the old one in force.
    folder.write("a.toml", "[node]\nname = \"a\"\n[calls]\ntimeou");
    wait(20).await;
    assert!(node.cluster().plan().await.is_err());
    folder.write("a.toml", &file(7));
    wait(5).await;
    assert_eq!(taken(&node).await, Some(3), "what was in force is there again");

    // Another file under the same name.
    folder.write("new.toml", &file(9));
    std::fs::rename(folder.path("new.toml"), folder.path("a.toml")).unwrap();
    wait(5).await;
    assert_eq!(taken(&node).await, Some(4));
    std::fs::remove_file(folder.path("a.toml")).unwrap();
    wait(5).await;
    folder.write("a.toml", &file(10));
    wait(5).await;
    assert_eq!(taken(&node).await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_used_is_logged_once() {
    let errors = Logged::new(|metadata| *metadata.level() == Level::ERROR);
    let _guard = tracing::subscriber::set_default(errors.clone());
    let folder = Folder::new();
    let node = folder.builder("a.toml", &file(1)).unwrap().reload_on_change().start().await.unwrap();
    for (round, content) in [(1, "[no"), (2, "[node]\nnam = 1")] {
        folder.write("a.toml", content);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(errors.count(), round);
    }
    folder.write("a.toml", &file(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(taken(&node).await, Some(1));
    assert_eq!(errors.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_content_of_a_secret_file_is_followed_too() {
    let folder = Folder::new();
    folder.write("cluster.key", super::SECRET);
    let file = file(1) + "[security]\nsecret_file = \"cluster.key\"\n";
    let node = folder.builder("a.toml", &file).unwrap().reload_on_change().start().await.unwrap();
    folder.write("cluster.key", "another secret of this test");
    assert_eq!(taken(&node).await, None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(taken(&node).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_not_followed_unless_it_is_to_be() {
    let folder = Folder::new();
    let node = folder.start("a.toml", &file(1)).await;
    folder.write("a.toml", &file(2));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(taken(&node).await, None);
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_reloads_and_does_not_end_the_node() {
    let folder = Folder::new();
    let node = folder.start("a.toml", &file(1)).await;
    let ran = node.clone();
    // It listens from here on, before it is polled.
    let running = node.run_until_signal();
    let signals = async {
        for round in 2..5 {
            folder.write("a.toml", &if round == 3 { "[half".to_owned() } else { file(round) });
            let pid = std::process::id().to_string();
            let status = tokio::process::Command::new("kill").args(["-HUP", &pid]).status().await;
            assert!(status.unwrap().success());
            while round != 3 && taken(&ran).await.is_none() {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(taken(&ran).await, Some(3));
        ran.shutdown().await.unwrap();
    };
    let (ended, ()) = soon("the end", async { tokio::join!(running, signals) }).await;
    ended.unwrap();
}
