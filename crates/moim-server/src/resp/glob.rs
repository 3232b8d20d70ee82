//! Patterns of `KEYS` and `SCAN MATCH`: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a byte that means itself.
//!
//! One place to go back to is enough: when a later `*` has been reached, an earlier one need never give more. So the
//! time is at most the product of both lengths, without recursion, also for `a*a*a*…b`; the pattern's length is bounded
//! by [`PATTERN_BYTES_MAX`].

/// The longest pattern, in bytes.
pub(crate) const PATTERN_BYTES_MAX: usize = 4_096;

/// Whether `text` as a whole matches `pattern`.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    let mut back: Option<(&[u8], usize)> = None;
    loop {
        if let [b'*', tail @ ..] = rest {
            back = Some((tail, at));
            rest = tail;
            continue;
        }
        match (text.get(at), step(rest, text.get(at).copied())) {
            (None, _) if rest.is_empty() => return true,
            (Some(_), Some(tail)) => {
                rest = tail;
                at += 1;
            }
            _ => match back {
                // The last `*` takes one byte more.
                Some((tail, from)) if from < text.len() => {
                    back = Some((tail, from + 1));
                    (rest, at) = (tail, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// What follows of the pattern if its next element matches `byte`.
fn step(pattern: &[u8], byte: Option<u8>) -> Option<&[u8]> {
    let byte = byte?;
    match pattern {
        [] => None,
        [b'?', tail @ ..] => Some(tail),
        [b'[', class @ ..] => in_class(class, byte),
        [b'\\', literal, tail @ ..] | [literal, tail @ ..] => (*literal == byte).then_some(tail),
    }
}

/// As Redis: a class that is not closed ends with the pattern, and a range may be given in either order.
fn in_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', tail @ ..] => {
                rest = tail;
                break;
            }
            [b'\\', literal, tail @ ..] => {
                found |= *literal == byte;
                tail
            }
            [low, b'-', high, tail @ ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                tail
            }
            [literal, tail @ ..] => {
                found |= *literal == byte;
                tail
            }
        };
    }
    (found != negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        for (pattern, yes, no) in [
            ("", "", "a"),
            ("*", "", "-"),
            ("h?llo", "hello", "hllo"),
            ("h*llo", "heeeello", "helo"),
            ("h[ae]llo", "hallo", "hillo"),
            ("h[^e]llo", "hallo", "hello"),
            ("h[a-b]llo", "hbllo", "hcllo"),
            ("h[b-a]llo", "hallo", "hcllo"),
            ("a\\*", "a*", "ab"),
            ("[\\]]", "]", "\\"),
            ("[a", "a", "b"),
            ("*a*b*c", "xxaxbxbxc", "xxaxbxb"),
            ("\\", "\\", "a"),
        ] {
            assert!(matches(pattern.as_bytes(), yes.as_bytes()), "{pattern} {yes}");
            assert!(
                pattern == "*" || !matches(pattern.as_bytes(), no.as_bytes()),
                "{pattern} {no}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = "a*".repeat(PATTERN_BYTES_MAX / 2);
        let text = "a".repeat(10_240);
        let started = std::time::Instant::now();
        assert!(!matches(format!("{pattern}b").as_bytes(), text.as_bytes()));
        assert!(started.elapsed().as_secs() < 10, "took {:?}", started.elapsed());
    }

    /// The definition, without any cleverness.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            (pattern, [byte, text @ ..]) => {
                step(pattern, Some(*byte)).is_some_and(|rest| slow(rest, text))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn one_place_to_go_back_to_is_enough(pattern in "[ab*?\\[\\]^\\\\-]{0,8}", text in "[ab-]{0,8}") {
            let expected = slow(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
        }

        #[test]
        fn any_pattern_is_answered(pattern: Vec<u8>, text: Vec<u8>) {
            matches(&pattern, &text);
        }
    }
}
