//! Percent-decoding of paths and queries into bytes. Strict: what is not understood is refused, never passed on.

/// Whether `+` means a space: it does in a query that a form encoder wrote, and does not in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    Literal,
    Space,
}

/// Decodes `%XX`. The error says where the text breaks.
pub(super) fn decode(text: &str, plus: Plus) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let pair = (rest.next().and_then(hex), rest.next().and_then(hex));
                let (Some(high), Some(low)) = pair else {
                    return Err("'%' must be followed by two hexadecimal digits".to_owned());
                };
                high << 4 | low
            }
            b'+' if plus == Plus::Space => b' ',
            plain => plain,
        });
    }
    Ok(decoded)
}

/// Decodes a text. The error says what is wrong with it.
pub(super) fn decode_text(text: &str, plus: Plus) -> Result<String, String> {
    String::from_utf8(decode(text, plus)?).map_err(|error| format!("it is not UTF-8 ({error})"))
}

/// Encodes bytes for a path: everything but unreserved characters as `%XX`.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.extend([byte >> 4, byte & 0x0f].into_iter().map(hex_digit));
        }
    }
    text
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value)])
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes), Plus::Literal), Ok(bytes.clone()));
            prop_assert_eq!(decode(&encode(&bytes), Plus::Space), Ok(bytes));
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            drop(decode(&text, Plus::Space));
        }
    }

    #[test]
    fn only_two_hexadecimal_digits_make_a_byte() {
        assert_eq!(decode("a%00%fF+", Plus::Literal).unwrap(), b"a\x00\xff+");
        assert_eq!(decode("a+b", Plus::Space).unwrap(), b"a b");
        for bad in ["%", "%1", "%zz", "%+1", "100%", "%%41"] {
            assert!(decode(bad, Plus::Literal).is_err(), "{bad}");
        }
        assert!(decode_text("%ff", Plus::Literal).is_err());
    }
}
