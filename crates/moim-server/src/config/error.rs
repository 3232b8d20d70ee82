//! What is wrong with a configuration, and what to do.

use std::fmt;

/// Where a configuration is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    source: String,
    what: String,
}

impl ConfigError {
    pub(super) fn new(source: &str, what: impl Into<String>) -> Self {
        Self { source: source.to_owned(), what: what.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.what)
    }
}

impl std::error::Error for ConfigError {}

/// Says that there is no such name, and which one was probably meant.
pub(super) fn unknown<N: AsRef<str>>(name: &str, known: impl Iterator<Item = N>) -> String {
    let nearest = known.min_by_key(|candidate| distance(name, candidate.as_ref()));
    let hint = nearest
        .map_or_else(String::new, |nearest| format!("; the nearest is '{}'", nearest.as_ref()));
    format!("there is no setting '{name}'{hint}")
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to make one text of the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // cost[i][j]: of making the first j letters of `to` of the first i of `from`.
    let mut cost = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            cost[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = cost[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
                let swapped =
                    i > 1 && j > 1 && from[i - 2] == to[j - 1] && from[i - 1] == to[j - 2];
                let swapped = if swapped { cost[i - 2][j - 2] + 1 } else { usize::MAX };
                replaced.min(swapped).min(cost[i - 1][j] + 1).min(cost[i][j - 1] + 1)
            };
        }
    }
    cost[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_letters() {
        for (from, to, letters) in
            [("", "", 0), ("", "abc", 3), ("zone", "zoen", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), letters);
            assert_eq!(distance(to, from), letters);
        }
    }
}
