//! What only the other nodes of this server know: each is on a thread of its own, and the port is the first one's.
//!
//! An errand is work that one node has another do there. Its result comes back; should the other end meanwhile, nothing
//! does. `?node=ID` has a question that is about one node answered by another node of the server.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::Uri;
use hyper::http::request::Parts;
use moim_core::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::problem::{Kind, Refusal};
use super::site::Site;

/// How long another node's thread may take. One that stands still must not hold up what the others have to say.
const PATIENCE: Duration = Duration::from_secs(5);

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Work for another node of this server, done on its thread.
pub(crate) struct Errand(Box<dyn FnOnce(Rc<Site>) -> Work + Send>);

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errand")
    }
}

/// Runs errands until nobody can send any more, which is when this node ends.
pub(super) async fn run(site: &Rc<Site>, mut errands: mpsc::Receiver<Errand>) {
    while let Some(Errand(work)) = errands.recv().await {
        spawn_local(work(Rc::clone(site)));
    }
    std::future::pending::<()>().await;
}

/// Does something at a node of this server, this one or another, and answers with the result; nothing if it does not run
/// or has too much to do.
pub(super) async fn at<T, F>(
    site: &Rc<Site>,
    number: usize,
    work: impl FnOnce(Rc<Site>) -> F + Send + 'static,
) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let shard = &site.context.shard;
    if number == shard.number() {
        return Some(work(Rc::clone(site)).await);
    }
    let (done, result) = oneshot::channel();
    let errand = Errand(Box::new(move |site| {
        // Whoever asked may have gone.
        Box::pin(async move { drop(done.send(work(site).await)) })
    }));
    if !shard.ask(number, errand) {
        return None;
    }
    timeout(PATIENCE, result).await.ok()?.ok()
}

/// Does something at every node of this server; the results in the order of their numbers.
pub(super) async fn everywhere<T, F>(
    site: &Rc<Site>,
    work: impl FnOnce(Rc<Site>) -> F + Clone + Send + 'static,
) -> Vec<Option<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let mut results = Vec::new();
    for number in 0..site.context.shard.count() {
        results.push(at(site, number, work.clone()).await);
    }
    results
}

/// Which other node of this server a request is for, and the request without saying so.
pub(super) fn addressee(site: &Site, request: &Parts) -> Result<Option<(usize, Parts)>, Refusal> {
    let query = request.uri.query().unwrap_or_default();
    let Some(named) = query.split('&').find_map(|pair| pair.strip_prefix("node=")) else {
        return Ok(None);
    };
    let shard = &site.context.shard;
    let found = u64::from_str_radix(named, 16).ok().and_then(|id| shard.find(NodeId(id)));
    let Some(number) = found else {
        let shown: String = named.chars().take(32).collect();
        return Err(Kind::BadRequest.because(format!("node={shown} is no node of this server")));
    };
    let rest: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("node=")).collect();
    let mut request = request.clone();
    request.uri = format!("{}?{}", request.uri.path(), rest.join("&"))
        .parse::<Uri>()
        .map_err(|error| Kind::BadRequest.because(error.to_string()))?;
    Ok(Some((number, request)))
}

/// The problem that a node of this server does not answer.
pub(super) fn silent(number: usize) -> Refusal {
    Kind::NotReady
        .because(format!("node {number} of this server does not run, or has too much to do"))
}
