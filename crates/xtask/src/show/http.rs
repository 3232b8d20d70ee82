//! A small blocking HTTP client: one request a connection.

use std::io::{Read as _, Write as _};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::redis::{self, Place};

/// No answer in a scenario is larger.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A response.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no JSON: {}", self.body.escape_ascii()))
    }
}

/// Asks for a document.
pub(super) fn get(place: impl Into<Place>, path: &str) -> Result<Answer> {
    ask(place.into(), "GET", path, &[], b"")
}

/// Stores a value.
pub(super) fn put(
    place: impl Into<Place>,
    path: &str,
    headers: &[(&str, &str)],
    value: &str,
) -> Result<Answer> {
    ask(place.into(), "PUT", path, headers, value.as_bytes())
}

/// Asks for something to be done.
pub(super) fn post(place: impl Into<Place>, path: &str) -> Result<Answer> {
    ask(place.into(), "POST", path, &[], b"")
}

fn ask(
    place: Place,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut stream = redis::connect(place)?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    stream.write_all(&[request.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&answer).with_context(|| format!("{method} {path}"))
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        bail!("no whole HTTP header in {} bytes", answer.len());
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let answer = Answer {
        status: status.context("no HTTP status")?,
        headers: headers.collect(),
        body: answer[end + 4..].to_vec(),
    };
    if answer.header("transfer-encoding").is_some() {
        bail!("the body comes in chunks, which this client does not read");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse(b"HTTP/1.1 300 Multiple Choices\r\nX-A: b\r\n\r\n{\"n\":1}").unwrap();
        assert_eq!((answer.status, answer.header("x-a")), (300, Some("b")));
        assert_eq!(answer.json().unwrap()["n"], 1);
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
