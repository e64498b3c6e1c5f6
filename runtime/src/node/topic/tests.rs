//! What is left behind: nothing.

use super::*;
use crate::node::node::Node;

/// Lets the keepers do what they have to.
async fn settled(node: &Node, expected: (usize, usize)) {
    for _ in 0..1000 {
        if node.inner().topics.len() == expected {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{:?} instead of {expected:?}", node.inner().topics.len());
}
