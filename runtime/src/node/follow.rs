//! Follows a node's configuration file: reloads when it has another content.
//!
//! It looks at contents and not at times or names, so that it sees a change however the file was put there: written in place,
//! renamed, or behind a link that leads elsewhere now.

use std::sync::Arc;
use std::time::Duration;

use crate::node::cluster::reload;
use crate::node::configured::{Configured, Digest};
use crate::node::node::Inner;
use crate::node::reload::{ReloadError, log};
use crate::time;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks for ever, if there is a file.
pub(crate) async fn follow(inner: Arc<Inner>) {
    let Some(configured) = &inner.configured else { return };
    let mut last = configured.taken();
    let mut tried = last;
    loop {
        time::sleep(LOOK_EVERY).await;
        let Some(content) = look(&inner).await else { return };
        // Twice the same: nobody is writing it. What was tried is not tried again, nor said again.
        if content == last && content != tried && content != configured.taken() {
            tried = content;
            let reload = reload(&inner).await;
            if matches!(reload, Err(ReloadError::NodeStopped(_))) {
                return;
            }
            log(&inner.host.node, "the file has changed", &reload);
        }
        last = content;
    }
}

/// The content that there is now; `None` if the runtime ends.
async fn look(inner: &Arc<Inner>) -> Option<Digest> {
    let inner = Arc::clone(inner);
    let look = move || inner.configured.as_ref().map(Configured::look);
    tokio::task::spawn_blocking(look).await.ok()?
}
