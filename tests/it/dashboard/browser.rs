//! A real browser without a window: Chromium by chromedriver, over the protocol WebDriver. Where there is none, tests that want one print that they
//! were not run, and pass: `.ci/run` installs it where it can.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::raw::{PATIENCE, soon};

/// What the browser is told: it must not ask anybody but the page.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,800",
];

/// A browser with one window. It ends with [`Browser::end`]; dropped, chromedriver and the browser are killed.
pub(super) struct Browser {
    driver: Child,
    /// The browser's own process, which outlives a chromedriver that is killed.
    process: Option<Pid>,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

/// Where a program is, if it is.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[allow(clippy::print_stderr, reason = "a test that was not run says so")]
fn none() -> Option<Browser> {
    eprintln!(
        "there is no chromedriver on this machine (Debian: chromium, chromium-driver): the web page was NOT tested in a browser"
    );
    None
}

impl Browser {
    /// Starts one.
    pub(super) async fn start() -> Option<Self> {
        let Some(program) = program("chromedriver") else { return none() };
        let profile = TempDir::new().unwrap();
        let mut driver = Command::new(program)
            .arg("--port=0")
            .envs(["HOME", "XDG_CONFIG_HOME", "TMPDIR"].map(|name| (name, profile.path()))) // what they leave behind goes with it
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut says = BufReader::new(driver.stdout.take().unwrap()).lines();
        let address = soon("chromedriver's port", async {
            loop {
                let line = says.next_line().await.unwrap().expect("chromedriver says its port");
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return ([127, 0, 0, 1], port.trim_end_matches('.').parse().unwrap()).into();
                }
            }
        })
        .await;
        // Nobody reads on: what it says later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = says.next_line().await {} });
        let folder = format!("--user-data-dir={}", profile.path().join("profile").display());
        let arguments: Vec<_> = ARGUMENTS.into_iter().chain([&*folder]).collect();
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = ask(address, "POST", "/session", &capabilities).await.expect("Chromium starts");
        let process = session["capabilities"]["goog:processID"].as_i64().unwrap();
        let process = Pid::from_raw(process.try_into().unwrap());
        let session = session["sessionId"].as_str().unwrap().to_owned();
        Some(Self { driver, process, address, session, _profile: profile })
    }

    async fn order(&self, path: &str, what: Value) -> Result<Value, Value> {
        ask(self.address, "POST", &format!("/session/{}/{path}", self.session), &what).await
    }

    /// Opens a page.
    pub(super) async fn open(&self, url: &str) {
        self.order("url", json!({"url": url})).await.unwrap();
    }

    /// What the body of a function gives.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.order("execute/sync", json!({"script": script, "args": []})).await.unwrap()
    }

    /// Waits until an expression is true, whose names are `all`, for the elements of a selector, and `text`, for the text of such.
    pub(super) async fn until(&self, what: &str) {
        let script = format!(
            "const all = (selector) => [...document.querySelectorAll(selector)];
            const text = (selector) => all(selector).map((element) => element.textContent).join('\\n');
            return Boolean({what});"
        );
        let begun = std::time::Instant::now();
        while self.run(&script).await != true {
            if begun.elapsed() > PATIENCE {
                let shown = self.run("return document.body.innerText").await;
                panic!("not seen: {what}\n{}\n{:?}", shown.as_str().unwrap_or_default(), self.log().await);
            }
        }
    }

    async fn element(&self, selector: &str) -> String {
        self.until(&format!("all({}).length", json!(selector))).await;
        let using = json!({"using": "css selector", "value": selector});
        let found = self.order("element", using).await.unwrap();
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    /// Clicks where a user would, as soon as it is there.
    pub(super) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.order(&format!("element/{element}/click"), json!({})).await.unwrap();
    }

    /// Types into a field.
    pub(super) async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.order(&format!("element/{element}/value"), json!({"text": text})).await.unwrap();
    }

    /// What the browser has said since it was asked last: errors of scripts, of loading, and of what the page forbids.
    pub(super) async fn log(&self) -> Vec<String> {
        let log = self.order("se/log", json!({"type": "browser"})).await.unwrap();
        let line = |line: &Value| format!("{} {}", line["level"], line["message"]);
        log.as_array().unwrap().iter().map(line).collect()
    }

    /// Closes it.
    pub(super) async fn end(mut self) {
        ask(self.address, "DELETE", &format!("/session/{}", self.session), &Value::Null).await.unwrap();
        self.process = None;
        self.driver.kill().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            let _ = kill_process(process, Signal::KILL); // it may have gone
        }
    }
}

/// One order of the protocol, and what comes of it.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
    soon("the browser", async {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        let mut first = String::new();
        stream.read_line(&mut first).await.unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        if first.contains(" 200 ") { Ok(answer["value"].clone()) } else { Err(answer["value"].clone()) }
    })
    .await
}
