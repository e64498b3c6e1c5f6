//! What the in-memory network promises to the tests that run on it.
//!
//! Nothing here sleeps for real: the clock is paused, and a task that is never woken shows as the guard's timeout.

mod wakers;

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Instant;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;

const MILLI: Duration = Duration::from_millis(1);
const GUARD: Duration = Duration::from_secs(60);

/// Two hosts, a listener on the second, and one stream between them.
struct Pair {
    network: Network,
    a: Host,
    listener: Box<dyn Listener>,
    here: Stream,
    there: Stream,
}

async fn pair() -> Pair {
    pair_with(|_| {}).await
}

async fn pair_with(prepare: impl FnOnce(&Network)) -> Pair {
    let network = Network::new();
    let (a, b) = (network.host("a"), network.host("b"));
    prepare(&network);
    let mut listener = b.listen("0.0.0.0:7000").await.unwrap();
    let here = a.connect("b:7000").await.unwrap();
    let there = accept(&mut listener).await;
    Pair { network, a, listener, here, there }
}

async fn accept(listener: &mut Box<dyn Listener>) -> Stream {
    poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().0
}

/// Fails instead of hanging, when everything else in the test waits for ever. The timer is looked at first, or its
/// own wake-up would stand in for the one that was lost.
async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = time::sleep_until(time::now() + GUARD) => panic!("a task waits that should have been woken"),
        result = future => result,
    }
}

/// Whether the future is still not ready after `wait`.
async fn waits(wait: Duration, future: impl Future) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = time::sleep_until(time::now() + wait) => true,
    }
}

async fn sleep(wait: Duration) {
    time::sleep_until(time::now() + wait).await;
}

async fn read(stream: &mut Stream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    guarded(stream.reader.read_exact(&mut bytes)).await.unwrap();
    bytes
}

async fn read_error(stream: &mut Stream) -> ErrorKind {
    guarded(stream.reader.read_u8()).await.unwrap_err().kind()
}

fn elapsed(since: Instant) -> Duration {
    time::now() - since
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_after_the_delay_in_order() {
    let mut it = pair_with(|network| network.delay(50 * MILLI)).await;
    let start = time::now();
    for byte in 0..100 {
        it.here.writer.write_u8(byte).await.unwrap();
    }
    assert_eq!(elapsed(start), Duration::ZERO, "writing does not wait for the link");
    assert_eq!(read(&mut it.there, 100).await, (0..100).collect::<Vec<u8>>());
    assert_eq!(elapsed(start), 50 * MILLI, "the delay is once, not once a write");
}

#[tokio::test(start_paused = true)]
async fn a_delay_may_be_one_link_s_own() {
    let mut it = pair().await;
    it.network.host("c");
    it.network.delay_between("b", "c", 90 * MILLI);
    let start = time::now();
    it.here.writer.write_all(b"x").await.unwrap();
    read(&mut it.there, 1).await;
    assert_eq!(elapsed(start), Duration::ZERO);

    it.network.delay_between("b", "a", 20 * MILLI);
    it.here.writer.write_all(b"x").await.unwrap();
    read(&mut it.there, 1).await;
    assert_eq!(elapsed(start), 20 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_partition_holds_bytes_until_it_heals() {
    let mut it = pair_with(|network| network.delay(5 * MILLI)).await;
    it.here.writer.write_all(b"under way, ").await.unwrap();
    it.network.partition(&["a"], &["b"]);
    assert!(it.network.is_partitioned("b", "a"));
    it.here.writer.write_all(b"written after").await.unwrap();
    assert!(waits(GUARD / 2, it.there.reader.read_u8()).await);

    it.network.heal();
    assert!(!it.network.is_partitioned("a", "b"));
    let healed = time::now();
    assert_eq!(read(&mut it.there, 24).await, b"under way, written after");
    assert_eq!(elapsed(healed), 5 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_partition_does_not_take_back_what_arrived() {
    let mut it = pair().await;
    it.here.writer.write_all(b"arrived").await.unwrap();
    it.network.partition(&["a"], &["b"]);
    assert!(it.network.is_partitioned("a", "b"));
    assert_eq!(read(&mut it.there, 7).await, b"arrived");
}

#[tokio::test(start_paused = true)]
async fn a_partition_leaves_its_own_side_alone() {
    let network = Network::new();
    let (a, c) = (network.host("a"), network.host("c"));
    network.host("b");
    let mut listener = c.listen("c:1").await.unwrap();
    network.partition(&["a", "c"], &["b", "c"]);
    assert!(network.is_partitioned("a", "b") && network.is_partitioned("a", "c"));
    assert!(!network.is_partitioned("c", "c"), "a host is never cut from itself");

    let mut here = c.connect("localhost:1").await.unwrap();
    let mut there = accept(&mut listener).await;
    here.writer.write_all(b"self").await.unwrap();
    assert_eq!(read(&mut there, 4).await, b"self");
    assert!(waits(GUARD / 2, a.connect("c:1")).await);
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_after_the_bytes_and_after_the_delay() {
    let mut it = pair_with(|network| network.delay(5 * MILLI)).await;
    let start = time::now();
    it.here.writer.write_all(b"last").await.unwrap();
    drop(it.here);
    let mut bytes = Vec::new();
    guarded(it.there.reader.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"last");
    assert_eq!(elapsed(start), 5 * MILLI);
    let refused = it.there.writer.write_all(b"x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_woken_by_the_end() {
    let mut it = pair().await;
    let leave = async { drop(it.here) };
    let (end, ()) = tokio::join!(read_error(&mut it.there), leave);
    assert_eq!(end, ErrorKind::UnexpectedEof);
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_cross_a_partition() {
    let mut it = pair().await;
    it.network.partition(&["a"], &["b"]);
    assert!(it.network.is_partitioned("a", "b"));
    drop(it.here);
    assert!(waits(GUARD / 2, it.there.reader.read_u8()).await);
    it.network.heal();
    assert_eq!(read_error(&mut it.there).await, ErrorKind::UnexpectedEof);
}

#[tokio::test(start_paused = true)]
async fn a_shut_writer_leaves_the_other_direction_open() {
    let mut it = pair().await;
    it.here.writer.shutdown().await.unwrap();
    assert_eq!(read_error(&mut it.there).await, ErrorKind::UnexpectedEof);
    assert_eq!(it.here.writer.write_u8(1).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    it.there.writer.write_all(b"still").await.unwrap();
    assert_eq!(read(&mut it.here, 5).await, b"still");
}

#[tokio::test(start_paused = true)]
async fn a_crash_resets_the_peers_at_once() {
    let mut it = pair_with(|network| network.delay(50 * MILLI)).await;
    it.there.writer.write_all(b"lost").await.unwrap();
    let start = time::now();
    let (read, ()) = tokio::join!(read_error(&mut it.here), async { it.network.crash("b") });
    assert_eq!(read, ErrorKind::ConnectionReset);
    assert_eq!(elapsed(start), Duration::ZERO);
    assert_eq!(it.here.writer.write_u8(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(read_error(&mut it.there).await, ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_crash_wakes_a_writer_that_waits_for_room() {
    let mut it = pair_with(|network| network.set_capacity(1)).await;
    let crash = async { it.network.crash("b") };
    let (written, ()) = tokio::join!(guarded(it.here.writer.write_all(b"xx")), crash);
    assert_eq!(written.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_crash_behind_a_partition_shows_when_it_heals() {
    let mut it = pair().await;
    it.network.partition(&["a"], &["b"]);
    assert!(it.network.is_partitioned("a", "b"));
    it.network.crash("b");
    assert!(waits(GUARD / 2, it.here.reader.read_u8()).await);
    it.network.heal();
    assert_eq!(read_error(&mut it.here).await, ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_host_comes_back_under_its_address_in_a_new_life() {
    let mut it = pair().await;
    let old = it.network.host("b");
    it.network.pause("b");
    it.network.crash("b");
    assert!(!it.network.is_paused("b"), "the new life does not stand still");
    assert_eq!(it.a.connect("b:7000").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(old.listen("b:7000").await.err().unwrap().kind(), ErrorKind::NetworkDown);
    assert_eq!(old.connect("a:1").await.unwrap_err().kind(), ErrorKind::NetworkDown);

    let mut next = it.network.host("b").listen("b:7000").await.unwrap();
    assert!(waits(GUARD / 2, accept(&mut it.listener)).await);
    drop(it.listener);
    let (dialled, _accepted) =
        guarded(async { tokio::join!(it.a.connect("b:7000"), accept(&mut next)) }).await;
    assert_eq!(dialled.unwrap().peer, next.local_addr().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_paused_host_lets_dialers_in_and_moves_no_byte() {
    let mut it = pair().await;
    it.here.writer.write_all(b"arrived").await.unwrap();
    it.network.pause("b");
    assert!(it.network.is_paused("b"));
    it.there.writer.write_all(b"held").await.unwrap();
    let _second = guarded(it.a.connect("b:7000")).await.unwrap();
    assert!(waits(GUARD / 4, accept(&mut it.listener)).await);
    assert!(waits(GUARD / 4, it.there.reader.read_u8()).await);
    assert!(waits(GUARD / 4, it.here.reader.read_u8()).await);

    let (_accepted, bytes, ()) =
        tokio::join!(guarded(accept(&mut it.listener)), read(&mut it.there, 7), async {
            it.network.resume("b");
        });
    assert_eq!(bytes, b"arrived");
    assert_eq!(read(&mut it.here, 4).await, b"held");
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_is_refused() {
    let it = pair().await;
    let start = time::now();
    for (address, kind) in [
        ("b:7001", ErrorKind::ConnectionRefused),
        ("10.9.9.9:7000", ErrorKind::ConnectionRefused),
        ("127.0.0.1:7000", ErrorKind::ConnectionRefused),
        ("nobody:7000", ErrorKind::NotFound),
        ("b", ErrorKind::InvalidInput),
        ("b:port", ErrorKind::InvalidInput),
    ] {
        assert_eq!(guarded(it.a.connect(address)).await.unwrap_err().kind(), kind, "{address}");
    }
    assert_eq!(elapsed(start), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn connecting_across_a_partition_gets_no_answer_until_it_heals() {
    let mut it = pair().await;
    it.network.delay(5 * MILLI);
    it.network.partition(&["b"], &["a"]);
    assert!(it.network.is_partitioned("a", "b"));
    assert!(waits(GUARD / 2, it.a.connect("b:7000")).await);
    assert!(waits(GUARD / 2, it.a.connect("b:1")).await, "nor is it refused");

    let start = time::now();
    let heal = async {
        sleep(MILLI).await;
        it.network.heal();
    };
    let (stream, ()) = tokio::join!(guarded(it.a.connect("b:7000")), heal);
    assert_eq!(elapsed(start), 11 * MILLI, "one round trip after it healed");
    let accepted = guarded(accept(&mut it.listener)).await;
    assert_eq!(stream.unwrap().peer, it.listener.local_addr().unwrap());
    assert_ne!(accepted.peer, it.there.peer, "each stream has its own port");
}

#[tokio::test(start_paused = true)]
async fn listening_gives_addresses_that_can_be_dialled() {
    let network = Network::new();
    let (a, b) = (network.host("a"), network.host("b"));
    let check = async |host: &Host, address: &str, expected: Result<&str, ErrorKind>| {
        let got =
            host.listen(address).await.map(|it| (it.local_addr().unwrap(), it)).map_err(|error| error.kind());
        let expected = expected.map(|address| address.parse::<SocketAddr>().unwrap());
        assert_eq!(got.as_ref().map(|it| it.0).map_err(|kind| *kind), expected, "{address}");
        got.ok().map(|it| it.1)
    };
    let kept = check(&a, "127.0.0.1:7000", Ok("10.0.0.1:7000")).await;
    check(&a, "0.0.0.0:7000", Err(ErrorKind::AddrInUse)).await;
    drop(kept);
    let _kept = check(&a, "a:7000", Ok("10.0.0.1:7000")).await;
    let _free = check(&b, "[::]:0", Ok("10.0.0.2:49152")).await;
    check(&b, "10.0.0.2:0", Ok("10.0.0.2:49153")).await;
    check(&b, "a:0", Err(ErrorKind::AddrNotAvailable)).await;
    assert!(a.connect("10.0.0.2:49152").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_pipe_pushes_back_until_the_reader_makes_room() {
    let mut it = pair_with(|network| network.set_capacity(8)).await;
    assert_eq!(it.here.writer.write(b"0123456789").await.unwrap(), 8);
    assert!(waits(GUARD / 2, it.here.writer.write_u8(b'8')).await);
    let (written, bytes) = tokio::join!(guarded(it.here.writer.write_all(b"89")), read(&mut it.there, 10));
    written.unwrap();
    assert_eq!(bytes, b"0123456789");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_for_room_learns_that_its_peer_is_gone() {
    let mut it = pair_with(|network| network.set_capacity(8)).await;
    it.network.delay(5 * MILLI);
    it.here.writer.write_all(b"01234567").await.unwrap();
    let start = time::now();
    // A task of its own, so that its timer does not wake the writer by the way.
    let mut leave = JoinSet::new();
    leave.spawn(async move {
        sleep(MILLI).await;
        drop(it.there);
    });
    let written = guarded(it.here.writer.write_u8(8)).await;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(elapsed(start), 6 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_dropped_breaks_off_who_waited() {
    let mut it = pair().await;
    let mut waiting = it.a.connect("b:7000").await.unwrap();
    drop(it.listener);
    assert_eq!(read_error(&mut waiting).await, ErrorKind::ConnectionReset);
    it.here.writer.write_all(b"accepted").await.unwrap();
    assert_eq!(read(&mut it.there, 8).await, b"accepted");
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_waits_is_woken_by_a_dialer_and_by_the_end_of_a_pause() {
    let mut it = pair().await;
    let (_accepted, dialled) = tokio::join!(guarded(accept(&mut it.listener)), it.a.connect("b:7000"));
    dialled.unwrap();

    it.network.pause("b");
    assert!(it.network.is_paused("b"));
    let _waiting = it.a.connect("b:7000").await.unwrap();
    let resume = async { it.network.resume("b") };
    let (_accepted, ()) = tokio::join!(guarded(accept(&mut it.listener)), resume);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_dialers_makes_the_next_one_wait() {
    let mut it = pair().await;
    let mut waiting = Vec::new();
    while let Some(stream) = it.a.connect("b:7000").now_or_never() {
        waiting.push(stream.unwrap());
        assert!(waiting.len() <= 4096, "the queue has a bound");
    }
    let (next, _accepted) = tokio::join!(guarded(it.a.connect("b:7000")), accept(&mut it.listener));
    next.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_stream_that_both_ends_dropped() {
    let it = pair().await;
    let connections = || it.network.shared.with(|state, _| state.connections());
    let waiting = it.a.connect("b:7000").await.unwrap();
    assert_eq!(connections(), 2);
    drop((it.here, it.there));
    assert_eq!(connections(), 1);
    drop(waiting);
    assert_eq!(connections(), 1, "it can still be accepted");
    drop(it.listener);
    assert_eq!(connections(), 0);
}
