//! A new version of a service takes over the calls of the old one, from 0 to 100 % by three reloads of a file, under load and
//! without a call that fails.
//!
//! Run it: `cargo run --example canary`

#![allow(clippy::disallowed_methods, reason = "tasks and the clock are the program's own")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use skyhold::prelude::*;
use tokio::sync::mpsc;

/// Greets, each version in its own way.
struct Greeter {
    version: u32,
}

#[service]
impl Greeter {
    pub fn greet(&self) -> String {
        format!("version {}", self.version)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = File(std::env::temp_dir().join(format!("skyhold-canary-{}.toml", std::process::id())));
    file.write(0)?;
    let gate = Node::from_config(&file.0).await?;
    let gate_address = gate.address().ok_or("the gate does not listen")?.to_string();
    let mut nodes = Vec::new();
    for version in [1, 2] {
        let node = Node::builder(format!("v{version}"))
            .seed(&gate_address)
            .insecure_without_secret()
            .start()
            .await?;
        let service = node.service("greeter", move || Greeter { version });
        service.label("version", version.to_string()).start().await?;
        GreeterHandle::lookup_on(&gate, node.id().as_str(), "greeter").await?;
        nodes.push(node);
    }

    // Eight callers that know nothing of versions.
    let greeter = GreeterHandle::lookup(&gate, "greeter").await?;
    let (answered, mut answers) = mpsc::channel(64);
    for _ in 0..8 {
        let (greeter, answered) = (greeter.clone(), answered.clone());
        tokio::spawn(async move { while answered.send(greeter.greet().await).await.is_ok() {} });
    }
    for share in [0, 10, 50, 100] {
        file.write(share)?;
        for change in gate.cluster().reload().await?.changes {
            println!("{change}");
        }
        let mut counts = BTreeMap::<String, u32>::new();
        let until = tokio::time::Instant::now() + Duration::from_secs(1);
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.recv()).await {
            *counts.entry(answer?).or_default() += 1; // a call that fails ends the program
        }
        println!("{share} %: {counts:?}");
    }
    for node in nodes {
        node.shutdown().await?;
    }
    Ok(())
}

/// The gate's configuration.
struct File(PathBuf);

impl File {
    /// Sends so many of a hundred calls to the new version.
    fn write(&self, share: u32) -> std::io::Result<()> {
        let rest = 100 - share;
        std::fs::write(
            &self.0,
            format!(
                "[node]\n\
                 name = \"gate\"\n\
                 listen = \"127.0.0.1:0\"\n\
                 [security]\n\
                 insecure_without_secret = true # all nodes are in this process\n\
                 [[route]]\n\
                 service = \"greeter\"\n\
                 split = [\n\
                 \x20   {{ to = {{ version = \"1\" }}, weight = {rest} }},\n\
                 \x20   {{ to = {{ version = \"2\" }}, weight = {share} }},\n\
                 ]\n"
            ),
        )
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it is in the folder for such files
    }
}
