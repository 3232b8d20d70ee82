//! `moim ring --key`: what every replica holds of a key.

use anyhow::{Result, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::http;
use super::stage::Stage;

/// Its slot is in the documentation of Redis Cluster.
const KEY: &str = "foo";
const SLOT: u64 = 12_182;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    cluster.call(1, &["SET", KEY, "bar", "PX", "600000"])?;
    let document = http::get(cluster.http_port(2), &format!("/v1/ring/key/0/{KEY}"))?.json()?;
    ensure!(document["slot"] == SLOT, "slot {SLOT} was expected: {document}");
    let address = format!("127.0.0.1:{}", cluster.http_port(1));
    let shown = cluster.moim(&["ring", "--key", KEY, "--addr", &address])?.successful()?.stdout;
    shown.lines().for_each(|line| println!("  | {line}"));
    let mut facts = vec![SLOT.to_string(), document["partition"].to_string()];
    let replicas = document["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(replicas.len() == usize::from(NODES), "{NODES} replicas were expected: {document}");
    for replica in replicas {
        let version = &replica["versions"][0];
        let clock = &replica["clock"]["time"];
        let texts = [&replica["node"], &version["version"], &version["dot"], clock];
        facts.extend(texts.iter().filter_map(|text| text.as_str()).map(str::to_owned));
        // What is left of ten minutes.
        facts.push("in 9m".to_owned());
    }
    ensure!(facts.len() == 2 + 5 * replicas.len(), "a replica has no version: {document}");
    for fact in facts {
        ensure!(shown.contains(&fact), "{fact} is not shown");
    }
    Ok(Verdict::Shown)
}
