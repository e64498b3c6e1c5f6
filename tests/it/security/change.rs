//! Secrets and certificates that change while connections stand.

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::{Event, StartError, Tls, TlsError};

use super::{Authority, CounterHandle, calling, counting, secret};
use crate::raw::{Hello, Raw, has_peers, refusal};

const OLD: &str = "the old secret of this test";
const NEW: &str = "the new secret of this test";

#[tokio::test]
async fn a_cluster_changes_its_secret_and_keeps_its_connections() {
    let a = counting(|a| a.secret(secret(OLD))).await;
    let b = calling("b", &a, |b| b.secret(secret(OLD))).await;
    let (mut events, mut b_events) = (a.events(), b.events());
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    counter.add(1).await.unwrap();

    a.set_secret(secret(OLD).also_accept(&secret(NEW)));
    b.set_secret(secret(OLD).also_accept(&secret(NEW)));
    let later = calling("later", &a, |c| c.secret(secret(NEW).also_accept(&secret(OLD)))).await;
    has_peers(&later, 1).await;
    let earlier = calling("earlier", &a, |c| c.secret(secret(OLD))).await;
    has_peers(&earlier, 1).await;

    a.set_secret(secret(NEW));
    let late = calling("late", &a, |c| c.secret(secret(OLD))).await;
    assert_eq!(refusal(&mut late.events()).await, "refused by the peer, in its words: wrong secret");
    assert_eq!(refusal(&mut events).await, "refused by this node: wrong secret");
    counter.add(1).await.unwrap();
    assert_eq!(counter.total().await.unwrap(), 2);
    let reconnected = std::iter::from_fn(|| b_events.next().now_or_never().flatten());
    let lost = reconnected.filter(|event| matches!(event, Event::PeerDown { .. })).count();
    assert_eq!(lost, 0, "the connection stood all the time");
}

#[tokio::test]
async fn whoever_has_only_the_secret_that_is_accepted_besides_is_proven_to_as_well() {
    let a = counting(|a| a.secret(secret(OLD).also_accept(&secret(NEW)))).await;
    for word in [OLD, NEW] {
        // By hand: it checks the acceptor's own proof, under the secret that it has.
        let hello = Hello { secret: Some(word.into()), ..Hello::default() };
        let mut raw = Raw::join(&a, &hello).await;
        raw.is_served().await;
    }
}

#[tokio::test]
async fn a_cluster_changes_its_authority_and_keeps_its_connections() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = format!("{}{}", old.pem(), new.pem());
    let with = |authority: &Authority, name: &str, accepted: &str| {
        let (certificate, key) = authority.issue(&[name]);
        Tls::from_pem(certificate, key, accepted).unwrap()
    };
    let a = counting(|a| a.tls(old.tls("a"))).await;
    let b = calling("b", &a, |b| b.tls(old.tls("b"))).await;
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    counter.add(1).await.unwrap();

    a.set_tls(with(&old, "a", &both)).unwrap();
    let c = calling("c", &a, |c| c.tls(with(&new, "c", &both))).await;
    has_peers(&c, 1).await;
    a.set_tls(new.tls("a")).unwrap();
    let late = calling("late", &a, |late| late.tls(with(&old, "late", &both))).await;
    assert!(refusal(&mut late.events()).await.starts_with("no secure connection: "));

    counter.add(1).await.unwrap();
    assert_eq!(counter.total().await.unwrap(), 2);
}

#[tokio::test]
async fn a_certificate_of_another_node_changes_nothing() {
    let authority = Authority::new("ours");
    let a = counting(|a| a.tls(authority.tls("a"))).await;
    let error = a.set_tls(authority.tls("b")).unwrap_err();
    assert!(matches!(&error, TlsError::OtherNode { node, .. } if node.as_str() == "a"), "{error}");
    let b = calling("b", &a, |b| b.tls(authority.tls("b"))).await;
    has_peers(&b, 1).await;
}

#[tokio::test]
async fn a_node_with_neither_secret_nor_certificate_opens_no_socket_unless_it_says_so() {
    for builder in [Node::builder("a").listen("127.0.0.1:0"), Node::builder("a").seed("127.0.0.1:1")] {
        match builder.start().await {
            Err(StartError::InvalidSetting { setting: "secret", problem }) => {
                assert!(problem.contains("`.insecure_without_secret()`"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(Node::builder("a").start().await.is_ok());
    assert!(Node::builder("a").listen("127.0.0.1:0").insecure_without_secret().start().await.is_ok());
}
