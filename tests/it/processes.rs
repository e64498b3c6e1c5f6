//! The real thing: the examples as processes, over TCP, killed and stopped by signals.
//!
//! Never waits without a limit: whatever goes wrong fails a test and hangs none. Every process ends with its test.

mod simpledb;
mod tracing;
mod wordcount;

use std::ffi::OsStr;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// How long anything here may take. Much more than it takes, since the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);

/// What the future gives, if it ends in time.
async fn within<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// A running example. Dropped, it is killed.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

/// How a process ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Process {
    fn start<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = tokio::process::Command::new(example(name));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdin, stdout, stderr }
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("the process has been waited for")
    }

    /// The next line on its standard output.
    async fn line(&mut self) -> String {
        let line = within(LIMIT, "a line", self.stdout.next_line()).await.unwrap();
        line.expect("a line was expected, and the output ended")
    }

    /// The next line on its standard error.
    async fn error_line(&mut self) -> String {
        let line = within(LIMIT, "a line", self.stderr.next_line()).await.unwrap();
        line.expect("a line was expected, and the errors ended")
    }

    /// Waits for its end, and for the end of whoever else holds its outputs. Gives what it wrote that was not read yet.
    async fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut out, mut err) = (self.stdout.into_inner(), self.stderr.into_inner());
        let all = async {
            tokio::join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr), self.child.wait())
        };
        let (_, _, status) = within(LIMIT, "the end of a process", all).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: status.unwrap().code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

/// Sends a signal, such as `STOP`, to one process.
async fn signal(pid: u32, signal: &str) {
    let status = tokio::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(within(LIMIT, "kill", status).await.unwrap().success(), "kill -{signal} {pid}");
    if signal == "STOP" {
        // The signal is sent, and each thread stops when it next comes to it.
        let stopped = async {
            while !every_thread_is_stopped(pid) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(LIMIT, "the stop", stopped).await;
    }
}

/// Whether the system says so of each thread of a process. Where it cannot be asked, yes.
fn every_thread_is_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
    })
}

/// Where an example is, in the profile of this test. The first caller builds them all.
fn example(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        // This test is `<target>/<profile>/deps/it-<hash>`.
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let profile_name = match profile.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        // The whole workspace, so that the features are those with which `cargo test` has built the examples already.
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--examples",
                "--profile",
                profile_name,
                "--target-dir",
            ])
            .arg(profile.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.unwrap().success(), "the examples do not build");
        profile.join("examples")
    });
    directory.join(name)
}
