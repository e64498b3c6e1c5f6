//! Raw identifiers, `Self` and names that differ from Rust's habits.
#![deny(warnings)]
#![allow(non_camel_case_types, non_snake_case)]

use serde::{Deserialize, Serialize};
use skyhold::service;

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct r#struct {
    value: u64,
}

#[service]
impl r#struct {
    pub fn r#type(&self, r#fn: u64, r#match: Option<Self>) -> Vec<Self> {
        let _ = r#fn;
        r#match.into_iter().collect()
    }

    pub fn getHTTP2Url(&mut self) -> [u8; Self::SIZE] {
        [0; 2]
    }

    const SIZE: usize = 2;
}

fn main() {
    let _ = |handle: structHandle| handle.r#type(1, None);
}
