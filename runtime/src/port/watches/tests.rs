//! Two links, each the other's peer, with the frames carried between them by hand.

use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::config::Limits;
use crate::id::MethodId;
use crate::port::Head;
use crate::proto::flow::Amount;
use crate::proto::frame::{Window, parse};

use super::*;

const LIMIT: usize = 1 << 20;
const INSTANCE: InstanceId = InstanceId(7);

/// Both ends of a connection: `here` watches, `there` is watched.
struct Pair {
    here: Arc<Link>,
    there: Arc<Link>,
}

impl Pair {
    fn new() -> Self {
        Self { here: Link::to("there"), there: Link::to("here") }
    }

    /// Carries what `here` has said to `there`, which takes it in as a driver does.
    fn forth(&self) -> Vec<Frame> {
        carry(&self.here, &self.there)
    }

    /// The other way.
    fn back(&self) -> Vec<Frame> {
        carry(&self.there, &self.here)
    }
}

fn carry(from: &Link, to: &Link) -> Vec<Frame> {
    let mut bytes = from.taken();
    let mut frames = vec![];
    while let Some(frame) = parse(&mut bytes, LIMIT).unwrap() {
        match &frame {
            Frame::Watch(watch) => assert_eq!(to.begin_watch(*watch), Insert::New),
            Frame::Unwatch { id, .. } => drop(to.end_watch(*id)),
            Frame::Down { id, reason } => to.watched_ended(*id, reason.clone()),
            _ => {}
        }
        frames.push(frame);
    }
    frames
}

/// Notes what it is told.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(u64, StopReason)>>);

impl Watcher for Notes {
    fn down(&self, watch: WatchId, reason: StopReason) {
        self.0.lock().unwrap().push((watch.0, reason));
    }
}

impl Notes {
    fn taken(&self) -> Vec<(u64, StopReason)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn watch(self: &Arc<Self>, link: &Link, id: u64) -> Result<u64, Refused> {
        link.watch(INSTANCE, None, Arc::clone(self) as Arc<dyn Watcher>, WatchId(id), 1)
    }
}

fn say(link: &Link, text: &[u8]) {
    let method = MethodId { name: 1, signature: 2 };
    let (instance, remaining, chain) = (INSTANCE, None, vec![]);
    let head = Head {
        instance,
        method,
        remaining,
        chain,
        is_ahead: false,
        is_impatient: false,
        trace: None,
        order: 1,
        is_likely_long: false,
    };
    link.request(head, None, &|out| out.put_bytes(text), None).unwrap();
}

/// As much as it takes at once.
const MUCH: Window = Window { instance: Amount { messages: u64::MAX, bytes: u64::MAX }, pieces: u64::MAX };

#[test]
fn a_watcher_is_told_once_why_the_instance_ended() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let number = notes.watch(&pair.here, 42).unwrap();
    let watch = Watch { id: number, instance: INSTANCE, linked: None };
    assert_eq!(pair.forth(), [Frame::Watch(watch)]);
    for _ in 0..2 {
        pair.there.down(number, StopReason::Killed);
    }
    assert_eq!(pair.back().len(), 1);
    pair.here.watched_ended(number, StopReason::Normal); // a peer that says it twice
    assert_eq!(notes.taken(), [(42, StopReason::Killed)]);
    assert!(!pair.here.has_watches() && !pair.there.has_watches());
}

#[test]
fn a_down_comes_after_all_that_was_said_before() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    say(&pair.here, b"before");
    let number = notes.watch(&pair.here, 1).unwrap();
    let said = pair.forth();
    assert!(matches!(said[..], [Frame::Request(_), Frame::Watch(_)]), "{said:?}");
    say(&pair.there, b"one");
    say(&pair.there, b"two");
    pair.there.down(number, StopReason::Normal);
    say(&pair.there, b"of another instance");
    let said = pair.back();
    let ordered =
        matches!(said[..], [Frame::Request(_), Frame::Request(_), Frame::Down { .. }, Frame::Request(_)]);
    assert!(ordered, "{said:?}");
}

#[test]
fn a_watch_goes_although_the_buffer_is_full() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    pair.here.set_window(MUCH);
    while !pair.here.state().is_full(&Limits::default()) {
        say(&pair.here, &[0; 10_000]);
    }
    let number = notes.watch(&pair.here, 1).unwrap();
    assert!(pair.here.unwatch(number, None));
    let mut said = vec![];
    while !pair.here.is_drained() {
        said.extend(pair.forth());
    }
    assert!(said.len() > 100, "they waited in a queue");
    assert!(matches!(said[..], [.., Frame::Watch(_), Frame::Unwatch { .. }]), "both went, in this order");
}

#[test]
fn an_unwatch_that_crosses_the_down_leaves_no_late_message() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let number = notes.watch(&pair.here, 1).unwrap();
    pair.forth();
    pair.there.down(number, StopReason::Normal);
    assert!(pair.here.unwatch(number, None));
    assert_eq!(pair.back().len(), 1, "it is on its way");
    assert_eq!(notes.taken(), []);
    assert_eq!(pair.forth(), [Frame::Unwatch { id: number, reason: None }]);
    assert_eq!(Arc::strong_count(&notes), 1, "the watcher is let go");
}

#[test]
fn an_unwatch_after_the_down_says_so_and_is_not_sent() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let number = notes.watch(&pair.here, 1).unwrap();
    pair.forth();
    pair.there.down(number, StopReason::Normal);
    pair.back();
    assert!(!pair.here.unwatch(number, None));
    assert_eq!(pair.forth(), []);
}

#[test]
fn who_is_not_watched_any_more_says_nothing() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let number = notes.watch(&pair.here, 1).unwrap();
    pair.here.unwatch(number, None);
    pair.forth();
    pair.there.down(number, StopReason::Normal);
    assert_eq!(pair.back(), []);
}

#[test]
fn the_end_of_a_linked_watcher_goes_to_the_other_with_its_reason() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let linked = Some(InstanceId(9));
    let number = pair.here.watch(INSTANCE, linked, notes, WatchId(1), 1).unwrap();
    let watch = Watch { id: number, instance: INSTANCE, linked };
    assert_eq!(pair.forth(), [Frame::Watch(watch)]);
    let reason = StopReason::Panicked("why".to_owned());
    pair.here.unwatch(number, Some(reason.clone()));
    let mut bytes = pair.here.taken();
    assert_eq!(parse(&mut bytes, LIMIT), Ok(Some(Frame::Unwatch { id: number, reason: Some(reason) })));
    assert_eq!(pair.there.end_watch(number), Some(watch), "the instance and the one linked with it");
}

#[test]
fn the_end_of_a_connection_tells_every_watcher_once_and_frees_what_the_peer_watched() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let numbers: Vec<_> = (1..=3).map(|id| notes.watch(&pair.here, id).unwrap()).collect();
    pair.forth();
    pair.there.down(numbers[1], StopReason::Normal);
    pair.back();
    assert_eq!(notes.taken(), [(2, StopReason::Normal)]);
    for link in [&pair.here, &pair.there] {
        link.close("the cable", None);
    }
    assert_eq!(pair.here.end_watches("the cable").count(), 0);
    let down = |id| (id, StopReason::NodeDown("the cable".to_owned()));
    assert_eq!(notes.taken(), [down(1), down(3)]);
    let freed: Vec<_> = pair.there.end_watches("the cable").map(|watch| watch.id).collect();
    assert_eq!(freed, [numbers[0], numbers[2]]);

    pair.here.watched_ended(numbers[0], StopReason::Normal);
    assert_eq!(pair.here.end_watches("again").count(), 0);
    assert!(matches!(notes.watch(&pair.here, 4), Err(Refused::Closed)));
    pair.there.down(numbers[0], StopReason::Normal);
    assert_eq!(pair.back(), []);
    assert_eq!(notes.taken(), [], "each was told once");
}

#[test]
fn watches_are_bounded_on_both_sides() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let numbers: Vec<_> = (1..=65_536).map(|id| notes.watch(&pair.here, id).unwrap()).collect();
    assert!(matches!(notes.watch(&pair.here, 0), Err(Refused::Full)));
    let mut count = 0;
    while !pair.here.is_drained() {
        count += pair.forth().len();
    }
    assert_eq!(count, 65_536);
    let further = Watch { id: u64::MAX, instance: INSTANCE, linked: None };
    assert_eq!(pair.there.begin_watch(further), Insert::Full);
    assert_eq!(pair.there.begin_watch(Watch { id: numbers[0], ..further }), Insert::Duplicate);
    pair.there.refuse_watch(u64::MAX);
    let refused = StopReason::Error("too many watches on one connection".to_owned());
    assert_eq!(pair.back(), [Frame::Down { id: u64::MAX, reason: refused }]);

    pair.here.unwatch(numbers[0], None);
    notes.watch(&pair.here, 0).unwrap();
    assert_eq!(pair.forth().len(), 2, "one place became free on each side");
}

/// Watches again as soon as it is told.
#[derive(Debug)]
struct Eager(Arc<Link>, Arc<Notes>);

impl Watcher for Eager {
    fn down(&self, watch: WatchId, _: StopReason) {
        self.1.watch(&self.0, watch.0 + 1).unwrap();
    }
}

#[test]
fn a_watcher_may_watch_again_when_it_is_told() {
    let (here, notes) = (Link::to("there"), Arc::new(Notes::default()));
    let eager = Arc::new(Eager(Arc::clone(&here), notes));
    let number = here.watch(INSTANCE, None, eager, WatchId(1), 1).unwrap();
    here.watched_ended(number, StopReason::Normal);
    assert!(here.has_watches());
}

#[test]
fn a_peer_that_watches_is_told_through_its_link() {
    let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
    let number = notes.watch(&pair.here, 1).unwrap();
    pair.forth();
    let peer: &dyn Watcher = &*pair.there;
    peer.down(WatchId(number), StopReason::Shutdown);
    pair.back();
    assert_eq!(notes.taken(), [(1, StopReason::Shutdown)]);
}

#[derive(Debug, Clone)]
enum Step {
    Watch,
    Unwatch(usize),
    End(usize),
    Forth,
    Back,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Watch),
        (0..8_usize).prop_map(Step::Unwatch),
        (0..8_usize).prop_map(Step::End),
        Just(Step::Forth),
        Just(Step::Back),
    ]
}

proptest! {
    #[test]
    fn every_watch_ends_exactly_once_whatever_crosses(steps in vec(step(), 0..60)) {
        let (pair, notes) = (Pair::new(), Arc::new(Notes::default()));
        let mut numbers = vec![];
        let mut ends = vec![];
        for step in steps {
            match step {
                Step::Watch => {
                    numbers.push(notes.watch(&pair.here, numbers.len() as u64).unwrap());
                    ends.push(0);
                }
                Step::Unwatch(watch) if watch < numbers.len() => {
                    ends[watch] += u32::from(pair.here.unwatch(numbers[watch], None));
                }
                Step::End(watch) if watch < numbers.len() => {
                    pair.there.down(numbers[watch], StopReason::Normal);
                }
                Step::Forth => drop(pair.forth()),
                Step::Back => drop(pair.back()),
                Step::Unwatch(_) | Step::End(_) => {}
            }
        }
        for link in [&pair.here, &pair.there] {
            link.close("over", None);
            prop_assert!(link.end_watches("over").count() <= numbers.len());
            prop_assert!(!link.has_watches());
        }
        for (watch, _) in notes.taken() {
            ends[usize::try_from(watch).unwrap()] += 1;
        }
        prop_assert!(ends.iter().all(|ends| *ends == 1), "{:?}", ends);
    }
}
