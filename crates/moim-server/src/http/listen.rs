//! Connections: how many there may be, how slow they may be, and how they end.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::dispatch;
use super::neighbours::{self, Errand};
use super::patience::Patient;
use super::settings::Settings;
use super::site::{Context, Site};
use crate::server::accept::accept_forever;

/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// Sent whole to connections that there is no room for.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 152\r\n\r\n\
    {\"type\":\"urn:moim:problem:overloaded\",\"title\":\"The node has too much to do\",\"status\":503,\
    \"detail\":\"the limit of HTTP connections is reached: try again\"}";

/// Where requests come from.
pub(crate) struct Requests {
    /// The port, which the first node of a server has.
    pub(crate) listener: Option<TcpListener>,
    /// What it asks the others.
    pub(crate) errands: mpsc::Receiver<Errand>,
}

/// Serves HTTP until `stop` is ready, then lets running requests end for a moment.
///
/// Must run inside a [`tokio::task::LocalSet`]: nothing here leaves the thread of its node.
pub(crate) async fn serve(
    requests: Requests,
    context: Rc<Context>,
    stop: impl Future<Output = ()>,
) {
    let site = Rc::new(Site::new(context));
    let sampler = sampler(Rc::clone(&site));
    let (stopping, stopped) = watch::channel(false);
    let Requests { listener, errands } = requests;
    let accept = async {
        match listener {
            Some(listener) => {
                accept_forever(listener, "HTTP", |stream| admit(&site, stream, stopped.clone()))
                    .await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Whoever stops this has shut the port, which is no reason for a complaint.
        biased;
        () = stop => {}
        () = accept => {}
        () = neighbours::run(&site, errands) => {}
    }
    drop(stopped);
    sampler.abort();
    stopping.send_replace(true);
    // Each connection holds a receiver; when the last is gone, all have ended.
    if timeout(site.context.settings.stop_patience, stopping.closed()).await.is_err() {
        tracing::warn!("HTTP connections were still busy when the server stopped");
    }
}

fn sampler(site: Rc<Site>) -> JoinHandle<()> {
    spawn_local(async move {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            site.sample();
        }
    })
}

fn admit(site: &Rc<Site>, stream: TcpStream, stopped: watch::Receiver<bool>) {
    let Settings { connections_max, connections_reserved, .. } = site.context.settings;
    let near = stream.peer_addr().is_ok_and(|from| from.ip().to_canonical().is_loopback());
    let reserved = if near { connections_reserved } else { 0 };
    if site.traffic.connections.get() >= connections_max + reserved {
        let refused = &site.traffic.connections_refused;
        refused.set(refused.get() + 1);
        // Best effort: what does not fit into an empty socket buffer at once is not worth waiting for.
        drop(stream.try_write(FULL));
        return;
    }
    site.traffic.connections.set(site.traffic.connections.get() + 1);
    let site = Rc::clone(site);
    spawn_local(async move {
        converse(&site, stream, stopped).await;
        site.traffic.connections.set(site.traffic.connections.get() - 1);
    });
}

/// Serves one connection to its end.
async fn converse(site: &Rc<Site>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let settings = &site.context.settings;
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(dispatch::answer(site, request).await) });
    let io = TokioIo::new(Patient::new(stream, settings.send_patience));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_patience)
        .max_buf_size(settings.head_bytes_max)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that leave, stall or send nonsense are everyday life.
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_made_refusal_is_well_formed() {
        let text = str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let problem: super::super::document::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 503);
    }
}
