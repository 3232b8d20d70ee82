//! Keys with one value: reads and writes in real time.
//!
//! Promises, each for requests whose levels meet ([`Levels`]):
//!
//! - a read that starts after an acknowledged write sees it or something newer (REQ-14);
//! - a read that starts after another sees the same or something newer: what a read returns is held by a quorum;
//! - a write that starts after another was acknowledged, or read, outranks it, whatever the clocks say;
//! - a read returns what somebody wrote, and nothing that was refused.
//!
//! "Newer" is judged twice: by the versions that nodes report, and by real time alone, which does not trust them. The
//! second judges only what is certain: a value is overwritten when an acknowledged write started after its own write
//! was acknowledged and ended before the read started. A request without an outcome may have taken effect at any
//! time since it began, or never.

use moim_core::clock::Hlc;

use super::{Findings, Levels, Property};
use crate::history::{Answer, Call, Operation, Value};

/// Judges one key of its own.
pub fn check(operations: &[&Operation], levels: Levels, findings: &mut Findings) {
    check_values(operations, levels, findings);
    check_versions(operations, levels, findings);
    check_overwritten(operations, levels, findings);
    check_contexts(operations, findings);
}

/// Judges by the versions that nodes report.
pub fn check_versions(operations: &[&Operation], levels: Levels, findings: &mut Findings) {
    for &later in operations {
        let Some((version, is_read)) = reported(later) else { continue };
        let mut broken: Option<(bool, Property, &Operation)> = None;
        for &earlier in operations.iter().filter(|earlier| earlier.before(later)) {
            let Some((before, was_read)) = reported(earlier) else { continue };
            // That nothing is there may be because a deletion or an expired value was forgotten, and what is left on some
            // replica is an older one (an old disk brings such); `deadline` judges whether something had to be there.
            let forgotten =
                Observed::by(later) == Observed::Nothing && levels.may_forget(later, earlier);
            if before <= version || forgotten {
                continue;
            }
            let (property, promised) = match (was_read, is_read) {
                (false, true) => (Property::ReadsSeeWrites, levels.reads(later, earlier)),
                (true, true) => (Property::ReadsNeverGoBack, levels.rereads(later, earlier)),
                (false, false) => (Property::LaterWritesWin, levels.meets(later, earlier)),
                (true, false) => (Property::LaterWritesWin, levels.outranks(later, earlier)),
            };
            // One finding a request is enough; a broken promise is the one to show.
            if broken.is_none_or(|(known, ..)| promised && !known) {
                broken = Some((promised, property, earlier));
            }
        }
        if let Some((promised, property, earlier)) = broken {
            let what = format!("{} was first, and the other is older by its version", say(earlier));
            findings.add(promised, property, what, &[earlier, later]);
        }
    }
}

/// The version that a request reports, and whether it is a read's.
fn reported(operation: &Operation) -> Option<(Hlc, bool)> {
    match operation.answer {
        Answer::Read { version, .. } => Some((version, true)),
        Answer::Written { version, .. } => Some((version, false)),
        _ => None,
    }
}

fn say(operation: &Operation) -> &'static str {
    if operation.call == Call::Read { "a read" } else { "an acknowledged write" }
}

/// What a request saw of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observed {
    /// This value.
    Value(Value),
    /// That there is no value.
    Nothing,
    /// It does not say.
    Unsaid,
}

impl Observed {
    pub(super) fn by(operation: &Operation) -> Self {
        match &operation.answer {
            Answer::Read { seen, .. } if seen.is_empty() => Self::Nothing,
            Answer::Read { seen, .. } => seen[0].value.map_or(Self::Unsaid, Self::Value),
            Answer::Set { applied: true, .. } => Self::Nothing,
            Answer::Set { applied: false, previous } => previous.map_or(Self::Unsaid, Self::Value),
            _ => Self::Unsaid,
        }
    }
}

/// Who wrote a value.
pub(super) fn writer<'a>(operations: &[&'a Operation], value: Value) -> Option<&'a Operation> {
    operations.iter().find(|operation| operation.written() == Some(value)).copied()
}

/// Values must be somebody's, who asked before the read ended, and was not refused.
fn check_values(operations: &[&Operation], levels: Levels, findings: &mut Findings) {
    let mut wrong = |promised: bool, what: String, shown: &[&Operation]| {
        findings.add(promised, Property::OnlyWrittenValues, what, shown);
    };
    for &read in operations {
        if let Answer::Read { seen, .. } = &read.answer {
            if seen.len() > 1 {
                wrong(true, format!("{} values where one is kept", seen.len()), &[read]);
            }
            if let Some(torn) = seen.iter().find(|seen| seen.value.is_none()) {
                wrong(true, format!("nobody wrote {:?}", torn.bytes), &[read]);
            }
        }
        let Observed::Value(value) = Observed::by(read) else { continue };
        match writer(operations, value) {
            None => wrong(true, format!("nobody wrote {value} to this key"), &[read]),
            Some(write) if write.is_void() => {
                if let Some(promised) = must_not_see(write, read, levels) {
                    wrong(promised, format!("the write of {value} was refused"), &[write, read]);
                }
            }
            Some(write) if read.before(write) => {
                wrong(true, format!("{value} was read before it was written"), &[read, write]);
            }
            Some(write) => {
                if let Some(what) = altered(write, read) {
                    wrong(true, format!("{value} {what}"), &[write, read]);
                }
            }
        }
    }
}

/// Whether it is wrong that `read` sees what `write`, which changed nothing, was to write: `None` if it is not, otherwise
/// whether that is promised.
///
/// A conditional write is decided anew when a concurrent write outranks it before W owners have it, and may then find
/// its condition false. Its first round is a write without a quorum like any other: who reads meanwhile may see it. Once
/// it is answered, what it found instead outranks that round wherever a later read meets it.
fn must_not_see(write: &Operation, read: &Operation, levels: Levels) -> Option<bool> {
    let was_decided = matches!(write.answer, Answer::Set { .. });
    if !was_decided || read.before(write) {
        return Some(true);
    }
    write.before(read).then(|| levels.rereads(read, write))
}

/// What a read says of a value that its writer did not.
pub(super) fn altered(write: &Operation, read: &Operation) -> Option<&'static str> {
    let Answer::Read { seen, .. } = &read.answer else { return None };
    let seen = seen.iter().find(|seen| seen.value == write.written())?;
    match write.answer {
        _ if seen.expires_ms != write.expires_ms() => {
            Some("has another deadline than it was given")
        }
        // Before it is acknowledged a write may be stamped anew, and an earlier stamp be seen; afterwards never.
        Answer::Written { version, .. } if seen.version > version => {
            Some("has a later version than it was given")
        }
        _ => None,
    }
}

/// A write that carries the version that its writer had read is stamped above it.
fn check_contexts(operations: &[&Operation], findings: &mut Findings) {
    for &write in operations {
        if let Answer::Written { version, .. } = write.answer
            && version <= write.above
        {
            let what = format!("it was to be above {:?}", write.above);
            findings.add(true, Property::LaterWritesWin, what, &[write]);
        }
    }
}

/// Judges by real time: nobody reads a value that was certainly overwritten.
fn check_overwritten(operations: &[&Operation], levels: Levels, findings: &mut Findings) {
    for &read in operations {
        let Observed::Value(value) = Observed::by(read) else { continue };
        let Some(write) = writer(operations, value).filter(|write| write.is_acknowledged_write())
        else {
            continue;
        };
        let overwrote = operations.iter().copied().filter(|second| {
            second.is_acknowledged_write() && write.before(second) && second.before(read)
        });
        let promised =
            |second: &&Operation| levels.meets(second, write) && levels.reads(read, second);
        let Some(second) = overwrote.max_by_key(|second| (promised(second), second.start)) else {
            continue;
        };
        let what = format!("{value} was read although it had been overwritten");
        findings.add(promised(&second), Property::ReadsSeeWrites, what, &[write, second, read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{Story, put, put_until, unknown, written};

    fn judge(tell: impl FnOnce(&mut Story)) -> Vec<Property> {
        let mut story = Story::default();
        tell(&mut story);
        story.judge(check).0
    }

    #[test]
    fn a_history_in_order_passes() {
        let broken = judge(|story| {
            story.read((0, 1), 0, 0);
            story.put((2, 5), 1, 10);
            story.read((3, 4), 1, 10);
            story.put((6, 9), 2, 20);
            story.read((7, 8), 1, 10);
            story.read((10, 11), 2, 20);
            story.tell((12, 13), Call::Delete { covers: None }, written(30));
            story.read((14, 15), 0, 30);
        });
        assert_eq!(broken, []);
    }

    #[test]
    fn a_stale_read_is_seen_by_version_and_by_real_time() {
        let broken = judge(|story| {
            story.put((0, 1), 1, 10);
            story.put((2, 3), 2, 20);
            story.read((4, 5), 1, 10);
        });
        assert_eq!(broken, [Property::ReadsSeeWrites, Property::ReadsSeeWrites]);
    }

    #[test]
    fn real_time_judges_even_where_versions_lie() {
        let broken = judge(|story| {
            story.put((0, 1), 1, 10);
            story.put((2, 3), 2, 10);
            story.read((4, 5), 1, 10);
        });
        assert_eq!(broken, [Property::ReadsSeeWrites]);
    }

    #[test]
    fn reads_that_overlap_a_write_may_see_either_but_not_go_back() {
        let flips = |last: (u64, u64)| {
            judge(|story| {
                story.put((0, 1), 1, 10);
                story.tell((2, 3), put(2, &[]), unknown());
                story.read((4, 5), 2, 20);
                story.read((6, 7), last.0, last.1);
            })
        };
        assert_eq!(flips((2, 20)), []);
        assert_eq!(flips((1, 10)), [Property::ReadsNeverGoBack]);
    }

    #[test]
    fn a_later_write_must_outrank_what_was_acknowledged_or_read() {
        let outranked = judge(|story| {
            story.put((0, 1), 1, 20);
            story.put((2, 3), 2, 10);
        });
        assert_eq!(outranked, [Property::LaterWritesWin]);
        let read_before = judge(|story| {
            story.tell((0, 1), put(1, &[]), unknown());
            story.read((2, 3), 1, 20);
            story.put((4, 5), 2, 10);
        });
        assert_eq!(read_before, [Property::LaterWritesWin]);
        let concurrent = judge(|story| {
            story.put((0, 3), 1, 20);
            story.put((2, 4), 2, 10);
        });
        assert_eq!(concurrent, []);
    }

    #[test]
    fn values_come_from_somewhere() {
        let unwritten = judge(|story| {
            story.read((0, 1), 7, 0);
        });
        assert_eq!(unwritten, [Property::OnlyWrittenValues]);
        let refused = judge(|story| {
            story.tell((0, 1), put(1, &[]), Answer::Refused("overloaded".to_owned()));
            story.read((2, 3), 1, 10);
        });
        assert_eq!(refused, [Property::OnlyWrittenValues]);
        let from_the_future = judge(|story| {
            story.read((0, 1), 1, 10);
            story.put((2, 3), 1, 10);
        });
        assert_eq!(from_the_future, [Property::OnlyWrittenValues]);
    }

    #[test]
    fn a_conditional_write_that_is_refused_may_be_seen_until_it_is_answered() {
        let seen_at = |times: (u64, u64), r: u8| {
            let mut story = Story::default();
            let refused = Answer::Set { applied: false, previous: Some(Value(2)) };
            story.tell((10, 20), Call::PutIfMissing { value: Value(1) }, refused);
            story.put((12, 14), 2, 30);
            story.read(times, 1, 25).r = r;
            let check = |operations: &[&Operation], levels: Levels, findings: &mut Findings| {
                check_values(operations, levels, findings);
            };
            story.judge(check)
        };
        let wrong = vec![Property::OnlyWrittenValues];
        assert_eq!(seen_at((11, 13), 2), (vec![], vec![]));
        assert_eq!(seen_at((19, 23), 2), (vec![], vec![]), "it began before the answer");
        assert_eq!(seen_at((21, 23), 2), (wrong.clone(), vec![]));
        assert_eq!(seen_at((21, 23), 1), (vec![], wrong.clone()), "it need not meet what won");
        assert_eq!(seen_at((3, 5), 2), (wrong, vec![]), "nobody had asked for it");
    }

    #[test]
    fn a_value_keeps_its_version_and_deadline() {
        let later_version = judge(|story| {
            story.put((0, 1), 1, 10);
            story.read((2, 3), 1, 11);
        });
        assert_eq!(later_version, [Property::OnlyWrittenValues]);
        let other_deadline = judge(|story| {
            story.tell((0, 1), put_until(1, 5_000), written(10));
            story.read((2, 3), 1, 10);
        });
        assert_eq!(other_deadline, [Property::OnlyWrittenValues]);
    }

    #[test]
    fn a_write_goes_above_the_version_that_it_carries() {
        let above =
            |above: u64| judge(|story| story.put((0, 1), 1, 10).above = Hlc::from_u64(above));
        assert_eq!(above(9), []);
        assert_eq!(above(10), [Property::LaterWritesWin]);
    }

    #[test]
    fn a_deletion_may_be_forgotten_when_it_is_old() {
        let seen_after = |start: u64, forgets: bool| {
            let mut story = Story::default();
            story.put((0, 1), 1, 10);
            story.tell((2, 3), Call::Delete { covers: None }, written(20));
            story.read((start, start + 1), 0, 0);
            let check = |operations: &[&Operation], levels: Levels, findings: &mut Findings| {
                check(operations, Levels { forgets, ..levels }, findings);
            };
            story.judge(check).0
        };
        assert_eq!(seen_after(7_000_000, true), []);
        assert_eq!(seen_after(7_000_000, false), [Property::ReadsSeeWrites]);
        assert_eq!(seen_after(4, true), [Property::ReadsSeeWrites]);
    }

    #[test]
    fn what_is_forgotten_may_uncover_an_older_deletion_and_never_a_value() {
        let seen_by = |value: u64, version: u64| {
            let mut story = Story::default();
            story.put((0, 1), 1, 10);
            story.tell((2, 3), Call::Delete { covers: None }, written(20));
            story.tell((4, 5), Call::Delete { covers: None }, written(30));
            story.read((7_000_000, 7_000_001), value, version);
            let check = |operations: &[&Operation], levels: Levels, findings: &mut Findings| {
                check(operations, Levels { forgets: true, ..levels }, findings);
            };
            story.judge(check).0
        };
        assert_eq!(seen_by(0, 20), []);
        assert!(seen_by(1, 10).contains(&Property::ReadsSeeWrites));
    }

    #[test]
    fn an_owner_that_went_back_to_an_old_disk_unnoticed_is_one_fewer_to_meet() {
        let judged = |old_copies: u8, r: u8| {
            let mut story = Story::default();
            story.put((0, 1), 1, 10);
            story.put((2, 3), 2, 20);
            let read = story.read((4, 5), 1, 10);
            (read.old_copies, read.r) = (old_copies, r);
            story.judge(check)
        };
        let stale = Property::ReadsSeeWrites;
        assert_eq!(judged(0, 2), (vec![stale; 2], vec![]));
        assert_eq!(judged(1, 2), (vec![], vec![stale]));
        assert_eq!(judged(1, 3), (vec![stale; 2], vec![]), "all copies meet the one that is left");
    }

    #[test]
    fn levels_that_do_not_meet_promise_nothing_and_are_counted() {
        let mut story = Story::default();
        story.put((0, 1), 1, 10).w = 1;
        story.put((2, 3), 2, 20).w = 1;
        story.read((4, 5), 1, 10).r = 2;
        assert_eq!(story.judge(check), (vec![], vec![Property::ReadsSeeWrites]));
        story.read((6, 7), 1, 10).r = 3;
        assert_eq!(
            story.judge(check).0,
            [Property::ReadsSeeWrites],
            "a read of all copies meets any write"
        );
    }
}
