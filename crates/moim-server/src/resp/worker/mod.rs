//! The task of a connection: reads what is there, executes all of it, writes once.
//!
//! A poll has at most a few rounds of: send replies that are ready, execute commands that have arrived, write, read. The
//! node's turn runs after all ready connections were polled, and every reply of a turn is there when its connection is
//! polled next: so a pipeline costs one read, one turn and one write, and no timer, channel or task of its own.
//!
//! A command waits in the buffer, and all behind it, while an earlier one of the same connection must end first (see
//! `order`), while replies are not being read, or while too many are in progress. The socket is not read meanwhile:
//! whoever does not listen is not listened to.

mod ending;
mod patience;

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::out::Out;
use crate::resp::command::{self, Ready, Step, Task, Together};
use crate::resp::connection::{Closing, Connection};
use crate::resp::encode::Reply;
use crate::resp::flow::Turn;
use crate::resp::front::SHARE_BYTES;
use crate::resp::order::{Access, KeyTag};
use crate::resp::parse::{ParseLimits, Parser, Progress, ProtocolError};
use crate::resp::store::WINDOW;

/// Rounds of one poll; then the other connections have their turn.
const ROUNDS_MAX: usize = 4;

/// Room made for reading, in bytes.
const READ_BYTES: usize = 16 << 10;

/// The longest inline command and header line, as in Redis.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Arguments of one command, as in Redis.
const ARGUMENTS_MAX: usize = 1 << 20;

/// Serves a connection until it ends.
pub(crate) async fn run(connection: &Rc<Connection>, stream: TcpStream) {
    let mut worker = Worker::new(connection, stream);
    poll_fn(|context| worker.poll(context)).await;
}

struct Worker {
    connection: Rc<Connection>,
    stream: TcpStream,
    input: Vec<u8>,
    /// Where in `input` the next command begins.
    begin: usize,
    parser: Parser,
    /// A command whose requests must wait for earlier ones; the parser stands still meanwhile.
    stalled: Option<(Turn, Step)>,
    running: Option<(Turn, Task)>,
    output: Out,
    /// Whether all commands that have arrived whole are executed.
    starved: bool,
    ended: bool,
    /// Whether the end is sent together with the last reply.
    corked: bool,
    now: Instant,
    /// When replies were last taken by the client, or began to wait for that.
    unread_since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let front = &self.connection.front;
        front.give_back(std::mem::take(&mut self.input));
        front.give_back(std::mem::take(self.output.own()));
    }
}

impl Worker {
    fn new(connection: &Rc<Connection>, stream: TcpStream) -> Self {
        let now = Instant::now();
        Self {
            connection: Rc::clone(connection),
            stream,
            input: Vec::new(),
            begin: 0,
            parser: Parser::default(),
            stalled: None,
            running: None,
            output: Out::default(),
            starved: true,
            ended: false,
            corked: false,
            now,
            unread_since: now,
            timer: None,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.look(context.waker());
        self.now = Instant::now();
        for _ in 0..ROUNDS_MAX {
            self.advance(context);
            if self.may_part() {
                // What has come in already is answered first.
                if self.read(context) {
                    continue;
                }
                self.cork();
            }
            let sent = self.write(context);
            if self.finished() {
                return Poll::Ready(());
            }
            let read = self.read(context);
            let more = sent && self.has_more();
            if !read && !more {
                return self.rest(context);
            }
        }
        context.waker().wake_by_ref();
        self.tidy();
        Poll::Pending
    }

    /// Whether room in the output lets something go on.
    fn has_more(&self) -> bool {
        self.begin < self.input.len() || self.connection.flow.borrow().is_ready()
    }

    /// Runs and executes until nothing moves.
    fn advance(&mut self, context: &mut Context<'_>) {
        self.collect();
        while self.connection.closing() != Closing::Now && self.run_task(context) && self.retry() {
            // A task that begins is polled before anything else is executed.
            if self.running.is_none() && !self.execute_next() {
                break;
            }
        }
        self.collect();
    }

    /// Moves replies that are ready into the output, as many as are worth copying now: the others share their values
    /// with the node's memory until it is their turn.
    fn collect(&mut self) {
        let connection = Rc::clone(&self.connection);
        let soft = connection.front.settings.output_bytes_soft;
        let mut ended = None;
        while self.output.bytes() < soft {
            let Some(slot) = connection.flow.borrow_mut().pop() else { break };
            let ended = *ended.get_or_insert_with(Instant::now);
            let reply = slot.reply.unwrap_or(Reply::Silence);
            let took = ended.saturating_duration_since(slot.started);
            connection.front.ended(slot.command, took, reply.is_error());
            if slot.muted {
                continue;
            }
            if self.output.own().capacity() == 0 {
                *self.output.own() = connection.front.lend();
            }
            if self.output.is_empty() {
                self.unread_since = ended;
            }
            reply.send(connection.session.borrow().protocol, &mut self.output);
            connection.seen.output.set(self.output.bytes());
        }
        if self.output.bytes() > connection.front.settings.output_bytes_max {
            connection.overfull();
        }
    }

    /// Polls the task that runs alone. Says whether there is none (any more).
    fn run_task(&mut self, context: &mut Context<'_>) -> bool {
        let Some((turn, task)) = &mut self.running else { return true };
        let Poll::Ready(reply) = task.as_mut().poll(context) else { return false };
        let turn = *turn;
        self.running = None;
        self.connection.fill(turn, reply);
        true
    }

    /// Tries the step that waits. Says whether there is none (any more).
    fn retry(&mut self) -> bool {
        match self.stalled.take() {
            Some((turn, step)) => self.start(turn, step),
            None => true,
        }
    }

    /// Executes the next command that has arrived whole. Says whether to go on.
    fn execute_next(&mut self) -> bool {
        if !self.may_execute() {
            return false;
        }
        self.starved = false;
        loop {
            let limits = self.limits();
            match self.parser.advance(&self.input[self.begin..], &limits) {
                Ok(Progress::Command) if self.parser.arguments(&[]).len() == 0 => {
                    self.begin += self.parser.finish();
                }
                Ok(Progress::Command) => return self.execute(),
                Ok(Progress::More) => {
                    self.starved = true;
                    return false;
                }
                Err(error) => {
                    self.refuse(error);
                    return false;
                }
            }
        }
    }

    fn may_execute(&self) -> bool {
        let settings = &self.connection.front.settings;
        let flow = self.connection.flow.borrow();
        let waiting = self.output.bytes() + flow.held_bytes();
        // What is on its way will come all at once: it must fit as well.
        let expected = waiting.saturating_add(flow.expected_bytes());
        self.running.is_none()
            && self.connection.closing() == Closing::Open
            && !self.connection.front.is_draining()
            && flow.len() < settings.pipeline_max
            && waiting < settings.output_bytes_soft
            && (expected == waiting || expected < settings.output_bytes_max / 4)
    }

    fn limits(&self) -> ParseLimits {
        ParseLimits {
            bulk_bytes_max: self.connection.front.settings.bulk_bytes_max,
            line_bytes_max: LINE_BYTES_MAX,
            arguments_max: ARGUMENTS_MAX,
            stranger: !self.connection.session.borrow().admitted,
        }
    }

    /// Executes the command the parser stands at. Says whether to go on.
    fn execute(&mut self) -> bool {
        let mut ready = self.prepare();
        if matches!(ready, Ready::NotAlone) {
            // Perhaps all before it are answered, and only not yet on their way.
            self.collect();
            ready = self.prepare();
        }
        let Ready::Command(found) = ready else { return false };
        let arguments = self.parser.arguments(&self.input[self.begin..]);
        let seen = &self.connection.seen;
        seen.command.set(found.command.name);
        seen.input.set((self.input.len() - self.begin, self.input.capacity() - self.input.len()));
        let turn = self.connection.flow.borrow_mut().open(found.index, self.now);
        let step = command::execute(&self.connection, turn, found, arguments);
        self.begin += self.parser.finish();
        self.start(turn, step)
    }

    fn prepare(&self) -> Ready {
        let arguments = self.parser.arguments(&self.input[self.begin..]);
        let alone = self.connection.flow.borrow().len() == 0;
        command::prepare(&self.connection, arguments, alone)
    }

    /// Begins a step, or keeps it until it may begin. Says whether to go on.
    fn start(&mut self, turn: Turn, step: Step) -> bool {
        let connection = &self.connection;
        let step = match step {
            Step::Many(requests, shape, together) if requests.len() > WINDOW => {
                Step::Task(command::in_windows(&connection.front, requests, shape, together))
            }
            step => step,
        };
        if !may_start(connection, &step) {
            self.stalled = Some((turn, step));
            return false;
        }
        match step {
            Step::Done(reply) => connection.fill(turn, reply),
            Step::One(request, shape) => connection.submit(turn, request, shape),
            Step::Many(requests, _, together) if requests.is_empty() => {
                connection.fill(turn, together.combine(Vec::new()));
            }
            Step::Many(requests, shape, together) => {
                connection.submit_all(turn, requests, &shape, together);
            }
            Step::Task(task) => self.running = Some((turn, task)),
        }
        true
    }

    /// Tells a client that it does not speak the protocol, and ends the conversation.
    fn refuse(&mut self, error: ProtocolError) {
        let connection = &self.connection;
        connection.front.count(|figures| figures.protocol_errors += 1);
        if error == ProtocolError::Http {
            connection.close(Closing::Now);
            return;
        }
        self.say_last(&format!("ERR {error}"));
    }

    fn say_last(&mut self, error: &str) {
        let connection = &self.connection;
        let turn = connection.flow.borrow_mut().open(command::UNKNOWN, self.now);
        connection.fill(turn, Reply::error(error.to_owned()));
        connection.close(Closing::AfterReplies);
    }

    /// Writes what the socket takes. Says whether that was anything.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let mut count = 0;
        while !self.output.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written =
                self.output.write(|parts| match stream.poll_write_vectored(context, parts) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Err(ErrorKind::WouldBlock.into()),
                });
            match written {
                Ok((bytes, _)) if bytes > 0 => count += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {
                    self.connection.close(Closing::Now);
                    return false;
                }
            }
        }
        if count > 0 {
            self.unread_since = self.now;
            self.connection.front.count(|figures| figures.output_bytes += count as u64);
        }
        self.connection.seen.output.set(self.output.bytes());
        count > 0
    }

    /// Reads what there is, up to a buffer's worth. Says whether that was anything.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        if self.ended || !self.starved || !self.may_execute() {
            return false;
        }
        self.make_room();
        let before = self.input.len();
        while self.input.len() < self.input.capacity() {
            // The future holds nothing between polls, so it may be made anew for each.
            match pin!(self.stream.read_buf(&mut self.input)).poll(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.ended = true;
                    break;
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
        let count = self.input.len() - before;
        if count > 0 {
            self.connection.seen.active.set(self.now);
            self.connection.front.store.hear();
            self.connection.front.count(|figures| figures.input_bytes += count as u64);
        }
        if self.input.len() - self.begin > self.connection.front.settings.query_bytes_max {
            self.say_last("ERR Protocol error: the command exceeds the query buffer limit");
            return true;
        }
        count > 0 || self.ended
    }

    /// Has room for reading behind what is left of the input.
    fn make_room(&mut self) {
        if self.begin > 0 {
            self.input.drain(..self.begin);
            self.begin = 0;
        }
        if self.input.capacity() == 0 {
            self.input = self.connection.front.lend();
        }
        if self.input.capacity() - self.input.len() < READ_BYTES {
            self.input.reserve(READ_BYTES.max(self.input.len()));
        }
    }

    /// Gives buffers back that are not needed, and accounts for the others.
    fn tidy(&mut self) {
        let front = Rc::clone(&self.connection.front);
        if self.begin == self.input.len() && self.input.capacity() > 0 {
            front.give_back(std::mem::take(&mut self.input));
            self.begin = 0;
        }
        if self.output.is_empty() && self.output.own().capacity() > 0 {
            front.give_back(std::mem::take(self.output.own()));
        }
        let unread = self.input.len() - self.begin;
        self.connection.seen.input.set((unread, self.input.capacity() - self.input.len()));
        let held = self.connection.flow.borrow().held_bytes();
        let buffers = self.input.capacity() + self.output.memory_bytes() + held;
        if !self.connection.charge(buffers.saturating_sub(2 * SHARE_BYTES)) {
            self.connection.overfull();
        }
    }
}

fn may_start(connection: &Connection, step: &Step) -> bool {
    let key = |request| (KeyTag::of(request), Access::of(request));
    let flow = connection.flow.borrow();
    match step {
        Step::Done(_) => true,
        Step::One(request, _) => flow.admit(std::iter::once(key(request))),
        Step::Many(requests, ..) => flow.admit(requests.iter().map(key)),
        // Everything before it has ended when the node has answered all; its own slot is the last.
        Step::Task(_) => flow.requests() == 0,
    }
}

impl Together {
    /// The reply of a command from the replies to its requests. The first error stands for all.
    pub(crate) fn combine(self, replies: Vec<Reply>) -> Reply {
        if let Some(error) = replies.iter().find(|reply| reply.is_error()) {
            return error.clone();
        }
        match self {
            Self::List => Reply::Array(replies),
            Self::Ok => Reply::OK,
            Self::Sum => Reply::Integer(
                replies
                    .iter()
                    .map(|reply| if let Reply::Integer(one) = reply { *one } else { 0 })
                    .sum(),
            ),
        }
    }
}
