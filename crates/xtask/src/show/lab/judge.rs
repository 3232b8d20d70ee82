//! What clients may see of a disturbance.

use std::time::Duration;

use anyhow::{Result, bail};

use super::diary::{Diary, Event, Kind};

/// Failures must have ended this long after a disturbance began.
const FAILURES_END: Duration = Duration::from_secs(2);
/// Events of a client that are shown before one that should not have been.
const STORY_EVENTS: usize = 12;
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
/// have handed over what they kept. Where nobody stands in, it must find what was acknowledged. Commands of which
/// `must_fail` says so may fail all the time.
pub(in super::super) fn failures_end_unless_strict(
    diary: &Diary,
    span: Span<'_>,
    must_fail: impl Fn(&Event) -> Result<bool>,
) -> Result<()> {
    failures_are_short(diary, span, must_fail)?;
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
    failures_are_short(diary, span, |_| Ok(false))?;
    nothing_lost(diary, span)
}

fn failures_are_short(
    diary: &Diary,
    span: Span<'_>,
    must_fail: impl Fn(&Event) -> Result<bool>,
) -> Result<()> {
    let Span { what, from_ms, until_ms } = span;
    tell(diary, span);
    let after = |event: &Event| Duration::from_millis(event.at_ms - from_ms);
    let failed = diary.of(Kind::Failed, from_ms, until_ms);
    for late in failed.filter(|event| after(event) > FAILURES_END) {
        if must_fail(late)? {
            println!("    {} ms after, as it must: {}", after(late).as_millis(), describe(late));
            continue;
        }
        tell_story(diary, late, from_ms);
        bail!(
            "{what}: commands still failed {:.1} s after: {}",
            after(late).as_secs_f64(),
            describe(late)
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

/// Prints what led to an event at its client: where it was, and what it waited for.
fn tell_story(diary: &Diary, end: &Event, from_ms: u64) {
    let same = |event: &&Event| event.client == end.client && event.at_ms <= end.at_ms;
    let events: Vec<_> = diary.events.iter().filter(same).collect();
    let failed = events.iter().filter(|event| event.kind == Kind::Failed);
    let recent = &events[events.len().saturating_sub(STORY_EVENTS)..];
    println!("  what {} failed at, and its last {STORY_EVENTS} events:", end.client);
    for event in failed.chain(recent) {
        let after_ms = event.at_ms.cast_signed() - from_ms.cast_signed();
        println!("    {after_ms:>6} ms after: {:?} {} {}", event.kind, event.key, event.what);
    }
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
