//! Why a request was not done, in the words of the Redis protocol. The first word of each is a promise
//! (`docs/interfaces.md`); the rest is for the person who reads the log.

use moim_core::{NamespaceId, NodeId};
use moim_node::api::{Failure, Intent, NotReady};
use moim_node::namespace::PAIR_BYTES_MAX;

use super::encode::Reply;
use super::store::Store;

/// Suggested limits are multiples of this many bytes.
const PAIR_STEP_BYTES: u64 = 1_024;

/// The error reply of a request in `namespace`.
pub(crate) fn reply(failure: &Failure, namespace: NamespaceId, store: &Store) -> Reply {
    Reply::error(match failure {
        Failure::Unavailable { .. } => unavailable(failure, store),
        Failure::Timeout { node, waited_ms } => format!(
            "TIMEOUT {} did not answer in {waited_ms} ms; it may or may not have been done",
            name(*node, store)
        ),
        Failure::Overloaded { queue, limit } => {
            format!(
                "OVERLOADED the limit of {limit} {queue} is reached; it was not done, try again later"
            )
        }
        Failure::TooLarge { pair_bytes, limit_bytes } => {
            too_large(*pair_bytes, *limit_bytes, &namespace_name(namespace, store))
        }
        Failure::Conflict { siblings } => format!("CONFLICT {siblings} siblings; use MOIM.GET"),
        Failure::NotReady(NotReady::Founding { met, expected }) => {
            format!(
                "NOTREADY {met} of {expected} founding members have met; waiting for the others"
            )
        }
        Failure::NotReady(NotReady::Filling { filled, partitions }) => {
            format!(
                "NOTREADY this node lost its data and is filled by the others: {filled} of {partitions} partitions"
            )
        }
        Failure::NotReady(NotReady::Recalling { .. }) => {
            "NOTREADY this node has just started".to_owned()
        }
        Failure::NotReady(NotReady::Stopping) => "NOTREADY this node is stopping".to_owned(),
        Failure::Stopped(why) => {
            format!("NOTREADY this node's disk failed and it has stopped serving: {why}")
        }
        Failure::DiskFull { node, limit_percent } => disk_full(*node, *limit_percent, store),
        Failure::NoSuchNamespace => {
            format!("ERR no such namespace '{}'", namespace_name(namespace, store))
        }
        Failure::BadContext => "ERR the context belongs to another kind of namespace".to_owned(),
        Failure::Update(error) => format!("ERR {error}"),
    })
}

fn unavailable(failure: &Failure, store: &Store) -> String {
    let Failure::Unavailable { intent, level, needed, got, missing } = failure else {
        return String::new();
    };
    let (verb, consequence) = match intent {
        Intent::Read => ("read", "nothing was changed"),
        Intent::Write => ("write", "not acknowledged; it may still have been written"),
    };
    let missing: Vec<String> =
        missing.iter().map(|(node, why)| format!("{} {why}", name(*node, store))).collect();
    let missing =
        if missing.is_empty() { "no other replica".to_owned() } else { missing.join(", ") };
    let word = if failure.is_for_want_of_room() { "OOM" } else { "UNAVAILABLE" };
    format!("{word} {verb} at {level} needs {needed} replicas, got {got}: {missing}; {consequence}")
}

fn disk_full(node: NodeId, limit_percent: u8, store: &Store) -> String {
    let node = name(node, store);
    if limit_percent >= 100 {
        return format!(
            "OOM the disk of {node} is full; nothing was written. Free or add space there: it goes on by itself"
        );
    }
    format!(
        "OOM more than {limit_percent} % of the disk of {node} is in use; nothing was written. Free or add space there, \
         or raise node.disk_used_percent_max; deleting goes on"
    )
}

fn too_large(pair_bytes: u64, limit_bytes: u64, namespace: &str) -> String {
    let size =
        format!("TOOLARGE key and value take {pair_bytes} bytes, the limit is {limit_bytes}");
    if pair_bytes > PAIR_BYTES_MAX {
        return format!("{size} and cannot be raised above {PAIR_BYTES_MAX}");
    }
    let enough = pair_bytes.next_multiple_of(PAIR_STEP_BYTES).min(PAIR_BYTES_MAX);
    format!("{size}; to raise it: moim namespace set {namespace} max_pair_bytes={enough}")
}

/// A node by the address that people know, if the record has it.
fn name(node: NodeId, store: &Store) -> String {
    store.record(|record| match record.and_then(|record| record.member(node)) {
        Some(info) => format!("{node} ({})", info.peer_address),
        None => node.to_string(),
    })
}

/// A namespace by name; by number if there is none.
pub(crate) fn namespace_name(id: NamespaceId, store: &Store) -> String {
    store.namespaces(|namespaces| {
        namespaces.get(id).map_or_else(|| id.0.to_string(), |namespace| namespace.name.clone())
    })
}
