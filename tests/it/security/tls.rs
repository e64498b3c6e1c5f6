//! Certificates: who has which name, and what is refused, with both sides' words.

use std::sync::Arc;

use skyhold::prelude::*;
use skyhold::{NodeBuilder, StartError, Tls, TlsError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Authority, CounterHandle, calling, counting, secret};
use crate::raw::{Hello, Raw, has_peers, kind, refusal, soon};

#[tokio::test]
async fn nodes_of_one_authority_talk_in_private_and_know_each_other_by_certificate() {
    let authority = Authority::new("ours");
    let a = counting(|a| a.tls(authority.tls("a"))).await;
    let b = calling("b", &a, |b| b.tls(authority.tls("b"))).await;
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    assert_eq!(counter.add(3).await.unwrap(), 3);
    assert_eq!(b.peers(), [NodeId::new("a").unwrap()]);
}

#[tokio::test]
async fn long_messages_and_a_secret_besides_go_over_tls() {
    let authority = Authority::new("ours");
    let word = "the secret of this test";
    let a = counting(|a| a.tls(authority.tls("a")).secret(secret(word))).await;
    let b = calling("b", &a, |b| b.tls(authority.tls("b")).secret(secret(word))).await;
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    let text = "0123456789abcdef".repeat(300_000);
    for _ in 0..3 {
        let calls: Vec<_> = (0..4).map(|_| counter.echo(text.clone()).into_future()).collect();
        for reply in futures_util::future::join_all(calls).await {
            assert!(reply.unwrap() == text);
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let a = counting(|a| a.tls(ours.tls("a"))).await;
    let mut a_events = a.events();
    let b = calling("b", &a, |b| b.tls(theirs.tls("b"))).await;
    let mut b_events = b.events();
    // The dialler sees the acceptor's certificate first, and tells it.
    let told = refusal(&mut b_events).await;
    assert_eq!(told, "no secure connection: invalid peer certificate: UnknownIssuer");
    let told = refusal(&mut a_events).await;
    assert_eq!(told, "no secure connection: received fatal alert: UnknownCA");
    assert!(a.peers().is_empty() && b.peers().is_empty());
}

#[tokio::test]
async fn a_dialler_whose_certificate_is_not_accepted_hears_so() {
    // It believes the acceptor, whose authority does not know its own.
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let a = counting(|a| a.tls(ours.tls("a"))).await;
    let mut a_events = a.events();
    let (certificate, key) = theirs.issue(&["b"]);
    let b = calling("b", &a, |b| b.tls(Tls::from_pem(certificate, key, ours.pem()).unwrap())).await;
    let mut b_events = b.events();
    let told = refusal(&mut a_events).await;
    assert_eq!(told, "no secure connection: invalid peer certificate: UnknownIssuer");
    let told = refusal(&mut b_events).await;
    assert_eq!(told, "no secure connection: received fatal alert: UnknownCA");
}

#[tokio::test]
async fn nobody_takes_a_name_that_is_not_in_its_certificate() {
    // A node checks its own, so the impostor speaks by hand.
    let authority = Authority::new("ours");
    let a = counting(|a| a.tls(authority.tls("a"))).await;
    let mut events = a.events();
    let (certificate, key) = authority.issue(&["b", "bb"]);
    let mut impostor = connect(&a, &authority.pem(), &certificate, &key).await;
    let hello = Hello { node: "c".into(), ..Hello::default() };
    impostor.write(&hello.frame()).await;
    let challenge = impostor.expect(kind::CHALLENGE).await;
    impostor.write(&hello.proof(&challenge)).await;
    let text = r#"it is for DnsName("b"), DnsName("bb")"#;
    assert_eq!(impostor.expect(kind::REFUSE).await.refusal(), (10, text.to_owned()));
    assert_eq!(refusal(&mut events).await, format!("refused by this node: wrong certificate: {text}"));

    let mut honest = connect(&a, &authority.pem(), &certificate, &key).await;
    honest.greet(&Hello { node: "bb".into(), ..Hello::default() }).await;
    honest.is_served().await;
}

#[tokio::test]
async fn a_node_does_not_start_with_the_certificate_of_another() {
    let authority = Authority::new("ours");
    let start = |name: &'static str, tls: Tls| async move {
        match Node::builder(name).listen("127.0.0.1:0").tls(tls).start().await {
            Err(StartError::InvalidSetting { setting: "tls", problem }) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        start("b", authority.tls("a")).await,
        r#"the certificate is not for node b: it is for DnsName("a")"#
    );
    assert_eq!(
        start("A", authority.tls("a")).await,
        r#"the certificate is not for node A: "A" is not in lower case, or ends in a dot"#
    );
    assert_eq!(
        start("a/b", authority.tls("a")).await,
        r#"the certificate is not for node a/b: "a/b" is no host name"#
    );
}

#[tokio::test]
async fn with_tls_on_one_side_only_both_sides_say_what_is_wrong() {
    let authority = Authority::new("ours");
    let word = "the secret of this test";
    let a = counting(|a| a.tls(authority.tls("a")).secret(secret(word))).await;
    let mut a_events = a.events();
    let b = calling("b", &a, |b| b.secret(secret(word))).await;
    let mut b_events = b.events();
    let told = refusal(&mut a_events).await;
    assert!(told.starts_with("no secure connection: received corrupt message"), "{told}");
    let told = refusal(&mut b_events).await;
    assert!(told.contains("the peer speaks TLS, and this node does not"), "{told}");

    let a = counting(|a| a.secret(secret(word))).await;
    let mut a_events = a.events();
    let b = calling("b", &a, |b| b.tls(authority.tls("b")).secret(secret(word))).await;
    let mut b_events = b.events();
    let told = refusal(&mut a_events).await;
    assert!(told.contains("the peer speaks TLS, and this node does not"), "{told}");
    let told = refusal(&mut b_events).await;
    assert!(told.starts_with("no secure connection: received corrupt message"), "{told}");
}

#[tokio::test]
async fn who_is_silent_in_the_tls_handshake_is_closed_in_time() {
    let authority = Authority::new("ours");
    let limit = std::time::Duration::from_millis(200);
    let a = counting(|a| a.tls(authority.tls("a")).handshake_timeout(limit)).await;
    let mut events = a.events();
    let mut silent = Raw::connect(&a).await;
    assert_eq!(refusal(&mut events).await, "the handshake was not done in time");
    assert!(soon("the end", silent.rest()).await.is_empty());
}

#[test]
fn what_is_no_certificate_is_named() {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.issue(&["a"]);
    let (other, _) = authority.issue(&["a"]);
    let problem = |certificate: &str, key: &str, authorities: &str| {
        Tls::from_pem(certificate, key, authorities).unwrap_err().to_string()
    };
    let ours = authority.pem();
    assert_eq!(problem("", &key, &ours), "the certificate cannot be used: it holds no certificate in PEM");
    assert_eq!(problem(&certificate, "", &ours), "the key cannot be used: no items found");
    assert_eq!(
        problem(&certificate, &key, "what is this"),
        "the authorities cannot be used: it holds no certificate in PEM"
    );
    assert_eq!(
        problem(&other, &key, &ours),
        "the key cannot be used: keys may not be consistent: KeyMismatch"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, content) in [("a.pem", &certificate), ("a.key", &key), ("ca.pem", &ours)] {
        std::fs::write(path(name), content).unwrap();
    }
    assert!(Tls::from_pem_files(path("a.pem"), path("a.key"), path("ca.pem")).is_ok());
    let missing = Tls::from_pem_files(path("a.pem"), path("b.key"), path("ca.pem")).unwrap_err();
    assert!(
        matches!(&missing, TlsError::Unreadable { path: named, .. } if *named == path("b.key")),
        "{missing}"
    );
    let swapped = Tls::from_pem_files(path("a.key"), path("a.pem"), path("ca.pem")).unwrap_err();
    let text = format!("{} cannot be used: it holds no certificate in PEM", path("a.key").display());
    assert_eq!(swapped.to_string(), text);
}

#[tokio::test]
async fn a_node_without_a_certificate_is_refused_until_it_has_its_certificate() {
    let authority = Authority::new("ours");
    let a = counting(|a| a.tls(authority.tls("a"))).await;
    let b = calling("b", &a, NodeBuilder::insecure_without_secret).await;
    let mut events = b.events();
    refusal(&mut events).await;
    b.set_tls(authority.tls("b")).unwrap();
    has_peers(&b, 1).await; // it dials again by itself
}

/// A connection by hand to a node that speaks TLS: plain up to a helper, which wraps it.
async fn connect(to: &Node, authority: &str, certificate: &str, key: &str) -> Raw {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let (listener, address) = Raw::listener().await;
    let there = to.address().unwrap();
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.unwrap();
        let stream = TcpStream::connect(there).await.unwrap();
        // This one checks the acceptor's name as any client of TLS does.
        let name = ServerName::try_from("a").unwrap();
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut plain, &mut tls).await); // one of the two ends it
    });
    Raw::connect_to(address).await
}
