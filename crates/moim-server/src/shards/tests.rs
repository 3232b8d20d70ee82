use std::rc::Rc;

use moim_core::MachineId;
use moim_core::ring::Member;
use moim_node::membership::{MemberInfo, PROTOCOL};
use moim_node::message::Message;

use super::*;
use crate::inbox::Inbox;

/// A node of the server, and everything that it was handed.
struct Node {
    shard: Shard,
    inbox: Rc<Inbox>,
    present: Option<Present>,
}

fn hello(id: u64) -> Hello {
    let member = Member {
        node: NodeId(id),
        machine: MachineId(1),
        zone: "z".to_owned(),
        dc: "d".to_owned(),
        weight: 1,
    };
    let address = String::new;
    let info = MemberInfo {
        member,
        peer_address: address(),
        redis_address: address(),
        cluster_address: address(),
        http_address: address(),
    };
    Hello { protocol: PROTOCOL, cluster: None, settings: 0, run: id, info }
}

impl Node {
    fn enter(&mut self) {
        let id = self.shard.shards.nodes[self.shard.number].0;
        let (mailbox, hello) = (self.inbox.mailbox(), hello(id));
        let (clients, errands) = (mpsc::channel(1).0, mpsc::channel(1).0);
        self.present = Some(self.shard.enter(Seat { hello, mailbox, clients, errands }));
    }

    /// What has come, in a word each.
    fn heard(&self) -> Vec<String> {
        let mut inputs = Vec::new();
        self.inbox.take(&mut inputs);
        let word = |input: Input| match input {
            Input::PeerUp(hello) => format!("up {}", hello.info.member.node.0),
            Input::PeerDown(node) => format!("down {}", node.0),
            Input::Peer(node, message) => format!("{message:?} of {}", node.0),
            other => panic!("{other:?}"),
        };
        inputs.into_iter().map(word).collect()
    }

    fn say(&self, to: usize, bytes: usize) {
        let own = self.shard.shards.nodes[self.shard.number];
        self.shard.deliver(to, &mut vec![Input::Peer(own, Message::Ping)], bytes);
    }
}

/// Nodes 10, 11, …, all of which take part.
fn server(count: u64) -> Vec<Node> {
    let shards = Shards::new((0..count).map(|number| NodeId(10 + number)).collect());
    let node = |shard| Node { shard, inbox: Rc::default(), present: None };
    let shard = |number| shards.shard(usize::try_from(number).unwrap());
    let mut nodes: Vec<_> = (0..count).map(|number| node(shard(number))).collect();
    nodes.iter_mut().for_each(Node::enter);
    nodes
}

fn clear(nodes: &[Node]) {
    for node in nodes {
        node.heard();
    }
}

#[test]
fn nodes_meet_everybody_once_and_hear_each_other_in_order() {
    let nodes = server(3);
    assert_eq!(nodes[0].heard(), ["up 11", "up 12"]);
    assert_eq!(nodes[1].heard(), ["up 10", "up 12"]);
    nodes[2].say(0, 1);
    nodes[1].say(0, 1);
    nodes[2].say(0, 1);
    assert_eq!(nodes[0].heard(), ["Ping of 12", "Ping of 11", "Ping of 12"]);
    assert_eq!(nodes[2].heard(), ["up 10", "up 11"]);
    for node in &nodes {
        node.shard.connect();
    }
    assert!(nodes.iter().all(|node| node.heard().is_empty()), "they have met");
}

#[test]
fn one_that_ends_is_down_and_may_come_back() {
    let mut nodes = server(2);
    clear(&nodes);
    nodes[0].say(1, 1);
    nodes[1].present = None;
    nodes[0].say(1, 1);
    assert_eq!(nodes[0].heard(), ["down 11"]);
    assert_eq!(nodes[1].heard(), ["Ping of 10", "down 10"], "nothing after the end of the link");
    nodes[0].shard.connect();
    assert!(nodes[0].heard().is_empty(), "there is nobody to meet");
    nodes[1].enter();
    assert_eq!((nodes[0].heard(), nodes[1].heard()), (vec!["up 11".into()], vec!["up 10".into()]));
}

#[test]
fn a_node_that_takes_nothing_loses_the_link_and_not_the_memory() {
    let nodes = server(2);
    clear(&nodes);
    nodes[0].say(1, WAITING_BYTES_MAX);
    assert!(nodes[0].heard().is_empty());
    nodes[0].say(1, 1);
    assert_eq!(nodes[0].heard(), ["down 11"]);
    nodes[0].say(1, 1);
    assert_eq!(nodes[1].heard(), ["Ping of 10", "Ping of 10", "down 10"]);
    nodes[1].shard.connect();
    nodes[0].say(1, WAITING_BYTES_MAX);
    assert_eq!(nodes[1].heard(), ["up 10", "Ping of 10"], "what was taken no longer counts");
}

#[test]
fn one_that_is_turned_away_is_left_alone_for_a_while() {
    let nodes = server(2);
    clear(&nodes);
    nodes[0].shard.refuse(1, "a stranger");
    assert_eq!(
        (nodes[0].heard(), nodes[1].heard()),
        (vec!["down 11".into()], vec!["down 10".into()])
    );
    nodes[1].shard.connect();
    assert!(nodes[0].heard().is_empty());
    nodes[0].shard.shards.pair(0, 1).refused_until = Some(Instant::now());
    nodes[1].shard.connect();
    assert_eq!(nodes[0].heard(), ["up 11"]);
}

#[test]
fn what_cannot_be_handed_over_comes_back() {
    let mut nodes = server(2);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = || std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(nodes[0].shard.hand_over(1, connect()).is_err(), "nobody receives");
    nodes[1].present = None;
    assert!(nodes[0].shard.hand_over(1, connect()).is_err(), "it does not run");
}
