//! What clients do: each makes one request at a time, thinks, and makes the next.
//!
//! Keys are few, so that requests meet; every value is written once, so that a reader knows whose it is.

mod cart;
mod counter;
mod register;
mod sequence;
mod shopper;

use moim_core::object::Context;

use crate::history::{Call, Key, Operation, Use, Value};
use crate::plan::Plan;
use crate::profile::Profile;
use crate::random::Random;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    habit: Habit,
    random: Random,
    /// Its keys live in a namespace where others stand in for owners.
    sloppy: bool,
    waits_for: Option<u64>,
    /// Copies, for requests that ask for all.
    n: u8,
    /// Requests of a thousand that ask for levels of their own.
    own_levels: u32,
    /// Requests of a thousand that want their answer sooner than usual.
    own_timeouts: u32,
}

/// What a client is after.
#[derive(Debug)]
enum Habit {
    Register(register::Register),
    Session(register::Session),
    Cart(cart::Cart),
    Sequence(sequence::Sequence),
    Counter(counter::Counter),
    Shopper(shopper::Shopper),
}

/// What a client knows of the cluster.
#[derive(Debug)]
pub(crate) struct View {
    /// Nodes that run; one that hangs looks no different.
    pub(crate) up: Vec<usize>,
    /// What each node's clock shows, in Unix milliseconds: clients take theirs from the server that they talk to.
    pub(crate) wall_ms: Vec<u64>,
}

/// A request about to be made. A value in it is a placeholder: whoever makes the request puts a new one in.
#[derive(Clone, Debug)]
pub(crate) struct Intention {
    pub(crate) key: Key,
    pub(crate) coordinator: usize,
    pub(crate) call: Call,
    pub(crate) context: Option<Context>,
    pub(crate) r: Option<u8>,
    pub(crate) w: Option<u8>,
    pub(crate) timeout_ms: Option<u32>,
}

impl Intention {
    /// At the namespace's levels, without a context.
    pub(crate) fn new(key: Key, coordinator: usize, call: Call) -> Self {
        Self { key, coordinator, call, context: None, r: None, w: None, timeout_ms: None }
    }
}

/// Where the value of a put will be.
const PLACEHOLDER: Value = Value(0);

impl Client {
    /// The clients of a run: with six or more in a kind of namespace, each habit is there.
    pub(crate) fn crew(plan: &Plan, random: &Random) -> Vec<Self> {
        let of_space = |&sloppy: &bool| {
            (0..plan.clients).map(move |index| Self::new(plan, random, (index, sloppy)))
        };
        plan.spaces.iter().flat_map(of_space).collect()
    }

    /// Somebody with a cart of its own, or one of several with the same.
    pub(crate) fn shopper(plan: &Plan, random: &Random, (index, cart): (usize, usize)) -> Self {
        let habit = Habit::Shopper(shopper::Shopper::new(cart));
        let random = random.fork(&format!("shopper {index}"));
        let sloppy = plan.spaces.contains(&true);
        Self {
            habit,
            random,
            sloppy,
            waits_for: None,
            n: plan.shape.n,
            own_levels: 0,
            own_timeouts: 0,
        }
    }

    /// The name of a shopper's cart.
    pub(crate) fn cart(at: usize) -> String {
        cart::key(at)
    }

    fn new(plan: &Plan, random: &Random, (index, sloppy): (usize, bool)) -> Self {
        let habit = match index % 9 {
            0 => Habit::Register(register::Register::new(plan.registers)),
            1 | 2 | 8 => Habit::Cart(cart::Cart::new(plan.carts)),
            3 => Habit::Sequence(sequence::Sequence::default()),
            4 => Habit::Session(register::Session),
            5 | 7 => Habit::Counter(counter::Counter),
            // A second one on a single key, so that requests for it overlap.
            _ => Habit::Register(register::Register::new(1)),
        };
        let space = if sloppy { "sloppy client" } else { "client" };
        let random = random.fork(&format!("{space} {index}"));
        let (n, own_levels) = (plan.shape.n, plan.shape.own_levels);
        let own_timeouts = if plan.profile == Profile::Calm { 0 } else { 50 };
        Self { habit, random, sloppy, waits_for: None, n, own_levels, own_timeouts }
    }

    /// Every key that clients of this plan use.
    pub(crate) fn keys(plan: &Plan) -> Vec<Key> {
        let mut names: Vec<_> =
            (0..plan.registers).map(|at| (Use::Register, register::key(at))).collect();
        names.extend((0..plan.carts).map(|at| (Use::Cart, cart::key(at))));
        names.extend((0..sequence::KEYS).map(|at| (Use::Register, sequence::key(at))));
        names.extend((0..register::SESSIONS).map(|at| (Use::Register, register::session_key(at))));
        names.push((Use::Counter, counter::KEY.to_owned()));
        let in_space = |&sloppy: &bool| {
            let key = move |(usage, name): &(Use, String)| Key {
                usage: *usage,
                sloppy,
                name: name.clone(),
            };
            names.iter().map(key)
        };
        plan.spaces.iter().flat_map(in_space).collect()
    }

    /// Whether it has a request under way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits_for.is_some()
    }

    /// Its request is under way.
    pub(crate) fn waits_for(&mut self, operation: u64) {
        assert!(self.waits_for.is_none(), "a client makes one request at a time");
        self.waits_for = Some(operation);
    }

    /// What it asks next.
    pub(crate) fn next(&mut self, view: &View) -> Intention {
        let mut intention = self.habitual(view);
        intention.key.sloppy = self.sloppy;
        if matches!(self.habit, Habit::Sequence(_) | Habit::Counter(_) | Habit::Shopper(_)) {
            return intention;
        }
        let random = &mut self.random;
        if random.chance(self.own_levels) {
            let level = *random.pick(&[1, self.n]);
            match intention.call {
                Call::Read => intention.r = Some(level),
                _ => intention.w = Some(level),
            }
        }
        if random.chance(self.own_timeouts) {
            intention.timeout_ms = Some(*random.pick(&[20, 100, 400]));
        }
        intention
    }

    fn habitual(&mut self, view: &View) -> Intention {
        let random = &mut self.random;
        match &mut self.habit {
            Habit::Register(register) => register.next(view, random),
            Habit::Session(session) => session.next(view, random),
            Habit::Cart(cart) => cart.next(view, random),
            Habit::Sequence(sequence) => sequence.next(view, random),
            Habit::Shopper(shopper) => shopper.next(view, random),
            Habit::Counter(_) => counter::Counter::next(view, random),
        }
    }

    /// Its request has ended.
    pub(crate) fn learns(&mut self, operation: &Operation) {
        assert_eq!(self.waits_for.take(), Some(operation.id), "an answer to somebody else");
        match &mut self.habit {
            Habit::Cart(cart) => cart.learns(operation),
            Habit::Sequence(sequence) => sequence.learns(operation),
            Habit::Register(register) => register.learns(operation),
            Habit::Shopper(shopper) => shopper.learns(operation),
            Habit::Session(_) | Habit::Counter(_) => {}
        }
    }
}
