//! What will happen, in the order of time; things of the same microsecond in the order in which they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things that will happen.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Planned<T>>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at_us: u64,
    order: u64,
    what: T,
}

impl<T> Planned<T> {
    fn rank(&self) -> (u64, u64) {
        (self.at_us, self.order)
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<T> Queue<T> {
    /// Nothing is planned.
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    /// Plans `what` for `at_us`.
    pub(crate) fn plan(&mut self, at_us: u64, what: T) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at_us, order: self.planned, what }));
    }

    /// Takes what comes next, and when.
    pub(crate) fn next(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|Reverse(next)| (next.at_us, next.what))
    }

    /// When the next thing happens.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(next)| next.at_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_and_planning_breaks_ties() {
        let mut queue = Queue::new();
        for (at_us, what) in [(5, 'c'), (2, 'a'), (5, 'd'), (2, 'b')] {
            queue.plan(at_us, what);
        }
        assert_eq!(queue.next_us(), Some(2));
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(order, [(2, 'a'), (2, 'b'), (5, 'c'), (5, 'd')]);
    }
}
