//! What happens when the two sides of a connection do not mean the same, or a value does not survive the way.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own tasks")]

use std::future::IntoFuture;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{HandlerEnd, TraceEvent};

use crate::gate::Gate;

/// The service as it was.
mod before {
    use skyhold::prelude::*;

    pub(super) struct Ledger;

    #[service]
    impl Ledger {
        pub fn same(&self, number: u64) -> u64 {
            number
        }

        pub fn argument(&self, number: u64) -> u64 {
            number
        }

        pub fn reply(&self, number: u64) -> u64 {
            number
        }

        pub fn removed(&self) -> u64 {
            1
        }
    }
}

/// The service as it is: methods moved, added, removed and changed.
mod after {
    use skyhold::prelude::*;

    pub(super) struct Ledger;

    #[service]
    impl Ledger {
        pub fn added(&self) -> u64 {
            2
        }

        pub fn reply(&self, number: u64) -> i64 {
            i64::try_from(number).unwrap_or(-1)
        }

        pub fn argument(&self, number: u32) -> u64 {
            number.into()
        }

        pub async fn same(&mut self, renamed: u64) -> u64 {
            renamed
        }
    }
}

/// A service over any type.
#[derive(Default)]
struct Shelf<T>(Vec<T>);

#[service]
impl<T: Clone> Shelf<T> {
    pub fn put(&mut self, value: T) -> usize {
        self.0.push(value);
        self.0.len()
    }
}

/// A value that does not always survive the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brittle {
    Fine,
    RefusesToBeWritten,
    PanicsWhenWritten,
    RefusesToBeRead,
    PanicsWhenRead,
}

const KINDS: [Brittle; 5] = [
    Brittle::Fine,
    Brittle::RefusesToBeWritten,
    Brittle::PanicsWhenWritten,
    Brittle::RefusesToBeRead,
    Brittle::PanicsWhenRead,
];

impl Serialize for Brittle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::RefusesToBeWritten => Err(serde::ser::Error::custom("will not be written")),
            Self::PanicsWhenWritten => panic!("broke while it was written"),
            // The text makes sure that something was written before a later field fails.
            kind => ("some text", *kind as u8).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Brittle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (_, kind) = <(String, u8)>::deserialize(deserializer)?;
        match KINDS[usize::from(kind)] {
            Self::RefusesToBeRead => Err(serde::de::Error::custom("will not be read")),
            Self::PanicsWhenRead => panic!("broke while it was read"),
            kind => Ok(kind),
        }
    }
}

/// Takes and gives brittle values.
#[derive(Default)]
struct Porcelain {
    taken: u64,
}

#[service]
impl Porcelain {
    pub fn take(&mut self, before: String, value: Brittle) -> usize {
        self.taken += 1;
        before.len() + value as usize
    }

    pub fn give(&self, kind: u8) -> (String, Brittle) {
        ("before it".to_owned(), KINDS[usize::from(kind)])
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }
}

async fn porcelain() -> (Cluster, PorcelainHandle) {
    let cluster = Cluster::start(2).await;
    cluster[1].service("porcelain", Porcelain::default).start().await.unwrap();
    let remote = PorcelainHandle::lookup(&cluster[0], "porcelain").await.unwrap();
    (cluster, remote)
}

/// Shows that nothing but the one call was hurt.
async fn check_unhurt(cluster: &Cluster, remote: &PorcelainHandle, taken: u64) {
    assert_eq!(remote.taken().await, Ok(taken));
    assert_eq!(cluster[0].peers().len(), 1);
    assert_eq!(cluster[1].counters().instances_ended, 0);
}

fn is_incompatible<T: std::fmt::Debug>(result: Result<T, CallError>, expected: &str) {
    match result {
        Err(CallError::Incompatible(text)) => {
            assert!(text.as_str().contains(expected), "{text}, and {expected:?} was expected");
        }
        other => panic!("{other:?}, and an incompatible method was expected"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_method_is_incompatible_and_the_others_work() {
    let cluster = Cluster::start(2).await;
    cluster[1].service("ledger", || before::Ledger).start().await.unwrap();
    let remote = after::LedgerHandle::lookup(&cluster[0], "ledger").await.unwrap();
    is_incompatible(remote.argument(1).await, "another signature");
    is_incompatible(remote.reply(1).await, "another signature");
    is_incompatible(remote.added().await, "no such method");
    assert_eq!(remote.same(5).await, Ok(5), "a name, an order and a receiver are no part of a signature");
    assert!(!remote.added().await.unwrap_err().may_have_run());
}

#[tokio::test(start_paused = true)]
async fn a_removed_method_is_incompatible_and_the_others_work() {
    let cluster = Cluster::start(2).await;
    cluster[1].service("ledger", || after::Ledger).start().await.unwrap();
    let remote = before::LedgerHandle::lookup(&cluster[0], "ledger").await.unwrap();
    is_incompatible(remote.removed().await, "no such method");
    is_incompatible(remote.argument(1).await, "another signature");
    assert_eq!(remote.same(5).await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn where_versions_run_side_by_side_a_call_goes_to_those_that_understand_it() {
    let cluster = Cluster::start(3).await;
    cluster[1].service("ledger", || before::Ledger).start().await.unwrap();
    cluster[2].service("ledger", || after::Ledger).start().await.unwrap();
    let old = before::LedgerHandle::lookup(&cluster[0], "ledger").await.unwrap();
    let new = after::LedgerHandle::lookup(&cluster[0], "ledger").await.unwrap();
    let mut watch = new.watch_instances().unwrap();
    while watch.next().await.unwrap().instances.len() != 2 {}
    for balance in [Balance::LeastLoaded, Balance::RoundRobin, Balance::Random] {
        let (old, new) = (old.balance(balance), new.balance(balance));
        for _ in 0..20 {
            assert_eq!(old.removed().await, Ok(1));
            assert_eq!(new.added().await, Ok(2));
            assert_eq!(new.argument(3).await, Ok(3), "of two signatures its own");
            assert_eq!(new.same(4).await, Ok(4));
        }
    }
    // By its key a call meets all others of that key, or nobody.
    let homes: Vec<_> = (0..50).map(|key| new.key(&key)).collect();
    let mut added = Vec::new();
    for home in &homes {
        added.push(home.added().await);
    }
    let understood = added.iter().filter(|answer| answer.is_ok()).count();
    assert!((1..50).contains(&understood), "{understood}");
    is_incompatible(added.into_iter().find(Result::is_err).unwrap(), "no such method");

    // Nobody is left who understands it: whoever is there says so.
    cluster.kill(2).await;
    while watch.next().await.unwrap().instances.len() != 1 {}
    is_incompatible(new.added().await, "no such method");
}

#[tokio::test(start_paused = true)]
async fn a_generic_service_over_another_type_is_incompatible() {
    let cluster = Cluster::start(2).await;
    cluster[1].service("shelf", Shelf::<u64>::default).start().await.unwrap();
    let other = ShelfHandle::<String>::lookup(&cluster[0], "shelf").await.unwrap();
    is_incompatible(other.put("text".into()).await, "another signature");
    let same = ShelfHandle::<u64>::lookup(&cluster[0], "shelf").await.unwrap();
    assert_eq!(same.put(7).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_refuses_to_be_written_fails_at_its_sender() {
    let (cluster, remote) = porcelain().await;
    let error = remote.take("before it".into(), Brittle::RefusesToBeWritten).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Codec(text) if text.as_str().contains("will not be written")),
        "{error:?}"
    );
    assert!(!error.may_have_run());
    check_unhurt(&cluster, &remote, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_panics_when_written_hurts_its_caller_alone() {
    let (cluster, remote) = porcelain().await;
    let caller = remote.clone();
    let call = tokio::spawn(async move { caller.take("before it".into(), Brittle::PanicsWhenWritten).await });
    match call.await {
        // It is the caller's own code that panics, in the caller's own task.
        Err(join) => assert!(join.is_panic()),
        Ok(answer) => assert!(matches!(answer, Err(CallError::Codec(_))), "{answer:?}"),
    }
    check_unhurt(&cluster, &remote, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_cannot_be_read_fails_alone_and_did_not_run() {
    for (value, expected) in
        [(Brittle::RefusesToBeRead, "will not be read"), (Brittle::PanicsWhenRead, "broke while it was read")]
    {
        let (cluster, remote) = porcelain().await;
        let error = remote.take("before it".into(), value).await.unwrap_err();
        assert!(matches!(&error, CallError::Codec(text) if text.as_str().contains(expected)), "{error:?}");
        assert!(!error.may_have_run());
        assert_eq!(remote.take("before it".into(), Brittle::Fine).await, Ok(9));
        check_unhurt(&cluster, &remote, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_written_or_read_is_an_error_of_its_caller_alone() {
    for (kind, expected) in [
        (Brittle::RefusesToBeWritten, "will not be written"),
        (Brittle::PanicsWhenWritten, "panicked"),
        (Brittle::RefusesToBeRead, "will not be read"),
    ] {
        let (cluster, remote) = porcelain().await;
        let error = remote.give(kind as u8).await.unwrap_err();
        assert!(matches!(&error, CallError::BadReply(text) if text.as_str().contains(expected)), "{error:?}");
        assert!(error.may_have_run());
        assert_eq!(remote.give(0).await, Ok(("before it".to_owned(), Brittle::Fine)));
        check_unhurt(&cluster, &remote, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_panics_when_read_hurts_its_caller_alone() {
    let (cluster, remote) = porcelain().await;
    let caller = remote.clone();
    let call = tokio::spawn(async move { caller.give(Brittle::PanicsWhenRead as u8).await });
    match call.await {
        // It is the caller's own code that panics, in the caller's own task.
        Err(join) => assert!(join.is_panic()),
        Ok(answer) => assert!(matches!(answer, Err(CallError::BadReply(_))), "{answer:?}"),
    }
    check_unhurt(&cluster, &remote, 0).await;
}

/// Panics when it is dropped at its receiver.
#[derive(Serialize, Deserialize)]
struct Mine {
    #[serde(skip, default = "armed")]
    is_armed: bool,
}

fn armed() -> bool {
    true
}

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.is_armed, "boom in the drop of an argument");
    }
}

/// Takes one message ahead, and has room for another.
struct Field(Gate);

#[service(mailbox = 1, overflow = "drop_oldest")]
impl Field {
    pub async fn hold(&mut self) {
        self.0.pass().await;
    }

    pub fn lay(&mut self, mine: Mine) {
        std::mem::forget(mine);
    }

    pub fn ping(&self) {}
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_panics_when_it_is_dropped_unrun_does_not_hurt_its_connection() {
    let cluster = Cluster::start(2).await;
    let gate = Gate::new();
    let field = Field(gate.clone());
    let mut field = Some(field);
    cluster[1].service("field", move || field.take().unwrap()).start().await.unwrap();
    let remote = FieldHandle::lookup(&cluster[0], "field").await.unwrap();
    let mine = || Mine { is_armed: false };
    remote.hold().send().await.unwrap();
    gate.reached(1).await;
    // A send makes room for the next one; a call finds none behind a call.
    for _ in 0..3 {
        remote.lay(mine()).send().await.unwrap();
    }
    let waits = tokio::spawn(remote.ping().into_future());
    let refused = tokio::spawn(remote.lay(mine()).into_future());
    assert!(matches!(refused.await.unwrap(), Err(CallError::Overloaded(_))));
    assert_eq!(cluster[1].counters().displaced, 3);
    gate.open();
    assert_eq!(waits.await.unwrap(), Ok(()));
    assert_eq!(cluster[0].peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_panics_when_a_trace_shows_it_hurts_nobody() {
    let node = crate::gate::local_node().await;
    node.service("porcelain", Porcelain::default).start().await.unwrap();
    let here = PorcelainHandle::lookup(&node, "porcelain").await.unwrap();
    let mut trace = node.manager().trace("porcelain".into()).await.unwrap().unwrap();
    // Inside of the process nothing has to be written.
    assert_eq!(here.take("before it".into(), Brittle::PanicsWhenWritten).await, Ok(11));
    assert_eq!(here.give(2).await, Ok(("before it".to_owned(), Brittle::PanicsWhenWritten)));
    let mut shown = Vec::new();
    for _ in 0..4 {
        shown.push(match trace.next().await.unwrap().unwrap().event {
            TraceEvent::Begun { arguments, .. } => arguments,
            TraceEvent::Ended { how: HandlerEnd::Done, reply, .. } => reply,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(shown, [None, Some("11".to_owned()), Some("{\"kind\":2}".to_owned()), None]);
    assert_eq!(node.counters().instances_ended, 0);
}
