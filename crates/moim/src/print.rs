//! What people read: tables, sizes, and the only places that write to standard output and standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Writes bytes to standard output. A reader that has gone away (`| head`) is nobody's fault.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).ok();
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    raw(format!("{text}\n").as_bytes());
}

/// Writes a document to standard output, on one line.
pub(crate) fn json(document: &impl Serialize) {
    line(
        &serde_json::to_string(document)
            .expect("documents have no maps with other keys than texts"),
    );
}

/// Writes a line to standard error.
pub(crate) fn note(text: &str) {
    io::stderr().lock().write_all(format!("{text}\n").as_bytes()).ok();
}

/// How something that takes a while goes on: one line that changes on a terminal, elsewhere a line now and then.
#[derive(Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
    said: Instant,
}

/// How often a line is written where lines cannot change.
const SAY_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(crate) fn begin() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), said: Instant::now() }
    }

    pub(crate) fn say(&mut self, text: &str) {
        if self.is_terminal {
            io::stderr().lock().write_all(format!("\r\x1b[K{text}").as_bytes()).ok();
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            note(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal {
            io::stderr().lock().write_all(b"\r\x1b[K").ok();
        }
    }
}

/// Whether somebody sits at standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows as aligned columns; the first row is the heading. A column of numbers is aligned to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let layout: Vec<(usize, bool)> = (0..columns).map(|at| column(rows, at)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, (width, to_right)) in row.iter().zip(&layout) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) =
                if *to_right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn column(rows: &[Vec<String>], at: usize) -> (usize, bool) {
    let cells = || rows.iter().filter_map(move |row| row.get(at));
    let width = cells().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let number =
        |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit() || first == '–');
    let addresses = cells().any(|cell| cell.contains(':'));
    (width, !addresses && cells().skip(1).all(number))
}

/// A size that people can read.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step =
        usize::try_from(count.max(1).ilog2() / 10).map_or(0, |step| step.min(UNITS.len() - 1));
    if step == 0 {
        return format!("{count} B");
    }
    let tenths = (u128::from(count) * 10) >> (10 * step);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[step])
}

/// A part of a whole.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// A rate.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// Bytes as people can read them on one line of a terminal: what could move its cursor is escaped.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() || letter == '\\' {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            text.extend(std::ascii::escape_default(*byte).map(char::from));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text =
            table(&[row(["node", "keys", "zone"]), row(["a", "10", "z1"]), row(["bcd", "9", ""])]);
        assert_eq!(text, "node  keys  zone\na       10  z1\nbcd      9\n");
    }

    #[test]
    fn sizes_have_units() {
        for (count, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (10_240, "10.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_key_cannot_write_to_the_terminal() {
        assert_eq!(visible(b"a\x1b[2J\n\xff\\"), "a\\u{1b}[2J\\n\\xff\\\\");
        assert_eq!(visible("장바구니".as_bytes()), "장바구니");
    }
}
