#![allow(unused)]
use std::rc::Rc;
use skyhold::service;

struct Screen;

#[service(local)]
impl Screen {
    pub fn draw(&mut self, picture: Rc<u8>) {}
}

fn main() {}
