//! `distric rules test`: unit tests of rules, written in YAML beside them. Offline.
//!
//! A test is a message and what must come of it: rules and workflows exactly and in order, or some that must or must not be among
//! them, and members of the derived payload. Whatever does not come out as expected is printed with the conditions that decided it.

use std::path::{Path, PathBuf};

use distric_rules::document::{Cursor, Members, parse_document};
use distric_rules::{Catalog, Decision, Envelope, Outcome, Problem, Problems, Severity};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint, write_line};
use crate::rule_files::rule_set;
use crate::settings::{CATALOG_BYTES_MAX, read_text};

const FILE_KEYS: [&str; 2] = ["rules", "tests"];
const TEST_KEYS: [&str; 8] = ["name", "message", "event_type", "source", "namespace", "timestamp", "headers", "expect"];
const EXPECT_KEYS: [&str; 5] = ["rules", "workflows", "matches", "not_matches", "derived"];

/// One test.
struct Case {
    name: String,
    line: u32,
    message: Value,
    event_type: Option<String>,
    source: Option<String>,
    namespace: String,
    timestamp_us: Option<u64>,
    headers: Vec<(String, String)>,
    rules: Option<Vec<String>>,
    workflows: Option<Vec<String>>,
    matches: Vec<String>,
    not_matches: Vec<String>,
    derived: Vec<(String, Value)>,
}

/// Runs the tests of these files; exit 1 when one fails. `rules` takes the place of what the files name.
pub fn run(files: &[PathBuf], rules: Option<&Path>, output: Output) -> Result<Exit, Failure> {
    let (mut passed, mut failed) = (0_u64, 0_u64);
    for file in files {
        let text = read_text(file, CATALOG_BYTES_MAX)?;
        let (named, cases) = parse(&file.display().to_string(), &text).map_err(|problems| {
            Failure::new(Exit::BadInput, format!("{} is not a valid test file", file.display())).with_findings(problems)
        })?;
        let path = match (rules, named) {
            (Some(rules), _) => rules.to_owned(),
            (None, named) => file.parent().unwrap_or(Path::new(".")).join(named.as_deref().unwrap_or("rules.yaml")),
        };
        let catalog = Catalog::compile(1, &rule_set(&path)?)
            .map_err(|problems| Failure::new(Exit::BadInput, format!("{} does not compile", path.display())).with_findings(problems))?;
        for case in &cases {
            let complaints = case.run(&catalog);
            let is_good = complaints.is_empty();
            *(if is_good { &mut passed } else { &mut failed }) += 1;
            let place = format!("{}:{}", file.display(), case.line);
            if output.json {
                output.json(&json!({"file": file, "line": case.line, "test": case.name, "passed": is_good, "problems": complaints}));
                continue;
            }
            let verdict = if is_good { output.paint(Paint::Good, "ok") } else { output.paint(Paint::Bad, "FAILED") };
            write_line(&format!("{verdict} {} {}", case.name, output.paint(Paint::Dim, &place)));
            for line in complaints.iter().flat_map(|complaint| complaint.lines()) {
                write_line(&format!("     {line}"));
            }
        }
    }
    output.text(format!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { Exit::Success } else { Exit::FailedOutcome })
}

impl Case {
    /// What is not as expected, in words.
    fn run(&self, catalog: &Catalog) -> Vec<String> {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let envelope = Envelope {
            namespace: &self.namespace,
            event_type: self.event_type.as_deref(),
            source: self.source.as_deref(),
            timestamp_us: self.timestamp_us,
            headers: &headers,
            content_type: None,
        };
        let decision = catalog.decide_value(&envelope, &self.message);
        let mut complaints = Vec::new();
        let matched: Vec<&str> = decision.rules.iter().map(|rule| &**rule).collect();
        let mut astray: Vec<&str> = Vec::new();
        if let Some(expected) = &self.rules {
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            if expected != matched {
                complaints.push(format!("rules: expected {}, found {}", list(&expected), list(&matched)));
                astray.extend(expected.iter().filter(|rule| !matched.contains(rule)));
                astray.extend(matched.iter().filter(|rule| !expected.contains(rule)));
            }
        }
        for rule in self.matches.iter().filter(|rule| !matched.contains(&rule.as_str())) {
            complaints.push(format!("rule `{rule}` does not match"));
            astray.push(rule);
        }
        for rule in self.not_matches.iter().filter(|rule| matched.contains(&rule.as_str())) {
            complaints.push(format!("rule `{rule}` matches"));
            astray.push(rule);
        }
        let started: Vec<&str> = decision.actions.iter().map(|action| &*action.workflow).collect();
        if let Some(expected) = &self.workflows
            && *expected != started
        {
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            complaints.push(format!("workflows: expected {}, found {}", list(&expected), list(&started)));
        }
        complaints.extend(self.derived_complaints(&decision));
        for note in &decision.notes {
            complaints.push(format!("note: rule `{}`, {}: {}", note.rule, note.path, note.message));
        }
        if complaints.iter().all(|complaint| complaint.starts_with("note: ")) {
            return Vec::new();
        }
        astray.dedup();
        for rule in astray {
            complaints.push(why(catalog, &envelope, &self.message, rule));
        }
        complaints
    }

    fn derived_complaints(&self, decision: &Decision) -> Vec<String> {
        let derived = decision.derived.as_ref().unwrap_or(&self.message);
        let at = |path: &str| path.split('.').try_fold(derived, |value, member| value.get(member));
        let wrong = self.derived.iter().filter(|(path, expected)| at(path) != Some(expected));
        wrong
            .map(|(path, expected)| match at(path) {
                Some(found) => format!("derived `{path}`: expected {expected}, found {found}"),
                None => format!("derived `{path}`: expected {expected}, found nothing"),
            })
            .collect()
    }
}

/// The conditions of a rule with what they saw.
pub fn why(catalog: &Catalog, envelope: &Envelope<'_>, message: &Value, rule: &str) -> String {
    if catalog.rules().rule(rule).is_none() {
        let ids: Vec<&str> = catalog.rules().iter().map(|rule| rule.id()).collect();
        let near = distric_rules::did_you_mean(rule, &ids).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
        return format!("there is no rule `{rule}`{near}");
    }
    let explanation = catalog.explain(envelope, message, Some(rule));
    let Some(explained) = explanation.rules.first() else { return String::new() };
    let verdict = if explained.outcome == Outcome::Matched { "matches" } else { "does not match" };
    format!("why `{rule}` {verdict}:\n{}", explanation.to_string().trim_end())
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn parse(name: &str, text: &str) -> Result<(Option<String>, Vec<Case>), Vec<Problem>> {
    let document = parse_document(name, text).map_err(|problem| vec![problem])?;
    let mut problems = Problems::new(name);
    let parsed = parse_file(&Cursor::root(&document.root), &mut problems);
    match parsed {
        Some(parsed) if !problems.has_errors() => Ok(parsed),
        _ => Err(problems.into_sorted().into_iter().filter(|problem| problem.severity == Severity::Error).collect()),
    }
}

fn parse_file(root: &Cursor<'_>, problems: &mut Problems) -> Option<(Option<String>, Vec<Case>)> {
    let members = root.map(problems, &FILE_KEYS)?;
    let rules = members.get("rules").and_then(|at| at.string(problems)).map(str::to_owned);
    let tests = members.required(problems, "tests")?.list(problems)?;
    let cases: Vec<Option<Case>> = tests.iter().map(|test| parse_case(test, problems)).collect();
    cases.into_iter().collect::<Option<Vec<_>>>().map(|cases| (rules, cases))
}

fn parse_case(test: &Cursor<'_>, problems: &mut Problems) -> Option<Case> {
    let members = test.map(problems, &TEST_KEYS)?;
    let text = |key: &str, problems: &mut Problems| members.get(key).and_then(|at| at.string(problems)).map(str::to_owned);
    let name = members.required(problems, "name")?.string(problems)?.to_owned();
    let message = members.required(problems, "message")?.node.to_json();
    let timestamp_us = match members.get("timestamp") {
        None => None,
        Some(at) => match at.string(problems)?.parse::<jiff::Timestamp>() {
            Ok(instant) => u64::try_from(instant.as_microsecond()).ok(),
            Err(error) => {
                at.error(problems, format!("this is no instant: {error}"), Some("RFC 3339, such as 2026-01-31T12:00:00Z"));
                return None;
            }
        },
    };
    let mut headers = Vec::new();
    if let Some(at) = members.get("headers") {
        for (key, value) in at.any_map(problems)?.iter() {
            headers.push((key.text.clone(), value.string(problems)?.to_owned()));
        }
    }
    let expect = members.required(problems, "expect")?;
    let expected = expect.map(problems, &EXPECT_KEYS)?;
    if EXPECT_KEYS.iter().all(|key| expected.get(key).is_none()) {
        expect.error(problems, "nothing is expected, so this test cannot fail", Some(&EXPECT_KEYS.join(", ")));
        return None;
    }
    let mut derived = Vec::new();
    if let Some(at) = expected.get("derived") {
        derived.extend(at.any_map(problems)?.iter().map(|(key, value)| (key.text.clone(), value.node.to_json())));
    }
    Some(Case {
        name,
        line: test.at().line,
        message,
        event_type: text("event_type", problems),
        source: text("source", problems),
        namespace: text("namespace", problems).unwrap_or_else(|| "default".to_owned()),
        timestamp_us,
        headers,
        rules: names(&expected, "rules", problems),
        workflows: names(&expected, "workflows", problems),
        matches: names(&expected, "matches", problems).unwrap_or_default(),
        not_matches: names(&expected, "not_matches", problems).unwrap_or_default(),
        derived,
    })
}

fn names(members: &Members<'_>, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let items = members.get(key)?.list(problems)?;
    Some(items.iter().filter_map(|item| item.string(problems)).map(str::to_owned).collect())
}
