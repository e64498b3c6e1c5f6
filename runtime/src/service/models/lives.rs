//! Orders against lives: restart against calls to end, and the handshake with the task that they wake.

use std::future::{pending, poll_fn};
use std::task::Poll;

use loom::future::block_on;
use tokio::sync::oneshot;

use crate::event::StopReason;
use crate::service::core::{Core, Order};
use crate::service::instance::{UntilKilled, Word, wait_for_word};
use crate::service::life;
use crate::service::models::{
    aside, in_every_order, in_orders_with_three_interruptions, live_again, living, supervised,
};

const LIFE: StopReason = StopReason::Killed;

fn failure() -> StopReason {
    StopReason::Error("modelled".into())
}

/// Lives until it is told to end; `None` if it was killed.
fn live(core: &Core) -> Option<()> {
    let told = || if core.is_stopping() || core.is_draining() { Poll::Ready(()) } else { Poll::Pending };
    block_on(UntilKilled::new(core, poll_fn(|_| told())))
}

#[test]
fn what_finishes_one_life_never_reaches_the_next() {
    in_every_order(|| {
        let core = living();
        let finish = aside(&core, |core| core.finish_life(0));
        assert!(live_again(&core, &LIFE));
        assert!(!core.is_stopping());
        finish.join().unwrap();
        assert!(!core.is_stopping());
    });
}

#[test]
fn what_fails_one_life_never_reaches_the_next() {
    in_every_order(|| {
        let core = living();
        let fail = aside(&core, |core| core.fail(0, failure()));
        assert!(live_again(&core, &LIFE));
        fail.join().unwrap();
        assert!(!core.is_stopping());
        assert_eq!(core.stop_reason(), StopReason::Normal);
        assert!(core.watchers().is_unused(), "nor is the next life said to have failed");
    });
}

#[test]
fn what_ends_a_life_is_given_to_it_or_refused_as_over() {
    for ends in [|core: &Core| core.fail(0, failure()), |core: &Core| core.finish_life(0)] {
        in_every_order(move || {
            let core = living();
            let end = aside(&core, move |core| ends(core));
            let seen = core.is_stopping();
            let reason = core.stop_reason();
            core.end_life();
            let given = core.is_stopping();
            end.join().unwrap();
            assert!(given || !seen);
            assert!(given || reason == StopReason::Normal);
            assert_eq!(core.is_stopping(), given, "what was refused stays refused");
        });
    }
}

#[test]
fn of_two_failures_one_is_the_reason_and_it_stays_the_reason() {
    in_every_order(|| {
        let core = living();
        let fail = aside(&core, |core| core.fail(0, failure()));
        let other = aside(&core, |core| core.fail(0, StopReason::Gone));
        let seen = core.is_stopping();
        let reason = core.stop_reason();
        assert!(!seen || reason != StopReason::Normal);
        fail.join().unwrap();
        other.join().unwrap();
        assert!(core.stop_reason() == failure() || core.stop_reason() == StopReason::Gone);
        assert!(core.stop_reason() == reason || reason == StopReason::Normal);
        assert!(live_again(&core, &LIFE));
        assert!(!core.is_stopping());
    });
}

#[test]
fn an_order_to_end_for_good_is_never_lost() {
    for order in [Order::Stop, Order::Drain] {
        in_every_order(move || {
            let core = living();
            let give = aside(&core, move |core| core.order(order));
            if live_again(&core, &LIFE) {
                live(&core);
            }
            assert!(core.is_final());
            give.join().unwrap();
            assert!(core.is_final());
            assert!(!live_again(&core, &LIFE));
        });
    }
}

#[test]
fn an_order_to_end_for_good_is_not_lost_among_others() {
    in_every_order(|| {
        let core = living();
        let finish = aside(&core, |core| core.finish_life(0));
        let stop = aside(&core, |core| core.order(Order::Stop));
        core.end_life();
        core.renew();
        finish.join().unwrap();
        stop.join().unwrap();
        assert!(core.is_final());
        assert!(!core.begin_life());
    });
}

#[test]
fn what_the_supervisor_orders_after_the_word_is_for_the_new_life() {
    in_every_order(|| {
        let core = supervised();
        core.order(Order::Rest); // for a life that is over
        let (next, hears) = oneshot::channel();
        let supervise = aside(&core, |core| {
            core.renew();
            next.send(()).unwrap();
            core.order(Order::Rest);
        });
        if block_on(hears).is_ok() {
            assert!(core.begin_life());
            live(&core);
        }
        supervise.join().unwrap();
        assert_eq!(core.stop_reason(), StopReason::Shutdown);
    });
}

#[test]
fn a_kill_reaches_a_life_that_waits_for_nothing_else() {
    in_every_order(|| {
        let core = living();
        let kill = aside(&core, |core| core.order(Order::Kill));
        assert_eq!(block_on(UntilKilled::new(&core, pending::<()>())), None);
        kill.join().unwrap();
    });
}

#[test]
fn an_order_between_the_look_and_the_sleep_is_not_missed() {
    let orders: [fn(&Core); 6] = [
        |core| core.finish_life(0),
        |core| core.fail(0, failure()),
        |core| core.order(Order::Rest),
        |core| core.order(Order::Drain),
        |core| core.order(Order::Stop),
        |core| core.order(Order::Kill),
    ];
    for order in orders {
        in_every_order(move || {
            let core = living();
            let give = aside(&core, move |core| order(core));
            live(&core);
            give.join().unwrap();
        });
    }
}

#[test]
fn who_waits_for_the_word_learns_that_none_will_come() {
    in_every_order(|| {
        let core = supervised();
        let (word, next) = oneshot::channel();
        let (waits, _ends) = oneshot::channel();
        let stop = aside(&core, |core| core.order(Order::Stop));
        assert!(block_on(wait_for_word(&core, Word { next, waits })).is_none());
        stop.join().unwrap();
        drop(word);
    });
}

#[test]
fn a_word_and_an_order_to_end_for_good_at_once_end_it_for_good() {
    in_orders_with_three_interruptions(|| {
        let core = supervised();
        let (word, next) = oneshot::channel();
        let (waits, _ends) = oneshot::channel();
        let stop = aside(&core, |core| core.order(Order::Stop));
        let supervise = aside(&core, |core| {
            core.renew();
            drop(word.send(life::life().0)); // it may have gone for good
        });
        let heard = block_on(wait_for_word(&core, Word { next, waits }));
        if heard.is_some() && core.begin_life() {
            live(&core);
        }
        assert!(core.is_final());
        stop.join().unwrap();
        supervise.join().unwrap();
        assert!(core.is_final());
    });
}

#[test]
fn what_hangs_on_a_life_ends_with_it() {
    in_every_order(|| {
        let core = living();
        let hang = aside(&core, |core| core.life(0));
        assert!(live_again(&core, &LIFE));
        assert!(!core.life(1).is_cancelled());
        assert!(hang.join().unwrap().is_cancelled());
        assert!(!core.life(1).is_cancelled());
    });
}
