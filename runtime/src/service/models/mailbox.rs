//! Mailbox close against send, for what is not tokio's channel: what stands beside the queue, and the ring.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use tokio::sync::oneshot;

use crate::error::CallError;
use crate::event::{Down, StopReason};
use crate::port::WatchId;
use crate::service::core::Order;
use crate::service::inbox::Inbox;
use crate::service::instance::UntilKilled;
use crate::service::mailbox::{Local, Refused};
use crate::service::message::{Envelope, Item, Meta, Parcel};
use crate::service::models::{
    BOTH, CHANNEL, JarMessage, RING, aside, in_every_order, in_orders_with_three_interruptions,
    living_with_mailbox,
};
use crate::service::reply::Reply;

/// Hears whether a message was answered without a handler.
type Ear = oneshot::Receiver<Result<u32, CallError>>;

/// A message that may be displaced.
fn message() -> (Envelope<JarMessage>, Ear) {
    let (sender, ear) = oneshot::channel();
    (Envelope { message: JarMessage::Get { reply: Reply::local(sender) }, meta: Meta::default() }, ear)
}

/// How many were answered.
fn answered(ears: impl IntoIterator<Item = Ear>) -> usize {
    ears.into_iter().filter_map(|mut ear| ear.try_recv().ok()).filter(Result::is_err).count()
}

fn down(local: &Local<JarMessage>) -> Down {
    Down { address: local.address().clone(), reason: StopReason::Normal }
}

/// Waits for what is next, as the instance's task does; `None` when the instance is to stop.
fn next(inbox: &mut Inbox<JarMessage>) -> Option<Parcel<JarMessage>> {
    let core = Arc::clone(inbox.local().core());
    block_on(UntilKilled::new(&core, poll_fn(|cx| inbox.poll_peek(cx))));
    inbox.pop()
}

#[test]
fn a_reentrant_call_is_taken_or_refused_or_answered_at_the_close() {
    in_every_order(|| {
        let (local, mut inbox) = living_with_mailbox(&CHANNEL);
        let push = |local: &Arc<Local<_>>| {
            let (envelope, ear) = message();
            (local.push_reentrant(envelope), ear)
        };
        let (one, other) = (aside(&local, push), aside(&local, push));
        let taken = inbox.pop_reentrant();
        inbox.close_abruptly();
        let (one, other) = (one.join().unwrap(), other.join().unwrap());
        let refused = [&one.0, &other.0].into_iter().filter(|pushed| pushed.is_err()).count();
        assert_eq!(usize::from(taken.is_some()) + refused + answered([one.1, other.1]), 2);
        assert!(local.pop_reentrant().is_none(), "nothing got in after the close");
    });
}

#[test]
fn a_reentrant_call_wakes_the_instance() {
    in_orders_with_three_interruptions(|| {
        let (local, mut inbox) = living_with_mailbox(&CHANNEL);
        let push = |local: &Arc<Local<_>>| assert!(local.push_reentrant(message().0).is_ok());
        let (one, other) = (aside(&local, push), aside(&local, push));
        assert!(next(&mut inbox).is_some());
        assert!(next(&mut inbox).is_some());
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn an_end_that_finds_no_room_reaches_the_instance_after_the_messages_before_it() {
    for kind in BOTH {
        in_every_order(|| {
            let (local, mut inbox) = living_with_mailbox(kind);
            let (first, _ear) = message();
            let push = aside(&local, |local| {
                assert!(local.try_send(first).is_ok());
                local.push_down(WatchId(1), down(local));
            });
            assert!(matches!(*next(&mut inbox).unwrap(), Item::Envelope(_)));
            assert!(matches!(*next(&mut inbox).unwrap(), Item::Down(WatchId(1), _)));
            push.join().unwrap();
        });
    }
}

#[test]
fn of_two_ends_that_find_no_room_none_is_missed() {
    in_orders_with_three_interruptions(|| {
        let (local, _inbox) = living_with_mailbox(&CHANNEL);
        assert!(local.try_send(message().0).is_ok());
        let one = aside(&local, |local| local.push_down(WatchId(1), down(local)));
        let other = aside(&local, |local| local.push_down(WatchId(2), down(local)));
        let mut taken = Vec::new();
        let take = poll_fn(|_| {
            if local.has_downs() {
                taken.extend(local.take_downs());
            }
            if taken.len() == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        block_on(UntilKilled::new(local.core(), take));
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn no_end_stays_beside_a_queue_that_is_closed() {
    for kind in BOTH {
        in_every_order(|| {
            let (local, mut inbox) = living_with_mailbox(kind);
            assert!(local.try_send(message().0).is_ok());
            let push = aside(&local, |local| local.push_down(WatchId(1), down(local)));
            inbox.close_abruptly();
            push.join().unwrap();
            assert!(local.take_downs().is_empty());
        });
    }
}

#[test]
fn a_message_for_a_ring_is_taken_or_refused_or_answered_when_displaced_or_at_the_close() {
    in_orders_with_three_interruptions(|| {
        let (local, mut inbox) = living_with_mailbox(&RING);
        let push = |local: &Arc<Local<_>>| {
            let (envelope, ear) = message();
            (local.try_send(envelope), ear)
        };
        let (one, other) = (aside(&local, push), aside(&local, push));
        let taken = next(&mut inbox);
        inbox.close_abruptly();
        let (one, other) = (one.join().unwrap(), other.join().unwrap());
        let refused = [&one.0, &other.0].into_iter().filter(|pushed| pushed.is_err()).count();
        assert_eq!(usize::from(taken.is_some()) + refused + answered([one.1, other.1]), 2);
    });
}

#[test]
fn a_message_that_meets_a_drain_is_run_or_refused() {
    in_orders_with_three_interruptions(|| {
        let (local, mut inbox) = living_with_mailbox(&RING);
        let (envelope, ear) = message();
        let push = aside(&local, |local| local.try_send(envelope));
        let drain = aside(&local, |local| local.core().order(Order::Drain));
        let taken = next(&mut inbox);
        if taken.is_some() {
            assert!(next(&mut inbox).is_none());
        }
        inbox.close_abruptly();
        let pushed = push.join().unwrap();
        drain.join().unwrap();
        assert_eq!(taken.is_some(), pushed.is_ok());
        assert!(matches!(pushed, Ok(()) | Err(Refused::Closed(_))));
        assert_eq!(answered([ear]), 0, "what got in before the drain is run");
    });
}
