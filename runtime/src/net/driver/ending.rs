//! How a connection comes to its end: the last words, a place that another one took, and who is told.
//!
//! Invariant: whoever waits for the link is answered, also if the driver is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::AsyncWriteExt;

use super::Driver;
use crate::event::StopReason;
use crate::net::news::News;
use crate::port::Link;
use crate::proto::connection::CloseReason;
use crate::proto::outgoing::Outgoing;
use crate::time;

/// How long a closing connection may take to write what is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a retired connection stays after its last request, for one that is still on the wire.
pub(super) const RETIREMENT: Duration = Duration::from_millis(500);

/// The same, as long as the peer may still use it because it does not know of the other one.
pub(super) const LATE_RETIREMENT: Duration = Duration::from_secs(5);

/// How a connection whose place another one took comes to its end.
pub(super) struct Retirement {
    /// Between two looks at whether anything is under way. After two at which nothing was it closes.
    pub(super) pause: Duration,
    pub(super) look_at: Instant,
    pub(super) was_idle: bool,
}

impl Driver {
    /// Closes when all that waits was written, or after a while.
    pub(super) fn close(&mut self, now: Instant, reason: String) {
        if self.link.is_none() {
            return self.connection.close(now, &reason);
        }
        self.closing.get_or_insert((reason, now + LAST_WORDS));
        self.timer.as_mut().reset((now + LAST_WORDS).into());
    }

    pub(super) fn closes_now(&mut self) -> bool {
        let (Some((reason, deadline)), Some(link)) = (&self.closing, &self.link) else { return false };
        let now = time::now();
        if now < *deadline && !(self.out.is_empty() && link.is_drained()) {
            return false;
        }
        self.connection.close(now, reason);
        self.closing = None;
        true
    }

    /// Closes a connection whose place another one took, when nothing has been under way for a while: a request may
    /// still be on the wire. Who watches over it goes on doing so: the peer has not gone.
    pub(super) fn retire(&mut self, now: Instant) {
        let Some(retirement) = self.retirement.as_mut().filter(|retirement| now >= retirement.look_at) else {
            return;
        };
        let is_idle = self.link.as_ref().is_none_or(|link| link.is_unused());
        if is_idle && retirement.was_idle {
            return self.connection.close(now, "another connection took its place");
        }
        retirement.was_idle = is_idle;
        retirement.look_at = now + retirement.pause;
    }

    pub(super) async fn end(mut self, reason: CloseReason) {
        let text = reason.to_string();
        // What is under way is written to its end where the goodbye follows it, and counts as sent.
        let is_written = !matches!(reason, CloseReason::Ended(_) | CloseReason::Silent(_));
        for link in self.link.iter().chain(&self.candidate) {
            self.close_link(link, &text, (!is_written).then_some(&self.out));
        }
        self.fill_control();
        if is_written {
            let last_words = async {
                while self.out.has_remaining() {
                    self.writer.write_buf(&mut self.out).await?;
                }
                self.writer.shutdown().await
            };
            drop(time::timeout(LAST_WORDS, last_words).await); // nobody may be there to read them
        }
        self.surroundings.ends.count(&self.address, &reason);
        let link = self.link.take().or_else(|| self.candidate.take());
        let (dialled, address) = (self.dialled.clone(), self.address.clone());
        self.news(News::Down { link, dialled, address, reason }).await;
    }

    /// Ends the link, and lets the instances here forget who watched them over it.
    fn close_link(&self, link: &Arc<Link>, reason: &str, unsent: Option<&Outgoing>) {
        link.close(reason, unsent);
        for watch in link.end_watches(reason) {
            let reason = watch.linked.map(|_| StopReason::NodeDown(reason.to_owned()));
            self.surroundings.inbox.unwatch(link, watch, reason);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for link in self.link.iter().chain(&self.candidate) {
            self.close_link(link, "the node was cut off", Some(&self.out));
        }
    }
}
