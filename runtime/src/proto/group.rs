//! Several connections to one peer: how many there are, which of them an instance's messages take, and how a further one
//! names the first.
//!
//! Invariant: pure functions of what both sides know. A receiver relies on none of it: each connection is whole in itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::InstanceId;

use super::settings::FLOW;

/// What may be wished for, each with the features that say so: what both sides have is then the smaller of the two wishes.
const WISHES: [(usize, u64); 4] = [(1, 0), (2, 1 << 2), (4, 1 << 2 | 1 << 3), (8, 1 << 2 | 1 << 3 | 1 << 4)];

/// The features of a node that wishes for so many connections, and has these in any case. Without `FLOW` nothing is wished for.
pub(crate) fn wish(features: u64, connections: usize) -> u64 {
    let all = WISHES.iter().fold(0, |all, (_, bits)| all | bits);
    let wish = WISHES.iter().find(|(possible, _)| *possible == connections && features & FLOW != 0);
    features & !all | wish.map_or(0, |(_, bits)| *bits)
}

/// How many connections the two make that have agreed on these features. Without `FLOW` there is one.
pub(crate) fn connections(features: u64) -> usize {
    let are_agreed_on = |bits: &u64| features & FLOW != 0 && features & bits == *bits;
    let agreed = WISHES.iter().rev().find(|(_, bits)| are_agreed_on(bits));
    agreed.map_or(1, |(connections, _)| *connections)
}

/// Which of so many connections takes what is said to an instance.
pub(crate) fn place_of(instance: InstanceId, connections: usize) -> usize {
    // Fibonacci hashing: the numbers of the instances of one service follow one another, often in steps.
    let spread = instance.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(spread).unwrap_or_default() % connections.max(1)
}

/// Which connection a further one belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extra {
    /// Which of the further ones it is, from 1.
    pub(crate) number: u8,
    /// The nonce of the `Challenge` on the first one.
    pub(crate) first: [u8; 32],
}

impl Extra {
    /// As it stands at the end of a `Hello`.
    pub(super) fn write(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.number);
        out.put_slice(&self.first);
        out.freeze()
    }

    /// Reads the end of a `Hello`: nothing, or a zero, says that this connection is the first one. What follows is a later
    /// version's. The error says what is wrong.
    pub(super) fn read(later: &[u8]) -> Result<Option<Self>, String> {
        match later {
            [] | [0, ..] => Ok(None),
            [number, rest @ ..] => match rest.first_chunk() {
                Some(first) => Ok(Some(Self { number: *number, first: *first })),
                None => {
                    Err(format!("a further connection with {} bytes of the first one's nonce", rest.len()))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_wishes_the_smaller_one_counts() {
        for (mine, _) in WISHES {
            for (yours, _) in WISHES {
                let agreed = wish(FLOW, mine) & wish(FLOW, yours);
                assert_eq!(connections(agreed), mine.min(yours));
                assert_eq!(connections(agreed & !FLOW), 1, "without credit there is one");
            }
        }
        assert_eq!(wish(wish(FLOW | 1 << 63, 8), 2), FLOW | 1 << 63 | 1 << 2, "the last wish counts");
        assert_eq!(wish(0, 8), 0);
        assert_eq!(WISHES.map(|(connections, _)| connections), crate::config::CONNECTIONS);
    }

    #[test]
    fn features_with_a_gap_are_what_stands_below_the_gap() {
        assert_eq!(connections(FLOW | 1 << 4), 1);
        assert_eq!(connections(FLOW | 1 << 4 | 1 << 2), 2);
    }

    #[test]
    fn instances_spread_evenly_also_in_steps() {
        for (connections, step) in [(2, 1), (4, 1), (8, 1), (4, 4), (8, 8), (8, 3)] {
            let mut counts = vec![0; connections];
            (1..=8000).for_each(|number| counts[place_of(InstanceId(number * step), connections)] += 1);
            let even = 8000 / connections;
            assert!(counts.iter().all(|count| (even / 2..=even * 2).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn the_end_of_a_hello_says_whose_further_connection_it_is() {
        let extra = Extra { number: 3, first: [7; 32] };
        assert_eq!(Extra::read(&extra.write()), Ok(Some(extra)));
        assert_eq!(Extra::read(&[&extra.write()[..], b"later"].concat()), Ok(Some(extra)));
        assert_eq!((Extra::read(&[]), Extra::read(&[0, 1, 2])), (Ok(None), Ok(None)));
        assert!(Extra::read(&extra.write()[..32]).unwrap_err().contains("31 bytes"));
    }
}
