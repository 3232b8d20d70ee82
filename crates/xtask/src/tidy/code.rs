//! What may not be written where.

use std::path::Path;

use super::Findings;
use super::crates::STRICT;
use super::tree::Tree;

/// What a crate that runs in the simulator may not reach for, and what it has instead.
const AMBIENT: [(&str, &str); 6] = [
    ("SystemTime::now", "time is an argument"),
    ("Instant::now", "time is an argument"),
    ("thread::spawn", "one node, one loop; an engine's threads are its own"),
    ("thread::sleep", "waiting is a timer"),
    ("rand::", "randomness comes from the seed"),
    ("env::var(", "configuration is an argument"),
];

/// What the clippy.toml of such a crate must ban, because a check of words is easily fooled.
const BANS: [&str; 8] = [
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::env::var",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::hash::RandomState",
];

/// Past 500 lines a file asks to be split; past this it has to be.
const LINES_MAX: usize = 800;

/// An exception that clippy knows of, with its reason, holds for so many lines.
const EXCEPTION_REACH: usize = 4;

/// No clock, randomness, thread or environment in what the simulator runs (INV-1).
pub(super) fn nothing_ambient_below_the_server(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for name in STRICT {
        for (path, text) in tree.below(&format!("crates/{name}/src/"), ".rs") {
            let lines: Vec<&str> = before_tests(text).lines().collect();
            for (index, line) in lines.iter().enumerate() {
                let said = without_comment(line);
                for (word, instead) in AMBIENT {
                    if mentions(said, word) && !is_excepted(&lines[..=index]) {
                        findings.push(format!(
                            "{path}:{}: `{word}`: {instead}, or a simulation cannot be replayed (INV-1)",
                            index + 1
                        ));
                    }
                }
            }
        }
    }
    findings
}

/// A crate's own clippy.toml replaces the one above it, so each strict crate must repeat the bans.
pub(super) fn strict_crates_ban_it_in_clippy_too(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for name in STRICT {
        let path = format!("crates/{name}/clippy.toml");
        let Some(text) = tree.file(&path) else {
            findings.push(format!(
                "{path} is missing: clippy then allows clocks and random maps there"
            ));
            continue;
        };
        for ban in BANS.iter().filter(|ban| !text.contains(&format!("path = \"{ban}\""))) {
            findings.push(format!("{path} does not ban {ban}: a simulation could not be replayed"));
        }
    }
    findings
}

/// A file is one concept; a long one is several.
pub(super) fn files_are_short(tree: &Tree) -> Findings {
    let sources = tree.below("crates/", ".rs").filter(|(path, _)| !is_test(path));
    sources
        .filter_map(|(path, text)| {
            let lines = before_tests(text).lines().count();
            (lines > LINES_MAX).then(|| {
                format!("{path} has {lines} lines besides its tests, over {LINES_MAX}: split it by concept")
            })
        })
        .collect()
}

/// What was meant to be done later is done, or is an issue.
pub(super) fn nothing_is_left_over(tree: &Tree) -> Findings {
    // In two parts, or this file would be the first finding.
    let marks = [concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut findings = Findings::new();
    for (path, text) in tree.below("", "").filter(|(path, _)| !is_document(path)) {
        for (index, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                let line = index + 1;
                findings
                    .push(format!("{path}:{line}: `{mark}` is left over: do it, or open an issue"));
            }
        }
    }
    findings
}

/// Switches that break a rule on purpose, to see that the simulator notices, must not be within reach of what is
/// shipped.
pub(super) fn the_simulators_switches_stay_there(tree: &Tree) -> Findings {
    let shipped = ["crates/moim-server/", "crates/moim/"];
    let sources = shipped.iter().flat_map(|directory| tree.below(directory, ".rs"));
    sources
        .filter(|(_, text)| text.lines().any(|line| mentions(line, "Mutation")))
        .map(|(path, _)| {
            format!("{path} says `Mutation`: rules are broken on purpose in the simulator only")
        })
        .collect()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

fn is_document(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

fn before_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ").map_or(text, |(before, _)| before)
}

fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Whether a line has `word` and not just a longer name that ends in it.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

/// Whether the last of `lines` stands under an exception of clippy's.
fn is_excepted(lines: &[&str]) -> bool {
    let near = &lines[lines.len().saturating_sub(EXCEPTION_REACH + 1)..];
    // On a line of its own where the formatter has broken the attribute up.
    let exempts = |line: &str| {
        line.contains("expect(clippy::disallowed_methods")
            || line.trim_start().starts_with("clippy::disallowed_methods,")
    };
    near.iter().any(|line| exempts(line))
        || lines.iter().any(|line| line.starts_with("#![") && exempts(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Tree {
        Tree::of(&[("crates/moim-node/src/lib.rs", text)])
    }

    #[test]
    fn a_clock_below_the_server_is_found() {
        let found = |text| nothing_ambient_below_the_server(&node(text)).len();
        assert_eq!(found("let now = std::time::Instant::now();"), 1);
        assert_eq!(found("let dice = rand::random();\nlet home = env::var(\"HOME\");"), 2);
        assert_eq!(found("// never Instant::now() here"), 0);
        assert_eq!(found("strand::cut()"), 0);
        assert_eq!(found("fn f() {}\n#[cfg(test)]\nmod tests { fn g() { Instant::now(); } }"), 0);
    }

    #[test]
    fn an_exception_with_its_reason_is_allowed() {
        let excepted = "#[expect(clippy::disallowed_methods, reason = \"…\")]\n\
                        let now = Instant::now();\n\n\n\n\nlet later = Instant::now();";
        let findings = nothing_ambient_below_the_server(&node(excepted));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("lib.rs:7"));
    }

    #[test]
    fn an_exception_over_several_lines_is_allowed() {
        let excepted = "#[expect(\n    clippy::disallowed_methods,\n    reason = \"…\"\n)]\n\
                        fn new() {\n    let now = Instant::now();\n}";
        assert_eq!(nothing_ambient_below_the_server(&node(excepted)), Findings::new());
    }

    #[test]
    fn the_server_has_a_clock() {
        let tree = Tree::of(&[("crates/moim-server/src/lib.rs", "Instant::now()")]);
        assert_eq!(nothing_ambient_below_the_server(&tree), Findings::new());
    }

    #[test]
    fn a_missing_ban_is_found() {
        let bans = BANS.map(|ban| format!("path = \"{ban}\"")).join("\n");
        let files: Vec<_> = STRICT
            .iter()
            .map(|name| (format!("crates/{name}/clippy.toml"), bans.clone()))
            .collect();
        let mut files: Vec<_> = files.iter().map(|(path, text)| (&path[..], &text[..])).collect();
        assert_eq!(strict_crates_ban_it_in_clippy_too(&Tree::of(&files)), Findings::new());
        let without_maps = bans.replace("HashMap", "TreeMap");
        files[0].1 = &without_maps;
        assert_eq!(strict_crates_ban_it_in_clippy_too(&Tree::of(&files)).len(), 1);
        files.remove(1);
        assert_eq!(strict_crates_ban_it_in_clippy_too(&Tree::of(&files)).len(), 2);
    }

    #[test]
    fn only_lines_besides_tests_count() {
        let long = "line\n".repeat(LINES_MAX + 1);
        let tested = format!("line\n#[cfg(test)]\nmod tests {{\n{long}}}");
        assert_eq!(files_are_short(&node(&long)).len(), 1);
        assert_eq!(files_are_short(&node(&tested)), Findings::new());
        let suite = Tree::of(&[("crates/moim-node/tests/all.rs", &long)]);
        assert_eq!(files_are_short(&suite), Findings::new());
    }

    #[test]
    fn left_overs_are_found_in_code_and_scripts() {
        let mark = concat!("FIX", "ME");
        let tree = Tree::of(&[("Makefile", mark), ("crates/a/src/lib.rs", mark), ("a.md", mark)]);
        assert_eq!(nothing_is_left_over(&tree).len(), 2);
    }

    #[test]
    fn a_switch_in_what_is_shipped_is_found() {
        let said = "use moim_node::Mutation;";
        let files = [("crates/moim/src/main.rs", said), ("crates/moim-sim/src/lib.rs", said)];
        assert_eq!(the_simulators_switches_stay_there(&Tree::of(&files)).len(), 1);
        let other = Tree::of(&[("crates/moim/src/main.rs", "PermutationOf")]);
        assert_eq!(the_simulators_switches_stay_there(&other), Findings::new());
    }
}
