//! When an instance may begin: limits on concurrency and rate by key, debounce, batches, and the share of a key in the queues.
//!
//! A workflow may say each of them once. An instance passes them in the order of [`GateRule`]'s variants, whatever the order of the text.

use distric_rules::document::{Cursor, Members, NodeValue, Problems};
use distric_rules::duration::{duration_text, read_duration_ms};
use distric_rules::expr::Template;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::compile::CompileError;
use super::read::known_members;
use super::references::{Place, References};

/// Largest limit of instances with one key, and of starts in one period.
pub const START_LIMIT_MAX: u32 = 1_000_000;
/// Most starts that one batch takes.
pub const BATCH_ITEMS_MAX: u32 = 1_000;
/// Longest wait of a debounce or batch, and longest period of a rate limit, milliseconds.
pub const HOLD_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Largest weight of a key in the queues.
pub const WEIGHT_MAX: u32 = 1_000;

/// What decides when a start with a key may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GateRule {
    /// The latest of those that come shortly after one another begins; the others are skipped.
    Debounce {
        /// How long nothing more must come, milliseconds.
        wait_ms: u64,
        /// How long the first one is held up at most, milliseconds.
        max_wait_ms: u64,
    },
    /// Several become one: it begins with the list of their inputs, the others are skipped.
    Batch {
        /// Most of them.
        max_items: u32,
        /// How long the first one waits for others, milliseconds.
        max_wait_ms: u64,
    },
    /// One after another, in the order in which they came: a rule's `ordering_key`.
    Order,
    /// So many at once.
    Concurrency {
        /// How many.
        limit: u32,
        /// What becomes of one that is too many.
        when_full: WhenFull,
    },
    /// So many in a period, a token bucket.
    Rate {
        /// How many.
        limit: u32,
        /// The period, milliseconds.
        per_ms: u64,
        /// How many of them may come at once.
        burst: u32,
        /// What becomes of one that is too many.
        when_full: WhenFull,
    },
}

/// What becomes of a start that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WhenFull {
    /// It waits.
    #[default]
    Queue,
    /// It is skipped.
    DropNewest,
    /// The oldest one is cancelled, and it takes its place.
    CancelOldest,
}

impl WhenFull {
    /// Every choice, as it is written.
    pub const WORDS: [(&str, WhenFull); 3] =
        [("queue", WhenFull::Queue), ("drop_newest", WhenFull::DropNewest), ("cancel_oldest", WhenFull::CancelOldest)];
}

impl GateRule {
    /// Its name, as it is written and shown.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Debounce { .. } => "debounce",
            Self::Batch { .. } => "batch",
            Self::Order => "ordering_key",
            Self::Concurrency { .. } => "concurrency",
            Self::Rate { .. } => "rate_limit",
        }
    }

    /// Whether whoever passed it keeps a place until its instance ends.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Order | Self::Concurrency { .. })
    }

    /// How many may be inside at once, for one that holds.
    pub const fn limit(&self) -> u32 {
        match self {
            Self::Concurrency { limit, .. } | Self::Rate { limit, .. } => *limit,
            Self::Batch { max_items, .. } => *max_items,
            Self::Order | Self::Debounce { .. } => 1,
        }
    }
}

/// One rule of a workflow with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateDefinition {
    /// The rule.
    pub rule: GateRule,
    /// A template of text; absent: all instances of the workflow are under one key.
    pub key: Option<String>,
}

/// The share that the tasks of an instance have in the queues.
#[derive(Clone, Debug, PartialEq)]
pub struct Fairness {
    /// A template of text: keys take turns.
    pub key: String,
    /// How many turns its key has, 1 to [`WEIGHT_MAX`]: a number, or a template of one.
    pub weight: Value,
}

/// When instances of a workflow may begin, and what share their tasks have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// In the order in which an instance passes them.
    pub gates: Vec<GateDefinition>,
    /// The share in the queues.
    pub fairness: Option<Fairness>,
}

/// The same with its expressions parsed.
#[derive(Clone, Debug, Default)]
pub struct CompiledAdmission {
    /// The gates with their keys.
    pub gates: Vec<(GateRule, Option<Template>)>,
    /// Key and weight.
    pub fairness: Option<(Template, Template)>,
}

/// The members of a workflow that this file reads.
pub(super) const KEYS: [&str; 6] = ["concurrency", "singleton", "rate_limit", "debounce", "batch", "fairness"];

/// Reads them. The cursors of all that holds expressions go to `expressions`.
pub(super) fn read<'a>(workflow: &Members<'a>, expressions: &mut Vec<Cursor<'a>>, problems: &mut Problems) -> Admission {
    let mut reader = Reader { gates: Vec::new(), expressions, problems };
    if let Some(cursor) = workflow.get("concurrency") {
        reader.concurrency(&cursor);
        if let Some(singleton) = workflow.get("singleton") {
            singleton.error(reader.problems, "`singleton` is a `concurrency` with the limit 1: say one of them", None);
        }
    } else if let Some(cursor) = workflow.get("singleton") {
        reader.singleton(&cursor);
    }
    if let Some(cursor) = workflow.get("rate_limit") {
        reader.rate_limit(&cursor);
    }
    if let Some(cursor) = workflow.get("debounce") {
        reader.debounce(&cursor);
        if let Some(batch) = workflow.get("batch") {
            batch.error(reader.problems, "a workflow has `debounce` or `batch`, not both", None);
        }
    } else if let Some(cursor) = workflow.get("batch") {
        reader.batch(&cursor);
    }
    let fairness = workflow.get("fairness").and_then(|cursor| reader.fairness(&cursor));
    let mut gates = reader.gates;
    gates.sort_by_key(|gate| gate.rule);
    Admission { gates, fairness }
}

struct Reader<'r, 'a> {
    gates: Vec<GateDefinition>,
    expressions: &'r mut Vec<Cursor<'a>>,
    problems: &'r mut Problems,
}

impl<'a> Reader<'_, 'a> {
    fn concurrency(&mut self, cursor: &Cursor<'a>) {
        let Some(members) = known_members(cursor, self.problems, &["key", "limit", "when_full"], &[]) else { return };
        let key = self.key(&members);
        let limit = members.required(self.problems, "limit").and_then(|limit| self.limit(&limit));
        let when_full = self.when_full(&members, &WhenFull::WORDS);
        self.push(GateRule::Concurrency { limit: limit.unwrap_or(1), when_full }, key);
    }

    fn singleton(&mut self, cursor: &Cursor<'a>) {
        const WORDS: [(&str, WhenFull); 2] = [("skip", WhenFull::DropNewest), ("cancel", WhenFull::CancelOldest)];
        if let NodeValue::Bool(is_wanted) = cursor.node.value {
            if is_wanted {
                self.push(GateRule::Concurrency { limit: 1, when_full: WhenFull::DropNewest }, None);
            }
            return;
        }
        let Some(members) = known_members(cursor, self.problems, &["key", "when_running"], &[]) else { return };
        let key = self.key(&members);
        let when_full = members.get("when_running").and_then(|word| super::read::word_of(&word, self.problems, &WORDS));
        self.push(GateRule::Concurrency { limit: 1, when_full: when_full.unwrap_or(WhenFull::DropNewest) }, key);
    }

    fn rate_limit(&mut self, cursor: &Cursor<'a>) {
        let Some(members) = known_members(cursor, self.problems, &["key", "limit", "per", "burst", "when_full"], &[]) else { return };
        let key = self.key(&members);
        let limit = members.required(self.problems, "limit").and_then(|limit| self.limit(&limit)).unwrap_or(1);
        let per_ms = members.required(self.problems, "per").and_then(|per| self.hold(&per)).unwrap_or(1);
        let burst = members.get("burst").and_then(|burst| self.limit(&burst)).unwrap_or(limit);
        let when_full = self.when_full(&members, &WhenFull::WORDS[..2]);
        self.push(GateRule::Rate { limit, per_ms, burst, when_full }, key);
    }

    fn debounce(&mut self, cursor: &Cursor<'a>) {
        let Some(members) = known_members(cursor, self.problems, &["key", "wait", "max_wait"], &[]) else { return };
        let key = self.key(&members);
        let wait_ms = members.required(self.problems, "wait").and_then(|wait| self.hold(&wait)).unwrap_or(1);
        let max_wait = members.get("max_wait");
        let max_wait_ms = max_wait.as_ref().and_then(|wait| self.hold(wait)).unwrap_or(HOLD_MS_MAX);
        if let Some(max_wait) = max_wait.filter(|_| max_wait_ms < wait_ms) {
            max_wait.error(self.problems, "`max_wait` is shorter than `wait`", None);
        }
        self.push(GateRule::Debounce { wait_ms, max_wait_ms }, key);
    }

    fn batch(&mut self, cursor: &Cursor<'a>) {
        let Some(members) = known_members(cursor, self.problems, &["key", "max_items", "max_wait"], &[]) else { return };
        let key = self.key(&members);
        let items = members.required(self.problems, "max_items");
        let max_items = items.and_then(|items| items.integer(self.problems, 1, i64::from(BATCH_ITEMS_MAX))).unwrap_or(1);
        let max_wait_ms = members.required(self.problems, "max_wait").and_then(|wait| self.hold(&wait)).unwrap_or(1);
        self.push(GateRule::Batch { max_items: max_items as u32, max_wait_ms }, key);
    }

    fn fairness(&mut self, cursor: &Cursor<'a>) -> Option<Fairness> {
        let members = known_members(cursor, self.problems, &["key", "weight"], &[])?;
        members.required(self.problems, "key")?;
        let key = self.key(&members)?;
        let weight = members.get("weight");
        if let Some(weight) = &weight {
            if weight.node.as_str().is_some_and(|text| text.contains("${")) {
                self.expressions.push(weight.clone());
            } else {
                weight.integer(self.problems, 1, i64::from(WEIGHT_MAX));
            }
        }
        Some(Fairness { key, weight: weight.map_or(json!(1), |weight| weight.node.to_json()) })
    }

    fn key(&mut self, members: &Members<'a>) -> Option<String> {
        let key = members.get("key")?;
        let text = key.string_or(self.problems, "a string such as ${input.tenant}")?;
        self.expressions.push(key.clone());
        Some(text.to_owned())
    }

    fn limit(&mut self, cursor: &Cursor<'_>) -> Option<u32> {
        cursor.integer(self.problems, 1, i64::from(START_LIMIT_MAX)).and_then(|limit| u32::try_from(limit).ok())
    }

    fn hold(&mut self, cursor: &Cursor<'_>) -> Option<u64> {
        let ms = read_duration_ms(cursor, self.problems, 1)?;
        if ms > HOLD_MS_MAX {
            cursor.error(self.problems, "the duration is too long", Some(&format!("at most {}", duration_text(HOLD_MS_MAX))));
        }
        Some(ms)
    }

    fn when_full(&mut self, members: &Members<'_>, words: &[(&str, WhenFull)]) -> WhenFull {
        members.get("when_full").and_then(|word| super::read::word_of(&word, self.problems, words)).unwrap_or_default()
    }

    fn push(&mut self, rule: GateRule, key: Option<String>) {
        self.gates.push(GateDefinition { rule, key });
    }
}

/// Checks the expressions: no task has run when they are evaluated.
pub(super) fn check(expressions: &[Cursor<'_>], references: &References<'_>, problems: &mut Problems) {
    expressions.iter().for_each(|cursor| references.template(cursor, Place::BeforeStart, problems));
}

impl Admission {
    /// Parses its expressions. Errors: the first that cannot be.
    pub(super) fn compile(&self) -> Result<CompiledAdmission, CompileError> {
        let compile = |member: &str, value: &Value| {
            Template::compile(value).map_err(|error| CompileError { task: "-".into(), member: member.to_owned(), message: error.message })
        };
        let text = |member: &str, text: &String| compile(member, &Value::from(text.as_str()));
        let gates = self.gates.iter().map(|gate| {
            let key = gate.key.as_ref().map(|key| text(gate.rule.name(), key)).transpose()?;
            Ok((gate.rule, key))
        });
        let fairness = self
            .fairness
            .as_ref()
            .map(|fairness| Ok::<_, CompileError>((text("fairness.key", &fairness.key)?, compile("fairness.weight", &fairness.weight)?)));
        Ok(CompiledAdmission { gates: gates.collect::<Result<_, _>>()?, fairness: fairness.transpose()? })
    }

    /// Adds its members to those of the definition.
    pub(super) fn to_json(&self, definition: &mut Map<String, Value>) {
        for GateDefinition { rule, key } in &self.gates {
            let mut members = match *rule {
                GateRule::Debounce { wait_ms, max_wait_ms } => {
                    json!({ "wait": duration_text(wait_ms), "max_wait": duration_text(max_wait_ms) })
                }
                GateRule::Batch { max_items, max_wait_ms } => json!({ "max_items": max_items, "max_wait": duration_text(max_wait_ms) }),
                GateRule::Concurrency { limit, when_full } => json!({ "limit": limit, "when_full": word(when_full) }),
                GateRule::Rate { limit, per_ms, burst, when_full } => {
                    json!({ "limit": limit, "per": duration_text(per_ms), "burst": burst, "when_full": word(when_full) })
                }
                // A rule's action says it, no workflow does.
                GateRule::Order => continue,
            };
            if let Some(key) = key {
                members["key"] = json!(key);
            }
            definition.insert(rule.name().into(), members);
        }
        if let Some(fairness) = &self.fairness {
            definition.insert("fairness".into(), json!({ "key": fairness.key, "weight": fairness.weight }));
        }
    }
}

fn word(wanted: WhenFull) -> &'static str {
    WhenFull::WORDS.iter().find(|(_, value)| *value == wanted).map_or("", |(word, _)| word)
}
