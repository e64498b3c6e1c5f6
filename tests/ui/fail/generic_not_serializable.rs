#![allow(unused)]
use std::collections::HashMap;
use skyhold::prelude::*;

#[derive(Clone)]
struct Order;

struct Cache<K, V>(HashMap<K, V>);

#[service]
impl<K: std::hash::Hash + Eq, V: Clone> Cache<K, V> {
    pub fn set(&mut self, key: K, value: V) {}
}

fn uses(good: CacheHandle<String, u64>, bad: CacheHandle<String, Order>) {
    good.set(String::new(), 1);
    bad.set(String::new(), Order);
}

fn main() {}
