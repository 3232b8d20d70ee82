//! Commands: how one is found, checked, run and answered.
//!
//! There is one table of commands (`table`); dispatch, arity errors and every `COMMAND …` answer come from it. A handler
//! looks at the arguments and says in a [`Step`] what is to be done; it never waits. Most steps are one request and the
//! [`Shape`] of its reply. What takes several requests in turn is a [`Task`], which runs while nothing else of its
//! connection does.

#![expect(clippy::unnecessary_wraps, reason = "all handlers have one signature")]

mod acl;
mod client;
mod cluster;
mod config;
mod conversation;
mod expiry;
mod info;
mod introspect;
mod keyspace;
mod moim;
mod refused;
mod script;
mod server;
mod strings;
mod table;
mod transaction;
mod walk;

use std::pin::Pin;
use std::rc::Rc;

use moim_node::Request;
use moim_node::api::Action;

use super::answer::Shape;
use super::arguments::{Arguments, OwnedArguments};
use super::connection::Connection;
use super::encode::Reply;
use super::flow::Turn;
use super::front::Front;
use super::number;
use super::settings::Port;
use super::store::WINDOW;

pub(crate) use config::Configuration;
pub(crate) use script::Scripts;
use table::Flag;
pub(crate) use table::{Command, UNKNOWN, all};

/// What a handler has decided.
pub(crate) type Decided = Result<Step, Reply>;

/// A command that needs several requests in turn.
pub(crate) type Task = Pin<Box<dyn Future<Output = Reply>>>;

/// What a command has its connection do.
pub(crate) enum Step {
    /// Nothing: this is the reply.
    Done(Reply),
    /// A request.
    One(Request, Shape),
    /// Requests that may run at once.
    Many(Vec<Request>, Shape, Together),
    /// More than that.
    Task(Task),
}

/// How the replies to several requests become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Together {
    /// As a list.
    List,
    /// `OK` if all are.
    Ok,
    /// As the sum of numbers.
    Sum,
}

/// Whether a command may be executed now.
pub(crate) enum Ready {
    /// It changes what replies look like or looks at everything: it waits until all before it are answered.
    NotAlone,
    /// It may.
    Command(Found),
}

/// A command that was found, and whether it is let through.
pub(crate) struct Found {
    pub(crate) command: &'static Command,
    pub(crate) index: usize,
    verdict: Verdict,
}

enum Verdict {
    Run,
    Queue,
    Refuse(Reply),
}

/// What a handler sees.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) command: &'static Command,
    /// The name first; for a subcommand both names.
    pub(crate) arguments: Arguments<'a>,
    pub(crate) connection: &'a Rc<Connection>,
}

/// Finds and checks a command, and changes nothing. `alone` says whether its connection has nothing in progress.
pub(crate) fn prepare(connection: &Connection, arguments: Arguments<'_>, alone: bool) -> Ready {
    let (index, command) = match table::find(arguments) {
        Ok(found) => found,
        Err(reply) => return refuse(UNKNOWN, reply),
    };
    if !command.takes(arguments.len()) {
        return refuse(index, wrong_arity(command));
    }
    let session = connection.session.borrow();
    if !session.admitted && !command.has(Flag::NO_AUTH) {
        return refuse(index, Reply::error("NOAUTH Authentication required."));
    }
    if session.transaction.is_some() && !command.has(Flag::IN_MULTI) {
        if command.has(Flag::NO_MULTI) {
            return refuse(index, Reply::error("ERR Command not allowed inside a transaction"));
        }
        return Ready::Command(Found { command, index, verdict: Verdict::Queue });
    }
    if command.has(Flag::ALONE) && !alone {
        return Ready::NotAlone;
    }
    Ready::Command(Found { command, index, verdict: Verdict::Run })
}

fn refuse(index: usize, reply: Reply) -> Ready {
    Ready::Command(Found { command: table::at(index), index, verdict: Verdict::Refuse(reply) })
}

fn wrong_arity(command: &Command) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{}' command", command.name))
}

/// Executes a command that [`prepare`] has let through.
pub(crate) fn execute(
    connection: &Rc<Connection>,
    turn: Turn,
    found: Found,
    arguments: Arguments<'_>,
) -> Step {
    let skip = connection.session.borrow_mut().take_skip();
    let step = match found.verdict {
        Verdict::Run => run(connection, found.command, arguments),
        Verdict::Queue => Step::Done(transaction::queue(connection, arguments)),
        Verdict::Refuse(reply) => {
            if let Some(transaction) = &mut connection.session.borrow_mut().transaction {
                transaction.broken = true;
            }
            Step::Done(reply)
        }
    };
    if connection.session.borrow().mutes(skip) {
        connection.flow.borrow_mut().mute(turn);
    }
    step
}

fn run(connection: &Rc<Connection>, command: &'static Command, arguments: Arguments<'_>) -> Step {
    let call = Call { command, arguments, connection };
    if let Some(hint) = cluster::hint(&call) {
        return Step::Done(hint);
    }
    (command.run)(&call).unwrap_or_else(Step::Done)
}

/// Runs a queued command and waits for its end.
async fn run_queued(connection: &Rc<Connection>, arguments: &OwnedArguments) -> Reply {
    let arguments = arguments.borrow();
    let step = match table::find(arguments) {
        Ok((_, command)) => {
            (command.run)(&Call { command, arguments, connection }).unwrap_or_else(Step::Done)
        }
        Err(reply) => Step::Done(reply),
    };
    let front = &connection.front;
    match step {
        Step::Done(reply) => reply,
        Step::One(request, shape) => {
            let namespace = request.namespace;
            shape.reply(front.store.request(request).await, namespace, &front.store)
        }
        Step::Many(requests, shape, together) => in_windows(front, requests, shape, together).await,
        Step::Task(task) => task.await,
    }
}

/// Makes many requests, a window at a time, and stops when the reply gets too large to be sent.
pub(crate) fn in_windows(
    front: &Rc<Front>,
    requests: Vec<Request>,
    shape: Shape,
    together: Together,
) -> Task {
    let front = Rc::clone(front);
    Box::pin(async move {
        let mut replies = Vec::new();
        let mut bytes = 0;
        let mut requests = requests.into_iter();
        while requests.len() > 0 {
            let window: Vec<Request> = requests.by_ref().take(WINDOW).collect();
            let namespaces: Vec<_> = window.iter().map(|request| request.namespace).collect();
            let outcomes = front.store.all(window).await;
            for (outcome, namespace) in outcomes.into_iter().zip(namespaces) {
                let reply = shape.reply(outcome, namespace, &front.store);
                bytes += if together == Together::List { reply.weight() } else { 0 };
                replies.push(reply);
            }
            if bytes > front.settings.output_bytes_max {
                return reply_too_large(front.settings.output_bytes_max);
            }
        }
        together.combine(replies)
    })
}

/// The reply instead of one that would close the connection.
pub(crate) fn reply_too_large(limit_bytes: usize) -> Reply {
    Reply::error(format!("ERR the reply would exceed the output limit of {limit_bytes} bytes"))
}

/// A syntax error, in Redis's words.
fn syntax_error() -> Reply {
    Reply::error("ERR syntax error")
}

/// What is no 64-bit integer, in Redis's words.
fn not_an_integer() -> Reply {
    Reply::error("ERR value is not an integer or out of range")
}

impl<'a> Call<'a> {
    /// An argument; the command's name is the first.
    fn get(&self, index: usize) -> &'a [u8] {
        self.arguments.get(index)
    }

    /// How many arguments, the name included.
    fn len(&self) -> usize {
        self.arguments.len()
    }

    /// Whether an argument is this word, in any case.
    fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// An argument as an integer.
    fn integer(&self, index: usize) -> Result<i64, Reply> {
        number::integer(self.get(index)).ok_or_else(not_an_integer)
    }

    /// An argument as a text; what is no UTF-8 is replaced.
    fn text(&self, index: usize) -> String {
        String::from_utf8_lossy(self.get(index)).into_owned()
    }

    fn front(&self) -> &'a Rc<Front> {
        &self.connection.front
    }

    /// Whether the connection came in on the port of Redis Cluster clients.
    fn on_cluster_port(&self) -> bool {
        self.connection.port == Port::Cluster
    }

    /// A request for a key of the connection's namespace, at its levels.
    fn request(&self, key: &[u8], action: Action) -> Request {
        self.connection.session.borrow().request(key, action)
    }

    /// A request for the key at this place among the arguments.
    fn one(&self, index: usize, action: Action, shape: Shape) -> Step {
        Step::One(self.request(self.get(index), action), shape)
    }

    /// The same request for all keys from this place on.
    fn each(&self, from: usize, action: &Action, shape: Shape, together: Together) -> Step {
        if self.len() == from + 1 && together == Together::Sum {
            return self.one(from, action.clone(), shape);
        }
        let keys = self.arguments.skip(from);
        let requests = keys.map(|key| self.request(key, action.clone())).collect();
        Step::Many(requests, shape, together)
    }
}
