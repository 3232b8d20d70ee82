//! Histories that other stores have tripped over.

use std::collections::BTreeSet;

use moim_core::object::Context;

use super::{SECOND_US, founded, founded_as, put, read, wait};
use crate::history::{Answer, Call, Key, Operation, Use, Value};
use crate::profile::Profile;
use crate::workload::Intention;
use crate::world::World;
use crate::world::disk::Disk;

fn cart() -> Key {
    Key::strict(Use::Cart, "c")
}

/// What a read of the cart through `node` finds, and the context that it hands out.
fn look(world: &mut World, node: usize) -> (BTreeSet<Value>, Option<Context>) {
    let mut intention = Intention::new(cart(), node, Call::Read);
    intention.timeout_ms = Some(2_000);
    let read = world.ask_and_wait(intention);
    match read.answer {
        Answer::Read { seen, context, .. } => {
            let values = seen.iter().filter_map(|seen| seen.value).collect();
            (values, (!context.is_empty()).then_some(Context::Siblings(context)))
        }
        _ => panic!("{read}"),
    }
}

fn add(world: &mut World, node: usize, value: u64, context: Option<Context>) -> Operation {
    let call = Call::Put { value: Value(value), expires_ms: 0, covers: None };
    world.ask_and_wait(Intention { context, ..Intention::new(cart(), node, call) })
}

fn values(of: &[u64]) -> BTreeSet<Value> {
    of.iter().copied().map(Value).collect()
}

fn is_ready(world: &mut World) {
    assert!(world.run_until(60 * SECOND_US, World::is_ready), "not ready again");
}

/// A node that lost its disk, or got an old copy of it, counts again from where it does not remember. Were one of its
/// dots issued twice, the others would take the new write for one that they know, and drop it.
#[test]
fn a_causal_history_is_not_reused() {
    for seed in 1..=10 {
        for restored in [false, true] {
            let mut world = founded(seed);
            assert!(add(&mut world, 0, 1, None).is_acknowledged_write());
            wait(&mut world, SECOND_US);
            let backup = if restored { world.servers[0].disk.copy() } else { Disk::default() };
            for value in 2..=4 {
                let (_, context) = look(&mut world, 0);
                assert!(add(&mut world, 0, value, context).is_acknowledged_write());
            }
            wait(&mut world, SECOND_US);
            world.crash_now(0, true);
            world.servers[0].disk.replace(backup);
            world.start(0);
            // As soon as it takes requests, before anybody has told it what it forgot.
            let mut late = add(&mut world, 0, 5, None);
            while !late.is_acknowledged_write() {
                assert!(late.answer != Answer::None, "{late}");
                wait(&mut world, SECOND_US / 20);
                late = add(&mut world, 0, 5, None);
            }
            wait(&mut world, SECOND_US);
            for node in 0..world.servers.len() {
                let (found, _) = look(&mut world, node);
                assert_eq!(found, values(&[4, 5]), "n{node} of seed {seed}, restored: {restored}");
            }
        }
    }
}

/// A session is touched on one side of a partition and expires on the other: the touch stands, until its own deadline,
/// and then nothing of either comes back.
#[test]
fn a_touched_session_outlives_its_first_deadline_and_no_more() {
    for seed in 1..=10 {
        let mut world = founded(seed);
        let away = world.servers.len() - 1;
        put(&mut world, 0, 1, Some(1_500));
        wait(&mut world, SECOND_US / 2);
        world.cut_off(away, 2 * SECOND_US);
        wait(&mut world, SECOND_US / 10);
        put(&mut world, 0, 2, Some(5_000));
        wait(&mut world, 2 * SECOND_US);
        is_ready(&mut world);
        for node in 0..world.servers.len() {
            assert_eq!(read(&mut world, node), [Value(2)], "n{node} of seed {seed}");
        }
        wait(&mut world, 4 * SECOND_US);
        for node in 0..world.servers.len() {
            assert_eq!(read(&mut world, node), [], "n{node} of seed {seed}");
        }
    }
}

/// Writers that read, and write with what they read, through different nodes and over partitions: a key never has more
/// siblings than twice the writers, and those writes that failed at a node that was cut off, which nobody could read;
/// one write that has seen all leaves one. Plain version vectors explode here.
#[test]
fn siblings_do_not_outnumber_their_writers() {
    const WRITERS: usize = 5;
    for seed in 1..=5 {
        let mut world = founded(seed);
        let nodes = world.servers.len();
        let mut contexts: Vec<Option<Context>> = vec![None; WRITERS];
        let mut most = 0;
        let mut failed_of_one_cut = 0;
        for round in 0..40_u64 {
            if round % 10 == 3 {
                failed_of_one_cut = 0;
                let cut_off = usize::try_from(round).unwrap() % nodes;
                world.cut_off(cut_off, SECOND_US);
            }
            for (writer, context) in contexts.iter_mut().enumerate() {
                // All have read before any writes, so that all of a round are concurrent.
                let value = 100 + round * 10 + writer as u64;
                let write = add(&mut world, writer % nodes, value, context.clone());
                let is_bounded = context.is_some() || round == 0;
                assert!(is_bounded || !write.is_acknowledged_write(), "{write}");
                failed_of_one_cut += usize::from(!write.is_acknowledged_write());
            }
            for (writer, context) in contexts.iter_mut().enumerate() {
                let read = Intention::new(cart(), (writer + 1) % nodes, Call::Read);
                let read = world.ask_and_wait(read);
                if let Answer::Read { seen, context: known, .. } = read.answer {
                    let beyond = seen.len().saturating_sub(failed_of_one_cut);
                    most = most.max(beyond);
                    *context = Some(Context::Siblings(known));
                }
            }
        }
        assert!(most > 1, "writers were never concurrent");
        assert!(most <= 2 * WRITERS, "{most} siblings of {WRITERS} writers, seed {seed}");
        wait(&mut world, 2 * SECOND_US);
        is_ready(&mut world);
        let (_, context) = look(&mut world, 0);
        assert!(add(&mut world, 0, 1, context).is_acknowledged_write());
        wait(&mut world, SECOND_US);
        for node in 0..nodes {
            assert_eq!(look(&mut world, node).0, values(&[1]), "n{node} of seed {seed}");
        }
    }
}

/// Many coordinators on one key (REQ-17). To a clock every start of a node is another one, so all nodes start anew in each
/// round; then two of them write what replaces all before, and do not know of each other. Clocks stay at their bound but
/// for what is too young to go, come down to it when nobody writes, and nobody ever meets a sibling that was not written
/// in the last round.
fn coordinate(rounds: u64) {
    let mut world = founded(4);
    let nodes = world.servers.len();
    let (mut actors, mut longest) = (BTreeSet::new(), 0);
    let mut context = None;
    for round in 0..rounds {
        for node in 0..nodes {
            world.crash_now(node, false);
            world.start(node);
            is_ready(&mut world);
            let write = add(&mut world, node, 10 * round, context);
            assert!(write.is_acknowledged_write(), "{write}");
            context = look(&mut world, node).1;
        }
        let written = [10 * round + 1, 10 * round + 2];
        for (node, value) in written.into_iter().enumerate() {
            let write = add(&mut world, node, value, context.clone());
            assert!(write.is_acknowledged_write(), "{write}");
        }
        wait(&mut world, 70 * SECOND_US);
        for node in 0..nodes {
            let (found, seen) = look(&mut world, node);
            assert_eq!(found, values(&written), "n{node}, round {round}");
            let Some(Context::Siblings(clock)) = &seen else { panic!("no context: {seen:?}") };
            actors.extend(clock.entries().iter().map(|&(actor, _)| actor));
            longest = longest.max(clock.len());
            context = seen;
        }
    }
    let bound = world.options().clock_pairs_max;
    assert_eq!(actors.len() as u64, rounds * nodes as u64, "coordinators");
    assert!(longest <= bound + 2 * nodes, "{longest} pairs");
    assert!(world.run_until(120 * SECOND_US, |world| world.long_clock().is_none()));
}

#[test]
fn many_coordinators_leave_a_small_clock_and_no_false_sibling() {
    coordinate(30);
}

#[test]
#[ignore = "half a minute"]
fn a_thousand_coordinators_leave_a_small_clock_and_no_false_sibling() {
    coordinate(340);
}

/// A value is kept for owners that are away; the nodes that keep it go as well, the owners come back, and the value is
/// deleted there. Nearly a minute later, when the deletion would be forgotten if nobody were missing, the hint
/// arrives: what was deleted stays deleted.
#[test]
fn a_deletion_meets_a_late_hint() {
    let key = Key { sloppy: true, ..Key::strict(Use::Register, "k") };
    let ask = |world: &mut World, node, call| {
        let operation = world.ask_and_wait(Intention::new(key.clone(), node, call));
        assert!(!operation.has_failed(), "{operation}");
        operation
    };
    for seed in 1..=4 {
        let mut world = founded_as(seed, Profile::StandIns);
        let [coordinator, first, second] = [0, 1, 2].map(|nth| owner(&world, &key, nth));
        let call = |value| Call::Put { value: Value(value), expires_ms: 0, covers: None };
        ask(&mut world, coordinator, call(1));
        world.crash_now(first, false);
        world.crash_now(second, false);
        wait(&mut world, SECOND_US);
        ask(&mut world, coordinator, call(2));
        wait(&mut world, SECOND_US);
        let keeps = |node: &moim_node::Node| node.figures().hints > 0;
        let is_keeper = |at: &usize| world.servers[*at].node.as_ref().is_some_and(keeps);
        let keepers: Vec<usize> = (0..world.servers.len()).filter(is_keeper).collect();
        assert!(!keepers.is_empty() && !keepers.contains(&coordinator), "{keepers:?}");
        for &keeper in &keepers {
            world.crash_now(keeper, false);
        }
        world.start(first);
        world.start(second);
        wait(&mut world, 5 * SECOND_US);
        ask(&mut world, coordinator, Call::Delete { covers: None });
        wait(&mut world, 50 * SECOND_US);
        for &keeper in &keepers {
            world.start(keeper);
        }
        is_ready(&mut world);
        assert!(world.run_until(60 * SECOND_US, |world| world.hints() == 0), "seed {seed}");
        wait(&mut world, 20 * SECOND_US);
        for node in 0..world.servers.len() {
            let read = ask(&mut world, node, Call::Read);
            let is_gone = matches!(&read.answer, Answer::Read { seen, .. } if seen.is_empty());
            assert!(is_gone, "n{node} of seed {seed}: {read}");
        }
    }
}

/// The `nth` owner of a key.
fn owner(world: &World, key: &Key, nth: usize) -> usize {
    let record = world.nodes().find_map(moim_node::Node::record).expect("founded");
    let partition = record.ring.partition_of(key.name.as_bytes());
    let owner = record.ring.owners_of(partition, world.plan.shape.n).nth(nth);
    owner.and_then(|owner| world.index_of(owner)).expect("as many owners as copies")
}
