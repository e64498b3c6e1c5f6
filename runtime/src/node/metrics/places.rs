//! Which names are told by themselves, and which together as the rest.
//!
//! Invariant: at most [`MOST`] names have a place. A name that is there keeps its place.

use std::collections::{BTreeMap, BTreeSet};

/// How many names are told by themselves.
pub(super) const MOST: usize = 256;

/// What the rest is called.
pub(super) const REST: &str = "other";

/// The names that have a place, each with what is kept for it.
#[derive(Debug)]
pub(super) struct Places<T>(BTreeMap<String, T>);

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default> Places<T> {
    /// Gives each of the names that are there a place, as far as there are places. One that is not there gives its place up when another one needs it.
    pub(super) fn seat(&mut self, there: &BTreeSet<&str>) {
        let is_absent = |name: &&String| !there.contains(name.as_str());
        let mut absent: Vec<_> = self.0.keys().filter(is_absent).cloned().collect();
        for name in there {
            if self.0.contains_key(*name) {
                continue;
            }
            if self.0.len() >= MOST {
                let Some(gone) = absent.pop() else { return };
                self.0.remove(&gone);
            }
            self.0.insert((*name).to_owned(), T::default());
        }
    }

    /// What a name is told as.
    pub(super) fn label<'n>(&self, name: &'n str) -> &'n str {
        if self.0.contains_key(name) { name } else { REST }
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.0.get_mut(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, kept)| (name.as_str(), kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("n{number:04}")).collect()
    }

    fn seat(places: &mut Places<u64>, names: &[String]) -> usize {
        let there: BTreeSet<_> = names.iter().map(String::as_str).collect();
        places.seat(&there);
        names.iter().filter(|name| places.label(name) == name.as_str()).count()
    }

    #[test]
    fn names_beyond_the_bound_are_the_rest_and_who_has_a_place_keeps_it() {
        let mut places = Places::default();
        let later = names(100..400);
        assert_eq!(seat(&mut places, &later), MOST);
        let before: Vec<_> = later.iter().filter(|name| places.label(name) != REST).cloned().collect();
        let all = names(0..400); // the new ones come first in their order
        assert_eq!(seat(&mut places, &all), MOST);
        assert!(before.iter().all(|name| places.label(name) == name.as_str()));
        assert_eq!(places.label("n0000"), REST);
    }

    #[test]
    fn who_is_gone_keeps_its_place_until_another_one_needs_it() {
        let mut places = Places::default();
        seat(&mut places, &names(0..2));
        *places.get_mut("n0000").unwrap() = 7;
        seat(&mut places, &names(1..2));
        assert_eq!(places.get_mut("n0000"), Some(&mut 7));
        assert_eq!(seat(&mut places, &names(1000..1000 + MOST)), MOST);
        assert_eq!((places.label("n0000"), places.iter().count()), (REST, MOST));
    }
}
