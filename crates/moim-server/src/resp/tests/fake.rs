//! A map that answers as a node would, for scripts. It fails on demand (keys that begin with `!`), its clock stands still
//! until it is told otherwise, and it is slower with writes than with reads, so that a pipeline which relies on the node
//! for its order is found out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use moim_core::clock::{Actor, Dot, Epoch, Hlc, VersionVector};
use moim_core::object::{Content, Context, Object, Siblings, Version};
use moim_core::quorum::Level;
use moim_core::ring::{Member, PartitionCount, Ring, Slot};
use moim_core::{MachineId, NamespaceId, NodeId};
use moim_node::api::{
    Action, Copy, Expiry, Failure, Found, Inspection, Intent, KeysPage, NotReady, Queue, Why,
};
use moim_node::keyspace::key_hash;
use moim_node::membership::{MemberInfo, Record};
use moim_node::namespace::{Conflict, Namespace, Namespaces};
use moim_node::update::{Condition, ExpiryCondition, Reply, Update, UpdateError};
use moim_node::views::{MemberState, PeerState, PeerView};
use moim_node::{Now, Outcome, Request};
use tokio::sync::Notify;

use crate::resp::order::Access;

/// When the fake's clock begins, in Unix milliseconds.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// Few partitions make scans of the whole store quick.
const PARTITIONS: u64 = 256;

type Waiting = (Request, Box<dyn FnOnce(Outcome)>);

/// The fake.
pub(crate) struct FakeNode {
    wall_ms: Cell<u64>,
    state: RefCell<State>,
    queue: RefCell<VecDeque<Waiting>>,
    late: RefCell<VecDeque<Waiting>>,
    work: Notify,
    record: RefCell<Rc<Record>>,
    namespaces: Namespaces,
    peers: RefCell<Vec<PeerState>>,
    ready: Cell<bool>,
}

impl std::fmt::Debug for FakeNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeNode")
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(NamespaceId, Bytes), Object>,
    writes: u64,
}

impl FakeNode {
    /// Node 1 of three, with the namespaces `0` to `15`, `carts` (siblings) and `short` (a default expiry).
    pub(crate) fn new() -> Rc<Self> {
        let mut numbered = Namespace::new("0");
        numbered.max_pair_bytes = 1 << 20;
        let mut carts = Namespace::new("carts");
        carts.conflict = Conflict::Siblings;
        let mut short = Namespace::new("short");
        short.ttl_ms = Some(60_000);
        Rc::new(Self {
            wall_ms: Cell::new(BEGIN_MS),
            state: RefCell::default(),
            queue: RefCell::default(),
            late: RefCell::default(),
            work: Notify::new(),
            record: RefCell::new(Rc::new(record(1))),
            namespaces: Namespaces::new(&numbered, vec![carts, short]).unwrap(),
            peers: RefCell::new(vec![PeerState::Up; 2]),
            ready: Cell::new(true),
        })
    }

    /// Answers requests for ever: reads in a turn, writes in the one after.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            self.work.notified().await;
            let late = self.late.take();
            let now = self.queue.take();
            for (request, reply) in now {
                if Access::of(&request) == Access::Read {
                    reply(self.answer(&request));
                } else {
                    self.late.borrow_mut().push_back((request, reply));
                    self.work.notify_one();
                }
            }
            for (request, reply) in late {
                reply(self.answer(&request));
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn submit(&self, request: Request, reply: Box<dyn FnOnce(Outcome)>) {
        self.queue.borrow_mut().push_back((request, reply));
        self.work.notify_one();
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: self.wall_ms.get(), wall_ms: self.wall_ms.get() }
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.wall_ms.set(self.wall_ms.get() + ms);
    }

    pub(crate) fn own() -> MemberInfo {
        member(1)
    }

    pub(crate) fn record<T>(&self, look: impl FnOnce(Option<&Record>) -> T) -> T {
        let record = Rc::clone(&self.record.borrow());
        if self.ready.get() { look(Some(&record)) } else { look(None) }
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub(crate) fn peers(&self) -> Vec<PeerView> {
        let states = self.peers.borrow();
        let peers = (2..).zip(states.iter());
        peers
            .map(|(number, state)| PeerView {
                info: member(number),
                state: *state,
                since_mono_ms: 0,
                tasks: 0,
                hints: 0,
            })
            .collect()
    }

    /// Peers that are not connected count as down.
    pub(crate) fn agreed(&self, node: NodeId) -> MemberState {
        let peers = self.peers();
        let peer = peers.iter().find(|peer| peer.info.member.node == node);
        match peer.map(|peer| peer.state) {
            Some(PeerState::Unreachable) => MemberState::Down,
            Some(PeerState::Silent | PeerState::Skipped) => MemberState::Suspect,
            Some(PeerState::Up) | None => MemberState::Alive,
        }
    }

    pub(crate) fn present(&self) -> Vec<NodeId> {
        let peers = self.peers();
        let peers = peers.iter().map(|peer| peer.info.member.node);
        let peers = peers.filter(|&node| self.agreed(node) != MemberState::Down);
        std::iter::once(Self::own().member.node).chain(peers).collect()
    }

    pub(crate) fn readiness(&self) -> Result<(), Failure> {
        let founding = Failure::NotReady(NotReady::Founding { met: 1, expected: 3 });
        if self.ready.get() { Ok(()) } else { Err(founding) }
    }

    /// Makes a peer (2 or 3) look so from here.
    pub(crate) fn set_peer(&self, number: usize, state: PeerState) {
        self.peers.borrow_mut()[number - 2] = state;
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
    }

    /// Adopts the same ring under a new version.
    pub(crate) fn set_ring_version(&self, version: u64) {
        *self.record.borrow_mut() = Rc::new(record(version));
    }

    fn answer(&self, request: &Request) -> Outcome {
        if let Some(failure) = failure_of(request) {
            return Outcome::Failed(failure);
        }
        let Some(namespace) = self.namespaces.get(request.namespace) else {
            return Outcome::Failed(Failure::NoSuchNamespace);
        };
        let state = &mut *self.state.borrow_mut();
        let mut work = Work { state, namespace, request, wall_ms: self.wall_ms.get() };
        work.answer(&self.record.borrow())
    }
}

/// One request at work.
struct Work<'a> {
    state: &'a mut State,
    namespace: &'a Namespace,
    request: &'a Request,
    wall_ms: u64,
}

impl Work<'_> {
    fn answer(&mut self, record: &Record) -> Outcome {
        let answered = match &self.request.action {
            Action::Get => Ok(Outcome::Found(self.found())),
            Action::Put { value, expiry, context } => {
                self.put(value.clone().into_value(), *expiry, context.as_ref())
            }
            Action::Delete { context } => self.delete(context.as_ref()),
            Action::Update(update) => self.update(update).map(Outcome::Updated),
            Action::Inspect => Ok(self.inspect(record)),
            Action::Keys { .. } => Ok(Outcome::Keys(self.keys(record))),
        };
        answered.unwrap_or_else(Outcome::Failed)
    }

    fn place(&self) -> (NamespaceId, Bytes) {
        (self.request.namespace, self.request.key.clone())
    }

    fn found(&self) -> Found {
        let Some(object) = self.state.objects.get(&self.place()) else { return Found::default() };
        let versions = object.live(self.wall_ms).cloned().collect();
        Found { context: Some(object.context()), versions, from_disk: false }
    }

    /// A fresh version.
    fn version(&mut self, content: Content, expires_ms: u64) -> Version {
        self.state.writes += 1;
        let actor = Actor { node: NodeId(1), epoch: Epoch { run: 7, serial: 0 } };
        Version {
            written: Hlc::from_u64(Hlc::from_millis(self.wall_ms).as_u64() + self.state.writes),
            dot: Dot { actor, counter: self.state.writes },
            created_ms: self.wall_ms,
            expires_ms,
            content,
        }
    }

    fn put(
        &mut self,
        value: Bytes,
        expiry: Expiry,
        context: Option<&Context>,
    ) -> Result<Outcome, Failure> {
        let pair_bytes = (self.request.key.len() + value.len()) as u64;
        let limit_bytes = self.namespace.max_pair_bytes;
        if pair_bytes > limit_bytes {
            return Err(Failure::TooLarge { pair_bytes, limit_bytes });
        }
        let expires_ms = match expiry {
            Expiry::Never => 0,
            Expiry::At(at_ms) if at_ms <= self.wall_ms => return self.delete(context),
            Expiry::At(at_ms) => at_ms,
            Expiry::Default => self.namespace.ttl_ms.map_or(0, |ttl_ms| self.wall_ms + ttl_ms),
        };
        self.write(Content::Value(value), expires_ms, context)
    }

    fn delete(&mut self, context: Option<&Context>) -> Result<Outcome, Failure> {
        let seen = self.found().context;
        self.write(Content::Deleted, 0, context.or(seen.as_ref()))
    }

    fn write(
        &mut self,
        content: Content,
        expires_ms: u64,
        context: Option<&Context>,
    ) -> Result<Outcome, Failure> {
        let version = self.version(content, expires_ms);
        let written = version.written;
        let object = match self.namespace.conflict {
            Conflict::Lww => Object::Lww(version),
            Conflict::Siblings => Object::Siblings(self.with_sibling(version, context)?),
        };
        let context = object.context();
        self.state.objects.insert(self.place(), object);
        Ok(Outcome::Written { context, version: written })
    }

    fn with_sibling(
        &self,
        version: Version,
        context: Option<&Context>,
    ) -> Result<Siblings, Failure> {
        let seen = match context {
            None => VersionVector::new(),
            Some(Context::Siblings(seen)) => seen.clone(),
            Some(Context::Lww(_)) => return Err(Failure::BadContext),
        };
        let mut siblings = match self.state.objects.get(&self.place()) {
            Some(Object::Siblings(siblings)) => siblings.clone(),
            _ => Siblings::new(),
        };
        match version.content {
            Content::Value(_) => siblings.put(version, &seen),
            _ => siblings.delete(version.dot, version.written, &seen),
        }
        Ok(siblings)
    }

    fn update(&mut self, update: &Update) -> Result<Reply, Failure> {
        let found = self.found();
        let count = found.versions.len();
        if count > 1 {
            return Err(Failure::Conflict { siblings: u32::try_from(count).unwrap() });
        }
        let old = found.versions.into_iter().next();
        let value = old.as_ref().and_then(Version::value).cloned();
        let expires_ms = old.as_ref().map_or(0, |version| version.expires_ms);
        let kept = if expires_ms == 0 { Expiry::Never } else { Expiry::At(expires_ms) };
        let (reply, change) = apply(update, value, expires_ms, kept).map_err(Failure::Update)?;
        let context = found.context;
        match change {
            Change::None => {}
            Change::Put(value, expiry) => drop(self.put(value, expiry, context.as_ref())?),
            Change::Delete => drop(self.delete(context.as_ref())?),
        }
        Ok(reply)
    }

    fn inspect(&self, record: &Record) -> Outcome {
        let partition = record.ring.partition_of(&self.request.key);
        let held = match self.state.objects.get(&self.place()) {
            None => Copy::Missing,
            Some(object) => {
                let emptied = object.versions().iter().map(|version| Version {
                    content: match version.content {
                        Content::Value(_) => Content::Value(Bytes::new()),
                        ref other => other.clone(),
                    },
                    ..version.clone()
                });
                Copy::Held(object.context(), emptied.collect())
            }
        };
        let owners = record.ring.owners_of(partition, 3);
        let copy = |owner: NodeId| match owner {
            NodeId(3) => (owner, Copy::Unknown(Why::Unreachable)),
            _ => (owner, held.clone()),
        };
        Outcome::Inspected(Inspection {
            slot: Slot::of_key(&self.request.key).get(),
            partition: partition.get(),
            copies: owners.map(copy).collect(),
        })
    }

    fn keys(&self, record: &Record) -> KeysPage {
        let Action::Keys { partition, from_hash, limit } = self.request.action else {
            unreachable!()
        };
        let held = self.state.objects.iter().filter(|((namespace, key), object)| {
            *namespace == self.request.namespace
                && record.ring.partition_of(key) == partition
                && object.live(self.wall_ms).next().is_some()
        });
        let mut keys: Vec<_> = held.map(|((_, key), _)| (key_hash(key), key.clone())).collect();
        keys.retain(|(hash, _)| *hash >= from_hash);
        keys.sort();
        let next_hash = keys.get(usize::from(limit)).map(|(hash, _)| *hash);
        keys.truncate(limit.into());
        KeysPage { keys: keys.into_iter().map(|(_, key)| key).collect(), next_hash }
    }
}

enum Change {
    None,
    Put(Bytes, Expiry),
    Delete,
}

fn apply(
    update: &Update,
    old: Option<Bytes>,
    expires_ms: u64,
    kept: Expiry,
) -> Result<(Reply, Change), UpdateError> {
    let number = |value: i64| Reply::Integer(value);
    let length = |bytes: &[u8]| Reply::Integer(i64::try_from(bytes.len()).unwrap());
    Ok(match update {
        Update::Set { value, expiry, condition } => {
            let applied = match condition {
                Condition::Always => true,
                Condition::IfMissing => old.is_none(),
                Condition::IfPresent => old.is_some(),
            };
            let put = Change::Put(value.clone(), expiry.unwrap_or(kept));
            let change = if applied { put } else { Change::None };
            (Reply::Set { applied, previous: old }, change)
        }
        Update::Delete if old.is_some() => (Reply::Value(old), Change::Delete),
        Update::Delete => (Reply::Value(None), Change::None),
        Update::DeleteIfEqual(expected) if old.as_ref() == Some(expected) => {
            (number(1), Change::Delete)
        }
        Update::DeleteIfEqual(_) => (number(0), Change::None),
        Update::Append(more) => {
            let sum = Bytes::from([old.unwrap_or_default(), more.clone()].concat());
            (length(&sum), Change::Put(sum, kept))
        }
        Update::SetRange { offset, patch } => {
            let mut bytes = BytesMut::from(&*old.unwrap_or_default());
            let offset = *offset as usize;
            bytes.resize(bytes.len().max(offset + patch.len()), 0);
            bytes[offset..offset + patch.len()].copy_from_slice(patch);
            (length(&bytes), Change::Put(bytes.freeze(), kept))
        }
        Update::Add(more) => {
            let old = old.map_or(Some(0), |old| crate::resp::number::integer(&old));
            let sum = old.ok_or(UpdateError::NotAnInteger)?.checked_add(*more);
            let sum = sum.ok_or(UpdateError::Overflow)?;
            (number(sum), Change::Put(sum.to_string().into(), kept))
        }
        Update::AddFloat(bits) => {
            let old = old.map_or(Some(0.0), |old| crate::resp::number::float(&old));
            let sum = old.ok_or(UpdateError::NotAFloat)? + f64::from_bits(*bits);
            let sum = Some(sum).filter(|sum| sum.is_finite()).ok_or(UpdateError::NotFinite)?;
            let sum = Bytes::from(sum.to_string());
            (Reply::Value(Some(sum.clone())), Change::Put(sum, kept))
        }
        Update::Expire { expiry, condition } => match old {
            Some(value) if due(*expiry, *condition, expires_ms) => {
                (number(1), Change::Put(value, *expiry))
            }
            _ => (number(0), Change::None),
        },
        Update::GetAndExpire(expiry) => match old {
            Some(value) => (Reply::Value(Some(value.clone())), Change::Put(value, *expiry)),
            None => (Reply::Value(None), Change::None),
        },
        Update::ExpireIfEqual { expected, expiry } => match old {
            Some(value) if value == expected => (number(1), Change::Put(value, *expiry)),
            _ => (number(0), Change::None),
        },
    })
}

fn due(expiry: Expiry, condition: ExpiryCondition, old_ms: u64) -> bool {
    let (old, new) = match (old_ms, expiry) {
        (0, Expiry::Never) => return false,
        (0, Expiry::At(new)) => (u64::MAX, new),
        (old, Expiry::At(new)) => (old, new),
        (old, _) => (old, u64::MAX),
    };
    match condition {
        ExpiryCondition::Always => true,
        ExpiryCondition::IfNone => old_ms == 0,
        ExpiryCondition::IfSome => old_ms != 0,
        ExpiryCondition::IfLater => new > old,
        ExpiryCondition::IfEarlier => new < old,
    }
}

fn failure_of(request: &Request) -> Option<Failure> {
    let intent = if request.action == Action::Get { Intent::Read } else { Intent::Write };
    let level = match intent {
        Intent::Read => request.r,
        Intent::Write => request.w,
    };
    let missing = vec![(NodeId(2), Why::Unreachable), (NodeId(3), Why::NoAnswer(1_000))];
    Some(match &*request.key {
        b"!unavailable" => {
            let level = level.unwrap_or(Level::Quorum);
            Failure::Unavailable { intent, level, needed: level.resolve(3), got: 1, missing }
        }
        b"!timeout" => Failure::Timeout { node: NodeId(2), waited_ms: 1_000 },
        b"!overloaded" => Failure::Overloaded { queue: Queue::Operations, limit: 100_000 },
        b"!huge" => Failure::TooLarge { pair_bytes: 17 << 20, limit_bytes: 10_240 },
        b"!founding" => Failure::NotReady(NotReady::Founding { met: 1, expected: 3 }),
        b"!stopping" => Failure::NotReady(NotReady::Stopping),
        b"!stopped" => Failure::Stopped("no space left on device".to_owned()),
        b"!namespace" => Failure::NoSuchNamespace,
        _ => return None,
    })
}

fn member(number: u64) -> MemberInfo {
    let address = |base: u64| format!("127.0.0.1:{}", base + number);
    MemberInfo {
        member: Member {
            node: NodeId(number),
            machine: MachineId(number),
            zone: format!("z{number}"),
            dc: "dc1".to_owned(),
            weight: 1,
        },
        peer_address: address(9_000),
        redis_address: address(7_000),
        cluster_address: address(7_100),
        http_address: address(8_000),
    }
}

fn record(version: u64) -> Record {
    let members: Vec<_> = (1..=3).map(member).collect();
    let placed = members.iter().map(|info| info.member.clone()).collect();
    let partitions = PartitionCount::new(PARTITIONS).unwrap();
    let first = Ring::found(partitions, placed, 3).unwrap();
    let (placed, owners) = (first.members().to_vec(), first.owners().to_vec());
    let ring = Ring::from_parts(version, partitions, placed, owners).unwrap();
    Record { cluster: 1, ring, members }
}
