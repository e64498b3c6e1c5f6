//! How much a node measures of its services.
//!
//! Invariant: a plain value.

use std::fmt;
use std::str::FromStr;

/// How much a node measures of its services, for what its [manager](crate::Manager) tells: `NodeBuilder::monitoring`, or the key
/// `node.monitoring` of a file. The default is [`Monitoring::Sampled`].
///
/// Calls, sends and how they ended are counted one by one. Times are measured of samples, each of which stands for as many as it was drawn
/// from. Which ones is decided before they run, one by chance of each group, so that nothing is favoured: the sums are right on average,
/// whatever the order of short and long ones is. A group is one as long as the last one that was measured took 10 µs or more, and grows to at
/// most 32 while they take less; so what is always long is measured each time, and a clock is read about once for each 10 µs of work. What is
/// seldom long among others that are short is the uncertain part: of 100 such ones the sum is wrong by about a half as a rule, of
/// 10,000 by 6 in a hundred (the root of 32 by their number).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Monitoring {
    /// `"off"`: nothing is measured and nothing is counted, and reports have no figures.
    Off,
    /// `"sampled"`: everything is counted, and samples are measured.
    #[default]
    Sampled,
    /// `"precise"`: everything is counted and measured, which takes up to 1.5 µs a message.
    Precise,
}

impl Monitoring {
    /// Its name in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sampled => "sampled",
            Self::Precise => "precise",
        }
    }
}

impl fmt::Display for Monitoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Monitoring {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Off, Self::Sampled, Self::Precise].into_iter().find(|each| each.as_str() == text).ok_or(())
    }
}
