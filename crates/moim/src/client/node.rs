//! The node that a command talks to.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use moim_server::http::document::Problem;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request};

use crate::ending::{Ending, Trouble};
use crate::options::{ADDRESS_DEFAULT, ADDRESS_DEV, Connection};
use crate::print;

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long a whole request may take: longer than any `--timeout`, so that it is the node that speaks.
const REQUEST_PATIENCE: Duration = Duration::from_secs(70);

/// Bytes of a reply at the most: siblings of the largest values there can be.
const REPLY_BYTES_MAX: u64 = 2 << 30;

/// Bytes of a reply's headers at the most: a context may be long.
const REPLY_HEAD_BYTES_MAX: usize = 1 << 20;

/// A node that answers HTTP.
#[derive(Debug)]
pub(crate) struct Node {
    agent: Agent,
    address: String,
    password: Option<String>,
    json: bool,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) context: Option<&'a str>,
    pub(crate) body: Vec<u8>,
}

impl Node {
    /// The node that the command line names, or the one that is there.
    pub(crate) fn choose(connection: &Connection) -> Result<Self, Trouble> {
        let password = connection.secret()?;
        let address = connection.addr.clone().unwrap_or_else(whoever_is_there);
        Ok(Self { password, json: connection.output.json, ..Self::at(address, REQUEST_PATIENCE) })
    }

    /// The node at this address.
    pub(crate) fn at(address: String, patience: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Nodes are near; a proxy for the web is not meant for them.
            .proxy(None)
            .user_agent(concat!("moim/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_PATIENCE))
            .timeout_global(Some(patience))
            .max_response_header_size(REPLY_HEAD_BYTES_MAX)
            .build()
            .new_agent();
        Self { agent, address, password: None, json: false }
    }

    /// Another node of the same cluster, asked with the same password.
    pub(crate) fn beside(&self, address: String, patience: Duration) -> Self {
        Self { password: self.password.clone(), ..Self::at(address, patience) }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether to print JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Asks, whatever the answer is.
    pub(crate) fn call(&self, call: Call<'_>) -> Result<Reply, Trouble> {
        self.try_call(call).map_err(|error| {
            let trouble = self.unreachable(&error);
            let json = || serde_json::json!({ "detail": trouble.to_string() }).to_string();
            if self.json { Trouble::new(trouble.ending, "").in_json(json()) } else { trouble }
        })
    }

    fn try_call(&self, call: Call<'_>) -> Result<Reply, ureq::Error> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("http://{}{}", self.address, call.path));
        if let Some(password) = &self.password {
            request = request.header("Authorization", format!("Bearer {password}"));
        }
        if let Some(context) = call.context {
            request = request.header("X-Moim-Context", context);
        }
        let request = request.body(call.body).map_err(ureq::Error::Http)?;
        let (head, mut body) = self.agent.run(request)?.into_parts();
        let body = body.with_config().limit(REPLY_BYTES_MAX).read_to_vec()?;
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Asks for a document.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.document(&self.call(Call { path: path.to_owned(), ..Call::default() })?)
    }

    /// The document that a reply carries.
    pub(crate) fn document<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, Trouble> {
        if !matches!(reply.status, 200 | 202) {
            return Err(self.refused(reply));
        }
        serde_json::from_slice(&reply.body).map_err(|error| {
            Trouble::failed(format!(
                "{} gave an answer that this program does not understand ({error}): are both of the same version?",
                self.address
            ))
        })
    }

    /// The trouble that a refusal is.
    pub(crate) fn refused(&self, reply: &Reply) -> Trouble {
        let Ok(problem) = serde_json::from_slice::<Problem>(&reply.body) else {
            let status = reply.status;
            return Trouble::failed(format!(
                "{} answered {status}: is it a Moim node?",
                self.address
            ));
        };
        let trouble = Trouble::new(ending(&problem), words(&problem));
        if self.json {
            trouble.in_json(String::from_utf8_lossy(&reply.body).into_owned())
        } else {
            trouble
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Trouble {
        let address = &self.address;
        match error {
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => Trouble::new(
                Ending::Unavailable,
                format!(
                    "nothing listens at {address}: start a node (`moim dev` starts three), or name one with --addr \
                     or MOIM_ADDR"
                ),
            ),
            ureq::Error::Timeout(_) => {
                Trouble::new(Ending::Unavailable, format!("{address} gave no answer ({error})"))
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Trouble::usage(format!(
                "'{address}' is no address: HOST:PORT is expected ({error})"
            )),
            ureq::Error::HostNotFound => {
                Trouble::usage(format!("there is no host for '{address}'"))
            }
            _ => Trouble::new(Ending::Unavailable, format!("no answer from {address}: {error}")),
        }
    }
}

impl Reply {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The default address, or where `moim dev` is if only that answers. Said aloud: nobody should wonder which cluster
/// a value went to.
fn whoever_is_there() -> String {
    if !listens(ADDRESS_DEFAULT) && listens(ADDRESS_DEV) {
        print::note(&format!(
            "nothing listens at {ADDRESS_DEFAULT}; asking {ADDRESS_DEV}, a node of `moim dev`"
        ));
        return ADDRESS_DEV.to_owned();
    }
    ADDRESS_DEFAULT.to_owned()
}

/// Whether something accepts connections there.
pub(crate) fn listens(address: &str) -> bool {
    let found: Vec<SocketAddr> =
        address.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    found.iter().any(|at| TcpStream::connect_timeout(at, Duration::from_millis(300)).is_ok())
}

fn ending(problem: &Problem) -> Ending {
    match problem.status {
        404 if problem.kind.ends_with(":no-such-key") => Ending::NotFound,
        409 if problem.kind.ends_with(":conflict") => Ending::Siblings,
        429 | 503 | 504 | 507 => Ending::Unavailable,
        _ => Ending::Failed,
    }
}

fn words(problem: &Problem) -> String {
    let again = problem
        .retry_after_s
        .map_or(String::new(), |seconds| format!(" (try again in {seconds} s)"));
    // Names that users chose come back in it.
    format!("{}: {}{again}", problem.title, print::visible(problem.detail.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_their_exit_codes() {
        for (status, kind, expected) in [
            (404, "no-such-key", Ending::NotFound),
            (404, "no-such-namespace", Ending::Failed),
            (409, "conflict", Ending::Siblings),
            (409, "read-only", Ending::Failed),
            (413, "too-large", Ending::Failed),
            (429, "too-many-requests", Ending::Unavailable),
            (503, "unavailable", Ending::Unavailable),
            (504, "timeout", Ending::Unavailable),
            (507, "disk-full", Ending::Unavailable),
        ] {
            let kind = format!("urn:moim:problem:{kind}");
            let problem = Problem { kind, status, ..Problem::default() };
            assert_eq!(ending(&problem), expected, "{problem:?}");
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let node = Node::at(free.to_string(), Duration::from_secs(1));
        let trouble = node.get::<serde_json::Value>("/v1/status").unwrap_err();
        assert_eq!(trouble.ending, Ending::Unavailable);
        assert!(trouble.words().contains(&format!("nothing listens at {free}")), "{trouble}");
    }
}
