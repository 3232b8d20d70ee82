//! Two nodes that dial each other at the same time, taken step by step through every order of what can happen.

use moim_node::message::OpId;

use super::*;

/// What happens to one of the two connections; the number is the end that dialed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The dialing end hears the other's hello, and answers unless it is linked.
    Answers(usize),
    /// The accepting end hears that answer.
    Hears(usize),
}

use Step::{Answers, Hears};

/// All orders in which both connections come about.
const ORDERS: [[Step; 4]; 6] = [
    [Answers(0), Hears(0), Answers(1), Hears(1)],
    [Answers(0), Answers(1), Hears(0), Hears(1)],
    [Answers(0), Answers(1), Hears(1), Hears(0)],
    [Answers(1), Answers(0), Hears(0), Hears(1)],
    [Answers(1), Answers(0), Hears(1), Hears(0)],
    [Answers(1), Hears(1), Answers(0), Hears(0)],
];

/// A connection between the two, before anything was said on it: the dialing end's socket and the accepting end's.
type Sockets = [Option<TcpStream>; 2];

struct Pair {
    ends: [Rc<End>; 2],
    /// By who dials.
    connections: [Sockets; 2],
    /// How many messages each end has sent.
    said: [u64; 2],
}

async fn connect() -> Sockets {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialed, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    [Some(dialed.unwrap()), Some(accepted.unwrap().0)]
}

impl Pair {
    async fn new() -> Self {
        let ends = [End::new(1).await, End::new(2).await];
        Self { ends, connections: [connect().await, connect().await], said: [0, 0] }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Answers(dialer) => {
                let stream = self.connections[dialer][0].take().unwrap();
                let theirs = (self.ends[1 - dialer].links.hello)();
                drop(self.ends[dialer].links.answer(stream, theirs).unwrap());
            }
            Hears(dialer) => {
                let mut stream = self.connections[dialer][1].take().unwrap();
                // Who was linked when it dialed has closed the connection without an answer.
                if let Ok(theirs) = hello::hear(&mut stream).await {
                    self.ends[1 - dialer].links.admit(stream, theirs, Dialed::There);
                }
            }
        }
    }

    /// Each end that believes in a link says something, as a node does that has something to say.
    fn talk(&mut self) {
        for (own, end) in self.ends.iter().enumerate() {
            let peer = 2 - own as u64;
            let (ups, downs, _) = end.count(peer);
            if ups > downs {
                self.said[own] += 1;
                end.say(peer, &Message::Unsupported { op: OpId(self.said[own]) });
                end.links.flush();
            }
        }
    }

    /// Nothing was lost, repeated or overtaken, the node heard of one link, and both ends have the same one.
    async fn assert_whole(&mut self, what: &str) {
        let [a, b] = self.ends.clone();
        until(what, || a.linked(2) && b.linked(1)).await;
        self.talk();
        let said = self.said.map(|said| (1..=said).collect::<Vec<_>>());
        until(what, || a.numbers(2).last() == said[1].last()).await;
        until(what, || b.numbers(1).last() == said[0].last()).await;
        assert_eq!((a.numbers(2), b.numbers(1)), (said[1].clone(), said[0].clone()), "{what}");
        for (end, peer) in [(&a, 2), (&b, 1)] {
            let (ups, downs, _) = end.count(peer);
            assert_eq!((ups, downs), (1, 0), "{what}");
        }
        assert_ne!(a.dialed(2), b.dialed(1), "{what}: one dialed it, the other accepted it");
    }
}

impl End {
    /// The numbers of a peer's messages, as they came.
    fn numbers(&self, peer: u64) -> Vec<u64> {
        self.take();
        let seen = self.seen.borrow();
        let number = |input: &Input| match input {
            Input::Peer(NodeId(from), Message::Unsupported { op }) if *from == peer => Some(op.0),
            _ => None,
        };
        seen.iter().filter_map(number).collect()
    }

    fn dialed(&self, peer: u64) -> Dialed {
        self.links.peers.borrow()[&NodeId(peer)].dialed
    }
}

/// Lets all tasks do what they can.
async fn settle() {
    for _ in 0..300 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn nothing_is_lost_when_both_nodes_of_a_pair_dial_at_once() {
    run(async {
        for order in ORDERS {
            for settled in 0..1 << order.len() {
                let mut pair = Pair::new().await;
                for (index, step) in order.into_iter().enumerate() {
                    pair.step(step).await;
                    pair.talk();
                    if settled & 1 << index != 0 {
                        settle().await;
                        pair.talk();
                    }
                }
                let what = format!("{order:?} with tasks run after steps {settled:04b}");
                pair.assert_whole(&what).await;
            }
        }
    });
}

/// Somebody whom an end dials: a listener, and what node 2 would say there.
struct Stranger(TcpListener);

impl Stranger {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// Is dialed, and hears the answer to its hello; has not taken the connection yet.
    async fn answered(&self) -> TcpStream {
        let (mut stream, _) = self.0.accept().await.unwrap();
        hello::welcome(&mut stream, &hello(2, 2)).await.unwrap();
        stream
    }
}

#[test]
fn a_connection_that_was_dialed_is_not_used_before_it_was_taken() {
    run(async {
        let (a, stranger) = (End::new(1).await, Stranger::new().await);
        a.links.dial(&[(stranger.address(), None)]);
        let mut stream = stranger.answered().await;
        settle().await;
        assert!(a.links.is_linked(NodeId(2)), "it is coming about");
        a.say(2, &Message::Ping);
        a.links.flush();
        assert_eq!((a.count(2), a.links.figures().links), ((0, 0, 0), 0));
        stream.write_all(&frame(&Message::Pong)).await.unwrap();
        until("it stands", || a.linked(2)).await;
        assert_eq!((a.count(2), a.links.figures().links), ((1, 0, 0), 1));
        let farewell = Message::Farewell;
        a.say(2, &farewell);
        a.links.flush();
        assert_eq!(hear_frame(&mut stream).await, frame(&farewell), "nothing was said before");
    });
}

#[test]
fn a_connection_that_is_not_taken_is_dialed_again_and_the_node_is_told_nothing() {
    run(async {
        let (a, stranger) = (End::new(1).await, Stranger::new().await);
        a.links.dial(&[(stranger.address(), None)]);
        drop(stranger.answered().await);
        let _silent = stranger.answered().await;
        settle().await;
        let watch = tokio::task::spawn_local(Rc::clone(&a.links).watch());
        let link = a.links.peers.borrow()[&NodeId(2)].clone();
        link.pretend_heard(Instant::now().checked_sub(SILENCE_MAX).unwrap());
        let _again = stranger.answered().await;
        assert_eq!((a.count(2), a.links.figures().connects), ((0, 0, 0), 0));
        watch.abort();
    });
}

#[test]
fn a_new_run_is_taken_although_a_connection_to_the_old_one_is_coming_about() {
    run(async {
        let mut pair = Pair::new().await;
        pair.step(Answers(0)).await;
        let a = Rc::clone(&pair.ends[0]);
        assert!(!a.linked(2), "nobody has taken the connection");
        let new = End::at(2, 22, "127.0.0.1:0").await;
        new.dial(&[&a]);
        until("they are linked", || a.linked(2) && new.linked(1)).await;
        assert_talking(&a, &new).await;
        assert_eq!(a.count(2), (1, 0, 1), "over the old connection nothing was under way");
    });
}

#[test]
fn a_peer_that_lost_its_link_and_dials_again_went_and_came() {
    run(async {
        // The greater id believes in the old link, whoever dialed it, until the new one is there.
        for order in [[Answers(0), Hears(0)], [Answers(1), Hears(1)]] {
            let mut pair = Pair::new().await;
            for step in order {
                pair.step(step).await;
            }
            let [a, b] = pair.ends.clone();
            until("they are linked", || a.linked(2) && b.linked(1)).await;
            let old = a.links.peers.borrow_mut().remove(&NodeId(2)).unwrap();
            pair.connections[0] = connect().await;
            for step in [Answers(0), Hears(0)] {
                pair.step(step).await;
            }
            assert_eq!(b.count(1), (2, 1, 0));
            until("they are linked again", || a.linked(2)).await;
            assert_talking(&a, &b).await;
            old.abort();
        }
    });
}
