//! What two replicas ask each other while they compare.

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::clock::Hlc;
use moim_core::merkle::{GROUPS, Place, Slice};
use moim_core::ring::Partition;

/// On what terms a comparison goes: they come with every question, so that who answers keeps nothing in mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The version of the ring that says what both own.
    pub ring: u64,
    /// When the comparison began by the asking node's clock: what it finds equal was equal then.
    pub since: Hlc,
    /// The same by the answering node's clock, as it told; zero at first. Each side remembers its own: what it knew
    /// before a moment can only be told by its own clock.
    pub theirs: Hlc,
    /// Slices that end here or before are left out, in Unix milliseconds: on one of the two they may have passed.
    pub horizon_ms: u64,
    /// Only this namespace, or all.
    pub namespace: Option<NamespaceId>,
    /// Whether the asking node has all its partitions.
    pub filled: bool,
}

/// A run of partitions, and what its shared trees sum up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first partition.
    pub first: Partition,
    /// The last one, included.
    pub last: Partition,
    /// The sum of the roots.
    pub sum: u64,
}

/// One slice of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceSum {
    /// Whose.
    pub namespace: NamespaceId,
    /// Which.
    pub slice: Slice,
    /// The sum of its cells.
    pub sum: u64,
}

/// One slice of a tree, and its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceGroups {
    /// Whose.
    pub namespace: NamespaceId,
    /// Which.
    pub slice: Slice,
    /// The sums of its groups.
    pub groups: [u64; GROUPS],
}

/// A page of what is in some slices of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOfEntries {
    /// The tree.
    pub place: Place,
    /// The slices that differ.
    pub slices: Vec<Slice>,
    /// From this hash of a key on.
    pub from_hash: u32,
    /// Hashes below this; `None` for all.
    pub below: Option<u32>,
    /// The asking node's entries there ([`moim_core::merkle::entry_hash`]).
    pub entries: Vec<u64>,
}

/// Runs of partitions that are filled one after the other, and named by one number.
pub(crate) const RUN_PARTITIONS: u16 = 256;

/// A page of what a node lacks that fills its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOfRest {
    /// From this persisted key on.
    pub from: Bytes,
    /// Up to this partition, included; at most 256 of them.
    pub last: Partition,
    /// Partitions of which the asking node holds nothing: bit i for the one i before the last.
    pub empty: [u64; 4],
}

impl PageOfRest {
    /// Whether the asking node wants everything of a partition.
    pub(super) fn is_empty(&self, partition: Partition) -> bool {
        let Some(before) = self.last.get().checked_sub(partition.get()) else { return false };
        let word = self.empty.get(usize::from(before / 64));
        word.is_some_and(|word| word & (1 << (before % 64)) != 0)
    }
}

/// A question, or something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A comparison begins: what does your clock say?
    Begin,
    /// Which of these differ?
    Spans(Vec<Span>),
    /// Which slices of this partition differ from these, and how do their groups sum up?
    Slices(Partition, Vec<SliceSum>),
    /// Which leaves of these groups of [`Slice::NEVER`] differ?
    Leaves(Place, Vec<(u8, [u64; GROUPS])>),
    /// Which of these entries do you have, and which objects have I not?
    Entries(PageOfEntries),
    /// Join this object, and give me yours if it holds more.
    Object {
        /// Where the key lives.
        namespace: NamespaceId,
        /// The key.
        key: Bytes,
        /// An encoded object.
        object: Bytes,
    },
    /// What the two of us held of this partition is at both now.
    Done(Partition),
    /// What do you hold there that trees do not count, and where I have nothing, what at all?
    Rest(PageOfRest),
}

/// An answer to [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Begun(Hlc),
    /// Indices of the spans that differ, and whether the answering node has all its partitions.
    Spans(Vec<u16>, bool),
    /// Slices that differ, with this node's sums.
    Slices(Vec<SliceGroups>),
    /// Groups with a bit for each leaf that differs.
    Leaves(Vec<(u8, u16)>),
    /// What the asking node lacks and the answering one lacks.
    Entries {
        /// A bit for each entry that was named: set if it is here too.
        present: Vec<u8>,
        /// Keys and encoded objects that were not named.
        objects: Vec<(Bytes, Bytes)>,
        /// All this holds for hashes below this; `None`: for the whole range.
        complete_below: Option<u32>,
    },
    /// The joined object if it holds more than what came.
    Object(Option<Bytes>),
    /// Noted.
    Done,
    /// What trees do not count, and more where the asking node holds nothing.
    Rest {
        /// Persisted keys and encoded objects.
        objects: Vec<(Bytes, Bytes)>,
        /// From where to ask on; `None` after the last.
        next: Option<Bytes>,
    },
    /// Slices up to this Unix millisecond have passed here: ask with a later horizon.
    Passed(u64),
}

/// What a message costs beside what it carries, in bytes: frame, operation, terms.
const MESSAGE_BYTES: u64 = 56;

impl Ask {
    /// Bytes on the wire, about.
    pub(super) fn bytes(&self) -> u64 {
        MESSAGE_BYTES
            + match self {
                Self::Spans(spans) => 12 * spans.len() as u64,
                Self::Slices(_, slices) => 21 * slices.len() as u64,
                Self::Leaves(_, groups) => 129 * groups.len() as u64,
                Self::Entries(page) => 8 * page.entries.len() as u64,
                Self::Object { key, object, .. } => (key.len() + object.len()) as u64,
                Self::Begin | Self::Done(_) => 0,
                Self::Rest(page) => page.from.len() as u64 + 34,
            }
    }
}

impl Answer {
    /// Bytes on the wire, about.
    pub(super) fn bytes(&self) -> u64 {
        let object = |(key, object): &(Bytes, Bytes)| (key.len() + object.len()) as u64;
        MESSAGE_BYTES / 2
            + match self {
                Self::Spans(differ, _) => 2 * differ.len() as u64,
                Self::Slices(slices) => 141 * slices.len() as u64,
                Self::Leaves(groups) => 3 * groups.len() as u64,
                Self::Entries { present, objects, .. } => {
                    present.len() as u64 + objects.iter().map(object).sum::<u64>()
                }
                Self::Rest { objects, .. } => objects.iter().map(object).sum(),
                Self::Object(more) => more.as_ref().map_or(0, |object| object.len() as u64),
                Self::Begun(_) | Self::Done | Self::Passed(_) => 8,
            }
    }
}
