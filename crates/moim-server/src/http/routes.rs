//! Which paths there are. The same table answers requests, names the methods of a 405, and is held against
//! `openapi.json`.

use hyper::Method;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Value,
    Keys,
    Batch,
    Namespaces,
    Namespace,
    Status,
    Nodes,
    Ring,
    KeyOwners,
    Tasks,
    Repair,
    Cut,
    Heal,
    SlowDisk,
    Metrics,
    Health,
    Ready,
    OpenApi,
    Dashboard,
    DashboardStyle,
    DashboardScript,
}

/// A path and the methods it takes.
#[derive(Debug)]
pub(super) struct Route {
    /// Segments in braces are parameters. A parameter at the end takes the rest of the path, slashes included, so
    /// that keys such as `user/7` need no escaping.
    pub(super) template: &'static str,
    pub(super) methods: &'static [Method],
    pub(super) page: Page,
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    route(
        "/v1/kv/{namespace}/{key}",
        &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
        Page::Value,
    ),
    route("/v1/keys/{namespace}", READ, Page::Keys),
    route("/v1/batch", POST, Page::Batch),
    route("/v1/namespaces", READ, Page::Namespaces),
    route(
        "/v1/namespaces/{name}",
        &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
        Page::Namespace,
    ),
    route("/v1/status", READ, Page::Status),
    route("/v1/nodes", READ, Page::Nodes),
    route("/v1/ring", READ, Page::Ring),
    route("/v1/ring/key/{namespace}/{key}", READ, Page::KeyOwners),
    route("/v1/tasks", READ, Page::Tasks),
    route("/v1/repair", &[Method::GET, Method::HEAD, Method::POST], Page::Repair),
    route("/v1/dev/cut", POST, Page::Cut),
    route("/v1/dev/heal", POST, Page::Heal),
    route("/v1/dev/slow-disk", POST, Page::SlowDisk),
    route("/metrics", READ, Page::Metrics),
    route("/healthz", READ, Page::Health),
    route("/readyz", READ, Page::Ready),
    route("/openapi.json", READ, Page::OpenApi),
    route("/", READ, Page::Dashboard),
    route("/dashboard.css", READ, Page::DashboardStyle),
    route("/dashboard.js", READ, Page::DashboardScript),
];

const fn route(template: &'static str, methods: &'static [Method], page: Page) -> Route {
    Route { template, methods, page }
}

impl Route {
    /// The methods as the header `Allow` lists them.
    pub(super) fn allow(&self) -> String {
        self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The route of a path, and its parameters, still percent-encoded.
pub(super) fn find(path: &str) -> Option<(&'static Route, Vec<&str>)> {
    ROUTES.iter().find_map(|route| Some((route, parameters(route.template, path)?)))
}

fn parameters<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut rest = path.strip_prefix('/')?;
    let mut segments = template.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let (head, tail) = if last { (rest, "") } else { rest.split_once('/')? };
        match segment.starts_with('{') {
            true => found.push(head),
            false if segment != head => return None,
            false => {}
        }
        rest = tail;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_pages() {
        for (path, page, parameters) in [
            ("/", Page::Dashboard, &[][..]),
            ("/v1/kv/0/a", Page::Value, &["0", "a"]),
            ("/v1/kv/carts/a/b%2Fc", Page::Value, &["carts", "a/b%2Fc"]),
            ("/v1/kv/0/", Page::Value, &["0", ""]),
            ("/v1/keys/0", Page::Keys, &["0"]),
            ("/v1/namespaces", Page::Namespaces, &[]),
            ("/v1/namespaces/0", Page::Namespace, &["0"]),
            ("/v1/ring", Page::Ring, &[]),
            ("/v1/ring/key/0/a", Page::KeyOwners, &["0", "a"]),
        ] {
            let (route, found) = find(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((route.page, found.as_slice()), (page, parameters), "{path}");
        }
        for unknown in
            ["", "*", "/v1", "/v1/", "/v1/kv/0", "/v1/status/", "//", "/v2/kv/0/a", "/V1/status"]
        {
            assert!(find(unknown).is_none(), "{unknown}");
        }
    }
}
