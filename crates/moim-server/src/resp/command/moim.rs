//! Commands that Redis does not have: contexts and siblings, levels, and a look at the ring.

use moim_core::object::Context;
use moim_core::quorum::Level;
use moim_node::Outcome;
use moim_node::api::{Action, Copy, Expiry, Inspection};
use moim_node::views::{MemberState, PeerState, PeerView};

use super::super::answer::{Shape, hybrid_time, mismatch};
use super::super::encode::Reply;
use super::super::failure;
use super::super::store::Store;
use super::strings::invalid_expiry;
use super::{Call, Decided, Step, cluster, syntax_error, wrong_arity};
use crate::context_text;
use crate::recycled;

/// What stands behind the key and value of `MOIM.GET`, `MOIM.PUT` and `MOIM.DEL`.
#[derive(Default)]
struct Options {
    context: Option<Context>,
    level: Option<Level>,
    expiry: Option<Expiry>,
}

impl Options {
    /// From this argument on; `names` says which options the command has.
    fn parse(call: &Call<'_>, from: usize, names: &[&str]) -> Result<Self, Reply> {
        let mut options = Self::default();
        for at in (from..call.len()).step_by(2) {
            let name = call.get(at).to_ascii_uppercase();
            let known = names.iter().find(|known| known.as_bytes() == name);
            let (Some(name), true) = (known, at + 1 < call.len()) else {
                return Err(syntax_error());
            };
            match *name {
                "CONTEXT" => options.context = Some(context(call, at + 1)?),
                "PX" => options.expiry = Some(expiry(call, at + 1)?),
                _ => options.level = Some(level(&call.text(at + 1))?),
            }
        }
        Ok(options)
    }
}

fn context(call: &Call<'_>, index: usize) -> Result<Context, Reply> {
    let namespace = call.connection.session.borrow().namespace;
    let context = context_text::decode(namespace, call.get(1), &call.text(index));
    context.map_err(|why| Reply::error(format!("ERR {why}")))
}

fn expiry(call: &Call<'_>, index: usize) -> Result<Expiry, Reply> {
    let ms = u64::try_from(call.integer(index)?).ok().filter(|ms| *ms > 0);
    let now_ms = call.front().store.now().wall_ms;
    let at_ms =
        ms.and_then(|ms| now_ms.checked_add(ms)).filter(|at_ms| i64::try_from(*at_ms).is_ok());
    at_ms.map(Expiry::At).ok_or_else(|| invalid_expiry(call))
}

fn level(text: &str) -> Result<Level, Reply> {
    text.parse::<Level>().map_err(|error| Reply::error(format!("ERR {error}")))
}

pub(super) fn get(call: &Call<'_>) -> Decided {
    let options = Options::parse(call, 2, &["R"])?;
    let mut request = call.request(call.get(1), Action::Get);
    request.r = options.level.or(request.r);
    let key = request.key.clone();
    Ok(Step::One(request, Shape::Siblings(key)))
}

pub(super) fn put(call: &Call<'_>) -> Decided {
    let options = Options::parse(call, 3, &["CONTEXT", "W", "PX"])?;
    let action = Action::Put {
        value: recycled::draft(call.get(2)),
        expiry: options.expiry.unwrap_or(Expiry::Default),
        context: options.context,
    };
    Ok(write(call, action, options.level))
}

pub(super) fn del(call: &Call<'_>) -> Decided {
    let options = Options::parse(call, 2, &["CONTEXT", "W"])?;
    Ok(write(call, Action::Delete { context: options.context }, options.level))
}

fn write(call: &Call<'_>, action: Action, level: Option<Level>) -> Step {
    let mut request = call.request(call.get(1), action);
    request.w = level.or(request.w);
    let key = request.key.clone();
    Step::One(request, Shape::Context(key))
}

/// `MOIM.LEVEL [READ level] [WRITE level]`, where `DEFAULT` goes back to the namespace's. Without arguments, shows both.
pub(super) fn level_command(call: &Call<'_>) -> Decided {
    if call.len() == 1 {
        return Ok(Step::Done(levels(call)));
    }
    let (mut read, mut write) = {
        let session = call.connection.session.borrow();
        (session.read, session.write)
    };
    for at in (1..call.len()).step_by(2) {
        let chosen = match call.text(at + 1) {
            _ if at + 1 == call.len() => return Err(syntax_error()),
            word if word.eq_ignore_ascii_case("DEFAULT") => None,
            word => Some(level(&word)?),
        };
        match () {
            () if call.is(at, "READ") => read = chosen,
            () if call.is(at, "WRITE") => write = chosen,
            () => return Err(syntax_error()),
        }
    }
    let mut session = call.connection.session.borrow_mut();
    (session.read, session.write) = (read, write);
    Ok(Step::Done(Reply::OK))
}

fn levels(call: &Call<'_>) -> Reply {
    let session = call.connection.session.borrow();
    let store = &call.front().store;
    let defaults = store.namespaces(|namespaces| {
        namespaces.get(session.namespace).map(|namespace| (namespace.r, namespace.w))
    });
    let shown = |own: Option<Level>, default: Option<Level>| {
        own.or(default).map_or(Reply::Null, |level| Reply::text(level.to_string()))
    };
    Reply::map([
        ("read", shown(session.read, defaults.map(|(read, _)| read))),
        ("write", shown(session.write, defaults.map(|(_, write)| write))),
    ])
}

pub(super) fn ring(call: &Call<'_>) -> Decided {
    match call.len() {
        1 => ring_summary(call),
        2 => ring_of_key(call),
        _ => Err(wrong_arity(call.command)),
    }
}

fn ring_summary(call: &Call<'_>) -> Decided {
    let store = &call.front().store;
    let summary = store.record(|record| {
        let record = record?;
        let ring = &record.ring;
        let members = record.members.iter().map(|info| {
            let placed = ring.members().iter().position(|member| member.node == info.member.node);
            let own =
                ring.owners().iter().filter(|owner| Some(usize::from(**owner)) == placed).count();
            Reply::map([
                ("node", Reply::text(info.member.node.to_string())),
                ("address", Reply::text(info.redis_address.clone())),
                ("zone", Reply::text(info.member.zone.clone())),
                ("dc", Reply::text(info.member.dc.clone())),
                ("weight", Reply::count(info.member.weight)),
                ("partitions", Reply::count(own)),
            ])
        });
        Some(Reply::map([
            ("version", Reply::count(ring.version())),
            ("partitions", Reply::count(ring.partitions().get())),
            ("machines", Reply::count(ring.machines())),
            ("members", Reply::Array(members.collect())),
        ]))
    });
    summary.map(Step::Done).ok_or_else(|| cluster::not_ready(store))
}

/// Where a key lies, and what each of its replicas holds.
fn ring_of_key(call: &Call<'_>) -> Decided {
    let request = call.request(call.get(1), Action::Inspect);
    let front = call.front().clone();
    Ok(Step::Task(Box::pin(async move {
        let namespace = request.namespace;
        match front.store.request(request).await {
            Outcome::Inspected(inspection) => inspected(&inspection, &front.store),
            Outcome::Failed(failure) => failure::reply(&failure, namespace, &front.store),
            _ => mismatch(),
        }
    })))
}

fn inspected(inspection: &Inspection, store: &Store) -> Reply {
    let copies = inspection.copies.iter().map(|(node, copy)| {
        let address = store.record(|record| {
            let info = record.and_then(|record| record.member(*node));
            info.map(|info| info.redis_address.clone()).unwrap_or_default()
        });
        let (state, versions) = match copy {
            Copy::Missing => ("missing".to_owned(), Vec::new()),
            Copy::Unknown(why) => (format!("unknown: {why}"), Vec::new()),
            Copy::Held(context, versions) => {
                (held(context), versions.iter().map(version).collect())
            }
        };
        Reply::map([
            ("node", Reply::text(node.to_string())),
            ("address", Reply::text(address)),
            ("state", Reply::text(state)),
            ("versions", Reply::Array(versions)),
        ])
    });
    Reply::map([
        ("slot", Reply::count(inspection.slot)),
        ("partition", Reply::count(inspection.partition)),
        ("copies", Reply::Array(copies.collect())),
    ])
}

fn held(context: &Context) -> String {
    match context {
        Context::Lww(written) => format!("held: {}", written.as_u64()),
        Context::Siblings(vector) => format!("held: {} actors", vector.len()),
    }
}

fn version(version: &moim_core::object::Version) -> Reply {
    let millis = |ms: u64| Reply::Integer(i64::try_from(ms).unwrap_or(i64::MAX));
    Reply::map([
        ("version", hybrid_time(version.written)),
        ("dot", Reply::text(version.dot.to_string())),
        ("created_ms", millis(version.created_ms)),
        (
            "expires_ms",
            if version.expires_ms == 0 { Reply::Integer(-1) } else { millis(version.expires_ms) },
        ),
        ("state", Reply::word(content(version))),
    ])
}

fn content(version: &moim_core::object::Version) -> &'static str {
    match version.content {
        moim_core::object::Content::Value(_) => "value",
        moim_core::object::Content::Deleted => "deleted",
        moim_core::object::Content::Dropped => "expired",
    }
}

pub(super) fn nodes(call: &Call<'_>) -> Decided {
    let store = &call.front().store;
    let own = store.own();
    let node = |info: &moim_node::membership::MemberInfo,
                state: &'static str,
                (tasks, hints): (u64, u64)| {
        Reply::map([
            ("node", Reply::text(info.member.node.to_string())),
            ("state", Reply::word(state)),
            ("agreed", Reply::word(agreed(store.agreed(info.member.node)))),
            ("redis", Reply::text(info.redis_address.clone())),
            ("cluster", Reply::text(info.cluster_address.clone())),
            ("http", Reply::text(info.http_address.clone())),
            ("peer", Reply::text(info.peer_address.clone())),
            ("zone", Reply::text(info.member.zone.clone())),
            ("dc", Reply::text(info.member.dc.clone())),
            ("tasks", Reply::count(tasks)),
            ("hints", Reply::count(hints)),
        ])
    };
    let peer = |peer: &PeerView| node(&peer.info, state(peer.state), (peer.tasks, peer.hints));
    let peers = store.peers();
    let all = std::iter::once(node(&own, "self", (0, 0))).chain(peers.iter().map(peer));
    Ok(Step::Done(Reply::Array(all.collect())))
}

fn agreed(state: MemberState) -> &'static str {
    match state {
        MemberState::Unknown => "unknown",
        MemberState::Alive => "alive",
        MemberState::Stopping => "stopping",
        MemberState::Suspect => "suspect",
        MemberState::Down => "down",
    }
}

fn state(state: PeerState) -> &'static str {
    match state {
        PeerState::Up => "up",
        PeerState::Silent => "silent",
        PeerState::Skipped => "skipped",
        PeerState::Unreachable => "unreachable",
    }
}

pub(super) fn info(call: &Call<'_>) -> Decided {
    let store = &call.front().store;
    let namespace = call.connection.session.borrow().namespace;
    let policy = store.namespaces(|namespaces| namespaces.get(namespace).cloned());
    let machines = store.record(|record| record.map(|record| record.ring.machines()));
    let copies =
        store.record(|record| Some((record?.ring.copies(policy.as_ref()?.n), policy.as_ref()?.n)));
    let text = |text: String| Reply::text(text);
    let ready = match store.readiness() {
        Ok(()) => Reply::word("yes"),
        Err(why) => failure::reply(&why, namespace, store),
    };
    let ready = if let Reply::Error(why) = ready { text(why.into_owned()) } else { ready };
    let millis = |ms: Option<u64>| ms.map_or(Reply::Null, Reply::count);
    let mut facts = vec![
        (Reply::word("moim_version"), Reply::word(env!("CARGO_PKG_VERSION"))),
        (Reply::word("node"), text(store.own().member.node.to_string())),
        (Reply::word("ready"), ready),
        (Reply::word("ring_version"), Reply::count(store.ring_version())),
        (Reply::word("machines"), machines.map_or(Reply::Null, Reply::count)),
    ];
    if let Some(policy) = policy {
        let shown =
            copies.map_or_else(|| "none".to_owned(), |(copies, n)| format!("{copies} of {n}"));
        facts.extend([
            (Reply::word("namespace"), text(policy.name)),
            (Reply::word("conflict"), text(policy.conflict.to_string())),
            (Reply::word("sloppy"), Reply::word(if policy.sloppy { "true" } else { "false" })),
            (Reply::word("copies"), text(shown)),
            (Reply::word("r"), text(policy.r.to_string())),
            (Reply::word("w"), text(policy.w.to_string())),
            (Reply::word("ttl_ms"), millis(policy.ttl_ms)),
            (Reply::word("max_ttl_ms"), millis(policy.max_ttl_ms)),
            (Reply::word("max_pair_bytes"), Reply::count(policy.max_pair_bytes)),
        ]);
    }
    Ok(Step::Done(Reply::Map(facts)))
}
