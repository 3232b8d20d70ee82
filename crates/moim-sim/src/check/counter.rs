//! Counters: what they come to.
//!
//! Promises: while nothing fails additions are atomic: no two come to the same sum, a read is at least what was
//! acknowledged before it, and never more than clients tried to add so far. What a failure can do to additions in an
//! available namespace is documented, not promised: two owners may serialise a key for a moment, and an addition that
//! the other one overtakes is done again, although the other may have built on it.

use super::{Findings, Property};
use crate::history::{Answer, Call, Operation};

/// Judges one key.
pub fn check(operations: &[&Operation], calm: bool, findings: &mut Findings) {
    let mut wrong = |promised: bool, what: String, shown: &[&Operation]| {
        findings.add(promised, Property::SumsAreRight, what, shown);
    };
    for &later in operations {
        let Some(sum) = sum(later) else { continue };
        let attempted = |other: &&&Operation| !other.is_void() && !later.before(other);
        let most: i64 = operations.iter().filter(attempted).map(|other| delta(other)).sum();
        if sum > most {
            wrong(calm, format!("{sum} is more than the {most} that were ever added"), &[later]);
        }
        let acknowledged =
            |other: &&&Operation| other.is_acknowledged_write() && other.before(later);
        let least: i64 = operations.iter().filter(acknowledged).map(|other| delta(other)).sum();
        if sum < least + delta(later) {
            wrong(calm, format!("{sum} is less than the {least} acknowledged before"), &[later]);
        }
        let same = |other: &&&Operation| other.id < later.id && self::sum(other) == Some(sum);
        let twin = operations
            .iter()
            .filter(|_| later.call != Call::Read)
            .filter(|other| other.call != Call::Read);
        if let Some(twin) = { twin }.find(same) {
            wrong(calm, format!("two additions came to {sum}"), &[twin, later]);
        }
    }
}

/// What a request saw or made the counter.
fn sum(operation: &Operation) -> Option<i64> {
    match &operation.answer {
        Answer::Sum(sum) => Some(*sum),
        Answer::Read { seen, .. } => match seen.first() {
            Some(seen) => std::str::from_utf8(&seen.bytes).ok()?.parse().ok(),
            None => Some(0),
        },
        _ => None,
    }
}

fn delta(operation: &Operation) -> i64 {
    match operation.call {
        Call::Add(delta) => delta,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{Story, unknown};

    fn judge(calm: bool, tell: impl FnOnce(&mut Story)) -> usize {
        let mut story = Story::default();
        tell(&mut story);
        story.judge(|operations, _, findings| check(operations, calm, findings)).0.len()
    }

    #[test]
    fn sums_add_up_while_nothing_fails() {
        let second = |sum| {
            move |story: &mut Story| {
                story.tell((0, 1), Call::Add(2), Answer::Sum(2));
                story.tell((2, 3), Call::Add(3), Answer::Sum(sum));
            }
        };
        assert_eq!(judge(true, second(5)), 0);
        assert_eq!(judge(true, second(3)), 1, "the first was lost");
        assert_eq!(judge(false, second(3)), 0, "a failure may do that");
        assert_eq!(judge(true, second(8)), 1, "nobody added that much");
        assert_eq!(judge(true, second(2)), 2, "lost, and two came to the same");
    }

    #[test]
    fn an_addition_without_an_outcome_counts_towards_the_most_only() {
        let then = |sum| {
            move |story: &mut Story| {
                story.tell((0, 1), Call::Add(2), unknown());
                story.tell((2, 3), Call::Add(3), Answer::Sum(sum));
            }
        };
        assert_eq!((judge(true, then(3)), judge(true, then(5)), judge(true, then(6))), (0, 0, 1));
    }
}
