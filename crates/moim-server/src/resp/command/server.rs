//! Small commands about the node, answered honestly where Redis's question has no meaning here.

use moim_node::namespace::Namespace;

use super::super::encode::Reply;
use super::super::figures::{CommandFigures, LATENCY_BOUNDS_MICROS};
use super::super::number;
use super::{Call, Decided, Step, syntax_error, table};

pub(super) fn ok(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::OK))
}

pub(super) fn none(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::Integer(0)))
}

pub(super) fn nothing(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::Array(Vec::new())))
}

pub(super) fn time(call: &Call<'_>) -> Decided {
    let wall_ms = call.front().store.now().wall_ms;
    let micros = wall_ms % 1_000 * 1_000;
    let parts = [(wall_ms / 1_000).to_string(), micros.to_string()];
    Ok(Step::Done(Reply::Array(parts.into_iter().map(Reply::text).collect())))
}

pub(super) fn role(_call: &Call<'_>) -> Decided {
    let parts = [Reply::word("master"), Reply::Integer(0), Reply::Array(Vec::new())];
    Ok(Step::Done(Reply::Array(parts.into())))
}

pub(super) fn lolwut(_call: &Call<'_>) -> Decided {
    let text = format!("Moim ver. {}: nodes that meet as equals\n", env!("CARGO_PKG_VERSION"));
    Ok(Step::Done(Reply::Verbatim(text)))
}

pub(super) fn save(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::OK))
}

pub(super) fn bgsave(call: &Call<'_>) -> Decided {
    if call.len() > 2 || call.len() == 2 && !call.is(1, "SCHEDULE") {
        return Err(syntax_error());
    }
    Ok(Step::Done(Reply::Simple("Background saving started".into())))
}

pub(super) fn lastsave(call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::count(call.front().store.now().wall_ms / 1_000)))
}

/// `WAIT`: every write of this connection was acknowledged by W replicas before this is reached, so that is the answer,
/// one of them left out as Redis leaves out the master. Waiting would not make it more.
pub(super) fn wait(call: &Call<'_>) -> Decided {
    call.integer(1)?;
    let timeout = number::integer(call.get(2));
    let timeout =
        timeout.ok_or_else(|| Reply::error("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(Reply::error("ERR timeout is negative"));
    }
    let session = call.connection.session.borrow();
    let store = &call.front().store;
    let policy =
        store.namespaces(|namespaces| namespaces.get(session.namespace).map(level_and_copies));
    let Some((level, n)) = policy else { return none(call) };
    let copies = store.record(|record| record.map_or(1, |record| record.ring.copies(n)));
    let needed = session.write.unwrap_or(level).resolve(copies);
    Ok(Step::Done(Reply::Integer(i64::from(needed.min(copies)) - 1)))
}

fn level_and_copies(namespace: &Namespace) -> (moim_core::quorum::Level, u8) {
    (namespace.w, namespace.n)
}

pub(super) fn doctor(_call: &Call<'_>) -> Decided {
    let text = "Latency is measured for every command: see LATENCY HISTOGRAM, /metrics, and moim doctor.\n";
    Ok(Step::Done(Reply::Verbatim(text.to_owned())))
}

pub(super) fn slowlog_get(call: &Call<'_>) -> Decided {
    let text = "ERR count should be greater than or equal to -1";
    let count = if call.len() > 2 { number::integer(call.get(2)) } else { Some(0) };
    count.filter(|count| *count >= -1).ok_or_else(|| Reply::error(text))?;
    nothing(call)
}

/// `LATENCY HISTOGRAM [command …]`: of each, how many calls took at most so many microseconds.
pub(super) fn histogram(call: &Call<'_>) -> Decided {
    let wanted: Vec<_> = call.arguments.skip(2).filter_map(table::named).collect();
    let asked = |figures: &&CommandFigures| {
        call.len() == 2
            || wanted.iter().any(|command| {
                command.name == figures.name || figures.name.split('|').next() == Some(command.name)
            })
    };
    let counted = call.front().counted();
    let called = counted.commands.iter().filter(|figures| figures.calls > 0).filter(asked);
    Ok(Step::Done(Reply::Map(
        called.map(|figures| (Reply::word(figures.name), distribution(figures))).collect(),
    )))
}

fn distribution(figures: &CommandFigures) -> Reply {
    let mut below = 0;
    let mut buckets = Vec::new();
    for (bound, count) in LATENCY_BOUNDS_MICROS.iter().zip(figures.buckets) {
        below += count;
        if count > 0 {
            buckets.push((Reply::count(*bound), Reply::count(below)));
        }
    }
    Reply::map([("calls", Reply::count(figures.calls)), ("histogram_usec", Reply::Map(buckets))])
}
