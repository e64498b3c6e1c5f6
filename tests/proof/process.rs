//! A node's process as the driver has it: its pipes, signals to it, and what the system says of it.
//!
//! Signals go to its own id alone. Dropped, it is killed and waited for.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::ROLE;
use crate::board::{Board, Who};
use crate::node::BEGIN;
use crate::words::{self, Begin, Dated, Report};

/// How long a signal may take to be in force.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A running node.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    pub(crate) who: Who,
    pub(crate) incarnation: u64,
}

impl Process {
    /// Starts a node by `command`, which runs this very program. What it says goes to the board and to a file.
    pub(crate) fn start(mut command: Command, begin: &Begin, board: &Arc<Board>) -> crate::Fallible<Self> {
        let who = Who { node: begin.node, life: begin.life };
        let file = |sort| File::create(begin.folder.join(format!("n{}.{}.{sort}", who.node, who.life)));
        let (mut said, errors) = (file("said")?, file("errors")?);
        command.env(ROLE, "node").env(BEGIN, serde_json::to_string(begin)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let to = Arc::clone(board);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(writeln!(said, "{line}"));
                if let Ok(dated) = serde_json::from_str::<Dated>(&line) {
                    to.post(who, dated);
                }
            }
        });
        Ok(Self { child, stdin, who, incarnation: 0 })
    }

    /// Waits until its services run.
    pub(crate) fn up(&mut self, board: &Board, limit: Duration) -> crate::Fallible<crate::clock::Micros> {
        let who = self.who;
        let (at, incarnation) = board
            .find(limit, |from, dated| match dated.report {
                Report::Up { incarnation } if from == who => Some((dated.at, incarnation)),
                _ => None,
            })
            .ok_or_else(|| format!("n{} is not up within {limit:?}", who.node))?;
        self.incarnation = incarnation;
        Ok(at)
    }

    pub(crate) fn tell(&mut self, command: &words::Command) -> crate::Fallible<()> {
        let line = serde_json::to_string(command)?;
        Ok(writeln!(self.stdin, "{line}")?)
    }

    /// Stops it, and returns when the system says that every thread of it is.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        self.wait_until(true)
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::CONT)?;
        self.wait_until(false)
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Kills it at once. Returns when it has gone, and gives whether it was this that ended it.
    pub(crate) fn kill(&mut self) -> io::Result<bool> {
        self.child.kill()?;
        Ok(self.child.wait()?.signal() == Some(Signal::KILL.as_raw()))
    }

    /// Waits for its end, which is asked for. Gives whether it ended well.
    pub(crate) fn ended(&mut self, limit: Duration) -> io::Result<bool> {
        let begin = std::time::Instant::now();
        while begin.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(false)
    }

    /// Whether the system says of each thread that it is stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return false };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
        })
    }

    /// The processor time that it has used, in seconds, by the system's account.
    pub(crate) fn processor_time(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let ticks: f64 =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Some(ticks / 100.0) // USER_HZ is 100 on every Linux
    }

    fn pid(&self) -> io::Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| io::Error::other("no process id"))
    }

    fn wait_until(&self, is_stopped: bool) -> io::Result<()> {
        let begin = std::time::Instant::now();
        while self.is_stopped() != is_stopped {
            if begin.elapsed() > AT_ONCE {
                return Err(io::Error::other(format!("the signal to n{} is not in force", self.who.node)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill()); // it may have ended
    }
}
