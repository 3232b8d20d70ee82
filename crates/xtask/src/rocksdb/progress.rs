//! How far a build is: a bar on a terminal, a line now and then elsewhere.

use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const BAR_CELLS: usize = 30;
/// Where nobody watches, this often.
const LINE_EVERY: Duration = Duration::from_mins(1);

/// Counts the object files that a build has made.
pub(super) struct Progress {
    /// The build's directory.
    directory: PathBuf,
    objects: usize,
    /// Older objects are another build's.
    started: SystemTime,
    /// When the first object was seen: what comes before says nothing about how fast they are made.
    first_seen: Option<Instant>,
    terminal: bool,
    last_line: Option<Instant>,
}

impl Progress {
    /// Of a build in `directory` that will make about `objects`.
    pub(super) fn new(directory: &Path, objects: usize) -> Self {
        Self {
            directory: directory.to_path_buf(),
            objects,
            started: SystemTime::now(),
            first_seen: None,
            terminal: stderr().is_terminal(),
            last_line: None,
        }
    }

    /// Shows how far it is, if it is time to.
    pub(super) fn show(&mut self) {
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if !self.terminal && !due {
            return;
        }
        let done = self.objects_done();
        if done > 0 {
            self.first_seen.get_or_insert_with(Instant::now);
        }
        let elapsed = self.first_seen.map_or(Duration::ZERO, |first| first.elapsed());
        let state = describe(done, self.objects, elapsed);
        if self.terminal {
            // Back to the start of the line, and clear it.
            eprint!("\r\x1b[2K{} {state}", bar(done, self.objects));
            stderr().flush().ok();
        } else {
            eprintln!("RocksDB: {state}");
        }
        self.last_line = Some(Instant::now());
    }

    /// Leaves the terminal as it was found.
    pub(super) fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
    }

    fn objects_done(&self) -> usize {
        let fresh = |path: &Path| {
            path.extension().is_some_and(|extension| extension == "o")
                && fs::metadata(path)
                    .and_then(|data| data.modified())
                    .is_ok_and(|modified| modified >= self.started)
        };
        outputs(&self.directory)
            .flat_map(|output| fs::read_dir(output).into_iter().flatten().flatten())
            .filter(|entry| fresh(&entry.path()))
            .count()
    }
}

/// Where the build script of `librocksdb-sys` leaves what it makes.
pub(super) fn outputs(build_directory: &Path) -> impl Iterator<Item = PathBuf> {
    let builds =
        fs::read_dir(build_directory.join("release/build")).into_iter().flatten().flatten();
    builds
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("librocksdb-sys-"))
        .map(|entry| entry.path().join("out"))
}

fn describe(done: usize, objects: usize, elapsed: Duration) -> String {
    match done {
        0 => "preparing".to_owned(),
        _ if done >= objects => "putting the library together".to_owned(),
        _ => {
            let seconds = usize::try_from(elapsed.as_secs()).unwrap_or(usize::MAX);
            let minutes = seconds.saturating_mul(objects - done).div_ceil(60 * done);
            let percent = done * 100 / objects;
            format!("{done} of {objects} objects, {percent} %, about {minutes} min left")
        }
    }
}

fn bar(done: usize, objects: usize) -> String {
    let filled = (done * BAR_CELLS / objects.max(1)).min(BAR_CELLS);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_CELLS - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_words() {
        let minute = Duration::from_mins(1);
        assert_eq!(describe(0, 343, minute), "preparing");
        assert_eq!(describe(100, 300, minute), "100 of 300 objects, 33 %, about 2 min left");
        assert_eq!(describe(343, 343, minute), "putting the library together");
        assert_eq!(bar(50, 100), format!("[{}{}]", "#".repeat(15), "-".repeat(15)));
        assert_eq!(bar(7, 0).len(), BAR_CELLS + 2);
    }
}
