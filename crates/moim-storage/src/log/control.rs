//! The control file: which life of a segment is the newest, which is the oldest that is still needed, and how far the
//! log was durable when that was written.
//!
//! Without it a lost newest segment would look like a log that ended earlier, and so would damage to what a start had
//! found whole. Two slots, each in a block of its own, are written in turn, so that a torn write leaves the other:
//! `MoimCtl1`, count of writes u64, newest life u64, oldest life needed u64, synced u64 (as in a record), CRC-32 u32.
//!
//! Invariant: a segment takes records only after its life is the newest here; it is reused only after its life is older
//! than the oldest here. Both durably.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};

use crate::StorageError;
use crate::files::{File, Files};

/// Its name.
pub(crate) const NAME: &str = "control";

const MAGIC: &[u8; 8] = b"MoimCtl1";
const SLOT_BYTES: usize = 4 << 10;
const STATE_BYTES: usize = 44;

/// What it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    count: u64,
    /// 0: no segment has begun yet.
    pub(crate) newest: u64,
    pub(crate) oldest: u64,
    /// All records below this number were durable.
    pub(crate) synced: u64,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for field in [self.count, self.newest, self.oldest, self.synced] {
            bytes.put_u64(field);
        }
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.get(..STATE_BYTES)?.split_at(STATE_BYTES - 4);
        let (magic, mut fields) = covered.split_at(MAGIC.len());
        if magic != MAGIC || crc != crc32fast::hash(covered).to_be_bytes() {
            return None;
        }
        let mut next = || fields.get_u64();
        Some(Self { count: next(), newest: next(), oldest: next(), synced: next() })
    }
}

/// The file, open.
#[derive(Debug)]
pub(crate) struct Control<F> {
    file: Arc<F>,
    pub(crate) state: State,
}

impl<F: File> Control<F> {
    /// A new one.
    pub(crate) fn create(files: &impl Files<File = F>) -> Result<Self, StorageError> {
        let file = files.create(NAME, 2 * SLOT_BYTES as u64)?;
        let mut control = Self { file, state: State::default() };
        control.set((0, 1), 1)?;
        files.sync()?;
        Ok(control)
    }

    /// The one that is there. `None` if it says nothing: its making was cut off, or it is damaged.
    pub(crate) fn open(files: &impl Files<File = F>) -> Result<Option<Self>, StorageError> {
        let file = files.open(NAME)?;
        let content = file.read(0, 2 * SLOT_BYTES)?;
        let slots = [0, SLOT_BYTES].map(|at| content.get(at..).and_then(State::parse));
        let newest = slots.into_iter().flatten().max_by_key(|state| state.count);
        Ok(newest.map(|state| Self { file, state }))
    }

    /// Says it anew, durably.
    pub(crate) fn set(
        &mut self,
        (newest, oldest): (u64, u64),
        synced: u64,
    ) -> Result<(), StorageError> {
        let state = State { count: self.state.count + 1, newest, oldest, synced };
        let slot = if state.count.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 };
        self.file.write(slot, &state.encode())?;
        self.file.sync()?;
        self.state = state;
        Ok(())
    }
}
