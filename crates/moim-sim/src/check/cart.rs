//! Keys with siblings: none lost, none false.
//!
//! The checker has its own idea of causality, from what clients did and not from what nodes say: a write or delete knows
//! of the values that its client had seen when it took the context, and of no others. Promises, for requests whose
//! levels meet ([`Levels`](super::Levels)):
//!
//! - an acknowledged value is read until a write or delete that knew of it may have taken effect (INV-4, and INV-3: a dot
//!   issued twice makes `join` swallow a value);
//! - a value that an acknowledged write or delete knew of is not read any more, and none is read twice: each would be a
//!   sibling that nobody made;
//! - what a read or an acknowledged write knows, by its context, a later read knows as well, but for pairs that may have
//!   been pruned by then (`are_old`).
//!
//! A value with a deadline is hidden by a node whose clock is ahead, so a context may stand for it without its having
//! been seen: any context may. A delete without a context knows of what a read would see: certainly of what was acknowledged before it began, perhaps
//! of anything that began before it ended.

use super::deadline::{is_past, may_be_past};
use super::register::writer;
use super::{Conditions, FORGOTTEN_AFTER_US, Findings, Property};
use crate::history::{Answer, Call, Operation, Seen, Value};
use moim_core::clock::{Actor, VersionVector};

/// Judges one key.
pub fn check(operations: &[&Operation], conditions: Conditions, findings: &mut Findings) {
    for &read in operations {
        if let Answer::Read { seen, .. } = &read.answer {
            check_values(operations, read, seen, findings);
            check_kept(operations, read, seen, (conditions, findings));
            check_false(operations, read, seen, (conditions, findings));
            check_context(operations, read, conditions, findings);
        }
    }
}

fn check_values(
    operations: &[&Operation],
    read: &Operation,
    seen: &[Seen],
    findings: &mut Findings,
) {
    for (at, one) in seen.iter().enumerate() {
        let write = one.value.and_then(|value| writer(operations, value));
        let (property, what) = match write {
            None => (Property::OnlyWrittenValues, format!("nobody wrote {:?}", one.bytes)),
            Some(write) if write.is_void() => {
                (Property::OnlyWrittenValues, format!("the write of {:?} was refused", one.bytes))
            }
            Some(write) if is_past(write, read) => {
                (Property::ExpiredIsGone, format!("{:?} was served after its deadline", one.bytes))
            }
            Some(write) if one.expires_ms != write.expires_ms() => (
                Property::OnlyWrittenValues,
                format!("{:?} has another deadline than it was given", one.bytes),
            ),
            Some(_) if seen[..at].iter().any(|other| other.value == one.value) => {
                (Property::NoFalseSiblings, format!("{:?} was read twice", one.bytes))
            }
            Some(_) => continue,
        };
        let shown: Vec<_> = write.into_iter().chain([read]).collect();
        findings.add(true, property, what, &shown);
    }
}

/// Every acknowledged value is there, or something may have known of it.
fn check_kept(
    operations: &[&Operation],
    read: &Operation,
    seen: &[Seen],
    (conditions, findings): (Conditions, &mut Findings),
) {
    let missing = operations.iter().copied().filter(|write| {
        let unseen =
            write.written().is_some_and(|value| seen.iter().all(|seen| seen.value != Some(value)));
        unseen && write.is_acknowledged_write() && write.before(read) && !may_be_past(write, read)
    });
    let lost = missing.filter(|write| {
        !operations
            .iter()
            .any(|other| !other.is_void() && !read.before(other) && may_know(other, write))
    });
    let promised = |write: &&Operation| conditions.levels.reads(read, write);
    if let Some(write) = lost.max_by_key(|write| (promised(write), write.start)) {
        let what =
            "an acknowledged sibling is missing, and nobody who wrote since knew of it".to_owned();
        findings.add(promised(&write), Property::SiblingsAreKept, what, &[write, read]);
    }
}

/// No value is there that an acknowledged write or delete knew of.
fn check_false(
    operations: &[&Operation],
    read: &Operation,
    seen: &[Seen],
    (conditions, findings): (Conditions, &mut Findings),
) {
    for value in seen.iter().filter_map(|seen| seen.value) {
        let Some(write) = writer(operations, value) else { continue };
        let replaced = operations.iter().copied().filter(|other| {
            other.is_acknowledged_write() && other.before(read) && knows(other, write, conditions)
        });
        let promised = |other: &&Operation| conditions.levels.reads(read, other);
        if let Some(other) = replaced.max_by_key(|other| (promised(other), other.start)) {
            let what = format!(
                "{value} was read although a write or delete that knew of it was acknowledged"
            );
            findings.add(promised(&other), Property::NoFalseSiblings, what, &[write, other, read]);
        }
    }
}

/// Whether `other` may have removed what `write` wrote.
fn may_know(other: &Operation, write: &Operation) -> bool {
    match (&other.call, write.written()) {
        (Call::Delete { covers: None }, _) => !other.before(write),
        (Call::Put { covers: Some(_), .. } | Call::Delete { .. }, _) if write.expires_ms() != 0 => {
            !other.before(write)
        }
        (_, Some(value)) => covers(other, value),
        (_, None) => false,
    }
}

/// Whether `other` has certainly removed what `write` wrote.
fn knows(other: &Operation, write: &Operation, conditions: Conditions) -> bool {
    match (&other.call, write.written()) {
        (Call::Delete { covers: None }, _) => {
            let saw = write.is_acknowledged_write() && write.before(other);
            // Its own read may have found a value expired that a clock further behind still serves.
            saw && conditions.levels.reads(other, write) && write.expires_ms() == 0
        }
        (_, Some(value)) => covers(other, value),
        (_, None) => false,
    }
}

fn covers(other: &Operation, value: Value) -> bool {
    match &other.call {
        Call::Put { covers: Some(covers), .. } | Call::Delete { covers: Some(covers) } => {
            covers.contains(&value)
        }
        _ => false,
    }
}

/// A read knows what earlier reads and acknowledged writes knew.
fn check_context(
    operations: &[&Operation],
    read: &Operation,
    conditions: Conditions,
    findings: &mut Findings,
) {
    let Answer::Read { context: later, .. } = &read.answer else { return };
    let levels = conditions.levels;
    for &earlier in operations.iter().filter(|earlier| earlier.before(read)) {
        let (property, promised, context) = match &earlier.answer {
            Answer::Written { context, .. } => {
                (Property::ReadsSeeWrites, levels.reads(read, earlier), context)
            }
            Answer::Read { context, .. } => {
                (Property::ReadsNeverGoBack, levels.rereads(read, earlier), context)
            }
            _ => continue,
        };
        if later.descends(context) {
            continue;
        }
        let is_old = are_old(operations.iter().copied(), read.start.at_us);
        let mut known = without_pruned(context, later, conditions.clock_pairs_max, &is_old);
        let showed_nothing =
            matches!(&earlier.answer, Answer::Read { seen, .. } if seen.is_empty());
        let all_old = || context.entries().iter().all(|&(actor, counter)| is_old(actor, counter));
        if levels.may_forget(read, earlier) || (levels.forgets && showed_nothing && all_old()) {
            // What is deleted is forgotten with its clock.
            known.retain(|actor| later.get(actor) > 0);
        }
        if !later.descends(&known) {
            let what = "a read knows less than a request before it".to_owned();
            return findings.add(promised, property, what, &[earlier, read]);
        }
    }
}

/// What of `known` must be in the clock `held`: all but pairs that may have been pruned from it.
pub(crate) fn without_pruned(
    known: &VersionVector,
    held: &VersionVector,
    clock_pairs_max: usize,
    is_old: &impl Fn(Actor, u64) -> bool,
) -> VersionVector {
    let mut needed = known.clone();
    if held.len() >= clock_pairs_max {
        needed.retain(|actor| held.get(actor) > 0 || !is_old(actor, known.get(actor)));
    }
    needed
}

/// Whether a pair is so old that everybody may have passed it, and a clock above its bound loses it (REQ-17). Pairs are
/// judged by their own age and not by that of the last request that named them: whoever reads a clock is told all of
/// it, also a moment before it is pruned. A pair is at least as old as the first request that told of it. If what it
/// says was changed later, when a version of it was overwritten, it may not go yet; this check lets it, and leaves it
/// to the values: a pair that went too soon lets what it covered come back.
pub(crate) fn are_old<'a>(
    operations: impl Iterator<Item = &'a Operation> + Clone,
    now_us: u64,
) -> impl Fn(Actor, u64) -> bool {
    move |actor, counter| {
        operations.clone().any(|operation| {
            let (Answer::Read { context, .. } | Answer::Written { context, .. }) =
                &operation.answer
            else {
                return false;
            };
            let told_us = operation.end.map(|end| end.at_us);
            told_us.is_some_and(|at_us| at_us + FORGOTTEN_AFTER_US <= now_us)
                && context.get(actor) >= counter
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Levels;
    use crate::check::tests::{Story, put, read, unknown, values, written};
    use moim_core::NodeId;
    use moim_core::clock::{Actor, Dot, Epoch, Hlc, VersionVector};

    const STRICT: Conditions =
        Conditions { levels: Levels::strict(3, 2, 2), calm: false, clock_pairs_max: 2 };

    fn judge(tell: impl FnOnce(&mut Story)) -> Vec<Property> {
        let mut story = Story::default();
        tell(&mut story);
        story.judge(|operations, _, findings| check(operations, STRICT, findings)).0
    }

    fn sees(story: &mut Story, times: (u64, u64), seen: &[u64]) {
        story.tell(times, Call::Read, read(seen, 0));
    }

    #[test]
    fn concurrent_values_are_siblings_until_somebody_who_saw_them_writes() {
        let broken = judge(|story| {
            story.tell((0, 1), put(1, &[]), written(0));
            story.tell((2, 3), put(2, &[]), written(0));
            sees(story, (4, 5), &[1, 2]);
            story.tell((6, 7), put(3, &[1, 2]), written(0));
            sees(story, (8, 9), &[3]);
        });
        assert_eq!(broken, []);
    }

    #[test]
    fn a_lost_sibling_is_seen() {
        let broken = judge(|story| {
            story.tell((0, 1), put(1, &[]), written(0));
            story.tell((2, 3), put(2, &[]), written(0));
            sees(story, (4, 5), &[2]);
        });
        assert_eq!(broken, [Property::SiblingsAreKept]);
    }

    #[test]
    fn a_write_without_an_outcome_may_have_replaced_what_it_knew_of() {
        let seen = |seen: &'static [u64]| {
            judge(|story| {
                story.tell((0, 1), put(1, &[]), written(0));
                story.tell((2, 3), put(2, &[1]), unknown());
                sees(story, (4, 5), seen);
            })
        };
        assert_eq!(seen(&[2]), []);
        assert_eq!(seen(&[1]), []);
        assert_eq!(seen(&[]), []);
        let refused = judge(|story| {
            story.tell((0, 1), put(1, &[]), written(0));
            story.tell((2, 3), put(2, &[1]), Answer::Refused("overloaded".to_owned()));
            sees(story, (4, 5), &[]);
        });
        assert_eq!(refused, [Property::SiblingsAreKept]);
    }

    #[test]
    fn a_replaced_value_that_comes_back_is_a_false_sibling() {
        let broken = judge(|story| {
            story.tell((0, 1), put(1, &[]), written(0));
            story.tell((2, 3), put(2, &[1]), written(0));
            sees(story, (4, 5), &[1, 2]);
        });
        assert_eq!(broken, [Property::NoFalseSiblings]);
        let twice = judge(|story| {
            story.tell((0, 1), put(1, &[]), written(0));
            sees(story, (4, 5), &[1, 1]);
        });
        assert_eq!(twice, [Property::NoFalseSiblings]);
    }

    #[test]
    fn a_delete_removes_what_it_knew_of_and_nothing_else() {
        let seen = |covers: Option<&[u64]>, seen: &'static [u64]| {
            judge(|story| {
                story.tell((0, 1), put(1, &[]), written(0));
                story.tell((0, 1), put(2, &[]), written(0));
                story.tell((2, 3), Call::Delete { covers: covers.map(values) }, written(0));
                sees(story, (4, 5), seen);
            })
        };
        assert_eq!(seen(Some(&[1]), &[2]), []);
        assert_eq!(seen(Some(&[1]), &[]), [Property::SiblingsAreKept]);
        assert_eq!(seen(Some(&[1]), &[1, 2]), [Property::NoFalseSiblings]);
        assert_eq!(seen(None, &[]), []);
        assert_eq!(seen(None, &[2]), [Property::NoFalseSiblings]);
    }

    #[test]
    fn a_context_never_shrinks() {
        let dot = |counter| {
            let actor = Actor { node: NodeId(1), epoch: Epoch { run: 1, serial: 0 } };
            [Dot { actor, counter }].into_iter().collect::<VersionVector>()
        };
        let broken = judge(|story| {
            let newer = Answer::Written { version: Hlc::ZERO, context: dot(2) };
            story.tell((0, 1), Call::Delete { covers: Some(values(&[])) }, newer);
            let older = Answer::Read { seen: vec![], version: Hlc::ZERO, context: dot(1) };
            story.tell((2, 3), Call::Read, older);
        });
        assert_eq!(broken, [Property::ReadsSeeWrites]);
    }

    #[test]
    fn a_clock_loses_old_pairs_above_its_bound_and_no_others() {
        let vector = |actors: &[u64]| {
            let dot = |&node: &u64| {
                let actor = Actor { node: NodeId(node), epoch: Epoch { run: 1, serial: 0 } };
                Dot { actor, counter: 1 }
            };
            actors.iter().map(dot).collect::<VersionVector>()
        };
        let reads = |at_us: u64, then: &[u64]| {
            judge(|story| {
                for (start, known) in [(0, &[1, 2][..]), (at_us - 10, &[1, 2, 3])] {
                    let context = vector(known);
                    let answer = Answer::Read { seen: vec![], version: Hlc::ZERO, context };
                    story.tell((start, start + 1), Call::Read, answer);
                }
                let context = vector(then);
                let answer = Answer::Read { seen: vec![], version: Hlc::ZERO, context };
                story.tell((at_us, at_us + 1), Call::Read, answer);
            })
        };
        let later_us = 2 * FORGOTTEN_AFTER_US;
        assert_eq!(reads(later_us, &[2, 3]), [], "named a moment ago, but old");
        assert_eq!(reads(later_us, &[1, 2]), [Property::ReadsNeverGoBack], "young");
        assert_eq!(reads(later_us, &[3]), [Property::ReadsNeverGoBack], "not above the bound");
        assert_eq!(reads(100, &[2, 3]), [Property::ReadsNeverGoBack]);
    }
}
