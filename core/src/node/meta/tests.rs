//! Claims about the meta machine.

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
    let init = |rand| MetaCommand::Init(Init { cluster: cluster(rand), work_groups: 4, voters: vec![] });
    meta.apply(Timestamp::from_us(1), init(1));
    meta.apply(Timestamp::from_us(2), init(2));
    assert_eq!(meta.cluster().unwrap().cluster, cluster(1));
}
