//! Durations as people write them: `1500ms`, `10s`, `30m`, `12h`, `7d`.

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Milliseconds of a text such as `30m`. A number without a unit is refused: it would be guessed wrong by somebody.
pub fn parse_ms(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|&(_, factor)| factor);
    let product =
        number.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
    product.ok_or_else(|| {
        format!("'{text}' is no duration: write a whole number and ms, s, m, h or d, as in 30m or 1500ms")
    })
}

/// The counterpart for people: at most two units, `1d 4h`, `12s`, `340ms`.
pub fn print_ms(ms: u64) -> String {
    let coarsest = UNITS.iter().rposition(|&(_, factor)| ms >= factor).unwrap_or(0);
    let (unit, factor) = UNITS[coarsest];
    let rest = ms % factor;
    match coarsest.checked_sub(1).map(|finer| UNITS[finer]) {
        Some((finer, per)) if coarsest >= 2 && rest >= per => {
            format!("{}{unit} {}{finer}", ms / factor, rest / per)
        }
        _ => format!("{}{unit}", ms / factor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, ms) in
            [("0s", 0), ("1500ms", 1_500), ("10s", 10_000), ("30m", 1_800_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse_ms(text), Ok(ms));
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "10S",
            "1w",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert!(parse_ms(bad).unwrap_err().contains("no duration"), "{bad}");
        }
    }

    #[test]
    fn people_get_two_units_at_most() {
        for (ms, text) in [
            (0, "0ms"),
            (340, "340ms"),
            (12_345, "12s"),
            (1_800_000, "30m"),
            (1_805_000, "30m 5s"),
            (100_800_000, "1d 4h"),
        ] {
            assert_eq!(print_ms(ms), text);
        }
    }
}
