//! The data directory of a node: a lock, so that two processes never share it; an identity, drawn once and never used
//! again; the version of what is kept; the engine's own directory; and the directories of engines that were damaged, which nobody but the operator
//! removes.
//!
//! Invariant: an identity is on disk, synced, before anybody hears of it. If it were lost after that, its dots could be
//! issued again by another node (INV-3).

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use moim_core::{MachineId, NodeId};
use toml::Table;

use super::error::ServerError;
use crate::config::EngineKind;

pub(super) const LOCK_FILE: &str = "lock";
pub(super) const IDENTITY_FILE: &str = "identity.toml";
pub(super) const ENGINE_DIRECTORY: &str = "data";

/// Where the engine `lsm` keeps its log, in the engine's directory.
const LOG_DIRECTORY: &str = "commit-log";

const FORMAT_FILE: &str = "format.toml";

/// Version of the identity file.
const IDENTITY_FORMAT: i64 = 1;

/// Version of what the engine's directory holds: its files, keys and values (`docs/disk-format.md`). Raised when a
/// program that knows only the version before could not read what this one writes.
pub const DISK_FORMAT: u32 = 1;

/// What data that was set aside is called, before the time in Unix seconds.
const ASIDE_PREFIX: &str = "data.corrupt-";

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) node: NodeId,
    pub(super) machine: MachineId,
}

/// An open data directory; locked until dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    pub(super) identity: Identity,
    /// The identity was there, but no data beside it: whatever this node held is lost.
    pub(super) is_emptied: bool,
    _lock: File,
}

impl Directory {
    /// Opens a directory, making it and its identity if need be.
    pub(super) fn open(path: &Path) -> Result<Self, ServerError> {
        Self::open_on(path, None)
    }

    /// As [`Self::open`], on this machine if an identity is made.
    pub(super) fn open_on(path: &Path, machine: Option<MachineId>) -> Result<Self, ServerError> {
        make(path)?;
        let lock = lock(&path.join(LOCK_FILE))?;
        let has_data = path.join(ENGINE_DIRECTORY).exists();
        let mut is_emptied = !has_data;
        let identity = match std::fs::read_to_string(path.join(IDENTITY_FILE)) {
            Ok(text) => {
                Identity::parse(&text).map_err(|what| bad(&path.join(IDENTITY_FILE), what))?
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(fault(&path.join(IDENTITY_FILE), &error));
            }
            Err(_missing) if has_data => {
                return Err(bad(
                    &path.join(IDENTITY_FILE),
                    "is missing though there is data beside it: bring the file back, or move the data away and \
                     let a new node begin",
                ));
            }
            Err(_missing) => {
                is_emptied = false;
                Identity::draw(path, machine)?
            }
        };
        if Format::read(path)?.is_none() {
            Format::default().write(path)?;
        }
        Ok(Self { path: path.to_owned(), identity, is_emptied, _lock: lock })
    }

    /// Where the engine keeps its files.
    pub(super) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE_DIRECTORY)
    }

    /// Which engine to open: the one that is `wanted`, or if that is left open the one that the data was made with, and
    /// for a new directory the one with a log of our own.
    pub(super) fn engine_kind(&self, wanted: EngineKind) -> Result<EngineKind, ServerError> {
        if wanted != EngineKind::Auto {
            return Ok(wanted);
        }
        let made_with = Format::read(&self.path)?.and_then(|format| format.engine);
        Ok(match made_with {
            Some(kind) => kind,
            // Programs before wrote no name. The log of our own has a directory beside the tables.
            None if self.engine().exists() && !self.engine().join(LOG_DIRECTORY).exists() => {
                EngineKind::RocksDb
            }
            None => EngineKind::Lsm,
        })
    }

    /// Remembers which engine the data was opened with.
    pub(super) fn note_engine(&self, kind: EngineKind) -> Result<(), ServerError> {
        let is_kept = matches!(kind, EngineKind::Lsm | EngineKind::RocksDb);
        let engine = Some(kind).filter(|_| is_kept);
        match Format::read(&self.path)? {
            Some(format) if engine.is_none() || format.engine == engine => Ok(()),
            _ => Format { engine }.write(&self.path),
        }
    }

    /// Moves the engine's files out of the way, to a directory named after the time, and says where to.
    pub(super) fn set_engine_aside(&mut self, unix_s: u64) -> Result<PathBuf, ServerError> {
        // Two in one second: the later one is dated on.
        let aside = (unix_s..=u64::MAX)
            .map(|second| self.path.join(format!("{ASIDE_PREFIX}{second}")))
            .find(|aside| !aside.exists())
            .expect("there are more seconds than directories");
        std::fs::rename(self.engine(), &aside).map_err(|error| fault(&aside, &error))?;
        sync(&self.path)?;
        self.is_emptied = true;
        Ok(aside)
    }

    /// When data was set aside, in Unix seconds, oldest first; of what nobody has removed since.
    pub(super) fn set_aside(&self) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let second = |name: &str| name.strip_prefix(ASIDE_PREFIX)?.parse().ok();
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut seconds: Vec<u64> = names.filter_map(|name| second(&name)).collect();
        seconds.sort_unstable();
        seconds
    }
}

impl Identity {
    fn draw(directory: &Path, machine: Option<MachineId>) -> Result<Self, ServerError> {
        let machine = machine.map_or_else(|| draw(directory).map(MachineId), Ok)?;
        let identity = Self { node: NodeId(draw(directory)?), machine };
        write(directory, IDENTITY_FILE, &identity.text())?;
        Ok(identity)
    }

    fn text(&self) -> String {
        let Self { node, machine } = self;
        format!(
            "# Who this node is, drawn at random once. It belongs to the data beside it: never copy it to another node,\n\
             # never edit it.\n\
             format = {IDENTITY_FORMAT}\n\
             node = \"{node}\"\n\
             machine = \"{machine}\"\n"
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let format = table.get("format").and_then(toml::Value::as_integer);
        if format != Some(IDENTITY_FORMAT) {
            return Err(format!(
                "has format {format:?}; this program knows {IDENTITY_FORMAT}: is it older than the data?"
            ));
        }
        let id = |name: &str| {
            let text = table.get(name).and_then(toml::Value::as_str);
            let id = text.and_then(|text| u64::from_str_radix(text, 16).ok());
            id.ok_or_else(|| {
                format!("has no {name} of 16 hexadecimal digits: bring the file back from a copy")
            })
        };
        Ok(Self { node: NodeId(id("node")?), machine: MachineId(id("machine")?) })
    }
}

/// 64 random bits for an identity.
pub(super) fn draw(directory: &Path) -> Result<u64, ServerError> {
    getrandom::u64().map_err(|error| bad(directory, format!("no random identity: {error}")))
}

/// What is in the engine's directory; its version is [`DISK_FORMAT`], anything else is refused.
#[derive(Clone, Copy, Debug, Default)]
struct Format {
    /// Which engine made it; `None` before any did, and where a program wrote it that knew of no names.
    engine: Option<EngineKind>,
}

impl Format {
    /// Refuses data that a newer program has written. Data of programs that wrote no version is of the first one: `None`.
    fn read(directory: &Path) -> Result<Option<Self>, ServerError> {
        let path = directory.join(FORMAT_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(&path, &error)),
        };
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| bad(&path, error.to_string()))?;
        match table.get("disk_format").and_then(toml::Value::as_integer) {
            Some(format) if format == i64::from(DISK_FORMAT) => {}
            Some(format) => {
                return Err(bad(
                    &path,
                    format!(
                        "the data is of disk format {format}, and this program reads {DISK_FORMAT} (`moim version`): \
                         start the version that wrote it"
                    ),
                ));
            }
            None => return Err(bad(&path, "has no disk_format: bring the file back from a copy")),
        }
        let engine = table.get("engine").map(|name| match name.as_str() {
            Some("lsm") => Ok(EngineKind::Lsm),
            Some("rocksdb") => Ok(EngineKind::RocksDb),
            _ => Err(bad(&path, format!("the data was made by the engine {name}, not known here"))),
        });
        Ok(Some(Self { engine: engine.transpose()? }))
    }

    fn write(self, directory: &Path) -> Result<(), ServerError> {
        let mut text = format!(
            "# What is in the directory data. Written by the program; never edit it.\n\
             disk_format = {DISK_FORMAT}\n"
        );
        match self.engine {
            Some(EngineKind::Lsm) => text.push_str("engine = \"lsm\"\n"),
            Some(EngineKind::RocksDb) => text.push_str("engine = \"rocksdb\"\n"),
            Some(EngineKind::Auto | EngineKind::Memory) | None => {}
        }
        write(directory, FORMAT_FILE, &text)
    }
}

/// Writes a file that is there as a whole or not at all, durably.
pub(super) fn write(directory: &Path, name: &str, text: &str) -> Result<(), ServerError> {
    let (new, path) = (directory.join(format!("{name}.new")), directory.join(name));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|error| fault(&path, &error))?;
    sync(directory)
}

/// Makes a directory that only this user can read, durably.
pub(super) fn make(path: &Path) -> Result<(), ServerError> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| fault(path, &error))?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    Ok(())
}

pub(super) fn lock(path: &Path) -> Result<File, ServerError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| fault(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(bad(
            path,
            "another server uses this data directory: stop it, or give this one a directory of its own (--data)",
        )),
        Err(TryLockError::Error(error)) => Err(fault(path, &error)),
    }
}

/// A rename is durable when the directory is.
fn sync(directory: &Path) -> Result<(), ServerError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| fault(directory, &error))
}

pub(super) fn bad(path: &Path, what: impl Into<String>) -> ServerError {
    ServerError::Directory { path: path.to_owned(), what: what.into() }
}

pub(super) fn fault(path: &Path, error: &std::io::Error) -> ServerError {
    bad(path, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        Directory::open(path).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_identity_is_drawn_once() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = Directory::open(&path).unwrap();
        let identity = first.identity;
        assert!(!first.is_emptied);
        drop(first);
        let again = Directory::open(&path).unwrap();
        assert_eq!((again.identity, again.is_emptied), (identity, true));
        drop(again);
        std::fs::create_dir(path.join(ENGINE_DIRECTORY)).unwrap();
        let again = Directory::open(&path).unwrap();
        assert_eq!((again.identity, again.is_emptied), (identity, false));
        let other = Directory::open(&parent.path().join("c")).unwrap();
        assert_ne!(other.identity.node, identity.node);
        assert_ne!(other.identity.machine, identity.machine);
    }

    #[test]
    fn data_of_another_format_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path();
        drop(Directory::open(path).unwrap());
        let file = path.join(FORMAT_FILE);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.ends_with("disk_format = 1\n"), "{text}");
        for (text, error) in [
            ("disk_format = 2", "the data is of disk format 2, and this program reads 1"),
            ("disk_format = 1\nengine = 'x'", "was made by the engine \"x\", not known here"),
            ("", "has no disk_format"),
            ("disk", "format.toml"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert!(refused(path).contains(error), "{}", refused(path));
        }
        // Written by a program that knew of no versions.
        std::fs::remove_file(&file).unwrap();
        drop(Directory::open(path).unwrap());
        assert!(file.exists());
    }

    #[test]
    fn an_engine_that_is_not_named_is_the_one_that_made_the_data() {
        use EngineKind::{Auto, Lsm, Memory, RocksDb};
        let parent = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(parent.path()).unwrap();
        assert_eq!(directory.engine_kind(Auto).unwrap(), Lsm, "a new one");
        directory.note_engine(Memory).unwrap();
        assert_eq!(directory.engine_kind(Auto).unwrap(), Lsm, "memory leaves nothing behind");
        // Made by programs that wrote no names.
        std::fs::create_dir(directory.engine()).unwrap();
        assert_eq!(directory.engine_kind(Auto).unwrap(), RocksDb);
        std::fs::create_dir(directory.engine().join(LOG_DIRECTORY)).unwrap();
        assert_eq!(directory.engine_kind(Auto).unwrap(), Lsm);
        for kind in [RocksDb, Lsm] {
            directory.note_engine(kind).unwrap();
            directory.note_engine(Memory).unwrap();
            assert_eq!(directory.engine_kind(Auto).unwrap(), kind);
            assert_eq!(directory.engine_kind(Memory).unwrap(), Memory, "what is named holds");
        }
        assert!(directory.set_engine_aside(1_000).is_ok());
        assert_eq!(directory.engine_kind(Auto).unwrap(), Lsm, "also for what begins empty");
    }

    #[test]
    fn two_processes_never_share_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let first = Directory::open(parent.path()).unwrap();
        assert!(refused(parent.path()).contains("another server uses this data directory"));
        drop(first);
        Directory::open(parent.path()).unwrap();
    }

    #[test]
    fn a_lost_or_damaged_identity_is_not_drawn_anew() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path();
        std::fs::create_dir(path.join(ENGINE_DIRECTORY)).unwrap();
        assert!(refused(path).contains("is missing though there is data beside it"));
        for (text, error) in [
            ("", "has format None"),
            ("format = 2", "has format Some(2)"),
            ("format = 1\nnode = '12'", "has no machine"),
            ("format = 1\nnode = 'xy'\nmachine = '1'", "has no node"),
            ("for", "identity.toml"),
        ] {
            std::fs::write(path.join(IDENTITY_FILE), text).unwrap();
            assert!(refused(path).contains(error), "{}", refused(path));
        }
    }

    #[test]
    fn damaged_data_is_set_aside_and_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(parent.path()).unwrap();
        assert!(!directory.is_emptied);
        for number in 0..2 {
            std::fs::create_dir(directory.engine()).unwrap();
            std::fs::write(directory.engine().join("file"), number.to_string()).unwrap();
            let aside = directory.set_engine_aside(1_000).unwrap();
            assert!(aside.ends_with(format!("data.corrupt-{}", 1_000 + number)));
            assert_eq!(std::fs::read_to_string(aside.join("file")).unwrap(), number.to_string());
        }
        assert!(directory.is_emptied);
        assert_eq!(directory.set_aside(), [1_000, 1_001]);
    }
}
