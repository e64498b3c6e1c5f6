//! What balancing is for: one bad instance of three is not felt.

use super::*;

/// Three of four nodes, of which each call takes 10 ms.
async fn three() -> Scene {
    let scene = Scene::new(4, &[1, 2, 3]).await;
    (1..4).for_each(|index| scene.takes(index, Duration::from_millis(10)));
    scene
}

/// The slowest hundredth of 500 calls a second for 12 s.
async fn p99_of(scene: &Scene, routed: &WorkerHandle) -> Duration {
    let ended = steady(routed, 6000, Duration::from_millis(2)).await;
    assert!(ended.iter().all(|(_, result)| result.is_ok()));
    assert_eq!(scene.ran().iter().sum::<usize>(), 6000);
    p99(&ended)
}

#[tokio::test(start_paused = true)]
async fn with_one_of_three_instances_ten_times_slower_the_99th_percentile_grows_by_less_than_half() {
    let healthy = three().await;
    let healthy = p99_of(&healthy, &healthy.routed).await;
    let scene = three().await;
    scene.takes(3, Duration::from_millis(100));
    let blind = p99_of(&scene, &scene.routed.balance(Balance::RoundRobin)).await;
    assert!(blind >= Duration::from_millis(100), "the slow one is slow: {blind:?}");
    let scene = three().await;
    scene.takes(3, Duration::from_millis(100));
    let balanced = p99_of(&scene, &scene.routed).await;
    assert!(balanced <= healthy * 3 / 2, "{balanced:?} instead of {healthy:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_becomes_slow_under_load_is_left_alone_and_found_again_when_it_is_fast() {
    let scene = three().await;
    steady(&scene.routed, 2500, Duration::from_millis(4)).await;
    let ran = scene.ran();
    assert!(ran[1..].iter().all(|ran| (600..1100).contains(ran)), "{ran:?}");
    scene.takes(2, Duration::from_millis(100));
    steady(&scene.routed, 2500, Duration::from_millis(4)).await;
    let ran = scene.ran();
    assert!(ran[2] < 40, "{ran:?}");
    scene.takes(2, Duration::from_millis(10));
    steady(&scene.routed, 7500, Duration::from_millis(4)).await;
    scene.ran();
    steady(&scene.routed, 2500, Duration::from_millis(4)).await;
    let ran = scene.ran();
    assert!(ran[2] > 500, "{ran:?}");
}

/// 100 calls a second for 51 s, those of the first second apart.
async fn check_failing(fault: Fault, balance: Balance) {
    let scene = three().await;
    scene.fail(3, fault);
    let routed = scene.routed.balance(balance);
    let first = steady(&routed, 100, Duration::from_millis(10)).await;
    let failed = first.iter().filter(|(_, result)| result.is_err()).count();
    assert!(failed > 0, "the fault is in force");
    scene.ran();
    steady(&routed, 5000, Duration::from_millis(10)).await;
    let ran = scene.ran();
    assert!(ran[3] * 20 <= 5000, "{ran:?} with {fault:?} by {balance:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_always_fails_is_passed_over_within_a_second_and_sees_a_twentieth_of_the_calls_after()
 {
    for balance in [Balance::LeastLoaded, Balance::RoundRobin] {
        check_failing(Fault::Panics, balance).await;
        check_failing(Fault::NeverAnswers, balance).await;
    }
}
