//! What goes out in which order, seen as the frames that a receiver would take off the stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;

use bytes::BufMut;
use proptest::prelude::*;

use super::*;
use crate::id::MethodId;
use crate::proto::frame::{self, Request, RequestHead, parse};
use crate::proto::pieces::Assemblies;
use crate::proto::tests::start;

const MAX: usize = 16 << 20;

/// The longest arguments that are sent whole here: what surrounds them has its room too.
const WHOLE: usize = PIECE - 64;

/// The requests of this side, and what became of them.
#[derive(Debug, Default)]
struct Owners {
    unwanted: BTreeSet<u64>,
    left: Vec<u64>,
    dropped: Vec<Ticket>,
}

impl Calls for Owners {
    fn wants(&mut self, call: RequestId) -> bool {
        !self.unwanted.contains(&call.0)
    }

    fn leaves(&mut self, call: RequestId) {
        self.left.push(call.0);
    }

    fn is_dropped(&mut self, ticket: &Ticket) {
        self.dropped.push(*ticket);
    }
}

/// Lanes, and a receiver of what they say.
struct Wire {
    lanes: Lanes,
    owners: Owners,
    stream: BytesMut,
    assemblies: Assemblies,
    /// How many bytes each take gave, and the longest of them.
    taken: u64,
    /// Whether the receiver says at once what it has taken.
    says_taken: bool,
}

impl Wire {
    fn new() -> Self {
        let mut lanes = Lanes::new(MAX);
        lanes.set_bulk_window(u64::MAX);
        let (owners, stream, assemblies) = (Owners::default(), BytesMut::new(), Assemblies::new(MAX));
        Self { lanes, owners, stream, assemblies, taken: 0, says_taken: true }
    }

    /// A request of so many bytes of arguments, through a handle, to an instance.
    fn say(&mut self, id: u64, instance: u64, handle: u64, size: usize) {
        let (call, instance, order) = (Some(RequestId(id)), InstanceId(instance), Order::Handle(handle));
        let ticket = Ticket { call, instance, spent: Some(size) };
        let head = RequestHead {
            id: RequestId(id),
            instance,
            method: MethodId { name: 1, signature: 1 },
            remaining: None,
            wants_reply: true,
            is_ahead: false,
            is_impatient: false,
            chain: vec![],
            trace: None,
        };
        let payload = vec![7; size];
        if size > WHOLE {
            let (message, _) = frame::long_request(&head, MAX, |out| out.put_bytes(&payload)).unwrap();
            return self.lanes.put_long(order, instance, message, Some(ticket));
        }
        let (place, _) = self
            .lanes
            .put_call(instance, order, |out| {
                frame::put_request(out, &head, PIECE, |out| out.put_bytes(&payload))
            })
            .unwrap();
        self.lanes.note(place, order, ticket);
    }

    fn answer(&mut self, id: u64, instance: u64, size: usize) {
        let (id, instance, payload) = (RequestId(id), InstanceId(instance), vec![7; size]);
        if size > WHOLE {
            let message = frame::long_reply(id, MAX, |out| out.put_bytes(&payload)).unwrap();
            return self.lanes.put_long(Order::Reply(id), instance, message, None);
        }
        self.lanes
            .put_reply(instance, |out| frame::put_reply(out, id, PIECE, |out| out.put_bytes(&payload)))
            .unwrap();
    }

    /// What one system call takes.
    fn take(&mut self) -> usize {
        let mut out = Outgoing::default();
        if self.says_taken {
            self.lanes.pieces_taken(u64::MAX, start());
        }
        self.lanes.take(&mut out, start(), &mut self.owners);
        let size = out.remaining();
        self.stream.extend_from_slice(&out.copy_to_bytes(size));
        self.taken = self.taken.max(size as u64);
        size
    }

    /// The frames that have come, a long message where its last piece is.
    fn frames(&mut self) -> Vec<Frame> {
        let mut frames = vec![];
        while let Some(frame) = parse(&mut self.stream, PIECE).unwrap() {
            let Frame::Piece { head, bytes } = frame else {
                frames.push(frame);
                continue;
            };
            if let Some(place) = self.assemblies.begin(head, bytes.len()).unwrap() {
                place.extend_from_slice(&bytes);
            }
            if let Some(message) = self.assemblies.end(head.message) {
                frames.push(frame::parse_long(&message).unwrap());
            }
        }
        assert!(self.stream.is_empty(), "frames are whole");
        frames
    }

    fn drain(&mut self) -> Vec<Frame> {
        while self.take() > 0 {}
        assert!(self.lanes.is_empty());
        assert_eq!((self.lanes.len(), self.lanes.calls_len(), self.lanes.bulk_len()), (0, 0, 0));
        self.frames()
    }
}

/// In short: `r1` for a request, `a1` for an answer, `down1`, `cancel1`, `ping`.
fn words(frames: &[Frame]) -> Vec<String> {
    let word = |frame: &Frame| match frame {
        Frame::Request(Request { head, .. }) => format!("r{}", head.id),
        Frame::Reply { id, .. } => format!("a{id}"),
        Frame::Down { id, .. } => format!("down{id}"),
        Frame::Cancel { id } => format!("cancel{id}"),
        Frame::Ping { .. } => "ping".to_owned(),
        other => format!("{other:?}"),
    };
    frames.iter().map(word).collect()
}

fn down(id: u64) -> Frame {
    Frame::Down { id, reason: crate::event::StopReason::Normal }
}

#[test]
fn what_the_nodes_say_goes_first_then_answers_then_calls_then_what_is_long() {
    let mut wire = Wire::new();
    wire.say(1, 1, 1, 200_000);
    wire.say(2, 2, 2, 10);
    wire.answer(3, 3, 10);
    wire.lanes.put_control(&Frame::Ping { token: 1 });
    assert_eq!(words(&wire.drain()), ["ping", "a3", "r2", "r1"]);
}

#[test]
fn something_short_waits_for_no_more_than_what_is_taken_at_once() {
    let mut wire = Wire::new();
    for id in 1..=4 {
        wire.say(id, 1, id, 10 << 20);
    }
    wire.take();
    wire.say(5, 1, 5, 10);
    wire.frames();
    wire.take();
    assert_eq!(words(&wire.frames()), ["r5"], "pieces of the others stand beside it");
    while wire.take() > 0 {}
    assert!(wire.taken <= 2 * TAKE as u64, "{} bytes at once", wire.taken);
    assert_eq!(words(&wire.frames()), ["r1", "r2", "r3", "r4"], "all of the same length end together");
}

#[test]
fn what_follows_something_long_through_the_same_handle_stays_behind_it() {
    let mut wire = Wire::new();
    wire.say(1, 1, 1, 1 << 20);
    wire.say(2, 1, 1, 10);
    wire.say(3, 1, 1, 300_000);
    wire.lanes.put_in_order(InstanceId(1), Order::Handle(1), &Frame::Ping { token: 1 });
    wire.say(4, 1, 1, 10);
    wire.say(9, 1, 2, 10);
    assert_eq!(words(&wire.drain()), ["r9", "r1", "r2", "r3", "ping", "r4"]);
    wire.say(5, 1, 1, 10);
    assert!(!wire.lanes.is_in_bulk(Order::Handle(1)), "and nothing of that is left");
}

#[test]
fn something_long_does_not_overtake_what_its_handle_said_before() {
    let mut wire = Wire::new();
    for id in 1..=1000 {
        wire.say(id, 1, 1, 1000); // most of them wait in a queue
    }
    wire.say(1001, 1, 1, 100_000);
    let order = words(&wire.drain());
    assert_eq!(order, (1..=1001).map(|id| format!("r{id}")).collect::<Vec<_>>());
}

#[test]
fn the_services_behind_one_that_is_flooded_go_on() {
    let mut wire = Wire::new();
    for id in 0..10_000 {
        wire.say(id, 1, 1, 1000);
    }
    wire.say(20_000, 2, 2, 1000);
    wire.say(20_001, 3, 3, 1000);
    let mut takes = 0;
    let mut seen = vec![];
    while !seen.contains(&"r20001".to_owned()) {
        wire.take();
        takes += 1;
        seen.extend(words(&wire.frames()));
    }
    assert!(takes <= 2, "they came after {takes} system calls");
    assert!(seen.contains(&"r20000".to_owned()));
}

#[test]
fn what_is_long_comes_to_its_end_however_many_calls_there_are() {
    let mut wire = Wire::new();
    wire.say(0, 1, 1, 10 * bulk::FINE - 100);
    let mut seen = vec![];
    for round in 0..10 {
        for id in 0..1000 {
            wire.say(1 + round * 1000 + id, 2, 2, 1000);
        }
        wire.take();
        seen.extend(words(&wire.frames()));
    }
    assert!(seen.contains(&"r0".to_owned()), "one piece goes in each turn");
    assert!(!wire.lanes.is_empty());
}

#[test]
fn an_end_is_told_after_all_that_was_there_before_it_and_holds_up_nothing() {
    let mut wire = Wire::new();
    wire.lanes.put_behind(&down(1));
    wire.answer(1, 1, 10);
    assert_eq!(words(&wire.drain()), ["a1", "down1"], "nothing waited");
    wire.answer(2, 1, 300_000);
    wire.say(3, 1, 1, 200_000);
    wire.lanes.put_behind(&down(2));
    wire.say(4, 2, 2, 10);
    wire.answer(5, 1, 10);
    wire.answer(6, 1, 1 << 20);
    assert_eq!(words(&wire.drain()), ["a5", "r4", "r3", "a2", "down2", "a6"]);
}

#[test]
fn a_call_that_is_given_up_in_its_queue_never_leaves_and_costs_nothing() {
    let mut wire = Wire::new();
    for id in 1..=500 {
        wire.say(id, 1, 1, 1000);
    }
    wire.say(501, 1, 2, 200_000);
    wire.owners.unwanted = BTreeSet::from([500, 501]);
    let order = words(&wire.drain());
    assert_eq!(order.len(), 499);
    let spent =
        |call, size| Ticket { call: Some(RequestId(call)), instance: InstanceId(1), spent: Some(size) };
    wire.owners.dropped.sort_by_key(|ticket| ticket.call);
    assert_eq!(wire.owners.dropped, [spent(500, 1000), spent(501, 200_000)]);
}

#[test]
fn a_long_call_that_is_given_up_half_way_is_taken_back_from_the_peer() {
    let mut wire = Wire::new();
    wire.say(1, 1, 1, 1 << 20);
    wire.take();
    assert_eq!(wire.frames(), []);
    wire.owners.unwanted.insert(1);
    assert_eq!(wire.drain(), []);
    assert!(!wire.assemblies.has_open(), "the peer keeps nothing of it");
    wire.answer(2, 1, 1 << 20);
    wire.take();
    wire.lanes.drop_reply(RequestId(2));
    assert_eq!(wire.drain(), []);
    assert!(!wire.assemblies.has_open());
    wire.say(3, 1, 1, 1 << 20);
    assert_eq!(words(&wire.drain()), ["r3"]);
}

#[test]
fn pieces_stop_at_the_window_and_go_on_when_they_are_taken() {
    let mut wire = Wire::new();
    wire.lanes.set_bulk_window(3 * PIECE as u64);
    wire.says_taken = false;
    wire.say(1, 1, 1, 1 << 20);
    let mut under_way = 0;
    while wire.take() > 0 {}
    under_way += wire.stream.len();
    assert!((3 * PIECE..5 * PIECE).contains(&under_way), "{under_way}");
    wire.say(2, 2, 2, 10);
    wire.take();
    assert_eq!(words(&wire.frames()), ["r2"], "what is short goes all the same");
    wire.lanes.pieces_taken(3 * PIECE as u64, start());
    assert!(wire.take() > 0);
    wire.lanes.pieces_taken(u64::MAX, start());
    let mut all = 0;
    while wire.take() > 0 {
        wire.lanes.pieces_taken(u64::MAX, start());
        all += 1;
    }
    assert!(all > 3);
    assert_eq!(words(&wire.frames()), ["r1"]);
}

#[test]
fn no_more_messages_are_open_than_the_peer_takes() {
    let mut wire = Wire::new();
    for id in 1..=20 {
        wire.say(id, 1, id, 300_000);
    }
    wire.say(21, 1, 21, MAX - 100);
    wire.say(22, 1, 22, MAX - 100);
    // `Assemblies` breaks off where the peer would.
    assert_eq!(wire.drain().len(), 22);
}

/// What is done to the lanes.
#[derive(Debug, Clone)]
enum Step {
    Say { instance: u64, handle: u64, size: usize },
    Answer { size: usize },
    Down,
    GiveUp(prop::sample::Index),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0..2000_usize, 1 => 50_000..400_000_usize];
    prop_oneof![
        6 => (1..4_u64, 1..6_u64, size.clone())
            .prop_map(|(instance, handle, size)| Step::Say { instance, handle, size }),
        2 => size.prop_map(|size| Step::Answer { size }),
        1 => Just(Step::Down),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveUp),
        2 => Just(Step::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is said in whatever order: what each handle says to each instance comes in its order and whole, an end
    /// comes after all that was said before it, and nothing is lost but what was given up.
    #[test]
    fn every_order_that_is_promised_is_kept(steps in proptest::collection::vec(step(), 1..200)) {
        let mut wire = Wire::new();
        let (mut said, mut answers, mut downs) = (vec![], BTreeSet::new(), vec![]);
        let mut got: Vec<Frame> = vec![];
        let mut next = 0;
        for step in steps {
            next += 1;
            match step {
                Step::Say { instance, handle, size } => {
                    // A handle leads to one instance.
                    let handle = handle * 10 + instance;
                    wire.say(next, instance, handle, size);
                    said.push((next, handle, size));
                }
                Step::Answer { size } => {
                    wire.answer(next, 1, size);
                    answers.insert(next);
                }
                Step::Down => {
                    wire.lanes.put_behind(&down(next));
                    downs.push(next);
                }
                Step::GiveUp(index) if !said.is_empty() => {
                    wire.owners.unwanted.insert(said[index.index(said.len())].0);
                }
                Step::GiveUp(_) => {}
                Step::Take => {
                    wire.take();
                    got.extend(wire.frames());
                }
            }
        }
        got.extend(wire.drain());
        prop_assert!(!wire.assemblies.has_open());
        let place: HashMap<String, usize> =
            words(&got).into_iter().enumerate().map(|(place, word)| (word, place)).collect();
        let mut last_of: BTreeMap<u64, usize> = BTreeMap::new();
        for (id, handle, size) in &said {
            let Some(place) = place.get(&format!("r{id}")) else {
                prop_assert!(wire.owners.unwanted.contains(id), "{id} of {size} bytes is lost");
                continue;
            };
            let last = last_of.insert(*handle, *place);
            prop_assert!(last.is_none_or(|last| last < *place), "{id} overtook");
        }
        for answer in &answers {
            let word = format!("a{answer}");
            prop_assert!(place.contains_key(&word), "answer {answer} is lost");
        }
        for down in downs {
            let at = place[&format!("down{down}")];
            for id in (1..down).filter(|id| !wire.owners.unwanted.contains(id)) {
                let word = [format!("r{id}"), format!("a{id}")].into_iter().find_map(|word| place.get(&word));
                prop_assert!(word.is_none_or(|place| *place < at), "the end {down} overtook {id}");
            }
        }
        let lost = wire.owners.dropped.len();
        let requests = got.iter().filter(|frame| matches!(frame, Frame::Request(_))).count();
        prop_assert_eq!(requests + lost, said.len());
    }
}

#[test]
fn a_frame_that_does_not_encode_leaves_nothing() {
    let mut wire = Wire::new();
    let fails = |out: &mut BytesMut| -> Result<(), &'static str> {
        out.put_u8(1);
        out.clear();
        Err("no")
    };
    assert_eq!(wire.lanes.put_call(InstanceId(1), Order::Handle(1), fails), Err("no"));
    wire.say(1, 1, 1, 1 << 20);
    assert_eq!(wire.lanes.put_call(InstanceId(1), Order::Handle(1), fails), Err("no"));
    let put = |out: &mut BytesMut| -> Result<(), Infallible> {
        frame::put_failure(out, RequestId(5), &crate::error::CallError::Stopped("x".into()));
        Ok(())
    };
    let Ok(()) = wire.lanes.put_reply(InstanceId(1), put);
    assert_eq!(wire.drain().len(), 2);
}
