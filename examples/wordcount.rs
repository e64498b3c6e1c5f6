//! Counts the words of text files on a cluster of processes.
//!
//! Run it: `cargo run --release --example wordcount -- README.md`
//!
//! The program starts itself three more times as workers. Each is a node with one service, [`Counter`]; the first
//! process, the coordinator, cuts the files into chunks and calls the workers with them. A worker that dies costs
//! nothing but time: a chunk is added to the total when its reply comes, and one without a reply goes to another worker.
//!
//! What is counted is what `wc` counts in a UTF-8 locale. A line is a newline byte. A word is what white space separates,
//! be it ASCII's or Unicode's, in whatever case; bytes that are not UTF-8 are part of a word and are shown as `\u{FFFD}`.
//! (Some versions of `wc` leave out words in which nothing is printable; here they count.)

#![allow(clippy::disallowed_methods, reason = "the clock and the randomness of a program are its own")]

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use skyhold::Event;
use skyhold::prelude::*;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The size of a chunk, in bytes. It ends where a word ends, so it may be larger.
const CHUNK: usize = 1024 * 1024;

/// The longest stretch without ASCII white space, in bytes: what bounds a chunk.
const LONGEST_STRETCH: usize = 8 * CHUNK;

/// How many chunks a worker has at once: one to count, and one on its way.
const CHUNKS_PER_WORKER: usize = 2;

/// How long a worker may take to find the coordinator, and the coordinator to find a worker.
const PATIENCE: Duration = Duration::from_secs(10);

/// From this many bytes on the input is long, and there is a progress bar.
const LONG_INPUT: u64 = 32 * 1024 * 1024;

/// How a worker is told the secret: arguments can be read by every user of the machine.
const SECRET: &str = "WORDCOUNT_SECRET";

/// Counts words, lines and bytes on a cluster of processes.
#[derive(Parser)]
struct Arguments {
    /// The files to count.
    #[arg(required_unless_present = "worker_of", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How many worker processes to start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// How many of the most frequent words to print.
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Count once more, in one loop, and compare.
    #[arg(long)]
    check: bool,
    /// Say which workers run.
    #[arg(short, long)]
    verbose: bool,
    /// Be a worker of the coordinator at this address.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    worker_of: Option<String>,
}

/// What was counted.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    lines: u64,
    words: u64,
    bytes: u64,
    by_word: HashMap<String, u64>,
}

/// The service that every worker runs.
struct Counter;

#[service]
impl Counter {
    /// Counts a piece of text that begins and ends between words.
    pub fn count(&self, text: Bytes) -> Tally {
        let mut tally = Tally::default();
        tally.add_text(&text);
        tally
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.worker_of {
        Some(coordinator) => work(coordinator).await.map(|()| true),
        None => coordinate(&arguments).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

// ---- The worker ----

/// Counts for the coordinator, for as long as it is there.
async fn work(coordinator: &str) -> Result<(), Box<dyn Error>> {
    let secret = Secret::new(std::env::var(SECRET)?)?;
    let name = worker_name(std::process::id());
    let node = Node::builder(name).cluster("wordcount").seed(coordinator).secret(secret).start().await?;
    let mut events = node.events();
    node.service("counter", || Counter).start().await?;
    let connected = async {
        while node.peers().is_empty() {
            events.next().await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await?;
    // The coordinator is the only peer: without it there is nothing left to do.
    while !matches!(events.next().await, Some(Event::PeerDown { .. }) | None) {}
    Ok(())
}

fn worker_name(pid: u32) -> String {
    format!("worker-{pid}")
}

// ---- The coordinator ----

/// Counts the files, and prints what came out. Gives whether all went well.
async fn coordinate(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let start = Instant::now();
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)?;
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let node = Node::builder("coordinator").cluster("wordcount").listen("127.0.0.1:0");
    let node = node.secret(Secret::new(&secret)?).call_timeout(PATIENCE).start().await?;

    let mut team = Vec::new();
    for _ in 0..arguments.workers {
        team.push(start_worker(&node, &secret)?);
    }
    for worker in &mut team {
        worker.find(&node, arguments.verbose).await;
    }
    let bar = progress_bar(&arguments.files);
    let (chunks, to_count) = mpsc::channel(CHUNKS_PER_WORKER);
    // A thread and no blocking task: a file that never ends, such as a pipe, does not keep the program from ending.
    let reader = std::thread::spawn({
        let (files, bar) = (arguments.files.clone(), bar.clone());
        move || read_all(&files, &chunks, &bar)
    });
    let tally = count(&mut team, to_count, &bar).await?;
    bar.finish_and_clear();
    let mut all_well = reader.join().map_err(|_| "the reader panicked")?;
    node.shutdown().await?; // which ends the workers

    let mut report = tally.report(arguments.top, start.elapsed());
    if arguments.check {
        if tally == count_in_one_loop(&arguments.files) {
            report += "check: ok\n";
        } else {
            eprintln!("wordcount: check failed: one loop counts otherwise");
            all_well = false;
        }
    }
    match io::stdout().write_all(report.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(all_well),
    }
}

/// A worker process as the coordinator sees it. Dropped, it is killed.
struct Worker {
    process: Child,
    name: String,
    /// Leads to the worker's counter; `None` once it has failed.
    counter: Option<CounterHandle>,
    /// How many chunks it has.
    busy: usize,
}

fn start_worker(node: &Node, secret: &str) -> Result<Worker, Box<dyn Error>> {
    let address = node.address().ok_or("the coordinator does not listen")?;
    let process = Command::new(std::env::current_exe()?)
        .args(["--worker-of", &address.to_string()])
        .env(SECRET, secret)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let name = worker_name(process.id().ok_or("a worker ended at once")?);
    Ok(Worker { process, name, counter: None, busy: 0 })
}

impl Worker {
    /// Waits until the worker can be called. One that never can is left out.
    async fn find(&mut self, node: &Node, verbose: bool) {
        tokio::select! {
            found = CounterHandle::lookup_on(node, &self.name, "counter") => match found {
                Ok(counter) => {
                    self.counter = Some(counter);
                    if verbose {
                        eprintln!("{} is ready", self.name);
                    }
                }
                Err(error) => eprintln!("wordcount: {error}"),
            },
            _ = self.process.wait() => eprintln!("wordcount: {} ended before it began", self.name),
        }
    }

    /// Never asks the worker again, whatever its error was: what it would still answer is counted by another.
    fn give_up(&mut self, error: &CallError, bar: &ProgressBar) {
        if self.counter.take().is_some() {
            bar.suspend(|| eprintln!("wordcount: {} is given up: {error}", self.name));
            drop(self.process.start_kill()); // it may be dead already
        }
    }
}

/// Has all the chunks counted. A chunk is added once: when its reply comes.
async fn count(
    team: &mut [Worker],
    mut chunks: mpsc::Receiver<Bytes>,
    bar: &ProgressBar,
) -> Result<Tally, String> {
    let mut total = Tally::default();
    let mut again = Vec::new(); // chunks whose worker failed
    let mut calls = JoinSet::new();
    let mut last_error = None;
    loop {
        let free = team.iter().enumerate().filter(|(_, worker)| worker.busy < CHUNKS_PER_WORKER);
        let free = free.filter_map(|(at, worker)| Some((worker.busy, at, worker.counter.clone()?)));
        let next = free.min_by_key(|(busy, ..)| *busy);
        tokio::select! {
            Some(chunk) = next_chunk(&mut again, &mut chunks), if next.is_some() => {
                let Some((_, at, counter)) = next else { continue };
                team[at].busy += 1;
                // A chunk's `clone` is another reference to the same bytes.
                calls.spawn(async move { (at, counter.count(chunk.clone()).await, chunk) });
            }
            Some(ended) = calls.join_next() => {
                let (at, result, chunk) = ended.map_err(|error| error.to_string())?;
                team[at].busy -= 1;
                match result {
                    Ok(tally) => {
                        bar.inc(tally.bytes);
                        total.add(tally);
                    }
                    Err(error) => {
                        team[at].give_up(&error, bar);
                        again.push(chunk);
                        last_error = Some(error);
                    }
                }
            }
            else => break,
        }
    }
    // Either nothing is left to count, or nobody to count it.
    if team.iter().all(|worker| worker.counter.is_none())
        && next_chunk(&mut again, &mut chunks).await.is_some()
    {
        let why = last_error.map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("no worker is left{why}"));
    }
    Ok(total)
}

async fn next_chunk(again: &mut Vec<Bytes>, chunks: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
    match again.pop() {
        Some(chunk) => Some(chunk),
        None => chunks.recv().await,
    }
}

/// Visible on a terminal, if the input is long.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let length = files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    if length < LONG_INPUT || !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

// ---- Files ----

/// Reads the files in turn, chunk by chunk. Says which cannot be read, as `wc` does, and goes on with the others; gives
/// whether there was none.
fn read_all(files: &[PathBuf], chunks: &mpsc::Sender<Bytes>, bar: &ProgressBar) -> bool {
    let mut all_well = true;
    for path in files {
        if let Err(error) = read(path, chunks) {
            all_well = false;
            // Without the system's number of the error, which `io::Error` appends.
            let error = error.to_string();
            let error = error.split(" (os error").next().unwrap_or(&error);
            bar.suspend(|| eprintln!("wordcount: {}: {error}", path.display()));
        }
    }
    all_well
}

/// Cuts a file into chunks that end with white space.
fn read(path: &PathBuf, chunks: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut text = Vec::new();
    loop {
        let read = (&mut file).take(CHUNK as u64).read_to_end(&mut text)?;
        let first_stretch = text.iter().position(|byte| is_ascii_space(*byte)).unwrap_or(text.len());
        if first_stretch > LONGEST_STRETCH {
            return Err(io::Error::other(format!("more than {LONGEST_STRETCH} bytes without white space")));
        }
        let end = match text.iter().rposition(|byte| is_ascii_space(*byte)) {
            _ if read == 0 => text.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let rest = text.split_off(end);
        let chunk = std::mem::replace(&mut text, rest);
        let is_refused = !chunk.is_empty() && chunks.blocking_send(chunk.into()).is_err();
        // Nobody takes a chunk when no worker is left.
        if read == 0 || is_refused {
            return Ok(());
        }
    }
}

// ---- Counting ----

impl Tally {
    /// Counts a text that begins and ends between words.
    fn add_text(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        self.lines += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        for word in String::from_utf8_lossy(text).split(is_space).filter(|word| !word.is_empty()) {
            self.words += 1;
            match self.by_word.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.by_word.insert(word.to_owned(), 1)),
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
        for (word, count) in other.by_word {
            *self.by_word.entry(word).or_default() += count;
        }
    }

    /// The most frequent words, a row each, the first in the alphabet first among equals; and the sums.
    fn report(&self, top: usize, time: Duration) -> String {
        let mut rows: Vec<_> = self.by_word.iter().collect();
        rows.sort_unstable_by(|(word, count), (other, others)| others.cmp(count).then(word.cmp(other)));
        rows.truncate(top);
        let rows: Vec<_> = rows.into_iter().map(|(word, count)| (printable(word), count)).collect();
        let width = rows.iter().map(|(word, _)| word.chars().count()).max().unwrap_or(0);
        let mut report: String =
            rows.iter().map(|(word, count)| format!("{word:width$} {count:>9}\n")).collect();
        if !report.is_empty() {
            report.push('\n');
        }
        report += &format!("lines {}\nwords {}\nbytes {}\n", self.lines, self.words, self.bytes);
        report + &format!("time  {:.3} s\n", time.as_secs_f64())
    }
}

/// The white space of `wc` in a UTF-8 locale.
fn is_space(char: char) -> bool {
    match char {
        '\u{85}' => false,
        '\u{2060}' => true,
        other => other.is_whitespace(),
    }
}

fn is_ascii_space(byte: u8) -> bool {
    byte.is_ascii() && is_space(byte.into())
}

/// A word as a terminal can show it: on one line, and without control characters.
fn printable(word: &str) -> String {
    let shown = word.chars().take(60).map(|char| if char.is_control() { '\u{FFFD}' } else { char });
    shown.chain(word.chars().nth(60).map(|_| '…')).collect()
}

/// The same count without workers and chunks. What cannot be read has been reported before.
fn count_in_one_loop(files: &[PathBuf]) -> Tally {
    let mut tally = Tally::default();
    for file in files.iter().filter_map(|path| File::open(path).ok()) {
        let mut stretch = Vec::new();
        for byte in BufReader::new(file).bytes().map_while(Result::ok) {
            stretch.push(byte);
            if is_ascii_space(byte) {
                tally.add_text(&stretch);
                stretch.clear();
            } else if stretch.len() > LONGEST_STRETCH {
                stretch.clear();
                break;
            }
        }
        tally.add_text(&stretch);
    }
    tally
}
