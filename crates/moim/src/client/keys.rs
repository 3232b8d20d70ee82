//! `moim keys`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use moim_server::http::document::KeysPage;

use super::node::Node;
use super::path;
use crate::Ended;
use crate::ending::{Ending, Trouble};
use crate::options::{Connection, InNamespace};
use crate::print;

/// List keys, in no particular order. Without --limit, all of them.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    namespace: InNamespace,
    /// Only keys that begin so.
    #[arg(long)]
    prefix: Option<String>,
    /// Go on where an earlier page ended.
    #[arg(long)]
    cursor: Option<String>,
    /// One page of about so many keys, and where the next begins.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: Option<u16>,
    #[command(flatten)]
    connection: Connection,
}

impl Keys {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let limit = self.limit.unwrap_or(1_000).to_string();
        let mut cursor = self.cursor.clone();
        loop {
            let parameters = [
                ("prefix", self.prefix.as_deref()),
                ("cursor", cursor.as_deref()),
                ("limit", Some(limit.as_str())),
            ];
            let path = path(&[b"keys", self.namespace.namespace.as_bytes()], &parameters);
            let page: KeysPage = node.get(&path)?;
            show(&node, &page)?;
            match page.cursor {
                None => return Ok(Ending::Done),
                Some(next) if self.limit.is_none() => cursor = Some(next),
                Some(next) => {
                    if !node.json() {
                        print::note(&format!("there may be more: --cursor {next}"));
                    }
                    return Ok(Ending::Done);
                }
            }
        }
    }
}

fn show(node: &Node, page: &KeysPage) -> Result<(), Trouble> {
    if node.json() {
        print::json(page);
        return Ok(());
    }
    for key in &page.keys {
        print::line(&print::visible(key.as_bytes()));
    }
    for key in &page.keys_base64 {
        let bytes = STANDARD
            .decode(key)
            .map_err(|error| Trouble::failed(format!("a damaged key: {error}")))?;
        print::line(&print::visible(&bytes));
    }
    Ok(())
}
