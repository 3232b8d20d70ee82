//! Files of the operating system.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::blocks::are_whole;
use super::{File, Files};
use crate::StorageError;

/// The directory of the log within that of the engine. RocksDB, which owns the rest, leaves alone what it does not know.
pub const LOG_DIRECTORY: &str = "commit-log";

/// Zeros that are written at once when the operating system cannot set space aside.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A directory on disk.
#[derive(Debug)]
pub struct DiskFiles {
    directory: PathBuf,
}

impl DiskFiles {
    /// The files in `directory`, which is made if it is not there.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        fs::create_dir_all(directory).map_err(|error| failed("make", directory, &error))?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Files for DiskFiles {
    type File = DiskFile;

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let unlisted = |error: Error| failed("list", &self.directory, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(unlisted)? {
            if let Ok(name) = entry.map_err(unlisted)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Arc<DiskFile>, StorageError> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|error| failed("make", &path, &error))?;
        let file = DiskFile::new(file, path);
        if let Err(error) = set_aside(&file, bytes) {
            // A file without its space is of no use, and the disk may need what it has got.
            drop(fs::remove_file(&file.path));
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> Result<Arc<DiskFile>, StorageError> {
        let path = self.path(name);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        Ok(Arc::new(DiskFile::new(file, path)))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        sync_directory(&self.directory)
    }

    fn beside(&self, directory: &Path) -> Result<Self, StorageError> {
        Self::open(&directory.join(LOG_DIRECTORY))
    }
}

/// A file on disk.
#[derive(Debug)]
pub struct DiskFile {
    file: fs::File,
    path: PathBuf,
    /// The same past the operating system's cache, where the file system has that, and each write durable when it returns.
    through: OnceLock<Option<fs::File>>,
}

impl DiskFile {
    fn new(file: fs::File, path: PathBuf) -> Self {
        Self { file, path, through: OnceLock::new() }
    }

    fn through(&self) -> Option<&fs::File> {
        let open = || {
            let flags = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC;
            let flags = i32::try_from(flags.bits()).ok()?;
            OpenOptions::new().write(true).custom_flags(flags).open(&self.path).ok()
        };
        self.through.get_or_init(open).as_ref()
    }
}

impl File for DiskFile {
    fn bytes(&self) -> Result<u64, StorageError> {
        let metadata = self.file.metadata().map_err(|error| failed("measure", &self.path, &error));
        Ok(metadata?.len())
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, StorageError> {
        let mut content = vec![0; bytes];
        let mut read = 0;
        while read < bytes {
            match self.file.read_at(&mut content[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path, &error)),
            }
        }
        content.truncate(read);
        Ok(content)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| failed("write", &self.path, &error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(|error| failed("sync", &self.path, &error))
    }

    fn write_through(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if are_whole(offset, bytes)
            && let Some(through) = self.through()
        {
            match through.write_all_at(bytes, offset) {
                Ok(()) => return Ok(()),
                // Its blocks are larger.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                Err(error) => return Err(failed("write through to", &self.path, &error)),
            }
        }
        self.write(offset, bytes)?;
        self.sync()
    }
}

/// Space that is the file's from the beginning: later writes to it find room, and their syncs have no size to keep.
fn set_aside(file: &DiskFile, bytes: u64) -> Result<(), StorageError> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(&file.file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file, bytes),
        Err(error) => Err(failed("set space aside for", &file.path, &error.into())),
    }
}

fn fill(file: &DiskFile, bytes: u64) -> Result<(), StorageError> {
    let mut offset = 0;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write(offset, &ZEROS[..piece])?;
        offset += piece as u64;
    }
    Ok(())
}

fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed("sync", directory, &error))
}

fn failed(doing: &str, path: &Path, error: &Error) -> StorageError {
    let what = format!("{doing} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::Full(what),
        _ => StorageError::Io(what),
    }
}
