//! A call that could never begin, because its callee waits for it, is refused at once; what only looks like one is not.

use std::future::IntoFuture;

use futures_util::future::{join_all, select};
use futures_util::{join, poll};
use skyhold::prelude::*;

use crate::gate::{Gate, Log, Watch, local_node, settle};

/// Goes a way through services, each handler of which calls the next.
#[service(local)]
trait Party {
    async fn shared(&self, way: Way) -> Result<usize, CallError>;
    async fn alone(&mut self, way: Way) -> Result<usize, CallError>;
    /// Calls two ways at once.
    async fn fork(&self, one: Way, other: Way) -> (Result<usize, CallError>, Result<usize, CallError>);
    /// Goes a way, but only until the gate opens.
    async fn until(&self, way: Way, gate: Gate) -> bool;
    /// Goes a way in a task of the handler's.
    async fn in_a_task(&mut self, context: &Context, way: Way, tell: Tell);
}

type Tell = tokio::sync::oneshot::Sender<Result<usize, CallError>>;

/// What is left of a way.
#[derive(Clone, Default)]
struct Way(std::collections::VecDeque<Step>);

#[derive(Clone)]
struct Step {
    to: PartyHandle,
    alone: bool,
    /// Passed before the step is made.
    gate: Gate,
}

impl Way {
    fn step(mut self, to: &PartyHandle, alone: bool, gate: &Gate) -> Self {
        self.0.push_back(Step { to: to.clone(), alone, gate: gate.clone() });
        self
    }

    fn shared(self, to: &PartyHandle) -> Self {
        self.step(to, false, &Gate::opened())
    }

    fn alone(self, to: &PartyHandle) -> Self {
        self.step(to, true, &Gate::opened())
    }

    /// Goes on; gives the number of steps.
    async fn go(mut self) -> Result<usize, CallError> {
        let Some(step) = self.0.pop_front() else { return Ok(0) };
        step.gate.pass().await;
        let rest = if step.alone { step.to.alone(self).await? } else { step.to.shared(self).await? };
        Ok(rest? + 1)
    }
}

macro_rules! party {
    ($name:ident, $($settings:tt)*) => {
        struct $name;

        #[service($($settings)*)]
        impl Party for $name {
            async fn shared(&self, way: Way) -> Result<usize, CallError> {
                way.go().await
            }

            async fn alone(&mut self, way: Way) -> Result<usize, CallError> {
                way.go().await
            }

            async fn fork(&self, one: Way, other: Way) -> (Result<usize, CallError>, Result<usize, CallError>) {
                join!(one.go(), other.go())
            }

            async fn until(&self, way: Way, gate: Gate) -> bool {
                let ended = select(Box::pin(way.go()), Box::pin(gate.pass())).await;
                matches!(ended, futures_util::future::Either::Left(_))
            }

            async fn in_a_task(&mut self, context: &Context, way: Way, tell: Tell) {
                context.spawn(async move { tell.send(way.go().await).unwrap() });
            }
        }
    };
}

party!(Roomy, name = "roomy");
party!(Tiny, name = "tiny", mailbox = 1);

async fn three() -> (Node, [PartyHandle; 3]) {
    let node = local_node().await;
    let parties = [node.spawn(Roomy), node.spawn(Roomy), node.spawn(Roomy)];
    (node, parties)
}

/// Goes a way such as `A! B A`: letters are services, `!` is a method that takes `&mut self`. `refused` is the number
/// of the step that must be refused; 0 if none must.
async fn check(way: &str, refused: usize) {
    let (node, parties) = three().await;
    let steps: Vec<_> = way.split(' ').map(|step| (step.as_bytes()[0] - b'A', step.ends_with('!'))).collect();
    let built = steps.iter().fold(Way::default(), |built, &(party, alone)| {
        built.step(&parties[usize::from(party)], alone, &Gate::opened())
    });
    let watch = Watch::start();
    let result = built.go().await;
    watch.assert_at_once();
    if refused == 0 {
        assert_eq!(result.as_ref().ok(), Some(&steps.len()), "{way}: {result:?}");
        return;
    }
    let expected: Vec<_> = steps[..refused]
        .iter()
        .map(|&(party, alone)| format!("party.{}@a#{}", if alone { "alone" } else { "shared" }, party + 1))
        .collect();
    let error = result.expect_err(way);
    assert!(!error.may_have_run());
    assert_eq!(error.to_string(), format!("deadlock: {}", expected.join(" -> ")), "{way}");
    let CallError::Deadlock(chain) = error else { panic!("{way}: {error:?}") };
    assert_eq!(chain.links().len(), refused);
    for (link, &(party, alone)) in chain.links().iter().zip(&steps) {
        assert_eq!(Some(&link.address), parties[usize::from(party)].address(), "{way}");
        assert_eq!(link.exclusive, alone, "{way}");
    }
    assert_eq!(node.counters().panics, 0);
    // Nothing is stuck.
    for party in &parties {
        assert_eq!(party.alone(Way::default()).await.unwrap(), Ok(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_with_an_exclusive_visit_is_refused_at_once_with_its_whole_chain() {
    for (way, refused) in [
        ("A! A!", 2),
        ("A! A", 2),
        ("A A!", 2),
        ("A! B! A!", 3),
        ("A! B A", 3),
        ("A B! A!", 3),
        ("A! B! C! A!", 4),
        ("A! B C A", 4),
        ("A B! C! B!", 4),
        ("A B C A!", 4),
        ("A B A B A!", 5),
        ("A B A! B", 3),
    ] {
        check(way, refused).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_shared_visits_is_no_deadlock() {
    for way in ["A A", "A A A A", "A B A", "A B C A", "A B C A B C A B C", "A! B C B C", "A B A C!"] {
        check(way, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_without_a_circle_is_no_deadlock() {
    for way in ["A!", "A! B!", "A! B! C!", "A B! C", "A! B C!"] {
        check(way, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_exclusive_message_does_not_stop_a_circle_of_shared_calls() {
    let (_node, [a, b, _]) = three().await;
    let gate = Gate::new();
    let way = Way::default().shared(&a).shared(&b).step(&a, false, &gate).shared(&b);
    let watch = Watch::start();
    let circle = tokio::spawn(way.go());
    gate.reached(1).await;
    let mut waiting: Vec<_> =
        [&a, &b].map(|party| Box::pin(party.alone(Way::default()).into_future())).into();
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    settle().await;
    gate.open();
    assert_eq!(circle.await.unwrap(), Ok(4));
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(0));
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_circle_goes_on_when_every_place_for_handlers_is_taken_by_those_who_wait() {
    let (_node, [a, b, _]) = three().await;
    let gate = Gate::new();
    let watch = Watch::start();
    // More than the 64 places of each.
    let circles: Vec<_> = (0..100)
        .map(|_| tokio::spawn(Way::default().shared(&a).shared(&b).step(&a, false, &gate).shared(&b).go()))
        .collect();
    gate.reached(64).await;
    settle().await;
    assert_eq!(gate.arrived(), 64);
    gate.open();
    for circle in circles {
        assert_eq!(circle.await.unwrap(), Ok(4));
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_circle_goes_on_through_a_full_mailbox() {
    let node = local_node().await;
    let (tiny, b) = (node.spawn(Tiny), node.spawn(Roomy));
    let gate = Gate::new();
    let watch = Watch::start();
    let circle = tokio::spawn(Way::default().shared(&tiny).shared(&b).step(&tiny, false, &gate).go());
    gate.reached(1).await;
    fill(&tiny).await;
    gate.open();
    assert_eq!(circle.await.unwrap(), Ok(3));
    watch.assert_at_once();
}

/// Sends `&mut self` messages until there is no room.
async fn fill(tiny: &PartyHandle) {
    while tiny.alone(Way::default()).try_send().is_ok() {
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_reentrant_calls_at_once_go_through_a_full_mailbox_of_one() {
    let node = local_node().await;
    let tiny = node.spawn(Tiny);
    let gate = Gate::new();
    let watch = Watch::start();
    let way = || Way::default().step(&tiny, false, &gate);
    let fork = tokio::spawn(tiny.fork(way(), way()).into_future());
    gate.reached(2).await;
    fill(&tiny).await;
    gate.open();
    assert_eq!(fork.await.unwrap().unwrap(), (Ok(1), Ok(1)));
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn two_calls_at_once_by_one_handler_are_no_circle() {
    let (_node, [a, b, c]) = three().await;
    let (one, other) = (Way::default().alone(&b), Way::default().alone(&c));
    assert_eq!(a.fork(one, other).await.unwrap(), (Ok(1), Ok(1)));
    // The second waits for the first, and not for its own caller.
    let (one, other) = (Way::default().alone(&b), Way::default().alone(&b));
    assert_eq!(a.fork(one, other).await.unwrap(), (Ok(1), Ok(1)));
    // Of two ways one comes back.
    let (one, other) = (Way::default().alone(&b).alone(&a), Way::default().alone(&c));
    let (one, other) = a.fork(one, other).await.unwrap();
    assert!(matches!(one, Err(CallError::Deadlock(_))), "{one:?}");
    assert_eq!(other, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn many_circles_at_once_do_not_disturb_one_another() {
    let (_node, [a, b, c]) = three().await;
    let circles = (0..500).map(|n| {
        let way = Way::default().shared(&a).shared(&b).shared(&c);
        let way = if n % 2 == 0 { way.shared(&a) } else { way.alone(&a) };
        async move { (n, way.go().await) }
    });
    let watch = Watch::start();
    for (n, result) in join_all(circles).await {
        match result {
            Ok(4) if n % 2 == 0 => {}
            Err(CallError::Deadlock(_)) if n % 2 == 1 => {}
            other => panic!("circle {n}: {other:?}"),
        }
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_call_by_a_task_of_a_handler_is_no_circle() {
    let (_node, [a, ..]) = three().await;
    let (tell, told) = tokio::sync::oneshot::channel();
    a.in_a_task(Way::default().alone(&a), tell).await.unwrap();
    assert_eq!(told.await.unwrap(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_circle_whose_first_caller_gave_up_is_answered_at_once() {
    let (node, [a, b, _]) = three().await;
    let (gives_up, goes_on) = (Gate::new(), Gate::new());
    let log = Log::default();
    // It calls back after `a` has stopped waiting for it.
    let spy = node.spawn(SpyParty { log: log.clone(), back: a.clone(), gate: goes_on.clone() });
    let way = Way::default().shared(&b).shared(&spy);
    let first = tokio::spawn(a.until(way, gives_up.clone()).into_future());
    goes_on.reached(1).await;
    gives_up.open();
    assert!(!first.await.unwrap().unwrap());
    goes_on.open();
    settle().await;
    assert_eq!(log.line(), "Ok(0)");
}

/// Calls back, and tells what it got.
struct SpyParty {
    log: Log,
    back: PartyHandle,
    gate: Gate,
}

#[service]
impl Party for SpyParty {
    async fn shared(&self, way: Way) -> Result<usize, CallError> {
        self.gate.pass().await;
        let result = self.back.shared(way).await.and_then(|result| result);
        self.log.add(format!("{result:?}"));
        result
    }

    async fn alone(&mut self, way: Way) -> Result<usize, CallError> {
        way.go().await
    }

    async fn fork(&self, one: Way, other: Way) -> (Result<usize, CallError>, Result<usize, CallError>) {
        join!(one.go(), other.go())
    }

    async fn until(&self, _way: Way, _gate: Gate) -> bool {
        false
    }

    async fn in_a_task(&mut self, _context: &Context, _way: Way, _tell: Tell) {}
}

/// Sends to itself.
struct Loner {
    log: Log,
    at_start: Option<Log>,
}

#[service(local, mailbox = 1)]
impl Loner {
    #[on_start]
    async fn begin(&mut self, context: &Context) {
        if let Some(log) = &self.at_start {
            let result = context.handle::<LonerHandle>().note("from the hook").await;
            log.add(result.unwrap_err().to_string());
        }
    }

    pub fn note(&mut self, text: &'static str) {
        self.log.add(text);
    }

    pub fn note_shared(&self, text: &'static str) {
        self.log.add(text);
    }

    pub async fn send(&mut self, context: &Context, times: usize) -> Result<(), CallError> {
        let own = context.handle::<LonerHandle>();
        for _ in 0..times {
            own.note("sent").send().await?;
        }
        Ok(())
    }

    pub async fn send_shared(&self, context: &Context, gate: Gate) -> Result<(), CallError> {
        let own = context.handle::<LonerHandle>();
        gate.pass().await;
        own.note_shared("sent").send().await
    }
}

fn loner(node: &Node) -> (LonerHandle, Log) {
    let log = Log::default();
    (node.spawn(Loner { log: log.clone(), at_start: None }), log)
}

#[tokio::test(start_paused = true)]
async fn a_service_may_send_to_itself() {
    let node = local_node().await;
    let (loner, log) = loner(&node);
    loner.send(1).await.unwrap().unwrap();
    settle().await;
    assert_eq!(log.line(), "sent");
}

#[tokio::test(start_paused = true)]
async fn a_send_to_oneself_that_finds_no_room_is_a_deadlock_and_no_wait() {
    let node = local_node().await;
    let (loner, log) = loner(&node);
    let watch = Watch::start();
    let error = loner.send(2).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "deadlock: loner.send@a#1 -> loner.note@a#1");
    settle().await;
    assert_eq!(log.line(), "sent");
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_shared_send_to_oneself_behind_a_waiting_exclusive_message_is_no_wait() {
    let node = local_node().await;
    let (loner, log) = loner(&node);
    let gate = Gate::new();
    let watch = Watch::start();
    let sends = tokio::spawn(loner.send_shared(gate.clone()).into_future());
    gate.reached(1).await;
    while loner.note("alone").try_send().is_ok() {
        settle().await;
    }
    gate.open();
    let error = sends.await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, CallError::Deadlock(_)), "{error:?}");
    settle().await;
    assert!(log.entries().iter().all(|entry| entry == "alone"), "{}", log.line());
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_start_hook_that_calls_its_own_service_is_refused_at_once() {
    let node = local_node().await;
    let log = Log::default();
    let watch = Watch::start();
    let loner = node.spawn(Loner { log: log.clone(), at_start: Some(log.clone()) });
    loner.note_shared("started").await.unwrap();
    watch.assert_at_once();
    let entries = log.entries();
    assert!(entries[0].starts_with("deadlock: "), "{entries:?}");
    assert_eq!(entries[1..], ["started"]);
}

/// Calls its own name.
struct Named;

#[service]
impl Named {
    pub async fn call_the_name(&mut self, context: &Context, again: bool) -> Option<String> {
        if !again {
            return None;
        }
        let name = NamedHandle::try_lookup(&context.node(), "named").unwrap();
        name.call_the_name(false).await.err().map(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_ones_own_name_goes_to_another_instance_or_is_a_deadlock() {
    for (instances, refused) in [(1, true), (2, false), (3, false)] {
        let node = local_node().await;
        let named = node.service("named", || Named).instances(instances).start().await.unwrap();
        let watch = Watch::start();
        for _ in 0..5 {
            let error = named.call_the_name(true).await.unwrap();
            assert_eq!(error.is_some(), refused, "{instances} instances: {error:?}");
        }
        watch.assert_at_once();
    }
}
