//! `moim bench`: load on any server that speaks the Redis protocol, and how long it took.
//!
//! Two ways to load. A *closed loop* sends the next requests when the last are answered: it finds the throughput. A
//! *fixed rate* (`--rate`) has a time planned for every request and measures from there, so that a server that stalls
//! is charged for the requests it kept from being sent (coordinated omission, after Gil Tene). Latencies go into HDR
//! histograms of three digits. Keys are uniform or Zipf-distributed; hot keys are spread over the key space.

mod connection;
mod keys;
mod reply;
mod report;
mod served;
mod slots;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use moim_server::http::document;
use moim_server::http::duration::parse_ms;

use crate::Ended;
use crate::bench::connection::Plan;
use crate::bench::keys::Chooser;
use crate::bench::report::{Report, Tally};
use crate::bench::served::Served;
use crate::client::node::Node;
use crate::ending::{Ending, Trouble};
use crate::options::{Connection, InNamespace, Output, duration};
use crate::print;

/// Connections at the most: each is a socket here and there.
const CONNECTIONS_MAX: u64 = 10_000;
/// Requests sent together at the most.
const PIPELINE_MAX: u64 = 1_024;
/// Bytes of a value at the most: the largest that a namespace can be set to take.
const VALUE_BYTES_MAX: u64 = 16 << 20;
/// Keys at the most: the table behind a Zipf distribution is summed once over all of them.
const KEYS_MAX: u64 = 1_000_000_000;
/// Copies at the most that writes wait for.
const WAIT_MAX: i64 = 16;
/// Threads at the most; one drives tens of thousands of requests a second.
const THREADS_MAX: u64 = 64;

/// Put load on the cluster and measure.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  moim bench --fill --duration 10s            fill the keys, then 5 reads to 1 write as fast as it goes
  moim bench --rate 20000 --pipeline 1        latency at 20,000 requests a second
  moim bench --redis 127.0.0.1:6379           the same load on another server
  moim bench --redis 127.0.0.1:7001 --cluster --wait 1
                                              on a Redis Cluster, each write on two of its nodes")]
pub(crate) struct Bench {
    /// HTTP address of any node; all nodes that it knows are loaded.
    #[arg(long, value_name = "HOST:PORT", env = "MOIM_ADDR")]
    addr: Option<String>,
    /// Redis addresses to load instead of asking a node for them.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    redis: Vec<String>,
    /// Send each key to the node that serves its slot, as clients of a Redis Cluster do. With --redis any node of it.
    #[arg(long)]
    cluster: bool,
    /// A file with the password.
    #[arg(long, value_name = "FILE", env = "MOIM_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// The password. Only from the environment: other users of this machine can see command lines.
    #[arg(skip = std::env::var("MOIM_PASSWORD").ok())]
    password: Option<String>,
    #[command(flatten)]
    namespace: InNamespace,
    /// Parts of the requests that read.
    #[arg(long, value_name = "PARTS", default_value_t = 5)]
    reads: u32,
    /// Parts of the requests that write.
    #[arg(long, value_name = "PARTS", default_value_t = 1)]
    writes: u32,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 2_048,
          value_parser = clap::value_parser!(u64).range(..=VALUE_BYTES_MAX))]
    value_size: u64,
    /// How much of a value is one repeated byte, in percent; the rest is random.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    compressible: u8,
    /// After the writes of a pipeline, `WAIT` until this many replicas have them: for Redis, which otherwise copies later.
    #[arg(long, value_name = "REPLICAS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=WAIT_MAX))]
    wait: u32,
    /// How many keys there are.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    keys: u64,
    /// How unequal the keys are, from 0 (uniform) to below 1 (0.9: a few are very hot).
    #[arg(long, value_name = "THETA", default_value_t = 0.9, value_parser = theta)]
    zipf: f64,
    /// Connections, spread over the nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,
    /// Requests sent together on a connection.
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=PIPELINE_MAX))]
    pipeline: u64,
    /// Requests a second in all; without it as many as are answered.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How long to load before measuring, as 2s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    warm_up: String,
    /// How long to measure, as 30s; with --fill and 0s the keys are only filled.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    duration: String,
    /// Threads of this program.
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=THREADS_MAX))]
    threads: u64,
    /// Write every key once before measuring.
    #[arg(long)]
    fill: bool,
    /// Also write the figures to this file as JSON; `-` for standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn theta(text: &str) -> Result<f64, String> {
    let theta: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..1.0).contains(&theta) { Ok(theta) } else { Err("from 0 to below 1".to_owned()) }
}

fn size(bounded: u64) -> usize {
    usize::try_from(bounded).expect("bounded by the command line")
}

fn check_masters(masters: &[SocketAddr], connections: usize) -> Result<(), Trouble> {
    if masters.len() <= connections {
        return Ok(());
    }
    Err(Trouble::usage(format!(
        "--connections {connections}: each of the {} masters needs one",
        masters.len()
    )))
}

/// What the threads share while they run.
#[derive(Debug, Default)]
struct Shared {
    /// Somebody wants it to end.
    stop: AtomicBool,
    /// Requests answered.
    answered: AtomicU64,
    /// Requests that failed.
    failed: AtomicU64,
}

impl Bench {
    pub(crate) fn run(self) -> Ended {
        if self.reads + self.writes == 0 {
            return Err(Trouble::usage("--reads 0 --writes 0 asks for nothing"));
        }
        let plan = Arc::new(self.plan()?);
        let shared = Arc::new(Shared::default());
        stop_on_interrupt(&shared, || {
            if self.fill {
                self.fill(&plan, &shared)?;
                if plan.duration.is_zero() {
                    return Ok(Ending::Done);
                }
            }
            self.measure(&plan, &shared)
        })
    }

    fn plan(&self) -> Result<Plan, Trouble> {
        let mut addresses = Vec::new();
        for address in &self.addresses()? {
            let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
            addresses.push(found.ok_or_else(|| {
                Trouble::usage(format!("{address}: no such address (HOST:PORT is wanted)"))
            })?);
        }
        let password = self.connection().secret()?;
        let connections = size(self.connections);
        let mut slots = None;
        if self.cluster {
            let (masters, table) = slots::ask(&addresses, password.as_deref())?;
            check_masters(&masters, connections)?;
            (addresses, slots) = (masters, Some(table));
        }
        let time = |text: &str| parse_ms(text).map(Duration::from_millis).map_err(Trouble::usage);
        Ok(Plan {
            addresses,
            password,
            namespace: self.namespace.namespace.clone(),
            slots,
            chooser: Chooser::new(self.keys, self.zipf),
            reads: self.reads,
            writes: self.writes,
            wait: self.wait,
            value_bytes: size(self.value_size),
            compressible_percent: self.compressible,
            pipeline: size(self.pipeline),
            connections,
            threads: size(self.threads.min(self.connections)),
            rate: self.rate,
            warm_up: time(&self.warm_up)?,
            duration: time(&self.duration)?,
        })
    }

    fn connection(&self) -> Connection {
        Connection {
            addr: self.addr.clone(),
            password_file: self.password_file.clone(),
            password: self.password.clone(),
            output: Output { json: false },
        }
    }

    fn addresses(&self) -> Result<Vec<String>, Trouble> {
        if !self.redis.is_empty() {
            return Ok(self.redis.clone());
        }
        let nodes: document::Nodes = Node::choose(&self.connection())?.get("/v1/nodes")?;
        let port = |addresses: document::Addresses| {
            if self.cluster { addresses.cluster } else { addresses.redis }
        };
        let addresses: Vec<_> = nodes.nodes.into_iter().map(|node| port(node.addresses)).collect();
        if addresses.is_empty() {
            return Err(Trouble::failed("the cluster has no nodes yet: `moim status` says why"));
        }
        Ok(addresses)
    }

    /// Writes every key once.
    fn fill(&self, plan: &Arc<Plan>, shared: &Arc<Shared>) -> Result<(), Trouble> {
        let done = || shared.answered.load(Ordering::Relaxed);
        let total = self.keys;
        let say = |_elapsed: Duration| format!("filling: {} of {total} keys", done());
        let tally = run_threads(plan, shared, &say, |thread| thread.fill(plan, shared))?;
        let report = Report::new(plan, &tally, tally.elapsed);
        print::note(&format!(
            "filled {} keys of {} bytes in {:.1} s",
            done(),
            plan.value_bytes,
            tally.elapsed.as_secs_f64()
        ));
        shared.answered.store(0, Ordering::Relaxed);
        if report.failed() > 0 {
            return Err(Trouble::failed(format!("filling failed: {}", report.errors_in_words())));
        }
        Ok(())
    }

    fn measure(&self, plan: &Arc<Plan>, shared: &Arc<Shared>) -> Ended {
        let answered = || shared.answered.load(Ordering::Relaxed);
        let say = |elapsed: Duration| {
            let seconds = elapsed.as_secs_f64().max(0.001);
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let per_second = answered() as f64 / seconds;
            let failed = shared.failed.load(Ordering::Relaxed);
            format!("{seconds:.0} s: {per_second:.0} requests/s, {failed} failed")
        };
        let ask = || served::ask(&plan.addresses, plan.password.as_deref());
        let before = ask();
        let tally = run_threads(plan, shared, &say, |thread| thread.measure(plan, shared))?;
        let mut report = Report::new(plan, &tally, tally.elapsed);
        let counts = before.zip(ask());
        report.served = counts.map(|(before, after)| Served::between(&before, &after));
        match &self.json {
            Some(path) if path.as_os_str() == "-" => print::json(&report),
            Some(path) => {
                report.write_to(path)?;
                print::raw(report.table().as_bytes());
            }
            None => print::raw(report.table().as_bytes()),
        }
        Ok(if report.answered() == 0 { Ending::Failed } else { Ending::Done })
    }
}

/// Runs `work`; an interrupt makes it end early, with what it has measured by then.
fn stop_on_interrupt<T>(shared: &Shared, work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (finished, wait) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                tokio::select! {
                    _ = wait => {}
                    interrupted = tokio::signal::ctrl_c() => {
                        shared.stop.store(interrupted.is_ok(), Ordering::Relaxed);
                    }
                }
            });
        });
        let done = work();
        finished.send(()).ok();
        done
    })
}

/// How often progress is looked at.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Runs a thread's part on each thread, and says how it goes meanwhile.
fn run_threads(
    plan: &Arc<Plan>,
    shared: &Arc<Shared>,
    say: &dyn Fn(Duration) -> String,
    part: impl Fn(connection::Thread) -> Result<Tally, Trouble> + Sync,
) -> Result<Tally, Trouble> {
    let begun = Instant::now();
    let mut progress = print::Progress::begin();
    let part = &part;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|number| scope.spawn(move || part(connection::Thread { number, begun })))
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(PROGRESS_EVERY);
            progress.say(&say(begun.elapsed()));
        }
        let mut total = Tally::new();
        for thread in threads {
            let tally = thread.join().map_err(|_panic| {
                shared.stop.store(true, Ordering::Relaxed);
                Trouble::failed("a thread of the benchmark ended unexpectedly")
            })??;
            total.add(&tally);
        }
        Ok(total)
    })
}
