mod halfway;

use std::time::Duration;

use moim_core::MachineId;
use moim_core::ring::Member;
use moim_node::membership::{MemberInfo, PROTOCOL};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;

/// One end: links, and everything that they handed in.
struct End {
    links: Rc<Links>,
    inbox: Rc<Inbox>,
    seen: RefCell<Vec<Input>>,
    address: String,
    accepting: RefCell<Option<AbortHandle>>,
}

fn hello(id: u64, run: u64) -> Hello {
    let member = Member {
        node: NodeId(id),
        machine: MachineId(id),
        zone: "z".to_owned(),
        dc: "d".to_owned(),
        weight: 1,
    };
    let address = || "127.0.0.1:1".to_owned();
    let info = MemberInfo {
        member,
        peer_address: address(),
        redis_address: address(),
        cluster_address: address(),
        http_address: address(),
    };
    Hello { protocol: PROTOCOL, cluster: None, settings: 0, run, info }
}

impl End {
    async fn new(id: u64) -> Rc<Self> {
        Self::at(id, id, "127.0.0.1:0").await
    }

    async fn at(id: u64, run: u64, address: &str) -> Rc<Self> {
        let inbox = Rc::<Inbox>::default();
        let links = Links::new(move || hello(id, run), Rc::clone(&inbox), id);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let end =
            Self { links, inbox, seen: RefCell::default(), address, accepting: RefCell::default() };
        end.accept(listener);
        Rc::new(end)
    }

    fn accept(&self, listener: TcpListener) {
        let links = Rc::clone(&self.links);
        let accepting = crate::server::accept::accept_forever(listener, "peer", move |stream| {
            drop(tokio::task::spawn_local(Rc::clone(&links).welcome(stream)));
        });
        self.accepting.replace(Some(tokio::task::spawn_local(accepting).abort_handle()));
    }

    fn dial(&self, others: &[&Self]) {
        let addresses: Vec<_> = others.iter().map(|end| (end.address.clone(), None)).collect();
        self.links.dial(&addresses);
    }

    fn take(&self) {
        self.inbox.take(&mut self.seen.borrow_mut());
        self.inbox.end_pass();
    }

    /// How often a peer came and went, and how many messages it sent; the pong of rule 2 is none.
    fn count(&self, peer: u64) -> (usize, usize, usize) {
        self.take();
        let seen = self.seen.borrow();
        let count = |is: &dyn Fn(&Input) -> bool| seen.iter().filter(|input| is(input)).count();
        (
            count(
                &|input| matches!(input, Input::PeerUp(hello) if hello.info.member.node.0 == peer),
            ),
            count(&|input| matches!(input, Input::PeerDown(node) if node.0 == peer)),
            count(&|input| match input {
                Input::Peer(node, message) => node.0 == peer && !matches!(message, Message::Pong),
                _ => false,
            }),
        )
    }

    /// Whether a link to this peer stands.
    fn linked(&self, peer: u64) -> bool {
        self.links.peers.borrow().get(&NodeId(peer)).is_some_and(|link| link.stands())
    }

    fn say(&self, peer: u64, message: &Message) {
        self.links.send(NodeId(peer), message.clone());
    }

    /// As if the machine had lost power: nothing is accepted, nothing is said, all is closed.
    fn stop(&self) {
        self.accepting.take().unwrap().abort();
        self.links.dial(&[]);
        let links = std::mem::take(&mut *self.links.peers.borrow_mut());
        for link in links.values() {
            link.abort();
        }
    }
}

/// Connects to an end and says hello as node 2, until that has taken the connection.
async fn visit(end: &End) -> TcpStream {
    let mut stream = TcpStream::connect(&end.address).await.unwrap();
    hello::hear(&mut stream).await.unwrap();
    hello::say_at_once(&stream, &hello(2, 2)).unwrap();
    assert_eq!(hear_frame(&mut stream).await, frame(&Message::Pong));
    stream
}

fn frame(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    moim_node::wire::encode(message, &mut frame);
    frame
}

/// The next frame, if it is as long as one without fields.
async fn hear_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = frame(&Message::Pong);
    stream.read_exact(&mut heard).await.unwrap();
    heard
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Both ends hold the same connection: what one says arrives at the other.
async fn assert_talking(a: &End, b: &End) {
    let (id_a, id_b) = (a.links.own.0, b.links.own.0);
    let before = (a.count(id_b).2, b.count(id_a).2);
    a.say(id_b, &Message::Ping);
    a.links.flush();
    b.say(id_a, &Message::Ping);
    b.links.flush();
    until("both have heard each other", || {
        (a.count(id_b).2, b.count(id_a).2) == (before.0 + 1, before.1 + 1)
    })
    .await;
}

#[test]
fn a_cluster_in_which_all_dial_all_ends_with_one_connection_a_pair() {
    run(async {
        for _ in 0..10 {
            let ends = [End::new(1).await, End::new(2).await, End::new(3).await];
            let all = [&*ends[0], &*ends[1], &*ends[2]];
            for end in all {
                end.dial(&all);
            }
            until("all are linked", || {
                all.iter().all(|end| (1..=3).all(|id| id == end.links.own.0 || end.linked(id)))
            })
            .await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                assert_talking(all[a], all[b]).await;
            }
            for end in all {
                let own = end.links.own.0;
                assert!(!end.linked(own), "nobody is linked to itself");
                for peer in (1..=3).filter(|&peer| peer != own) {
                    let (ups, downs, _) = end.count(peer);
                    assert_eq!((ups, downs), (1, 0), "{peer} came to {own}, and did not go");
                }
                end.stop();
            }
        }
    });
}

#[test]
fn two_addresses_of_one_node_make_one_link() {
    run(async {
        let (a, b) = (End::new(1).await, End::new(2).await);
        let port = b.address.rsplit(':').next().unwrap();
        a.links.dial(&[(b.address.clone(), None), (format!("localhost:{port}"), None)]);
        until("they are linked", || a.linked(2) && b.linked(1)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((a.count(2), b.count(1)), ((1, 0, 0), (1, 0, 0)));
        assert_talking(&a, &b).await;
    });
}

#[test]
fn a_peer_that_comes_back_is_found_again() {
    run(async {
        let (a, b) = (End::new(1).await, End::new(2).await);
        a.dial(&[&b]);
        until("they are linked", || a.linked(2) && b.linked(1)).await;
        b.stop();
        until("the loss is seen", || a.count(2).1 == 1).await;
        let again = End::at(2, 22, &b.address).await;
        until("they are linked again", || a.linked(2) && again.linked(1)).await;
        assert_talking(&a, &again).await;
    });
}

#[test]
fn a_new_run_replaces_the_link_of_the_old_one() {
    run(async {
        // `a` has dialed the old run of `b` and believes in that link, as after a loss of power over there.
        let (a, old) = (End::new(1).await, End::new(2).await);
        a.dial(&[&old]);
        until("they are linked", || a.linked(2)).await;
        let new = End::at(2, 22, "127.0.0.1:0").await;
        new.dial(&[&a]);
        until("the new run is linked", || new.linked(1)).await;
        until("the old one was replaced", || a.count(2).0 == 2).await;
        assert_eq!(a.count(2).1, 1, "what was under way over the old link is lost");
        assert_talking(&a, &new).await;
    });
}

#[test]
fn messages_arrive_in_order_and_whole_whatever_their_size() {
    run(async {
        let (a, b) = (End::new(1).await, End::new(2).await);
        a.dial(&[&b]);
        until("they are linked", || a.linked(2) && b.linked(1)).await;
        let sizes = [0, 1, 100, 5_000_000, 3, 200_000, 7];
        for (op, &bytes) in sizes.iter().enumerate() {
            let value = moim_node::message::ReadResult::Object(Some(vec![7; bytes].into()));
            let op = moim_node::message::OpId(op as u64);
            a.say(2, &Message::ReadReply { op, result: value, from_disk: true });
        }
        a.links.flush();
        until("all have arrived", || b.count(1).2 == sizes.len()).await;
        assert!(a.links.is_flushed());
        let seen = b.seen.borrow();
        let got = seen.iter().filter_map(|input| match input {
            Input::Peer(
                _,
                Message::ReadReply {
                    op,
                    result: moim_node::message::ReadResult::Object(Some(value)),
                    from_disk: true,
                },
            ) => Some((op.0, value.len())),
            _ => None,
        });
        assert!(got.eq(sizes.iter().enumerate().map(|(op, &bytes)| (op as u64, bytes))));
    });
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_before_the_memory_is_full() {
    run(async {
        let a = End::new(1).await;
        let _stream = visit(&a).await;
        let value = moim_node::message::ReadResult::Object(Some(vec![7; 1 << 20].into()));
        let op = moim_node::message::OpId(1);
        let message = Message::ReadReply { op, result: value, from_disk: false };
        let mut said = 0;
        while a.linked(2) {
            a.say(2, &message);
            a.links.flush();
            said += 1;
            assert!(said < 100, "{said} MiB wait");
            tokio::task::yield_now().await;
        }
        assert_eq!(a.count(2), (1, 1, 0));
    });
}

#[test]
fn a_link_without_a_word_is_given_up() {
    run(async {
        let (a, b) = (End::new(1).await, End::new(2).await);
        a.dial(&[&b]);
        until("they are linked", || a.linked(2) && b.linked(1)).await;
        let watch = tokio::task::spawn_local(Rc::clone(&a.links).watch());
        tokio::time::sleep(SILENCE_CHECK * 3 / 2).await;
        assert_eq!(a.count(2).1, 0, "a second of silence is nothing");
        let link = a.links.peers.borrow().get(&NodeId(2)).cloned().unwrap();
        link.pretend_heard(Instant::now().checked_sub(SILENCE_MAX).unwrap());
        until("it is given up and dialed again", || a.count(2).0 == 2 && b.count(1).0 == 2).await;
        assert_talking(&a, &b).await;
        watch.abort();
    });
}

#[test]
fn a_refused_peer_is_closed_and_left_alone() {
    run(async {
        let (a, b) = (End::new(1).await, End::new(2).await);
        a.dial(&[&b]);
        until("they are linked", || a.linked(2)).await;
        a.links.disconnect(NodeId(2), "its settings differ");
        assert!(!a.linked(2));
        until("both know", || a.count(2).1 == 1 && b.count(1).1 == 1).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(a.count(2).0, 1, "not dialed again so soon");
    });
}

/// Says hello as node 2 and then these bytes; true if the connection is then closed.
async fn closes_after(bytes: &[u8]) -> bool {
    let a = End::new(1).await;
    let mut stream = visit(&a).await;
    stream.write_all(bytes).await.unwrap();
    let closed =
        tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 8])).await.is_ok();
    assert_eq!(a.count(2).1 == 1, closed);
    closed
}

#[test]
fn malformed_frames_close_the_connection_and_half_ones_do_not() {
    run(async {
        let ping = frame(&Message::Ping);
        assert!(!closes_after(&ping).await);
        assert!(!closes_after(&ping[..ping.len() - 1]).await, "the rest may come");
        let mut damaged = ping.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(closes_after(&damaged).await);
        assert!(closes_after(&[0xff; 4]).await, "too long");
        assert!(closes_after(&[0; 4]).await, "too short");
    });
}

#[test]
fn strangers_get_no_link() {
    run(async {
        let a = End::new(1).await;
        for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 3, 1, 2, 3], &[]] {
            let mut stream = TcpStream::connect(&a.address).await.unwrap();
            hello::hear(&mut stream).await.unwrap();
            stream.write_all(words).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
        }
        until("nobody is let in", || a.links.guests.get() == 0).await;
        a.take();
        assert!(a.seen.borrow().is_empty());
    });
}
