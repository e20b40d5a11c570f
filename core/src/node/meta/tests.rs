//! Claims about the meta machine.

use std::collections::BTreeMap;

use distric_exec::RestoreError;
use distric_model::Change;

use super::*;

fn arc(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn change(rules: RulesChange, workflows: WorkflowsChange) -> ApplyCatalog {
    ApplyCatalog { namespace: Namespace::default(), rules, workflows, expected_version: None, author: None, reason: None }
}

fn apply(meta: &mut Meta, at: u64, change: ApplyCatalog) -> MetaReply {
    let command = MetaCommand::ApplyCatalog(Box::new(change));
    let command = MetaCommand::decode(&command.encode()).expect("commands survive the log");
    meta.apply(Timestamp::from_us(at), command)
}

fn applied(reply: MetaReply) -> CatalogChange {
    match reply {
        MetaReply::Applied(change) => change,
        other => panic!("expected an applied change, got {other:?}"),
    }
}

fn put(id: &str, body: &str) -> ApplyCatalog {
    change(RulesChange::Put { id: arc(id), body: arc(body) }, WorkflowsChange::Keep)
}

#[test]
fn a_change_makes_one_version_and_a_repeat_makes_none() {
    let mut meta = Meta::default();
    assert_eq!(applied(apply(&mut meta, 5, put("a", r#"{"id":"a"}"#))).version, 1);
    let again = applied(apply(&mut meta, 6, put("a", r#"{"id":"a"}"#)));
    assert_eq!((again.version, again.rules_changed.len()), (1, 0));
    assert_eq!(meta.history().count(), 1);
    let changed = applied(apply(&mut meta, 9, put("a", r#"{"id":"a","priority":1}"#)));
    assert_eq!((changed.version, changed.rules_changed), (2, vec![arc("a")]));
    let rule = &meta.catalog().namespaces[&Namespace::default()].rules["a"];
    assert_eq!((rule.version, rule.created_at_us.as_us(), rule.updated_at_us.as_us()), (2, 5, 9));
}

#[test]
fn a_change_for_another_version_changes_nothing() {
    let mut meta = Meta::default();
    apply(&mut meta, 1, put("a", "{}"));
    let stale = ApplyCatalog { expected_version: Some(0), ..put("b", "{}") };
    assert_eq!(apply(&mut meta, 2, stale), MetaReply::VersionConflict { expected: 0, actual: 1 });
    assert_eq!(meta.catalog().version, 1);
    assert!(!meta.catalog().namespaces[&Namespace::default()].rules.contains_key("b"));
}

#[test]
fn a_whole_set_replaces_and_reports_what_is_gone() {
    let mut meta = Meta::default();
    apply(&mut meta, 1, put("a", r#"{"id":"a"}"#));
    let whole = RulesChange::Replace { options: arc(r#"{"lookups":{"a":{"x":1}}}"#), rules: vec![(arc("b"), arc(r#"{"id":"b"}"#))] };
    let change = applied(apply(&mut meta, 2, change(whole, WorkflowsChange::Keep)));
    assert_eq!((change.rules_changed, change.rules_removed), (vec![arc("b")], vec![arc("a")]));
    let document = meta.catalog().namespaces[&Namespace::default()].rules_document();
    assert_eq!(document, r#"{"lookups":{"a":{"x":1}},"rules":[{"id":"b"}]}"#);
    assert_eq!(NamespaceSource::default().rules_document(), r#"{"rules":[]}"#);
}

#[test]
fn workflow_versions_are_immutable_and_numbered() {
    let mut meta = Meta::default();
    let put = |body: &str| change(RulesChange::Keep, WorkflowsChange::Put(vec![(arc("w"), arc(body))]));
    assert_eq!(applied(apply(&mut meta, 1, put("one"))).workflows_changed, vec![(arc("w"), 1)]);
    assert_eq!(applied(apply(&mut meta, 2, put("two"))).workflows_changed, vec![(arc("w"), 2)]);
    assert_eq!(applied(apply(&mut meta, 3, put("two"))).workflows_changed, vec![]);
    let gone = applied(apply(&mut meta, 4, change(RulesChange::Keep, WorkflowsChange::Replace(vec![]))));
    assert_eq!(gone.workflows_removed, vec![arc("w")]);
    let catalog = meta.catalog();
    let record = &catalog.namespaces[&Namespace::default()].workflows["w"];
    assert_eq!((record.latest(), record.retired, &*record.versions[&1].body), (2, true, "one"));
    assert_eq!(applied(apply(&mut meta, 5, put("two"))).workflows_changed, vec![(arc("w"), 2)], "back in service");
}

#[test]
fn only_the_first_init_counts() {
    let mut meta = Meta::default();
    let cluster = |rand| distric_model::ClusterId::new(Timestamp::from_us(1), distric_model::Slot::truncate(0), rand);
    let init = |rand| MetaCommand::Init(Init { cluster: cluster(rand), work_groups: 4, voters: vec![], members: vec![] });
    meta.apply(Timestamp::from_us(1), init(1));
    meta.apply(Timestamp::from_us(2), init(2));
    assert_eq!(meta.cluster().unwrap().cluster, cluster(1));
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn checkpoint(meta: &mut Meta, records: &mut Records) -> usize {
    let mut changes = Vec::new();
    meta.take_changes(&mut changes);
    let count = changes.len();
    for Change { key, value } in changes {
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }
    count
}

fn assert_same(meta: &Meta, records: &Records) -> Meta {
    let restored = Meta::restore(records).expect("records that the machine told can be restored");
    assert_eq!(restored.catalog(), meta.catalog());
    assert_eq!(restored.cluster(), meta.cluster());
    assert_eq!(restored.now(), meta.now());
    assert!(restored.history().eq(meta.history()));
    restored
}

/// The `n`th of a series in which rules and workflows come, change, go and come back.
fn nth_change(n: u64) -> ApplyCatalog {
    let mut draw = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |bound: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % bound
    };
    let named = |number: u64| arc(&format!("n{number}"));
    let rules = match below(5) {
        0 => RulesChange::Keep,
        1 => RulesChange::Remove { id: named(below(4)) },
        2 => RulesChange::Replace { options: named(below(2)), rules: vec![(named(below(4)), named(below(3)))] },
        _ => RulesChange::Put { id: named(below(4)), body: named(below(3)) },
    };
    let workflows = match below(5) {
        0 => WorkflowsChange::Keep,
        1 => WorkflowsChange::Remove(named(below(4))),
        2 => WorkflowsChange::Replace(vec![(named(below(4)), named(below(3)))]),
        _ => WorkflowsChange::Put(vec![(named(below(4)), named(below(3)))]),
    };
    let namespace = Namespace::new(["a", "b"][below(2) as usize]).unwrap();
    ApplyCatalog { namespace, author: Some(arc("someone")), ..change(rules, workflows) }
}

#[test]
fn a_restored_machine_is_the_same_and_goes_on_alike() {
    let mut meta = Meta::default();
    let mut records = Records::new();
    let mut twins: Vec<(Meta, Records)> = Vec::new();
    for n in 0..1_500 {
        let reply = apply(&mut meta, n, nth_change(n));
        for (twin, _) in &mut twins {
            assert_eq!(apply(twin, n, nth_change(n)), reply);
        }
        if n % 97 == 0 {
            checkpoint(&mut meta, &mut records);
            twins.push((assert_same(&meta, &records), records.clone()));
        }
    }
    assert_eq!(meta.history().count(), CATALOG_HISTORY_MAX, "the history has lost its beginning");
    let mut whole = Records::new();
    let mut untold = Meta { catalog: meta.catalog(), history: meta.history.clone(), now: meta.now, ..Meta::default() };
    checkpoint(&mut untold, &mut whole);
    for (mut twin, mut records) in twins {
        checkpoint(&mut twin, &mut records);
        assert_same(&meta, &records);
        assert_eq!(records, whole, "a base and increments leave the same records as one whole checkpoint");
    }
    let step = checkpoint(&mut meta, &mut records);
    assert!(step < whole.len() / 4, "{step} records of {} changed since the last one", whole.len());
    assert_eq!(checkpoint(&mut meta, &mut records), 1, "without a change, the header");
}

fn one_of_each() -> Meta {
    let mut meta = Meta::default();
    let cluster = distric_model::ClusterId::new(Timestamp::from_us(1), distric_model::Slot::truncate(0), 7);
    meta.apply(Timestamp::from_us(1), MetaCommand::Init(Init { cluster, work_groups: 4, voters: vec![], members: vec![] }));
    apply(&mut meta, 5, put("a", r#"{"id":"a"}"#));
    let put = WorkflowsChange::Put(vec![(arc("w"), arc("one"))]);
    apply(&mut meta, 6, ApplyCatalog { author: Some(arc("me")), reason: Some(arc("why")), ..change(RulesChange::Keep, put) });
    meta
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap()).collect()
}

/// One line per record: key and value. Written once by each format; what they say is restored for ever.
const GOLDEN: [&str; 3] =
    [include_str!("fixtures/checkpoint_v1.txt"), include_str!("fixtures/checkpoint_v2.txt"), include_str!("fixtures/checkpoint_v3.txt")];

#[test]
fn checkpoints_of_all_formats_are_restored_and_the_last_is_still_written_alike() {
    let without_trial = one_of_each();
    let mut meta = one_of_each();
    do_it(&mut meta, 99, &start("c", r#"{"id":"c"}"#, without_trial.catalog().version));
    assert!(meta.catalog().trial.is_some());
    let mut records = Records::new();
    checkpoint(&mut meta, &mut records);
    let written: String = records.iter().map(|(key, value)| format!("{} {}\n", hex(key), hex(value))).collect();
    assert_eq!(GOLDEN[2], written, "the fixture should be:\n{written}");
    let golden = |text: &str| -> Records {
        text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (from_hex(key), from_hex(value))).collect()
    };
    assert_same(&meta, &golden(GOLDEN[2]));
    // Before format 3 there were no trials, and every change made a version.
    let then = Meta::restore(golden(GOLDEN[1])).unwrap();
    assert_eq!(
        (&then.catalog().namespaces, then.catalog().version),
        (&without_trial.catalog().namespaces, without_trial.catalog().version)
    );
    assert_eq!((then.catalog().revision, &then.catalog().trial), (then.catalog().version, &None));
    assert_eq!(then.catalog().oldest(), without_trial.catalog().oldest());
    let old = Meta::restore(golden(GOLDEN[0])).unwrap();
    assert_eq!((&old.catalog().namespaces, old.catalog().version), (&meta.catalog().namespaces, meta.catalog().version));
    assert_eq!(old.catalog().oldest(), old.catalog().version, "format 1 had no past");
}

#[test]
fn every_version_that_is_kept_is_what_it_was() {
    let mut meta = Meta::default();
    let mut seen: Vec<Arc<CatalogSource>> = vec![meta.catalog()];
    for n in 0..2_000 {
        apply(&mut meta, n, nth_change(n));
        if meta.catalog().version > seen.last().unwrap().version {
            seen.push(meta.catalog());
        }
        if n % 271 != 0 {
            continue;
        }
        let catalog = meta.catalog();
        for then in &seen {
            for namespace in ["a", "b"].map(|name| Namespace::new(name).unwrap()) {
                let was = then.namespaces.get(&namespace).cloned().unwrap_or_default();
                match catalog.namespace_at(&namespace, then.version) {
                    Some(found) => assert_eq!(found, was, "version {} seen from {}", then.version, catalog.version),
                    None => assert!(then.version < catalog.oldest()),
                }
            }
        }
        assert_eq!(catalog.namespace_at(&Namespace::default(), catalog.version + 1), None);
    }
    assert_eq!(meta.catalog().version - meta.catalog().oldest(), PAST_CHANGES_MAX as u64);
}

#[test]
fn large_changes_are_kept_up_to_their_bytes() {
    let mut meta = Meta::default();
    let body = "x".repeat(PAST_BYTES_MAX / 4);
    for n in 0..9 {
        apply(&mut meta, n, put("a", &format!("{n}{body}")));
    }
    assert_eq!((meta.catalog().version, meta.catalog().oldest()), (9, 6));
}

#[test]
fn what_is_no_checkpoint_is_an_error() {
    let mut meta = one_of_each();
    let mut records = Records::new();
    checkpoint(&mut meta, &mut records);
    assert_eq!(Meta::restore(Records::new()).unwrap_err(), RestoreError::NoHeader);
    for tag in [2_u8, 4, 5] {
        assert!(Meta::restore(records.iter().filter(|(key, _)| key[0] != tag)).is_err(), "restored without records of kind {tag}");
    }
    for (key, value) in &records {
        for place in 0..value.len() {
            let mut damaged = records.clone();
            damaged.get_mut(key).unwrap()[place] ^= 0x55;
            // Whatever comes of it, it is an answer.
            let _ = Meta::restore(&damaged);
        }
    }
}

fn start(id: &str, body: &str, expected_version: u64) -> MetaCommand {
    let (namespace, options) = (Namespace::default(), arc("{}"));
    let rules = vec![(arc("a"), arc(r#"{"id":"a"}"#)), (arc(id), arc(body))];
    let (author, reason) = (Some(arc("ann")), None);
    MetaCommand::StartTrial(Box::new(StartTrial {
        namespace,
        mode: TrialMode::Canary,
        share: 500,
        options,
        rules,
        expected_version,
        author,
        reason,
    }))
}

fn do_it(meta: &mut Meta, at: u64, command: &MetaCommand) -> MetaReply {
    meta.apply(Timestamp::from_us(at), MetaCommand::decode(&command.encode()).expect("commands survive the log"))
}

fn ids_at(meta: &Meta, version: u64) -> Option<Vec<String>> {
    let source = meta.catalog().namespace_at(&Namespace::default(), version)?;
    Some(source.rules.keys().map(|id| id.to_string()).collect())
}

#[test]
fn a_candidate_has_a_version_that_stays_known_and_that_no_catalog_gets() {
    let mut meta = Meta::default();
    apply(&mut meta, 1, put("a", r#"{"id":"a"}"#));
    apply(&mut meta, 2, put("b", r#"{"id":"b"}"#));
    assert_eq!(do_it(&mut meta, 3, &start("c", "{}", 1)), MetaReply::VersionConflict { expected: 1, actual: 2 });
    let begun = TrialState { version: 3, share: 500, mode: TrialMode::Canary };
    assert_eq!(do_it(&mut meta, 3, &start("c", "{}", 2)), MetaReply::Trial(begun.clone()));
    assert_eq!(meta.catalog().version, 2, "the catalog is what it was");
    assert!(matches!(do_it(&mut meta, 4, &start("d", "{}", 2)), MetaReply::TrialRefused(TrialRefusal::Runs { version: 3, .. })));
    let name = TrialName { namespace: Namespace::default(), version: Some(3) };
    let set = do_it(&mut meta, 5, &MetaCommand::SetTrial(name.clone(), 2_500));
    assert_eq!(set, MetaReply::Trial(TrialState { share: 2_500, ..begun.clone() }));
    let revision = meta.catalog().revision;
    assert_eq!(applied(apply(&mut meta, 6, put("e", r#"{"id":"e"}"#))).version, 4, "3 is the candidate's");
    assert_eq!(meta.catalog().revision, revision + 1);
    assert!(meta.catalog().trial.as_ref().unwrap().is_outdated);
    let promote = change(RulesChange::Promote { version: 3 }, WorkflowsChange::Keep);
    assert!(matches!(apply(&mut meta, 7, promote), MetaReply::TrialRefused(TrialRefusal::Outdated { version: 3, base_version: 2 })));
    let other = TrialName { version: Some(2), ..name.clone() };
    assert!(matches!(do_it(&mut meta, 8, &MetaCommand::EndTrial(other)), MetaReply::TrialRefused(TrialRefusal::None { .. })));
    let ended = do_it(&mut meta, 9, &MetaCommand::EndTrial(name));
    assert_eq!(ended, MetaReply::Trial(TrialState { share: 0, ..begun }));
    let seen: Vec<Option<Vec<String>>> = (0..=5).map(|version| ids_at(&meta, version)).collect();
    let ids = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
    assert_eq!(seen, vec![ids(&[]), ids(&["a"]), ids(&["a", "b"]), ids(&["a", "c"]), ids(&["a", "b", "e"]), None]);
    let line = meta.history().find(|line| line.version == 3).unwrap();
    let ended_at_us = Some(Timestamp::from_us(9));
    assert_eq!(line.trial, Some(TrialLine { mode: TrialMode::Canary, share: 2_500, ended_at_us, promoted_as: None }));
    assert_eq!((&line.rules_changed, &line.rules_removed), (&vec![arc("c")], &vec![arc("b")]));
}

#[test]
fn a_trial_is_in_the_checkpoints_whole_and_goes_with_its_end() {
    let mut meta = Meta::default();
    let mut records = Records::new();
    apply(&mut meta, 1, put("a", r#"{"id":"a"}"#));
    checkpoint(&mut meta, &mut records);
    do_it(&mut meta, 2, &start("c", "{}", 1));
    checkpoint(&mut meta, &mut records);
    let restored = assert_same(&meta, &records);
    assert_eq!(restored.catalog().trial.as_ref().unwrap().rules.len(), 2);
    let name = TrialName { namespace: Namespace::default(), version: None };
    do_it(&mut meta, 3, &MetaCommand::SetTrial(name.clone(), 9));
    checkpoint(&mut meta, &mut records);
    assert_same(&meta, &records);
    // The first checkpoint of a machine that has one already is as good.
    let mut anew = Records::new();
    checkpoint(&mut Meta::restore(&records).unwrap(), &mut anew);
    let promoted = applied(apply(&mut meta, 4, change(RulesChange::Promote { version: 2 }, WorkflowsChange::Keep)));
    assert_eq!((promoted.version, promoted.rules_changed), (3, vec![arc("c")]));
    checkpoint(&mut meta, &mut records);
    let restored = assert_same(&meta, &records);
    assert_eq!(restored.catalog().trial, None);
    assert_eq!(records.keys().filter(|key| key[0] > 7).count(), 0, "nothing of the trial is left");
    assert_eq!(restored.history().find(|line| line.version == 2).unwrap().trial.as_ref().unwrap().promoted_as, Some(3));
    assert_eq!(ids_at(&restored, 2), ids_at(&restored, 3));
}

#[test]
fn a_candidate_is_forgotten_with_the_changes_of_its_time() {
    let mut meta = Meta::default();
    apply(&mut meta, 1, put("a", "{}"));
    do_it(&mut meta, 2, &start("c", "{}", 1));
    do_it(&mut meta, 3, &MetaCommand::EndTrial(TrialName { namespace: Namespace::default(), version: None }));
    for n in 0..PAST_CHANGES_MAX as u64 {
        apply(&mut meta, 4 + n, put("a", &n.to_string()));
    }
    let catalog = meta.catalog();
    // The catalog of before the oldest change is known, the candidate between the two is not.
    assert_eq!((catalog.oldest(), catalog.knows(1), catalog.knows(2), catalog.knows(3)), (1, true, false, true));
    assert_eq!(ids_at(&meta, 2), None);
}

#[test]
fn a_large_command_is_small_in_the_log_and_a_broken_one_is_refused() {
    let rules = (0..4_000).map(|n| (arc(&format!("r{n}")), arc(&format!(r#"{{"id":"r{n}","event_type":"order_{}"}}"#, n % 50)))).collect();
    let whole = MetaCommand::ApplyCatalog(Box::new(change(RulesChange::Replace { options: arc("{}"), rules }, WorkflowsChange::Keep)));
    let bytes = whole.encode();
    assert!(distric_wire::is_packed(&bytes) && bytes.len() < 80_000, "{} bytes", bytes.len());
    assert_eq!(MetaCommand::decode(&bytes).unwrap(), whole);
    for cut in [4, 20, bytes.len() / 2, bytes.len() - 1] {
        assert!(MetaCommand::decode(&bytes[..cut]).is_err(), "{cut} bytes of it are no command");
    }
    let small = MetaCommand::ApplyCatalog(Box::new(put("a", "{}")));
    assert!(!distric_wire::is_packed(&small.encode()));
}
