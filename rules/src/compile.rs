//! Compiled rules: conditions with numbered paths, and groups by event type.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::condition::{Comparison, Condition};
use crate::document::Problem;
use crate::lint::TRANSFORMING_ANCESTORS_MAX;
use crate::message::Resolution;
use crate::order::evaluation_order;
use crate::path::Path;
use crate::predicate::{Leaf, Predicate};
use crate::rule::Rule;
use crate::ruleset::RuleSet;

/// A condition whose paths are numbers into the catalog's table.
#[derive(Debug)]
pub(crate) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Compare(u32, Arc<Comparison>),
}

/// An enabled rule in its place in the order of evaluation.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub rule: Arc<Rule>,
    pub test: Test,
    /// Places of the rules it comes after; `None` for a disabled one, which never matches.
    pub after: Vec<Option<u32>>,
    /// Places of all rules with transforms that it comes after, directly or through others; ascending.
    pub ancestors: Vec<u32>,
}

/// All enabled rules, ready to be evaluated.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// In the order of evaluation.
    pub rules: Vec<Compiled>,
    /// Every distinct path.
    pub paths: Vec<Path>,
    /// Whether somebody asks for `$timestamp`.
    pub uses_timestamp: bool,
    groups: Groups,
}

/// Rules by the texts that an event type must equal for them to match. A rule is in one group of one table, or in `rest`.
#[derive(Debug, Default)]
struct Groups {
    /// By the payload's `event_type`: the number of the path, and places by text.
    payload: Option<(u32, BTreeMap<String, Vec<u32>>)>,
    /// By `$event_type`.
    envelope: Option<(u32, BTreeMap<String, Vec<u32>>)>,
    rest: Vec<u32>,
}

impl Program {
    /// Compiles the enabled rules of a set. Errors: a cycle, or more transforming ancestors than a rule may have.
    pub fn compile(set: &RuleSet) -> Result<Self, Vec<Problem>> {
        let enabled: Vec<&Arc<Rule>> = set.shared_rules().filter(|rule| rule.enabled).collect();
        let plain: Vec<&Rule> = enabled.iter().map(|rule| &***rule).collect();
        let order = evaluation_order(&plain).map_err(|cycles| {
            let problem = |cycle: &Vec<usize>| {
                plain[cycle[0]].error(plain[cycle[0]].at, "after", "these rules wait for each other", Some("no cycle"))
            };
            cycles.iter().map(problem).collect::<Vec<_>>()
        })?;
        let places: BTreeMap<&str, u32> = order.iter().zip(0..).map(|(i, place)| (plain[*i].id(), place)).collect();
        let mut program = Self::default();
        let mut numbers = BTreeMap::new();
        let mut problems = Vec::new();
        for i in order {
            let rule = enabled[i].clone();
            let test = Test::compile(&rule.full_condition(), &mut numbers);
            let after: Vec<Option<u32>> = rule.after.iter().map(|(id, _)| places.get(&**id).copied()).collect();
            let ancestors = program.ancestors(&after);
            if ancestors.len() > TRANSFORMING_ANCESTORS_MAX {
                let expected = format!("at most {TRANSFORMING_ANCESTORS_MAX}");
                let message = format!("`{}` comes after {} rules with transforms", rule.id, ancestors.len());
                problems.push(rule.error(rule.at, "after", message, Some(&expected)));
                continue;
            }
            program.rules.push(Compiled { rule, test, after, ancestors });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        program.groups = Groups::compile(&program.rules, &mut numbers);
        program.paths = vec![Path::EventType; numbers.len()];
        for (path, number) in numbers {
            program.paths[number as usize] = path;
        }
        program.uses_timestamp =
            program.paths.contains(&Path::Timestamp) || program.rules.iter().any(|compiled| compiled.rule.reads_timestamp());
        Ok(program)
    }

    fn ancestors(&self, after: &[Option<u32>]) -> Vec<u32> {
        let mut found = Vec::new();
        for place in after.iter().flatten() {
            let parent = &self.rules[*place as usize];
            found.extend_from_slice(&parent.ancestors);
            if !parent.rule.transforms.is_empty() {
                found.push(*place);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The places of all rules that may match, ascending: those whose event type fits, and those that name none.
    pub fn candidates(&self, seen: &mut Resolution<'_>, out: &mut Vec<u32>) {
        out.extend_from_slice(&self.groups.rest);
        for (number, by_text) in [&self.groups.payload, &self.groups.envelope].into_iter().flatten() {
            for leaf in seen.values(*number, &self.paths).1 {
                if let Leaf::Text(text) = leaf
                    && let Some(places) = by_text.get(*text)
                {
                    out.extend_from_slice(places);
                }
            }
        }
        if out.len() > self.groups.rest.len() {
            out.sort_unstable();
            out.dedup();
        }
    }
}

impl Groups {
    fn compile(rules: &[Compiled], numbers: &mut BTreeMap<Path, u32>) -> Self {
        let mut groups = Self::default();
        for (compiled, place) in rules.iter().zip(0..) {
            // What such a rule sees may have another event type than the message.
            let fixed = compiled.ancestors.is_empty();
            let condition = compiled.rule.full_condition();
            let leading = condition.conjuncts().into_iter().filter(|_| fixed).find_map(event_types);
            let Some((path, texts)) = leading else {
                groups.rest.push(place);
                continue;
            };
            let table = if path == Path::EventType { &mut groups.envelope } else { &mut groups.payload };
            let (_, by_text) = table.get_or_insert_with(|| (number(numbers, &path), BTreeMap::new()));
            for text in texts {
                by_text.entry(text).or_default().push(place);
            }
        }
        groups
    }
}

/// The texts that an event type must be one of, when the comparison is about it.
fn event_types(comparison: &Comparison) -> Option<(Path, Vec<String>)> {
    let about = match &comparison.field {
        Path::EventType => true,
        Path::Payload(segments) => matches!(segments.as_slice(), [only] if only == "event_type"),
        _ => false,
    };
    match &comparison.predicate {
        Predicate::Among(set) if about => Some((comparison.field.clone(), set.only_texts()?.to_vec())),
        _ => None,
    }
}

fn number(numbers: &mut BTreeMap<Path, u32>, path: &Path) -> u32 {
    if let Some(number) = numbers.get(path) {
        return *number;
    }
    let next = numbers.len() as u32;
    numbers.insert(path.clone(), next);
    next
}

impl Test {
    fn compile(condition: &Condition, numbers: &mut BTreeMap<Path, u32>) -> Self {
        match condition {
            Condition::All(list) => {
                let mut tests = Vec::new();
                for condition in list {
                    match Self::compile(condition, numbers) {
                        Self::All(inner) => tests.extend(inner),
                        test => tests.push(test),
                    }
                }
                Self::All(cheapest_first(tests))
            }
            Condition::Any(list) => Self::Any(cheapest_first(list.iter().map(|condition| Self::compile(condition, numbers)).collect())),
            Condition::Not(inner) => Self::Not(Box::new(Self::compile(inner, numbers))),
            Condition::Compare(comparison) => Self::Compare(number(numbers, &comparison.field), comparison.clone()),
        }
    }

    fn cost_rank(&self) -> u8 {
        match self {
            Self::All(list) | Self::Any(list) => list.iter().map(Self::cost_rank).max().unwrap_or(0).max(2),
            Self::Not(test) => test.cost_rank(),
            Self::Compare(_, comparison) => comparison.predicate.cost_rank(),
        }
    }

    /// Whether the message fulfils it.
    pub fn holds(&self, seen: &mut Resolution<'_>, paths: &[Path]) -> bool {
        match self {
            Self::All(list) => list.iter().all(|test| test.holds(seen, paths)),
            Self::Any(list) => list.iter().any(|test| test.holds(seen, paths)),
            Self::Not(test) => !test.holds(seen, paths),
            Self::Compare(number, comparison) => {
                let (nodes, leaves) = seen.values(*number, paths);
                comparison.predicate.holds(nodes, leaves)
            }
        }
    }
}

/// Conditions have no effects, so their order is free; equal ranks stay in the author's order.
fn cheapest_first(mut tests: Vec<Test>) -> Vec<Test> {
    tests.sort_by_key(Test::cost_rank);
    tests
}
