//! A key-value service in one process, called from another.
//!
//! Run the server in one terminal and the client in another:
//! * `cargo run --example simpledb -- server`
//! * `cargo run --example simpledb -- client`
//!
//! The client uses the database, then calls it without a pause. Kill the server meanwhile (`kill -9`) and see what the
//! client gets: at first an error which says that the handler may have run, then errors which say that it did not.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Bound;
use std::time::Duration;

use clap::{Parser, Subcommand};
use skyhold::prelude::*;

/// The database: values by key, in the order of the keys.
#[derive(Default)]
struct Store {
    values: BTreeMap<String, String>,
}

#[service]
impl Store {
    /// The key's value. Takes `&self`, so it runs beside other readers.
    pub fn get(&self, key: String) -> Option<String> {
        self.values.get(&key).cloned()
    }

    /// Gives the key a value, and returns the one that it had. Takes `&mut self`, so it runs alone.
    pub fn set(&mut self, key: String, value: String) -> Option<String> {
        self.values.insert(key, value)
    }

    /// Removes the key, and returns the value that it had.
    pub fn delete(&mut self, key: String) -> Option<String> {
        self.values.remove(&key)
    }

    /// The first `limit` keys that begin with `prefix`, with their values, in order.
    pub fn scan(&self, prefix: String, limit: usize) -> Vec<(String, String)> {
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let found = self.values.range::<str, _>(from).take_while(|(key, _)| key.starts_with(&prefix));
        found.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// A key-value service over TCP.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Keeps the data.
    Server {
        /// Where to listen. Port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:7501")]
        listen: String,
    },
    /// Uses the data.
    Client {
        /// Where the server listens.
        #[arg(long, default_value = "127.0.0.1:7501")]
        connect: String,
        /// How often to call after that, unless the server goes before.
        #[arg(long, default_value_t = 1_000_000)]
        calls: u64,
    },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().role {
        Role::Server { listen } => serve(listen).await,
        Role::Client { connect, calls } => {
            // Two clients at one server need two names.
            let name = format!("client-{}", std::process::id());
            let patience = Duration::from_secs(10);
            let node = Node::builder(name)
                .insecure_without_secret()
                .cluster("simpledb")
                .seed(connect)
                .call_timeout(patience)
                .start()
                .await?;
            let store = StoreHandle::lookup(&node, "store").await?;
            use_it(&store).await?;
            call_until_it_is_gone(&store, calls).await;
            node.shutdown().await?;
            Ok(())
        }
    }
}

async fn serve(listen: String) -> Result<(), Box<dyn Error>> {
    let node =
        Node::builder("server").insecure_without_secret().cluster("simpledb").listen(listen).start().await?;
    node.service("store", Store::default).start().await?;
    // Until Ctrl-C or SIGTERM, from here on: what is under way is answered before the node goes.
    let run = node.run_until_signal();
    if let Some(address) = node.address() {
        println!("listening on {address}");
    }
    run.await?;
    Ok(())
}

/// The calls look as they would if the store were in this process.
async fn use_it(store: &StoreHandle) -> Result<(), CallError> {
    for (key, value) in [("fruit/apple", "red"), ("fruit/banana", "yellow"), ("root/carrot", "orange")] {
        let before = store.set(key.into(), value.into()).await?;
        println!("set {key} = {value}, before: {before:?}");
    }
    println!("get fruit/apple: {:?}", store.get("fruit/apple".into()).await?);
    println!("scan fruit/: {:?}", store.scan("fruit/".into(), 10).await?);
    println!("delete fruit/apple: {:?}", store.delete("fruit/apple".into()).await?);
    println!("get fruit/apple: {:?}", store.get("fruit/apple".into()).await?);

    let large = "skyhold!".repeat(128 * 1024);
    store.set("large".into(), large.clone()).await?;
    let same = store.get("large".into()).await?.as_ref() == Some(&large);
    println!("set and get {} bytes: {}", large.len(), if same { "the same" } else { "not the same" });
    store.delete("large".into()).await?;
    Ok(())
}

/// Calls without a pause, so that one sees what a call gets whose server dies.
async fn call_until_it_is_gone(store: &StoreHandle, calls: u64) {
    println!("now calling {calls} times: kill the server meanwhile");
    let (mut answered, mut last_error) = (0_u64, String::new());
    for _ in 0..calls {
        let error = match store.get("fruit/banana".into()).await {
            Ok(_) => {
                answered += 1;
                if answered.is_multiple_of(50_000) {
                    println!("{answered} calls answered");
                }
                continue;
            }
            Err(error) => error,
        };
        // A server that is only overloaded or slow is asked again.
        tokio::task::yield_now().await;
        let text = error.to_string();
        if text != last_error {
            let ran = if error.may_have_run() { "it may have run" } else { "it did not run" };
            println!("{text} ({ran})");
            last_error = text;
        }
        if let CallError::NoRoute(_) = error {
            println!("the server is gone, after {answered} answered calls");
            return;
        }
    }
    println!("{answered} calls answered, and the server is still there");
}
