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
const GOLDEN: [&str; 2] = [include_str!("fixtures/checkpoint_v1.txt"), include_str!("fixtures/checkpoint_v2.txt")];

#[test]
fn checkpoints_of_all_formats_are_restored_and_the_last_is_still_written_alike() {
    let mut meta = one_of_each();
    let mut records = Records::new();
    checkpoint(&mut meta, &mut records);
    let written: String = records.iter().map(|(key, value)| format!("{} {}\n", hex(key), hex(value))).collect();
    assert_eq!(GOLDEN[1], written, "the fixture should be:\n{written}");
    let golden = |text: &str| -> Records {
        text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (from_hex(key), from_hex(value))).collect()
    };
    assert_same(&meta, &golden(GOLDEN[1]));
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
