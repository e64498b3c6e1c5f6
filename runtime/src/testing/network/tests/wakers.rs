//! No wake-up is lost: whatever faults come while two ends talk, all bytes arrive once nothing is in the way.

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;

/// One thing that happens to the network while bytes flow.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Partition,
    Heal,
    Pause(&'static str),
    Resume(&'static str),
    Delay(Duration),
}

/// One end's plan: what it writes, how it reads, and how long it rests in between.
#[derive(Clone, Debug)]
struct Plan {
    writes: Vec<(usize, u64)>,
    reads: Vec<(usize, u64)>,
}

fn faults() -> impl Strategy<Value = Vec<(Fault, u64)>> {
    let host = || prop_oneof![Just("a"), Just("b")];
    let fault = prop_oneof![
        Just(Fault::Partition),
        Just(Fault::Heal),
        host().prop_map(Fault::Pause),
        host().prop_map(Fault::Resume),
        (0..20_u64).prop_map(|millis| Fault::Delay(Duration::from_millis(millis))),
    ];
    proptest::collection::vec((fault, 0..10_u64), 0..20)
}

fn plan() -> impl Strategy<Value = Plan> {
    let steps = || proptest::collection::vec((1..40_usize, prop_oneof![3 => Just(0), 1 => 1..10_u64]), 1..20);
    (steps(), steps()).prop_map(|(writes, reads)| Plan { writes, reads })
}

fn apply(network: &Network, fault: Fault) {
    match fault {
        Fault::Partition => network.partition(&["a"], &["b"]),
        Fault::Heal => network.heal(),
        Fault::Pause(host) => network.pause(host),
        Fault::Resume(host) => network.resume(host),
        Fault::Delay(delay) => network.delay(delay),
    }
}

async fn rest(millis: u64) {
    if millis > 0 {
        sleep(Duration::from_millis(millis)).await;
    }
}

/// Bytes in which a loss, a repetition or an exchange shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn write(writer: &mut (dyn AsyncWrite + Send + Unpin), writes: &[(usize, u64)]) {
    let bytes = pattern(writes.iter().map(|write| write.0).sum());
    let mut at = 0;
    for (length, millis) in writes {
        writer.write_all(&bytes[at..at + length]).await.unwrap();
        at += length;
        rest(*millis).await;
    }
    writer.shutdown().await.unwrap();
}

/// Reads to the end, and notes when what arrived.
async fn read(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    reads: &[(usize, u64)],
) -> (Vec<u8>, Vec<Duration>) {
    let start = time::now();
    let (mut bytes, mut instants) = (Vec::new(), Vec::new());
    for (most, millis) in reads.iter().cycle() {
        let mut part = vec![0; *most];
        let count = reader.read(&mut part).await.unwrap();
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..count]);
        instants.push(elapsed(start));
        rest(*millis).await;
    }
    (bytes, instants)
}

/// Runs both plans under the faults; returns what each end read and when.
async fn talk(plans: &[Plan; 2], faults: &[(Fault, u64)], capacity: usize) -> [(Vec<u8>, Vec<Duration>); 2] {
    let mut it = pair_with(|network| network.set_capacity(capacity)).await;
    let weather = async {
        for (fault, millis) in faults {
            apply(&it.network, *fault);
            rest(*millis).await;
        }
        it.network.heal();
        it.network.resume("a");
        it.network.resume("b");
    };
    let talk = async {
        tokio::join!(
            write(&mut *it.here.writer, &plans[0].writes),
            write(&mut *it.there.writer, &plans[1].writes),
            read(&mut *it.here.reader, &plans[0].reads),
            read(&mut *it.there.reader, &plans[1].reads),
            weather,
        )
    };
    let ((), (), here, there, ()) = guarded(talk).await;
    [here, there]
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn all_bytes_arrive_under_any_faults_and_two_runs_are_equal(
        a in plan(),
        b in plan(),
        faults in faults(),
        capacity in 1..100_usize,
    ) {
        let plans = [a, b];
        let first = paused().block_on(talk(&plans, &faults, capacity));
        for (read, writer) in first.iter().zip(plans.iter().rev()) {
            prop_assert_eq!(&read.0, &pattern(writer.writes.iter().map(|write| write.0).sum()));
        }
        let second = paused().block_on(talk(&plans, &faults, capacity));
        prop_assert_eq!(first, second);
    }
}

/// Here the two ends really run at once, so a wake-up that falls between a look and a registration would show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_between_two_threads() {
    const LENGTH: usize = 256 * 1024;
    let Pair { network, here, there, listener: _listener, .. } =
        pair_with(|network| network.set_capacity(64)).await;
    let mut tasks = JoinSet::new();
    for (mut own, mut other) in [(here.writer, there.reader), (there.writer, here.reader)] {
        tasks.spawn(async move { write(&mut *own, &[(LENGTH, 0)]).await });
        tasks.spawn(async move {
            let (bytes, _) = read(&mut *other, &[(48, 0)]).await;
            assert!(bytes == pattern(LENGTH), "{} bytes", bytes.len());
        });
    }
    tasks.spawn(async move {
        for _ in 0..200 {
            network.partition(&["a"], &["b"]);
            tokio::task::yield_now().await;
            network.heal();
            tokio::task::yield_now().await;
        }
    });
    guarded(async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    })
    .await;
}
