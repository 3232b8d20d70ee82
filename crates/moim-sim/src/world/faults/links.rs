//! Links that are cut, slow or unreliable.

use super::Sequel;
use crate::world::network::{Cut, Link};
use crate::world::{Event, World};

impl World {
    pub(super) fn heal(&mut self, link: Link) {
        for delivery in self.network.heal(self.now_us, link) {
            self.plan_arrival(link, delivery);
        }
    }

    /// Some nodes on one side, the rest on the other.
    pub(super) fn split(&mut self, lasts_us: u64) {
        self.count_fault("splits");
        let sides = self.draw_sides();
        let apart = |&(from, to): &Link| sides[from] != sides[to];
        let links: Vec<Link> = self.all_links().into_iter().filter(apart).collect();
        self.cut(links, lasts_us);
    }

    /// Two sides that do not reach each other, and a node between them that reaches all.
    pub(super) fn bridge(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("bridges");
        let sides = self.draw_sides();
        let apart = |&(from, to): &Link| from != node && to != node && sides[from] != sides[to];
        let links: Vec<Link> = self.all_links().into_iter().filter(apart).collect();
        self.cut(links, lasts_us);
    }

    /// One node reaches nobody and nobody reaches it.
    #[cfg(test)]
    pub(in crate::world) fn cut_off(&mut self, node: usize, lasts_us: u64) {
        let touches = |&(from, to): &Link| from == node || to == node;
        let links: Vec<Link> = self.all_links().into_iter().filter(touches).collect();
        self.cut(links, lasts_us);
    }

    fn draw_sides(&mut self) -> Vec<bool> {
        self.servers.iter().map(|_| self.chance.faults.chance(400)).collect()
    }

    /// One node no longer reaches another, or hears nobody, or is heard by nobody.
    pub(super) fn one_way(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("one-way cuts");
        let kind = self.chance.faults.index(3);
        let other = self.chance.faults.index(self.servers.len());
        let links = self.all_links().into_iter().filter(|&(from, to)| match kind {
            0 => (from, to) == (node, other),
            1 => from == node,
            _ => to == node,
        });
        let links: Vec<Link> = links.collect();
        self.cut(links, lasts_us);
    }

    fn all_links(&self) -> Vec<Link> {
        let count = self.servers.len();
        let from_each = |from| (0..count).filter(move |&to| to != from).map(move |to| (from, to));
        (0..count).flat_map(from_each).collect()
    }

    /// Cuts links that are not cut already. The connections over them break in the end, or outlast the cut.
    fn cut(&mut self, links: Vec<Link>, lasts_us: u64) {
        let manner = *self.chance.faults.pick(&[Cut::Hold, Cut::Lose]);
        let breaks = self.chance.faults.chance(600);
        let mut cut = Vec::new();
        for link in links {
            if !self.network.cut(link, manner) {
                continue;
            }
            cut.push(link);
            if let (true, Some(connection)) = (breaks, self.network.connection(link)) {
                let at_us = self.now_us + self.chance.faults.between(1_000, lasts_us.max(1_000));
                self.queue.plan(at_us, Event::Break { link, connection });
            }
        }
        self.plan_sequel(lasts_us, Sequel::Heal(cut));
    }

    pub(super) fn slow_links(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("slow links");
        let slow_us = self.chance.faults.between(5_000, 400_000);
        let one = self.chance.faults.index(self.servers.len());
        let touches = |&(from, to): &Link| {
            (from == node || to == node) && (one == node || from == one || to == one)
        };
        let links: Vec<Link> = self.all_links().into_iter().filter(touches).collect();
        for &link in &links {
            self.network.slow(link, slow_us);
        }
        self.plan_sequel(lasts_us, Sequel::Quicken(links));
    }

    /// Messages are lost, repeated and overtaken on every link, although connections stand.
    pub(super) fn noise(&mut self, lasts_us: u64) {
        self.count_fault("noise");
        let noise = [(); 3].map(|()| *self.chance.faults.pick(&[0, 10, 50, 150]));
        self.network.disturb(noise);
        self.plan_sequel(lasts_us, Sequel::Quiet);
    }
}
