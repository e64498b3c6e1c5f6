//! Watch and link against exit, from the side that watches.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;

use crate::event::StopReason;
use crate::id::{Address, InstanceId};
use crate::port::{WatchId, Watcher};
use crate::service::handle::Target;
use crate::service::inbox::Inbox;
use crate::service::message::Item;
use crate::service::models::{
    BOTH, CHANNEL, JarMessage, Notes, aside, in_every_order, live_again, living, living_with_mailbox,
};

const WATCH: WatchId = WatchId(1);

fn failure() -> StopReason {
    StopReason::Error("modelled".into())
}

/// How often the `#[on_down]` hook runs for what is in the inbox.
fn told(inbox: &mut Inbox<JarMessage>) -> usize {
    let core = Arc::clone(inbox.local().core());
    let mut told = 0;
    while let Some(Poll::Ready(_)) = poll_fn(|cx| Poll::Ready(inbox.poll_peek(cx))).now_or_never() {
        match inbox.pop().map(|parcel| *parcel) {
            Some(Item::Down(watch, _)) => told += usize::from(!core.has_forgotten(watch)),
            Some(Item::Envelope(_)) => {}
            None => break,
        }
    }
    told
}

#[test]
fn an_instance_is_told_once_of_the_end_of_what_it_watches() {
    for kind in BOTH {
        in_every_order(|| {
            let (watching, mut inbox) = living_with_mailbox(kind);
            let (target, _inbox) = living_with_mailbox(&CHANNEL);
            let end = aside(&target, |target| target.core().watchers().end(&StopReason::Normal));
            watching.core().watch(0, WATCH.0, &[Target::Local(target)]);
            end.join().unwrap();
            assert_eq!(told(&mut inbox), 1);
        });
    }
}

#[test]
fn a_watch_that_was_given_up_is_not_told_of() {
    in_every_order(|| {
        let (watching, mut inbox) = living_with_mailbox(&CHANNEL);
        let (target, _inbox) = living_with_mailbox(&CHANNEL);
        let end = aside(&target, |target| target.core().watchers().end(&StopReason::Normal));
        watching.core().watch(0, WATCH.0, &[Target::Local(target)]);
        watching.core().unwatch(WATCH);
        let early = told(&mut inbox);
        end.join().unwrap();
        assert_eq!(early + told(&mut inbox), 0);
    });
}

#[test]
fn the_end_of_the_watched_ends_the_life_that_is_linked_with_it_or_none() {
    in_every_order(|| {
        let (watching, _inbox) = living_with_mailbox(&CHANNEL);
        let (target, _other) = living_with_mailbox(&CHANNEL);
        watching.core().link(0, &[Target::Local(Arc::clone(&target))]);
        let end = aside(&target, |target| target.core().watchers().fire(&failure()));
        assert!(live_again(watching.core(), &StopReason::Normal));
        end.join().unwrap();
        assert!(!watching.core().is_stopping());
    });
}

#[test]
fn the_end_of_a_linker_ends_the_life_that_it_was_linked_with_or_none() {
    in_every_order(|| {
        let core = living();
        let linker = Address { instance: InstanceId(0), ..core.address().clone() };
        let watcher: Arc<dyn Watcher> = Arc::new(Notes::default());
        core.watchers().link(Arc::clone(&watcher), WATCH, &linker).unwrap();
        let end = aside(&core, move |core| core.linker_ended(&watcher, WATCH, &linker, &failure()));
        assert!(live_again(&core, &StopReason::Normal));
        end.join().unwrap();
        assert!(!core.is_stopping());
    });
}
