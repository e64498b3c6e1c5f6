//! Where people and their programs look at the node over HTTP: what its endpoints have in common.
//!
//! Invariant: it knows nothing of what is told there.

pub(in crate::node) mod server;
pub(in crate::node) mod token;

use crate::config::Secret;
use crate::node::builder::NodeBuilder;

impl NodeBuilder {
    /// What whoever asks the node's HTTP endpoints has to say, as `Authorization: Bearer TOKEN`: letters, digits and signs without spaces. With
    /// the feature `metrics`. Default: none.
    pub fn admin_token(mut self, token: Secret) -> Self {
        self.admin_token = Some(token);
        self
    }
}
