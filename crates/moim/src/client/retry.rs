//! When a command asks again: a node that refuses for now may take it a moment later, and a crowd of clients that ask
//! again at once keeps it from doing so (retry storms; "Exponential Backoff and Jitter", Brooker 2015).
//!
//! So: at most [`RETRIES_MAX`] times, after a wait that doubles and is drawn at random, only when the node says that
//! this may help, and never a write that may have been done: a second one would count twice, or be a false sibling.
//! A node that is overloaded says when to come again, and is obeyed.

use std::time::Duration;

use moim_server::http::document::Problem;
use ureq::http::Method;

use super::node::{Call, Node, Reply};
use crate::ending::Trouble;

/// How often a request is repeated at the most.
pub(crate) const RETRIES_MAX: u32 = 2;

/// The longest wait before the first repetition, in milliseconds; doubles with each.
const WAIT_MS: u64 = 200;

impl Node {
    /// Asks, and again if the node cannot serve at the moment.
    pub(crate) fn call_again(&self, call: Call<'_>) -> Result<Reply, Trouble> {
        for retry in 0..RETRIES_MAX {
            let reply = self.call(call.clone())?;
            let problem = serde_json::from_slice::<Problem>(&reply.body).ok();
            let wait = problem.filter(|_| reply.status == 503).and_then(|problem| {
                wait_ms(&call.method, &problem, retry)
                    .map(|most_ms| fastrand::u64(most_ms / 2..=most_ms))
            });
            match wait {
                Some(ms) => std::thread::sleep(Duration::from_millis(ms)),
                None => return Ok(reply),
            }
        }
        self.call(call)
    }
}

/// How long to wait at the most before asking again, in milliseconds; `None` if that must not be.
fn wait_ms(method: &Method, problem: &Problem, retry: u32) -> Option<u64> {
    let harmless = *method == Method::GET || problem.maybe_applied == Some(false);
    if !harmless {
        return None;
    }
    match problem.kind.rsplit(':').next()? {
        "overloaded" => Some(u64::from(problem.retry_after_s.unwrap_or(1)) * 1_000),
        "unavailable" | "not-ready" => Some(WAIT_MS << retry),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn problem(kind: &str, maybe_applied: Option<bool>) -> Problem {
        let kind = format!("urn:moim:problem:{kind}");
        Problem { kind, maybe_applied, retry_after_s: Some(1), ..Problem::default() }
    }

    #[test]
    fn only_what_was_not_done_and_may_be_done_soon_is_repeated() {
        let wait = |method: &Method, kind, maybe| wait_ms(method, &problem(kind, maybe), 1);
        assert_eq!(wait(&Method::GET, "unavailable", None), Some(400));
        assert_eq!(wait(&Method::GET, "overloaded", None), Some(1_000));
        assert_eq!(wait(&Method::GET, "timeout", None), None);
        assert_eq!(wait(&Method::GET, "stopped", None), None);
        assert_eq!(wait(&Method::PUT, "overloaded", Some(false)), Some(1_000));
        assert_eq!(wait(&Method::PUT, "not-ready", Some(false)), Some(400));
        assert_eq!(wait(&Method::PUT, "unavailable", Some(true)), None);
        assert_eq!(wait(&Method::DELETE, "unavailable", None), None);
    }

    /// Refuses so many requests, then answers; returns the status that came back and how many requests were made.
    fn ask(method: Method, refusals: usize, maybe_applied: bool) -> (u16, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node::at(listener.local_addr().unwrap().to_string(), Duration::from_secs(5));
        let serving = std::thread::spawn(move || {
            let problem = problem("unavailable", Some(maybe_applied));
            let refusal = serde_json::to_string(&problem).unwrap();
            for request in 1.. {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 1_024];
                let read = stream.read(&mut bytes).unwrap();
                if read == 0 || bytes.starts_with(b"POST") {
                    return request - 1;
                }
                let (status, body) = if request > refusals { (200, "") } else { (503, &*refusal) };
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .unwrap();
            }
            unreachable!("it answers for ever")
        });
        let path = "/v1/kv/0/k".to_owned();
        let reply = node.call_again(Call { method, path, ..Call::default() }).unwrap();
        // Ends the server.
        drop(node.call(Call { method: Method::POST, path: "/".to_owned(), ..Call::default() }));
        (reply.status, serving.join().unwrap())
    }

    #[test]
    fn a_budget_of_three_requests_is_kept() {
        assert_eq!(ask(Method::GET, 1, false), (200, 2));
        assert_eq!(ask(Method::GET, 9, false), (503, 3));
        assert_eq!(ask(Method::PUT, 9, true), (503, 1), "it may have been done");
    }
}
