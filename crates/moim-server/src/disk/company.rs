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

/// Inputs that a turn of the loop finds on average, in 256ths, from which on it does not keep up. With two cores for
/// three nodes and their clients, loops that were idle now and then found up to 5.3, loops that never were 7.4 and more.
const CROWD: u64 = 13 * 256 / 2;

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

/// How many inputs turns of the loop find.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The sum of so many turns' inputs, in 256ths.
    sum: u64,
}

impl Crowd {
    /// Takes note of a turn's inputs, and answers whether the loop does not keep up.
    pub(super) fn turned(&mut self, inputs: usize) -> bool {
        self.sum -= self.sum / TURNS;
        self.sum += (inputs as u64) << 8;
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
        let mut after =
            |turns: usize, inputs: usize| (0..turns).map(|_| crowd.turned(inputs)).last().unwrap();
        assert!(!after(10_000, 6));
        assert!(!after(50, 8), "a few turns say nothing");
        assert!(after(1_000, 8));
        assert!(after(20, 0));
        assert!(!after(1_000, 6));
    }
}
