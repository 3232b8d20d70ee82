//! How long a group of commits waits for company, where each is synced.
//!
//! What a group costs beside its writes (switches of threads, what a virtual machine takes for each request to its disk)
//! is as much as ten of them, and groups that follow each other at once have few writes each. The wait is where the
//! thread would have slept until it was woken, so it costs no switch; and it is short beside what a sync takes where
//! writes are slow.
//!
//! Who pays for it depends. As long as the loop keeps up, those who write wait for a group that few others join. When it
//! does not, everybody waits for the processor, and groups take of it: then they wait longer.

use std::time::Duration;

use moim_storage::{Batch, Family, Write};

/// The wait while the loop keeps up.
const COMPANY: Duration = Duration::from_micros(300);

/// The wait while it does not.
const COMPANY_IN_A_CROWD: Duration = Duration::from_micros(600);

/// Writes of clients in a group, from which on others are about to come. One alone may be of a client that sends its next
/// when this one is answered: that waits for nobody.
const SEVERAL: usize = 2;

/// Connections of clients that a turn of the loop has something of on average, in 256ths, from which on it does not keep
/// up. How much each of them has says nothing: a pipeline comes at once. With two cores for three nodes and their clients,
/// loops that were idle now and then found up to 1.3, loops that never were 1.9 and more.
const CROWD: u64 = 3 * 256 / 2;

/// Turns over which it is averaged, by and large: some 25 ms of a busy loop.
const TURNS: u64 = 256;

/// How long the next group waits after this one.
pub(super) fn after(group: &[Batch], is_crowded: bool) -> Option<Duration> {
    let company = if is_crowded { COMPANY_IN_A_CROWD } else { COMPANY };
    are_several(group).then_some(company)
}

/// Whether several writes of clients are in a group.
fn are_several(group: &[Batch]) -> bool {
    let of_clients = |write: &&Write| matches!(write, Write::Put { family: Family::Data, .. });
    group.iter().flatten().filter(of_clients).nth(SEVERAL - 1).is_some()
}

/// How many connections turns of the loop find something of.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The sum of so many turns' connections, in 256ths.
    sum: u64,
}

impl Crowd {
    /// Takes note of a turn's connections, and answers whether the loop does not keep up.
    pub(super) fn turned(&mut self, connections: usize) -> bool {
        self.sum -= self.sum / TURNS;
        self.sum += (connections as u64) << 8;
        self.sum / TURNS > CROWD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_several_writes_of_clients_waits() {
        let put = |family| Write::Put { family, key: "key".into(), value: "value".into() };
        let alone = vec![put(Family::Data), put(Family::Trees), put(Family::Meta)];
        assert_eq!(after(&[], false), None);
        assert_eq!(after(std::slice::from_ref(&alone), true), None);
        assert_eq!(after(&[alone.clone(), alone], false), Some(COMPANY));
        let several = vec![put(Family::Data), put(Family::Data)];
        assert_eq!(after(&[several], true), Some(COMPANY_IN_A_CROWD));
    }

    #[test]
    fn a_loop_is_crowded_while_its_turns_find_much() {
        let mut crowd = Crowd::default();
        let mut after = |turns: usize, connections: usize| {
            (0..turns).map(|_| crowd.turned(connections)).last().unwrap()
        };
        assert!(!after(10_000, 1));
        assert!(!after(50, 2), "a few turns say nothing");
        assert!(after(1_000, 2));
        assert!(after(20, 1));
        assert!(!after(1_000, 1));
    }
}
