//! Compiled rules: conditions with numbered paths, evaluated directly on what a rule sees, and the index over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::action::Start;
use crate::condition::{Comparison, Condition};
use crate::document::Problem;
use crate::index::Index;
use crate::lint::TRANSFORMING_ANCESTORS_MAX;
use crate::message::Resolution;
use crate::order::evaluation_order;
use crate::path::Path;
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
    /// Answers for all conditions on the message as it was sent.
    pub index: Index,
    /// Places of the rules that may see another payload than the message's; ascending.
    pub viewers: Vec<u32>,
    /// By place: the rule's id, close to the others because every match is answered with it.
    pub ids: Vec<Arc<str>>,
    /// By place: what a match leads to.
    consequences: Vec<Consequence>,
}

/// What a match of a rule leads to; each includes the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consequence {
    /// Nothing but its id in the decision.
    #[default]
    None,
    /// It starts something, stops, or depends on other rules.
    Walk,
    /// It reads the payload, to transform it or to fill in templates.
    Payload,
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
        program.paths = vec![Path::EventType; numbers.len()];
        for (path, number) in numbers {
            program.paths[number as usize] = path;
        }
        program.uses_timestamp =
            program.paths.contains(&Path::Timestamp) || program.rules.iter().any(|compiled| compiled.rule.reads_timestamp());
        program.index = Index::build(&program.rules, &program.paths);
        program.viewers =
            program.rules.iter().zip(0..).filter(|(compiled, _)| !compiled.ancestors.is_empty()).map(|(_, place)| place).collect();
        program.ids = program.rules.iter().map(|compiled| compiled.rule.id.clone()).collect();
        program.consequences = program.rules.iter().map(|compiled| Consequence::of(&compiled.rule)).collect();
        Ok(program)
    }

    /// What these rules lead to, if all of them match. Where none reads the payload, no rule sees a changed one either.
    pub fn consequence(&self, places: &[u32]) -> Consequence {
        places.iter().map(|place| self.consequences[*place as usize]).max().unwrap_or_default()
    }

    /// What a match is taken to cost beyond finding it, nanoseconds, for shares: a rule that reads the payload has it parsed in full, and
    /// every transform works on a copy.
    pub fn match_ns(&self, place: u32) -> u64 {
        match self.consequences[place as usize] {
            Consequence::None => 5,
            Consequence::Walk => 200,
            Consequence::Payload => 2_000 + 500 * self.rules[place as usize].rule.transforms.len() as u64,
        }
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

impl Consequence {
    fn of(rule: &Rule) -> Self {
        if !rule.transforms.is_empty() || !rule.starts.iter().all(Start::is_constant) {
            Self::Payload
        } else if rule.stop || !rule.after.is_empty() || !rule.starts.is_empty() {
            Self::Walk
        } else {
            Self::None
        }
    }
}

/// Conditions have no effects, so their order is free; equal ranks stay in the author's order.
fn cheapest_first(mut tests: Vec<Test>) -> Vec<Test> {
    tests.sort_by_key(Test::cost_rank);
    tests
}
