//! Each kind of balance spreads as it says.

use super::*;

#[track_caller]
fn assert_spread(spread: &BTreeMap<String, usize>, expected: &[(&str, std::ops::Range<usize>)]) {
    let is_expected = spread.len() == expected.len()
        && expected.iter().all(|(node, range)| spread.get(*node).is_some_and(|count| range.contains(count)));
    assert!(is_expected, "{spread:?} is not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn round_robin_takes_turns_exactly() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    let spread = spread(&scene.routed.balance(Balance::RoundRobin), 300).await;
    assert_spread(&spread, &[("n0", 100..101), ("n1", 100..101), ("n2", 100..101)]);
}

#[tokio::test(start_paused = true)]
async fn random_reaches_all_about_equally() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    let spread = spread(&scene.routed.balance(Balance::Random), 3000).await;
    assert_spread(&spread, &[("n0", 850..1150), ("n1", 850..1150), ("n2", 850..1150)]);
}

#[tokio::test(start_paused = true)]
async fn least_loaded_is_the_default_and_even_where_all_are_equal() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    (1..4).for_each(|index| scene.takes(index, Duration::from_millis(20)));
    steady(&scene.routed, 3000, Duration::from_millis(1)).await;
    let ran = scene.ran();
    assert!(ran[1..].iter().all(|ran| (850..1150).contains(ran)), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn least_loaded_gives_less_to_who_has_more_to_do() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    for (index, takes) in [(1, 10), (2, 10), (3, 40)] {
        scene.takes(index, Duration::from_millis(takes));
    }
    steady(&scene.routed, 20_000, Duration::from_micros(500)).await;
    let ran = scene.ran();
    assert!(ran[3] * 4 < ran[1] && ran[3] * 4 < ran[2] && ran[3] > 300, "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn local_first_stays_on_the_node_and_goes_elsewhere_when_nobody_is_left_here() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    let routed = scene.routed.balance(Balance::LocalFirst);
    assert_spread(&spread(&routed, 100).await, &[("n0", 100..101)]);
    assert!(scene.cluster[0].stop_service("worker").await);
    assert_spread(&spread(&routed, 100).await, &[("n1", 20..81), ("n2", 20..81)]);
    scene.start(0).await;
    spread(&routed, 1).await; // it takes over slowly, from the first call that finds it
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_spread(&spread(&routed, 100).await, &[("n0", 100..101)]);
}

#[tokio::test(start_paused = true)]
async fn local_first_goes_elsewhere_while_the_local_one_fails_and_comes_back_to_it() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    let routed = scene.routed.balance(Balance::LocalFirst);
    scene.fail(0, Fault::Panics);
    let ended = steady(&routed, 100, Duration::from_millis(5)).await;
    assert!(ended.iter().any(|(_, result)| result.is_err()), "the fault is in force");
    scene.ran();
    assert_spread(&spread(&routed, 100).await, &[("n1", 20..81), ("n2", 20..81)]);
    scene.fail(0, Fault::None);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_spread(&spread(&routed, 100).await, &[("n0", 100..101)]);
}

#[tokio::test(start_paused = true)]
async fn consistent_keeps_to_one_instance_as_long_as_it_is_there() {
    let mut scene = Scene::new(4, &[1, 2, 3]).await;
    let routed = scene.routed.balance(Balance::Consistent);
    let before = spread(&routed, 100).await;
    assert_eq!(before.len(), 1, "{before:?}");
    let again = scene.routed.balance(Balance::Consistent);
    assert_eq!(spread(&again, 100).await, before);
    let (node, _) = before.first_key_value().unwrap();
    let index: usize = node[1..].parse().unwrap();
    assert!(scene.cluster[index].stop_service("worker").await);
    scene.routed = WorkerHandle::lookup(&scene.cluster[0], "worker").await.unwrap();
    let after = spread(&routed, 100).await;
    assert!(after.len() == 1 && after != before, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_and_a_balance_take_each_other_s_place() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    let by_key = scene.routed.balance(Balance::RoundRobin).key("some key");
    assert_eq!(by_key, scene.routed.key("some key"));
    assert_eq!(spread(&by_key, 30).await.len(), 1);
    assert_eq!(by_key.balance(Balance::Consistent), by_key);
    let taking_turns = by_key.balance(Balance::RoundRobin);
    assert_eq!(taking_turns, scene.routed);
    assert_spread(&spread(&taking_turns, 30).await, &[("n1", 10..11), ("n2", 10..11), ("n3", 10..11)]);
}

#[tokio::test(start_paused = true)]
async fn weights_are_kept_and_what_has_none_gets_nothing_unless_all_have_none() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    let weighted = scene.routed.balance(Weighted::by_node([("n1", 4), ("n3", 0)]));
    assert_spread(&spread(&weighted, 1000).await, &[("n1", 790..811), ("n2", 190..211)]);
    let weighted =
        scene.routed.balance(Weighted::by(|candidate| u32::from(candidate.node().as_str() == "n3")));
    assert_spread(&spread(&weighted, 100).await, &[("n3", 100..101)]);
    let weighted = scene.routed.balance(Weighted::by(|_| 0));
    assert_spread(&spread(&weighted, 900).await, &[("n1", 200..400), ("n2", 200..400), ("n3", 200..400)]);
}

#[tokio::test(start_paused = true)]
async fn a_balance_makes_no_other_handle_and_stays_on_its_node() {
    let scene = Scene::new(3, &[0, 1, 2]).await;
    let local = scene.routed.balance(Balance::LocalFirst);
    assert_eq!(local, scene.routed);
    assert_eq!(local.clone(), local);
    assert_eq!(format!("{:?}", ServiceHandle::name(&local)), r#"Some("worker")"#);
    assert_spread(&spread(&local.clone(), 50).await, &[("n0", 50..51)]);
    let there = WorkerHandle::lookup_on(&scene.cluster[0], "n1", "worker").await.unwrap();
    let spread = there.spread_of(local, 300).await.unwrap();
    assert_spread(&spread, &[("n0", 40..160), ("n1", 40..160), ("n2", 40..160)]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_to_one_instance_has_nothing_to_balance() {
    let node = crate::gate::local_node().await;
    let handle = node.spawn(Worker(Arc::default()));
    let balanced = handle.balance(Balance::Random);
    assert_eq!(balanced, handle);
    assert_eq!(balanced.work().await, Ok(Ok("a".into())));
}
