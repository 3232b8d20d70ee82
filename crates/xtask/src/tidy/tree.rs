//! The text files of a checkout.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What people write; everything else (locks, images, generated files) has no style.
const EXTENSIONS: [&str; 5] = ["rs", "toml", "md", "sh", "yml"];
const NAMES: [&str; 3] = ["Makefile", "bootstrap", "run"];
/// What is built or fetched, not written.
const SKIPPED: [&str; 3] = ["target", "node_modules", "moim-data"];

/// Paths relative to the root, with `/` between their parts, and what is in the files.
#[derive(Default)]
pub(super) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let entries =
            fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if kind.is_dir() && !hidden && !SKIPPED.contains(&name.as_str()) {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() && is_written(&name) {
                let text =
                    fs::read_to_string(entry.path()).with_context(|| format!("read {path}"))?;
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    /// The file at `path`, if it is there.
    pub(super) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Files below a directory (the empty one is the root) whose names end in `ending`.
    pub(super) fn below<'tree>(
        &'tree self,
        directory: &'tree str,
        ending: &'tree str,
    ) -> impl Iterator<Item = (&'tree str, &'tree str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(directory) && path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(owned).collect() }
    }
}

fn is_written(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    NAMES.contains(&name) || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}
