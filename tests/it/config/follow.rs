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

/// Sends this process a SIGHUP. Who does so holds [`HANGUPS`].
#[cfg(unix)]
async fn hang_up() {
    let pid = std::process::id().to_string();
    let status = tokio::process::Command::new("kill").args(["-HUP", &pid]).status().await;
    assert!(status.unwrap().success());
}

/// A signal is for the whole process: one test at a time sends some.
#[cfg(unix)]
static HANGUPS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[cfg(unix)]
#[tokio::test]
async fn a_sighup_that_comes_during_a_reload_is_not_lost() {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use tokio::signal::unix::{SignalKind, signal};

    let _alone = HANGUPS.lock().await;
    let folder = Folder::new();
    let node = folder.start("a.toml", &file(1)).await;
    let ran = node.clone();
    let running = node.run_until_signal();
    let signals = async {
        let mut heard = signal(SignalKind::hangup()).unwrap();
        // A reload that reads a pipe stands still until somebody has written into it.
        let (pipe, next) = (folder.path("pipe"), folder.write("next", &file(3)));
        let made = tokio::process::Command::new("mkfifo").arg(&pipe).status().await;
        assert!(made.unwrap().success());
        std::fs::rename(&pipe, folder.path("a.toml")).unwrap();
        hang_up().await;
        heard.recv().await.unwrap();
        let mut pipe = loop {
            // It can be opened so when somebody reads it.
            let options = std::fs::OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(folder.path("a.toml"));
            match options {
                Ok(pipe) => break pipe,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        hang_up().await;
        heard.recv().await.unwrap();
        std::fs::rename(next, folder.path("a.toml")).unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await; // the node hears it too
        }
        pipe.write_all(file(2).as_bytes()).unwrap();
        drop(pipe);
        while taken(&ran).await != Some(3) {
            tokio::task::yield_now().await;
        }
        ran.shutdown().await.unwrap();
    };
    let (ended, ()) = soon("the end", async { tokio::join!(running, signals) }).await;
    ended.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_reloads_and_does_not_end_the_node() {
    let _alone = HANGUPS.lock().await;
    let folder = Folder::new();
    let node = folder.start("a.toml", &file(1)).await;
    let ran = node.clone();
    // It listens from here on, before it is polled.
    let running = node.run_until_signal();
    let signals = async {
        for round in 2..5 {
            folder.write("a.toml", &if round == 3 { "[half".to_owned() } else { file(round) });
            hang_up().await;
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
