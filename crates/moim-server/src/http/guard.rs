//! Who may ask: the password, and the wall between this server and pages of other sites in somebody's browser.
//!
//! A browser sends a page's requests with its user's reach into networks, so a page of any site can try to write here
//! (`Origin` names another site), or can let its own name resolve to this server (`Host` names another site). Both
//! are refused; programs other than browsers send no such headers and notice nothing. Members' dashboards may read
//! each other's pages, which is how one of them shows the whole cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::problem::{Kind, Refusal};

/// What a guard knows beside the request.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    /// The password, if one is asked for.
    pub(super) password: Option<&'a str>,
    /// Host names that are ours.
    pub(super) hosts: &'a [String],
    /// HTTP addresses of the cluster's members.
    pub(super) members: &'a [String],
}

/// A request that may pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// The site of another member that may read the reply.
    pub(super) readable_by: Option<String>,
}

impl Gate<'_> {
    /// Lets a request pass, or says why not.
    pub(super) fn check(&self, request: &Parts) -> Result<Pass, Refusal> {
        self.check_password(&request.headers)?;
        let host = text(&request.headers, header::HOST)
            .or_else(|| request.uri.authority().map(Authority::as_str));
        let origin = text(&request.headers, header::ORIGIN);
        if self.password.is_none()
            && is_browser(&request.headers)
            && !host.is_some_and(|at| self.is_ours(at))
        {
            return Err(Kind::ForeignOrigin.because(
                "a browser reached this server under a name that is not its own: use its address, or add the name \
                 to the HTTP hosts of the configuration",
            ));
        }
        let Some(origin) = origin else { return Ok(Pass::default()) };
        let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if site.is_some() && site == host {
            return Ok(Pass::default());
        }
        if !request.method.is_safe() {
            return Err(Kind::ForeignOrigin.because(format!(
                "a page of {origin} tried to change something here: only pages of this server may"
            )));
        }
        let member = site.filter(|at| self.members.iter().any(|member| plain(member) == plain(at)));
        Ok(Pass { readable_by: member.map(|_| origin.to_owned()) })
    }

    fn check_password(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(password) = self.password else { return Ok(()) };
        let Some(credentials) = text(headers, header::AUTHORIZATION) else {
            return Err(Kind::Unauthorized.because("send Authorization: Bearer PASSWORD"));
        };
        match presented(credentials) {
            Some(given) if same(&given, password.as_bytes()) => Ok(()),
            _ => Err(Kind::Unauthorized.because("the password is wrong")),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = host_name(host);
        let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let known = |other: &str| name.eq_ignore_ascii_case(host_name(other));
        address
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| known(ours))
            || self.members.iter().any(|member| known(member))
    }
}

/// Programs send none of these; browsers send at least one with every request.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.contains_key("sec-fetch-site")
        || text(headers, header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The password in an `Authorization` header.
fn presented(credentials: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = credentials.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.trim().as_bytes().to_vec()),
        "basic" => {
            let pair = STANDARD.decode(rest.trim()).ok()?;
            let colon = pair.iter().position(|&byte| byte == b':')?;
            Some(pair[colon + 1..].to_vec())
        }
        _ => None,
    }
}

/// Compares in a time that depends on the length of what was given, not on where it differs.
fn same(given: &[u8], secret: &[u8]) -> bool {
    if secret.is_empty() {
        return false;
    }
    let mut difference = u8::from(given.len() != secret.len());
    for (at, byte) in given.iter().enumerate() {
        difference |= byte ^ secret[at % secret.len()];
    }
    std::hint::black_box(difference) == 0
}

/// The host of `host:port`.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// One spelling of this machine.
fn plain(address: &str) -> String {
    let lower = address.to_ascii_lowercase();
    let port = lower.strip_prefix("localhost:").or_else(|| lower.strip_prefix("[::1]:"));
    match port {
        Some(port) => format!("127.0.0.1:{port}"),
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn check(gate: &Gate<'_>, method: &str, headers: &[(&str, &str)]) -> Result<Pass, Refusal> {
        let mut request = Request::builder().method(method).uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate.check(&request.body(()).unwrap().into_parts().0)
    }

    const OPEN: Gate<'_> = Gate { password: None, hosts: &[], members: &[] };

    #[test]
    fn programs_pass_under_any_name() {
        assert_eq!(check(&OPEN, "PUT", &[("host", "moim.internal:7379")]), Ok(Pass::default()));
        assert_eq!(check(&OPEN, "GET", &[]), Ok(Pass::default()));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let site = ("origin", "http://evil.example");
        assert_eq!(
            check(&OPEN, "PUT", &[("host", "127.0.0.1:7379"), site]).unwrap_err().status,
            403
        );
        assert_eq!(
            check(&OPEN, "POST", &[("host", "localhost:7379"), ("origin", "null")])
                .unwrap_err()
                .status,
            403
        );
        let own = [("host", "localhost:7379"), ("origin", "http://localhost:7379")];
        assert_eq!(check(&OPEN, "PUT", &own), Ok(Pass::default()));
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_to_browsers() {
        let rebound = [("host", "evil.example:7379"), ("origin", "http://evil.example:7379")];
        assert_eq!(check(&OPEN, "PUT", &rebound).unwrap_err().status, 403);
        let reading = [("host", "evil.example:7379"), ("user-agent", "Mozilla/5.0")];
        assert_eq!(check(&OPEN, "GET", &reading).unwrap_err().status, 403);
        let hosts = ["evil.example".to_owned()];
        let known = Gate { hosts: &hosts, ..OPEN };
        assert_eq!(check(&known, "GET", &reading), Ok(Pass::default()));
    }

    #[test]
    fn members_read_each_other() {
        let members = ["127.0.0.1:8002".to_owned()];
        let gate = Gate { members: &members, ..OPEN };
        let host = ("host", "localhost:8001");
        let pass = check(&gate, "GET", &[host, ("origin", "http://localhost:8002")]).unwrap();
        assert_eq!(pass.readable_by.as_deref(), Some("http://localhost:8002"));
        assert_eq!(
            check(&gate, "GET", &[host, ("origin", "http://localhost:9999")]),
            Ok(Pass::default())
        );
        assert_eq!(
            check(&gate, "PUT", &[host, ("origin", "http://localhost:8002")]).unwrap_err().status,
            403
        );
    }

    #[test]
    fn the_password_is_asked_for() {
        let gate = Gate { password: Some("s3cret"), ..OPEN };
        let with = |value: &str| check(&gate, "GET", &[("authorization", value)]);
        assert_eq!(check(&gate, "GET", &[]).unwrap_err().status, 401);
        assert_eq!(with("Bearer s3cret"), Ok(Pass::default()));
        assert_eq!(
            with(&format!("Basic {}", STANDARD.encode("anyone:s3cret"))),
            Ok(Pass::default())
        );
        for wrong in
            ["Bearer s3cre", "Bearer s3crets3cret", "Bearer ", "Basic !", "Digest s3cret", "s3cret"]
        {
            assert_eq!(with(wrong).unwrap_err().status, 401, "{wrong}");
        }
        assert!(!same(b"", b""), "an empty password would let everybody in");
    }
}
