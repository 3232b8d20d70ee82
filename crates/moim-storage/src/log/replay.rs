//! Opening a log: which records count, and whether what is missing was ever promised. The rules are in [`super`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::control::{self, Control};
use super::record::{self, Kind};
use super::segment::{HEADER_BLOCK_BYTES, Header, Reader, Segment, Step};
use super::{CommitLog, LogOptions};
use crate::files::blocks::Blocks;
use crate::files::{File, Files};
use crate::{Batch, StorageError};

const SEGMENT_PREFIX: &str = "segment-";

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:06}")
}

/// A segment and what it says of itself.
type Known<F> = (Header, Segment<F>);

pub(super) fn open<F: Files>(
    files: F,
    options: LogOptions,
    mut apply: impl FnMut(Batch),
) -> Result<CommitLog<F>, StorageError> {
    let found = Found::look(&files)?;
    let control = found.control(&files)?;
    let (newest, oldest) = (control.state.newest, control.state.oldest);
    let next_name = found.next_name;
    let next_life = found.lives.keys().next_back().copied().unwrap_or(0).max(newest) + 1;
    let mut lives = found.lives;
    let chain = chain(&mut lives, newest, oldest)?;
    refuse_records_after(&lives, newest)?;

    let mut free: Vec<_> = lives.into_values().map(|(_, segment)| segment).collect();
    free.extend(found.blank);
    let (segments, void, next) = replay(chain, control.state.synced, &mut apply)?;
    // What is taken for durable from here on must be: the process may have died and the machine not yet.
    for segment in &segments {
        segment.file.sync()?;
    }
    let mut log = CommitLog {
        files: Arc::new(files),
        options,
        control,
        segments,
        is_sealed: true,
        free: Vec::new(),
        has_begun: false,
        prepared_in: 0,
        preparing_bytes: 0,
        void,
        next_name,
        next_life,
        next,
        synced: next,
        failed: None,
        buffer: Blocks::default(),
        block: Vec::new(),
        written_bytes: 0,
        syncs: 0,
    };
    if log.synced > log.control.state.synced {
        log.set_control(newest, oldest)?;
    }
    free.into_iter().try_for_each(|segment| log.set_free(segment))?;
    Ok(log)
}

/// What is in the directory.
struct Found<F> {
    has_control: bool,
    lives: BTreeMap<u64, Known<F>>,
    /// Segments that have no life yet.
    blank: Vec<Segment<F>>,
    next_name: u64,
}

impl<F: File> Found<F> {
    fn look(files: &impl Files<File = F>) -> Result<Self, StorageError> {
        let mut found =
            Self { has_control: false, lives: BTreeMap::new(), blank: Vec::new(), next_name: 1 };
        for name in files.list()? {
            found.has_control |= name == control::NAME;
            let number = name.strip_prefix(SEGMENT_PREFIX).map(str::parse::<u64>);
            if let Some(Ok(number)) = number {
                found.next_name = found.next_name.max(number + 1);
                found.add(name.clone(), files.open(&name)?)?;
            }
        }
        Ok(found)
    }

    fn add(&mut self, name: String, file: Arc<F>) -> Result<(), StorageError> {
        let bytes = file.bytes()?;
        let header = Header::parse(&file.read(0, HEADER_BLOCK_BYTES)?);
        let mut segment = Segment::blank(name, file, bytes);
        let Some(header) = header else {
            self.blank.push(segment);
            return Ok(());
        };
        if bytes < header.bytes {
            let name = &segment.name;
            return Err(damage(&format!("{name} has {bytes} of its {} bytes", header.bytes)));
        }
        segment.life = header.life;
        segment.position = HEADER_BLOCK_BYTES as u64;
        if let Some((_, twin)) = self.lives.insert(header.life, (header, segment)) {
            return Err(damage(&format!("{} and another have the same life", twin.name)));
        }
        Ok(())
    }

    /// The control file, a new one if there is no log yet.
    fn control(&self, files: &impl Files<File = F>) -> Result<Control<F>, StorageError> {
        let known = if self.has_control { Control::open(files)? } else { None };
        match known {
            Some(control) => Ok(control),
            // A segment is made only when the control file is durable.
            None if self.lives.is_empty() => Control::create(files),
            None => Err(damage("segments are there, and the control file says nothing")),
        }
    }
}

/// The segments that are needed, oldest first; all others stay in `lives`.
fn chain<F>(
    lives: &mut BTreeMap<u64, Known<F>>,
    newest: u64,
    oldest: u64,
) -> Result<VecDeque<Known<F>>, StorageError> {
    let mut chain = VecDeque::new();
    let mut life = newest;
    while life >= oldest {
        let Some(known) = lives.remove(&life) else {
            return Err(damage(&format!("the segment of life {life} is gone")));
        };
        let previous = known.0.previous;
        chain.push_front(known);
        if life == oldest {
            break;
        }
        if previous < oldest || previous >= life {
            return Err(damage(&format!("the segment of life {life} comes after {previous}")));
        }
        life = previous;
    }
    Ok(chain)
}

/// A segment takes records only when the control file names it: one that has some was named, and the name is lost.
fn refuse_records_after<F: File>(
    lives: &BTreeMap<u64, Known<F>>,
    newest: u64,
) -> Result<(), StorageError> {
    for (header, segment) in lives.range(newest + 1..).map(|(_, known)| known) {
        if matches!(Reader::new(segment)?.next(header.first), Step::Record(..)) {
            return Err(damage(&format!("{} has records, and is not named", segment.name)));
        }
    }
    Ok(())
}

/// What the chain comes to: segments that count, segments that do not, the number of the next record.
type Replayed<F> = (VecDeque<Segment<F>>, Vec<Segment<F>>, u64);

fn replay<F: File>(
    mut chain: VecDeque<Known<F>>,
    synced: u64,
    apply: &mut impl FnMut(Batch),
) -> Result<Replayed<F>, StorageError> {
    let mut next = chain.front().map_or(synced, |(header, _)| header.first);
    let mut segments = VecDeque::new();
    while let Some((_, mut segment)) = chain.pop_front() {
        let follows = chain.front().map(|(header, _)| header.first);
        let mut reader = Reader::new(&segment)?;
        // Records from the number on with which the next segment begins were dropped by an earlier start.
        while follows != Some(next)
            && let Step::Record(head, payload) = reader.next(next)
        {
            if head.kind == Kind::Group {
                apply(record::decode(payload)?);
            }
            next += 1;
        }
        segment.position = reader.position();
        segment.end = next;
        if follows != Some(next) {
            let witness = reader.witness().max(witness(&chain)?).max(synced);
            if witness > next {
                return Err(damage(&format!(
                    "{}: the record {next} at {} is damaged or gone, and those below {witness} were durable",
                    segment.name, segment.position
                )));
            }
            segments.push_back(segment);
            let void = chain.into_iter().map(|(_, segment)| segment).collect();
            return Ok((segments, void, next));
        }
        segments.push_back(segment);
    }
    Ok((segments, Vec::new(), next))
}

/// The furthest that any of these segments says to have been synced.
fn witness<F: File>(chain: &VecDeque<Known<F>>) -> Result<u64, StorageError> {
    let mut synced = 0;
    for (header, segment) in chain {
        synced = synced.max(header.synced).max(Reader::new(segment)?.witness());
    }
    Ok(synced)
}

fn damage(what: &str) -> StorageError {
    StorageError::Corruption(format!("commit log: {what}"))
}
