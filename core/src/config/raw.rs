//! What was written: every key optional, each value with its origin. A later layer replaces an earlier one.

use std::collections::BTreeMap;

use distric_rules::document::{Node, NodeValue, Position, did_you_mean, parse_document};

use super::problem::{ConfigProblem, Origin};
use super::table::{COMMAND_VARIABLES, Fallback, KEYS, KeyInfo, VARIABLE_PREFIX, find, find_variable};
use super::value::{Value, from_node, from_text};

/// One value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The value; fits kind and bounds of its key.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// What was written, layer over layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawConfig {
    written: BTreeMap<&'static str, Written>,
}

impl RawConfig {
    /// The lowest layer: the defaults of the table.
    pub fn defaults() -> Self {
        let mut raw = Self::default();
        for key in KEYS {
            if let Fallback::Value(text) = key.fallback {
                let value = from_text(key.kind, text).expect("the table's defaults fit their own kinds and bounds");
                raw.put(key, value, Origin::Default);
            }
        }
        raw
    }

    /// Lays a file over what is there. `name` is how problems call it. An empty file is legal.
    pub fn read_file(&mut self, name: &str, text: &str, problems: &mut Vec<ConfigProblem>) {
        let document = match parse_document(name, text) {
            Ok(document) => document,
            Err(problem) => {
                let origin = Origin::File { file: name.to_owned(), line: problem.line, column: problem.column };
                problems.push(ConfigProblem { origin, key: problem.path, message: problem.message, hint: problem.expected });
                return;
            }
        };
        self.read_section(name, "", &document.root, problems);
    }

    /// One map of the file; `prefix` is empty at the root, otherwise it ends with a dot.
    fn read_section(&mut self, file: &str, prefix: &str, node: &Node, problems: &mut Vec<ConfigProblem>) {
        let at = |position: Position| Origin::File { file: file.to_owned(), line: position.line, column: position.column };
        let entries = match &node.value {
            NodeValue::Null => return,
            NodeValue::Map(entries) => entries,
            _ => {
                let path = prefix.trim_end_matches('.');
                problems.push(ConfigProblem::new(at(node.at), path, "a section must be a map of keys").with_hint("name: value"));
                return;
            }
        };
        for (entry, value) in entries {
            let name = format!("{prefix}{}", entry.text);
            let section = format!("{name}.");
            if let Some(key) = find(&name) {
                match from_node(key.kind, value) {
                    Ok(parsed) => self.put(key, parsed, at(entry.at)),
                    Err(error) => problems.push(ConfigProblem::new(at(value.at), key.name, error.message).with_hint(error.hint)),
                }
            } else if KEYS.iter().any(|key| key.name.starts_with(&section)) {
                self.read_section(file, &section, value, problems);
            } else {
                problems.push(unknown(at(entry.at), &name, &siblings(prefix)));
            }
        }
    }

    /// Lays the environment over what is there. Variables that do not begin with `DISTRIC_` are not looked at.
    pub fn read_environment<'a>(&mut self, variables: impl Iterator<Item = (&'a str, &'a str)>, problems: &mut Vec<ConfigProblem>) {
        for (variable, text) in variables.filter(|(variable, _)| variable.starts_with(VARIABLE_PREFIX)) {
            if COMMAND_VARIABLES.iter().any(|(name, _)| *name == variable) {
                continue;
            }
            let origin = Origin::Environment { variable: variable.to_owned() };
            match find_variable(variable) {
                Some(key) => self.set(key, origin, text, problems),
                None => {
                    let names: Vec<String> =
                        KEYS.iter().map(KeyInfo::variable).chain(COMMAND_VARIABLES.iter().map(|(name, _)| (*name).to_owned())).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let hint = did_you_mean(variable, &names).map_or_else(
                        || "unset it, or see docs/config.md for the names".to_owned(),
                        |guess| format!("did you mean `{guess}`?"),
                    );
                    problems.push(ConfigProblem::new(origin, "", "unknown variable").with_hint(hint));
                }
            }
        }
    }

    /// Lays one flag over what is there. `flag` is what the user typed, `--data-dir`; `name` the key that it sets.
    pub fn set_flag(&mut self, name: &str, flag: &str, text: &str, problems: &mut Vec<ConfigProblem>) {
        let origin = Origin::Flag { flag: flag.to_owned() };
        match find(name) {
            Some(key) => self.set(key, origin, text, problems),
            None => {
                let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
                problems.push(unknown(origin, name, &names));
            }
        }
    }

    fn set(&mut self, key: &'static KeyInfo, origin: Origin, text: &str, problems: &mut Vec<ConfigProblem>) {
        match from_text(key.kind, text) {
            Ok(value) => self.put(key, value, origin),
            Err(error) => problems.push(ConfigProblem::new(origin, key.name, error.message).with_hint(error.hint)),
        }
    }

    fn put(&mut self, key: &'static KeyInfo, value: Value, origin: Origin) {
        self.written.insert(key.name, Written { value, origin });
    }

    /// What holds for a key, if anything was written or it has a default.
    pub fn written(&self, name: &str) -> Option<&Written> {
        self.written.get(name)
    }

    /// Where the value of a key came from; the default when nothing was written.
    pub fn origin(&self, name: &str) -> Origin {
        self.written.get(name).map_or(Origin::Default, |written| written.origin.clone())
    }
}

fn unknown(origin: Origin, name: &str, known: &[&str]) -> ConfigProblem {
    let last = name.rsplit('.').next().unwrap_or(name);
    let guess = did_you_mean(name, known).or_else(|| did_you_mean(last, known));
    let hint = guess.map_or_else(|| format!("known here: {}", known.join(", ")), |guess| format!("did you mean `{guess}`?"));
    ConfigProblem::new(origin, name, "unknown key").with_hint(hint)
}

/// The members that a section may have, without its prefix and without what lies deeper.
fn siblings(prefix: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> =
        KEYS.iter().filter_map(|key| key.name.strip_prefix(prefix)).map(|rest| rest.split('.').next().unwrap_or(rest)).collect();
    names.dedup();
    names
}
