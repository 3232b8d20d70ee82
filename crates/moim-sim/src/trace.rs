//! The story of a run, a line an event. Two runs of one seed must tell the same story, byte for byte.

use std::fmt::{self, Write};

/// Lines, kept only if somebody wants them: most runs are judged by their history alone.
#[derive(Debug, Default)]
pub struct Trace {
    text: Option<String>,
}

impl Trace {
    /// Keeps every line.
    pub fn kept() -> Self {
        Self { text: Some(String::new()) }
    }

    /// Keeps nothing.
    pub fn dropped() -> Self {
        Self::default()
    }

    /// Adds a line.
    pub fn line(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
            writeln!(text, "{seconds:>4}.{micros:06} {what}")
                .expect("a string takes what it is given");
        }
    }

    /// All lines.
    pub fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
