//! Query parameters, parsed once. An unknown or repeated one is refused: a mistyped `w=` must not quietly weaken a
//! write.

use moim_core::quorum::Level;

use super::duration;
use super::percent::{self, Plus};
use super::problem::{Kind, Refusal};

/// The longest time a client may ask a request to wait, in milliseconds.
pub(super) const TIMEOUT_MS_MAX: u64 = 60_000;

/// Parameters by name, decoded.
#[derive(Debug)]
pub(super) struct Query {
    parameters: Vec<(String, Vec<u8>)>,
}

impl Query {
    /// Takes `raw` apart; only `known` parameters may occur.
    pub(super) fn parse(raw: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut parameters = Vec::<(String, Vec<u8>)>::new();
        for pair in raw.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(unknown(name, known));
            }
            if parameters.iter().any(|(other, _)| other == name) {
                return Err(
                    Kind::BadRequest.because(format!("query parameter '{name}' is there twice"))
                );
            }
            let value =
                percent::decode(value, Plus::Space).map_err(|error| malformed(name, &error))?;
            parameters.push((name.to_owned(), value));
        }
        Ok(Self { parameters })
    }

    /// The bytes of a parameter.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// A consistency level.
    pub(super) fn level(&self, name: &str) -> Result<Option<Level>, Refusal> {
        self.text(name)?.map(|text| level(name, text)).transpose()
    }

    /// A delay in milliseconds, none if it is not given.
    pub(super) fn delay_ms(&self, name: &str) -> Result<u64, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(0) };
        duration::parse_ms(text).map_err(|error| malformed(name, &error))
    }

    /// How long the client waits, in milliseconds.
    pub(super) fn timeout_ms(&self) -> Result<Option<u32>, Refusal> {
        let Some(text) = self.text("timeout")? else { return Ok(None) };
        let ms = duration::parse_ms(text).map_err(|error| malformed("timeout", &error))?;
        match u32::try_from(ms) {
            Ok(short) if (1..=TIMEOUT_MS_MAX).contains(&ms) => Ok(Some(short)),
            _ => Err(malformed("timeout", &format!("it must be from 1ms to {TIMEOUT_MS_MAX}ms"))),
        }
    }

    /// A whole number from 1 to `max`.
    pub(super) fn count(&self, name: &str, max: u16) -> Result<Option<u16>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse() {
            Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(malformed(name, &format!("it must be a whole number from 1 to {max}"))),
        }
    }

    /// A parameter that is a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let bytes = self.bytes(name);
        bytes
            .map(|value| str::from_utf8(value).map_err(|error| malformed(name, &error.to_string())))
            .transpose()
    }
}

/// A consistency level given as `name`.
pub(super) fn level(name: &str, text: &str) -> Result<Level, Refusal> {
    text.parse().map_err(|error| malformed(name, &format!("{error}")))
}

fn unknown(name: &str, known: &[&str]) -> Refusal {
    let served = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Kind::BadRequest.because(format!("query parameter '{name}' is not known here; known: {served}"))
}

fn malformed(name: &str, error: &str) -> Refusal {
    Kind::BadRequest.because(format!("query parameter '{name}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_checked() {
        let known = ["r", "timeout", "prefix", "limit"];
        let query =
            Query::parse(Some("r=quorum&prefix=a%00+b&timeout=250ms&limit=7&"), &known).unwrap();
        assert_eq!(query.level("r").unwrap(), Some(Level::Quorum));
        assert_eq!(query.bytes("prefix"), Some(&b"a\x00 b"[..]));
        assert_eq!(query.timeout_ms().unwrap(), Some(250));
        assert_eq!(query.count("limit", 10).unwrap(), Some(7));
        assert_eq!(Query::parse(None, &known).unwrap().timeout_ms().unwrap(), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refusal = |raw| Query::parse(Some(raw), &["r", "w"]).unwrap_err().detail;
        assert_eq!(refusal("W=1"), "query parameter 'W' is not known here; known: r, w");
        assert!(refusal("r=1&r=2").contains("twice"));
        assert!(refusal("r=%f").contains("hexadecimal"));
        let query =
            Query::parse(Some("r=most&timeout=2m&limit=0"), &["r", "timeout", "limit"]).unwrap();
        assert!(query.level("r").unwrap_err().detail.contains("'most' is no consistency level"));
        assert!(query.timeout_ms().unwrap_err().detail.contains("60000ms"));
        assert!(query.count("limit", 10).unwrap_err().detail.contains("1 to 10"));
    }
}
