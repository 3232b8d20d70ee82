//! What is too large, broken, or half there ends for its own connection alone, and costs no memory.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::redis::{self, Reply};
use super::stage::Stage;

/// How much more memory a node may hold after all of it.
const GROWTH_KB_MAX: u64 = 64 << 10;
/// What is sent at the most to somebody who ought to close.
const FLOOD_BYTES: usize = 96 << 20;
/// How long an unfinished request may be awaited; the servers' own limits are below it.
const SILENCE: Duration = Duration::from_secs(90);
/// Clients at once that announce the largest value there can be, and send none of it.
const ANNOUNCERS: usize = 64;

/// What must come of a probe.
#[derive(Clone, Copy)]
enum Expected {
    /// An answer that begins so; the connection may go on.
    Says(&'static str),
    /// An error that begins so and then the end of the connection, or just that end.
    Ends(&'static str),
}

struct Probe {
    what: &'static str,
    bytes: Vec<u8>,
    /// Sent on and on behind it.
    flood: bool,
    expected: Expected,
}

impl Probe {
    fn new(what: &'static str, bytes: impl Into<Vec<u8>>, expected: Expected) -> Self {
        Self { what, bytes: bytes.into(), flood: false, expected }
    }

    fn flooding(self) -> Self {
        Self { flood: true, ..self }
    }
}

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    cluster.call(1, &["SET", "witness", "here"])?;
    let before_kb = cluster.resident_kb(1)?;
    // Opened first: how long they are borne with shows at the end.
    let (began, unfinished) = (Instant::now(), unfinished(&cluster)?);
    let ports = [
        ("Redis", cluster.redis_port(1), redis_probes()),
        ("Redis Cluster", cluster.cluster_port(1), redis_probes()),
        ("peer", cluster.peer_port(1), peer_probes()),
        ("HTTP", cluster.http_port(1), http_probes()),
    ];
    for (name, port, probes) in ports {
        for probe in probes {
            let seen = put_up_with(port, &probe)?;
            println!("  {name} port, {}: {seen}", probe.what);
            others_are_served(&cluster, probe.what)?;
        }
    }
    announcers(&cluster)?;
    a_client_that_never_reads(&cluster)?;
    for (what, stream) in unfinished {
        let ended = ends(stream, (began + SILENCE).saturating_duration_since(Instant::now()));
        ensure!(ended, "{what}, then silence: still open after {} s", SILENCE.as_secs());
        println!("  {what}, then silence: closed within {:.0} s", began.elapsed().as_secs_f64());
        others_are_served(&cluster, what)?;
    }
    let after_kb = cluster.resident_kb(1)?;
    println!("  resident memory: {} MB before, {} MB after", before_kb >> 10, after_kb >> 10);
    let growth_kb = after_kb.saturating_sub(before_kb);
    ensure!(growth_kb < GROWTH_KB_MAX, "resident memory grew by {growth_kb} kB");
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    Ok(Verdict::Shown)
}

fn redis_probes() -> Vec<Probe> {
    use Expected::{Ends, Says};
    let large = |bytes| redis::command(&[&b"SET"[..], b"large", &vec![b'x'; bytes]]);
    let huge = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1073741824\r\n";
    vec![
        Probe::new("a pair over the limit", large(10_241), Says("-TOOLARGE ")),
        Probe::new("a pair of 2 MB", large(2 << 20), Says("-TOOLARGE ")),
        Probe::new("a length that is no number", "*x\r\n", Ends("-ERR Protocol error")),
        Probe::new("a length below zero", "*1\r\n$-5\r\n", Ends("-ERR Protocol error")),
        Probe::new(
            "a text where a value should be",
            "*2\r\n+GET\r\n+k\r\n",
            Ends("-ERR Protocol error"),
        ),
        Probe::new("a billion arguments", "*1000000000\r\n", Ends("-ERR Protocol error")),
        Probe::new("a value of 1 GB announced, and sent", huge, Ends("-ERR Protocol error"))
            .flooding(),
        Probe::new("a line without an end", "PING ", Ends("-ERR Protocol error")).flooding(),
        Probe::new("a page of a browser", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", Ends("-")),
        Probe::new(
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
            Says("-ERR "),
        ),
    ]
}

fn peer_probes() -> Vec<Probe> {
    use Expected::Ends;
    let frame = |length: u32, rest: &[u8]| [&length.to_be_bytes()[..], rest].concat();
    let giant = frame(1 << 30, &[0; 16]);
    let broken = frame(64, &[0x55; 68]);
    vec![
        Probe::new("a Redis command", "*1\r\n$4\r\nPING\r\n", Ends("")),
        Probe::new("a frame of 1 GB announced, and sent", giant, Ends("")).flooding(),
        Probe::new("a frame of 4 GB announced", vec![0xff; 64], Ends("")),
        Probe::new("a frame with a wrong checksum", broken, Ends("")),
        Probe::new("an empty frame", frame(0, &[0; 8]), Ends("")),
    ]
}

fn http_probes() -> Vec<Probe> {
    use Expected::{Ends, Says};
    let put = |length: usize| {
        format!(
            "PUT /v1/kv/0/large HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    vec![
        Probe::new(
            "a pair over the limit",
            put(10_241) + &"x".repeat(10_241),
            Says("HTTP/1.1 413"),
        ),
        Probe::new("a body of 1 GB announced, and sent", put(1 << 30), Ends("HTTP/1.1 413"))
            .flooding(),
        Probe::new("no HTTP", "*1\r\n$4\r\nPING\r\n", Ends("HTTP/1.1 400")),
        Probe::new("a header without an end", "GET / HTTP/1.1\r\nX: ", Ends("HTTP/1.1 4"))
            .flooding(),
    ]
}

/// Sends a probe and says in words what came of it.
fn put_up_with(port: u16, probe: &Probe) -> Result<String> {
    let mut stream = redis::connect(port)?;
    let mut sent = probe.bytes.len();
    let mut refused = stream.write_all(&probe.bytes).is_err();
    let chunk = vec![b'x'; 64 << 10];
    while probe.flood && !refused && sent < FLOOD_BYTES {
        refused = stream.write_all(&chunk).is_err();
        sent += chunk.len();
    }
    ensure!(sent < FLOOD_BYTES, "{}: the node took {} MB", probe.what, sent >> 20);
    let (said, ended) = answer(&mut stream, matches!(probe.expected, Expected::Says(_)));
    let head = head(&said);
    let fits = match probe.expected {
        Expected::Says(start) => said.starts_with(start),
        Expected::Ends(start) => ended && (said.is_empty() || said.starts_with(start)),
    };
    ensure!(fits, "{}: the node said '{head}', ended: {ended}", probe.what);
    Ok(match (head.is_empty(), ended) {
        (true, _) => "closed".to_owned(),
        (false, true) => format!("{head}; closed"),
        (false, false) => head,
    })
}

/// The first line of an answer, or how long it is if it is no text.
fn head(said: &str) -> String {
    if !said.is_empty() && !said.starts_with(['-', '+', 'H']) {
        return format!("says {} bytes of its own protocol", said.len());
    }
    let line = said.lines().next().unwrap_or_default().chars().take(120);
    line.map(|c| if c.is_control() { '.' } else { c }).collect()
}

/// What the other side says, and whether it closes.
fn answer(stream: &mut TcpStream, one_is_enough: bool) -> (String, bool) {
    let mut said = Vec::new();
    let mut chunk = [0; 4_096];
    let ended = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break true,
            Ok(read) => said.extend_from_slice(&chunk[..read]),
            Err(error) => break !is_silence(error.kind()),
        }
        if one_is_enough && said.contains(&b'\n') {
            break false;
        }
    };
    (String::from_utf8_lossy(&said).into_owned(), ended)
}

fn is_silence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Requests that begin and never end.
fn unfinished(cluster: &Cluster<'_>) -> Result<Vec<(&'static str, TcpStream)>> {
    let begun = [
        ("half a frame on the peer port", cluster.peer_port(1), &b"\x00\x00\x00\x40\x01\x02"[..]),
        ("half a header on the HTTP port", cluster.http_port(1), b"GET /v1/st"),
        (
            "half a command on the Redis port",
            cluster.redis_port(1),
            b"*2\r\n$3\r\nGET\r\n$9\r\nwit",
        ),
    ];
    let mut streams = Vec::new();
    for (what, port, bytes) in begun {
        let mut stream = redis::connect(port)?;
        stream.write_all(bytes)?;
        streams.push((what, stream));
    }
    Ok(streams)
}

fn ends(mut stream: TcpStream, limit: Duration) -> bool {
    let patience = limit.max(Duration::from_millis(1));
    stream.set_read_timeout(Some(patience)).is_ok() && answer(&mut stream, false).1
}

/// Many that announce much: memory is for what has arrived.
fn announcers(cluster: &Cluster<'_>) -> Result<()> {
    let before_kb = cluster.resident_kb(1)?;
    let mut streams = Vec::new();
    for _ in 0..ANNOUNCERS {
        let mut stream = redis::connect(cluster.redis_port(1))?;
        stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777216\r\nxxxx")?;
        streams.push(stream);
    }
    others_are_served(cluster, "announced values")?;
    let growth_kb = cluster.resident_kb(1)?.saturating_sub(before_kb);
    println!("  {ANNOUNCERS} clients announce 16 MB each: {growth_kb} kB more are resident");
    ensure!(growth_kb < GROWTH_KB_MAX, "announced values cost {growth_kb} kB");
    Ok(())
}

/// It asks for a gigabyte of answers.
fn a_client_that_never_reads(cluster: &Cluster<'_>) -> Result<()> {
    let before_kb = cluster.resident_kb(1)?;
    cluster.call(1, &["SET", "wanted", &"x".repeat(10_000)])?;
    let mut stream = redis::connect(cluster.redis_port(1))?;
    let asked = redis::command(&["GET", "wanted"]).repeat(100);
    let rounds = (0..1_000).take_while(|_| stream.write_all(&asked).is_ok()).count();
    others_are_served(cluster, "answers that nobody reads")?;
    let growth_kb = cluster.resident_kb(1)?.saturating_sub(before_kb);
    println!("  a client asks for {rounds} MB and reads nothing: {growth_kb} kB more are resident");
    ensure!(growth_kb < GROWTH_KB_MAX, "answers that nobody reads cost {growth_kb} kB");
    Ok(())
}

fn others_are_served(cluster: &Cluster<'_>, what: &str) -> Result<()> {
    let mut connection = cluster.redis(1)?;
    let replies = [connection.call(&["PING"])?, connection.call(&["GET", "witness"])?];
    if replies != [Reply::Status("PONG".to_owned()), Reply::from("here")] {
        bail!("after {what}, another client hears: {} {}", replies[0], replies[1]);
    }
    Ok(())
}
