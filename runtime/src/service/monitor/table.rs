//! What is known of a node's services: how their messages ended, how long those took and waited, also of instances that have ended.
//!
//! It is kept by the name of the service and not by the instance, since there may be 100,000 without a name, which have the name of their
//! type. What is hot is counted by each instance for itself (`figures`) and comes here when it ends.
//!
//! Invariant: at most [`MAX_SERVICES`] services and [`MAX_TIMES`] histograms are kept. Beyond these a service without instances makes room;
//! if there is none, the newest has no figures here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::Monitoring;
use crate::memory;
use crate::service::message::Method;
use crate::service::monitor::figures::{Ended, Figures};
use crate::service::monitor::times::{Summary, Times};

/// How many services are known at most.
const MAX_SERVICES: usize = 1024;
/// How many histograms there are at most: 10 MB of them.
const MAX_TIMES: usize = 1024;

/// What a node measures.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) mode: Monitoring,
    /// Guards which services there are. Held for a look or a change.
    services: Mutex<HashMap<Key, Arc<OfService>>>,
    times: Arc<AtomicUsize>,
}

/// A service's name and its interface: a name may come back as something else.
type Key = (Arc<str>, &'static str);

/// What is known of a service, whichever of its instances did it.
#[derive(Debug)]
pub(crate) struct OfService {
    /// Whom the memory is counted for, if it is.
    owner: Option<memory::Owner>,
    described: &'static [Method],
    methods: Box<[OfMethod]>,
    /// How many histograms the node has.
    times: Arc<AtomicUsize>,
}

/// What is known of a method, whichever instance ran it.
#[derive(Debug, Default)]
pub(crate) struct OfMethod {
    /// Of instances that have ended, in the order of [`Tally`].
    tally: [AtomicU64; 3],
    /// By [`Ended`].
    ended: [AtomicU64; Ended::COUNT],
    took: OnceLock<Option<Box<Times>>>,
    waited: OnceLock<Option<Box<Times>>>,
}

/// What is counted for each message that runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) sends: u64,
    /// How many ended with a value that is no `Err`.
    pub(crate) done: u64,
}

impl Tally {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            sends: self.sends + other.sends,
            done: self.done + other.done,
        }
    }
}

impl Monitor {
    pub(crate) fn new(mode: Monitoring) -> Self {
        Self { mode, services: Mutex::default(), times: Arc::default() }
    }

    /// The place of a service, if there is room for it.
    pub(super) fn service(
        &self,
        name: &Arc<str>,
        interface: &'static str,
        methods: &'static [Method],
    ) -> Option<Arc<OfService>> {
        let mut services = self.services();
        if let Some(known) = services.get(&(Arc::clone(name), interface)) {
            return Some(Arc::clone(known));
        }
        if services.len() >= MAX_SERVICES {
            services.retain(|_, service| Arc::strong_count(service) > 1);
        }
        if services.len() >= MAX_SERVICES {
            return None;
        }
        let all = methods.iter().map(|_| OfMethod::default()).collect();
        let service = OfService {
            owner: memory::Owner::new(),
            described: methods,
            methods: all,
            times: Arc::clone(&self.times),
        };
        let service = Arc::new(service);
        services.insert((Arc::clone(name), interface), Arc::clone(&service));
        Some(service)
    }

    /// What is known of the services of that name, with their interfaces.
    pub(crate) fn known(&self, name: &str) -> Vec<(&'static str, Arc<OfService>)> {
        let services = self.services();
        let named = services.iter().filter(|((known, _), _)| **known == *name);
        named.map(|((_, interface), service)| (*interface, Arc::clone(service))).collect()
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Key, Arc<OfService>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfService {
    /// Its methods, as the macro describes them.
    pub(crate) fn methods(&self) -> &'static [Method] {
        self.described
    }

    /// What is known of the method with that number.
    pub(crate) fn method(&self, index: usize) -> Option<&OfMethod> {
        self.methods.get(index)
    }

    /// Counts what this thread allocates from now on for the service.
    #[inline]
    pub(super) fn enter(&self) -> Option<memory::Entered<'_>> {
        self.owner.as_ref().map(memory::Owner::enter)
    }

    /// How many bytes the service holds, if they are counted.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.owner.as_ref().map(memory::Owner::live)
    }

    pub(super) fn note_took(&self, index: usize, took: Duration, weight: u64) {
        self.note(self.method(index).map(|method| &method.took), took, weight);
    }

    pub(super) fn note_waited(&self, index: usize, waited: Duration, weight: u64) {
        self.note(self.method(index).map(|method| &method.waited), waited, weight);
    }

    fn note(&self, times: Option<&OnceLock<Option<Box<Times>>>>, took: Duration, weight: u64) {
        let Some(times) = times else { return };
        let make = || {
            let _outside = memory::leave(); // they are not the service's
            let is_room = self.times.fetch_add(1, Ordering::Relaxed) < MAX_TIMES;
            let times = is_room.then(Times::new).flatten();
            if times.is_none() {
                self.times.fetch_sub(1, Ordering::Relaxed);
            }
            times.map(Box::new)
        };
        if let Some(times) = times.get_or_init(make) {
            times.note(took, weight);
        }
    }

    /// An instance has ended for good.
    pub(super) fn take_over(&self, figures: &Figures) {
        for (index, method) in self.methods.iter().enumerate() {
            let Tally { calls, sends, done } = figures.tally(index);
            for (sum, number) in method.tally.iter().zip([calls, sends, done]) {
                sum.fetch_add(number, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for OfService {
    fn drop(&mut self) {
        let all = self.methods.iter().flat_map(|method| [&method.took, &method.waited]);
        let made = all.filter(|times| matches!(times.get(), Some(Some(_)))).count();
        self.times.fetch_sub(made, Ordering::Relaxed);
    }
}

impl OfMethod {
    pub(super) fn count(&self, ended: Ended) {
        self.ended[ended as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many ended so.
    pub(crate) fn ended(&self, ended: Ended) -> u64 {
        self.ended[ended as usize].load(Ordering::Relaxed)
    }

    /// What instances have done that have ended.
    pub(crate) fn tally(&self) -> Tally {
        let [calls, sends, done] = self.tally.each_ref().map(|number| number.load(Ordering::Relaxed));
        Tally { calls, sends, done }
    }

    /// How long its handlers took, if one was measured.
    pub(crate) fn took(&self) -> Option<Summary> {
        Some(self.took.get()?.as_ref()?.summary(0))
    }

    /// How long its messages waited, of which there were so many. `None` if none is known to have.
    pub(crate) fn waited(&self, messages: u64) -> Option<Summary> {
        Some(self.waited.get()?.as_ref()?.summary(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::message::Receiver;

    static METHODS: [Method; 1] = [Method::new("add", 77, 0, Receiver::Exclusive)];

    #[test]
    fn a_service_without_instances_makes_room_and_takes_its_histograms_along() {
        let monitor = Monitor::new(Monitoring::Sampled);
        let service = |number: usize| monitor.service(&number.to_string().into(), "Counter", &METHODS);
        let kept: Vec<_> = (0..MAX_SERVICES).map(|number| service(number).unwrap()).collect();
        assert!(service(MAX_SERVICES).is_none(), "all have instances");
        for service in &kept {
            service.note_took(0, Duration::from_secs(1), 1);
        }
        assert_eq!(monitor.times.load(Ordering::Relaxed), MAX_TIMES);
        kept[0].note_waited(0, Duration::from_secs(1), 1);
        assert_eq!(kept[0].method(0).unwrap().waited(1), None, "there are enough");
        drop(kept);
        assert!(service(MAX_SERVICES).is_some());
        assert_eq!((monitor.services().len(), monitor.times.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn a_name_that_comes_back_as_something_else_begins_anew() {
        let monitor = Monitor::new(Monitoring::Sampled);
        let service = |interface| monitor.service(&"a".into(), interface, &METHODS).unwrap();
        let counter = service("Counter");
        counter.method(0).unwrap().count(Ended::Expired);
        assert_eq!(service("Counter").method(0).unwrap().ended(Ended::Expired), 1);
        assert_eq!(service("Other").method(0).unwrap().ended(Ended::Expired), 0);
        assert_eq!(monitor.known("a").len(), 2);
    }
}
