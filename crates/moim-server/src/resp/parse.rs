//! Requests as they arrive: RESP arrays of bulk strings, and inline commands as people type them.
//!
//! The parser owns no bytes. It walks over the connection's buffer as far as it has come, remembers where each argument
//! lies, and goes on from there when more has arrived, so that a command cut at any byte is parsed once, not twice.
//! Arguments are ranges into that buffer; whoever keeps one copies it.
//!
//! Invariants: nothing is allocated on a client's word (a declared length is checked against its limit and then only
//! awaited); errors are Redis's own texts, because clients and their tests know them.

use std::fmt;

use super::arguments::{Arguments, Place, place};
use super::number;

/// What a client may send. All in bytes but `arguments_max`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParseLimits {
    /// The longest argument.
    pub(crate) bulk_bytes_max: usize,
    /// The longest inline command, and the longest line of a header.
    pub(crate) line_bytes_max: usize,
    /// Arguments of one command.
    pub(crate) arguments_max: usize,
    /// Whether the client has yet to log in: then only a command of Redis's own login size is awaited.
    pub(crate) stranger: bool,
}

/// Arguments of a command of somebody who has not logged in.
const STRANGER_ARGUMENTS_MAX: usize = 10;

/// Bytes of an argument of somebody who has not logged in.
const STRANGER_BULK_BYTES_MAX: usize = 16_384;

/// Places of arguments kept for the next command; a longer list is given back.
const PLACES_KEPT: usize = 1_024;

/// Why what a client sent is no request. The connection is closed after telling it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    /// The count of arguments is no number or above the limit.
    MultibulkLength,
    /// The count is above what a client may send before it logs in.
    StrangerMultibulkLength,
    /// The length of an argument is no number or above the limit.
    BulkLength,
    /// The length is above what a client may send before it logs in.
    StrangerBulkLength,
    /// An argument does not begin with `$` but with this.
    NoBulk(u8),
    /// A line with a count of arguments does not end.
    CountLine,
    /// A line with the length of an argument does not end.
    LengthLine,
    /// An inline command does not end.
    InlineLine,
    /// Quotes of an inline command do not match.
    Quotes,
    /// A web page speaks, through somebody's browser. It gets no answer, and nothing behind it is run.
    Http,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MultibulkLength => f.write_str("Protocol error: invalid multibulk length"),
            Self::StrangerMultibulkLength => {
                f.write_str("Protocol error: unauthenticated multibulk length")
            }
            Self::BulkLength => f.write_str("Protocol error: invalid bulk length"),
            Self::StrangerBulkLength => f.write_str("Protocol error: unauthenticated bulk length"),
            Self::NoBulk(byte) => {
                write!(f, "Protocol error: expected '$', got '{}'", char::from(*byte))
            }
            Self::CountLine => f.write_str("Protocol error: too big mbulk count string"),
            Self::LengthLine => f.write_str("Protocol error: too big bulk count string"),
            Self::InlineLine => f.write_str("Protocol error: too big inline request"),
            Self::Quotes => f.write_str("Protocol error: unbalanced quotes in request"),
            Self::Http => f.write_str("Protocol error: HTTP on the Redis port"),
        }
    }
}

/// How far the parser has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The command is not complete.
    More,
    /// It is: see [`Parser::arguments`], then [`Parser::finish`].
    Command,
}

/// One command in the making.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Where to go on.
    at: usize,
    /// Whether the command is complete and not yet finished.
    complete: bool,
    /// How far a line was searched for its end.
    searched: usize,
    /// Arguments still to come, once the count is known.
    awaited: Option<usize>,
    /// Length of the argument being awaited, once known.
    bulk: Option<usize>,
    places: Vec<Place>,
    /// Arguments of an inline command, whose quotes are undone; places then point in here.
    unquoted: Option<Vec<u8>>,
}

impl Parser {
    /// Goes on over `input`, which begins where the command begins and has only grown since the last call.
    pub(crate) fn advance(
        &mut self,
        input: &[u8],
        limits: &ParseLimits,
    ) -> Result<Progress, ProtocolError> {
        if self.complete {
            return Ok(Progress::Command);
        }
        let progress = match input.first() {
            None => return Ok(Progress::More),
            Some(b'*') => self.multibulk(input, limits)?,
            Some(_) => self.inline(input, limits)?,
        };
        if progress == Progress::Command && self.speaks_http(input) {
            return Err(ProtocolError::Http);
        }
        self.complete = progress == Progress::Command;
        Ok(progress)
    }

    /// The arguments of a complete command; none for an empty one, which is to be passed over.
    pub(crate) fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        let bytes = self.unquoted.as_deref().unwrap_or(input);
        Arguments::new(bytes, &self.places)
    }

    /// Ends a complete command and says how many bytes of the input it took.
    pub(crate) fn finish(&mut self) -> usize {
        let taken = self.at;
        self.complete = false;
        self.places.clear();
        self.places.shrink_to(PLACES_KEPT);
        self.unquoted = None;
        (self.at, self.searched) = (0, 0);
        (self.awaited, self.bulk) = (None, None);
        taken
    }

    fn multibulk(&mut self, input: &[u8], limits: &ParseLimits) -> Result<Progress, ProtocolError> {
        let Some(count) = self.count(input, limits)? else { return Ok(Progress::More) };
        while self.places.len() < count {
            let Some(length) = self.length(input, limits)? else { return Ok(Progress::More) };
            // As in Redis, the two bytes behind an argument are passed over whatever they are.
            let end = self.at + length + 2;
            if input.len() < end {
                return Ok(Progress::More);
            }
            self.places.push(place(self.at, length));
            self.bulk = None;
            self.at = end;
            self.searched = end;
        }
        Ok(Progress::Command)
    }

    fn count(
        &mut self,
        input: &[u8],
        limits: &ParseLimits,
    ) -> Result<Option<usize>, ProtocolError> {
        if let Some(count) = self.awaited {
            return Ok(Some(count));
        }
        let Some(line) = self.header(input, limits, ProtocolError::CountLine)? else {
            return Ok(None);
        };
        let count = number::integer(line).ok_or(ProtocolError::MultibulkLength)?;
        // A count below one is an empty command.
        let count = usize::try_from(count.max(0)).or(Err(ProtocolError::MultibulkLength))?;
        if count > limits.arguments_max {
            return Err(ProtocolError::MultibulkLength);
        }
        if limits.stranger && count > STRANGER_ARGUMENTS_MAX {
            return Err(ProtocolError::StrangerMultibulkLength);
        }
        self.awaited = Some(count);
        Ok(self.awaited)
    }

    fn length(
        &mut self,
        input: &[u8],
        limits: &ParseLimits,
    ) -> Result<Option<usize>, ProtocolError> {
        if let Some(length) = self.bulk {
            return Ok(Some(length));
        }
        if let Some(&byte) = input.get(self.at).filter(|byte| **byte != b'$') {
            return Err(ProtocolError::NoBulk(byte));
        }
        let Some(line) = self.header(input, limits, ProtocolError::LengthLine)? else {
            return Ok(None);
        };
        let length = number::integer(line).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(ProtocolError::BulkLength)?;
        if limits.stranger && length > STRANGER_BULK_BYTES_MAX {
            return Err(ProtocolError::StrangerBulkLength);
        }
        if length > limits.bulk_bytes_max {
            return Err(ProtocolError::BulkLength);
        }
        self.bulk = Some(length);
        Ok(self.bulk)
    }

    /// The line that begins here, without its type byte and end; moves behind it.
    fn header<'a>(
        &mut self,
        input: &'a [u8],
        limits: &ParseLimits,
        too_long: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let Some(end) = self.find(input, b'\r') else {
            let length = input.len() - self.at.min(input.len());
            return if length > limits.line_bytes_max { Err(too_long) } else { Ok(None) };
        };
        if end - self.at > limits.line_bytes_max {
            return Err(too_long);
        }
        // As in Redis, whatever follows the carriage return counts as the line feed.
        if input.len() < end + 2 {
            self.searched = end;
            return Ok(None);
        }
        let line = &input[self.at + 1..end];
        self.at = end + 2;
        self.searched = self.at;
        Ok(Some(line))
    }

    fn inline(&mut self, input: &[u8], limits: &ParseLimits) -> Result<Progress, ProtocolError> {
        let Some(end) = self.find(input, b'\n') else {
            let too_long = input.len() > limits.line_bytes_max;
            return if too_long { Err(ProtocolError::InlineLine) } else { Ok(Progress::More) };
        };
        if end > limits.line_bytes_max {
            return Err(ProtocolError::InlineLine);
        }
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.unquote(line)?;
        self.at = end + 1;
        Ok(Progress::Command)
    }

    /// Where the next `byte` is, searching nothing twice.
    fn find(&mut self, input: &[u8], byte: u8) -> Option<usize> {
        let from = self.searched.max(self.at).min(input.len());
        let found = input[from..].iter().position(|candidate| *candidate == byte);
        self.searched = found.map_or(input.len(), |distance| from + distance);
        found.map(|distance| from + distance)
    }

    fn unquote(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        let mut text = Vec::with_capacity(line.len());
        let mut rest = line;
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                break;
            }
            let begin = text.len();
            rest = unquote_one(rest, &mut text).ok_or(ProtocolError::Quotes)?;
            self.places.push(place(begin, text.len() - begin));
        }
        self.unquoted = Some(text);
        Ok(())
    }

    fn speaks_http(&self, input: &[u8]) -> bool {
        let name = self.arguments(input).get(0);
        name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
    }
}

/// Appends one argument without its quotes; gives back what follows, or none if the quotes do not match.
fn unquote_one<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut quote = None;
    loop {
        rest = match (quote, rest) {
            (None, [] | [b' ' | b'\t' | b'\n' | b'\r', ..]) => return Some(rest),
            (None, [mark @ (b'"' | b'\''), tail @ ..]) => {
                quote = Some(*mark);
                tail
            }
            (Some(_), []) => return None,
            (Some(b'"'), [b'\\', b'x', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                text.push(hex(*high) << 4 | hex(*low));
                tail
            }
            (Some(b'"'), [b'\\', escaped, tail @ ..]) => {
                text.push(unescape(*escaped));
                tail
            }
            (Some(b'\''), [b'\\', b'\'', tail @ ..]) => {
                text.push(b'\'');
                tail
            }
            (Some(mark), [byte, tail @ ..]) if mark == *byte => {
                // A closing quote ends the argument.
                let closed = tail.first().is_none_or(u8::is_ascii_whitespace);
                return closed.then_some(tail);
            }
            (_, [byte, tail @ ..]) => {
                text.push(*byte);
                tail
            }
        };
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit.to_ascii_lowercase() - b'a') + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: ParseLimits = ParseLimits {
        bulk_bytes_max: 1 << 20,
        line_bytes_max: 64 * 1024,
        arguments_max: 1 << 20,
        stranger: false,
    };

    type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

    /// All commands of pieces that arrive one after the other, and what ended them.
    fn parse(pieces: &[&[u8]], limits: &ParseLimits) -> Commands {
        let (mut parser, mut input, mut commands) = (Parser::default(), Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match parser.advance(&input, limits) {
                    Ok(Progress::More) => break,
                    Ok(Progress::Command) => {
                        let again = parser.advance(&input, limits);
                        assert_eq!(again, Ok(Progress::Command), "a complete command stays so");
                        commands
                            .push(parser.arguments(&input).skip(0).map(<[u8]>::to_vec).collect());
                        input.drain(..parser.finish());
                    }
                    Err(error) => return (commands, Some(error)),
                }
            }
        }
        (commands, None)
    }

    fn check(input: &str, expected: &[&[&str]]) {
        let owned =
            |command: &&[&str]| command.iter().map(|text| text.as_bytes().to_vec()).collect();
        let expected: Vec<Vec<Vec<u8>>> = expected.iter().map(owned).collect();
        assert_eq!(parse(&[input.as_bytes()], &LIMITS), (expected, None), "{input:?}");
    }

    fn refused(input: &str, limits: &ParseLimits) -> String {
        let (_, error) = parse(&[input.as_bytes()], limits);
        error.map_or_else(|| format!("{input:?} was not refused"), |error| error.to_string())
    }

    #[test]
    fn arrays_and_inline_commands() {
        check("*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &[&["PING"], &["GET", ""]]);
        check("PING\r\nset a  \"b c\"\n", &[&["PING"], &["set", "a", "b c"]]);
        check("echo \"\\x41\\n\\\"\\q\" 'it\\'s \\n'\r\n", &[&["echo", "A\n\"q", "it's \\n"]]);
        check("set a \"\"\r\n", &[&["set", "a", ""]]);
        check("*0\r\n*-10\r\n\r\n \r\nPING\r\n", &[&[], &[], &[], &[], &["PING"]]);
        check("*2\r\n$3\r\nGET\r\n$5\r\nab", &[]);
    }

    #[test]
    fn errors_are_those_of_redis() {
        for (input, text) in [
            ("*3000000000\r\n", "invalid multibulk length"),
            ("*1048577\r\n", "invalid multibulk length"),
            ("*x\r\n", "invalid multibulk length"),
            ("*1\r\n$-10\r\n", "invalid bulk length"),
            ("*1\r\n$2000000000\r\n", "invalid bulk length"),
            ("*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            ("*1\r\n$4x\r\n", "invalid bulk length"),
            ("*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
            ("set a \"b\r\n", "unbalanced quotes in request"),
            ("set a \"b\"c\r\n", "unbalanced quotes in request"),
        ] {
            assert_eq!(refused(input, &LIMITS), format!("Protocol error: {text}"), "{input:?}");
        }
        let long = "1".repeat(LIMITS.line_bytes_max + 1);
        assert_eq!(refused(&long, &LIMITS), "Protocol error: too big inline request");
        assert_eq!(
            refused(&format!("*{long}"), &LIMITS),
            "Protocol error: too big mbulk count string"
        );
        assert_eq!(
            refused(&format!("*1\r\n${long}"), &LIMITS),
            "Protocol error: too big bulk count string"
        );
    }

    #[test]
    fn strangers_may_send_a_login_and_no_more() {
        let limits = ParseLimits { stranger: true, ..LIMITS };
        assert_eq!(
            refused("*100\r\n", &limits),
            "Protocol error: unauthenticated multibulk length"
        );
        let large = refused("*1\r\n$100000\r\n", &limits);
        assert_eq!(large, "Protocol error: unauthenticated bulk length");
        assert_eq!(parse(&[b"*10\r\n$16384\r\n"], &limits), (Vec::new(), None));
    }

    #[test]
    fn browsers_are_hung_up_on() {
        for input in ["POST / HTTP/1.1\r\nflushall\r\n", "Host: a\r\n", "*1\r\n$4\r\npost\r\n"] {
            assert_eq!(
                parse(&[input.as_bytes()], &LIMITS),
                (Vec::new(), Some(ProtocolError::Http))
            );
        }
    }

    #[test]
    fn a_declared_count_allocates_nothing() {
        let mut parser = Parser::default();
        assert_eq!(parser.advance(b"*1048576\r\n", &LIMITS), Ok(Progress::More));
        assert_eq!(parser.places.capacity(), 0);
    }

    fn near_valid() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![(-2_i64..6).prop_map(|n| n.to_string()), Just("x".to_owned())];
        let token = prop_oneof![
            4 => (any::<Vec<u8>>()).prop_map(|bytes| {
                [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
            }),
            2 => number.clone().prop_map(|n| format!("*{n}\r\n").into_bytes()),
            1 => number.prop_map(|n| format!("${n}\r\n").into_bytes()),
            1 => "[ a-z\"'\\\\]{0,12}\r\n".prop_map(String::into_bytes),
            1 => any::<Vec<u8>>(),
        ];
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(input in near_valid()) {
            let whole = parse(&[&input], &LIMITS);
            for at in 0..=input.len() {
                prop_assert_eq!(&parse(&[&input[..at], &input[at..]], &LIMITS), &whole, "cut at {}", at);
            }
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            prop_assert_eq!(&parse(&bytes, &LIMITS), &whole, "byte by byte");
        }

        #[test]
        fn any_bytes_are_answered(input: Vec<u8>, stranger: bool) {
            let _ = parse(&[&input], &ParseLimits { stranger, ..LIMITS });
        }

        #[test]
        fn commands_come_back_as_they_were_sent(commands in prop::collection::vec(
            prop::collection::vec(any::<Vec<u8>>(), 1..5), 0..5,
        )) {
            let mut input = Vec::new();
            for command in &commands {
                input.extend(format!("*{}\r\n", command.len()).bytes());
                for argument in command {
                    input.extend(format!("${}\r\n", argument.len()).bytes());
                    input.extend_from_slice(argument);
                    input.extend(b"\r\n");
                }
            }
            prop_assert_eq!(parse(&[&input], &LIMITS), (commands, None));
        }
    }
}
