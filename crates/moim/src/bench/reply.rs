//! Replies of a Redis server, as far as a benchmark looks at them: good, nothing there, or an error.

use std::str::FromStr;

/// What one reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Anything that is no error, no whole number and not nothing.
    Good,
    /// A whole number.
    Number(i64),
    /// No such key.
    Nothing,
    /// An error, in its own words.
    Error(String),
}

/// What was sent is no reply of a Redis server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoReply;

/// Takes the first reply off `bytes`: the reply and its length, or `None` if it is not all there yet. Only the kinds
/// that answer what a benchmark asks.
pub(crate) fn take(bytes: &[u8]) -> Result<Option<(Reply, usize)>, NoReply> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > LINE_BYTES_MAX { Err(NoReply) } else { Ok(None) };
    };
    let (line, after) = (&bytes[1..end], end + 2);
    match bytes[0] {
        b'+' | b'#' | b',' => Ok(Some((Reply::Good, after))),
        b':' => Ok(Some((Reply::Number(number(line)?), after))),
        b'_' => Ok(Some((Reply::Nothing, after))),
        b'-' => Ok(Some((Reply::Error(String::from_utf8_lossy(line).into_owned()), after))),
        b'$' if line == b"-1" => Ok(Some((Reply::Nothing, after))),
        b'$' => {
            let length: usize = number(line)?;
            let whole = after.checked_add(length).and_then(|end| end.checked_add(2));
            let whole = whole.ok_or(NoReply)?;
            Ok((bytes.len() >= whole).then_some((Reply::Good, whole)))
        }
        _ => Err(NoReply),
    }
}

fn number<N: FromStr>(line: &[u8]) -> Result<N, NoReply> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(NoReply)
}

/// Bytes of a line at the most: errors are sentences.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_and_measured() {
        let whole = |bytes: &[u8]| take(bytes).unwrap().unwrap();
        assert_eq!(whole(b"+OK\r\n+OK\r\n"), (Reply::Good, 5));
        assert_eq!(whole(b"$3\r\nabc\r\n"), (Reply::Good, 9));
        assert_eq!(whole(b"$-1\r\n"), (Reply::Nothing, 5));
        assert_eq!(
            whole(b"-OVERLOADED too much\r\n"),
            (Reply::Error("OVERLOADED too much".into()), 22)
        );
        assert_eq!(whole(b":2\r\n"), (Reply::Number(2), 4));
        assert_eq!(take(b":two\r\n"), Err(NoReply));
        assert_eq!(take(b"$3\r\nab"), Ok(None));
        assert_eq!(take(b""), Ok(None));
        assert_eq!(take(b"HTTP/1.1 400\r\n"), Err(NoReply));
        assert_eq!(take(b"$99999999999999999999\r\n"), Err(NoReply));
    }
}
