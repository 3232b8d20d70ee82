//! `moim get`, `moim put`, `moim del`.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use moim_server::http::document::{Sibling, Siblings};
use serde::Serialize;
use ureq::http::Method;

use super::node::{Call, Node, Reply};
use super::path;
use crate::Ended;
use crate::ending::{Ending, Trouble};
use crate::options::{Connection, InNamespace, Patience, lifetime};
use crate::print;

/// Read a value. With siblings, prints all of them with the context that resolves them, and exits 4.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key.
    key: OsString,
    #[command(flatten)]
    namespace: InNamespace,
    /// Replicas to hear from: ONE, TWO, THREE, QUORUM, ALL or a number; if not the namespace's.
    #[arg(long, value_name = "LEVEL")]
    r: Option<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// Write a value.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key.
    key: OsString,
    /// The value, or - to read it from standard input.
    value: OsString,
    #[command(flatten)]
    namespace: InNamespace,
    /// Replicas that must hold the write: ONE, TWO, THREE, QUORUM, ALL or a number; if not the namespace's.
    #[arg(long, value_name = "LEVEL")]
    w: Option<String>,
    /// How long the value lives, as 30m; or never.
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<String>,
    /// Replace exactly what a read with this context has seen.
    #[arg(long)]
    context: Option<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a key.
#[derive(Debug, Args)]
pub(crate) struct Del {
    /// The key.
    key: OsString,
    #[command(flatten)]
    namespace: InNamespace,
    /// Replicas to hear from before deleting, where that matters; if not the namespace's.
    #[arg(long, value_name = "LEVEL")]
    r: Option<String>,
    /// Replicas that must hold the deletion; if not the namespace's.
    #[arg(long, value_name = "LEVEL")]
    w: Option<String>,
    /// Delete exactly what a read with this context has seen.
    #[arg(long)]
    context: Option<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    connection: Connection,
}

/// What `get --json` prints.
#[derive(Serialize)]
struct Found<'a> {
    key: String,
    context: Option<&'a str>,
    siblings: Vec<Sibling>,
}

/// What `put --json` and `del --json` print.
#[derive(Serialize)]
struct Written<'a> {
    key: String,
    context: Option<&'a str>,
    version: Option<&'a str>,
}

impl Get {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let parameters = [("r", self.r.as_deref()), ("timeout", self.patience.timeout.as_deref())];
        let path = place(&self.namespace, &self.key, &parameters);
        let reply = node.call_again(Call { path, ..Call::default() })?;
        match reply.status {
            200 if node.json() => {
                let siblings = vec![single(&reply)];
                let context = reply.header("x-moim-context");
                print::json(&Found { key: shown(&self.key), context, siblings });
                Ok(Ending::Done)
            }
            200 => {
                print::raw(&reply.body);
                if print::is_terminal() && !reply.body.ends_with(b"\n") {
                    print::raw(b"\n");
                }
                Ok(Ending::Done)
            }
            300 => several(&node, &self.key, &reply),
            _ => Err(node.refused(&reply)),
        }
    }
}

/// A value as the document that siblings are.
fn single(reply: &Reply) -> Sibling {
    let header = |name| reply.header(name).unwrap_or_default();
    let ms = |name| header(name).parse().ok();
    let tag = header("etag").trim_matches('"');
    Sibling {
        value: STANDARD.encode(&reply.body),
        dot: tag.split_once('-').map_or(tag, |(_, dot)| dot).to_owned(),
        version: header("x-moim-version").to_owned(),
        created_ms: ms("x-moim-created").unwrap_or(0),
        written_ms: ms("x-moim-written").unwrap_or(0),
        expires_ms: ms("x-moim-expires"),
    }
}

fn several(node: &Node, key: &OsString, reply: &Reply) -> Ended {
    let Siblings { context, siblings } = serde_json::from_slice(&reply.body).map_err(|error| {
        Trouble::failed(format!("{}: an answer that is no siblings: {error}", node.address()))
    })?;
    if node.json() {
        print::json(&Found { key: shown(key), context: Some(&context), siblings });
        return Ok(Ending::Siblings);
    }
    for (at, sibling) in (1..).zip(&siblings) {
        let expires = sibling.expires_ms.map_or(String::new(), |ms| format!(", expires {ms}"));
        print::line(&format!(
            "# sibling {at} of {}: version {}, written {}{expires}",
            siblings.len(),
            sibling.version,
            sibling.written_ms
        ));
        // What is no base64 is shown as it came, rather than hidden.
        print::raw(
            &STANDARD.decode(&sibling.value).unwrap_or_else(|_| sibling.value.clone().into_bytes()),
        );
        print::raw(b"\n");
    }
    print::line(&format!("# context {context}"));
    print::note("the key has siblings: merge them and `moim put` the result with --context");
    Ok(Ending::Siblings)
}

impl Put {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let body = if self.value == "-" {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| Trouble::failed(format!("standard input: {error}")))?;
            bytes
        } else {
            self.value.into_vec()
        };
        let parameters = [
            ("w", self.w.as_deref()),
            ("ttl", self.ttl.as_deref()),
            ("timeout", self.patience.timeout.as_deref()),
        ];
        let path = place(&self.namespace, &self.key, &parameters);
        let context = self.context.as_deref();
        written(&node, &self.key, Call { method: Method::PUT, path, context, body })
    }
}

impl Del {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let parameters = [
            ("r", self.r.as_deref()),
            ("w", self.w.as_deref()),
            ("timeout", self.patience.timeout.as_deref()),
        ];
        let path = place(&self.namespace, &self.key, &parameters);
        let context = self.context.as_deref();
        written(&node, &self.key, Call { method: Method::DELETE, path, context, body: Vec::new() })
    }
}

fn written(node: &Node, key: &OsString, call: Call<'_>) -> Ended {
    let reply = node.call_again(call)?;
    if reply.status != 204 {
        return Err(node.refused(&reply));
    }
    let (context, version) = (reply.header("x-moim-context"), reply.header("x-moim-version"));
    if node.json() {
        print::json(&Written { key: shown(key), context, version });
    } else {
        let row = |name: &str, value: Option<&str>| {
            vec![name.to_owned(), value.unwrap_or("–").to_owned()]
        };
        print::raw(print::table(&[row("version", version), row("context", context)]).as_bytes());
    }
    Ok(Ending::Done)
}

fn place(namespace: &InNamespace, key: &OsString, parameters: &[(&str, Option<&str>)]) -> String {
    path(&[b"kv", namespace.namespace.as_bytes(), key.as_bytes()], parameters)
}

fn shown(key: &OsString) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}
