//! `cargo xtask tidy`: the rules of the code that neither the compiler nor clippy checks.
//!
//! A check is a function from what it looks at to findings, one sentence each: what is wrong where, and why that
//! matters. All checks run; the task fails if anything was found. To add one: write the function and its tests beside
//! its kin, and name it in [`run`].

mod code;
mod crates;
mod documents;
mod tree;

use std::path::Path;

use anyhow::{Result, bail};

use self::crates::Graph;
use self::tree::Tree;

/// What is wrong, where, and why it matters.
type Findings = Vec<String>;

/// Runs every check over the checkout.
pub(crate) fn run(checkout: &Path) -> Result<()> {
    let tree = Tree::read(checkout)?;
    let graph = Graph::of(checkout)?;
    let findings = [
        crates::edges(&graph),
        crates::no_runtime_below_the_server(&graph),
        code::nothing_ambient_below_the_server(&tree),
        code::strict_crates_ban_it_in_clippy_too(&tree),
        code::files_are_short(&tree),
        code::nothing_is_left_over(&tree),
        code::the_simulators_switches_stay_there(&tree),
        documents::translations_have_the_same_headings(&tree),
        documents::the_map_names_every_file_of_the_node(&tree),
        documents::one_title_each(&tree),
    ]
    .concat();
    if findings.is_empty() {
        return Ok(());
    }
    bail!("the code is not tidy:\n- {}", findings.join("\n- "))
}
