//! Every setting in every form is what the runtime reads.
#![deny(warnings)]

use std::time::Duration;

use skyhold::__private::{Service, Settings};
use skyhold::{Overflow, Queued, service};

pub struct Default;

#[service]
impl Default {
    pub fn ping(&self) {}
}

#[service(
    name = "full",
    mailbox = 8,
    concurrency = 2,
    overflow = "drop_oldest",
    queued = "refuse",
    shed,
    slow = "250ms",
    stuck = "2m",
    high_water = 100
)]
pub struct Full;

#[service]
impl Full {
    pub fn ping(&self) {}
}

#[service]
pub trait Pings {
    fn ping(&self);
}

pub struct Never<T>(pub T);

#[service(overflow = "reject", queued = "keep", slow = "off", stuck = "1440m", high_water = 1u8)]
impl<T: Send + Sync + 'static> Pings for Never<T> {
    fn ping(&self) {}
}

pub struct Off;

#[service(overflow = "wait", slow = "1440m", stuck = "off")]
impl Off {
    pub fn ping(&self) {}
}

/// One of the two limits beside the default of the other.
pub struct Beside;

#[service(slow = "9999ms")]
impl Beside {
    pub fn ping(&self) {}
}

pub struct BesideIt;

#[service(stuck = "1001ms")]
impl BesideIt {
    pub fn ping(&self) {}
}

fn check<S: Service>(expected: Settings) {
    assert_eq!(S::SETTINGS, expected);
}

fn main() {
    let default = Settings::DEFAULT;
    let day = Some(Duration::from_secs(24 * 60 * 60));
    check::<Default>(default);
    check::<Full>(
        default
            .name("full")
            .mailbox(8)
            .concurrency(2)
            .overflow(Overflow::DropOldest)
            .queued(Queued::Refuse)
            .shed()
            .slow(Some(Duration::from_millis(250)))
            .stuck(Some(Duration::from_secs(120)))
            .high_water(100),
    );
    check::<Never<u8>>(default.overflow(Overflow::Reject).slow(None).stuck(day).high_water(1));
    check::<Off>(default.slow(day).stuck(None));
    check::<Beside>(default.slow(Some(Duration::from_millis(9999))));
    check::<BesideIt>(default.stuck(Some(Duration::from_millis(1001))));

    // What is said to be the default is it, and `slow` and `stuck` are compared with these two.
    check::<Default>(default.overflow(Overflow::default()).queued(Queued::default()).high_water(80));
    check::<Default>(default.slow(Some(Duration::from_secs(1))).stuck(Some(Duration::from_secs(10))));
}
