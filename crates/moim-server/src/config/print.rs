//! The configuration as a file, whole and commented.

use std::fmt::Write;

use toml::Value;

use super::Config;
use super::keys::{KEYS, NAMESPACE_KEYS, TABLES};

/// Letters in a line of a comment.
const COMMENT_WIDTH: usize = 100;

/// Why writing to a string cannot fail.
const WRITABLE: &str = "a string takes everything";

const HEAD: &str = "\
# Configuration of a Moim server. Every key is here, with the value that is in force; delete what you do not change.
# A variable overrides a key: MOIM_NODE_ZONE for zone in [node]. A flag of `moim server` overrides both.
";

const NAMESPACES: &str = "\
# Namespaces beside the numbered ones (0 to 15, which may be defined here as well). The same on every node; what is
# not said here is as in [cluster]. On the command line: --namespace carts:conflict=siblings
#
# [cluster.namespaces.carts]
";

impl Config {
    /// A file that, when read, gives this configuration (but for a password, which is not shown).
    pub fn print(&self) -> String {
        let mut text = HEAD.to_owned();
        for table in TABLES {
            text.push_str(match table {
                "cluster" => "\n# The same on every node; compared when nodes meet.\n[cluster]\n",
                _ => "\n# May differ from node to node.\n[node]\n",
            });
            for key in KEYS.iter().filter(|key| key.table == table) {
                comment(&mut text, "# ", key.comment);
                if key.name == "password" && !self.node.password.is_empty() {
                    text.push_str("# password is set and not shown\n");
                } else {
                    line(&mut text, "", key.name, &key.show(self));
                }
            }
        }
        self.print_namespaces(&mut text);
        text
    }

    fn print_namespaces(&self, text: &mut String) {
        text.push('\n');
        text.push_str(NAMESPACES);
        let example = super::NamespaceConfig::new("carts").filled(&self.cluster);
        for key in NAMESPACE_KEYS {
            comment(text, "#   # ", key.comment);
            line(text, "#   ", key.name, &key.show(&example));
        }
        for namespace in &self.cluster.namespaces {
            let name = &namespace.name;
            let name = Value::String(name.clone());
            writeln!(
                text,
                "
[cluster.namespaces.{name}]"
            )
            .expect(WRITABLE);
            for key in NAMESPACE_KEYS {
                let value = key.show(namespace);
                // What is as in [cluster] has no value of its own.
                if value != Value::String(String::new()) {
                    line(text, "", key.name, &value);
                }
            }
        }
    }
}

fn line(text: &mut String, prefix: &str, name: &str, value: &Value) {
    writeln!(text, "{prefix}{name} = {value}").expect(WRITABLE);
}

/// Words of a comment, in lines.
fn comment(text: &mut String, prefix: &str, words: &str) {
    let mut width = 0;
    for word in words.split_whitespace() {
        if width > 0 && width + 1 + word.len() <= COMMENT_WIDTH {
            text.push(' ');
            width += 1 + word.len();
        } else {
            text.push_str(if width > 0 { "\n" } else { "" });
            text.push_str(prefix);
            width = word.len();
        }
        text.push_str(word);
    }
    text.push('\n');
}
