//! A program as a user writes it, against the public names alone: a ledger with a contract, an implementation, a cache
//! over it, hooks and a context, on two nodes.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skyhold::prelude::*;
use skyhold::testing::Cluster;

/// Why money did not move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Refusal {
    NoAccount(String),
    Short { by: u64 },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAccount(name) => write!(f, "no account {name}"),
            Self::Short { by } => write!(f, "{by} short"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a client crate would know.
#[service]
trait Ledger {
    /// Puts money into an account, and opens it.
    async fn deposit(&mut self, account: String, amount: u64) -> u64;
    /// Moves money.
    async fn transfer(&mut self, from: String, to: String, amount: u64) -> Result<(), Refusal>;
    /// What an account holds.
    fn balance(&self, account: String) -> Result<u64, Refusal>;
    /// Who asks.
    fn who_asks(&self, context: &Context) -> NodeId;
}

#[derive(Default)]
struct MemoryLedger {
    accounts: HashMap<String, u64>,
}

impl MemoryLedger {
    fn account(&mut self, name: &str) -> Result<&mut u64, Refusal> {
        self.accounts.get_mut(name).ok_or_else(|| Refusal::NoAccount(name.to_owned()))
    }
}

#[service(name = "ledger", mailbox = 64, concurrency = 8)]
impl Ledger for MemoryLedger {
    #[on_start]
    fn open_the_bank(&mut self) -> Result<(), Refusal> {
        self.accounts.insert("bank".to_owned(), 1_000);
        Ok(())
    }

    async fn deposit(&mut self, account: String, amount: u64) -> u64 {
        let balance = self.accounts.entry(account).or_default();
        *balance += amount;
        *balance
    }

    async fn transfer(&mut self, from: String, to: String, amount: u64) -> Result<(), Refusal> {
        self.account(&to)?;
        let balance = self.account(&from)?;
        *balance = balance.checked_sub(amount).ok_or_else(|| Refusal::Short { by: amount - *balance })?;
        *self.account(&to)? += amount;
        Ok(())
    }

    fn balance(&self, account: String) -> Result<u64, Refusal> {
        self.accounts.get(&account).copied().ok_or(Refusal::NoAccount(account))
    }

    fn who_asks(&self, context: &Context) -> NodeId {
        context.caller().clone()
    }
}

/// Remembers what was put into it.
#[service(name = "cache")]
struct Cache<K, V> {
    entries: HashMap<K, V>,
    ends: Option<tokio::sync::oneshot::Sender<StopReason>>,
}

#[service]
impl<K, V> Cache<K, V>
where
    K: Eq + Hash + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub fn put(&mut self, key: K, value: V) -> Option<V> {
        self.entries.insert(key, value)
    }

    pub async fn get(&self, key: K) -> Option<V> {
        self.entries.get(&key).cloned()
    }

    /// Forgets everything after a while.
    pub async fn forget_in(&self, context: &Context, wait: Duration) {
        let own = context.handle::<CacheHandle<K, V>>();
        context.spawn(async move {
            tokio::time::sleep(wait).await;
            own.clear().send().await.unwrap();
        });
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    #[on_stop]
    fn end(&mut self, reason: StopReason) {
        if let Some(ends) = self.ends.take() {
            ends.send(reason).unwrap();
        }
    }
}

/// What the client does; every error of the way ends up in one type.
async fn client(node: &Node) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let ledger = LedgerHandle::lookup(node, "ledger").await?;
    ledger.deposit("ann".to_owned(), 50).send().await?;
    ledger.deposit("bob".to_owned(), 5).timeout(Duration::from_secs(1)).await?;
    ledger.transfer("ann".to_owned(), "bob".to_owned(), 20).await??;
    assert_eq!(ledger.who_asks().await?, *node.id());
    let short = ledger.transfer("ann".to_owned(), "bob".to_owned(), 31).await?;
    assert_eq!(short, Err(Refusal::Short { by: 1 }));
    let refusal = ledger.balance("cid".to_owned()).await?.unwrap_err();
    assert_eq!(refusal.to_string(), "no account cid");
    Ok(ledger.balance("bob".to_owned()).await??)
}

#[tokio::test(start_paused = true)]
async fn a_program_against_the_public_api_alone_works() {
    let cluster = Cluster::start(2).await;
    let ledger = cluster[0].service("ledger", MemoryLedger::default).start().await.unwrap();

    assert_eq!(client(&cluster[1]).await.unwrap(), 25);
    assert_eq!(ledger.balance("bob".to_owned()).await.unwrap(), Ok(25));
    assert_eq!(ledger.balance("bank".to_owned()).await.unwrap(), Ok(1_000));

    let (ends, has_ended) = tokio::sync::oneshot::channel();
    let cache = cluster[1].spawn(Cache { entries: HashMap::new(), ends: Some(ends) });
    cache.put("bob".to_owned(), 25).await.unwrap();
    cache.forget_in(Duration::from_secs(60)).await.unwrap();
    assert_eq!(cache.get("bob".to_owned()).await.unwrap(), Some(25));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(cache.get("bob".to_owned()).await.unwrap(), None);

    cluster[1].shutdown().await.unwrap();
    assert_eq!(has_ended.await.unwrap(), StopReason::Shutdown);
    let error = cache.get("bob".to_owned()).await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)) && !error.may_have_run());
    assert_eq!(ledger.balance("bob".to_owned()).await.unwrap(), Ok(25));
}
