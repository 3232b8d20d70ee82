//! What clients may see of a disturbance.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::diary::{Diary, Event, Kind};

/// Failures must have ended this long after a disturbance began.
const FAILURES_END: Duration = Duration::from_secs(2);
/// Kinds of words that are shown.
const WORDS_SHOWN: usize = 4;

/// A disturbance, and the time until the next.
#[derive(Clone, Copy)]
pub(in super::super) struct Span<'a> {
    pub(in super::super) what: &'a str,
    pub(in super::super) from_ms: u64,
    pub(in super::super) until_ms: u64,
}

/// No command may fail in this time. A client that finds a door closed and goes to the next node has sent nothing.
pub(in super::super) fn no_failures(diary: &Diary, span: Span<'_>) -> Result<()> {
    let Span { what, from_ms, until_ms } = span;
    tell(diary, span);
    if let Some(first) = diary.of(Kind::Failed, from_ms, until_ms).next() {
        bail!("{what}: a command failed {} ms after: {}", first.at_ms - from_ms, describe(first));
    }
    nothing_lost(diary, span)
}

/// Commands may fail, but not for long; and where others may stand in for owners, a read may find nothing until these
/// have handed over what they kept. Where nobody stands in, it must find what was acknowledged.
pub(in super::super) fn failures_end_unless_strict(diary: &Diary, span: Span<'_>) -> Result<()> {
    failures_are_short(diary, span)?;
    let Span { what, from_ms, until_ms } = span;
    let lost: Vec<_> = diary.of(Kind::Lost, from_ms, until_ms).collect();
    if let Some(lost) = lost.iter().find(|lost| lost.is_strict()) {
        bail!("{what}: an acknowledged value was not read: {}", describe(lost));
    }
    if !lost.is_empty() {
        println!("    {} reads missed what stand-ins still kept for the owners", lost.len());
    }
    Ok(())
}

/// Commands may fail, but not for long.
pub(in super::super) fn failures_end(diary: &Diary, span: Span<'_>) -> Result<()> {
    failures_are_short(diary, span)?;
    nothing_lost(diary, span)
}

fn failures_are_short(diary: &Diary, span: Span<'_>) -> Result<()> {
    let Span { what, from_ms, until_ms } = span;
    tell(diary, span);
    if let Some(last) = diary.of(Kind::Failed, from_ms, until_ms).last() {
        let after = Duration::from_millis(last.at_ms - from_ms);
        ensure!(
            after <= FAILURES_END,
            "{what}: commands still failed {:.1} s after: {}",
            after.as_secs_f64(),
            describe(last)
        );
    }
    Ok(())
}

fn nothing_lost(diary: &Diary, span: Span<'_>) -> Result<()> {
    let Span { what, from_ms, until_ms } = span;
    if let Some(lost) = diary.of(Kind::Lost, from_ms, until_ms).next() {
        bail!("{what}: an acknowledged value was not read: {}", describe(lost));
    }
    if let Some(wrong) = diary.of(Kind::Wrong, from_ms, until_ms).next() {
        bail!("{what}: a command was not done once: {}", describe(wrong));
    }
    Ok(())
}

fn describe(event: &Event) -> String {
    format!("{} at {}: {}", event.client, event.key, event.what)
}

/// Prints what clients saw.
fn tell(diary: &Diary, span: Span<'_>) {
    let Span { what, from_ms, until_ms } = span;
    let count = |kind| diary.count(kind, from_ms, until_ms);
    let updates = count(Kind::Did);
    let updates = if updates > 0 { format!(", {updates} updates") } else { String::new() };
    let last = diary.of(Kind::Failed, from_ms, until_ms).last();
    let last = last.map_or(String::new(), |event| {
        format!(", the last {} ms after", event.at_ms.saturating_sub(from_ms))
    });
    println!(
        "  {what}, {:.1} s: {} writes and {} reads done{updates}; {} commands failed{last}; {} times another node was tried \
         because one could not be reached; longest wait of a client for an acknowledgement {} ms",
        Duration::from_millis(until_ms - from_ms).as_secs_f64(),
        count(Kind::Acknowledged),
        count(Kind::Read),
        count(Kind::Failed),
        count(Kind::Moved),
        diary.pause_ms_max(from_ms, until_ms),
    );
    for kind in [Kind::Failed, Kind::Lost, Kind::Wrong] {
        for (words, times) in diary.words(kind, from_ms, until_ms).iter().take(WORDS_SHOWN) {
            println!("    {times:>5} {words}");
        }
    }
}
