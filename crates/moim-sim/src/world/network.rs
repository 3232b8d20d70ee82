//! Connections between nodes, and what becomes of a message on its way.
//!
//! A connection is what TCP gives: in order, and whole or broken. Faults beyond that (loss, repetition, overtaking while
//! the connection stands) are harsher than TCP, but a node must not mind: a proxy between data centres may well do so,
//! and [`moim_node::message`] promises it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use moim_node::message::Message;

use crate::random::Random;

/// One connection of a pair of nodes; a new one gets a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection(u64);

/// From a node to another, by index.
pub(crate) type Link = (usize, usize);

/// What a cut link does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Keeps them until it heals, as TCP's retransmission does.
    Hold,
    /// Loses them without either side noticing.
    Lose,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manners {
    /// The usual delay, in microseconds.
    pub(crate) usual_us: u64,
    /// The longest delay, in microseconds.
    pub(crate) longest_us: u64,
    /// Messages of a thousand that vanish although the connection stands.
    pub(crate) loss: u32,
    /// Messages of a thousand that arrive twice.
    pub(crate) repetition: u32,
    /// Messages of a thousand that are overtaken.
    pub(crate) overtaking: u32,
}

/// A message that arrives.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) at_us: u64,
    pub(crate) connection: Connection,
    pub(crate) message: Message,
}

/// The network between all nodes.
#[derive(Debug)]
pub(crate) struct Network {
    random: Random,
    manners: Manners,
    /// Messages of a thousand that are lost, repeated, overtaken beside what `manners` says.
    noise: [u32; 3],
    /// Messages that were lost, repeated, overtaken, beside those that went with a connection.
    pub(crate) spoilt: [u64; 3],
    connections: u64,
    /// By pair, the lower index first.
    open: BTreeMap<Link, Connection>,
    cuts: BTreeMap<Link, Cut>,
    held: BTreeMap<Link, VecDeque<(Connection, Message)>>,
    /// When the last message of a link arrives: none overtakes it.
    busy_until_us: BTreeMap<Link, u64>,
    /// Microseconds that a link adds for now.
    slow_us: BTreeMap<Link, u64>,
    /// Broken connections whose messages on the way vanished with them.
    vanished: BTreeSet<Connection>,
}

impl Network {
    /// Nobody is connected.
    pub(crate) fn new(random: Random, manners: Manners) -> Self {
        Self {
            random,
            manners,
            noise: [0; 3],
            spoilt: [0; 3],
            connections: 0,
            open: BTreeMap::new(),
            cuts: BTreeMap::new(),
            held: BTreeMap::new(),
            busy_until_us: BTreeMap::new(),
            slow_us: BTreeMap::new(),
            vanished: BTreeSet::new(),
        }
    }

    /// Messages behave from now on.
    pub(crate) fn calm(&mut self) {
        self.manners = Manners { loss: 0, repetition: 0, overtaking: 0, ..self.manners };
        self.quiet();
        self.slow_us.clear();
    }

    /// Of a thousand messages so many are lost, repeated and overtaken, beside those that always are.
    pub(crate) fn disturb(&mut self, noise: [u32; 3]) {
        self.noise = noise;
    }

    /// Ends that.
    pub(crate) fn quiet(&mut self) {
        self.noise = [0; 3];
    }

    /// Connects a pair if both directions work and it is not connected. Each side learns of it at its own time, and
    /// what the other sends arrives after that.
    pub(crate) fn connect(&mut self, now_us: u64, (a, b): Link) -> Option<(Connection, [u64; 2])> {
        let cut = self.cuts.contains_key(&(a, b)) || self.cuts.contains_key(&(b, a));
        if cut || self.open.contains_key(&pair((a, b))) {
            return None;
        }
        self.connections += 1;
        let connection = Connection(self.connections);
        self.open.insert(pair((a, b)), connection);
        let learns_us = [now_us + self.delay_us((b, a)), now_us + self.delay_us((a, b))];
        self.busy_until_us.insert((b, a), learns_us[0]);
        self.busy_until_us.insert((a, b), learns_us[1]);
        Some((connection, learns_us))
    }

    /// The connection that a pair has.
    pub(crate) fn connection(&self, link: Link) -> Option<Connection> {
        self.open.get(&pair(link)).copied()
    }

    /// Ends the connection of a pair. With `vanish`, messages on the way are lost, as when a machine loses power.
    pub(crate) fn close(&mut self, link: Link, vanish: bool) -> Option<Connection> {
        let closed = self.open.remove(&pair(link))?;
        for link in [link, (link.1, link.0)] {
            self.held.remove(&link);
        }
        if vanish {
            self.vanished.insert(closed);
        }
        Some(closed)
    }

    /// Whether messages of this connection that are on the way are lost.
    pub(crate) fn has_vanished(&self, connection: Connection) -> bool {
        self.vanished.contains(&connection)
    }

    /// Sends on a connection: what arrives, if anything does.
    pub(crate) fn send(
        &mut self,
        now_us: u64,
        link: Link,
        connection: Connection,
        message: Message,
    ) -> Vec<Delivery> {
        if self.connection(link) != Some(connection) {
            return Vec::new();
        }
        match self.cuts.get(&link) {
            Some(Cut::Lose) => return Vec::new(),
            Some(Cut::Hold) => {
                self.held.entry(link).or_default().push_back((connection, message));
                return Vec::new();
            }
            None => {}
        }
        if self.random.chance(self.manners.loss + self.noise[0]) {
            self.spoilt[0] += 1;
            return Vec::new();
        }
        let repeated = self.random.chance(self.manners.repetition + self.noise[1]);
        self.spoilt[1] += u64::from(repeated);
        let copies = if repeated { 2 } else { 1 };
        let arrivals = (0..copies).map(|copy| {
            let at_us = self.arrival_us(now_us, link, copy > 0);
            Delivery { at_us, connection, message: message.clone() }
        });
        arrivals.collect()
    }

    /// Cuts one direction of a pair; answers false if it was cut already.
    pub(crate) fn cut(&mut self, link: Link, cut: Cut) -> bool {
        match self.cuts.entry(link) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(cut);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// Heals one direction of a pair: what was held arrives.
    pub(crate) fn heal(&mut self, now_us: u64, link: Link) -> Vec<Delivery> {
        self.cuts.remove(&link);
        let held = self.held.remove(&link).unwrap_or_default();
        let arrivals = held.into_iter().map(|(connection, message)| Delivery {
            at_us: self.arrival_us(now_us, link, false),
            connection,
            message,
        });
        arrivals.collect()
    }

    /// Links that are cut now.
    pub(crate) fn cuts(&self) -> Vec<Link> {
        self.cuts.keys().copied().collect()
    }

    /// Adds so much to the delay of a link; 0 for nothing.
    pub(crate) fn slow(&mut self, link: Link, slow_us: u64) {
        self.slow_us.insert(link, slow_us);
    }

    /// When a message sent now arrives.
    fn arrival_us(&mut self, now_us: u64, link: Link, repeated: bool) -> u64 {
        let delay_us = self.delay_us(link);
        if repeated || self.random.chance(self.manners.overtaking + self.noise[2]) {
            self.spoilt[2] += 1;
            // Up to half a second: longer than several requests and their retries.
            return now_us + delay_us + self.random.between(0, 500_000);
        }
        let at_us = (now_us + delay_us).max(self.busy_until_us.get(&link).copied().unwrap_or(0));
        self.busy_until_us.insert(link, at_us);
        at_us
    }

    fn delay_us(&mut self, link: Link) -> u64 {
        let slow_us = self.slow_us.get(&link).copied().unwrap_or(0);
        let slow_us = if slow_us == 0 { 0 } else { self.random.between(slow_us / 2, slow_us) };
        slow_us + self.random.delay(self.manners.usual_us, self.manners.longest_us)
    }
}

fn pair((a, b): Link) -> Link {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Manners =
        Manners { usual_us: 200, longest_us: 5_000, loss: 0, repetition: 0, overtaking: 0 };

    fn network(manners: Manners) -> (Network, Connection) {
        let mut network = Network::new(Random::new(3), manners);
        let (connection, _) = network.connect(0, (0, 1)).unwrap();
        (network, connection)
    }

    fn send(network: &mut Network, connection: Connection, count: u64) -> Vec<u64> {
        let sent =
            (0..count).flat_map(|now_us| network.send(now_us, (0, 1), connection, Message::Ping));
        sent.map(|delivery| delivery.at_us).collect()
    }

    #[test]
    fn a_connection_keeps_the_order_unless_told_otherwise() {
        let (mut calm, connection) = network(CALM);
        let arrivals = send(&mut calm, connection, 200);
        assert_eq!(arrivals.len(), 200);
        assert!(arrivals.is_sorted());
        let (mut wild, connection) =
            network(Manners { loss: 100, repetition: 100, overtaking: 100, ..CALM });
        let arrivals = send(&mut wild, connection, 200);
        assert!(!arrivals.is_sorted());
        assert_ne!(arrivals.len(), 200);
    }

    #[test]
    fn a_cut_link_holds_or_loses_and_nobody_connects_over_it() {
        for (cut, arriving) in [(Cut::Hold, 3), (Cut::Lose, 0)] {
            let (mut network, connection) = network(CALM);
            assert!(network.cut((0, 1), cut));
            assert!(!network.cut((0, 1), cut), "cut once");
            assert_eq!(send(&mut network, connection, 3), []);
            let back = network.send(9, (1, 0), connection, Message::Pong);
            assert_eq!(back.len(), 1, "the other direction works");
            network.close((1, 0), false);
            assert_eq!(network.connect(10, (0, 1)), None);
            assert_eq!(network.heal(10, (0, 1)).len(), 0, "a closed connection holds nothing");
            let (connection, _) = network.connect(20, (0, 1)).unwrap();
            network.cut((0, 1), cut);
            send(&mut network, connection, 3);
            assert_eq!(network.heal(30, (0, 1)).len(), arriving);
        }
    }

    #[test]
    fn a_message_for_an_old_connection_goes_nowhere() {
        let (mut network, old) = network(CALM);
        assert_eq!(network.close((0, 1), true), Some(old));
        assert!(network.has_vanished(old));
        let (new, _) = network.connect(5, (1, 0)).unwrap();
        assert_ne!(old, new);
        assert_eq!(network.send(6, (0, 1), old, Message::Ping).len(), 0);
    }
}
