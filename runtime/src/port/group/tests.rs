use std::sync::{Arc, Mutex};

use super::*;
use crate::config::Limits;
use crate::event::StopReason;
use crate::port::{WatchId, Watcher};
use crate::proto::frame::parse;
use crate::proto::settings::FEATURES;
use crate::proto::watch::Watch;

const FIRST: [u8; 32] = [5; 32];

/// The links of one side, of which the first `joined` have joined.
fn side(peer: &str, joined: u8) -> Vec<Arc<Link>> {
    let peer = |number: u8| PeerIdentity {
        features: group::wish(FEATURES, 4),
        challenge: FIRST,
        extra: (number > 0).then_some(Extra { number, first: FIRST }),
        ..PeerIdentity::of(peer)
    };
    let link = |number| Link::new(&peer(number), Limits::default(), Arc::new(drop));
    let links: Vec<_> = (0..joined).map(link).collect();
    for (number, extra) in (1..).zip(&links[1..]) {
        assert_eq!(links[0].join(extra, &Extra { number, first: FIRST }), Ok(()));
    }
    links
}

/// Remembers what it was told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<StopReason>>);

impl Watcher for Told {
    fn down(&self, _watch: WatchId, reason: StopReason) {
        self.0.lock().unwrap().push(reason);
    }
}

impl Told {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// All that one side has for the other on that connection is read there.
fn carry(from: &Arc<Link>, to: &Arc<Link>) {
    let mut bytes = from.taken();
    while let Some(frame) = parse(&mut bytes, 1 << 20).unwrap() {
        let told = match frame {
            Frame::Fence { number } => to.fence(number).unwrap(),
            Frame::Behind { number, fences, word } => to.behind(number, fences, word).unwrap(),
            Frame::Down { id, reason } => Some((Arc::clone(to), Word::Down { id, reason })),
            other => panic!("{other:?}"),
        };
        if let Some((link, Word::Down { id, reason })) = told {
            link.watched_ended(id, reason);
        }
    }
}

#[test]
fn what_is_said_behind_all_counts_when_it_has_come_on_each_connection() {
    let (here, there) = (side("there", 4), side("here", 4));
    for last in 0..4 {
        let told = Arc::new(Told::default());
        let (instance, watcher) = (InstanceId(7), Arc::clone(&told) as Arc<dyn Watcher>);
        let id = here[2].watch(instance, None, watcher, WatchId(1), 1).unwrap();
        drop(here[2].taken());
        assert_eq!(
            there[2].begin_watch(Watch { id, instance, linked: None }),
            crate::proto::inbound::Insert::New
        );
        there[2].down(id, StopReason::Normal);
        for place in (0..4).filter(|place| *place != last) {
            carry(&there[place], &here[place]);
            assert_eq!(told.count(), 0, "on {last} it has not come");
        }
        carry(&there[last], &here[last]);
        assert_eq!(*told.0.lock().unwrap(), [StopReason::Normal]);
    }
}

#[test]
fn one_connection_alone_has_no_fences() {
    for there in [side("here", 1), vec![Link::to("here")]] {
        there[0].say_behind(Word::NamesSynced { token: 1 });
        let frame = parse(&mut there[0].taken(), 1 << 20).unwrap();
        assert_eq!(frame, Some(Frame::NamesSynced { token: 1 }));
    }
}

#[test]
fn an_instance_has_one_connection_from_the_beginning_to_the_end() {
    let place = |links: &[Arc<Link>], number| {
        let toward = links[0].toward(InstanceId(number));
        links.iter().position(|link| Arc::ptr_eq(link, &toward)).unwrap()
    };
    let whole = side("b", 4);
    assert!(whole[0].is_forming() && whole[0].is_whole());
    assert!(whole[0].begin() && !whole[0].is_forming());
    let used: std::collections::BTreeSet<_> = (0..100).map(|number| place(&whole, number)).collect();
    assert_eq!(used.len(), 4);

    let mut few = side("b", 3);
    assert!(!few[0].is_whole() && !few[0].begin(), "one is missing");
    few.push(Link::to("b"));
    assert_eq!(few[0].join(&few[3], &Extra { number: 3, first: FIRST }), Ok(()));
    assert!(few[0].is_whole() && !few[0].begin());
    assert!((0..100).all(|number| place(&few, number) == 0), "what has begun is not changed");
}

#[test]
fn a_further_connection_has_to_name_the_first_one_and_a_free_place() {
    let links = side("b", 2);
    let joins = |number, first| links[0].join(&Link::to("b"), &Extra { number, first });
    assert_eq!(joins(2, [6; 32]), Err(NotJoined::Other));
    assert_eq!((joins(0, FIRST), joins(1, FIRST), joins(4, FIRST)), {
        let taken = Err(NotJoined::Taken);
        (taken, taken, taken)
    });
    assert_eq!(Link::to("b").join(&links[1], &Extra { number: 1, first: FIRST }), Err(NotJoined::Other));
    assert_eq!(joins(2, FIRST), Ok(()));
    assert!(links[0].has_joined(2) && !links[0].has_joined(3));
}

#[test]
fn with_one_connection_all_end_and_the_last_one_brings_the_watches_to_their_end() {
    let links = side("b", 4);
    assert!(links[0].begin());
    for (ended, link) in [2, 0, 3, 1].into_iter().enumerate() {
        links[link].close("lost", None);
        let with_it = links[link].end_group(Over::Lost(format!("{link}")));
        assert_eq!(with_it.len(), if ended == 3 { 4 } else { 0 });
        assert!(links.iter().all(|link| link.is_over() && !link.is_used()));
        assert_eq!(links[link].why_over(), Some(Over::Lost("2".to_owned())), "the first reason stays");
        assert_eq!(links[link].end_group(Over::Lost(String::new())).len(), 0, "it has ended once");
    }
    let late = links[0].join(&Link::to("b"), &Extra { number: 1, first: FIRST });
    assert_eq!(late, Err(NotJoined::Over));
    assert_eq!(Link::to("b").end_group(Over::Lost(String::new())).len(), 1, "by itself");
}
