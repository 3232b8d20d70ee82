//! Requests on their way to a coordinator, and what comes back.

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::clock::{Hlc, VersionVector};
use moim_core::object::Context;
use moim_core::quorum::Level;
use moim_node::api::{Action, Expiry, Failure, Found, Inspection, Intent};
use moim_node::update::{Condition, Reply, Update};
use moim_node::{Input, Outcome, Request, RequestId};

use super::{CARTS, Event, SLOPPY, SLOPPY_CARTS, World, request_id};
use crate::history::{AUDITOR, Answer, Call, Clocks, Key, Operation, Seen, Use, Value};
use crate::workload::{Intention, View};

/// A client that has no answer after this long, in microseconds, goes on without one. Well above the time that nodes
/// allow themselves, so that it happens only with a coordinator that hangs.
const PATIENCE_US: u64 = 3_000_000;

/// Requests from here on are not in the history: they look, and nobody judges them.
const LOOKS_FROM: u64 = 1 << 40;

impl World {
    /// Lets clients make requests until the budget is spent.
    pub(crate) fn begin_work(&mut self) {
        for client in 0..self.clients.len() {
            let at_us = self.now_us + self.chance.clients.between(0, self.plan.think_us);
            self.queue.plan(at_us, Event::Client { client });
        }
    }

    /// Whether every request was made, and has ended or been given up.
    pub(crate) fn is_work_done(&self) -> bool {
        self.budget == 0 && self.pending() == 0
    }

    /// Requests under way.
    pub(crate) fn pending(&self) -> usize {
        self.clients.iter().filter(|client| client.is_waiting()).count()
    }

    /// Requests made so far.
    pub(crate) fn made(&self) -> usize {
        self.history.len()
    }

    /// A client whose pause is over makes its next request, or waits a little longer.
    pub(super) fn client(&mut self, client: usize) {
        if self.budget == 0 {
            return;
        }
        let view = View {
            up: (0..self.servers.len()).filter(|&node| self.servers[node].is_up()).collect(),
            wall_ms: (0..self.servers.len()).map(|node| self.wall_ms(node)).collect(),
        };
        if view.up.is_empty() {
            return self.rest(client);
        }
        self.budget -= 1;
        let mut intention = self.clients[client].next(&view);
        if let Call::Put { value, .. } | Call::PutIfMissing { value } = &mut intention.call {
            self.values += 1;
            *value = Value(self.values);
        }
        let operation = self.ask_for(client, intention);
        self.clients[client].waits_for(operation);
    }

    fn rest(&mut self, client: usize) {
        let pause_us = self.chance.clients.delay(self.plan.think_us, self.plan.think_us * 8);
        self.queue.plan(self.now_us + pause_us, Event::Client { client });
    }

    /// Writes a request down and sends it to its coordinator.
    pub(crate) fn ask_for(&mut self, client: usize, intention: Intention) -> u64 {
        let Intention { key, coordinator, call, context, r, w, timeout_ms } = intention;
        let id = self.history.len() as u64;
        // Whoever asks because of an answer asks after it.
        self.steps += 1;
        let above = match context {
            Some(Context::Lww(version)) => version,
            Some(Context::Siblings(_)) | None => Hlc::ZERO,
        };
        let request = Request {
            namespace: namespace(&key),
            key: Bytes::from(key.name.clone()),
            action: action(&call, context),
            r: r.map(Level::Count),
            w: w.map(Level::Count),
            timeout_ms,
        };
        self.history.push(Operation {
            id,
            client,
            key,
            coordinator,
            r: r.unwrap_or(self.plan.shape.r),
            w: w.unwrap_or(self.plan.shape.w),
            above,
            call,
            start: self.moment(),
            end: None,
            answer: Answer::None,
            clocks: Clocks::default(),
            due_us: None,
            old_copies: 0,
        });
        let at_us = self.now_us + self.chance.clients.delay(100, 2_000);
        self.queue.plan(at_us, Event::Ask { operation: id, request: Box::new(request) });
        self.queue.plan(self.now_us + PATIENCE_US, Event::GiveUp { operation: id });
        id
    }

    pub(super) fn ask(&mut self, operation: u64, request: Request) {
        let node = self.entry(operation).map_or(0, |entry| entry.coordinator);
        if self.servers[node].is_up() {
            self.hand(node, Input::Request(request_id(operation), request));
        } else {
            self.conclude(operation, Answer::Refused("nobody listens".to_owned()));
        }
    }

    pub(super) fn reply(&mut self, node: usize, request: RequestId, outcome: Outcome) {
        let expected = self.entry(request.0).is_none_or(|entry| entry.coordinator == node);
        assert!(expected, "n{node} answered a request that it was not asked");
        self.check_held(node, request.0, &outcome);
        if matches!(&outcome, Outcome::Failed(failure) if failure.is_for_want_of_room()) {
            self.count("writes refused for want of room");
        }
        let at_us = self.now_us + self.chance.clients.delay(100, 2_000);
        self.queue.plan(at_us, Event::Answer { operation: request.0, outcome: Box::new(outcome) });
    }

    pub(super) fn answer(&mut self, operation: u64, outcome: Outcome) {
        if operation >= LOOKS_FROM {
            self.looked = Some((operation, outcome));
        } else {
            self.conclude(operation, answer_of(outcome));
        }
    }

    pub(super) fn give_up(&mut self, operation: u64) {
        if self.entry(operation).is_some_and(|entry| entry.answer == Answer::None) {
            self.conclude(operation, Answer::Unknown("no answer".to_owned()));
        }
    }

    /// The clients of a node that is gone see their connections break.
    pub(super) fn abandon(&mut self, node: usize) {
        let waiting = self.history.iter().rev().take_while(|entry| {
            // Nobody waits longer than this, so older entries are all concluded.
            entry.start.at_us + PATIENCE_US >= self.now_us
        });
        let mine = |entry: &&Operation| entry.coordinator == node && entry.answer == Answer::None;
        let lost: Vec<u64> = waiting.filter(mine).map(|entry| entry.id).collect();
        for operation in lost {
            self.conclude(operation, Answer::Unknown("the node crashed".to_owned()));
        }
    }

    /// Writes the outcome down, once, and lets the client go on. Only an outcome that says what happened has an end:
    /// any other may take effect later.
    fn conclude(&mut self, operation: u64, answer: Answer) {
        let moment = self.moment();
        let Some(entry) = self.entry(operation).filter(|entry| entry.answer == Answer::None) else {
            return;
        };
        let (client, clocks) = (entry.client, self.clocks_during(entry));
        let old_copies = self.old_copies(entry);
        let at = usize::try_from(operation).unwrap_or(usize::MAX);
        let entry = &mut self.history[at];
        (entry.clocks, entry.old_copies) = (clocks, old_copies);
        entry.end = (!matches!(answer, Answer::Unknown(_))).then_some(moment);
        entry.answer = answer;
        self.trace.line(moment.at_us, format_args!("{entry}"));
        let entry = entry.clone();
        if entry.is_acknowledged_write() {
            self.cut_power();
        }
        if let Some(waiting) = self.clients.get_mut(client) {
            waiting.learns(&entry);
            self.rest(client);
        }
    }

    fn clocks_during(&self, entry: &Operation) -> Clocks {
        let (from_us, to_us) = (entry.start.at_us, self.now_us);
        let own = self.servers[entry.coordinator].clock.wall_range_ms(from_us, to_us);
        let any = self.any_clock_ms(from_us, to_us);
        Clocks { own, any, reclaimed_ms: self.reclaimed_ms }
    }

    /// The least and the most that any clock showed from `from_us` to `to_us`.
    fn any_clock_ms(&self, from_us: u64, to_us: u64) -> (u64, u64) {
        let ranges = self.servers.iter().map(|server| server.clock.wall_range_ms(from_us, to_us));
        ranges.fold((u64::MAX, 0), |(least, most), (low, high)| (least.min(low), most.max(high)))
    }

    /// Writes down when writes that never ended became due: known only when the story is over, for clocks may yet be set.
    pub(crate) fn date_unended_writes(&mut self) {
        for at in 0..self.history.len() {
            let entry = &self.history[at];
            if entry.end.is_none() && entry.expires_ms() != 0 {
                self.history[at].due_us = self.due_us(entry);
            }
        }
    }

    /// When any clock first showed the deadline of this write, from its beginning on.
    fn due_us(&self, write: &Operation) -> Option<u64> {
        let from_us = write.start.at_us;
        let is_due = |by_us| self.any_clock_ms(from_us, by_us).1 >= write.expires_ms();
        let (mut early_us, mut late_us) = (from_us, self.now_us);
        while early_us < late_us {
            let middle_us = u64::midpoint(early_us, late_us);
            if is_due(middle_us) {
                late_us = middle_us;
            } else {
                early_us = middle_us + 1;
            }
        }
        is_due(late_us).then_some(late_us)
    }

    pub(crate) fn entry(&self, operation: u64) -> Option<&Operation> {
        self.history.get(usize::try_from(operation).ok()?)
    }

    /// Asks and waits for the answer; for those who look at the cluster while clients rest.
    pub(crate) fn ask_and_wait(&mut self, intention: Intention) -> Operation {
        let operation = self.ask_for(AUDITOR, intention);
        let answered =
            |world: &Self| world.entry(operation).is_some_and(|entry| entry.answer != Answer::None);
        self.run_until(2 * PATIENCE_US, answered);
        self.history[usize::try_from(operation).unwrap_or(0)].clone()
    }

    /// Asks without leaving a trace in the history, and waits for the answer.
    fn look(&mut self, coordinator: usize, key: &Key, action: Action) -> Option<Outcome> {
        self.looks += 1;
        let look = LOOKS_FROM + self.looks;
        let namespace = namespace(key);
        let key = Bytes::from(key.name.clone());
        let request = Request { namespace, key, action, r: None, w: None, timeout_ms: None };
        self.hand(coordinator, Input::Request(request_id(look), request));
        let answered = |world: &Self| world.looked.as_ref().is_some_and(|&(id, _)| id == look);
        self.run_until(2 * PATIENCE_US, answered);
        self.looked.take().map(|(_, outcome)| outcome)
    }

    /// What each owner of a key holds, as `coordinator` hears it.
    pub(crate) fn inspect(&mut self, coordinator: usize, key: &Key) -> Option<Inspection> {
        match self.look(coordinator, key, Action::Inspect) {
            Some(Outcome::Inspected(inspection)) => Some(inspection),
            _ => None,
        }
    }

    /// All keys of the partition of `key`, as `coordinator` lists them, a few at a time.
    pub(crate) fn list(&mut self, coordinator: usize, key: &Key) -> Option<Vec<Bytes>> {
        let partition = self.servers[coordinator]
            .node
            .as_ref()?
            .record()?
            .ring
            .partition_of(key.name.as_bytes());
        let (mut keys, mut from_hash) = (Vec::new(), 0);
        loop {
            let action = Action::Keys { partition, from_hash, limit: 2 };
            let Some(Outcome::Keys(page)) = self.look(coordinator, key, action) else {
                return None;
            };
            keys.extend(page.keys);
            match page.next_hash {
                Some(next) if next > from_hash => from_hash = next,
                Some(_) => return None,
                None => return Some(keys),
            }
        }
    }
}

pub(super) fn namespace(key: &Key) -> NamespaceId {
    match (key.usage, key.sloppy) {
        (Use::Register | Use::Counter, false) => NamespaceId(0),
        (Use::Register | Use::Counter, true) => NamespaceId::of_name(SLOPPY),
        (Use::Cart, false) => NamespaceId::of_name(CARTS),
        (Use::Cart, true) => NamespaceId::of_name(SLOPPY_CARTS),
    }
}

fn action(call: &Call, context: Option<Context>) -> Action {
    match call {
        Call::Read => Action::Get,
        Call::Put { value, expires_ms, .. } => {
            let expiry = if *expires_ms == 0 { Expiry::Default } else { Expiry::At(*expires_ms) };
            Action::Put { value: value.bytes().into(), expiry, context }
        }
        Call::Delete { .. } => Action::Delete { context },
        Call::PutIfMissing { value } => Action::Update(Update::Set {
            value: value.bytes(),
            expiry: Some(Expiry::Default),
            condition: Condition::IfMissing,
        }),
        Call::Add(delta) => Action::Update(Update::Add(*delta)),
    }
}

fn answer_of(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Found(found) => found_answer(found),
        Outcome::Written { context, version } => {
            Answer::Written { version, context: vector_of(context) }
        }
        Outcome::Updated(Reply::Integer(sum)) => Answer::Sum(sum),
        Outcome::Updated(Reply::Set { applied, previous }) => {
            Answer::Set { applied, previous: previous.and_then(|bytes| Value::of_bytes(&bytes)) }
        }
        Outcome::Failed(failure) if is_definite(&failure) => {
            Answer::Refused(format!("{failure:?}"))
        }
        Outcome::Failed(failure) => Answer::Unknown(format!("{failure:?}")),
        unasked
        @ (Outcome::Updated(Reply::Value(_)) | Outcome::Inspected(_) | Outcome::Keys(_)) => {
            Answer::Unknown(format!("not what was asked: {unasked:?}"))
        }
    }
}

fn found_answer(Found { context, versions, .. }: Found) -> Answer {
    let seen = versions.into_iter().map(|version| {
        let bytes = version.value().cloned().unwrap_or_default();
        let (written, expires_ms) = (version.written, version.expires_ms);
        Seen { value: Value::of_bytes(&bytes), bytes, version: written, expires_ms }
    });
    let version = match context {
        Some(Context::Lww(written)) => written,
        Some(Context::Siblings(_)) | None => Hlc::ZERO,
    };
    Answer::Read {
        seen: seen.collect(),
        version,
        context: context.map_or_else(VersionVector::new, vector_of),
    }
}

fn vector_of(context: Context) -> VersionVector {
    match context {
        Context::Siblings(vector) => vector,
        Context::Lww(_) => VersionVector::new(),
    }
}

/// Whether a failure says that nothing was done. A write that too few replicas took may still be on some.
fn is_definite(failure: &Failure) -> bool {
    match failure {
        Failure::Unavailable { intent, .. } => *intent == Intent::Read,
        Failure::Timeout { .. } | Failure::Stopped(_) => false,
        Failure::Overloaded { .. }
        | Failure::DiskFull { .. }
        | Failure::TooLarge { .. }
        | Failure::Conflict { .. }
        | Failure::NotReady(_)
        | Failure::NoSuchNamespace
        | Failure::BadContext
        | Failure::Update(_) => true,
    }
}
