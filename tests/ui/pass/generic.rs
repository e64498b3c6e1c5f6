//! A service may have type and const parameters, with bounds in either place.
#![deny(warnings)]

use std::collections::HashMap;
use std::hash::Hash;

use skyhold::service;

#[service(name = "cache", mailbox = 16)]
pub struct Cache<K, V = String> {
    entries: HashMap<K, V>,
}

#[service]
impl<K: Eq + Hash, V> Cache<K, V>
where
    V: Clone,
{
    pub async fn get(&self, key: K) -> Option<V> {
        self.entries.get(&key).cloned()
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.entries.insert(key, value)
    }

    pub fn size(&self) -> usize {
        self.entries.len()
    }

    #[on_start]
    fn warm(&mut self) -> Result<(), String> {
        Ok(())
    }
}

pub struct Ring<const N: usize>([u8; N]);

#[service]
impl<const N: usize> Ring<N> {
    pub fn first(&self) -> Option<u8> {
        self.0.first().copied()
    }
}

pub struct Unused<T>(std::marker::PhantomData<T>);

#[service(mailbox = 1)]
impl<T> Unused<T> {
    pub fn nothing(&mut self) {}
}

pub struct Fixed<T>(T);

#[service]
impl Fixed<u64> {
    pub fn get(&self) -> u64 {
        self.0
    }

    pub fn copy(&mut self, other: Self) -> Self {
        other
    }
}

impl serde::Serialize for Fixed<u64> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Fixed<u64> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Fixed)
    }
}

#[service]
pub trait Store<K, V: Clone> {
    async fn get(&self, key: K) -> Option<V>;
    async fn set(&mut self, key: K, value: V);
}

pub struct Table<K, V> {
    entries: HashMap<K, V>,
}

#[service]
impl<K: Eq + Hash + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Store<K, V> for Table<K, V> {
    async fn get(&self, key: K) -> Option<V> {
        self.entries.get(&key).cloned()
    }

    async fn set(&mut self, key: K, value: V) {
        self.entries.insert(key, value);
    }
}

fn main() {
    let _ = |cache: CacheHandle<String, u64>, store: StoreHandle<String, u64>| {
        let _ = cache.get("key".to_owned());
        let _ = store.set("key".to_owned(), 1);
        assert_eq!(cache.clone(), cache);
    };
}
