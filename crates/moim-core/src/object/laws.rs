//! The laws of `join`, over random histories of several coordinators, and the textbook's own.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::clock::{Actor, Causality, Dot, Epoch, VersionVector};

const REPLICAS: usize = 3;

pub(super) fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), epoch: Epoch { run: node * 100, serial: 0 } }
}

pub(super) fn dot(node: u64, counter: u64) -> Dot {
    Dot { actor: actor(node), counter }
}

pub(super) fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(super) fn joined(a: &Object, b: &Object) -> Object {
    match a.join(b).expect("one kind") {
        Joined::Unchanged => a.clone(),
        Joined::Incoming => b.clone(),
        Joined::Merged(both) => both,
    }
}

/// One step of a history over three replicas.
#[derive(Clone, Debug)]
enum Step {
    /// A client that had read replica `seen_at` (or nothing) writes through replica `at`.
    Put {
        at: usize,
        seen_at: Option<usize>,
        expires: bool,
    },
    Delete {
        at: usize,
        seen_at: usize,
    },
    /// Whoever wrote or deleted last through `wrote_at` writes again through `at`, with the context it was given back.
    PutAgain {
        at: usize,
        wrote_at: usize,
    },
    Sync {
        from: usize,
        to: usize,
    },
    Reclaim {
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..REPLICAS;
    let step = prop_oneof![
        4 => (replica.clone(), prop::option::of(replica.clone()), any::<bool>())
            .prop_map(|(at, seen_at, expires)| Step::Put { at, seen_at, expires }),
        1 => (replica.clone(), replica.clone()).prop_map(|(at, seen_at)| Step::Delete { at, seen_at }),
        2 => (replica.clone(), replica.clone()).prop_map(|(at, wrote_at)| Step::PutAgain { at, wrote_at }),
        3 => (replica.clone(), replica.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => replica.prop_map(|at| Step::Reclaim { at }),
    ];
    prop::collection::vec(step, 1..40)
}

fn next_dot(at: &Siblings, node: u64, seen: &VersionVector, serial: &mut u32) -> Dot {
    at.next_dot(NodeId(node), node, seen, || {
        *serial += 1;
        Epoch { run: node, serial: *serial }
    })
}

/// Three replicas, and the context that the last writer through each was given back.
struct History {
    replicas: Vec<Siblings>,
    given_back: Vec<VersionVector>,
    /// Every write and what its writer had seen.
    causes: Vec<(Dot, VersionVector)>,
    serial: u32,
}

impl History {
    fn put(&mut self, at: usize, written: Hlc, expires_ms: u64, seen: &VersionVector) {
        let dot = next_dot(&self.replicas[at], at as u64, seen, &mut self.serial);
        let mut version = Version::of_value(written, dot, value("v"));
        version.expires_ms = expires_ms;
        self.replicas[at].put(version, seen);
        self.give_back(at, dot, seen);
    }

    fn delete(&mut self, at: usize, written: Hlc, seen: &VersionVector) {
        let dot = next_dot(&self.replicas[at], at as u64, seen, &mut self.serial);
        self.replicas[at].delete(dot, written, seen);
        self.give_back(at, dot, seen);
    }

    fn give_back(&mut self, at: usize, dot: Dot, seen: &VersionVector) {
        let mut context = seen.clone();
        context.insert(dot);
        let mut others = self.replicas[at].versions().iter().filter(|held| held.dot != dot);
        assert!(others.all(|held| !context.contains(held.dot)), "covers what was not read");
        self.given_back[at] = context;
        self.causes.push((dot, seen.clone()));
    }
}

/// Runs a history and returns every object that any replica ever held.
fn siblings_history(steps: &[Step]) -> Vec<Object> {
    let replicas = vec![Siblings::new(); REPLICAS];
    let given_back = vec![VersionVector::new(); REPLICAS];
    let mut history = History { replicas, given_back, causes: Vec::new(), serial: 0 };
    let mut held = Vec::new();
    for (time, step) in steps.iter().enumerate() {
        let written = Hlc::from_millis(time as u64 + 1);
        let seen_at = |history: &History, from: usize| history.replicas[from].context().clone();
        match *step {
            Step::Put { at, seen_at: from, expires } => {
                let seen = from.map_or_else(VersionVector::new, |from| seen_at(&history, from));
                history.put(at, written, u64::from(expires), &seen);
            }
            Step::PutAgain { at, wrote_at } => {
                let seen = history.given_back[wrote_at].clone();
                history.put(at, written, 0, &seen);
            }
            Step::Delete { at, seen_at: from } => {
                let seen = seen_at(&history, from);
                history.delete(at, written, &seen);
            }
            Step::Sync { from, to } => {
                let both = joined(
                    &Object::Siblings(history.replicas[to].clone()),
                    &Object::Siblings(history.replicas[from].clone()),
                );
                let Object::Siblings(both) = both else {
                    unreachable!("joining siblings gives siblings")
                };
                history.replicas[to] = both;
            }
            Step::Reclaim { at } => {
                history.replicas[at] =
                    history.replicas[at].without(|version| version.is_expired(10));
            }
        }
        held.extend(history.replicas.iter().cloned().map(Object::Siblings));
    }
    for context in held.iter().map(Object::context) {
        let Context::Siblings(context) = context else { unreachable!("siblings") };
        let known = history.causes.iter().filter(|(dot, _)| context.contains(*dot));
        assert!(
            known.into_iter().all(|(_, seen)| context.descends(seen)),
            "knows a write and not its cause"
        );
    }
    held
}

fn check_laws(a: &Object, b: &Object, c: &Object) -> Result<(), TestCaseError> {
    prop_assert_eq!(joined(a, a), a.clone(), "idempotent");
    prop_assert_eq!(joined(a, b), joined(b, a), "commutative");
    prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)), "associative");
    prop_assert!(joined(a, b).covers(a) && joined(a, b).covers(b), "an upper bound");
    Ok(())
}

proptest! {
    #[test]
    fn siblings_join_keeps_the_laws(steps in steps(), picks: [prop::sample::Index; 3]) {
        let held = siblings_history(&steps);
        let [a, b, c] = picks.map(|pick| pick.get(&held).clone());
        check_laws(&a, &b, &c)?;
    }

    #[test]
    fn equal_contexts_mean_equal_digests_and_only_expiry_tells_them_apart(steps in steps()) {
        let held = siblings_history(&steps);
        for a in &held {
            for b in &held {
                if a.context() == b.context() {
                    prop_assert_eq!(a.digest(), b.digest());
                    let live = |object: &Object| object.live(10).cloned().collect::<Vec<_>>();
                    prop_assert_eq!(live(a), live(b));
                }
            }
        }
    }

    #[test]
    fn join_never_loses_a_concurrent_sibling(steps in steps(), picks: [prop::sample::Index; 2]) {
        let held = siblings_history(&steps);
        let [a, b] = picks.map(|pick| pick.get(&held).clone());
        let Context::Siblings(b_context) = b.context() else { unreachable!("siblings") };
        let both = joined(&a, &b);
        for version in a.versions().iter().filter(|version| !b_context.contains(version.dot)) {
            prop_assert!(both.versions().contains(version));
        }
    }

    #[test]
    fn lww_join_keeps_the_laws(stamps: [(u8, u8, u8); 3]) {
        let [a, b, c] = stamps.map(|(time, node, kind)| {
            // Content follows from the stamp, as it does in the system: a stamp names one write.
            let mut version = Version::of_value(
                Hlc::from_millis(u64::from(time % 4)), dot(u64::from(node % 3), 1), value("v"));
            if kind % 2 == 0 { version = version.without_value(); }
            Object::Lww(version)
        });
        check_laws(&a, &b, &c)?;
    }

    #[test]
    fn encoding_round_trips(steps in steps()) {
        for object in siblings_history(&steps) {
            let decoded = Object::decode(object.encode());
            if let (Ok(Object::Siblings(decoded)), Object::Siblings(object)) = (&decoded, &object) {
                prop_assert_eq!(decoded.ages(), object.ages());
            }
            prop_assert_eq!(decoded, Ok(object));
        }
    }

    #[test]
    fn context_round_trips_and_is_bound_to_its_key(steps in steps(), tag: u32) {
        for object in siblings_history(&steps) {
            let bytes = object.context().encode(tag);
            prop_assert_eq!(Context::decode(bytes.clone(), tag), Ok(object.context()));
            prop_assert!(Context::decode(bytes, tag.wrapping_add(1)).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, kind in 0_u8..20) {
        if let [format, second, ..] = bytes.as_mut_slice() { *format = 1; *second = kind; }
        drop(Object::decode(Bytes::from(bytes.clone())));
        drop(Context::decode(Bytes::from(bytes), 7));
    }
}

/// Expiry drops a version on one replica; a longer history elsewhere still holds it. However they are joined, it stays
/// dropped (found by chance: the longer history used to win whole, and the order of joining showed).
#[test]
fn what_expiry_dropped_stays_dropped_in_any_order_of_joining() {
    let nothing = VersionVector::new();
    let put = |base: &Siblings, node, expires_ms| {
        let mut version = Version::of_value(Hlc::from_millis(node), dot(node, 1), value("v"));
        version.expires_ms = expires_ms;
        let mut after = base.clone();
        after.put(version, &nothing);
        after
    };
    let held = put(&put(&Siblings::new(), 1, 5), 2, 0);
    let dropped = Object::Siblings(held.without(|version| version.is_expired(10)));
    let longer = Object::Siblings(put(&held, 3, 0));
    let apart = Object::Siblings(put(&Siblings::new(), 4, 0));
    check_laws(&dropped, &longer, &apart).expect("the laws hold");
    check_laws(&longer, &apart, &dropped).expect("the laws hold");
    assert_eq!(joined(&dropped, &longer).versions().len(), 2, "the expired one is gone");
}

/// The textbook's history (Dynamo, section 4.4): D1 and D2 by Sx, then D3 by Sy and D4 by Sz from D2, at last D5 by Sx
/// from both.
#[test]
fn the_textbook_history() {
    const SX: u64 = 1;
    const SY: u64 = 2;
    const SZ: u64 = 3;
    let clock =
        |pairs: &[(u64, u64)]| pairs.iter().map(|&(node, counter)| dot(node, counter)).collect();
    let nothing = VersionVector::new();
    let put = |base: &Siblings, node, counter, seen: &VersionVector, text| {
        let mut after = base.clone();
        after.put(
            Version::of_value(Hlc::from_millis(counter), dot(node, counter), value(text)),
            seen,
        );
        after
    };

    let d1 = put(&Siblings::new(), SX, 1, &nothing, "D1");
    assert_eq!(*d1.context(), clock(&[(SX, 1)]));
    let d2 = put(&d1, SX, 2, d1.context(), "D2");
    assert_eq!(*d2.context(), clock(&[(SX, 2)]));
    assert_eq!(d1.context().compare(d2.context()), Causality::Ancestor);

    let d3 = put(&d2, SY, 1, d2.context(), "D3");
    assert_eq!(*d3.context(), clock(&[(SX, 2), (SY, 1)]));
    let d4 = put(&d2, SZ, 1, d2.context(), "D4");
    assert_eq!(*d4.context(), clock(&[(SX, 2), (SZ, 1)]));
    assert_eq!(d3.context().compare(d4.context()), Causality::Concurrent);

    let Object::Siblings(both) = joined(&Object::Siblings(d3), &Object::Siblings(d4)) else {
        unreachable!()
    };
    let texts: Vec<_> =
        both.versions().iter().filter_map(|version| version.value().cloned()).collect();
    assert_eq!(texts, [value("D3"), value("D4")], "both are kept and handed to the client");

    let d5 = put(&both, SX, 3, both.context(), "D5");
    assert_eq!(*d5.context(), clock(&[(SX, 3), (SY, 1), (SZ, 1)]));
    assert_eq!(d5.versions().len(), 1, "a write that carries the context resolves them");
}

/// Why clocks are not simply cut at ten pairs, oldest first (REQ-17): a replica that pruned blindly no longer knows
/// what it has seen, and takes an overwritten version back for a concurrent one.
#[test]
fn blind_pruning_makes_false_siblings() {
    const PAIRS_MAX: usize = 10;
    let mut replica = Siblings::new();
    let mut ancestor = None;
    for node in 0..=PAIRS_MAX as u64 {
        let seen = replica.context().clone();
        replica.put(Version::of_value(Hlc::from_millis(node + 1), dot(node, 1), value("v")), &seen);
        ancestor.get_or_insert_with(|| replica.clone());
    }
    let ancestor = Object::Siblings(ancestor.expect("written at least once"));
    let whole = Object::Siblings(replica.clone());
    assert_eq!(joined(&whole, &ancestor), whole, "a whole context knows the first write");

    let kept =
        replica.context().entries()[1..].iter().map(|&(actor, counter)| Dot { actor, counter });
    let pruned =
        Siblings::from_parts(kept.collect(), None, replica.versions().to_vec(), replica.written());
    let pruned = Object::Siblings(pruned.expect("the newest dot is still covered"));
    assert_eq!(joined(&pruned, &ancestor).versions().len(), 2, "the overwritten version came back");
}

/// A dot that is counted on after a lost disk names two writes alike, and `join` swallows one; a fresh epoch does not.
#[test]
fn a_lost_disk_begins_a_new_epoch() {
    let write = |at: &mut Siblings, run, text| {
        let nothing = VersionVector::new();
        let dot = at.next_dot(NodeId(1), run, &nothing, || Epoch { run, serial: 0 });
        at.put(Version::of_value(Hlc::from_millis(1), dot, value(text)), &nothing);
    };
    let mut copy = Siblings::new();
    write(&mut copy, 77, "before the disk was lost");
    for (run, survivors) in [(77, 1), (78, 2)] {
        let mut refilled = Siblings::new();
        write(&mut refilled, run, "after");
        let both = joined(&Object::Siblings(copy.clone()), &Object::Siblings(refilled));
        assert_eq!(both.versions().len(), survivors, "run {run}");
    }
}
