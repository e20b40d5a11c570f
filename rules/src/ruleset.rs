//! Rule sets: checked text, the form in which a catalog is stored, replaced and printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::action::parse_name;
use crate::document::{Cursor, Document, Node, Problem, Problems, parse_document};
use crate::equal_comparisons::SharedComparisons;
use crate::hands::{Alone, Hands, each, parts};
use crate::lint;
use crate::rule::Rule;

/// Rules that are read at once by one pair of hands.
const PART_RULES: usize = 1_024;

/// What a check may know about its surroundings.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckContext<'a> {
    /// The workflows that exist, when that is known: a rule that starts another one is wrong.
    pub known_workflows: Option<&'a BTreeSet<String>>,
    /// What only warns over several rules is not looked for: that costs more than all the rest.
    pub errors_only: bool,
}

/// A checked text.
#[derive(Debug)]
pub struct Checked {
    /// The rule set, when there is no error; there may be warnings.
    pub catalog: Option<RuleSet>,
    /// Everything found, in the order of the text.
    pub problems: Vec<Problem>,
}

/// A table for `lookup`: key to value.
pub(crate) type Table = BTreeMap<String, Value>;

/// Checked rules with their lookup tables and options. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Arc<BTreeMap<Arc<str>, Arc<Rule>>>,
    lookups: Arc<BTreeMap<String, Table>>,
    fail_fast: bool,
    keep_unmatched: bool,
}

/// Checks a catalog: `rules`, `lookups`, `fail_fast`, `keep_unmatched`, in YAML or JSON.
///
/// All problems are found, not just the first one; only a text that cannot be read as YAML or JSON gives a single one.
pub fn check(source_name: &str, text: &str, context: &CheckContext<'_>) -> Checked {
    check_with(&Alone, source_name, text, context)
}

/// As [`check`], with hands for the reading of rules.
pub fn check_with(hands: &dyn Hands, source_name: &str, text: &str, context: &CheckContext<'_>) -> Checked {
    match parse_document(source_name, text) {
        Ok(Document { root }) => check_node(hands, source_name, &root, context),
        Err(problem) => Checked { catalog: None, problems: vec![problem] },
    }
}

/// Checks the text of one rule, a map with `id` and so on. What it needs of others (lookup tables, rules that it comes
/// after, workflows) is checked by [`RuleSet::with_rule`].
pub fn check_rule(source_name: &str, text: &str) -> Result<Rule, Vec<Problem>> {
    let document = parse_document(source_name, text).map_err(|problem| vec![problem])?;
    let mut problems = Problems::new(source_name);
    let rule = Rule::parse(&Cursor::root(&document.root), &mut problems, None);
    rule.ok_or_else(|| problems.into_sorted())
}

fn check_node(hands: &dyn Hands, source_name: &str, root: &Node, context: &CheckContext<'_>) -> Checked {
    let mut problems = Problems::new(source_name);
    let cursor = Cursor::root(root);
    let Some(members) = cursor.map(&mut problems, &["rules", "lookups", "fail_fast", "keep_unmatched"]) else {
        return Checked { catalog: None, problems: problems.into_sorted() };
    };
    let lookups = members.get("lookups").map(|at| parse_lookups(&at, &mut problems)).unwrap_or_default();
    let tables: Vec<&str> = lookups.keys().map(String::as_str).collect();
    let fail_fast = members.get("fail_fast").and_then(|at| at.bool(&mut problems)).unwrap_or(false);
    let keep_unmatched = members.get("keep_unmatched").and_then(|at| at.bool(&mut problems)).unwrap_or(false);

    let items = members.required(&mut problems, "rules").and_then(|at| at.list(&mut problems)).unwrap_or_default();
    // Names of rules with an error in them count as known, so that one mistake is not reported twice.
    let mut declared: BTreeMap<&str, &str> = BTreeMap::new();
    for item in &items {
        if let Some(id_node) = item.node.get("id")
            && let Some(id) = id_node.as_str()
        {
            match declared.get(id) {
                Some(first) => {
                    let message = format!("the id `{id}` is given twice, first in {first}");
                    problems.error(id_node.at, &format!("{}.id", item.path), message, Some("a unique id"));
                }
                None => {
                    declared.insert(id, &item.path);
                }
            }
        }
    }
    let read = |part: &[Cursor<'_>]| {
        let mut problems = Problems::new(source_name);
        let rules: Vec<Rule> = part.iter().filter_map(|item| Rule::parse(item, &mut problems, Some(&tables))).collect();
        (rules, problems)
    };
    let mut rules = Vec::with_capacity(items.len());
    for (part, found) in each(hands, parts(&items, PART_RULES), read) {
        rules.extend(part);
        problems.append(found);
    }
    let set = RuleSet { rules: Arc::new(by_id(rules)), lookups: Arc::new(lookups), fail_fast, keep_unmatched };
    set.finish(&declared.keys().copied().collect(), context, problems)
}

/// Rules by id, the first of each, with equal comparisons kept once.
fn by_id(rules: Vec<Rule>) -> BTreeMap<Arc<str>, Arc<Rule>> {
    let mut shared = SharedComparisons::default();
    let mut by_id = Vec::with_capacity(rules.len());
    for mut rule in rules {
        shared.share(&mut rule.condition);
        by_id.push((rule.id.clone(), Arc::new(rule)));
    }
    by_id.sort_by(|(a, _), (b, _)| a.cmp(b));
    by_id.dedup_by(|(later, _), (first, _)| later == first);
    by_id.into_iter().collect()
}

fn parse_lookups(at: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<String, Table> {
    let mut tables = BTreeMap::new();
    let Some(members) = at.any_map(problems) else { return tables };
    for (key, table_at) in members.iter() {
        let name = Node { value: crate::document::NodeValue::String(key.text.clone()), at: key.at };
        parse_name(&Cursor { node: &name, path: table_at.path.clone() }, problems, "a table's name");
        let Some(rows) = table_at.any_map(problems) else { continue };
        tables.insert(key.text.clone(), rows.iter().map(|(key, value)| (key.text.clone(), value.node.to_json())).collect());
    }
    tables
}

impl RuleSet {
    /// The rules in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|rule| &**rule)
    }

    /// How many rules there are, disabled ones included.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule with this id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id).map(|rule| &**rule)
    }

    pub(crate) fn shared_rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.values()
    }

    /// Whether the first match that has actions ends the walk.
    pub fn fail_fast(&self) -> bool {
        self.fail_fast
    }

    /// Whether messages that no rule matches are kept in the log.
    pub fn keep_unmatched(&self) -> bool {
        self.keep_unmatched
    }

    /// The lookup tables by name.
    pub(crate) fn lookups(&self) -> &Arc<BTreeMap<String, Table>> {
        &self.lookups
    }

    /// Canonical JSON: rules by id, one spelling of everything, defaults left out. [`RuleSet::from_json`] reads it back.
    pub fn to_json(&self) -> Value {
        let mut map = self.options();
        map.insert("rules".into(), self.iter().map(Rule::to_json).collect());
        Value::Object(map)
    }

    /// Canonical JSON in the parts that [`RuleSet::from_parts`] reads: everything but the rules, and each rule with its id.
    pub fn to_parts(&self, hands: &dyn Hands) -> (String, Vec<(Arc<str>, String)>) {
        let rules: Vec<&Rule> = self.iter().collect();
        let write = |part: &[&Rule]| part.iter().map(|rule| (rule.id.clone(), rule.to_json().to_string())).collect::<Vec<_>>();
        (Value::Object(self.options()).to_string(), each(hands, parts(&rules, PART_RULES), write).concat())
    }

    /// Everything but the rules.
    fn options(&self) -> Map<String, Value> {
        let mut map = Map::new();
        if !self.lookups.is_empty() {
            map.insert("lookups".into(), json!(*self.lookups));
        }
        if self.fail_fast {
            map.insert("fail_fast".into(), json!(true));
        }
        if self.keep_unmatched {
            map.insert("keep_unmatched".into(), json!(true));
        }
        map
    }

    /// Reads a rule set from JSON, canonical or not. Errors: every problem, without lines and columns.
    pub fn from_json(value: &Value) -> Result<Self, Vec<Problem>> {
        let context = CheckContext { errors_only: true, ..CheckContext::default() };
        let checked = check_node(&Alone, "catalog", &Node::from_json(value), &context);
        checked.catalog.ok_or(checked.problems)
    }

    /// Reads a rule set in parts: a JSON object with everything but the rules, and the text of each rule in JSON. Makes what
    /// [`RuleSet::from_json`] makes of all in one, at less than half its cost. `None`: something is wrong, and that says what.
    pub fn from_parts(hands: &dyn Hands, options: &str, rules: &[&str]) -> Option<Self> {
        let mut options: Map<String, Value> = serde_json::from_str(options).ok()?;
        options.insert("rules".into(), Value::Array(Vec::new()));
        let mut set = Self::from_json(&Value::Object(options)).ok()?;
        let tables: Vec<&str> = set.lookups.keys().map(String::as_str).collect();
        let numbered: Vec<(usize, &str)> = rules.iter().copied().enumerate().collect();
        let read = |part: &[(usize, &str)]| -> Option<Vec<Rule>> {
            let mut problems = Problems::new("catalog");
            let rule = |(i, text): &(usize, &str)| {
                let node = Node::from_json_text(text)?;
                Rule::parse(&Cursor { node: &node, path: format!("rules[{i}]") }, &mut problems, Some(&tables))
            };
            part.iter().map(rule).collect()
        };
        let read: Vec<Vec<Rule>> = each(hands, parts(&numbered, PART_RULES), read).into_iter().collect::<Option<_>>()?;
        set.rules = Arc::new(by_id(read.into_iter().flatten().collect()));
        let context = CheckContext { errors_only: true, ..CheckContext::default() };
        // Of two rules with one id the first was kept.
        if set.len() == rules.len() { set.finish(&BTreeSet::new(), &context, Problems::new("catalog")).catalog } else { None }
    }

    /// The set with this rule added, or in place of the rule with its id.
    pub fn with_rule(&self, rule: Rule, context: &CheckContext<'_>) -> Checked {
        let problems = Problems::new(&rule.source);
        let mut set = self.clone();
        Arc::make_mut(&mut set.rules).insert(rule.id.clone(), Arc::new(rule));
        set.finish(&BTreeSet::new(), context, problems)
    }

    /// The set without the rule with this id; `None` when there is no such rule.
    pub fn without_rule(&self, id: &str) -> Option<Checked> {
        let mut set = self.clone();
        let rule = Arc::make_mut(&mut set.rules).remove(id)?;
        Some(set.finish(&BTreeSet::new(), &CheckContext::default(), Problems::new(&rule.source)))
    }

    /// The set with these rules added or in place of those with their ids, and without the ones named. What rules need of each
    /// other is checked; what only warns is not looked for, so that the cost follows the change.
    pub fn patched<'i>(&self, put: Vec<Rule>, removed: impl IntoIterator<Item = &'i str>, context: &CheckContext<'_>) -> Checked {
        let problems = Problems::new(put.first().map_or("catalog", |rule| &rule.source));
        let mut set = self.clone();
        let mut removed = removed.into_iter().peekable();
        if removed.peek().is_none() && put.is_empty() {
            return set.check_references(&BTreeSet::new(), context, problems);
        }
        let rules = Arc::make_mut(&mut set.rules);
        for id in removed {
            rules.remove(id);
        }
        rules.extend(put.into_iter().map(|rule| (rule.id.clone(), Arc::new(rule))));
        set.check_references(&BTreeSet::new(), context, problems)
    }

    /// Checks what rules need of each other and of the surroundings, and lints.
    fn finish(self, declared: &BTreeSet<&str>, context: &CheckContext<'_>, mut problems: Problems) -> Checked {
        lint::check_references(&self, declared, context, &mut problems);
        if !context.errors_only && !problems.has_errors() {
            lint::lint(&self, &mut problems);
        }
        Checked { catalog: (!problems.has_errors()).then_some(self), problems: problems.into_sorted() }
    }

    fn check_references(self, declared: &BTreeSet<&str>, context: &CheckContext<'_>, mut problems: Problems) -> Checked {
        lint::check_references(&self, declared, context, &mut problems);
        Checked { catalog: (!problems.has_errors()).then_some(self), problems: problems.into_sorted() }
    }
}
