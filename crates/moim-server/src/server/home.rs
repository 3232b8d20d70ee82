//! Where a server keeps what is its nodes': one data directory of its own for one node, as many below it for several.
//!
//! ```text
//! one shard        several
//! lock             lock
//! identity.toml    server.toml    how many shards there are, and the machine's id
//! format.toml      shard-0/       a node's directory, each with lock, identity, format and data of its own
//! data/            shard-1/ …
//! ```
//!
//! Invariants: all nodes of a server are on one machine, so that no two of them hold copies of one key; how many there
//! are never changes, because a node that is left out would take its data with it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use moim_core::MachineId;
use toml::Table;

use super::directory::{
    Directory, ENGINE_DIRECTORY, IDENTITY_FILE, LOCK_FILE, bad, draw, fault, lock, make, write,
};
use super::error::ServerError;
use crate::config::NodeConfig;

const SERVER_FILE: &str = "server.toml";

/// Version of the server's file.
const SERVER_FORMAT: i64 = 1;

/// The open data directories of a server; locked until dropped.
#[derive(Debug)]
pub(super) struct Home {
    /// One for each node.
    pub(super) directories: Vec<Directory>,
    /// Of the directory that holds them, if there are several.
    pub(super) lock: Option<File>,
}

impl Home {
    /// Opens what the configuration names, making it if need be. What was made for another number of shards is refused.
    pub(super) fn open(node: &NodeConfig) -> Result<Self, ServerError> {
        let path = &node.data_dir;
        let made = || match shards_of(path)? {
            Some((made, _)) if made != node.shards => {
                Err(bad(path, other_shards(made, node.shards)))
            }
            made => Ok(made),
        };
        // Looked at before anything is made, and again when nobody else can make it.
        made()?;
        if node.shards == 1 {
            return Ok(Self { directories: vec![Directory::open(path)?], lock: None });
        }
        make(path)?;
        let lock = lock(&path.join(LOCK_FILE))?;
        let machine = match made()? {
            Some((_, machine)) => machine,
            None => found(path, node.shards)?,
        };
        let open = |shard| Directory::open_on(&node.of_shard(shard).data_dir, machine);
        let directories = (0..node.shards).map(open).collect::<Result<_, _>>()?;
        Ok(Self { directories, lock: Some(lock) })
    }
}

fn other_shards(made: u32, wanted: u32) -> String {
    let shards = if made == 1 { "1 shard".to_owned() } else { format!("{made} shards") };
    format!(
        "was made with {shards}, not with {wanted}, and that cannot change: set node.shards = {made} (--shards {made}), \
         or begin with an empty directory (--data)"
    )
}

/// With how many shards a directory was made and on which machine, if it was made. Of one shard, its identity says on
/// which.
fn shards_of(path: &Path) -> Result<Option<(u32, Option<MachineId>)>, ServerError> {
    let file = path.join(SERVER_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => parse(&text).map(Some).map_err(|what| bad(&file, what)),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(fault(&file, &error)),
        Err(_missing) if path.join("shard-0").exists() => {
            Err(bad(&file, "is missing though there are shards beside it: bring the file back"))
        }
        Err(_missing) => {
            let alone =
                [IDENTITY_FILE, ENGINE_DIRECTORY].iter().any(|name| path.join(name).exists());
            Ok(alone.then_some((1, None)))
        }
    }
}

fn parse(text: &str) -> Result<(u32, Option<MachineId>), String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let number = |name: &str| table.get(name).and_then(toml::Value::as_integer);
    if number("format") != Some(SERVER_FORMAT) {
        return Err(format!(
            "has format {:?}; this program knows {SERVER_FORMAT}: is it older than the data?",
            number("format")
        ));
    }
    let shards = number("shards").and_then(|shards| u32::try_from(shards).ok());
    let machine = table.get("machine").and_then(toml::Value::as_str);
    let machine = machine.and_then(|text| u64::from_str_radix(text, 16).ok()).map(MachineId);
    match (shards, machine) {
        (Some(shards), Some(machine)) => Ok((shards, Some(machine))),
        _ => Err("has no shards, or no machine of 16 hexadecimal digits: bring the file back from a copy".to_owned()),
    }
}

/// Settles how many shards there are and on which machine, before the first of them is made.
fn found(path: &Path, shards: u32) -> Result<Option<MachineId>, ServerError> {
    let machine = MachineId(draw(path)?);
    let text = format!(
        "# How many nodes this server has, each in a directory beside this file, and the machine that they share, drawn at\n\
         # random once. It belongs to the data: never copy it to another server, never edit it.\n\
         format = {SERVER_FORMAT}\n\
         shards = {shards}\n\
         machine = \"{machine}\"\n"
    );
    write(path, SERVER_FILE, &text)?;
    Ok(Some(machine))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn open(path: &Path, shards: u32) -> Result<Home, ServerError> {
        Home::open(&NodeConfig { data_dir: path.to_owned(), shards, ..NodeConfig::default() })
    }

    fn refused(path: &Path, shards: u32) -> String {
        open(path, shards).expect_err("must be refused").to_string()
    }

    fn empty() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        (parent, path)
    }

    #[test]
    fn shards_have_one_machine_and_identities_of_their_own() {
        let (_parent, path) = empty();
        let first = open(&path, 3).unwrap();
        let identities: Vec<_> = first.directories.iter().map(|one| one.identity).collect();
        assert!(identities.iter().all(|one| one.machine == identities[0].machine));
        assert_ne!(identities[0].node, identities[1].node);
        assert!(path.join("shard-2/identity.toml").exists());
        assert!(refused(&path, 3).contains("another server uses this data directory"));
        drop(first);
        let again = open(&path, 3).unwrap();
        assert!(again.directories.iter().map(|one| one.identity).eq(identities));
    }

    #[test]
    fn one_shard_is_where_it_always_was() {
        let (_parent, path) = empty();
        let directory = Directory::open(&path).unwrap();
        let identity = directory.identity;
        drop(directory);
        assert_eq!(open(&path, 1).unwrap().directories[0].identity, identity);
        assert!(!path.join(SERVER_FILE).exists());
    }

    #[test]
    fn another_number_of_shards_is_refused_and_changes_nothing() {
        let (_parent, path) = empty();
        drop(open(&path, 1).unwrap());
        let words = refused(&path, 2);
        assert!(words.contains("was made with 1 shard, not with 2"), "{words}");
        assert!(words.contains("set node.shards = 1 (--shards 1)"), "{words}");
        assert!(!path.join(SERVER_FILE).exists());
        let (_parent, path) = empty();
        drop(open(&path, 2).unwrap());
        assert!(refused(&path, 1).contains("was made with 2 shards, not with 1"));
        assert!(refused(&path, 4).contains("--shards 2"));
        drop(open(&path, 2).unwrap());
    }

    #[test]
    fn a_lost_or_damaged_server_file_is_not_written_anew() {
        let (_parent, path) = empty();
        drop(open(&path, 2).unwrap());
        let file = path.join(SERVER_FILE);
        for (text, error) in [
            ("", "has format None"),
            ("format = 1\nshards = 2", "has no shards, or no machine"),
            ("for", "server.toml"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert!(refused(&path, 2).contains(error), "{}", refused(&path, 2));
        }
        std::fs::remove_file(&file).unwrap();
        assert!(refused(&path, 2).contains("is missing though there are shards beside it"));
    }
}
