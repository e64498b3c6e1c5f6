//! Which candidates a balancer is shown for one call: those that have not refused it already, are not passed over, and,
//! where they are fresh, as often as their share says.
//!
//! Rules that narrow the choice further belong here: a balancer picks among what is left.
//!
//! Invariant: as long as somebody has not refused, somebody is offered.

use crate::policy::balance::candidates::{Candidate, mix};
use crate::policy::balance::standing::Fitness;

/// The places of those that are offered, in order. `number` is a random one.
pub(crate) fn offer(
    candidates: &[Candidate],
    has_refused: impl Fn(&Candidate) -> bool,
    now: u64,
    number: u64,
) -> Vec<usize> {
    let mut left: Vec<(usize, Fitness)> =
        places(candidates, has_refused).map(|place| (place, candidates[place].load().fitness(now))).collect();
    if left.iter().any(|(_, fitness)| *fitness != Fitness::Ejected) {
        left.retain(|(_, fitness)| *fitness != Fitness::Ejected);
    }
    // Where all are fresh nobody is to be spared at the cost of another.
    if left.iter().any(|(_, fitness)| *fitness == Fitness::Fit) {
        left.retain(|(place, fitness)| match fitness {
            Fitness::Fresh(share) => is_drawn(*share, number, *place),
            Fitness::Fit | Fitness::Ejected => true,
        });
    }
    left.into_iter().map(|(place, _)| place).collect()
}

/// The places of those that have not refused, in order: all that counts where the candidates are in a key's order.
pub(crate) fn places(
    candidates: &[Candidate],
    has_refused: impl Fn(&Candidate) -> bool,
) -> impl Iterator<Item = usize> {
    (0..candidates.len()).filter(move |place| !has_refused(&candidates[*place]))
}

/// Whether a fresh instance takes part this time.
fn is_drawn(share: f32, number: u64, place: usize) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let drawn = (mix(number.wrapping_add(place as u64)) >> 40) as f32 / (1_u32 << 24) as f32;
    drawn < share
}
