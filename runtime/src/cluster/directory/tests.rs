//! Who has which name, as what is said of it comes in.

use super::*;
use crate::proto::described::MAX_METHODS;

const METHOD: MethodId = MethodId { name: 1, signature: 2 };

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn entry(name: &str, instances: &[u64]) -> NameEntry {
    NameEntry {
        name: name.into(),
        interface: "Counter".into(),
        instances: instances.iter().copied().map(InstanceId).collect(),
    }
}

fn limits() -> Limits {
    Limits::default().names(64).instances(1000)
}

fn set(directory: &mut Directory, name: &str, instances: Vec<InstanceId>) -> Option<Vec<Frame>> {
    directory.set_own(name, "Counter", instances, Traits::default())
}

fn names(complete: bool, entries: Vec<NameEntry>) -> Frame {
    Frame::Names(Names { complete, entries })
}

fn labelled(key: &str, value: &str) -> Traits {
    let labels = [(key.to_owned(), value.to_owned())].into_iter().collect();
    Traits { labels: Arc::new(labels), ..Traits::default() }
}

fn claimed(claim: u64) -> Traits {
    Traits { claim: Some(claim), ..Traits::default() }
}

/// What a peer says, all of it.
fn hear(directory: &mut Directory, from: &str, frames: Vec<Frame>) {
    for frame in frames {
        match frame {
            Frame::Names(names) => drop(directory.apply(&node(from), Incarnation(1), names)),
            Frame::Described(all) => drop(directory.describe(&node(from), Incarnation(1), all)),
            other => panic!("{other:?}"),
        }
    }
}

fn found(directory: &Directory, name: &str) -> Vec<String> {
    directory.snapshot().candidates(name).iter().map(|c| c.address.to_string()).collect()
}

#[test]
fn names_of_all_nodes_stand_together_in_order() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    set(&mut directory, "counter", vec![InstanceId(7)]);
    let names = Names { complete: true, entries: vec![entry("counter", &[2, 1]), entry("other", &[3])] };
    assert!(directory.apply(&node("a"), Incarnation(1), names));
    assert_eq!(found(&directory, "counter"), ["a#1", "a#2", "b#7"]);
    assert_eq!(found(&directory, "nobody"), [""; 0]);
}

#[test]
fn a_change_is_told_once_and_an_empty_entry_removes() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    let told = set(&mut directory, "counter", vec![InstanceId(7)]).unwrap();
    assert_eq!(told, [names(false, vec![entry("counter", &[7])])]);
    assert!(set(&mut directory, "counter", vec![InstanceId(7)]).is_none());
    let told = set(&mut directory, "counter", vec![]).unwrap();
    assert_eq!(told, [names(false, vec![entry("counter", &[])])]);
    assert!(set(&mut directory, "counter", vec![]).is_none());
    assert!(found(&directory, "counter").is_empty());
}

#[test]
fn a_complete_list_replaces_and_a_change_adds() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    let all = |entries| Names { complete: true, entries };
    assert!(directory.apply(&node("a"), Incarnation(1), all(vec![entry("x", &[1]), entry("y", &[2])])));
    assert!(!directory.apply(&node("a"), Incarnation(1), all(vec![entry("x", &[1]), entry("y", &[2])])));
    assert!(directory.apply(
        &node("a"),
        Incarnation(1),
        Names { complete: false, entries: vec![entry("z", &[3])] }
    ));
    assert!(directory.apply(&node("a"), Incarnation(1), all(vec![entry("x", &[1])])));
    assert_eq!(found(&directory, "x"), ["a#1"]);
    assert!(found(&directory, "y").is_empty() && found(&directory, "z").is_empty());
}

#[test]
fn a_withdrawn_name_is_known_here_and_told_to_nobody_until_it_has_gone() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    set(&mut directory, "x", vec![InstanceId(1)]);
    set(&mut directory, "y", vec![InstanceId(2)]);
    let withdrawn = || Withdraw::Names(vec!["x".into(), "nobody".into()]);
    let gone = names(false, vec![entry("x", &[])]);
    assert_eq!(directory.withdraw(&withdrawn()), [gone]);
    assert_eq!(directory.withdraw(&withdrawn()), [], "it is told once");
    assert_eq!(directory.own_names(), [names(true, vec![entry("y", &[2])])]);
    assert_eq!(found(&directory, "x"), ["b#1"]);
    assert_eq!(set(&mut directory, "x", vec![InstanceId(3)]), Some(vec![]), "a change stays here");
    assert_eq!(found(&directory, "x"), ["b#3"]);

    assert_eq!(set(&mut directory, "x", vec![]), Some(vec![]));
    assert!(!set(&mut directory, "x", vec![InstanceId(4)]).unwrap().is_empty(), "a new beginning");
}

#[test]
fn who_withdrew_all_names_tells_none_any_more() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    set(&mut directory, "x", vec![InstanceId(1)]);
    set(&mut directory, "y", vec![InstanceId(2)]);
    directory.withdraw(&Withdraw::Names(vec!["x".into()]));
    let gone = names(false, vec![entry("y", &[])]);
    assert_eq!(directory.withdraw(&Withdraw::All), [gone], "of x they know already");
    for instances in [vec![], vec![InstanceId(3)]] {
        assert_eq!(set(&mut directory, "x", instances), Some(vec![]));
    }
    assert_eq!(set(&mut directory, "z", vec![InstanceId(4)]), Some(vec![]));
    assert_eq!(directory.own_names(), [names(true, vec![])]);
    assert_eq!(found(&directory, "z"), ["b#4"]);
}

#[test]
fn the_end_of_an_earlier_life_does_not_touch_the_later_one() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    let names = || Names { complete: true, entries: vec![entry("x", &[1])] };
    directory.apply(&node("a"), Incarnation(1), names());
    directory.apply(&node("a"), Incarnation(2), names());
    assert!(!directory.remove_peer(&node("a"), Incarnation(1)));
    assert_eq!(found(&directory, "x"), ["a#1"]);
    assert!(directory.remove_peer(&node("a"), Incarnation(2)));
    assert!(found(&directory, "x").is_empty());
}

#[test]
fn labels_travel_with_their_names_and_change_with_them() {
    let mut here = Directory::new(node("b"), Incarnation(1), limits());
    let mut there = Directory::new(node("a"), Incarnation(1), limits());
    let shown = |directory: &Directory| -> Vec<String> {
        directory.snapshot().candidates("x").iter().map(|known| known.labels.to_string()).collect()
    };
    let told = there.set_own("x", "Counter", vec![InstanceId(1)], labelled("zone", "eu")).unwrap();
    assert_eq!(shown(&there), ["zone=eu"]);
    hear(&mut here, "a", told);
    assert_eq!(shown(&here), ["zone=eu"]);
    let more =
        there.set_own("x", "Counter", vec![InstanceId(1), InstanceId(2)], labelled("zone", "eu")).unwrap();
    assert_eq!(more.len(), 1, "what has not changed is not told again");
    hear(&mut here, "a", more);
    assert_eq!(shown(&here), ["zone=eu", "zone=eu"]);
    let changed = there.set_own("x", "Counter", vec![InstanceId(1)], labelled("zone", "us")).unwrap();
    hear(&mut here, "a", changed);
    assert_eq!(shown(&here), ["zone=us"]);
    for _ in 0..2 {
        hear(&mut here, "a", there.own_names());
        assert_eq!(shown(&here), ["zone=us"], "said as a whole");
    }
    let gone = there.set_own("x", "Counter", vec![], labelled("zone", "us")).unwrap();
    hear(&mut here, "a", gone);
    hear(&mut here, "a", set(&mut there, "x", vec![InstanceId(3)]).unwrap());
    assert_eq!(shown(&here), [""], "a new beginning");
}

#[test]
fn what_is_said_of_many_names_outlasts_that_they_are_said_again_in_several_frames() {
    let limits = Limits::default();
    let mut there = Directory::new(node("a"), Incarnation(1), limits);
    let mut here = Directory::new(node("b"), Incarnation(1), limits);
    let traits = Traits { claim: Some(5), methods: Some([METHOD].into()), ..labelled("zone", "eu") };
    for number in 0..3000 {
        there.set_own(&format!("x{number}"), "Counter", vec![InstanceId(number)], traits.clone());
    }
    let frames = there.own_names();
    assert!(frames.iter().filter(|frame| matches!(frame, Frame::Names(_))).count() > 2);
    for _ in 0..2 {
        hear(&mut here, "a", frames.clone());
        let names = here.snapshot();
        for number in 0..3000 {
            let [known] = names.candidates(&format!("x{number}")) else { panic!("x{number} is known once") };
            assert!(known.is_unique && known.methods.is_some() && known.labels.get("zone") == Some("eu"));
        }
    }
}

#[test]
fn what_is_understood_under_a_name_comes_with_it_and_goes_with_it() {
    let mut there = Directory::new(node("a"), Incarnation(1), limits());
    let mut here = Directory::new(node("b"), Incarnation(1), limits());
    let understood = |here: &Directory| here.snapshot().candidates("x")[0].methods.clone();
    let knows = Traits { methods: Some([METHOD].into()), ..labelled("zone", "eu") };
    let told = there.set_own("x", "Counter", vec![InstanceId(1)], knows.clone()).unwrap();
    assert_eq!(told.len(), 3, "labels, methods, the name");
    hear(&mut here, "a", told);
    assert_eq!(understood(&here).as_deref(), Some(&[METHOD][..]));
    let more = there.set_own("x", "Counter", vec![InstanceId(1), InstanceId(2)], knows.clone()).unwrap();
    assert_eq!(more.len(), 1, "what has not changed is not told again");
    hear(&mut here, "a", more);
    hear(&mut here, "a", there.own_names());
    assert_eq!(understood(&here).as_deref(), Some(&[METHOD][..]), "said as a whole");
    // A node that says nothing of methods, as earlier ones do.
    hear(&mut here, "a", there.set_own("x", "Counter", vec![], knows).unwrap());
    hear(&mut here, "a", set(&mut there, "x", vec![InstanceId(3)]).unwrap());
    assert_eq!(understood(&here), None, "a new beginning");

    let many = Some(vec![METHOD; MAX_METHODS + 1].into());
    let told =
        there.set_own("y", "Counter", vec![InstanceId(4)], Traits { methods: many, ..Traits::default() });
    assert_eq!(told.map(|told| told.len()), Some(1), "more than are told");
}

#[test]
fn what_instances_have_to_do_is_told_when_it_has_changed_and_is_no_change_of_the_names() {
    let mut there = Directory::new(node("a"), Incarnation(1), limits());
    let mut here = Directory::new(node("b"), Incarnation(1), limits());
    hear(&mut here, "a", set(&mut there, "x", vec![InstanceId(1), InstanceId(2)]).unwrap());
    let seen = here.snapshot();
    let loads = || seen.candidates("x").iter().map(|candidate| candidate.load.get()).collect::<Vec<_>>();
    let of = |first: u32| move |instance: InstanceId| if instance == InstanceId(1) { first } else { 0 };
    assert_eq!(there.measure(of(0)), []);
    let changed = there.measure(of(8));
    assert_eq!(changed, [(InstanceId(1), 8)]);
    assert_eq!(there.measure(of(8)), [], "told once");
    assert_eq!(there.own_loads(), changed, "for who comes later");
    let whole = there.own_names();
    assert!(!here.describe(&node("a"), Incarnation(1), Described::Loads(changed)));
    assert_eq!(loads(), [8, 0], "in the snapshot of before");

    // What is said of nobody, or of others, is passed over.
    here.describe(&node("a"), Incarnation(1), Described::Loads(vec![(InstanceId(77), 4)]));
    here.describe(&node("c"), Incarnation(1), Described::Loads(vec![(InstanceId(1), 4)]));
    hear(&mut here, "a", set(&mut there, "x", vec![InstanceId(1)]).unwrap());
    assert_eq!(here.snapshot().candidates("x")[0].load.get(), 8, "it stays as long as the instance does");
    hear(&mut here, "a", whole);
    assert_eq!(loads(), [0, 0], "with all names all begins anew");
    assert_eq!(there.measure(of(0)), [(InstanceId(1), 0)]);
    there.withdraw(&Withdraw::All);
    assert_eq!(there.measure(of(8)), [], "nobody is told of what is withdrawn");
}

#[test]
fn of_several_nodes_that_claim_a_name_the_first_one_has_it_and_the_others_learn_that_once() {
    let mut here = Directory::new(node("b"), Incarnation(1), limits());
    here.set_own("x", "Counter", vec![InstanceId(1)], claimed(20));
    assert_eq!(found(&here, "x"), ["b#1"]);
    let other = |name: &str, traits| {
        let mut other = Directory::new(node(name), Incarnation(1), limits());
        other.set_own("x", "Counter", vec![InstanceId(7)], traits).unwrap()
    };
    hear(&mut here, "d", other("d", claimed(20)));
    assert_eq!(found(&here, "x"), ["b#1"], "of one moment, and the greater name");
    hear(&mut here, "e", other("e", Traits::default()));
    assert_eq!(found(&here, "x"), ["b#1"], "who does not claim it is passed over");
    assert_eq!(here.take_lost(), []);
    hear(&mut here, "c", other("c", claimed(10)));
    assert_eq!(found(&here, "x"), ["c#7"]);
    hear(&mut here, "a", other("a", claimed(10)));
    assert_eq!(found(&here, "x"), ["a#7"]);
    assert_eq!(here.take_lost(), [("x".into(), node("c"))], "once");
    assert!(here.remove_peer(&node("a"), Incarnation(1)));
    assert_eq!(found(&here, "x"), ["c#7"]);
    here.set_own("x", "Counter", vec![], claimed(20));
    for name in ["c", "d"] {
        here.remove_peer(&node(name), Incarnation(1));
    }
    assert_eq!(found(&here, "x"), ["e#7"], "nobody claims it any more");
}

#[test]
fn a_peer_keeps_no_more_instances_and_descriptions_here_than_it_may() {
    let mut directory = Directory::new(node("b"), Incarnation(1), limits());
    let numbers: Vec<u64> = (0..600).collect();
    for round in 0..3 {
        let entries = (0..100).map(|name| entry(&format!("x{name}"), &numbers[..600 - round])).collect();
        hear(&mut directory, "a", vec![names(round != 1, entries)]);
        let all: usize = (0..100).map(|name| found(&directory, &format!("x{name}")).len()).sum();
        assert_eq!(all, 1000);
    }
    let said = |name| labelled("zone", "eu").told(&format!("y{name}"), &Traits::default()).0;
    hear(&mut directory, "a", Described::traits((0..1000).filter_map(said).collect()).collect());
    let understood = |name| Understood { name: format!("z{name}"), methods: vec![METHOD] };
    hear(&mut directory, "a", Described::methods((0..1000).map(understood).collect()).collect());
    let entries = (0..64).map(|name| entry(&format!("y{name}"), &[1])).collect();
    hear(&mut directory, "a", vec![names(true, entries)]);
    assert_eq!(found(&directory, "y63"), ["a#1"]);
}
