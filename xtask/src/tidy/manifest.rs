//! A dependency is a decision: the root manifest says for each why it is here, and some room uses it.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::toml;
use super::tree::Tree;

pub const NAME: &str = "manifest";

const SECTION: &str = "workspace.dependencies";

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(root) = tree.text("Cargo.toml") else { return };
    let used: BTreeSet<&str> = tree
        .ending("/Cargo.toml")
        .flat_map(|(_, text)| toml::entries(text))
        .filter(|entry| entry.section.ends_with("dependencies"))
        .map(|entry| entry.key)
        .collect();
    for entry in toml::entries(root).iter().filter(|entry| entry.section == SECTION) {
        let ours = entry.value.contains("path =");
        if !ours && entry.comment.is_none_or(str::is_empty) {
            findings.push(Finding::new(
                "Cargo.toml",
                entry.line,
                NAME,
                format!("`{}` does not say why it is here: `# …` at the end", entry.key),
            ));
        }
        if !ours && !used.contains(entry.key) {
            findings.push(Finding::new("Cargo.toml", entry.line, NAME, format!("no room uses `{}`", entry.key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    fn of(line: &str) -> Vec<String> {
        let root = format!("[workspace.dependencies]\ndistric-model = {{ path = \"model\" }}\n{line}\n");
        said(check, &[("Cargo.toml", &root), ("model/Cargo.toml", "[dependencies]\nserde.workspace = true\n")])
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        assert_eq!(of("serde = \"1\""), ["Cargo.toml:3: manifest: `serde` does not say why it is here: `# …` at the end"]);
        assert_eq!(of("serde = { version = \"1\", features = [\"#\"] } #").len(), 1);
        assert_eq!(of("serde = \"1\" # (de)serialisation"), [""; 0]);
    }

    #[test]
    fn a_dependency_that_nobody_uses_is_found() {
        assert_eq!(of("rand = \"0.9\" # dice"), ["Cargo.toml:3: manifest: no room uses `rand`"]);
    }
}
