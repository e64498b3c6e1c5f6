//! Instances that fail, that are new, and callers that go.

use super::*;

/// Makes calls, for as long as it takes, until an instance is passed over.
async fn until_passed_over(scene: &Scene, index: usize) {
    for _ in 0..100 {
        scene.ran();
        steady(&scene.routed.balance(Balance::RoundRobin), 20, Duration::from_millis(5)).await;
        if scene.ran()[index] == 0 {
            return;
        }
    }
    panic!("node {index} is called still");
}

#[tokio::test(start_paused = true)]
async fn what_one_handle_has_learned_all_handles_of_the_node_to_the_name_know() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    scene.fail(3, Fault::Panics);
    until_passed_over(&scene, 3).await;
    let another = WorkerHandle::lookup(&scene.cluster[0], "worker").await.unwrap();
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastLoaded, Balance::LocalFirst] {
        assert_eq!(spread(&another.balance(balance), 50).await.len(), 2, "{balance:?}");
    }
    let elsewhere = WorkerHandle::lookup(&scene.cluster[1], "worker").await.unwrap();
    let ended = steady(&elsewhere.balance(Balance::Random), 30, Duration::from_millis(5)).await;
    assert!(ended.iter().any(|(_, result)| result.is_err()), "another node makes up its own mind");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_passed_over_and_well_again_comes_back_slowly() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    scene.fail(3, Fault::Panics);
    until_passed_over(&scene, 3).await;
    scene.fail(3, Fault::None);
    tokio::time::sleep(Duration::from_secs(28)).await;
    let routed = scene.routed.balance(Balance::RoundRobin);
    spread(&routed, 30).await;
    assert_eq!(scene.ran()[3], 0, "not yet");
    tokio::time::sleep(Duration::from_secs(2)).await;
    spread(&routed, 3000).await;
    let ran = scene.ran();
    assert!((30..300).contains(&ran[3]), "about a tenth of its share at first: {ran:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    spread(&routed, 3000).await;
    assert_eq!(scene.ran(), [0, 1000, 1000, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_begins_slowly_and_has_its_share_after_ten_seconds() {
    let scene = Scene::new(4, &[1, 2]).await;
    let routed = scene.routed.balance(Balance::RoundRobin);
    spread(&routed, 10).await;
    scene.start(3).await;
    scene.ran();
    let mut last = 0;
    for (least, most) in [(50, 200), (300, 700), (1000, 1000)] {
        spread(&routed, 3000).await;
        let ran = scene.ran();
        assert!((least..=most).contains(&ran[3]) && ran[3] > last, "{ran:?} and before {last}");
        last = ran[3];
        tokio::time::sleep(Duration::from_millis(5100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_not_all_are_passed_over_and_when_they_are_well_again_calls_succeed() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    (1..4).for_each(|index| scene.fail(index, Fault::Panics));
    let ended = steady(&scene.routed, 500, Duration::from_millis(5)).await;
    assert!(ended.iter().all(|(_, result)| !matches!(result, Ok(_) | Err(CallError::NoRoute(_)))));
    scene.ran();
    steady(&scene.routed.balance(Balance::RoundRobin), 100, Duration::from_millis(5)).await;
    let ran = scene.ran();
    assert_eq!(
        ran.iter().filter(|ran| **ran > 0).count(),
        2,
        "one of three is passed over: {ran:?} {ended:?}"
    );
    (1..4).for_each(|index| scene.fail(index, Fault::None));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let routed = scene.routed.balance(Balance::RoundRobin);
    assert_eq!(spread(&routed, 100).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_instances_of_one_node_gets_them_even_if_they_are_passed_over() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    scene.fail(3, Fault::Panics);
    until_passed_over(&scene, 3).await;
    scene.fail(3, Fault::None);
    let there = WorkerHandle::lookup_on(&scene.cluster[0], "n3", "worker").await.unwrap();
    assert_eq!(there.work().await, Ok(Ok("n3".into())));
}

#[tokio::test(start_paused = true)]
async fn a_service_s_own_err_is_an_answer_like_others() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    scene.fail(3, Fault::AnswersErr);
    let ended = steady(&scene.routed.balance(Balance::RoundRobin), 300, Duration::from_millis(5)).await;
    assert_eq!(ended.iter().filter(|(_, result)| matches!(result, Ok(Err(_)))).count(), 100);
    assert_eq!(scene.ran(), [0, 100, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_are_no_failures() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    scene.fail(3, Fault::NeverAnswers);
    let routed = scene.routed.balance(Balance::RoundRobin);
    for _ in 0..100 {
        let call = routed.work().into_future();
        let _ = tokio::time::timeout(Duration::from_millis(20), call).await;
    }
    assert!(scene.ran()[3] > 30);
    scene.fail(3, Fault::None);
    spread(&routed, 30).await;
    assert_eq!(scene.ran(), [0, 10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_no_failure_of_the_instances_behind_it() {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    let routed = scene.routed.balance(Balance::RoundRobin);
    (1..4).for_each(|index| scene.takes(index, Duration::from_secs(20)));
    let mut running = JoinSet::new();
    for _ in 0..60 {
        running.spawn(routed.work().into_future());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.cluster.partition(&[0, 1, 2], &[3]).await;
    assert!(scene.cluster.is_partitioned(0, 3));
    let ended = running.join_all().await;
    assert_eq!(ended.iter().filter(|result| matches!(result, Err(CallError::Disconnected(_)))).count(), 20);
    scene.cluster.heal().await;
    scene.cluster.connected().await;
    WorkerHandle::lookup_on(&scene.cluster[0], "n3", "worker").await.unwrap();
    (1..4).for_each(|index| scene.takes(index, Duration::ZERO));
    tokio::time::sleep(Duration::from_secs(10)).await; // should it have been forgotten it begins slowly
    scene.ran();
    spread(&routed, 30).await;
    assert_eq!(scene.ran(), [0, 10, 10, 10]);
}
