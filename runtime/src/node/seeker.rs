//! Asks one discovery provider from time to time.
//!
//! Invariant: whatever the provider does, panic and silence included, concerns this task alone; and what it answers wrongly
//! changes nothing.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::discovery::{AskingNode, Discovery, DiscoveryError, DiscoveryFuture};
use crate::config::is_address;
use crate::node::reload::Chain;
use crate::service::dispatch::panic_message;
use crate::time;

/// How long a question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long taking back may take: a node that shuts down waits for it.
pub(crate) const WITHDRAWN_WITHIN: Duration = Duration::from_secs(2);

/// The shortest pause between two questions.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The most addresses that one provider may give. The first of them in their order count.
const MAX_ADDRESSES: usize = 4096;

/// What one provider's task is made of.
pub(super) struct Seeker {
    pub(super) node: Arc<AskingNode>,
    pub(super) provider: Arc<dyn Discovery>,
    /// How long to wait between two questions, unless the provider says otherwise.
    pub(super) usual: watch::Receiver<Duration>,
    /// Where the answers go.
    pub(super) report: Box<dyn Fn(BTreeSet<String>) + Send>,
    /// Cancelled when nobody wants to know any more.
    pub(super) end: CancellationToken,
}

impl Seeker {
    /// Runs until its end is wanted. Then what it has made known is taken back.
    pub(super) async fn run(mut self) {
        let mut said = [Said::new("announce"), Said::new("find"), Said::new("withdraw")];
        let end = self.end.clone();
        tokio::select! {
            biased;
            () = end.cancelled() => {}
            () = self.seek(&mut said) => {}
        }
        if self.node.address.is_some() {
            let withdrawn = ask(WITHDRAWN_WITHIN, || self.provider.withdraw(&self.node)).await;
            said[2].hear(&self, withdrawn);
        }
    }

    async fn seek(&mut self, [announced, found, _]: &mut [Said; 3]) {
        loop {
            if let Some(address) = self.node.address {
                let answer = ask(ANSWER_WITHIN, || self.provider.announce(&self.node, address)).await;
                announced.hear(self, answer);
            }
            let answer = ask(ANSWER_WITHIN, || self.provider.find(&self.node)).await.and_then(checked);
            if let Some(addresses) = found.hear(self, answer) {
                (self.report)(self.cut(addresses));
            }
            let usual = *self.usual.borrow_and_update();
            let pause = catch_unwind(AssertUnwindSafe(|| self.provider.pause(usual))).unwrap_or(usual);
            tokio::select! {
                () = time::sleep(pause.max(SHORTEST_PAUSE)) => {}
                () = changed(&mut self.usual) => {}
            }
        }
    }

    fn cut(&self, mut addresses: BTreeSet<String>) -> BTreeSet<String> {
        if let Some(first) = addresses.iter().nth(MAX_ADDRESSES).cloned() {
            drop(addresses.split_off(&first));
            tracing::warn!(node = %self.node.id, provider = ?self.provider, MAX_ADDRESSES, "more addresses than are used");
        }
        addresses
    }
}

/// What the log has been told of one kind of question.
struct Said {
    question: &'static str,
    error: Option<String>,
}

impl Said {
    fn new(question: &'static str) -> Self {
        Self { question, error: None }
    }

    /// Logs an error that is another one than the last, and that it is over. Gives the answer.
    fn hear<T>(&mut self, seeker: &Seeker, answer: Result<T, DiscoveryError>) -> Option<T> {
        let Seeker { node, provider, .. } = seeker;
        let (node, question) = (&node.id, self.question);
        match answer {
            Ok(answer) => {
                if self.error.take().is_some() {
                    tracing::info!(%node, ?provider, question, "discovery works again");
                }
                Some(answer)
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                if self.error.as_ref() != Some(&error) {
                    tracing::warn!(%node, ?provider, question, error, "discovery failed, and what was found counts on");
                    self.error = Some(error);
                }
                None
            }
        }
    }
}

/// The answer to one question, unless it takes too long. Cancel safe if the provider is.
async fn ask<'a, T: 'a>(
    limit: Duration,
    question: impl FnOnce() -> DiscoveryFuture<'a, T>,
) -> Result<T, DiscoveryError> {
    let asked = AssertUnwindSafe(async { question().await }).catch_unwind();
    match time::timeout(limit, asked).await {
        None => Err(DiscoveryError::TimedOut(limit)),
        Some(Err(panic)) => Err(DiscoveryError::Panicked(panic_message(&*panic))),
        Some(Ok(answer)) => answer,
    }
}

fn checked(addresses: Vec<String>) -> Result<BTreeSet<String>, DiscoveryError> {
    match addresses.iter().find(|address| !is_address(address, 1)) {
        Some(wrong) => Err(DiscoveryError::InvalidAddress(wrong.chars().take(80).collect())),
        None => Ok(addresses.into_iter().collect()),
    }
}

/// Ends when there is another value. Cancel safe.
async fn changed(usual: &mut watch::Receiver<Duration>) {
    if usual.changed().await.is_err() {
        std::future::pending::<()>().await; // nobody can change it any more
    }
}
