#![allow(unused)]
use std::borrow::Cow;
use skyhold::service;

struct Counter;

#[service]
impl Counter {
    pub fn elided(&mut self, name: Cow<'_, str>) {}
    pub fn hidden(&mut self, name: Cow<str>) {}
    pub fn owned(&mut self, name: Cow<'static, str>) {}
}

fn main() {}
