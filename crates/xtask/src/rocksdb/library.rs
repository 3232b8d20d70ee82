//! The kept library: where it lies, whether it is whole, and how it gets there.
//!
//! Beside `librocksdb.a` lies `librocksdb.record` with its length, its checksum and what it was made of. The record
//! is written last, so a library without a fitting record is one that was not finished, or was damaged since.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::recipe::{Instructions, Recipe};

/// RocksDB 11 has 343; a build that was cut short has fewer.
const MEMBERS_MIN: usize = 300;

/// The directory of one library.
pub(super) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn library(&self) -> PathBuf {
        self.directory.join("librocksdb.a")
    }

    fn record(&self) -> PathBuf {
        self.directory.join("librocksdb.record")
    }

    /// Whether the library is byte for byte what was put there.
    pub(super) fn intact(&self) -> bool {
        let (Ok(record), Ok(library)) =
            (fs::read_to_string(self.record()), fs::read(self.library()))
        else {
            return false;
        };
        record.lines().next() == Some(fingerprint(&library).as_str())
    }

    /// Checks a fresh library and puts it here.
    pub(super) fn fill(&self, fresh: &Path, recipe: &Recipe) -> Result<()> {
        let library = fs::read(fresh).with_context(|| format!("read {}", fresh.display()))?;
        inspect(&library, recipe.instructions)
            .with_context(|| format!("{} is not what was asked for", fresh.display()))?;
        let record = format!("{}\n{}", fingerprint(&library), recipe.description());
        fs::create_dir_all(&self.directory)?;
        place(&self.library(), &library)?;
        place(&self.record(), record.as_bytes())
    }
}

/// Writes a file that appears under its name whole or not at all.
fn place(path: &Path, contents: &[u8]) -> Result<()> {
    let partial = path.with_added_extension(OsStr::new("partial"));
    fs::write(&partial, contents)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("write {}", path.display()))
}

fn fingerprint(library: &[u8]) -> String {
    format!("{} bytes, crc32 {:08x}", library.len(), crc32fast::hash(library))
}

/// Whether the library is complete and compiled as asked.
fn inspect(library: &[u8], instructions: Instructions) -> Result<()> {
    let members = count_members(library)?;
    if members < MEMBERS_MIN {
        bail!("it has {members} members, and RocksDB has over {MEMBERS_MIN}");
    }
    let Some(witness) = instructions.witness else { return Ok(()) };
    if !library.windows(witness.len()).any(|window| window == witness.as_bytes()) {
        bail!("it computes checksums without the processor's CRC instructions");
    }
    Ok(())
}

/// The object files in an archive, whose headers must lead from its start to its very end.
fn count_members(archive: &[u8]) -> Result<usize> {
    const MAGIC: &[u8] = b"!<arch>\n";
    const HEADER_BYTES: usize = 60;
    let Some(mut rest) = archive.strip_prefix(MAGIC) else { bail!("it is not an archive") };
    let mut members = 0;
    while !rest.is_empty() {
        let Some((header, after)) = rest.split_at_checked(HEADER_BYTES) else {
            bail!("it ends within the header of a member");
        };
        let name = &header[..16];
        let size = std::str::from_utf8(&header[48..58])?.trim_end().parse::<usize>()?;
        // Tables of symbols and of long names are not members.
        members += usize::from(!name.starts_with(b"/ ") && !name.starts_with(b"//"));
        // Members begin at even places, but nothing pads the last one.
        let padded = (size + size % 2).min(after.len().max(size));
        rest = after.get(padded..).context("it ends within a member")?;
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: usize) -> Vec<u8> {
        let mut archive = b"!<arch>\n".to_vec();
        for name in ["/", "//"]
            .into_iter()
            .map(str::to_owned)
            .chain((0..members).map(|number| format!("{number}.o/")))
        {
            archive.extend(format!("{name:16}{:12}{:6}{:6}{:8}{:<10}`\n", 0, 0, 0, 644, 3).bytes());
            archive.extend(b"odd\n");
        }
        archive
    }

    #[test]
    fn members_are_counted_and_a_cut_is_seen() {
        let whole = archive(3);
        assert_eq!(count_members(&whole).unwrap(), 3);
        assert_eq!(count_members(&whole[..whole.len() - 1]).unwrap(), 3, "the last has no padding");
        assert!(count_members(&whole[..whole.len() - 2]).is_err());
        assert!(count_members(&whole[..whole.len() - 10]).is_err());
        assert!(count_members(b"something else").is_err());
    }

    #[test]
    fn a_small_library_or_one_without_its_witness_is_refused() {
        let any = Instructions { flags: "", witness: None };
        assert!(inspect(&archive(MEMBERS_MIN - 1), any).is_err());
        assert!(inspect(&archive(MEMBERS_MIN), any).is_ok());
        let hardware = Instructions { flags: "", witness: Some("299.o/") };
        assert!(inspect(&archive(MEMBERS_MIN), hardware).is_ok());
        let absent = Instructions { flags: "", witness: Some("crc32") };
        assert!(inspect(&archive(MEMBERS_MIN), absent).is_err());
    }
}
