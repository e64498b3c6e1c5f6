//! What is printed: tables for people, JSON for programs.
//!
//! Invariant: with `--json` each answer is one line, and nothing else is on standard output.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    is_json: bool,
    /// How wide a line may be; `None` where nobody looks at it on a screen.
    width: Option<usize>,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        let width = io::stdout()
            .is_terminal()
            .then(|| ratatui::crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width)));
        Self { is_json, width }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// An answer: as JSON, or as what `people` makes of it.
    pub(crate) fn answer<T: Serialize>(
        &self,
        answer: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.is_json {
            let text = serde_json::to_string(answer)
                .map_err(|error| Failure::failed(format!("the answer is not JSON: {error}")))?;
            return self.raw(&(text + "\n"));
        }
        self.raw(&people(answer))
    }

    /// A text as it is.
    #[expect(clippy::unused_self, reason = "whoever writes has an output")]
    pub(crate) fn raw(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// A note beside the answers.
    #[expect(clippy::unused_self, reason = "as above")]
    pub(crate) fn raw_error(&self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(io::stderr(), "skyhold: {text}")?)
    }

    /// A table with a head.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> String {
        table(head, rows, self.width)
    }
}

/// Columns, each as wide as its widest field; the last one ends where the line does. Control characters are shown as spaces: a
/// field may be somebody else's text.
fn table(head: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let head: Vec<String> = head.iter().map(|field| (*field).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&head)
        .chain(rows)
        .map(|line| line.iter().map(|field| field.replace(char::is_control, " ")).collect())
        .collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|f| f.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (field, width) in line.iter().zip(&widths) {
            shown.push_str(&format!("{field:<width$}  "));
        }
        let shown = shown.trim_end();
        text.extend(shown.chars().take(width.unwrap_or(usize::MAX)));
        text.push('\n');
    }
    text
}

/// A duration as people read it.
pub(crate) fn short(time: std::time::Duration) -> String {
    let nanos = time.as_nanos();
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{:.1}\u{b5}s", time.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1}ms", time.as_secs_f64() * 1e3),
        1_000_000_000..120_000_000_000 => format!("{:.1}s", time.as_secs_f64()),
        _ => format!("{}m{:02}s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of the unit.
    let (mut scaled, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while scaled >= 10_240 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", scaled / 10, scaled % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_table_is_aligned_cut_to_the_screen_and_free_of_control_characters() {
        let rows = [vec!["a".into(), "x\u{1b}[2Jy".into()], vec!["longer".into(), String::new()]];
        let text = table(&["NODE", "TEXT"], &rows, None);
        assert_eq!(text, "NODE    TEXT\na       x [2Jy\nlonger\n");
        assert_eq!(table(&["NODE", "TEXT"], &rows, Some(9)), "NODE    T\na       x\nlonger\n");
    }

    #[test]
    fn times_and_sizes_have_units() {
        for (nanos, text) in [
            (7, "7ns"),
            (1500, "1.5\u{b5}s"),
            (2_500_000, "2.5ms"),
            (3_000_000_000, "3.0s"),
            (125_000_000_000, "2m05s"),
        ] {
            assert_eq!(short(Duration::from_nanos(nanos)), text);
        }
        for (count, text) in [(5, "5 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5.0 TiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
