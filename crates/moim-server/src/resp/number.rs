//! Numbers as Redis reads and writes them: the shortest form only, so that a number has one text.

/// Digits of the longest 64-bit integer, and its sign.
const INTEGER_BYTES_MAX: usize = 20;

/// A 64-bit integer in its canonical form: no plus sign, no leading zeros, no spaces.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let canonical = match digits {
        [] => false,
        [b'0', rest @ ..] => rest.is_empty() && !negative,
        _ => digits.len() < INTEGER_BYTES_MAX,
    };
    if !canonical {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, byte| {
        let digit = i64::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        let tens = sum.checked_mul(10)?;
        if negative { tens.checked_sub(digit) } else { tens.checked_add(digit) }
    })
}

/// A float as `INCRBYFLOAT` takes it: what Rust reads, without spaces; not a number is none.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<f64>().ok().filter(|number| !number.is_nan())
}

/// Appends the decimal text of an integer.
pub(crate) fn put_integer(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0_u8; INTEGER_BYTES_MAX];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a remainder of ten is one digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_integer_is_read_back(number: i64) {
            let mut text = Vec::new();
            put_integer(&mut text, number);
            prop_assert_eq!(String::from_utf8_lossy(&text), number.to_string());
            prop_assert_eq!(integer(&text), Some(number));
        }

        #[test]
        fn any_text_is_answered(text: Vec<u8>) {
            let canonical = std::str::from_utf8(&text).ok().and_then(|text| {
                text.parse::<i64>().ok().filter(|number| number.to_string() == text)
            });
            prop_assert_eq!(integer(&text), canonical);
            let _ = float(&text);
        }
    }

    #[test]
    fn only_the_shortest_form_is_an_integer() {
        for bad in ["", "-", "-0", "01", "+1", " 1", "1 ", "1.0", "9223372036854775808", "1e3"] {
            assert_eq!(integer(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        for bad in ["", " 1", "1 ", "nan", "x", "0x10"] {
            assert_eq!(float(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(float(b"5.0e3"), Some(5_000.0));
    }
}
