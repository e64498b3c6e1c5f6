//! A small game's back end on three nodes, with players who come and go, and the web page on which to look at it.
//!
//! Run it: `cargo run --release --example dashboard`, and open http://127.0.0.1:9101/. It ends with Ctrl-C.

#![allow(clippy::disallowed_methods, reason = "tasks and the clock are the program's own")]

use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use skyhold::prelude::*;
use skyhold::{Intensity, Setting};

/// What players own.
#[derive(Default)]
struct Accounts {
    asked: u64,
}

#[service(concurrency = 64)]
impl Accounts {
    /// The coins of a player. One in fifty is not known.
    pub async fn coins(&self, player: u64) -> Result<u64, String> {
        tokio::time::sleep(Duration::from_millis(2 + player % 7)).await;
        if player.is_multiple_of(50) { Err(format!("player {player} is not known")) } else { Ok(player * 3) }
    }

    /// A mistake that nobody has found yet.
    pub fn audit(&mut self) {
        self.asked += 1;
        assert!(!self.asked.is_multiple_of(10), "the books do not balance");
    }
}

/// How players are brought together. It can be changed on the page, under the key `matchmaker`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rules {
    players: usize,
}

/// Brings players together.
struct Matchmaker {
    rules: Option<Setting<Rules>>,
    waiting: Vec<u64>,
}

#[service]
impl Matchmaker {
    #[on_start]
    async fn begin(&mut self, context: &Context) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let rules = context.node().config().watch("matchmaker").or(Rules { players: 8 }).await?;
        self.rules = Some(rules);
        Ok(())
    }

    /// Enters a player; gives who plays together if that completes a match.
    pub async fn enter(&mut self, context: &Context, player: u64) -> Option<Vec<u64>> {
        let accounts = AccountsHandle::try_lookup(&context.node(), "accounts").ok()?;
        accounts.coins(player).await.ok()?.ok()?;
        self.waiting.push(player);
        let players = self.rules.as_ref().map_or(8, |rules| rules.get().players.max(1));
        (self.waiting.len() >= players).then(|| std::mem::take(&mut self.waiting))
    }
}

/// Where players come in.
#[derive(Default)]
struct Gateway;

#[service(concurrency = 256)]
impl Gateway {
    /// A player wants to play.
    pub async fn play(&self, context: &Context, player: u64) -> bool {
        match MatchmakerHandle::try_lookup(&context.node(), "matchmaker") {
            Ok(matchmaker) => matchmaker.enter(player).await.is_ok_and(|all| all.is_some()),
            Err(_) => false,
        }
    }
}

#[derive(Parser)]
struct Arguments {
    /// Where the page is.
    #[arg(long, default_value = "127.0.0.1:9101")]
    page: String,
    /// After how many seconds it ends by itself.
    #[arg(long)]
    seconds: Option<u64>,
}

/// What the kinds of this program are configured with.
#[derive(Deserialize)]
struct Nothing {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let settings = std::env::temp_dir().join(format!("skyhold-dashboard-{}.settings", std::process::id()));
    let secret = Secret::new("something that only our nodes know")?;
    let builder = |name: &str, zone: &str| {
        let node = Node::builder(name)
            .label("zone", zone)
            .secret(secret.clone())
            .config_holder("a")
            .expected_nodes(3);
        node.kind("gateway", |_: &Nothing| Gateway).kind("accounts", |_: &Nothing| Accounts::default())
    };
    let a = builder("a", "eu").listen("127.0.0.1:0").config_path(&settings).dashboard(arguments.page);
    let a = a.start().await?;
    let seed = a.address().ok_or("it listens")?.to_string();
    let b = builder("b", "eu").listen("127.0.0.1:0").seed(&seed).start().await?;
    let c = builder("c", "us").listen("127.0.0.1:0").seed(&seed).start().await?;

    c.service("accounts", Accounts::default).instances(3).intensity(Intensity::unlimited()).start().await?;
    AccountsHandle::lookup(&b, "accounts").await?;
    b.service("matchmaker", || Matchmaker { rules: None, waiting: Vec::new() }).start().await?;
    for node in [&a, &b] {
        node.service("gateway", Gateway::default).start().await?;
        MatchmakerHandle::lookup(node, "matchmaker").await?;
    }
    a.config().set("matchmaker", &Rules { players: 8 }).await?;
    println!("three nodes run; open http://{}/", a.dashboard_address().ok_or("it has a page")?);

    let gateway = GatewayHandle::lookup(&c, "gateway").await?;
    let accounts = AccountsHandle::lookup(&c, "accounts").await?;
    tokio::spawn(players(gateway));
    tokio::spawn(auditor(accounts));
    let time_is_up = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_is_up => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    for node in [b, c, a] {
        node.shutdown().await?;
    }
    let _ = std::fs::remove_file(settings);
    Ok(())
}

/// Players who come, more in one minute than in another.
async fn players(gateway: GatewayHandle) {
    for player in 0_u64.. {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.play(player).await });
        let crowd = (player / 2000 % 4) + 1;
        tokio::time::sleep(Duration::from_millis(20 / crowd)).await;
    }
}

/// Somebody who looks at the books once a second.
async fn auditor(accounts: AccountsHandle) {
    loop {
        // What goes wrong is seen on the page.
        let _ = accounts.audit().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
