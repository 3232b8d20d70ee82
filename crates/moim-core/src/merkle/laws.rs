//! Laws of the trees, on random histories.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Cell, CellId, Place, Slice, Trees};
use crate::clock::{Actor, Dot, Epoch, Hlc, VersionVector};
use crate::object::{Content, Object, Siblings, Version};
use crate::ring::PartitionCount;
use crate::{NamespaceId, NodeId};

/// One key's new object.
#[derive(Clone, Debug)]
struct Step {
    key: u8,
    /// Seconds of life, 0 for ever.
    life_s: u64,
    deleted: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_u8..12, prop_oneof![Just(0), 1_u64..600], prop::bool::weighted(0.2))
        .prop_map(|(key, life_s, deleted)| Step { key, life_s, deleted });
    prop::collection::vec(step, 0..60)
}

fn place() -> Place {
    let partitions = PartitionCount::new(256).expect("a power of two");
    Place { partition: partitions.partition(7).expect("below 256"), namespace: NamespaceId(3) }
}

fn hash(key: u8) -> u32 {
    u32::from(key).wrapping_mul(0x9e37_79b9)
}

/// The object that the `at`-th step leaves, a second apart.
fn object(at: usize, step: &Step) -> Object {
    let written_ms = 1_000_000 + 1_000 * at as u64;
    let actor = Actor { node: NodeId(1), epoch: Epoch { run: 9, serial: 0 } };
    let expires_ms = if step.life_s == 0 { 0 } else { written_ms + 1_000 * step.life_s };
    let content =
        if step.deleted { Content::Deleted } else { Content::Value(Bytes::from_static(b"v")) };
    Object::Lww(Version {
        written: Hlc::from_millis(written_ms),
        dot: Dot { actor, counter: at as u64 + 1 },
        created_ms: 0,
        expires_ms,
        content,
    })
}

type Held = BTreeMap<u8, Object>;

fn built(held: &Held, passed_ms: u64) -> Trees {
    let mut trees = Trees::new(passed_ms);
    for (&key, object) in held {
        trees.change(place(), (&[key], hash(key)), None, Some(object));
    }
    trees
}

fn play(trees: &mut Trees, held: &mut Held, (at, step): (usize, &Step)) {
    let new = object(at, step);
    let old = held.insert(step.key, new.clone());
    trees.change(place(), (&[step.key], hash(step.key)), old.as_ref(), Some(&new));
}

proptest! {
    #[test]
    fn kept_up_to_date_equals_built_anew(history in steps(), passed_s in 0_u64..700) {
        let (mut trees, mut held) = (Trees::new(0), Held::new());
        for step in history.iter().enumerate() {
            play(&mut trees, &mut held, step);
        }
        prop_assert_eq!(&trees, &built(&held, 0));
        let passed_ms = 1_000_000 + 1_000 * passed_s;
        trees.pass(passed_ms);
        prop_assert_eq!(&trees, &built(&held, passed_ms));
        prop_assert_eq!(trees.cells(), built(&held, passed_ms).cells());
    }

    #[test]
    fn slices_fall_out_alike_whenever_each_replica_notices(
        history in steps(),
        early in 0_usize..60,
        passed_s in 0_u64..700,
    ) {
        let passed_ms = 1_000_000 + 1_000 * passed_s;
        let (mut prompt, mut late) = (Trees::new(0), Trees::new(0));
        let (mut held, mut same) = (Held::new(), Held::new());
        for (at, step) in history.iter().enumerate() {
            play(&mut prompt, &mut held, (at, step));
            play(&mut late, &mut same, (at, step));
            if at == early {
                prompt.pass(passed_ms);
            }
        }
        prompt.pass(passed_ms);
        // What has not fallen out yet is left out of the comparison by its horizon.
        prop_assert_eq!(prompt.root(place(), passed_ms), late.root(place(), passed_ms));
        late.pass(passed_ms);
        prop_assert_eq!(prompt, late);
    }

    #[test]
    fn the_order_of_keys_does_not_matter(history in steps()) {
        let (mut forth, mut held) = (Trees::new(0), Held::new());
        for step in history.iter().enumerate() {
            play(&mut forth, &mut held, step);
        }
        let (mut apart, mut same) = (Trees::new(0), Held::new());
        for key in 0..12 {
            for step in history.iter().enumerate().filter(|(_, step)| step.key == key) {
                play(&mut apart, &mut same, step);
            }
        }
        prop_assert_eq!(forth, apart);
    }

    #[test]
    fn what_expiry_drops_after_its_slice_changes_nothing(history in steps(), passed_s in 0_u64..700) {
        let passed_ms = 1_000_000 + 1_000 * passed_s;
        let (mut trees, mut held) = (Trees::new(0), Held::new());
        for step in history.iter().enumerate() {
            play(&mut trees, &mut held, step);
        }
        for object in held.values_mut() {
            if let crate::object::Reclaim::Shrink(header) = object.reclaim(passed_ms) {
                *object = header;
            }
        }
        prop_assert_eq!(trees.root(place(), passed_ms), built(&held, 0).root(place(), passed_ms));
    }

    #[test]
    fn changes_restore_what_they_were_taken_from(history in steps(), between in 0_usize..60) {
        let (mut trees, mut held) = (Trees::new(0), Held::new());
        let mut stored: BTreeMap<CellId, Cell> = BTreeMap::new();
        for (at, step) in history.iter().enumerate() {
            play(&mut trees, &mut held, (at, step));
            if at == between || at + 1 == history.len() {
                stored.extend(trees.take_changes());
            }
        }
        let mut restored = Trees::new(0);
        for (id, cell) in stored.into_iter().filter(|(_, cell)| !cell.is_empty()) {
            restored.restore(id, cell);
        }
        prop_assert_eq!(restored, trees);
    }

    #[test]
    fn inner_sums_are_sums_of_their_parts(history in steps(), horizon_s in 0_u64..700) {
        let horizon_ms = 1_000_000 + 1_000 * horizon_s;
        let (mut trees, mut held) = (Trees::new(0), Held::new());
        for step in history.iter().enumerate() {
            play(&mut trees, &mut held, step);
        }
        let add = |sums: [u64; 16]| sums.into_iter().fold(0, u64::wrapping_add);
        let mut total = 0_u64;
        for (slice, cell) in trees.slices(place(), horizon_ms) {
            prop_assert!(!slice.has_passed(horizon_ms));
            prop_assert_eq!(add(trees.groups(place(), slice)), cell.sum);
            total = total.wrapping_add(cell.sum);
        }
        prop_assert_eq!(trees.root(place(), horizon_ms).sum, total);
        let groups = trees.groups(place(), Slice::NEVER);
        for (group, sum) in (0_u8..).zip(groups) {
            prop_assert_eq!(add(trees.leaves(place(), group)), sum);
        }
    }
}

#[test]
fn siblings_count_one_by_one() {
    let put = |siblings: &Siblings, run: u64, seen: &VersionVector| {
        let mut after = siblings.clone();
        let dot = after.next_dot(NodeId(1), run, seen, || Epoch { run, serial: 0 });
        let version = Version::of_value(Hlc::from_millis(run), dot, Bytes::from_static(b"v"));
        after.put(version, seen);
        after
    };
    let blind = VersionVector::new();
    let one = put(&Siblings::new(), 1, &blind);
    let two = put(&one, 2, &blind);
    let resolved = put(&two, 3, two.context());
    let mut trees = Trees::new(0);
    let mut old = None;
    for (siblings, count) in [(one, 1), (two, 2), (resolved, 1)] {
        let new = Object::Siblings(siblings);
        trees.change(place(), (b"key", 5), old.as_ref(), Some(&new));
        assert_eq!(trees.root(place(), 0).count, count);
        old = Some(new);
    }
    trees.change(place(), (b"key", 5), old.as_ref(), None);
    assert_eq!(trees, Trees::new(0));
}
