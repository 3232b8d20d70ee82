//! What a write of a session costs an engine: CPU of the whole process, flushes and compactions included.
//!
//! 200,000 live sessions of 2 KB, half of it random. Four of five writes rewrite one (Zipf 0.9); the fifth begins a new one
//! and lets the oldest expire. 32 batches of one write in a group. In the end every live session is read back.
//!
//!     cargo run --release -p moim-storage --features rocksdb --example sessions -- ENGINE [key=value …]
//!
//! ENGINE is `rocksdb`, `lsm` or `memory`. Keys: `writes` (2000000), `memtable_mb`, `sync` (`none`, `group`, or
//! milliseconds between syncs by another thread), `group` (32), `reads` (`off`, `on`: a thread reads beside the writer),
//! `rate` (writes a second, 0: as fast as it goes), `directory`.

#![expect(clippy::disallowed_methods, reason = "it measures time, and is no part of a node")]
#![expect(clippy::print_stdout, reason = "its result")]
#![expect(clippy::cast_precision_loss, reason = "counts far below 2^52, for quotients")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moim_storage::lsm::{DiskLsm, LsmOptions};
use moim_storage::memory::MemoryEngine;
use moim_storage::rocks::{RocksEngine, RocksOptions};
use moim_storage::{Cached, Durability, Engine, Family, Reclaim, ReclaimRule, StorageError, Write};

const LIVE: u64 = 200_000;
const VALUE_BYTES: usize = 2_048;
const ZIPF: f64 = 0.9;
const MIB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wishes = Wishes::parse()?;
    let sessions = Arc::new(Sessions::default());
    let engine = open(&wishes, &sessions)?;
    let mut writer = Writer::new(&*engine, &sessions, &wishes);
    writer.preload()?;
    settle(&*engine);
    let before = Usage::now();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let (mut reads, mut syncs) = (None, 0);
    thread::scope(|scope| -> Result<(), StorageError> {
        let (engine, stop) = (&*engine, &stop);
        let sessions = &*sessions;
        let reader = wishes.reads.then(|| scope.spawn(move || read(engine, sessions, stop)));
        let syncer = wishes
            .sync_every
            .map(|every| scope.spawn(move || sync_now_and_then(engine, every, stop)));
        let outcome = writer.run(&wishes);
        stop.store(true, Ordering::Relaxed);
        reads = reader.and_then(|reader| reader.join().ok());
        syncs = syncer.and_then(|syncer| syncer.join().ok()).unwrap_or(0);
        outcome
    })?;
    let writing = begun.elapsed();
    let writer_cpu = Usage::now();
    settle(&*engine);
    let usage = Usage::now();

    let writes = wishes.writes as f64;
    let figures = engine.figures();
    println!(
        "{}: CPU {:.2} us/write ({:.2} while writing), {:.0} writes/s, {:.2} bytes written per byte accepted, \
         peak RSS {} MB",
        wishes.name(),
        (usage.cpu_s - before.cpu_s) * 1e6 / writes,
        (writer_cpu.cpu_s - before.cpu_s) * 1e6 / writes,
        writes / writing.as_secs_f64(),
        (usage.written_bytes - before.written_bytes) as f64 / (writes * VALUE_BYTES as f64),
        usage.peak_rss_kb / 1024,
    );
    println!("  groups: {}", quantiles(&mut writer.latencies));
    println!(
        "  log {} MB, flushed and compacted {} MB, tables {} ({} MB), stalled {} ms, {} log syncs, {syncs} asked for",
        figures.log_bytes / MIB as u64,
        figures.compaction_written_bytes / MIB as u64,
        figures.tables,
        figures.tables_bytes / MIB as u64,
        figures.stall_micros / 1_000,
        figures.log_syncs,
    );
    if let Some(mut reads) = reads {
        println!("  reads in memory: {}", quantiles(&mut reads.cached));
        println!("  reads of tables: {}", quantiles(&mut reads.hits));
        println!("  reads of absent keys: {}", quantiles(&mut reads.misses));
    }
    writer.check()
}

/// What is to be measured.
struct Wishes {
    engine: String,
    all: BTreeMap<String, String>,
    writes: u64,
    group: u64,
    rate: u64,
    reads: bool,
    durability: Durability,
    sync_every: Option<Duration>,
    directory: PathBuf,
}

impl Wishes {
    fn parse() -> Result<Self, Box<dyn std::error::Error>> {
        let mut arguments = std::env::args().skip(1);
        let engine = arguments.next().ok_or("which engine? rocksdb, lsm or memory")?;
        let all: BTreeMap<String, String> = arguments
            .filter_map(|argument| {
                argument.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect();
        let number = |key: &str, otherwise: u64| {
            all.get(key).map_or(Ok(otherwise), |value| value.parse::<u64>())
        };
        let sync = all.get("sync").map_or("none", String::as_str);
        let directory = all.get("directory").map_or_else(
            || std::env::temp_dir().join(format!("moim-sessions-{}", std::process::id())),
            PathBuf::from,
        );
        Ok(Self {
            writes: number("writes", 2_000_000)?,
            group: number("group", 32)?,
            rate: number("rate", 0)?,
            reads: all.get("reads").is_some_and(|value| value == "on"),
            durability: if sync == "group" { Durability::Synced } else { Durability::Written },
            sync_every: sync.parse().ok().map(Duration::from_millis),
            directory,
            engine,
            all,
        })
    }

    fn name(&self) -> String {
        let all = self.all.iter().filter(|(key, _)| *key != "directory");
        let rest: Vec<_> = all.map(|(key, value)| format!("{key}={value}")).collect();
        format!("{} {}", self.engine, rest.join(" ")).trim_end().to_owned()
    }
}

fn open(wishes: &Wishes, sessions: &Arc<Sessions>) -> Result<Box<dyn Engine>, StorageError> {
    let directory = &wishes.directory;
    let asked = wishes.all.get("memtable_mb").and_then(|value| value.parse::<usize>().ok());
    let rule = rule(sessions);
    match wishes.engine.as_str() {
        "rocksdb" => {
            let memtable_bytes = asked.unwrap_or(64) * MIB;
            let options = RocksOptions { memtable_bytes, ..RocksOptions::default() };
            Ok(Box::new(RocksEngine::open(directory, &options, Some(rule))?))
        }
        "lsm" => {
            let options = match asked {
                None => LsmOptions::default(),
                Some(mib) => LsmOptions::for_memtable(mib * MIB),
            };
            let rocks = RocksOptions { cache_bytes: 256 * MIB, ..RocksOptions::default() };
            Ok(Box::new(DiskLsm::open_directory(directory, &rocks, options, Some(rule))?))
        }
        _ => Ok(Box::new(MemoryEngine::new(Some(rule)))),
    }
}

/// What of the sessions is known to all threads.
#[derive(Default)]
struct Sessions {
    /// Sessions begun so far; the last [`LIVE`] of them live.
    begun: AtomicU64,
}

fn rule(sessions: &Arc<Sessions>) -> ReclaimRule {
    let sessions = Arc::clone(sessions);
    Arc::new(move |_, value| {
        let Some(id) = value.first_chunk::<8>() else { return Reclaim::Keep };
        let is_expired = u64::from_be_bytes(*id) + LIVE < sessions.begun.load(Ordering::Relaxed);
        if is_expired { Reclaim::Remove } else { Reclaim::Keep }
    })
}

struct Writer<'a> {
    engine: &'a dyn Engine,
    sessions: &'a Sessions,
    durability: Durability,
    group: Vec<Vec<Write>>,
    group_writes: u64,
    /// The version of each live session, by its number modulo their count.
    versions: Vec<u64>,
    values: Values,
    zipf: Zipf,
    random: Random,
    latencies: Vec<u32>,
}

impl<'a> Writer<'a> {
    fn new(engine: &'a dyn Engine, sessions: &'a Sessions, wishes: &Wishes) -> Self {
        Self {
            engine,
            sessions,
            durability: wishes.durability,
            group: Vec::new(),
            group_writes: wishes.group,
            versions: vec![0; usize::try_from(LIVE).unwrap_or(usize::MAX)],
            values: Values::new(),
            zipf: Zipf::new(),
            random: Random(1),
            latencies: Vec::new(),
        }
    }

    fn preload(&mut self) -> Result<(), StorageError> {
        (0..LIVE).try_for_each(|_| self.begin())?;
        self.latencies.clear();
        Ok(())
    }

    fn run(&mut self, wishes: &Wishes) -> Result<(), StorageError> {
        let begun = Instant::now();
        for number in 0..wishes.writes {
            if wishes.rate > 0 && number.is_multiple_of(self.group_writes) {
                let due = Duration::from_secs_f64(number as f64 / wishes.rate as f64);
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            if self.random.below(5) == 0 {
                self.begin()?;
            } else {
                let begun = self.sessions.begun.load(Ordering::Relaxed);
                let id = self.zipf.session(begun, &mut self.random);
                self.write(id)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), StorageError> {
        let id = self.sessions.begun.fetch_add(1, Ordering::Relaxed);
        self.versions[slot(id)] = 0;
        self.write(id)
    }

    fn write(&mut self, id: u64) -> Result<(), StorageError> {
        let version = &mut self.versions[slot(id)];
        *version += 1;
        let value = self.values.value(id, *version, &mut self.random);
        self.group.push(vec![Write::Put { family: Family::Data, key: key(id), value }]);
        if self.group.len() as u64 >= self.group_writes {
            let begun = Instant::now();
            self.engine.apply(&self.group, self.durability)?;
            self.latencies.push(micros(begun));
            self.group.clear();
        }
        Ok(())
    }

    /// Every live session is there, in its newest version.
    fn check(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.engine.apply(&self.group, self.durability)?;
        let begun = self.sessions.begun.load(Ordering::Relaxed);
        for id in begun - LIVE..begun {
            let value = self.engine.get(Family::Data, &key(id))?.ok_or("a session is gone")?;
            let version = self.versions[slot(id)];
            let head = [id.to_be_bytes(), version.to_be_bytes()].concat();
            if value[..16] != head[..] {
                return Err(format!("session {id} is not in its version {version}").into());
            }
        }
        println!("  all {LIVE} live sessions were read back in their newest version");
        Ok(())
    }
}

fn slot(id: u64) -> usize {
    usize::try_from(id % LIVE).unwrap_or(0)
}

/// 24 bytes, in an order that has nothing to do with age.
fn key(id: u64) -> Bytes {
    let mut random = Random(id + 1);
    let mut key = random.next().to_be_bytes().to_vec();
    key.extend(b"session:");
    key.extend(id.to_be_bytes());
    key.into()
}

/// What a reader has seen, in microseconds.
#[derive(Default)]
struct Reads {
    cached: Vec<u32>,
    hits: Vec<u32>,
    misses: Vec<u32>,
}

fn read(engine: &dyn Engine, sessions: &Sessions, stop: &AtomicBool) -> Reads {
    let mut reads = Reads::default();
    let (zipf, mut random) = (Zipf::new(), Random(2));
    while !stop.load(Ordering::Relaxed) {
        let begun = sessions.begun.load(Ordering::Relaxed);
        let id = zipf.session(begun, &mut random);
        let started = Instant::now();
        if let Ok(Cached::Known(_)) = engine.get_cached(Family::Data, &key(id)) {
            reads.cached.push(micros(started));
        } else {
            drop(engine.get(Family::Data, &key(id)));
            reads.hits.push(micros(started));
        }
        let absent = key(u64::MAX / 2 + random.below(1 << 40));
        let started = Instant::now();
        if !matches!(engine.get_cached(Family::Data, &absent), Ok(Cached::Known(_))) {
            drop(engine.get(Family::Data, &absent));
        }
        reads.misses.push(micros(started));
        thread::sleep(Duration::from_micros(200));
    }
    reads
}

fn sync_now_and_then(engine: &dyn Engine, every: Duration, stop: &AtomicBool) -> u64 {
    let mut syncs = 0;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(every);
        syncs += u64::from(engine.sync().is_ok());
    }
    syncs
}

/// Waits until nothing is left to compact.
fn settle(engine: &dyn Engine) {
    let mut quiet = 0;
    let mut last = (0, 0);
    while quiet < 5 {
        thread::sleep(Duration::from_millis(200));
        let figures = engine.figures();
        let now = (figures.compaction_written_bytes, figures.tables);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
}

struct Values {
    noise: Vec<u8>,
    text: Vec<u8>,
}

impl Values {
    fn new() -> Self {
        let mut random = Random(3);
        let noise = (0..MIB / 8).flat_map(|_| random.next().to_be_bytes()).collect();
        let words = [&b"session "[..], b"cart: ", b"user=", b"theme dark, ", b"locale ko-KR; "];
        let mut text = Vec::new();
        while text.len() < MIB {
            text.extend(words[usize::try_from(random.below(5)).unwrap_or(0)]);
        }
        Self { noise, text }
    }

    fn value(&self, id: u64, version: u64, random: &mut Random) -> Bytes {
        let at = usize::try_from(random.below(MIB as u64 - 4096)).unwrap_or(0);
        let half = VALUE_BYTES / 2;
        let mut value = Vec::with_capacity(VALUE_BYTES);
        value.extend(id.to_be_bytes());
        value.extend(version.to_be_bytes());
        value.extend_from_slice(&self.noise[at..at + half - 16]);
        value.extend_from_slice(&self.text[at..at + half]);
        value.into()
    }
}

/// Ranks by popularity, from a table of the distribution.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        let ranks = (1..=LIVE).map(|rank| {
            sum += 1.0 / (rank as f64).powf(ZIPF);
            sum
        });
        Self(ranks.collect())
    }

    /// A live session; which are popular has nothing to do with their age.
    fn session(&self, begun: u64, random: &mut Random) -> u64 {
        let whole = self.0.last().copied().unwrap_or(1.0);
        let at = whole * (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = self.0.partition_point(|sum| *sum < at) as u64;
        let slot = rank.wrapping_mul(7_919) % LIVE;
        let oldest = begun.saturating_sub(LIVE);
        oldest + (slot + LIVE - oldest % LIVE) % LIVE
    }
}

/// xorshift*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What the kernel says that this process has used.
#[derive(Clone, Copy)]
struct Usage {
    cpu_s: f64,
    written_bytes: u64,
    peak_rss_kb: u64,
}

impl Usage {
    fn now() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let stat = read("/proc/self/stat");
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
        let named = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0)
        };
        Self {
            cpu_s: (ticks(11) + ticks(12)) / 100.0,
            written_bytes: named(&read("/proc/self/io"), "write_bytes:"),
            peak_rss_kb: named(&read("/proc/self/status"), "VmHWM:"),
        }
    }
}

fn micros(begun: Instant) -> u32 {
    u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn quantiles(micros: &mut [u32]) -> String {
    micros.sort_unstable();
    let at = |part: usize| {
        let index = (micros.len() * part / 1_000).min(micros.len().saturating_sub(1));
        micros.get(index).copied().unwrap_or(0)
    };
    format!(
        "{} of them, p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        micros.len(),
        at(500),
        at(990),
        at(999),
        at(1_000)
    )
}
