//! Instances by weight.

use std::collections::HashMap;
use std::fmt;

use crate::policy::balance::candidates::{Balancer, Candidate, Candidates};
use crate::policy::balance::kinds::random;

/// Calls in proportion to weights: an instance of weight 3 gets three times as many as one of weight 1. What has weight 0
/// gets nothing, unless all have.
///
/// ```
/// # use skyhold::prelude::*;
/// # use skyhold::{Balance, Weighted};
/// # #[derive(Default)]
/// # struct Counter;
/// # #[service]
/// # impl Counter {
/// #     pub fn total(&self) -> u64 { 0 }
/// # }
/// # async fn example(node: &Node) -> Result<(), Box<dyn std::error::Error>> {
/// let counter = CounterHandle::lookup(node, "counter").await?;
/// let canary = counter.balance(Weighted::by_node([("canary", 1), ("old-1", 9), ("old-2", 9)]));
/// # Ok(())
/// # }
/// ```
pub struct Weighted {
    weigh: Box<dyn Fn(&Candidate) -> u32 + Send + Sync>,
}

impl Weighted {
    /// The weights of the instances by their node's name. Those of other nodes have weight 1.
    pub fn by_node<N: Into<String>>(weights: impl IntoIterator<Item = (N, u32)>) -> Self {
        let weights: HashMap<String, u32> =
            weights.into_iter().map(|(node, weight)| (node.into(), weight)).collect();
        Self::by(move |candidate| weights.get(candidate.node().as_str()).copied().unwrap_or(1))
    }

    /// What `weigh` says of each instance. It is asked twice for each call, and must never wait.
    pub fn by(weigh: impl Fn(&Candidate) -> u32 + Send + Sync + 'static) -> Self {
        Self { weigh: Box::new(weigh) }
    }
}

impl Balancer for Weighted {
    fn pick(&self, candidates: Candidates<'_>) -> usize {
        let weights = || candidates.iter().map(|candidate| u64::from((self.weigh)(candidate)));
        let total: u64 = weights().sum();
        if total == 0 {
            return random(candidates.random(), candidates.len());
        }
        let point = candidates.even(total);
        let mut sum = 0;
        let index = weights().position(|weight| {
            sum += weight;
            point < sum
        });
        index.unwrap_or(0) // the weights were others the second time
    }
}

impl fmt::Debug for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted").finish_non_exhaustive()
    }
}
