//! What documents owe to the code and to each other.

use super::Findings;
use super::tree::Tree;

const NODE: &str = "crates/moim-node/src/";

/// A translation that has lost a section misleads whoever reads only that one.
pub(super) fn translations_have_the_same_headings(tree: &Tree) -> Findings {
    let (original, translation) = ("README.md", "README.ko.md");
    let missing: Findings = [original, translation]
        .into_iter()
        .filter(|path| tree.file(path).is_none())
        .map(|path| format!("{path} is missing: the project is introduced in both languages"))
        .collect();
    let (Some(first), Some(second)) = (tree.file(original), tree.file(translation)) else {
        return missing;
    };
    let (first, second) = (headings(first), headings(second));
    let same = first.iter().zip(&second).take_while(|(a, b)| a.level == b.level).count();
    match (first.get(same), second.get(same)) {
        (None, None) => Findings::new(),
        (a, b) => vec![format!(
            "{original} and {translation} part ways at {} and {}: a section is missing in one of them",
            named(a),
            named(b)
        )],
    }
}

/// A reader who does not find a file on the map does not know that it matters.
pub(super) fn the_map_names_every_file_of_the_node(tree: &Tree) -> Findings {
    let Some(map) = tree.file("ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md is missing: it is the map of the code".to_owned()];
    };
    let words: Vec<&str> = code_words(map);
    tree.below(NODE, ".rs")
        .filter_map(|(path, _)| {
            let concept = concept(path.strip_prefix(NODE)?)?;
            (!words.contains(&concept)).then(|| {
                format!("{path}: ARCHITECTURE.md does not name `{concept}`, and every concept of a node has a place there")
            })
        })
        .collect()
}

/// A page is about one thing.
pub(super) fn one_title_each(tree: &Tree) -> Findings {
    tree.below("", ".md")
        .filter_map(|(path, text)| {
            let titles = headings(text).iter().filter(|heading| heading.level == 1).count();
            (titles != 1).then(|| format!("{path} has {titles} titles: a page is about one thing"))
        })
        .collect()
}

struct Heading<'text> {
    level: usize,
    text: &'text str,
}

fn named(heading: Option<&Heading<'_>>) -> String {
    heading.map_or_else(|| "its end".to_owned(), |heading| format!("\"{}\"", heading.text))
}

/// The headings of a page, in order; what looks like one within a code block is not.
fn headings(page: &str) -> Vec<Heading<'_>> {
    prose(page)
        .filter_map(|line| {
            let level = line.bytes().take_while(|byte| *byte == b'#').count();
            let text = line[level..].strip_prefix(' ')?.trim();
            (1..=6).contains(&level).then_some(Heading { level, text })
        })
        .collect()
}

/// The lines of a page outside its code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// All words within backticks or code blocks.
fn code_words(page: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    page.split('`').skip(1).step_by(2).flat_map(|code| code.split(|c| !is_word(c))).collect()
}

/// What a file is about: its name, or that of the directory that it heads.
fn concept(path: &str) -> Option<&str> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let name = path.rsplit('/').next()?;
    (!["lib", "tests"].contains(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readmes(original: &str, translation: &str) -> Findings {
        let tree = Tree::of(&[("README.md", original), ("README.ko.md", translation)]);
        translations_have_the_same_headings(&tree)
    }

    #[test]
    fn translations_are_compared_by_their_headings() {
        assert_eq!(readmes("# Moim\n## Start\n", "# 모임\ntext\n## 시작\n"), Findings::new());
        let shorter = readmes("# Moim\n## Start\n", "# 모임\n");
        assert!(shorter[0].contains("\"Start\" and its end"), "{shorter:?}");
        assert_eq!(readmes("# Moim\n## Start\n", "# 모임\n### 시작\n").len(), 1);
        let code = "# 모임\n```sh\n# a comment\n```\n";
        assert_eq!(readmes("# Moim\n", code), Findings::new());
    }

    #[test]
    fn missing_documents_are_said_to_be_missing() {
        let nothing = Tree::default();
        assert_eq!(translations_have_the_same_headings(&nothing).len(), 2);
        assert!(the_map_names_every_file_of_the_node(&nothing)[0].contains("missing"));
    }

    #[test]
    fn a_file_that_the_map_leaves_out_is_found() {
        let files = ["lib.rs", "gossip.rs", "coordinator/mod.rs", "coordinator/tests.rs"];
        let paths: Vec<String> = files.iter().map(|file| format!("{NODE}{file}")).collect();
        let mut files: Vec<(&str, &str)> = paths.iter().map(|path| (&path[..], "")).collect();
        files.push(("ARCHITECTURE.md", "`moim-node/coordinator` decides; we say gossip too late"));
        let findings = the_map_names_every_file_of_the_node(&Tree::of(&files));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("`gossip`"));
        files.last_mut().unwrap().1 = "`coordinator`\n```text\ngossip.rs   who lives\n```\n";
        assert_eq!(the_map_names_every_file_of_the_node(&Tree::of(&files)), Findings::new());
    }

    #[test]
    fn a_page_has_one_title() {
        let pages = [("a.md", "# One\n## Part\n"), ("b.md", "# One\n# Two\n"), ("c.md", "text\n")];
        let findings = one_title_each(&Tree::of(&pages));
        assert_eq!(findings.len(), 2);
        assert!(findings[0].starts_with("b.md has 2") && findings[1].starts_with("c.md has 0"));
    }
}
