//! What a node may keep in memory, as one budget that its parts share.
//!
//! `memory_bytes` is the whole. A part that is 0 gets its share of what the others leave; a part that is set is what it
//! says, and must leave something. So the parts always add up to the whole, whatever is set.

use super::{ConfigError, EngineKind, NodeConfig};

/// Shares of the parts, in the order of [`Memory`]'s fields without `memtable_bytes`. The last is what is not counted
/// one by one: buffers of peers' connections, trees, hints, gossip, tables of compactions, the program itself.
const SHARES: [u64; 6] = [20, 24, 4, 4, 4, 8];

/// Into how many memory tables the engine's part would go: it has two (lsm) or three (rocksdb) at once, and the rest is for
/// blocks that it has read. A table of the log engine is where what is written and read often is found, and what is
/// overwritten there is never written out: so it is as large as can be.
const fn memtables(engine: EngineKind) -> u64 {
    match engine {
        EngineKind::Auto | EngineKind::Lsm => 3,
        EngineKind::RocksDb | EngineKind::Memory => 6,
    }
}

/// Less is not worth a node: the storage engine would do nothing but write out small tables.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// A memory table at the least.
const MEMTABLE_BYTES_MIN: u64 = 1 << 20;

/// Bytes that each part may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// Objects used last.
    pub objects_bytes: u64,
    /// The storage engine: blocks read, filters, memory tables.
    pub engine_bytes: u64,
    /// One memory table, within `engine_bytes`.
    pub memtable_bytes: u64,
    /// Writes that wait for their sync.
    pub unsynced_bytes: u64,
    /// Copies owed to nodes that do not answer.
    pub owed_bytes: u64,
    /// Buffers of Redis clients' connections.
    pub clients_bytes: u64,
    /// Everything else.
    pub rest_bytes: u64,
}

impl Memory {
    /// The budget that a configuration states: for all of it as one.
    pub fn of(node: &NodeConfig) -> Self {
        let set = [
            node.cache_bytes,
            node.block_cache_bytes,
            node.unsynced_bytes_max,
            node.tasks_bytes_max,
            0,
            0,
        ];
        let left = set.iter().fold(node.memory_bytes, |left, &set| left.saturating_sub(set));
        let shares: u64 =
            SHARES.iter().zip(set).filter(|(_, set)| *set == 0).map(|(share, _)| share).sum();
        let part = |at: usize| if set[at] == 0 { left / shares * SHARES[at] } else { set[at] };
        let engine_bytes = part(1);
        let memtable_bytes = match node.memtable_bytes {
            0 => (engine_bytes / memtables(node.engine)).max(MEMTABLE_BYTES_MIN),
            set => set,
        };
        Self {
            total_bytes: node.memory_bytes,
            objects_bytes: part(0),
            engine_bytes,
            memtable_bytes,
            unsynced_bytes: part(2),
            owed_bytes: part(3),
            clients_bytes: part(4),
            rest_bytes: part(5),
        }
    }

    /// The parts by name, which together are the whole but for a remainder of bytes.
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        [
            ("objects", self.objects_bytes),
            ("engine", self.engine_bytes),
            ("unsynced", self.unsynced_bytes),
            ("owed", self.owed_bytes),
            ("clients", self.clients_bytes),
            ("rest", self.rest_bytes),
        ]
    }
}

pub(super) fn check(server: &NodeConfig) -> Result<(), ConfigError> {
    let least = MEMORY_BYTES_MIN * u64::from(server.shards);
    if server.memory_bytes < least {
        let least = format!("must be at least {least}");
        return Err(ConfigError::new("node.memory_bytes", least));
    }
    let node = &server.of_shard(0);
    let set =
        [node.cache_bytes, node.block_cache_bytes, node.unsynced_bytes_max, node.tasks_bytes_max];
    let sum = set.iter().fold(0_u64, |sum, &part| sum.saturating_add(part));
    if sum > node.memory_bytes / 8 * 7 {
        return Err(ConfigError::new(
            "node.memory_bytes",
            format!(
                "{} is too little for cache_bytes, block_cache_bytes, unsynced_bytes_max and tasks_bytes_max, which \
                 are {sum} together and have to leave an eighth; set it to {} or leave some of them at 0",
                node.memory_bytes,
                sum.saturating_mul(8) / 7 + 8
            ),
        ));
    }
    let memory = Memory::of(node);
    if memory.memtable_bytes < MEMTABLE_BYTES_MIN || memory.engine_bytes / 3 < memory.memtable_bytes
    {
        return Err(ConfigError::new(
            "node.block_cache_bytes",
            format!(
                "must be at least three times memtable_bytes, and that at least {MEMTABLE_BYTES_MIN}; they are {} and {}",
                memory.engine_bytes, memory.memtable_bytes
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(memory: &Memory) -> u64 {
        memory.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn the_parts_are_the_whole() {
        let with = |change: fn(&mut NodeConfig)| {
            let mut node = NodeConfig::default();
            change(&mut node);
            check(&node).unwrap();
            let memory = Memory::of(&node);
            let missing = memory.total_bytes - sum(&memory);
            assert!(missing < 64, "{missing} bytes of {memory:?} are nobody's");
            memory
        };
        let default = with(|_| {});
        assert_eq!(default.total_bytes, 1 << 30);
        assert_eq!(default.objects_bytes, 320 << 20);
        assert_eq!(default.engine_bytes, 384 << 20);
        assert_eq!(default.memtable_bytes, 128 << 20);
        let rocks = with(|node| node.engine = EngineKind::RocksDb);
        assert_eq!((rocks.engine_bytes, rocks.memtable_bytes), (384 << 20, 64 << 20));
        let large = with(|node| node.memory_bytes = 64 << 30);
        assert_eq!(large.objects_bytes, 20 << 30);
        let set = with(|node| {
            node.cache_bytes = 100 << 20;
            node.unsynced_bytes_max = 1;
        });
        assert_eq!((set.objects_bytes, set.unsynced_bytes), (100 << 20, 1));
        with(|node| node.memory_bytes = MEMORY_BYTES_MIN);
    }

    #[test]
    fn parts_that_leave_nothing_are_refused() {
        let refused = |change: fn(&mut NodeConfig)| {
            let mut node = NodeConfig::default();
            change(&mut node);
            check(&node).unwrap_err().to_string()
        };
        assert!(refused(|node| node.memory_bytes = 1).contains("at least 67108864"));
        assert!(refused(|node| node.cache_bytes = 1 << 30).contains("set it to 1227133521"));
        assert!(refused(|node| node.tasks_bytes_max = u64::MAX).contains("too little"));
        assert!(refused(|node| node.memtable_bytes = 1 << 29).contains("three times"));
    }
}
