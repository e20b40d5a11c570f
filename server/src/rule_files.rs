//! Rule and workflow files: one file, or all files of a directory as one set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use distric_rules::document::{Document, Node, NodeValue, Position, parse_document};
use distric_rules::{CheckContext, Problem, RuleSet, Severity, check};
use serde_json::{Map, Value};

use crate::exit::{Exit, Failure};
use crate::settings::{CATALOG_BYTES_MAX, read_text};

/// Most files of one directory.
pub const DIRECTORY_FILES_MAX: usize = 10_000;

/// Rules and workflows as texts that a node takes, and what to call them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Rules, name and text; `None` when no file has rules.
    pub rules: Option<(String, String)>,
    /// Workflows.
    pub workflows: Option<(String, String)>,
}

impl Sources {
    /// Reads a rule file, or a directory of rule and workflow files (`.yaml`, `.yml`, `.json`; names with a leading dot and those
    /// that end in `.test.yaml` are left out), in order of their names.
    ///
    /// Errors: what cannot be read, and in a directory what is no rule or workflow file or is given twice, with file and line.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        if !path.is_dir() {
            let text = read_text(path, CATALOG_BYTES_MAX)?;
            return Ok(Self { rules: Some((path.display().to_string(), text)), workflows: None });
        }
        let mut merged = Merged::default();
        for file in files_of(path)? {
            let name = file.display().to_string();
            let text = read_text(&file, CATALOG_BYTES_MAX)?;
            let document = parse_document(&name, &text).map_err(|problem| not_valid(path, vec![problem]))?;
            merged.add(&name, &document).map_err(|problem| not_valid(path, vec![problem]))?;
        }
        let text = |value: Value| (path.display().to_string(), value.to_string());
        Ok(Self { rules: merged.rules().map(text), workflows: merged.workflows().map(text) })
    }

    /// The body of a command that applies both.
    pub fn body(&self) -> String {
        let source = |source: &Option<(String, String)>| match source {
            Some((name, text)) => serde_json::json!({"name": name, "text": text}),
            None => Value::Null,
        };
        serde_json::json!({"rules": source(&self.rules), "workflows": source(&self.workflows)}).to_string()
    }
}

/// Reads and checks the rules of a file or directory.
///
/// Errors: every problem, with exit code 7.
pub fn rule_set(path: &Path) -> Result<RuleSet, Failure> {
    let sources = Sources::read(path)?;
    let (name, text) =
        sources.rules.ok_or_else(|| Failure::new(Exit::BadInput, format!("no file in {} has a member `rules`", path.display())))?;
    let checked = check(&name, &text, &CheckContext::default());
    checked.catalog.ok_or_else(|| {
        let errors = checked.problems.into_iter().filter(|problem| problem.severity == Severity::Error);
        not_valid(path, errors.collect())
    })
}

fn not_valid(path: &Path, problems: Vec<Problem>) -> Failure {
    Failure::new(Exit::BadInput, format!("{} is not a valid rule set", path.display())).with_findings(problems)
}

/// The files of a directory that count, in order of their names.
pub fn files_of(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::io("read", dir, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_text = [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
        if !is_text || name.starts_with('.') || name.ends_with(".test.yaml") {
            continue;
        }
        if files.len() == DIRECTORY_FILES_MAX {
            return Err(Failure::new(Exit::BadInput, format!("{} has more than {DIRECTORY_FILES_MAX} files", dir.display())));
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// Documents put together.
#[derive(Default)]
struct Merged {
    rules: Vec<Value>,
    workflows: Vec<Value>,
    has_rules: bool,
    has_workflows: bool,
    lookups: Map<String, Value>,
    options: Map<String, Value>,
    /// Where an id or name was given first.
    given: BTreeMap<(&'static str, String), String>,
}

impl Merged {
    fn add(&mut self, file: &str, document: &Document) -> Result<(), Problem> {
        let NodeValue::Map(members) = &document.root.value else {
            return Err(wrong(file, &document.root, "this is no map", "`rules` or `workflows`"));
        };
        for (key, node) in members {
            match (key.text.as_str(), &node.value) {
                ("rules", NodeValue::List(items)) => {
                    self.has_rules = true;
                    for item in items {
                        self.once("rule", item.get("id").and_then(Node::as_str), file, item.at)?;
                        self.rules.push(item.to_json());
                    }
                }
                ("workflows", NodeValue::List(items)) => {
                    for item in items {
                        self.add_workflow(file, item)?;
                    }
                    self.has_workflows = true;
                }
                ("workflow", _) => self.add_workflow(file, node)?,
                ("lookups", NodeValue::Map(tables)) => {
                    for (name, table) in tables {
                        self.once("lookup table", Some(&name.text), file, name.at)?;
                        self.lookups.insert(name.text.clone(), table.to_json());
                    }
                }
                ("fail_fast" | "keep_unmatched", _) => {
                    self.once("option", Some(&key.text), file, key.at)?;
                    self.options.insert(key.text.clone(), node.to_json());
                }
                (other, _) => {
                    let message = format!("`{other}` is not what a catalog file has, or not of the right kind");
                    return Err(wrong(file, node, &message, "rules, lookups, fail_fast, keep_unmatched, workflows or workflow"));
                }
            }
        }
        Ok(())
    }

    fn add_workflow(&mut self, file: &str, node: &Node) -> Result<(), Problem> {
        self.has_workflows = true;
        self.once("workflow", node.get("id").and_then(Node::as_str), file, node.at)?;
        self.workflows.push(node.to_json());
        Ok(())
    }

    fn once(&mut self, what: &'static str, name: Option<&str>, file: &str, at: Position) -> Result<(), Problem> {
        let Some(name) = name else { return Ok(()) };
        let place = format!("{file}:{}", at.line);
        match self.given.insert((what, name.to_owned()), place) {
            None => Ok(()),
            Some(first) => Err(Problem::error(file, at, "", format!("the {what} `{name}` is given twice, first in {first}"), None)),
        }
    }

    fn rules(&self) -> Option<Value> {
        if !self.has_rules {
            return None;
        }
        let mut document = self.options.clone();
        document.insert("rules".to_owned(), Value::Array(self.rules.clone()));
        if !self.lookups.is_empty() {
            document.insert("lookups".to_owned(), Value::Object(self.lookups.clone()));
        }
        Some(Value::Object(document))
    }

    fn workflows(&self) -> Option<Value> {
        self.has_workflows.then(|| serde_json::json!({ "workflows": self.workflows }))
    }
}

fn wrong(file: &str, node: &Node, message: &str, expected: &str) -> Problem {
    Problem::error(file, node.at, "", message, Some(expected.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn the_files_of_a_directory_are_one_set() {
        let files = dir(&[
            ("a.yaml", "rules:\n  - { id: a, transform: [{ lookup: x, in: t, to: y }] }\n"),
            ("b.json", r#"{"rules": [{"id": "b", "after": ["a"]}], "fail_fast": true}"#),
            ("t.yml", "lookups: { t: { k: 1 } }\n"),
            ("w.yaml", "workflow: { id: w, tasks: [{ id: t, type: wait, config: { duration: 1s } }] }\n"),
            ("a.test.yaml", "tests: []\n"),
            (".hidden.yaml", "nonsense: 1\n"),
            ("README.md", "nothing"),
        ]);
        let set = rule_set(files.path()).unwrap();
        assert_eq!((set.len(), set.fail_fast()), (2, true));
        let sources = Sources::read(files.path()).unwrap();
        assert!(sources.workflows.unwrap().1.contains("\"id\":\"w\""));
    }

    #[test]
    fn what_is_given_twice_or_is_not_known_is_named_with_its_place() {
        let twice = dir(&[("a.yaml", "rules:\n  - { id: a }\n"), ("b.yaml", "rules:\n\n  - { id: a }\n")]);
        let failure = Sources::read(twice.path()).unwrap_err().to_string();
        assert!(failure.contains("b.yaml:3") && failure.contains("a.yaml:2"), "{failure}");
        let unknown = dir(&[("a.yaml", "rulez: []\n")]);
        let failure = Sources::read(unknown.path()).unwrap_err().to_string();
        assert!(failure.contains("a.yaml:1") && failure.contains("rulez"), "{failure}");
        assert!(rule_set(dir(&[]).path()).is_err());
    }
}
