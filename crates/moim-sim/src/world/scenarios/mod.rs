//! Single stories, told with the world's own means instead of chance.

mod named;

use super::World;
use super::clock::Clock;
use crate::history::{Answer, Call, Key, Operation, Use, Value};
use crate::plan::Settings;
use crate::profile::Profile;
use crate::workload::Intention;

const SECOND_US: u64 = 1_000_000;

/// A cluster at rest, all clocks right.
fn founded(seed: u64) -> World {
    founded_as(seed, Profile::Calm)
}

/// The same with the nodes and levels of a profile.
fn founded_as(seed: u64, profile: Profile) -> World {
    let settings = Settings { profile: Some(profile), ..Settings::of_seed(seed) };
    let mut world = World::new(&settings);
    for server in &mut world.servers {
        server.clock = Clock::new(0, 0);
    }
    assert!(world.run_until(20 * SECOND_US, World::is_ready));
    world
}

fn put(world: &mut World, node: usize, value: u64, ttl_ms: Option<u64>) -> Operation {
    let expires_ms = ttl_ms.map_or(0, |ttl_ms| world.wall_ms(node) + ttl_ms);
    let call = Call::Put { value: Value(value), expires_ms, covers: None };
    let put = world.ask_and_wait(Intention::new(Key::strict(Use::Register, "k"), node, call));
    assert!(put.is_acknowledged_write(), "{put}");
    put
}

/// What a node reads by itself and a quorum.
fn read(world: &mut World, node: usize) -> Vec<Value> {
    let read =
        world.ask_and_wait(Intention::new(Key::strict(Use::Register, "k"), node, Call::Read));
    match read.answer {
        Answer::Read { seen, .. } => seen.iter().filter_map(|seen| seen.value).collect(),
        _ => panic!("{read}"),
    }
}

fn wait(world: &mut World, us: u64) {
    world.run_until(us, |_| false);
}

/// `SET k v PX 1500` over a value that never expires: gone after 1.5 s on every node, and what it replaced stays gone,
/// also on a node that was down and still holds that.
#[test]
fn a_deadline_holds_where_a_node_was_down_meanwhile() {
    for seed in 1..=10 {
        let mut world = founded(seed);
        put(&mut world, 0, 1, None);
        wait(&mut world, SECOND_US);
        let absent = world.servers.len() - 1;
        world.crash_now(absent, true);
        wait(&mut world, SECOND_US);
        put(&mut world, 0, 2, Some(1_500));
        assert_eq!(read(&mut world, 1), [Value(2)]);
        wait(&mut world, SECOND_US);
        assert_eq!(read(&mut world, 1), [Value(2)], "not before its time");
        wait(&mut world, SECOND_US / 2);
        world.start(absent);
        assert!(world.run_until(20 * SECOND_US, World::is_ready));
        for node in 0..world.servers.len() {
            assert_eq!(read(&mut world, node), [], "n{node} of seed {seed}");
        }
    }
}

/// Written through a node whose clock is ahead, acknowledged, written again through one whose clock is behind: the
/// second value stands (section 5 of the design), whichever node is asked.
#[test]
fn the_later_write_stands_whatever_the_clocks_say() {
    for seed in 1..=10 {
        let mut world = founded(seed);
        let now_us = world.now_us();
        world.servers[0].clock.set(now_us, 2_000);
        world.servers[1].clock.set(now_us, -2_000);
        let first = put(&mut world, 0, 1, None);
        let second = put(&mut world, 1, 2, None);
        assert!(first.before(&second));
        for node in 0..world.servers.len() {
            assert_eq!(read(&mut world, node), [Value(2)], "n{node} of seed {seed}");
        }
    }
}

/// A node that stands still takes nothing with it: the others serve, and it catches up.
#[test]
fn a_hanging_node_is_waited_for_by_nobody() {
    let mut world = founded(3);
    world.servers[2].paused = true;
    wait(&mut world, SECOND_US);
    put(&mut world, 0, 1, None);
    assert_eq!(read(&mut world, 1), [Value(1)]);
    world.servers[2].paused = false;
    world.plan_turn(2);
    wait(&mut world, SECOND_US);
    assert_eq!(read(&mut world, 2), [Value(1)]);
}
