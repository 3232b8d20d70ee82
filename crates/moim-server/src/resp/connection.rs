//! [`Connection`]: the part of a connection that outlives a poll of its task, because commands in progress answer to it
//! and `CLIENT LIST` and `KILL` reach for it. The socket and its buffers belong to the task alone (see `worker`).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use moim_node::Request;
use moim_node::namespace::Namespaces;

use super::answer::Shape;
use super::command::{Together, reply_too_large};
use super::encode::Reply;
use super::flow::{Flow, Turn};
use super::front::Front;
use super::order::{Access, KeyTag};
use super::session::Session;
use super::settings::Port;

/// Whether and how a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Not yet.
    Open,
    /// After the replies to what it has asked so far.
    AfterReplies,
    /// At once.
    Now,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) front: Rc<Front>,
    pub(crate) id: u64,
    pub(crate) port: Port,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) created: Instant,
    pub(crate) session: RefCell<Session>,
    pub(crate) flow: RefCell<Flow>,
    pub(crate) seen: Seen,
    closing: Cell<Closing>,
    waker: RefCell<Option<Waker>>,
    /// Whether it was woken since its task last looked: a turn answers many commands, and one call is enough.
    awake: Cell<bool>,
    charged: Cell<usize>,
}

/// What `CLIENT LIST` shows of a connection.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When a byte last came in.
    pub(crate) active: Cell<Instant>,
    /// Its last command.
    pub(crate) command: Cell<&'static str>,
    /// Bytes in its query buffer, and room left there.
    pub(crate) input: Cell<(usize, usize)>,
    /// Unsent bytes of replies.
    pub(crate) output: Cell<usize>,
}

impl Connection {
    pub(crate) fn new(
        front: &Rc<Front>,
        id: u64,
        port: Port,
        (peer, local): (SocketAddr, SocketAddr),
    ) -> Rc<Self> {
        let now = Instant::now();
        let session = Session::new(front.settings.password.is_none(), front.store.ring_version());
        let connection = Rc::new(Self {
            front: Rc::clone(front),
            id,
            port,
            peer,
            local,
            created: now,
            session: RefCell::new(session),
            flow: RefCell::default(),
            seen: Seen {
                active: Cell::new(now),
                command: Cell::new("NULL"),
                input: Cell::default(),
                output: Cell::default(),
            },
            closing: Cell::new(Closing::Open),
            waker: RefCell::default(),
            awake: Cell::new(false),
            charged: Cell::default(),
        });
        connection.expect_replies();
        connection
    }

    /// Replies may be as large as pairs of the session's namespace.
    pub(crate) fn expect_replies(&self) {
        let namespace = self.session.borrow().namespace;
        let limit = |namespaces: &Namespaces| {
            namespaces.get(namespace).map_or(0, |namespace| namespace.max_pair_bytes)
        };
        let bytes = self.front.store.namespaces(limit);
        self.flow.borrow_mut().expect(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// Whether and how it ends.
    pub(crate) fn closing(&self) -> Closing {
        self.closing.get()
    }

    /// Whether no command is in progress, and none that belongs to what was said before is expected.
    pub(crate) fn is_between_commands(&self) -> bool {
        let session = self.session.borrow();
        let is_open = session.transaction.is_some() || !session.watched.is_empty();
        self.flow.borrow().len() == 0 && !is_open
    }

    /// Ends it. What was decided stays decided unless it becomes more urgent.
    pub(crate) fn close(&self, how: Closing) {
        if self.closing.get() != Closing::Now {
            self.closing.set(how);
        }
        if how == Closing::Now {
            self.flow.borrow_mut().abandon();
        }
        self.wake();
    }

    /// Has the task look again.
    pub(crate) fn wake(&self) {
        if self.awake.replace(true) {
            return;
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The task looks; from now on it is woken again.
    pub(crate) fn look(&self, waker: &Waker) {
        self.awake.set(false);
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// A command has ended.
    pub(crate) fn fill(&self, turn: Turn, reply: Reply) {
        let next = self.flow.borrow_mut().fill(turn, reply);
        if next {
            self.wake();
        }
        let waiting = self.flow.borrow().held_bytes() + self.seen.output.get();
        if waiting > self.front.settings.output_bytes_max {
            self.overfull();
        }
    }

    /// Ends it because its buffers took more than they may.
    pub(crate) fn overfull(&self) {
        if self.closing.get() != Closing::Now {
            self.front.count(|figures| figures.connections_overfull += 1);
            self.close(Closing::Now);
        }
    }

    /// Counts what its buffers take beyond its share; says whether all buffers together still fit.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        let before = self.charged.replace(bytes);
        if before == bytes {
            return true;
        }
        let mut total = 0;
        self.front.count(|figures| {
            figures.buffers_bytes = figures.buffers_bytes + bytes as u64 - before as u64;
            total = figures.buffers_bytes;
        });
        bytes <= before || total <= self.front.settings.buffers_bytes_max as u64
    }

    /// Hands a request in; its reply fills the command's slot.
    pub(crate) fn submit(self: &Rc<Self>, turn: Turn, request: Request, shape: Shape) {
        let (key, access) = self.enter(&request);
        let connection = Rc::clone(self);
        let namespace = request.namespace;
        self.front.store.submit(
            request,
            Box::new(move |outcome| {
                let reply = shape.reply(outcome, namespace, &connection.front.store);
                connection.leave(key, access, &shape, &reply);
                connection.fill(turn, reply);
            }),
        );
    }

    /// Hands requests in; their replies together fill the command's slot.
    pub(crate) fn submit_all(
        self: &Rc<Self>,
        turn: Turn,
        requests: Vec<Request>,
        shape: &Shape,
        together: Together,
    ) {
        let replies = vec![Reply::Null; requests.len()];
        let (missing, replies) = (Cell::new(requests.len()), RefCell::new(replies));
        let part = Rc::new(Part { turn, together, missing, bytes: Cell::new(0), replies });
        for (at, request) in requests.into_iter().enumerate() {
            let (key, access) = self.enter(&request);
            let (connection, part) = (Rc::clone(self), Rc::clone(&part));
            let (namespace, shape) = (request.namespace, shape.clone());
            self.front.store.submit(
                request,
                Box::new(move |outcome| {
                    let reply = shape.reply(outcome, namespace, &connection.front.store);
                    connection.leave(key, access, &shape, &reply);
                    part.fill(&connection, at, reply);
                }),
            );
        }
    }

    fn enter(&self, request: &Request) -> (KeyTag, Access) {
        let (key, access) = (KeyTag::of(request), Access::of(request));
        self.flow.borrow_mut().enter(key, access);
        (key, access)
    }

    /// A request has ended. Whoever waits for its key, or for all, may go on.
    fn leave(&self, key: KeyTag, access: Access, shape: &Shape, reply: &Reply) {
        self.flow.borrow_mut().leave(key, access);
        if matches!(shape, Shape::Value) {
            self.front.count(|figures| match reply {
                Reply::Null => figures.misses += 1,
                Reply::Bulk(_) => figures.hits += 1,
                _ => {}
            });
        }
        self.wake();
    }
}

/// A command in progress that made several requests.
struct Part {
    turn: Turn,
    together: Together,
    missing: Cell<usize>,
    bytes: Cell<usize>,
    replies: RefCell<Vec<Reply>>,
}

impl Part {
    fn fill(&self, connection: &Connection, at: usize, reply: Reply) {
        let bytes_max = connection.front.settings.output_bytes_max;
        if self.together == Together::List {
            self.bytes.set(self.bytes.get() + reply.weight());
        }
        let fits = self.bytes.get() <= bytes_max;
        if fits {
            self.replies.borrow_mut()[at] = reply;
        } else {
            // Nobody will see those that are there already.
            self.replies.take();
        }
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 {
            let replies = self.replies.take();
            let reply =
                if fits { self.together.combine(replies) } else { reply_too_large(bytes_max) };
            connection.fill(self.turn, reply);
        }
    }
}
