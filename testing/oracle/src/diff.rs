//! One seed: drawn rules and messages, decided by the index and by the oracle, then rewritten and decided again.

use distric_rules::{Catalog, CheckContext, Envelope, PayloadError, Problem, RuleSet, check_rule};
use serde_json::{Value, json};

use crate::draw::Draw;
use crate::metamorphic::{reloads, rewritten_message, rewritten_rules};
use crate::odd::Odd;
use crate::oracle::{Beside, Oracle};
use crate::workload::{Mix, Workload};

/// Rules of one catalog, most.
pub const RULES_MAX: usize = 400;
/// Messages of one seed.
pub const MESSAGES: usize = 25;
/// Headers of the odd messages: two of one name.
const HEADERS: [(&str, &str); 2] = [("H", "ab"), ("h", "b")];

/// What a seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Rules drawn.
    pub rules_count: usize,
    /// Decisions compared.
    pub decisions_count: usize,
    /// Matches in the oracle's answers.
    pub matches_count: usize,
    /// Catalogs that had followed a reload in layers when they were compared.
    pub layered_count: usize,
}

fn compiled(rules: &[Value]) -> Result<Catalog, String> {
    let set = RuleSet::from_json(&json!({ "rules": rules })).map_err(|problems| format!("refused: {problems:?}"))?;
    Catalog::compile(1, &set).map_err(|problems| format!("refused: {problems:?}"))
}

/// What the catalog says about a text, and about the same document as MessagePack, which must be the same decision.
fn decided(catalog: &Catalog, beside: Beside<'_>, text: &str) -> Result<Vec<String>, String> {
    let envelope = Envelope { event_type: beside.event_type, headers: beside.headers, namespace: "n", ..Envelope::default() };
    let refused = |error: PayloadError| format!("refused: {error}: {text}");
    let decision = catalog.decide(&envelope, text.as_bytes()).map_err(refused)?;
    let document: Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
    let packed = rmp_serde::to_vec_named(&document).map_err(|error| format!("{error}: {text}"))?;
    let envelope = Envelope { content_type: Some("application/msgpack"), ..envelope };
    let other = catalog.decide(&envelope, &packed).map_err(refused)?;
    if other != decision {
        return Err(format!("as MessagePack it is {other:?}, as JSON {decision:?}: {text}"));
    }
    Ok(decision.rules.iter().map(ToString::to_string).collect())
}

/// Compares the index with the oracle on what this seed draws. Errors: the first difference, in words.
pub fn run_seed(seed: u64) -> Result<Tally, String> {
    let mut draw = Draw::new("diff", seed);
    let rules_count = 1 + draw.below(RULES_MAX);
    let (rules, messages): (Vec<Value>, Vec<Value>) = match draw.below(2 * Mix::ALL.len()) {
        at if at < Mix::ALL.len() => {
            let drawn = Workload::drawn(Mix::ALL[at], rules_count, MESSAGES, seed);
            let messages: Option<Vec<Value>> = drawn.messages.iter().map(|text| serde_json::from_str(text).ok()).collect();
            (drawn.rules, messages.ok_or("a drawn message is not JSON")?)
        }
        _ => Odd::drawn(seed, rules_count, MESSAGES),
    };
    compare(&rules, &messages, &mut draw)
}

/// Compares the index with the oracle on these rules and messages, and on rewritings of both.
pub fn compare(rules: &[Value], messages: &[Value], draw: &mut Draw) -> Result<Tally, String> {
    let oracle = Oracle::read(rules)?;
    let catalog = compiled(rules)?;
    let mut tally = Tally { rules_count: rules.len(), ..Tally::default() };
    let mut cases: Vec<(String, Beside<'_>, Vec<&str>)> = Vec::new();
    for message in messages {
        let event_type = *draw.pick(&[None, None, Some("t1"), Some("ab")]);
        let beside = Beside { event_type, headers: &HEADERS };
        let expected = oracle.matches(beside, message);
        tally.matches_count += expected.len();
        for text in [message.to_string(), rewritten_message(message, draw)] {
            cases.push((text, beside, expected.clone()));
        }
    }
    let mut check = |what: &str, catalog: &Catalog| -> Result<(), String> {
        for (text, beside, expected) in &cases {
            let found = decided(catalog, *beside, text)?;
            if found != *expected {
                let wrong: Vec<&String> = found.iter().filter(|id| !expected.contains(&id.as_str())).collect();
                let missed: Vec<&&str> = expected.iter().filter(|id| !found.iter().any(|other| other == **id)).collect();
                let order = if wrong.is_empty() && missed.is_empty() { ", in another order" } else { "" };
                return Err(format!(
                    "{what}: matched wrongly {wrong:?}, missed {missed:?}{order}; event type {:?}, message {text}",
                    beside.event_type
                ));
            }
            tally.decisions_count += 1;
        }
        Ok(())
    };
    check("as drawn", &catalog)?;
    for (what, rules) in rewritten_rules(rules, draw) {
        check(what, &compiled(&rules)?)?;
    }
    for (what, steps) in reloads(rules, draw) {
        let (mut set, mut before) = (RuleSet::default(), &[][..]);
        let mut followed: Option<Catalog> = None;
        for step in &steps {
            set = reloaded(&set, before, step)?;
            before = step;
            let compiled = match &followed {
                Some(catalog) => catalog.recompile(1, &set),
                None => Catalog::compile(1, &set),
            };
            followed = Some(compiled.map_err(|problems| format!("refused: {problems:?}"))?);
        }
        if let Some(catalog) = &followed {
            tally.layered_count += usize::from(catalog.is_layered());
            check(what, catalog)?;
        }
    }
    Ok(tally)
}

/// The set after a reload: only what changed is read, as a node does.
fn reloaded(set: &RuleSet, before: &[Value], rules: &[Value]) -> Result<RuleSet, String> {
    let refused = |problems: Vec<Problem>| format!("refused: {problems:?}");
    let changed = rules.iter().filter(|rule| !before.contains(rule));
    let put = changed.map(|rule| check_rule("reload", &rule.to_string())).collect::<Result<Vec<_>, _>>().map_err(refused)?;
    let ids: Vec<&Value> = rules.iter().map(|rule| &rule["id"]).collect();
    let removed = before.iter().map(|rule| &rule["id"]).filter(|id| !ids.contains(id)).filter_map(Value::as_str);
    let checked = set.patched(put, removed, &CheckContext::default());
    checked.catalog.ok_or(checked.problems).map_err(refused)
}
