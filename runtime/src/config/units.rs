//! Durations and sizes as people write them: `"250ms"`, `"1m 30s"`, `"64 MiB"`.
//!
//! Invariant: what is not clear is nothing; there is no unit that is meant but not written.

use std::time::Duration;

/// The longest duration that can be written. What is longer is a mistake, and would leave the range of the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZES: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// One or more whole numbers, each with its unit: `ms`, `s`, `m` or `h`. At most 365 days.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut millis) = (text.trim(), 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, behind) = number(rest)?;
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, factor) = TIMES.into_iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.checked_mul(factor)?)?;
        rest = behind.trim_start();
    }
    Some(Duration::from_millis(millis)).filter(|duration| *duration <= LONGEST)
}

/// A whole number with its unit: `B`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = number(text.trim())?;
    let (_, factor) = SIZES.into_iter().find(|(name, _)| *name == unit)?;
    usize::try_from(number).ok()?.checked_mul(factor)
}

/// A size in the largest unit that shows it exactly.
pub(super) fn show_size(bytes: usize) -> String {
    let exact = SIZES.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(("B", 1));
    format!("{} {unit}", bytes / factor)
}

/// The number at the beginning, and what stands behind it and its spaces.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        for (text, millis) in [
            ("5s", 5_000),
            ("250ms", 250),
            (" 2 h ", 7_200_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("0s", 0),
            ("8760h", 31_536_000_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "5", "s", "5 sec", "-5s", "1.5s", "5s5", "8761h", "99999999999999999999s", "5 µs", "1s,2s"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        for (text, bytes) in [("64 MiB", 64 << 20), ("1GiB", 1 << 30), ("16 KiB", 16 << 10), ("7B", 7)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64 MB", "64 mib", "-1 B", "1.5 MiB", "1 MiB 2 KiB", "99999999999 GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_can_be_written() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, (64 << 20) + 1, 3 << 30] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(1536), "1536 B");
    }
}
