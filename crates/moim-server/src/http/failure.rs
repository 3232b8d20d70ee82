//! From a node's [`Failure`] to a problem: the one table that HTTP follows.

use moim_core::NodeId;
use moim_node::api::{Failure, Intent, NotReady, Queue, Why};

use super::document::Missing;
use super::problem::{Kind, Refusal};

/// How long a client should wait before it tries again after an overload or an unavailable quorum, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// The problem that a failure is. `intent` is what the client wanted; `address` knows where members are.
pub(super) fn problem(
    failure: &Failure,
    intent: Intent,
    address: impl Fn(NodeId) -> Option<String>,
) -> Refusal {
    match failure {
        Failure::Unavailable { .. } => unavailable(failure, intent, address),
        Failure::Timeout { node, waited_ms } => timeout(*node, *waited_ms, intent, &address),
        Failure::Overloaded { queue, limit } => overloaded(*queue, *limit, intent),
        Failure::TooLarge { pair_bytes, limit_bytes } => too_large(*pair_bytes, *limit_bytes),
        Failure::Conflict { siblings } => conflict(*siblings),
        Failure::NotReady(waiting) => not_ready(*waiting, intent),
        Failure::Stopped(reason) => {
            refused(Kind::NotReady, intent, format!("the disk of this node failed, it serves nothing: {reason}"))
        }
        Failure::DiskFull { node, limit_percent } => disk_full(*node, *limit_percent, &address),
        Failure::NoSuchNamespace => Kind::NoSuchNamespace.because(
            "the namespace is not defined on the node that was asked: it must be configured on every node",
        ),
        Failure::BadContext => Kind::BadContext.because(
            "the context belongs to a namespace that resolves conflicts in another way: read the key again",
        ),
        Failure::Update(error) => Kind::BadRequest.because(error.to_string()),
    }
}

/// What a node waits for, in words.
pub(super) fn waiting(failure: &Failure) -> String {
    match failure {
        Failure::NotReady(NotReady::Founding { met, expected }) => {
            format!(
                "{met} of {expected} founding members have met: start the others, or check --found on each"
            )
        }
        Failure::NotReady(NotReady::Filling { filled, partitions }) => {
            format!(
                "this node lost its data and is filled by the others: {filled} of {partitions} partitions"
            )
        }
        Failure::NotReady(NotReady::Recalling { awaited }) => {
            format!(
                "the node has just started, and {awaited} others are to say whether its disk is an old one"
            )
        }
        Failure::NotReady(NotReady::Stopping) => "the node is stopping".to_owned(),
        Failure::Stopped(reason) => format!("the disk of this node failed: {reason}"),
        other => format!("{other:?}"),
    }
}

fn unavailable(
    failure: &Failure,
    asked: Intent,
    address: impl Fn(NodeId) -> Option<String>,
) -> Refusal {
    let Failure::Unavailable { intent, level, needed, got, missing } = failure else {
        return Kind::Internal.because("an unavailable quorum was expected");
    };
    let missing =
        missing.iter().map(|(node, why)| absent(*node, why, &address)).collect::<Vec<_>>();
    let verb = if *intent == Intent::Read { "read" } else { "write" };
    let kind = if failure.is_for_want_of_room() { Kind::DiskFull } else { Kind::Unavailable };
    let mut problem = kind.because(format!(
        "{verb} level {level} needs {needed} replicas, {got} answered{}{}",
        list(&missing),
        aftermath(*intent),
    ));
    problem.level = Some(level.to_string());
    problem.needed = Some(*needed);
    problem.got = Some(*got);
    problem.missing = missing;
    problem.retry_after_s = Some(RETRY_AFTER_S);
    problem.maybe_applied = (asked == Intent::Write).then_some(*intent == Intent::Write);
    problem
}

fn absent(node: NodeId, why: &Why, address: impl Fn(NodeId) -> Option<String>) -> Missing {
    Missing { node: node.to_string(), address: address(node), why: why.to_string() }
}

fn list(missing: &[Missing]) -> String {
    let words = missing.iter().map(|replica| {
        let place = replica.address.as_deref().map_or(String::new(), |at| format!(" at {at}"));
        format!("; node {}{place}: {}", replica.node, replica.why)
    });
    words.collect()
}

fn aftermath(intent: Intent) -> &'static str {
    match intent {
        Intent::Read => "",
        Intent::Write => ". The write is not acknowledged, but replicas that took it may keep it",
    }
}

fn timeout(
    node: NodeId,
    waited_ms: u32,
    intent: Intent,
    address: impl Fn(NodeId) -> Option<String>,
) -> Refusal {
    let place = address(node).map_or(String::new(), |at| format!(" at {at}"));
    let mut problem = Kind::Timeout.because(format!(
        "node {node}{place}, which serialises this key, gave no answer in {waited_ms} ms{}",
        match intent {
            Intent::Read => "",
            Intent::Write => ". It may have applied the write: read the key before you repeat it",
        },
    ));
    problem.maybe_applied = (intent == Intent::Write).then_some(true);
    problem
}

fn overloaded(queue: Queue, limit: u64, intent: Intent) -> Refusal {
    let kind = match queue {
        // One key is asked too much; all others are served as ever.
        Queue::UpdatesPerKey | Queue::ClockPairs => Kind::TooManyRequests,
        Queue::HintStore
        | Queue::Operations
        | Queue::UnsyncedBytes
        | Queue::TurnDelay
        | Queue::SyncDelay => Kind::Overloaded,
    };
    let mut problem =
        refused(kind, intent, format!("the limit of {limit} {queue} is reached: try again later"));
    problem.retry_after_s = Some(RETRY_AFTER_S);
    problem
}

fn disk_full(
    node: NodeId,
    limit_percent: u8,
    address: impl Fn(NodeId) -> Option<String>,
) -> Refusal {
    let place = address(node).map_or(String::new(), |at| format!(" at {at}"));
    let detail = if limit_percent >= 100 {
        format!(
            "the disk of node {node}{place} is full: free or add space there, it goes on by itself"
        )
    } else {
        format!(
            "more than {limit_percent} % of the disk of node {node}{place} is in use: free or add space there, or raise \
             node.disk_used_percent_max; deleting goes on"
        )
    };
    let mut problem = refused(Kind::DiskFull, Intent::Write, detail);
    problem.retry_after_s = Some(RETRY_AFTER_S);
    problem
}

/// Key and value exceed a namespace's limit.
pub(super) fn too_large(pair_bytes: u64, limit_bytes: u64) -> Refusal {
    let mut problem = Kind::TooLarge.because(format!(
        "key and value have {pair_bytes} bytes or more, the namespace's limit max_pair_bytes is {limit_bytes}: \
         raise it in the configuration of every node, or store less"
    ));
    problem.limit_bytes = Some(limit_bytes);
    problem.maybe_applied = Some(false);
    problem
}

fn conflict(siblings: u32) -> Refusal {
    let mut problem = Kind::Conflict.because(format!(
        "the key has {siblings} siblings: read them, merge them, and write with the context of that read"
    ));
    problem.siblings = Some(siblings);
    problem.maybe_applied = Some(false);
    problem
}

fn not_ready(waits_for: NotReady, intent: Intent) -> Refusal {
    let mut problem = refused(Kind::NotReady, intent, waiting(&Failure::NotReady(waits_for)));
    problem.retry_after_s = Some(RETRY_AFTER_S);
    problem
}

/// A problem of a request that was turned away before anything was done.
fn refused(kind: Kind, intent: Intent, detail: String) -> Refusal {
    let mut problem = kind.because(detail);
    problem.maybe_applied = (intent == Intent::Write).then_some(false);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::quorum::Level;

    fn of(failure: &Failure, intent: Intent) -> Refusal {
        problem(failure, intent, |node| (node.0 == 2).then(|| "10.0.0.2:8379".to_owned()))
    }

    #[test]
    fn an_unacknowledged_write_says_that_it_may_have_been_applied() {
        let failure = Failure::Unavailable {
            intent: Intent::Write,
            level: Level::Quorum,
            needed: 2,
            got: 1,
            missing: vec![(NodeId(2), Why::Unreachable), (NodeId(3), Why::NoAnswer(1_000))],
        };
        let problem = of(&failure, Intent::Write);
        assert_eq!((problem.status, problem.needed, problem.got), (503, Some(2), Some(1)));
        assert_eq!((problem.maybe_applied, problem.retry_after_s), (Some(true), Some(1)));
        assert_eq!(problem.missing[0].address.as_deref(), Some("10.0.0.2:8379"));
        assert_eq!(
            problem.detail,
            "write level QUORUM needs 2 replicas, 1 answered; node 0000000000000002 at 10.0.0.2:8379: unreachable; \
             node 0000000000000003: no answer in 1000 ms. The write is not acknowledged, but replicas that took it \
             may keep it"
        );
    }

    #[test]
    fn a_quorum_missed_for_want_of_room_says_so() {
        let missed = |missing: Vec<(NodeId, Why)>| Failure::Unavailable {
            intent: Intent::Write,
            level: Level::Quorum,
            needed: 2,
            got: 0,
            missing,
        };
        let (full, away) = (Why::DiskFull, Why::Unreachable);
        let both = missed(vec![(NodeId(2), full.clone()), (NodeId(3), full.clone())]);
        assert_eq!(of(&both, Intent::Write).status, 507);
        let one = missed(vec![(NodeId(2), full), (NodeId(3), away)]);
        assert_eq!(of(&one, Intent::Write).status, 503, "room alone would not have helped");
    }

    #[test]
    fn a_write_whose_read_failed_was_not_applied() {
        let failure = Failure::Unavailable {
            intent: Intent::Read,
            level: Level::ONE,
            needed: 1,
            got: 0,
            missing: Vec::new(),
        };
        assert_eq!(of(&failure, Intent::Write).maybe_applied, Some(false));
        assert_eq!(of(&failure, Intent::Read).maybe_applied, None);
    }

    #[test]
    fn each_failure_has_its_status() {
        let founding = NotReady::Founding { met: 1, expected: 3 };
        for (failure, status) in [
            (Failure::Timeout { node: NodeId(1), waited_ms: 5 }, 504),
            (Failure::Overloaded { queue: Queue::Operations, limit: 1 }, 503),
            (Failure::Overloaded { queue: Queue::UnsyncedBytes, limit: 1 }, 503),
            (Failure::Overloaded { queue: Queue::UpdatesPerKey, limit: 1 }, 429),
            (Failure::TooLarge { pair_bytes: 2, limit_bytes: 1 }, 413),
            (Failure::Conflict { siblings: 64 }, 409),
            (Failure::NotReady(founding), 503),
            (Failure::Stopped("no space".to_owned()), 503),
            (Failure::DiskFull { node: NodeId(2), limit_percent: 90 }, 507),
            (Failure::NoSuchNamespace, 404),
            (Failure::BadContext, 400),
            (Failure::Update(moim_node::update::UpdateError::Overflow), 400),
        ] {
            assert_eq!(of(&failure, Intent::Write).status, status, "{failure:?}");
        }
    }
}
