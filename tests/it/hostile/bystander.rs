//! A node beside the peer that breaks the rules, which must not notice; and time that passes without anybody waiting.

use std::time::Duration;

use skyhold::prelude::*;

use super::TargetHandle;
use crate::raw::soon;

/// A peer that keeps the rules, and calls the same service.
pub(super) struct Bystander {
    _node: Node,
    target: TargetHandle,
}

impl Bystander {
    pub(super) async fn of(node: &Node) -> Self {
        let address = node.address().unwrap().to_string();
        let bystander =
            Node::builder("bystander").insecure_without_secret().seed(address).start().await.unwrap();
        let target = soon("the name", TargetHandle::lookup(&bystander, "target")).await.unwrap();
        Self { _node: bystander, target }
    }

    /// A call of it is answered.
    pub(super) async fn still_works(&self) {
        let answer = soon("an answer for the bystander", self.target.blob(1).into_future()).await;
        assert_eq!(answer, Ok(vec![0]));
    }
}

/// Lets time pass at once, for everybody in this process. What is on the sockets is not looked at meanwhile, so that it
/// is to be done in small steps, between which something is waited for.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
