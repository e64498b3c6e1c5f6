//! From a file to a node.

use skyhold::prelude::*;
use skyhold::{NodeBuilder, StartError};
use tokio::net::TcpListener;

use super::{Counter, CounterHandle, Folder, SECRET, open};
use crate::raw::has_peers;

#[tokio::test]
async fn two_nodes_that_are_started_from_files_meet() {
    let folder = Folder::new();
    folder.write("cluster.key", SECRET);
    let file = |name: &str, more: &str| {
        format!(
            "[node]\nname = \"{name}\"\ncluster = \"shop\"\nlisten = \"127.0.0.1:0\"\n\
             [security]\nsecret_file = \"cluster.key\"\n{more}"
        )
    };
    let a = Node::from_config(folder.write("a.toml", &file("a", ""))).await.unwrap();
    a.service("counter", Counter::default).start().await.unwrap();
    let by_name = format!("[topology.nodes]\na = \"{}\"", a.address().unwrap());
    let b = Node::from_config(folder.write("b.toml", &file("b", &by_name))).await.unwrap();
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    assert_eq!(counter.add(2).await, Ok(2));

    let seed = [
        ("SKYHOLD__NODE__NAME", "c".to_owned()),
        ("SKYHOLD__TOPOLOGY__SEEDS", a.address().unwrap().to_string()),
    ];
    let c = NodeBuilder::from_config_with(folder.path("a.toml"), seed).unwrap().start().await.unwrap();
    assert_eq!(c.id().as_str(), "c");
    has_peers(&c, 2).await;
}

#[tokio::test]
async fn nodes_that_have_certificates_by_their_files_meet() {
    let (folder, authority) = (Folder::new(), crate::security::Authority::new("a"));
    folder.write("ca.pem", &authority.pem());
    for name in ["a", "b"] {
        let (certificate, key) = authority.issue(&[name]);
        folder.write(&format!("{name}.pem"), &certificate);
        folder.write(&format!("{name}.key"), &key);
    }
    let file = |name: &str, more: &str| {
        format!(
            "[node]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\n{more}\n\
             [security]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\nauthorities = \"ca.pem\""
        )
    };
    let a = folder.start("a.toml", &file("a", "")).await;
    let seeds = format!("[topology]\nseeds = [\"{}\"]", a.address().unwrap());
    let b = folder.start("b.toml", &file("b", &seeds)).await;
    has_peers(&b, 1).await;

    let error = folder.builder("c.toml", &file("a", "").replace("name = \"a\"", "name = \"c\"")).unwrap_err();
    let path = folder.path("c.toml");
    let expected = format!(
        "{}:6: `security.certificate` cannot be used: the certificate is not for node c",
        path.display()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_bad_file_starts_nothing() {
    let folder = Folder::new();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let file = open("a").replace("127.0.0.1:0", &address) + "[calls]\ntimout = \"5s\"\n";
    let path = folder.write("a.toml", &file);
    let error = Node::from_config(&path).await.unwrap_err();
    assert!(matches!(error, StartError::Config(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "{}:7: there is no key `calls.timout`; did you mean `calls.timeout`?\n\
             7 | timout = \"5s\"\n  | ^^^^^^",
            path.display()
        )
    );
    TcpListener::bind(&address).await.expect("nobody listens");
}

#[tokio::test]
async fn what_a_file_names_and_is_not_there_is_named() {
    let folder = Folder::new();
    let error = Node::from_config(folder.path("none.toml")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot read the configuration file {}", folder.path("none.toml").display())
    );
    assert!(std::error::Error::source(&error).is_some());

    let named = "[node]\nname = \"a\"\n[security]\n";
    let error = folder.builder("a.toml", &format!("{named}secret_file = \"none\"")).unwrap_err();
    let (file, secret) = (folder.path("a.toml"), folder.path("none"));
    assert_eq!(
        error.to_string(),
        format!(
            "{}:4: `security.secret_file` cannot be used: cannot read the secret file {}: No such file or directory \
             (os error 2)\n4 | secret_file = \"none\"\n  |               ^^^^^^",
            file.display(),
            secret.display()
        )
    );
    folder.write("short", "short");
    let error = folder.builder("a.toml", &format!("{named}secret_file = \"short\"")).unwrap_err();
    assert!(error.to_string().contains("holds 5 bytes, at least 16 were expected"), "{error}");

    folder.write("n.pem", "");
    let certificates = "certificate = \"n.pem\"\nkey = \"n.pem\"\nauthorities = \"n.pem\"";
    let error = folder.builder("a.toml", &format!("{named}{certificates}")).unwrap_err();
    let expected = format!(
        "{}:4: `security.certificate` cannot be used: {} cannot be used: it holds no certificate in PEM",
        file.display(),
        folder.path("n.pem").display()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_node_that_listens_by_its_file_needs_a_secret() {
    let folder = Folder::new();
    let file = "[node]\nname = \"a\"\nlisten = \"127.0.0.1:0\"";
    let error = folder.builder("a.toml", file).unwrap().start().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: `security.secret_file` is missing, and node a listens or has a seed: a secret is needed or, with the \
             feature `tls`, certificates; with `insecure_without_secret = true` anybody who reaches its address is a peer",
            folder.path("a.toml").display()
        )
    );
    let secret = Secret::new(SECRET).unwrap();
    folder.builder("a.toml", file).unwrap().secret(secret).start().await.unwrap();
}

#[tokio::test]
async fn code_goes_before_the_file() {
    let folder = Folder::new();
    let builder = folder.builder("a.toml", &(open("a") + "[node.x]\n")).unwrap_err();
    assert!(builder.to_string().contains("there is no key `node.x`"), "{builder}");
    let builder = folder.builder("a.toml", &open("a")).unwrap();
    let node = builder.max_message(1).start().await.unwrap_err();
    assert_eq!(node.to_string(), "setting `max_message`: is 1 bytes; 65536 to 67108864 are possible");
}
