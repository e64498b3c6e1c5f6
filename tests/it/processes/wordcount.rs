//! The `wordcount` example: it counts as `wc` does, and a worker that dies does not change the count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use super::{Ended, LIMIT, Process, signal, within};

/// Lines, words and bytes.
type Sums = [u64; 3];

/// What the program printed.
fn parse(stdout: &str) -> (Vec<(String, u64)>, Sums) {
    let mut parts = stdout.split("lines ");
    let (rows, sums) = (parts.next().unwrap(), parts.next().unwrap());
    let row = |line: &str| {
        let (word, count) = line.rsplit_once(' ').unwrap();
        (word.trim_end().to_owned(), count.parse().unwrap())
    };
    let rows = rows.lines().filter(|line| !line.is_empty()).map(row).collect();
    let mut sums = sums.split_whitespace().filter_map(|part| part.parse().ok());
    (rows, [(); 3].map(|()| sums.next().unwrap()))
}

/// The same counts, made in the simplest way. Long words are shown cut.
fn expected(text: &[u8], top: usize) -> (Vec<(String, u64)>, Sums) {
    let lossy = String::from_utf8_lossy(text);
    let mut by_word = BTreeMap::<&str, u64>::new();
    for word in lossy.split_whitespace() {
        *by_word.entry(word).or_default() += 1;
    }
    let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    let sums = [lines, by_word.values().sum(), text.len() as u64];
    let shown = |word: &str| match word.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    };
    let mut rows: Vec<_> = by_word.into_iter().map(|(word, count)| (shown(word), count)).collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count)); // stable: equals stay in the alphabet's order
    rows.truncate(top);
    (rows, sums)
}

async fn wordcount(args: &[&str]) -> Ended {
    Process::start("wordcount", args).end().await
}

/// A file in a directory that goes with the test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &[u8]) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Words of many lengths, some of them often: a pseudo-random sequence that is always the same.
fn prose(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 16);
    let mut state = 1_u64;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (high, low) = (state >> 60, (state >> 40) % 100);
        let end = if high == 0 { '\n' } else { ' ' };
        text.extend_from_slice(format!("w{}{end}", low * (low % (high + 1))).as_bytes());
    }
    text
}

async fn check(text: &[u8]) {
    let files = Files::new();
    let ended = wordcount(&["--check", &files.write("text", text)]).await;
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.code, Some(0));
    assert_eq!(parse(&ended.stdout), expected(text, 20));
    assert!(ended.stdout.ends_with("\ncheck: ok\n"), "{}", ended.stdout);
}

#[tokio::test]
async fn the_readme_is_counted_as_wc_counts_it() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let wc = std::process::Command::new("wc").arg(&readme).env("LC_ALL", "C.UTF-8").output().unwrap();
    let wc = String::from_utf8(wc.stdout).unwrap();
    let mut wc = wc.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
    let ended = wordcount(&["--check", readme.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (rows, sums) = parse(&ended.stdout);
    assert_eq!(sums, [(); 3].map(|()| wc.next().unwrap()));
    assert_eq!(rows, expected(&std::fs::read(readme).unwrap(), 20).0);
}

#[tokio::test]
async fn frequent_words_come_first_and_equals_in_the_order_of_the_alphabet() {
    let files = Files::new();
    let ended = wordcount(&["--top", "4", &files.write("text", b"b a b a c\nB c d\n")]).await;
    let rows = [("a", 2), ("b", 2), ("c", 2), ("B", 1)].map(|(word, count)| (word.to_owned(), count));
    assert_eq!(parse(&ended.stdout), (rows.to_vec(), [2, 8, 16]));
}

#[tokio::test]
async fn an_empty_file_has_nothing_to_count() {
    check(b"").await;
    check(b" \n\n\t ").await;
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_parts_of_words() {
    check(b"caf\xe9 \xff\xfe caf\xe9\r\n\xe3\x80 end").await;
    let every_byte: Vec<u8> =
        (0..=255_u8).filter(|byte| !byte.is_ascii_control() || *byte == b'\n').collect();
    check(&every_byte.repeat(10)).await;
}

#[tokio::test]
async fn white_space_beyond_ascii_separates_words() {
    check("one\u{a0}two\u{3000}three\u{2003}four\u{b}five\u{c}six\n".as_bytes()).await;
}

#[tokio::test]
async fn chunks_are_cut_between_words() {
    check(&prose(5 << 20)).await;
    let long = "é".repeat(3 << 20); // one word of six mebibytes
    check(format!("before {long} after\n").as_bytes()).await;
}

#[tokio::test]
async fn an_unreadable_file_is_named_as_wc_names_it_and_the_others_are_counted() {
    let files = Files::new();
    let (one, two) = (files.write("one", b"a b\n"), files.write("two", b"b\n"));
    let directory = files.0.path().to_str().unwrap();
    let missing = format!("{directory}/missing");
    let ended = wordcount(&["--check", &one, &missing, directory, &two]).await;
    let errors =
        format!("wordcount: {missing}: No such file or directory\nwordcount: {directory}: Is a directory\n");
    assert_eq!(ended.stderr, errors);
    assert_eq!(ended.code, Some(1));
    assert_eq!(parse(&ended.stdout), expected(b"a b\nb\n", 20));
}

#[tokio::test]
async fn what_cannot_be_cut_into_chunks_is_an_error_and_the_others_are_counted() {
    let files = Files::new();
    let (endless, good) = (files.write("endless", &vec![0; 9 << 20]), files.write("good", b"a b\n"));
    let ended = wordcount(&["--check", &endless, &good]).await;
    assert_eq!(ended.stderr, format!("wordcount: {endless}: more than 8388608 bytes without white space\n"));
    assert_eq!(ended.code, Some(1));
    assert_eq!(parse(&ended.stdout), expected(b"a b\n", 20));
    assert!(ended.stdout.ends_with("\ncheck: ok\n"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_command_line_without_sense_is_refused() {
    for (args, expected) in [(&[][..], "<FILE>"), (&["--workers", "0", "file"][..], "--workers")] {
        let ended = wordcount(args).await;
        assert_eq!(ended.code, Some(2), "{args:?}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

/// A count of what the test writes into it, and the workers' process ids.
async fn counting() -> (Process, Vec<u32>) {
    let mut process = Process::start("wordcount", ["--verbose", "/dev/stdin"]);
    let mut workers = Vec::new();
    for _ in 0..3 {
        let line = process.error_line().await;
        let pid = line.strip_prefix("worker-").and_then(|line| line.strip_suffix(" is ready"));
        workers.push(pid.expect("a worker is ready").parse().unwrap());
    }
    (process, workers)
}

#[tokio::test]
async fn the_count_is_right_though_a_worker_is_killed_on_the_way() {
    let (mut process, workers) = counting().await;
    let text = prose(12 << 20);
    let (first, rest) = text.split_at(5 << 20);
    let mut stdin = process.stdin.take().unwrap();
    // The stopped worker is the first to get a chunk, and cannot answer: it dies with the chunk in its hands.
    signal(workers[0], "STOP").await;
    within(LIMIT, "the first half", stdin.write_all(first)).await.unwrap();
    signal(workers[0], "KILL").await;
    let given_up = process.error_line().await;
    assert!(
        given_up.starts_with(&format!("wordcount: worker-{} is given up: disconnected: ", workers[0])),
        "{given_up}"
    );
    within(LIMIT, "the second half", stdin.write_all(rest)).await.unwrap();
    drop(stdin);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(parse(&ended.stdout), expected(&text, 20));
}

#[tokio::test]
async fn a_count_without_workers_ends_with_an_error() {
    let (mut process, workers) = counting().await;
    for worker in workers {
        signal(worker, "KILL").await;
    }
    let mut stdin = process.stdin.take().unwrap();
    // The program may end before it has read everything.
    drop(within(LIMIT, "the text", stdin.write_all(&prose(8 << 20))).await);
    drop(stdin);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("wordcount: no worker is left: "), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn workers_end_with_their_coordinator() {
    let (mut process, _) = counting().await;
    process.child.start_kill().unwrap();
    // The workers hold the coordinator's standard error, so it ends when the last of them has ended.
    process.end().await;
}
