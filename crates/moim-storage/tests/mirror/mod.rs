//! Random batches on an engine and on a plain map, compared after every step.

use std::collections::BTreeMap;

use moim_storage::{Batch, Durability, Family, PageLimit, Write};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::subject::{Open, Subject, TOP};

/// A step of the comparison with a map.
#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Batch>, Durability),
    Exchange(Vec<Batch>, Durability),
    DropRange(Family, Vec<u8>, Vec<u8>),
    Compact,
    Reopen,
}

pub(crate) fn engine_equals_a_map(open: Open) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let steps = prop::collection::vec(step(), 1..12);
    let limit = (1..9_usize, 1..200_usize)
        .prop_map(|(entries_max, bytes_max)| PageLimit { entries_max, bytes_max });
    runner.run(&(steps, limit), |(steps, limit)| compare(open, steps, limit)).unwrap();
}

fn step() -> impl Strategy<Value = Step> {
    let batches = prop::collection::vec(prop::collection::vec(write(), 0..6), 0..4);
    let durability = prop_oneof![Just(Durability::Written), Just(Durability::Synced)];
    prop_oneof![
        12 => (batches, durability, any::<bool>()).prop_map(|(batches, how, exchanging)| {
            if exchanging { Step::Exchange(batches, how) } else { Step::Apply(batches, how) }
        }),
        2 => (family(), key(), key()).prop_map(|(family, a, b)| Step::DropRange(family, a, b)),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    // Some are large enough to be shared.
    let value = (prop::collection::vec(any::<u8>(), 0..40), prop::bool::weighted(0.1))
        .prop_map(|(value, large)| if large { value.repeat(100) } else { value });
    prop_oneof![
        6 => (family(), key(), value).prop_map(|(family, key, value)| {
            Write::Put { family, key: key.into(), value: value.into() }
        }),
        2 => (family(), key()).prop_map(|(family, key)| Write::Delete { family, key: key.into() }),
        1 => (family(), key(), key()).prop_map(|(family, from, to)| {
            Write::DeleteRange { family, from: from.into(), to: to.into() }
        }),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(&Family::ALL)
}

/// Few keys, so that they meet; with the bytes at which orders go wrong.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[0_u8, 1, b'a', 0xff]), 0..4)
}

type Map = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

fn compare(open: Open, steps: Vec<Step>, limit: PageLimit) -> Result<(), TestCaseError> {
    let mut it = open(None);
    let mut map = Map::new();
    for step in steps {
        match step {
            Step::Apply(batches, durability) => {
                it.engine().apply(&batches, durability).unwrap();
                batches.into_iter().flatten().for_each(|write| mirror(&mut map, write));
            }
            Step::Exchange(batches, durability) => {
                it.engine().exchange(&mut batches.clone(), durability).unwrap();
                batches.into_iter().flatten().for_each(|write| mirror(&mut map, write));
            }
            Step::DropRange(family, from, to) => {
                it.engine().drop_range(family, &from..&to).unwrap();
                mirror(&mut map, Write::DeleteRange { family, from: from.into(), to: to.into() });
            }
            Step::Compact => it.show_all_to_rule(),
            Step::Reopen => it.reopen(),
        }
        for family in Family::ALL {
            let expected: Vec<_> = map
                .iter()
                .filter(|((other, _), _)| *other == family)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            prop_assert_eq!(page_by_page(&it, family, limit), expected);
        }
        for ((family, key), value) in &map {
            prop_assert_eq!(it.get(*family, key), Some(value.clone()));
        }
    }
    Ok(())
}

fn mirror(map: &mut Map, write: Write) {
    match write {
        Write::Put { family, key, value } => {
            map.insert((family, key.into()), value.into());
        }
        Write::Delete { family, key } => {
            map.remove(&(family, key.into()));
        }
        Write::DeleteRange { family, from, to } => {
            map.retain(|(other, key), _| *other != family || *key < from || *key >= to);
        }
    }
}

fn page_by_page(it: &Subject, family: Family, limit: PageLimit) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = it.engine().scan(family, &from..TOP, limit).unwrap();
        assert!(page.entries.len() <= limit.entries_max);
        assert!(!page.more || !page.entries.is_empty(), "a page that does not get on");
        entries.extend(page.entries.into_iter().map(|(key, value)| (key.into(), value.into())));
        if !page.more {
            return entries;
        }
        from.clone_from(&entries.last().unwrap().0);
        from.push(0);
    }
}
