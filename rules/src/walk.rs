//! The walk over the rules for one message: which match, what they derive, what they start.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::action::{Start, Text};
use crate::compile::{Compiled, Program};
use crate::decision::{Action, Envelope, Note};
use crate::expr::{Binding, Budget, Scope};
use crate::message::{Message, Resolution};
use crate::path::Path;
use crate::predicate::Seen;
use crate::rule::{Requires, Rule};
use crate::ruleset::Table;
use crate::transform::{Effect, Transform, WriteBudget};

/// What the walk reads beside the message.
pub(crate) struct Rules<'c> {
    pub program: &'c Program,
    pub lookups: &'c BTreeMap<String, Table>,
    pub fail_fast: bool,
}

/// What the walk found.
#[derive(Default)]
pub(crate) struct Walk<'c> {
    /// Places of the matching rules, ascending, which is the order of evaluation.
    pub matched: Vec<u32>,
    /// The effects of each matching rule that has transforms; ascending by place.
    pub effects: Vec<(u32, Vec<Effect<'c>>)>,
    pub actions: Vec<Action>,
    pub notes: Vec<Note>,
    /// The rule that ended the walk.
    pub cut_by: Option<u32>,
    writes: WriteBudget,
    /// The last payload that was derived for a chained rule, with the matched rules whose effects are in it.
    view: Option<(Vec<u32>, Value)>,
}

impl<'c> Walk<'c> {
    /// Evaluates every rule directly, in order: what the index must agree with, and how explanations come about.
    pub fn run(rules: &Rules<'c>, message: Message<'_>) -> Self {
        let mut walk = Self::default();
        let mut seen = Resolution::new(message, rules.program.paths.len());
        for place in 0..rules.program.rules.len() as u32 {
            walk.step(rules, place, message, |compiled| compiled.test.holds(&mut seen, &rules.program.paths));
            if walk.cut_by.is_some() {
                break;
            }
        }
        walk
    }

    /// Goes through the rules whose conditions hold for the message as it was sent, `found` by the index, and those that may see
    /// another payload. The payload is not looked at unless [`Program::consequence`] says that it is read.
    pub fn run_found(rules: &Rules<'c>, found: &[u32], message: Message<'_>) -> Self {
        let mut walk = Self { matched: Vec::with_capacity(found.len()), ..Self::default() };
        let mut viewers = rules.program.viewers.as_slice();
        let mut rest = found;
        while let Some(place) = rest.first().into_iter().chain(viewers.first()).min().copied() {
            let holds = rest.first() == Some(&place);
            rest = &rest[usize::from(holds)..];
            viewers = &viewers[usize::from(viewers.first() == Some(&place))..];
            walk.step(rules, place, message, |_| holds);
            if walk.cut_by.is_some() {
                break;
            }
        }
        walk
    }

    /// Tries one rule. `holds` answers for the message as it was sent.
    fn step(&mut self, rules: &Rules<'c>, place: u32, message: Message<'_>, holds: impl FnOnce(&Compiled) -> bool) {
        let compiled = &rules.program.rules[place as usize];
        if !self.is_due(compiled) {
            return;
        }
        let derived = self.derive_view(compiled, message.payload);
        let holds = match &derived {
            None => holds(compiled),
            Some(payload) => {
                let view = Message { payload, ..message };
                compiled.test.holds(&mut Resolution::new(view, rules.program.paths.len()), &rules.program.paths)
            }
        };
        if holds {
            self.on_match(rules, place, Message { payload: derived.as_ref().unwrap_or(message.payload), ..message });
        }
        // Kept for the next rule of the same chain.
        if let Some(payload) = derived {
            self.view = Some((self.matched_ancestors(compiled), payload));
        }
    }

    /// Whether enough of the rules that it comes after have matched.
    pub fn is_due(&self, compiled: &Compiled) -> bool {
        let matched = |place: &Option<u32>| place.is_some_and(|place| self.has_matched(place));
        match compiled.rule.requires {
            _ if compiled.after.is_empty() => true,
            Requires::All => compiled.after.iter().all(matched),
            Requires::Any => compiled.after.iter().any(matched),
        }
    }

    /// Whether the rule at this place matched.
    pub fn has_matched(&self, place: u32) -> bool {
        self.matched.binary_search(&place).is_ok()
    }

    fn matched_ancestors(&self, compiled: &Compiled) -> Vec<u32> {
        compiled.ancestors.iter().copied().filter(|place| self.has_matched(*place)).collect()
    }

    /// The payload that a rule sees, when rules that it comes after have changed it.
    pub fn derive_view(&mut self, compiled: &Compiled, payload: &Value) -> Option<Value> {
        if compiled.ancestors.is_empty() {
            return None;
        }
        let ancestors = self.matched_ancestors(compiled);
        if ancestors.is_empty() {
            return None;
        }
        if let Some((_, view)) = self.view.take_if(|(of, _)| *of == ancestors) {
            return Some(view);
        }
        let mut view = payload.clone();
        let mut complete = true;
        for (place, effects) in &self.effects {
            if ancestors.binary_search(place).is_ok() {
                complete &= effects.iter().all(|effect| effect.apply(&mut view, &mut self.writes));
            }
        }
        if !complete {
            self.note_spent(&compiled.rule);
        }
        Some(view)
    }

    /// The original payload with the effects of all matching rules; `None` when there are no effects.
    pub fn derive_all(&mut self, payload: &Value) -> Option<Value> {
        if self.effects.is_empty() {
            return None;
        }
        let mut derived = payload.clone();
        // A budget of its own: what the walk has spent on views must not make the result incomplete.
        let mut writes = WriteBudget::default();
        self.effects.iter().flat_map(|(_, effects)| effects).for_each(|effect| {
            effect.apply(&mut derived, &mut writes);
        });
        Some(derived)
    }

    fn on_match(&mut self, rules: &Rules<'c>, place: u32, message: Message<'_>) {
        let rule = &rules.program.rules[place as usize].rule;
        self.matched.push(place);
        let mut budget = Budget::default();
        let changed = if rule.transforms.is_empty() { None } else { Some(self.transform(rules, place, message, &mut budget)) };
        if !rule.starts.is_empty() {
            let message = Message { payload: changed.as_ref().unwrap_or(message.payload), ..message };
            let scope = if rule.starts.iter().all(Start::is_constant) { Scope::new() } else { scope_of(&message) };
            for (i, start) in rule.starts.iter().enumerate() {
                let mut writer = Render { rule, scope: &scope, budget: &mut budget, notes: &mut self.notes };
                self.actions.push(writer.start(i, start));
            }
        }
        if rule.stop || (rules.fail_fast && !rule.starts.is_empty()) {
            self.cut_by = Some(place);
        }
    }

    /// Works out the effects of a rule, each on what the ones before it have left. Returns the payload after them.
    fn transform(&mut self, rules: &Rules<'c>, place: u32, message: Message<'_>, budget: &mut Budget) -> Value {
        let rule: &'c Rule = &rules.program.rules[place as usize].rule;
        let mut payload = message.payload.clone();
        let mut effects = Vec::new();
        for (i, transform) in rule.transforms.iter().enumerate() {
            let view = Message { payload: &payload, ..message };
            let found = match effects_of(transform, &view, rules.lookups, budget) {
                Ok(found) => found,
                Err(message) => {
                    self.notes.push(Note { rule: rule.id.clone(), path: format!("transform[{i}]"), message });
                    continue;
                }
            };
            if !found.iter().all(|effect| effect.apply(&mut payload, &mut self.writes)) {
                self.note_spent(rule);
            }
            effects.extend(found);
        }
        self.effects.push((place, effects));
        payload
    }

    fn note_spent(&mut self, rule: &Rule) {
        let message = "the transforms of this message write more than DERIVED_VALUES_MAX values".to_string();
        self.notes.push(Note { rule: rule.id.clone(), path: "transform".into(), message });
    }
}

/// What one transform does to this message. Errors: the expression has no value.
fn effects_of<'c>(
    transform: &'c Transform,
    message: &Message<'_>,
    lookups: &BTreeMap<String, Table>,
    budget: &mut Budget,
) -> Result<Vec<Effect<'c>>, String> {
    Ok(match transform {
        Transform::Set { to, template, .. } => {
            let scope = if template.is_constant() { Scope::new() } else { scope_of(message) };
            vec![Effect::Set(to, template.render(&scope, budget).map_err(|error| error.to_string())?)]
        }
        Transform::Compute { to, expr } => {
            vec![Effect::Set(to, expr.evaluate(&scope_of(message), budget).map_err(|error| error.to_string())?)]
        }
        Transform::Copy { from, to } => value_at(message, from).map(|value| Effect::Set(to, value)).into_iter().collect(),
        Transform::Rename { from, to } => match value_at(message, &Path::Payload(from.clone())) {
            Some(value) => vec![Effect::Remove(from), Effect::Set(to, value)],
            None => Vec::new(),
        },
        Transform::Remove { path } => vec![Effect::Remove(path)],
        Transform::Lookup { key, table, to, default } => {
            let mut nodes = Vec::new();
            message.collect(key, &mut nodes);
            let rows = lookups.get(table);
            let found = nodes.iter().flat_map(|node| keys_of(*node)).find_map(|key| rows?.get(&key)).or(default.as_ref());
            found.map(|value| Effect::Set(to, value.clone())).into_iter().collect()
        }
    })
}

/// The value at a path; the list of them when there are several.
fn value_at(message: &Message<'_>, path: &Path) -> Option<Value> {
    let mut nodes = Vec::new();
    message.collect(path, &mut nodes);
    match nodes.as_slice() {
        [] => None,
        [only] => Some(only.to_json()),
        several => Some(Value::Array(several.iter().map(|node| node.to_json()).collect())),
    }
}

/// The leaves of a value as keys of a table: strings as they are, everything else as JSON.
fn keys_of(node: Seen<'_>) -> Vec<String> {
    fn collect(value: &Value, keys: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, keys)),
            Value::Object(_) => {}
            Value::String(text) => keys.push(text.clone()),
            other => keys.push(other.to_string()),
        }
    }
    match node {
        Seen::Text(text) => vec![text.into()],
        Seen::Value(value) => {
            let mut keys = Vec::new();
            collect(value, &mut keys);
            keys
        }
    }
}

/// The names that expressions can read: the members of the payload; `payload` for the whole of it, `event_type` from the
/// envelope, unless it has such members itself; `$namespace`, `$event_type`, `$source`, `$timestamp`, `$headers`.
fn scope_of<'a>(message: &Message<'a>) -> Scope<'a> {
    let envelope: &'a Envelope<'a> = message.envelope;
    let payload = message.payload;
    let has = |name: &str| payload.as_object().is_some_and(|members| members.contains_key(name));
    let text = |text: Option<&'a str>| text.map_or(Binding::Null, Binding::Text);
    let mut scope = Scope::over(payload);
    if !has("payload") {
        scope.bind("payload", Binding::Value(payload));
    }
    if let Some(event_type) = envelope.event_type.filter(|_| !has("event_type")) {
        scope.bind("event_type", Binding::Text(event_type));
    }
    let event_type = match envelope.event_type {
        Some(event_type) => Binding::Text(event_type),
        None => payload.get("event_type").map_or(Binding::Null, Binding::Value),
    };
    scope.bind("$event_type", event_type);
    scope.bind("$namespace", Binding::Text(envelope.namespace));
    scope.bind("$source", text(envelope.source));
    scope.bind("$timestamp", text(message.timestamp));
    scope.bind("$headers", Binding::Record(envelope.headers.iter().map(|(key, value)| (*key, Binding::Text(value))).collect()));
    scope
}

/// Fills in the templates of one rule's actions.
struct Render<'r> {
    rule: &'r Rule,
    scope: &'r Scope<'r>,
    budget: &'r mut Budget,
    notes: &'r mut Vec<Note>,
}

impl Render<'_> {
    fn start(&mut self, i: usize, start: &Start) -> Action {
        let part = |part: &str| format!("actions[{i}].{part}");
        let params: Map<String, Value> = start
            .params
            .iter()
            .map(|(key, text)| (key.clone(), self.value(text, || part(&format!("params.{key}"))).unwrap_or(Value::Null)))
            .collect();
        Action {
            rule: self.rule.id.clone(),
            workflow: start.workflow.clone(),
            version: start.version,
            params: Value::Object(params),
            timeout_ms: start.timeout_ms,
            retry: start.retry,
            ordering_key: start.ordering_key.as_ref().and_then(|text| self.key(text, || part("ordering_key"))),
            concurrency: start.concurrency.as_ref().and_then(|(text, limit)| Some((self.key(text, || part("concurrency.key"))?, *limit))),
            delay_ms: start.delay_ms,
        }
    }

    fn value(&mut self, text: &Text, path: impl Fn() -> String) -> Option<Value> {
        match text.template.render(self.scope, self.budget) {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(path(), error.to_string());
                None
            }
        }
    }

    /// A key as text; `null` gives none.
    fn key(&mut self, text: &Text, path: impl Fn() -> String) -> Option<String> {
        match self.value(text, &path)? {
            Value::Null => {
                self.note(path(), "the key is null".into());
                None
            }
            Value::String(key) => Some(key),
            other => Some(other.to_string()),
        }
    }

    fn note(&mut self, path: String, message: String) {
        self.notes.push(Note { rule: self.rule.id.clone(), path, message });
    }
}
