#![allow(unused)]
use skyhold::prelude::*;

struct Screen;

#[service(local)]
impl Screen {
    pub fn draw(&mut self, picture: Box<dyn Fn() + Send>) {}
}

async fn uses(node: Node) {
    let here = node.spawn(Screen);
    here.draw(Box::new(|| ()));
    node.service("screen", || Screen);
}

fn main() {}
