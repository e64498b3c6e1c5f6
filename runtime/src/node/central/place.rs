//! A node's part in the central configuration: where it is kept as far as this node was told, and what is known of it here.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config;
use crate::error::StartError;
use crate::id::NodeId;
use crate::service::host::Host;

use super::error::CentralError;
use super::etcd::Etcd;
use super::holder::Holder;
use super::known::Known;
use super::live::Watching;
use super::text::{self, Refusal};

/// Where the configuration is kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// This node was not told.
    Nowhere,
    /// Here.
    Here(Arc<Holder>),
    /// By another node.
    By(NodeId),
    InEtcd(Etcd),
}

/// A node's part in the central configuration.
#[derive(Debug)]
pub(crate) struct Central {
    pub(super) host: Arc<Host>,
    pub(super) kept: Kept,
    pub(super) limits: config::Central,
    /// What is known here. Written by the follower; on the holder, by the holder.
    pub(super) known: watch::Sender<Arc<Known>>,
    pub(super) watching: Watching,
}

impl Central {
    /// Opens what is kept here, if it is.
    ///
    /// # Errors
    /// The holder's file cannot be used.
    pub(crate) async fn open(
        host: &Arc<Host>,
        cluster: &str,
        limits: &config::Central,
    ) -> Result<Arc<Self>, StartError> {
        let kept = match &limits.path {
            _ if !limits.etcd.is_empty() => {
                Etcd::new(&limits.etcd, cluster).map_or(Kept::Nowhere, Kept::InEtcd)
            }
            _ if limits.holder.is_empty() => Kept::Nowhere,
            Some(file) if limits.holder == host.node.as_str() => {
                Kept::Here(Arc::new(open(Arc::clone(host), file.clone()).await?))
            }
            _ => Kept::By(NodeId::new(&limits.holder)?),
        };
        let known = match &kept {
            Kept::Here(holder) => holder.known(),
            Kept::Nowhere | Kept::By(_) | Kept::InEtcd(_) => Known::default(),
        };
        let (known, limits) = (watch::Sender::new(Arc::new(known)), limits.clone());
        Ok(Arc::new(Self { host: Arc::clone(host), kept, limits, known, watching: Watching::default() }))
    }

    /// Where it is kept, in words.
    pub(super) fn place(&self) -> String {
        match &self.kept {
            Kept::Nowhere => "nobody".to_owned(),
            Kept::Here(_) => format!("node {}", self.host.node),
            Kept::By(holder) => format!("node {holder}"),
            Kept::InEtcd(_) => "etcd".to_owned(),
        }
    }

    /// What is known here.
    ///
    /// # Errors
    /// [`CentralError::NoHolder`], [`CentralError::Unknown`].
    pub(super) fn known(&self) -> Result<Arc<Known>, CentralError> {
        let known = self.known.borrow().clone();
        if known.is_heard { Ok(known) } else { Err(self.unknown()) }
    }

    /// That nothing is known here.
    pub(super) fn unknown(&self) -> CentralError {
        match self.kept {
            Kept::Nowhere => CentralError::NoHolder(self.host.node.clone()),
            Kept::Here(_) | Kept::By(_) | Kept::InEtcd(_) => CentralError::Unknown(self.host.node.clone()),
        }
    }

    /// Whether all who watch the key here can use the value.
    pub(super) fn judge(&self, key: &str, text: &str) -> Result<(), CentralError> {
        let value = text::parse(key, text)?;
        for live in self.watching.now().iter().filter(|live| live.key() == key) {
            live.judge(value.clone()).map_err(|refusal| self.refused(key, refusal))?;
        }
        Ok(())
    }

    /// What this node refuses.
    pub(super) fn refused(&self, key: &str, Refusal { field, reason }: Refusal) -> CentralError {
        CentralError::Refused { node: self.host.node.clone(), key: key.to_owned(), field, reason }
    }
}

async fn open(host: Arc<Host>, file: PathBuf) -> Result<Holder, StartError> {
    let named = file.clone();
    let opened = tokio::task::spawn_blocking(move || Holder::open(host, file)).await;
    let opened = opened.unwrap_or_else(|error| Err(error.to_string()));
    opened.map_err(|problem| StartError::CentralConfig { file: named, problem })
}
