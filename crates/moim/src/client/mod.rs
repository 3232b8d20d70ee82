//! Commands of clients: each asks a node over HTTP and prints what it says.

pub(crate) mod keys;
pub(crate) mod node;
pub(crate) mod repair;
mod retry;
pub(crate) mod ring;
pub(crate) mod status;
pub(crate) mod value;

use moim_server::http::percent_encode;

/// A path with parameters; those without a value are left out.
pub(crate) fn path(parts: &[&[u8]], parameters: &[(&str, Option<&str>)]) -> String {
    let mut path = String::from("/v1");
    for part in parts {
        path.push('/');
        path.push_str(&percent_encode(part));
    }
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    for (at, (name, value)) in given.enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.push_str(&percent_encode(value.as_bytes()));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded() {
        let parameters = [("r", None), ("ttl", Some("30m")), ("prefix", Some("a&b"))];
        assert_eq!(
            path(&[b"kv", b"0", b"a/\xff"], &parameters),
            "/v1/kv/0/a%2F%FF?ttl=30m&prefix=a%26b"
        );
        assert_eq!(path(&[b"status"], &[]), "/v1/status");
    }
}
