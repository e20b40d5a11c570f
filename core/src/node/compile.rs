//! Checking a change of the catalog before it is proposed, and compiling what was committed.
//!
//! In: a request and the catalog it is made for.  Out: a command for the meta group, or every problem with its place.
//! May touch: `rules`, `exec` (definitions), `model`.  Never: clocks, files, sockets.
//! Lives on: the compiler thread, off the way of messages.
//! Invariant: what passed [`check_change`] compiles; a catalog that does not compile never replaces one that does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_exec::definition::{KnownTypes, check_calls, check_workflows, pins_of, place_of_call};
use distric_model::Timestamp;
use distric_rules::document::Position;
use distric_rules::{CheckContext, Checked, Hands, Severity};
use serde_json::{Value, json};

use super::catalog_view::{CatalogView, NamespaceView, TrialView, WorkflowView, latest_of};
use super::letters::{CatalogChangeRequest, CheckVerdict, Problem, RequestedChange, SourceText};
use super::meta::{ApplyCatalog, CatalogSource, MetaCommand, NamespaceSource, RulesChange, StartTrial, TrialName, WorkflowsChange};
use super::rule_sets::RuleSets;
use super::shard::named;

/// Most problems reported for one change; the rest is counted.
pub const PROBLEMS_REPORTED_MAX: usize = 100;

/// Checks a change against the catalog it is made for. `base` is that catalog, `sets` what was read of it before.
pub fn check_change(request: &CatalogChangeRequest, base: &CatalogSource, sets: &mut RuleSets) -> CheckVerdict {
    let empty = NamespaceSource::default();
    let current = base.namespaces.get(&request.namespace).unwrap_or(&empty);
    let mut problems = Vec::new();
    let changes = changes_of(request, base, current, sets, &mut problems);
    if let Some((_, workflows)) = &changes {
        check_calls_after(current, workflows, &request.change, &mut problems);
    }
    let is_error = |problem: &&distric_rules::Problem| problem.severity == Severity::Error;
    if let Some(first) = problems.iter().find(is_error) {
        let first = Problem {
            message: match &first.expected {
                Some(expected) => format!("{}: {} (expected {expected})", first.file, first.message),
                None => format!("{}: {}", first.file, first.message),
            },
            path: first.path.clone(),
            line: first.line,
            column: first.column,
        };
        return CheckVerdict::Bad { first, problems: problems_json(&problems) };
    }
    let Some((rules, workflows)) = changes else {
        let first = Problem { message: "nothing to apply".to_owned(), ..Problem::default() };
        return CheckVerdict::Bad { first, problems: Value::Array(Vec::new()) };
    };
    if let (RequestedChange::StartTrial { mode, share, .. }, RulesChange::Replace { options, rules }) = (&request.change, &rules) {
        let command = MetaCommand::StartTrial(Box::new(StartTrial {
            namespace: request.namespace.clone(),
            mode: *mode,
            share: *share,
            options: options.clone(),
            rules: rules.clone(),
            expected_version: base.version,
            author: request.author.clone(),
            reason: request.reason.clone().or_else(|| reason_of(&request.change)),
        }));
        return CheckVerdict::Good { command, warnings: problems_json(&problems) };
    }
    let command = MetaCommand::ApplyCatalog(Box::new(ApplyCatalog {
        namespace: request.namespace.clone(),
        rules,
        workflows,
        // The change was checked against this very catalog: a rule may name a workflow that another change removes.
        expected_version: Some(base.version),
        author: request.author.clone(),
        reason: request.reason.clone().or_else(|| reason_of(&request.change)),
    }));
    CheckVerdict::Good { command, warnings: problems_json(&problems) }
}

/// What the change would do, without doing it.
pub fn plan(command: &MetaCommand, base: &CatalogSource) -> Value {
    let mut candidate = base.clone();
    let applied = match command {
        MetaCommand::ApplyCatalog(change) => {
            let mut change = (**change).clone();
            // Whether it may be promoted was looked at before.
            let _ = base.put_promoted(&mut change);
            candidate.apply(Timestamp::default(), change).0
        }
        MetaCommand::StartTrial(start) => candidate.start_trial(Timestamp::default(), (**start).clone()).0,
        _ => return Value::Null,
    };
    json!({
        "dry_run": true, "catalog_version": base.version, "would_be": applied.version,
        "rules_changed_count": applied.rules_changed.len(), "rules_removed_count": applied.rules_removed.len(),
        "rules_changed": named(&applied.rules_changed), "rules_removed": named(&applied.rules_removed),
        "workflows_changed": applied.workflows_changed, "workflows_removed": applied.workflows_removed,
    })
}

/// Compiles a committed catalog; what did not change since the last one is shared with it.
///
/// Errors: in words, when this version cannot read what a newer one applied.
pub fn compile(source: &CatalogSource, sets: &mut RuleSets) -> Result<CatalogView, String> {
    let (version, revision) = (source.version, source.revision);
    let mut view = CatalogView { version, namespaces: BTreeMap::new(), trial: None, revision };
    sets.retain(&source.namespaces);
    for (namespace, source_namespace) in &source.namespaces {
        let rules = sets.compiled(namespace, source_namespace, source.version).map_err(|problems| describe(&problems))?;
        let mut workflows: BTreeMap<Arc<str>, WorkflowView> = source_namespace
            .workflows
            .iter()
            .map(|(id, record)| {
                let bodies = record.versions.iter().map(|(number, version)| (*number, version.body.clone())).collect();
                (id.clone(), WorkflowView { latest: record.latest(), retired: record.retired, bodies, pins: Vec::new() })
            })
            .collect();
        let pinned = workflows.iter().map(|(id, view)| (id.clone(), pins_of(&view.bodies[&view.latest], |id| latest_of(&workflows, id))));
        for (id, pins) in pinned.filter(|(_, pins)| !pins.is_empty()).collect::<Vec<_>>() {
            if let Some(view) = workflows.get_mut(&id) {
                view.pins = pins;
            }
        }
        view.namespaces.insert(namespace.clone(), NamespaceView { rules, workflows });
    }
    match &source.trial {
        None => sets.end_trial(),
        Some(trial) => {
            let rules = sets.trial(&trial.source(None), trial.version).map_err(|problems| describe(&problems))?;
            view.trial = Some(TrialView {
                version: trial.version,
                namespace: trial.namespace.clone(),
                mode: trial.mode,
                share: trial.share,
                base_version: trial.base_version,
                is_outdated: trial.is_outdated,
                started_at_us: trial.started_at_us,
                author: trial.author.clone(),
                reason: trial.reason.clone(),
                rules,
            });
        }
    }
    Ok(view)
}

type Changes = (RulesChange, WorkflowsChange);

/// Adds a problem for every call between workflows that would not hold after a change of them.
fn check_calls_after(
    current: &NamespaceSource,
    change: &WorkflowsChange,
    request: &RequestedChange,
    problems: &mut Vec<distric_rules::Problem>,
) {
    let in_service = current.workflows.iter().filter(|(_, record)| !record.retired);
    let mut bodies: BTreeMap<Arc<str>, Arc<str>> =
        in_service.map(|(id, record)| (id.clone(), record.versions[&record.latest()].body.clone())).collect();
    match change {
        WorkflowsChange::Keep => return,
        WorkflowsChange::Replace(new) => bodies = new.iter().cloned().collect(),
        WorkflowsChange::Put(new) => bodies.extend(new.iter().cloned()),
        WorkflowsChange::Remove(id) => drop(bodies.remove(id)),
    }
    let source = match request {
        RequestedChange::Apply { workflows: Some(source), .. } => Some(source),
        RequestedChange::PutWorkflow { body, .. } => Some(body),
        _ => None,
    };
    for problem in check_calls(bodies.iter().map(|(id, body)| (id, &**body))) {
        // Circles within the text were found when it was read.
        if problems.iter().any(|known| known.message == problem.message) {
            continue;
        }
        let written = source.and_then(|source| Some((source, place_of_call(&source.text, &problem.workflow, &problem.path)?)));
        let (file, at) = written.map_or(("the catalog", Position::default()), |(source, at)| (&*source.name, at));
        let path = format!("workflows.{}.{}", problem.workflow, problem.path);
        problems.push(distric_rules::Problem::error(file, at, &path, problem.message, None));
    }
}

/// What the history says of a change that speaks for itself.
fn reason_of(change: &RequestedChange) -> Option<Arc<str>> {
    match change {
        RequestedChange::Rollback { version } => Some(Arc::from(format!("rollback to version {version}"))),
        RequestedChange::SwitchRule { id, enabled } => Some(Arc::from(format!("{} {id}", if *enabled { "enable" } else { "disable" }))),
        RequestedChange::StartTrial { mode, share, .. } => Some(Arc::from(format!("{mode} for {} %", f64::from(*share) / 100.0))),
        RequestedChange::PromoteTrial { .. } => Some(Arc::from("promoted candidate")),
        _ => None,
    }
}

fn changes_of(
    request: &CatalogChangeRequest,
    base: &CatalogSource,
    current: &NamespaceSource,
    sets: &mut RuleSets,
    problems: &mut Vec<distric_rules::Problem>,
) -> Option<Changes> {
    let in_service: BTreeSet<String> =
        current.workflows.iter().filter(|(_, record)| !record.retired).map(|(id, _)| id.to_string()).collect();
    // Warnings are for whoever rehearses; nobody hears of them otherwise.
    let errors_only = !request.dry_run;
    match &request.change {
        RequestedChange::Apply { rules, workflows } => {
            let workflows_change = match workflows {
                Some(source) => WorkflowsChange::Replace(definitions_of(source, problems)),
                None => WorkflowsChange::Keep,
            };
            let known = match &workflows_change {
                WorkflowsChange::Replace(new) => new.iter().map(|(id, _)| id.to_string()).collect(),
                _ => in_service,
            };
            let context = CheckContext { known_workflows: Some(&known), errors_only };
            let rules_change = match rules {
                Some(source) => {
                    whole_set(sets.hands(), distric_rules::check_with(sets.hands(), &source.name, &source.text, &context), problems)?
                }
                None => {
                    let set = sets.set(&request.namespace, current).map_err(|found| problems.extend(found)).ok()?;
                    // The rules that stay must still hold when the workflows change.
                    problems.extend(set.patched(Vec::new(), [], &context).problems);
                    RulesChange::Keep
                }
            };
            (rules.is_some() || workflows.is_some()).then_some((rules_change, workflows_change))
        }
        RequestedChange::PutRule { id, body } => {
            let rule = match distric_rules::check_rule(&body.name, &body.text) {
                Ok(rule) => rule,
                Err(found) => {
                    problems.extend(found);
                    return None;
                }
            };
            if let Some(id) = id.as_deref().filter(|id| *id != rule.id()) {
                problems.push(at_start(
                    &body.name,
                    "id",
                    format!("the rule's id is `{}`", rule.id()),
                    Some(format!("`{id}`, as in the path")),
                ));
                return None;
            }
            let json = rule.to_json();
            let (id, body) = (Arc::from(rule.id()), Arc::from(json.to_string()));
            let context = CheckContext { known_workflows: Some(&in_service), errors_only };
            let set = sets.set(&request.namespace, current).map_err(|found| problems.extend(found)).ok()?;
            let checked = if request.dry_run { set.with_rule(rule, &context) } else { set.patched(vec![rule], [], &context) };
            problems.extend(checked.problems);
            Some((RulesChange::Put { id, body }, WorkflowsChange::Keep))
        }
        RequestedChange::DeleteRule { id } => {
            let set = sets.set(&request.namespace, current).map_err(|found| problems.extend(found)).ok()?;
            // Absent rules are answered `not_found` before this; here only what depends on the rule matters.
            problems.extend(set.patched(Vec::new(), [id.as_str()], &CheckContext::default()).problems);
            Some((RulesChange::Remove { id: Arc::from(id.as_str()) }, WorkflowsChange::Keep))
        }
        RequestedChange::SwitchRule { id, enabled } => {
            let mut json: Value = serde_json::from_str(&current.rules.get(id.as_str())?.body).ok()?;
            if *enabled {
                json.as_object_mut()?.remove("enabled");
            } else {
                json["enabled"] = Value::Bool(false);
            }
            let rule = distric_rules::check_rule("rule", &json.to_string()).map_err(|found| problems.extend(found)).ok()?;
            let body = Arc::from(rule.to_json().to_string());
            let context = CheckContext { known_workflows: Some(&in_service), errors_only };
            let set = sets.set(&request.namespace, current).map_err(|found| problems.extend(found)).ok()?;
            problems.extend(set.patched(vec![rule], [], &context).problems);
            Some((RulesChange::Put { id: Arc::from(id.as_str()), body }, WorkflowsChange::Keep))
        }
        RequestedChange::Rollback { version } => {
            // Versions that are not kept are answered `not_found` before this.
            let then = base.namespace_at(&request.namespace, *version)?;
            let workflows: Vec<(Arc<str>, Arc<str>)> = then
                .workflows
                .iter()
                .filter(|(_, record)| !record.retired)
                .map(|(id, record)| (id.clone(), record.versions[&record.latest()].body.clone()))
                .collect();
            let known: BTreeSet<String> = workflows.iter().map(|(id, _)| id.to_string()).collect();
            let context = CheckContext { known_workflows: Some(&known), errors_only };
            let name = format!("catalog version {version}");
            let rules =
                whole_set(sets.hands(), distric_rules::check_with(sets.hands(), &name, &then.rules_document(), &context), problems)?;
            Some((rules, WorkflowsChange::Replace(workflows)))
        }
        RequestedChange::StartTrial { rules, .. } => {
            let context = CheckContext { known_workflows: Some(&in_service), errors_only };
            let rules = whole_set(sets.hands(), distric_rules::check_with(sets.hands(), &rules.name, &rules.text, &context), problems)?;
            Some((rules, WorkflowsChange::Keep))
        }
        RequestedChange::PromoteTrial { version } => {
            // Without one the answer is `not_found`, before this.
            let trial = base.trial_named(&TrialName { namespace: request.namespace.clone(), version: *version }).ok()?;
            let context = CheckContext { known_workflows: Some(&in_service), errors_only };
            let document = trial.source(Some(current)).rules_document();
            // A workflow that it starts may have been retired meanwhile.
            let name = format!("candidate version {}", trial.version);
            whole_set(sets.hands(), distric_rules::check_with(sets.hands(), &name, &document, &context), problems)?;
            Some((RulesChange::Promote { version: trial.version }, WorkflowsChange::Keep))
        }
        // Nothing is to be checked: they are proposed without this.
        RequestedChange::SetTrial { .. } | RequestedChange::EndTrial { .. } => None,
        RequestedChange::PutWorkflow { id, body } => {
            let definitions = definitions_of(body, problems);
            if let Some(id) = id.as_deref()
                && definitions.iter().any(|(found, _)| &**found != id)
            {
                problems.push(at_start(
                    &body.name,
                    "workflow.id",
                    "the workflow's id is another one".to_owned(),
                    Some(format!("`{id}`, as in the path")),
                ));
            }
            Some((RulesChange::Keep, WorkflowsChange::Put(definitions)))
        }
        RequestedChange::DeleteWorkflow { id } => {
            let mut known = in_service;
            known.remove(id);
            let set = sets.set(&request.namespace, current).map_err(|found| problems.extend(found)).ok()?;
            problems.extend(set.patched(Vec::new(), [], &CheckContext { known_workflows: Some(&known), errors_only }).problems);
            Some((RulesChange::Keep, WorkflowsChange::Remove(Arc::from(id.as_str()))))
        }
    }
}

fn definitions_of(source: &SourceText, problems: &mut Vec<distric_rules::Problem>) -> Vec<(Arc<str>, Arc<str>)> {
    let checked = check_workflows(&source.name, &source.text, &KnownTypes::any());
    problems.extend(checked.problems);
    checked
        .definitions
        .iter()
        .map(|definition| {
            let mut body = definition.to_json();
            // The catalog numbers the versions; a number in the body would make equal definitions differ.
            if let Some(members) = body.as_object_mut() {
                members.remove("version");
            }
            (Arc::from(&*definition.id), Arc::from(body.to_string()))
        })
        .collect()
}

fn whole_set(hands: &dyn Hands, checked: Checked, problems: &mut Vec<distric_rules::Problem>) -> Option<RulesChange> {
    problems.extend(checked.problems);
    let (options, rules) = checked.catalog?.to_parts(hands);
    Some(RulesChange::Replace { options: Arc::from(options), rules: rules.into_iter().map(|(id, text)| (id, Arc::from(text))).collect() })
}

fn at_start(file: &str, path: &str, message: String, expected: Option<String>) -> distric_rules::Problem {
    distric_rules::Problem::error(file, Position::default(), path, message, expected)
}

fn describe(problems: &[distric_rules::Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn problems_json(problems: &[distric_rules::Problem]) -> Value {
    let rows: Vec<Value> = problems
        .iter()
        .take(PROBLEMS_REPORTED_MAX)
        .map(|problem| {
            let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
            json!({
                "severity": severity, "file": problem.file, "line": problem.line, "column": problem.column,
                "path": problem.path, "message": problem.message, "expected": problem.expected,
            })
        })
        .collect();
    Value::Array(rows)
}
