//! Where the central configuration is kept, for a node that is about to start.

use std::path::Path;

use crate::node::builder::NodeBuilder;

impl NodeBuilder {
    /// The name of the node that holds the central configuration, as all nodes of the cluster should be told; that node needs
    /// [`NodeBuilder::config_path`]. Default: nobody. See [`CentralConfig`](crate::CentralConfig).
    pub fn config_holder(mut self, node: impl Into<String>) -> Self {
        self.settings.central.holder = node.into();
        self
    }

    /// The file in which the holder keeps the central configuration. Its folder has to be there; the file is made by the first write. Other
    /// nodes do not use it. Default: none.
    pub fn config_path(mut self, file: impl AsRef<Path>) -> Self {
        self.settings.central.path = Some(file.as_ref().to_owned());
        self
    }

    /// The endpoints of an etcd cluster that holds the central configuration in the place of a node, each as `host:port`. It speaks as
    /// [`Etcd`](crate::Etcd) does. Default: none.
    #[cfg(feature = "etcd")]
    pub fn config_etcd<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.settings.central.etcd = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// The largest value of the central configuration, in bytes of its text, at most half of [`NodeBuilder::max_message`]. It counts where the value is set, and
    /// on the holder. Default: 64 KiB.
    pub fn config_max_value(mut self, bytes: usize) -> Self {
        self.settings.central.max_value = bytes;
        self
    }

    /// How many keys the central configuration may have. It counts on the holder; with etcd, where a value is set. Default: 1024.
    pub fn config_max_keys(mut self, keys: usize) -> Self {
        self.settings.central.max_keys = keys;
        self
    }

    /// How many bytes the values of the central configuration may have together, with their keys and their history. It counts as
    /// [`NodeBuilder::config_max_keys`] does. Default: 4 MiB.
    pub fn config_max_total(mut self, bytes: usize) -> Self {
        self.settings.central.max_total = bytes;
        self
    }

    /// How many versions of each key are kept, with the present one. It counts as [`NodeBuilder::config_max_keys`] does. Default: 16.
    pub fn config_history(mut self, versions: usize) -> Self {
        self.settings.central.history = versions;
        self
    }
}
