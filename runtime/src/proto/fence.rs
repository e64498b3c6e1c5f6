//! What must come behind all that was said on several connections.
//!
//! Each of the other connections carries a fence, behind all that was there before; the word itself counts when as many
//! fences of its number have come as it says.
//!
//! Invariant: counting only. How much is kept for the peer is bounded.

use std::collections::BTreeMap;

use crate::event::StopReason;

/// What is said behind everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// An instance that the receiver watches has ended.
    Down {
        /// The watch.
        id: u64,
        /// Why it ended.
        reason: StopReason,
    },
    /// The sender routes by the names that it was told before the question.
    NamesSynced {
        /// The question's.
        token: u64,
    },
}

/// The fences and words that have come, and whose others have not.
#[derive(Debug)]
pub(crate) struct Fences<T> {
    /// An ordered tree, because its keys are the peer's to choose.
    open: BTreeMap<u64, Open<T>>,
    most: usize,
}

#[derive(Debug)]
struct Open<T> {
    came: u8,
    /// Behind how many fences.
    word: Option<(u8, T)>,
}

/// The peer has more of them open than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl<T> Fences<T> {
    /// At most so many are open.
    pub(crate) fn new(most: usize) -> Self {
        Self { open: BTreeMap::new(), most }
    }

    /// A fence has come. Gives the word that stands behind it, if it was the last one.
    pub(crate) fn fence(&mut self, number: u64) -> Result<Option<T>, TooMany> {
        let open = self.entry(number)?;
        open.came = open.came.saturating_add(1);
        Ok(self.complete(number))
    }

    /// A word has come, which stands behind so many fences. Gives it back if they have come.
    pub(crate) fn word(&mut self, number: u64, fences: u8, word: T) -> Result<Option<T>, TooMany> {
        self.entry(number)?.word = Some((fences, word));
        Ok(self.complete(number))
    }

    fn entry(&mut self, number: u64) -> Result<&mut Open<T>, TooMany> {
        if self.open.len() >= self.most && !self.open.contains_key(&number) {
            return Err(TooMany);
        }
        Ok(self.open.entry(number).or_insert(Open { came: 0, word: None }))
    }

    fn complete(&mut self, number: u64) -> Option<T> {
        let open = self.open.get(&number)?;
        let is_whole = open.word.as_ref().is_some_and(|(fences, _)| open.came >= *fences);
        if is_whole { self.open.remove(&number)?.word.map(|(_, word)| word) } else { None }
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_when_its_last_fence_has_come_whichever_comes_last() {
        for place in 0..3 {
            let mut fences = Fences::new(8);
            for step in 0..3 {
                let came = if step == place { fences.word(7, 2, 'x') } else { fences.fence(7) };
                assert_eq!(came, Ok((step == 2).then_some('x')), "the word comes at step {place}");
            }
            assert_eq!(fences.len(), 0);
        }
        assert_eq!(Fences::new(8).word(1, 0, 'x'), Ok(Some('x')), "behind none");
    }

    #[test]
    fn what_is_kept_for_a_peer_is_bounded() {
        let mut fences = Fences::new(2);
        assert_eq!(fences.fence(1), Ok(None));
        assert_eq!(fences.word(2, 1, 'x'), Ok(None));
        assert_eq!((fences.fence(3), fences.word(4, 1, 'y')), (Err(TooMany), Err(TooMany)));
        assert_eq!(fences.fence(2), Ok(Some('x')), "what is open may end");
        assert_eq!(fences.fence(3), Ok(None));
    }
}
