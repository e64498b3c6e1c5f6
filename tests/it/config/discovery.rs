//! Discovery by a file that changes.

use skyhold::prelude::*;
use tokio::net::TcpListener;

use super::topology::{listening, reload};
use super::{Folder, open};
use crate::raw::{has_peers, soon};

fn at(node: &Node) -> String {
    node.address().unwrap().to_string()
}

#[tokio::test]
async fn every_way_to_find_peers_is_changed_by_a_reload() {
    let folder = Folder::new();
    let (b, c) = (listening("b").await, listening("c").await);
    let a = folder.start("a.toml", &open("a")).await;
    folder.write("peers", &format!("{} # b\n", at(&b)));

    let file = "[topology]\nfile = \"peers\"\nrefresh = \"8760h\"\n";
    let shown = folder.path("peers").display().to_string();
    assert_eq!(
        reload(&folder, &a, file).await,
        [
            format!("topology.file from nothing to {shown} (live)"),
            "topology.refresh from 10s to 31536000s (live)".to_owned()
        ]
    );
    has_peers(&a, 1).await;
    let by_name = format!("localhost:{}", c.address().unwrap().port());
    let both = format!("{file}dns = [\"{by_name}\"]\n");
    assert_eq!(reload(&folder, &a, &both).await, [format!("topology.dns from nothing to {by_name} (live)")]);
    has_peers(&a, 2).await;

    // None of it any more: the connections stand.
    assert_eq!(reload(&folder, &a, "").await.len(), 3);
    assert_eq!(a.peers().len(), 2);
    assert!(b.peers().contains(a.id()) && c.peers().contains(a.id()));
}

#[tokio::test]
async fn how_often_is_asked_is_changed_by_a_reload() {
    let folder = Folder::new();
    let b = listening("b").await;
    folder.write("peers", "");
    let never = "[topology]\nfile = \"peers\"\nrefresh = \"8760h\"\n";
    let a = folder.start("a.toml", &(open("a") + never)).await;
    reload(&folder, &a, &never.replace("8760h", "100ms")).await;
    folder.write("peers", &at(&b));
    has_peers(&a, 1).await;
}

#[tokio::test]
async fn a_reload_of_the_seeds_and_what_is_found_leave_each_other_alone() {
    let folder = Folder::new();
    // They close whatever comes, and so are dialled again and again.
    let [seed, found] =
        [TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await].map(Result::unwrap);
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let is_dialled = async |listener: &TcpListener| {
        for _ in 0..3 {
            drop(soon("a dial", listener.accept()).await.unwrap());
        }
    };
    folder.write("peers", &address(&found));
    let file = "[topology]\nfile = \"peers\"\nrefresh = \"100ms\"\n";
    let a = folder.start("a.toml", &(open("a") + file)).await;
    is_dialled(&found).await;
    reload(&folder, &a, &format!("{file}seeds = [\"{}\"]\n", address(&seed))).await;
    tokio::join!(is_dialled(&found), is_dialled(&seed));
    // Nor does what is found later.
    folder.write("peers", &format!("127.0.0.1:1\n{}", address(&found)));
    tokio::join!(is_dialled(&found), is_dialled(&seed));
    reload(&folder, &a, file).await;
    is_dialled(&found).await;
}
