//! Compiled rules: conditions with numbered paths, evaluated directly on what a rule sees, and the index over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::action::Start;
use crate::condition::{Comparison, Condition};
use crate::document::Problem;
use crate::hands::{Alone, Hands, each, parts};
use crate::index::Index;
use crate::layers::{CHANGED_MAX, CHANGED_SHARE, GONE, Under};
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
    pub test: Arc<Test>,
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
    /// Answers for all conditions on the message as it was sent, but for those of the rules under it.
    pub index: Index,
    /// The program whose index answers for the rules that it has in common with this one.
    pub under: Option<Under>,
    /// Places of the rules that may see another payload than the message's; ascending.
    pub viewers: Vec<u32>,
    /// By place: the rule's id, close to the others because every match is answered with it.
    pub ids: Vec<Arc<str>>,
    /// By place: what a match leads to.
    consequences: Vec<Consequence>,
    /// Places in the order of ids.
    by_id: Vec<u32>,
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
    pub fn compile(hands: &dyn Hands, set: &RuleSet) -> Result<Self, Vec<Problem>> {
        let order = Order::of(set)?;
        let rules: Vec<&Rule> = order.rules().map(|rule| &**rule).collect();
        let (tests, numbers) = Test::compile_all(hands, &rules);
        let mut program = Self::laid_out(&order, tests, numbers)?;
        let tests: Vec<&Test> = program.rules.iter().map(|compiled| &*compiled.test).collect();
        program.index = Index::build(hands, &tests, &program.paths);
        Ok(program)
    }

    /// Compiles a set of which `under` has most rules: its index goes on answering for them, and only the others are put into one; where
    /// there are no others, it is `under` itself. `None`: it has too few of them, or is too small for this to pay. Errors: as
    /// [`Self::compile`].
    pub fn compile_over(under: &Arc<Self>, set: &RuleSet) -> Result<Option<Arc<Self>>, Vec<Problem>> {
        assert!(under.under.is_none(), "there are at most two layers");
        let order = Order::of(set)?;
        let Some(shared) = Shared::between(under, &order) else { return Ok(None) };
        if shared.own_places.is_empty() && under.rules.len() == shared.origins.len() {
            return Ok(Some(under.clone()));
        }
        let mut numbers = Numbers::after(&under.paths);
        let test = |(rule, from): (&Arc<Rule>, &u32)| match under.rules.get(*from as usize) {
            Some(known) => known.test.clone(),
            None => Arc::new(Test::of(rule, &mut numbers)),
        };
        let tests = order.rules().zip(&shared.origins).map(test).collect();
        let mut program = Self::laid_out(&order, tests, numbers)?;
        // Paths of its own, so that no message is read for what only rules under it ask.
        let mut own = Numbers::default();
        let tests: Vec<Test> = shared.own_places.iter().map(|place| Test::of(&program.rules[*place as usize].rule, &mut own)).collect();
        program.index = Index::build(&Alone, &tests.iter().collect::<Vec<_>>(), &own.into_paths());
        program.under = Some(Under { program: under.clone(), places: shared.places, own_places: shared.own_places });
        Ok(Some(Arc::new(program)))
    }

    /// Everything but the index.
    fn laid_out(order: &Order<'_>, tests: Vec<Arc<Test>>, numbers: Numbers) -> Result<Self, Vec<Problem>> {
        let mut program = Self { rules: Vec::with_capacity(tests.len()), by_id: order.by_id(), ..Self::default() };
        let mut problems = Vec::new();
        for (rule, test) in order.rules().zip(tests) {
            let rule = rule.clone();
            let after: Vec<Option<u32>> = rule.after.iter().map(|(id, _)| order.place_of(id, &program.by_id)).collect();
            let mut ancestors = program.ancestors(&after);
            if ancestors.len() > TRANSFORMING_ANCESTORS_MAX {
                let expected = format!("at most {TRANSFORMING_ANCESTORS_MAX}");
                let message = format!("`{}` comes after {} rules with transforms", rule.id, ancestors.len());
                problems.push(rule.error(rule.at, "after", message, Some(&expected)));
                // So that what comes after it is not refused for the same ones.
                ancestors.clear();
            }
            program.rules.push(Compiled { rule, test, after, ancestors });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        program.paths = numbers.into_paths();
        program.uses_timestamp =
            program.paths.contains(&Path::Timestamp) || program.rules.iter().any(|compiled| compiled.rule.reads_timestamp());
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

/// The enabled rules of a set, and the order in which they are evaluated.
struct Order<'s> {
    /// In the order of ids.
    enabled: Vec<&'s Arc<Rule>>,
    /// Positions in `enabled`.
    order: Vec<usize>,
}

impl<'s> Order<'s> {
    fn of(set: &'s RuleSet) -> Result<Self, Vec<Problem>> {
        let enabled: Vec<&Arc<Rule>> = set.shared_rules().filter(|rule| rule.enabled).collect();
        let plain: Vec<&Rule> = enabled.iter().map(|rule| &***rule).collect();
        let order = evaluation_order(&plain).map_err(|cycles| {
            let problem = |cycle: &Vec<usize>| {
                plain[cycle[0]].error(plain[cycle[0]].at, "after", "these rules wait for each other", Some("no cycle"))
            };
            cycles.iter().map(problem).collect::<Vec<_>>()
        })?;
        Ok(Self { enabled, order })
    }

    /// The rules by place.
    fn rules(&self) -> impl Iterator<Item = &'s Arc<Rule>> {
        self.order.iter().map(|i| self.enabled[*i])
    }

    /// Places in the order of ids.
    fn by_id(&self) -> Vec<u32> {
        let mut places = vec![0; self.order.len()];
        (0..).zip(&self.order).for_each(|(place, i)| places[*i] = place);
        places
    }

    fn place_of(&self, id: &str, by_id: &[u32]) -> Option<u32> {
        self.enabled.binary_search_by(|rule| rule.id().cmp(id)).ok().map(|i| by_id[i])
    }
}

/// What a program has in common with the rules of another set.
struct Shared {
    /// By place of the set: the program's place of the same rule, or [`GONE`].
    origins: Vec<u32>,
    /// By place of the program: the set's place of the same rule, or [`GONE`].
    places: Vec<u32>,
    /// Places of the set's other rules; ascending.
    own_places: Vec<u32>,
}

impl Shared {
    /// `None`: too little.
    fn between(program: &Program, order: &Order<'_>) -> Option<Self> {
        let by_id = order.by_id();
        let mut shared = Self { origins: vec![GONE; by_id.len()], places: vec![GONE; program.rules.len()], own_places: Vec::new() };
        let mut known = program.by_id.iter().copied().peekable();
        let mut kept_count = 0;
        for (rule, place) in order.enabled.iter().zip(by_id) {
            while let Some(from) = known.next_if(|from| program.ids[*from as usize] <= rule.id) {
                if Arc::ptr_eq(&program.rules[from as usize].rule, rule) {
                    shared.origins[place as usize] = from;
                    shared.places[from as usize] = place;
                    kept_count += 1;
                }
            }
        }
        let own_count = shared.origins.len() - kept_count;
        let changed_count = own_count.max(program.rules.len() - kept_count);
        if changed_count > CHANGED_MAX.min(program.rules.len() / CHANGED_SHARE) {
            return None;
        }
        shared.own_places = (0..).zip(&shared.origins).filter(|(_, from)| **from == GONE).map(|(place, _)| place).collect();
        Some(shared)
    }
}

/// Rules that are compiled at once by one pair of hands.
pub(crate) const PART_RULES: usize = 2_048;

/// Numbers of paths.
#[derive(Default)]
struct Numbers {
    paths: BTreeMap<Path, u32>,
    /// Comparisons of the event type, each once.
    event_types: BTreeMap<String, Arc<Comparison>>,
}

impl Numbers {
    /// Paths that have numbers keep them.
    fn after(paths: &[Path]) -> Self {
        Self { paths: paths.iter().cloned().zip(0..).collect(), ..Self::default() }
    }

    fn number(&mut self, path: &Path) -> u32 {
        if let Some(number) = self.paths.get(path) {
            return *number;
        }
        let next = self.paths.len() as u32;
        self.paths.insert(path.clone(), next);
        next
    }

    fn event_type(&mut self, event_type: &str) -> Test {
        let number = self.number(&Path::EventType);
        if let Some(known) = self.event_types.get(event_type) {
            return Test::Compare(number, known.clone());
        }
        let comparison = Arc::new(Comparison::event_type_equals(event_type));
        self.event_types.insert(event_type.to_owned(), comparison.clone());
        Test::Compare(number, comparison)
    }

    fn into_paths(self) -> Vec<Path> {
        let mut paths = vec![Path::EventType; self.paths.len()];
        self.paths.into_iter().for_each(|(path, number)| paths[number as usize] = path);
        paths
    }
}

impl Test {
    /// Compiles the whole conditions of rules, part by part. Paths have numbers in the order in which the rules first name them.
    fn compile_all(hands: &dyn Hands, rules: &[&Rule]) -> (Vec<Arc<Self>>, Numbers) {
        let compile = |part: &[&Rule]| {
            let mut own = Numbers::default();
            let tests: Vec<Self> = part.iter().map(|rule| Self::of(rule, &mut own)).collect();
            (tests, own.into_paths())
        };
        let mut numbers = Numbers::default();
        let mut compiled: Vec<(Vec<Self>, Vec<u32>)> = Vec::new();
        for (tests, paths) in each(hands, parts(rules, PART_RULES), compile) {
            compiled.push((tests, paths.iter().map(|path| numbers.number(path)).collect()));
        }
        let finish = |(tests, numbers): (Vec<Self>, Vec<u32>)| -> Vec<Arc<Self>> {
            let renumbered = |mut test: Self| {
                test.renumber(&numbers);
                Arc::new(test)
            };
            tests.into_iter().map(renumbered).collect()
        };
        (each(hands, compiled, finish).into_iter().flatten().collect(), numbers)
    }

    fn renumber(&mut self, numbers: &[u32]) {
        match self {
            Self::All(list) | Self::Any(list) => list.iter_mut().for_each(|test| test.renumber(numbers)),
            Self::Not(test) => test.renumber(numbers),
            Self::Compare(number, _) => *number = numbers[*number as usize],
        }
    }

    /// The whole condition of a rule: the event type, then the conditions.
    fn of(rule: &Rule, numbers: &mut Numbers) -> Self {
        let Some(event_type) = &rule.event_type else { return Self::compile(&rule.condition, numbers) };
        let mut tests = vec![numbers.event_type(event_type)];
        match Self::compile(&rule.condition, numbers) {
            Self::All(inner) => tests.extend(inner),
            test => tests.push(test),
        }
        Self::All(cheapest_first(tests))
    }

    fn compile(condition: &Condition, numbers: &mut Numbers) -> Self {
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
            Condition::Compare(comparison) => Self::Compare(numbers.number(&comparison.field), comparison.clone()),
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
