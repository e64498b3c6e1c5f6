//! The wrapper around a task that measures its polls, and says for whom memory is allocated in them.
//!
//! Invariant: a poll that is not measured costs a few plain loads and stores.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::service::core::Core;
use crate::service::monitor::account::{Adds, PollSampler};

pin_project! {
    /// The task of an instance.
    pub(crate) struct Metered<F> {
        #[pin]
        task: F,
        core: Arc<Core>,
    }
}

/// Measures the task of an instance.
pub(crate) fn metered<F>(core: &Arc<Core>, task: F) -> Metered<F> {
    Metered { task, core: Arc::clone(core) }
}

impl<F: Future<Output = ()>> Future for Metered<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let _entered = this.core.enter();
        let Some(figures) = this.core.figures() else {
            let Some(measured) = this.core.begin_early_poll() else { return this.task.poll(cx) };
            let polled = this.task.poll(cx);
            this.core.end_early_poll(&measured);
            return polled;
        };
        let Some(measured) = figures.begin_poll(this.core) else {
            return this.task.poll(cx);
        };
        let polled = this.task.poll(cx);
        figures.end_poll(this.core, &measured);
        polled
    }
}

pin_project! {
    /// A child task, which runs beside its instance.
    pub(crate) struct MeteredChild<F> {
        #[pin]
        task: F,
        core: Arc<Core>,
        sampler: PollSampler,
    }
}

/// Measures a child task of an instance.
pub(crate) fn metered_child<F>(core: &Arc<Core>, task: F) -> MeteredChild<F> {
    let sampler = PollSampler::new(core.seed());
    MeteredChild { task, core: Arc::clone(core), sampler }
}

impl<F: Future<Output = ()>> Future for MeteredChild<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let _entered = this.core.enter();
        let Some(figures) = this.core.ensure_figures() else { return this.task.poll(cx) };
        let (account, clock) = (figures.children(), &*this.core.host().deadlines);
        account.count(Adds::Together);
        let measured = this.sampler.begin(clock);
        let polled = this.task.poll(cx);
        if let Some(measured) = measured {
            this.sampler.end(&measured, account, Adds::Together, clock, this.core.is_precise());
        }
        polled
    }
}
