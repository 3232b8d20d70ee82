//! `/`: a page that shows the cluster, made of three small files without a build step or anything from outside.
//!
//! It uses the public paths only (INV-10).

use hyper::header::{self, HeaderName};
use hyper::{Response, StatusCode};

use super::reply::{self, Reply};
use super::site::Site;

const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The page.
pub(super) fn page(site: &Site) -> Reply {
    let mut reply = reply::body(
        StatusCode::OK,
        "text/html; charset=utf-8",
        include_str!("assets/dashboard.html"),
    );
    reply::set(&mut reply, header::CONTENT_SECURITY_POLICY, policy(&site.http_addresses()));
    reply::set(&mut reply, header::X_FRAME_OPTIONS, "DENY");
    reply::set(&mut reply, header::REFERRER_POLICY, "no-referrer");
    reply::set(&mut reply, OPENER, "same-origin");
    reply
}

/// The page's style.
pub(super) fn style() -> Reply {
    reply::body(StatusCode::OK, "text/css; charset=utf-8", include_str!("assets/dashboard.css"))
}

/// The page's script.
pub(super) fn script() -> Reply {
    reply::body(
        StatusCode::OK,
        "text/javascript; charset=utf-8",
        include_str!("assets/dashboard.js"),
    )
}

/// The description of this interface.
pub(super) fn openapi() -> Reply {
    let mut reply = Response::new(http_body_util::Full::default());
    *reply.body_mut() = include_str!("assets/openapi.json").into();
    reply::set(&mut reply, header::CONTENT_TYPE, "application/json");
    reply::set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    reply
}

/// Nothing but this server's own files, and answers of the cluster's members.
fn policy(members: &[String]) -> String {
    let spelled = |address: &String| match address.strip_prefix("127.0.0.1:") {
        // Who came by `localhost` stays there: a browser takes the two for different sites.
        Some(port) => format!(" http://127.0.0.1:{port} http://localhost:{port}"),
        None => format!(" http://{address}"),
    };
    let plain = |address: &&String| {
        address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]_".contains(&byte))
    };
    let connect: String = members.iter().filter(plain).map(spelled).collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{connect}; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_add_to_the_policy() {
        let members = ["10.0.0.1:7379".to_owned(), "evil; script-src *".to_owned()];
        let policy = policy(&members);
        assert!(policy.contains("connect-src 'self' http://10.0.0.1:7379;"));
        assert!(!policy.contains('*'));
    }
}
