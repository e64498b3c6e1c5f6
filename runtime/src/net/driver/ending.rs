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
use crate::port::{Link, Over};
use crate::proto::connection::CloseReason;
use crate::proto::outgoing::Outgoing;
use crate::time;

/// How long a closing connection may take to write what is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a retired connection stays after its last request, for one that is still on the wire.
pub(super) const RETIREMENT: Duration = Duration::from_millis(500);

/// The same, as long as the peer may still use it because it does not know of the other one.
pub(super) const LATE_RETIREMENT: Duration = Duration::from_secs(5);

/// A connection that is to close.
pub(super) struct Closing {
    pub(super) reason: String,
    /// When it does so whatever is left to write, or to read.
    pub(super) deadline: Instant,
    /// Whether it does so as soon as all is written; else the peer does.
    pub(super) when_drained: bool,
}

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
        if let Some(link) = &self.link {
            link.closes_when_drained();
        }
        let deadline = now + LAST_WORDS;
        self.closing.get_or_insert(Closing { reason, deadline, when_drained: true });
        self.timer.as_mut().reset(deadline.into());
    }

    /// Another connection of its group has ended, and so does this one.
    pub(super) fn group_over(&mut self, now: Instant) {
        match self.link.as_ref().and_then(|link| link.why_over()) {
            // Without a goodbye: this node has not gone.
            Some(Over::Lost(reason)) => {
                self.connection
                    .handle_end(now, Some(format!("another connection to the peer ended: {reason}")));
            }
            Some(Over::Closed(reason)) => self.connection.close(now, &reason),
            // What the peer has said here before it went is read first.
            Some(Over::Goodbye(reason)) => {
                let deadline = now + LAST_WORDS;
                self.closing.get_or_insert(Closing { reason, deadline, when_drained: false });
                self.timer.as_mut().reset(deadline.into());
            }
            None => {}
        }
    }

    pub(super) fn closes_now(&mut self) -> bool {
        let (Some(closing), Some(link)) = (&self.closing, &self.link) else { return false };
        let now = time::now();
        let is_drained = || closing.when_drained && self.out.is_empty() && link.is_drained();
        if now < closing.deadline && !is_drained() {
            return false;
        }
        if closing.when_drained {
            self.connection.close(now, &closing.reason);
        } else {
            self.connection.handle_end(now, Some(closing.reason.clone()));
        }
        self.closing = None;
        true
    }

    /// Closes a connection whose place another one took, when nothing has been under way for a while: a request may
    /// still be on the wire. Who watches over it goes on doing so: the peer has not gone.
    pub(super) fn retire(&mut self, now: Instant) {
        let Some(retirement) = self.retirement.as_mut().filter(|retirement| now >= retirement.look_at) else {
            return;
        };
        let is_idle = self.link.as_ref().is_none_or(|link| link.is_family_unused());
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
            let over = match &reason {
                CloseReason::Goodbye(reason) => Over::Goodbye(reason.clone()),
                CloseReason::Closed(reason) => Over::Closed(reason.clone()),
                _ => Over::Lost(text.clone()),
            };
            self.close_link(link, &text, over, (!is_written).then_some(&self.out));
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
        self.surroundings.ends.count(&self.at.to_string(), &reason);
        let link = self.link.take().or_else(|| self.candidate.take());
        if self.is_extra {
            if link.is_some() {
                self.news(News::ExtraDown).await;
            }
            return;
        }
        let (dialled, address) = (self.dialled.clone(), self.at.to_string());
        self.news(News::Down { link, dialled, address, reason }).await;
    }

    /// Ends the link, and its group with it. When the last of that has ended, the instances here forget who watched them over
    /// it, and who watches from here is told: another connection may have brought what was said before.
    fn close_link(&self, link: &Arc<Link>, reason: &str, over: Over, unsent: Option<&Outgoing>) {
        link.close(reason, unsent);
        for link in link.end_group(over) {
            for watch in link.end_watches(reason) {
                let reason = watch.linked.map(|_| StopReason::NodeDown(reason.to_owned()));
                self.surroundings.inbox.unwatch(&link, watch, reason);
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for link in self.link.iter().chain(&self.candidate) {
            let reason = "the node was cut off";
            self.close_link(link, reason, Over::Lost(reason.to_owned()), Some(&self.out));
        }
    }
}
