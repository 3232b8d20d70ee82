//! Values with a deadline, and values that are not there.
//!
//! Promises:
//!
//! - a value whose deadline has passed by the clock of whoever serves the read is not served, then or ever again (INV-7);
//! - an acknowledged value is there until something may have removed it: a delete, or an expiring write, that was not
//!   certainly over before the value was written; or its own deadline;
//! - a read that reports the very version of an acknowledged value reports the value too, if it is not due.
//!
//! Deadlines are in Unix time and clocks differ, so a read is judged by the span that its coordinator's clock covered,
//! and an update, which another node may have served, by that of all clocks. Two things excuse a missing value early:
//! it was past its deadline on some clock when it was written, which makes the write a deletion; and compaction, which
//! waits a grace period, gave it back on a node whose clock is far ahead. A write whose client never learnt the outcome
//! may be written at any time after it began: a node that hangs takes it when it goes on.

use super::register::{Observed, writer};
use super::{Findings, Levels, Property};
use crate::history::{Answer, Call, Operation};

/// Judges one key.
pub fn check(operations: &[&Operation], levels: Levels, findings: &mut Findings) {
    for &read in operations {
        match Observed::by(read) {
            Observed::Value(value) => {
                if let Some(write) = writer(operations, value).filter(|write| is_past(write, read))
                {
                    let what = format!("{value} was served after its deadline");
                    findings.add(true, Property::ExpiredIsGone, what, &[write, read]);
                }
            }
            Observed::Nothing => check_missing(operations, read, levels, findings),
            Observed::Unsaid => {}
        }
    }
}

/// Whether the deadline of `write` had passed for certain all through `read`.
pub(super) fn is_past(write: &Operation, read: &Operation) -> bool {
    write.expires_ms() != 0 && write.expires_ms() <= judged_by(read).0
}

/// Whether the deadline of `write` may have passed before `read` ended.
pub(super) fn may_be_past(write: &Operation, read: &Operation) -> bool {
    let latest_ms = judged_by(read).1.max(read.clocks.reclaimed_ms).max(write.clocks.any.1);
    write.expires_ms() != 0 && (write.expires_ms() <= latest_ms || may_be_taken_late(write, read))
}

/// Whether `write`, if it never ended, may have been taken by a clock past its deadline before `read` ended.
fn may_be_taken_late(write: &Operation, read: &Operation) -> bool {
    let until_us = read.end.map_or(u64::MAX, |end| end.at_us);
    write.end.is_none() && write.due_us.is_some_and(|due_us| due_us <= until_us)
}

/// The clocks by which a read may have judged deadlines: the least and the most that they showed.
fn judged_by(read: &Operation) -> (u64, u64) {
    if read.call == Call::Read { read.clocks.own } else { read.clocks.any }
}

/// A read saw nothing: something must have removed every acknowledged value before it.
fn check_missing(
    operations: &[&Operation],
    read: &Operation,
    levels: Levels,
    findings: &mut Findings,
) {
    let kept = operations.iter().copied().filter(|write| {
        write.written().is_some()
            && write.is_acknowledged_write()
            && write.before(read)
            && !may_be_past(write, read)
    });
    let lost =
        kept.filter(|write| !operations.iter().any(|other| may_remove(other, write, read, levels)));
    let promised = |write: &&Operation| levels.reads(read, write);
    if let Some(write) = lost.max_by_key(|write| (promised(write), write.start)) {
        let what = "nothing was read, and nothing can have removed this value".to_owned();
        findings.add(promised(&write), Property::NothingVanishes, what, &[write, read]);
    }
    check_same_version(operations, read, findings);
}

/// Whether `other` may be why `read` does not see `write`.
fn may_remove(other: &Operation, write: &Operation, read: &Operation, levels: Levels) -> bool {
    let removes = matches!(other.call, Call::Delete { .. }) || may_be_past(other, read);
    let certainly_older =
        other.before(write) && other.is_acknowledged_write() && levels.meets(write, other);
    other.id != write.id && removes && !other.is_void() && !read.before(other) && !certainly_older
}

/// A read that reports the version of a value and not the value has dropped it before its time.
fn check_same_version(operations: &[&Operation], read: &Operation, findings: &mut Findings) {
    let Answer::Read { version: seen, .. } = read.answer else { return };
    let stamped = |operation: &&&Operation| match operation.answer {
        Answer::Written { version, .. } => version == seen,
        // Two writes through two nodes can have one stamp; one whose stamp is unknown may be the other.
        Answer::Unknown(_) | Answer::None => {
            operation.call != Call::Read && !read.before(operation)
        }
        _ => false,
    };
    let mut same = operations.iter().filter(stamped);
    if let (Some(&write), None) = (same.next(), same.next())
        && write.written().is_some()
        && write.is_acknowledged_write()
        && !may_be_past(write, read)
    {
        let what = "this very version was read, but without its value".to_owned();
        findings.add(true, Property::NothingVanishes, what, &[write, read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{Story, put_until, read, read_until, unknown, written};

    fn judge(tell: impl FnOnce(&mut Story)) -> Vec<Property> {
        let mut story = Story::default();
        tell(&mut story);
        story.judge(check).0
    }

    #[test]
    fn a_value_goes_at_its_deadline_and_not_before() {
        let seen_at = |wall_ms: u64, value: u64| {
            judge(|story| {
                story.tell((0, 1), put_until(1, 1_500), written(10));
                let seen: &[u64] = if value == 0 { &[] } else { &[value] };
                let answer = read_until(seen, 10, 1_500);
                story.tell((2, 3), Call::Read, answer).clocks.own = (wall_ms, wall_ms + 1);
            })
        };
        assert_eq!(seen_at(1_000, 1), []);
        assert_eq!(seen_at(1_499, 1), []);
        assert_eq!(seen_at(1_499, 0), [], "due at some moment of the read");
        assert_eq!(seen_at(1_500, 0), []);
        assert_eq!(seen_at(1_500, 1), [Property::ExpiredIsGone]);
        assert_eq!(seen_at(1_498, 0), [Property::NothingVanishes, Property::NothingVanishes]);
    }

    #[test]
    fn a_deadline_that_had_passed_somewhere_when_it_was_set_excuses() {
        let missing = |any_ms: u64, reclaimed_ms: u64| {
            judge(|story| {
                story.tell((0, 1), put_until(1, 1_500), written(10)).clocks.any.1 = any_ms;
                story.read((2, 3), 0, 10).clocks.reclaimed_ms = reclaimed_ms;
            })
        };
        assert_eq!(missing(1_000, 0).len(), 2);
        assert_eq!(missing(1_500, 0), []);
        assert_eq!(missing(1_000, 1_500), []);
    }

    #[test]
    fn a_write_without_an_outcome_may_be_taken_when_it_is_due_and_delete() {
        let missing = |due_us: Option<u64>, answer: Answer| {
            judge(|story| {
                story.put((0, 1), 1, 10);
                story.tell((2, 3), put_until(2, 1_500), answer).due_us = due_us;
                story.read((20, 21), 0, 20);
            })
        };
        assert_eq!(missing(Some(21), unknown()), []);
        assert_eq!(missing(Some(22), unknown()), [Property::NothingVanishes], "due after the read");
        assert_eq!(missing(None, unknown()), [Property::NothingVanishes], "never due");
        let acknowledged = missing(Some(21), written(20));
        assert!(!acknowledged.is_empty(), "it was taken before it was due");
    }

    #[test]
    fn an_acknowledged_value_does_not_vanish_by_itself() {
        let broken = judge(|story| {
            story.put((0, 1), 1, 10);
            story.read((2, 3), 0, 0);
        });
        assert_eq!(broken, [Property::NothingVanishes]);
    }

    #[test]
    fn a_delete_explains_a_missing_value_unless_it_came_before() {
        let delete = |times, answer| {
            judge(|story| {
                story.put((10, 11), 1, 10);
                story.tell(times, Call::Delete { covers: None }, answer);
                story.read((20, 21), 0, 5);
            })
        };
        assert_eq!(delete((12, 13), written(20)), []);
        assert_eq!(delete((12, 13), unknown()), []);
        assert_eq!(delete((2, 3), unknown()), [], "it may have taken effect later");
        assert_eq!(delete((2, 3), written(5)), [Property::NothingVanishes]);
        assert_eq!(delete((22, 23), written(30)), [Property::NothingVanishes]);
        let refused = Answer::Refused("overloaded".to_owned());
        assert_eq!(delete((12, 13), refused), [Property::NothingVanishes]);
    }

    #[test]
    fn a_conditional_write_that_was_applied_saw_nothing() {
        let broken = judge(|story| {
            story.put((0, 1), 1, 10);
            let applied = Answer::Set { applied: true, previous: None };
            story.tell((2, 3), Call::PutIfMissing { value: crate::history::Value(2) }, applied);
        });
        assert_eq!(broken, [Property::NothingVanishes]);
    }

    #[test]
    fn an_expired_value_does_not_come_back_at_another_node() {
        let broken = judge(|story| {
            story.tell((0, 1), put_until(1, 1_500), written(10));
            story.tell((2, 3), Call::Read, read(&[], 10)).clocks.own = (1_600, 1_601);
            story.tell((4, 5), Call::Read, read_until(&[1], 10, 1_500)).clocks.own = (1_700, 1_701);
        });
        assert_eq!(broken, [Property::ExpiredIsGone]);
    }
}
