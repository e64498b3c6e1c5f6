//! Nodes that speak an older revision of the wire, for tests of clusters in which not all nodes are of one age.

use crate::node::builder::NodeBuilder;

/// Makes it a node that speaks the first revision of the wire, as those do that are older than credit, long messages in
/// pieces, and streams. All else of it is as it is now.
///
/// ```
/// use skyhold::prelude::*;
/// use skyhold::testing::first_revision;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let old = Node::builder("old").listen("127.0.0.1:0").secret(Secret::new("of these two nodes")?);
/// let old = first_revision(old).start().await?;
/// let new = Node::builder("new").seed(old.address().unwrap().to_string());
/// let new = new.secret(Secret::new("of these two nodes")?).start().await?;
/// # Ok(())
/// # }
/// ```
pub fn first_revision(builder: NodeBuilder) -> NodeBuilder {
    builder.features(0)
}
