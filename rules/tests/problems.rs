//! Every kind of mistake in a rule file, with the exact line that its author reads.

use std::collections::BTreeSet;

use distric_rules::{CheckContext, check, check_rule};

fn problems_of(text: &str, known_workflows: Option<&BTreeSet<String>>) -> (bool, Vec<String>) {
    let checked = check("f.yaml", text, &CheckContext { known_workflows, ..CheckContext::default() });
    (checked.catalog.is_some(), checked.problems.iter().map(ToString::to_string).collect())
}

/// The problems of a text that cannot be used.
fn errors(text: &str) -> Vec<String> {
    let (usable, problems) = problems_of(text, None);
    assert!(!usable, "accepted: {text}");
    problems
}

/// The problems of a text that can be used all the same.
fn warnings(text: &str) -> Vec<String> {
    let (usable, problems) = problems_of(text, None);
    assert!(usable, "refused: {problems:#?}");
    problems
}

/// The one problem of a rule whose conditions are these.
fn condition_error(conditions: &str) -> String {
    let problems = errors(&format!("rules:\n- id: r\n  conditions: {conditions}\n"));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap().strip_prefix("f.yaml:3:").unwrap().to_string()
}

fn condition_warnings(conditions: &str) -> Vec<String> {
    warnings(&format!("rules:\n- id: r\n  conditions: {conditions}\n"))
}

#[test]
fn conditions() {
    for (conditions, problem) in [
        (
            "[{field: a, operator: greater_then, value: 1}]",
            "37: rules[0].conditions[0].operator: unknown operator `greater_then`, did you mean `greater_than`? (expected one of equals, not_equals, in, \
             not_in, greater_than, less_than, greater_or_equal, less_or_equal, in_range, prefix, suffix, contains, regex, wildcard, equals_ignore_case, \
             cidr, exists, length, before, after)",
        ),
        ("{field: a, value: 1}", "15: rules[0].conditions: `operator` is missing"),
        ("{field: a, op: eq}", "15: rules[0].conditions: `value` is missing (expected a string, a number, a boolean or null)"),
        ("{op: eq, value: 1}", "15: rules[0].conditions: `field` is missing"),
        (
            "{field: a, op: eq, operator: eq, value: 1}",
            "34: rules[0].conditions.operator: `op` and `operator` are two names of one thing (expected one of them)",
        ),
        ("{field: 5, op: eq, value: 1}", "23: rules[0].conditions.field: found a number (expected a path such as user.age)"),
        ("{field: '', op: eq, value: 1}", "23: rules[0].conditions.field: the path is empty"),
        (
            "{field: $sorce, op: eq, value: 1}",
            "23: rules[0].conditions.field: unknown envelope field `$sorce`, did you mean `$source`? (a payload member of this name is written `payload.$sorce`)",
        ),
        ("{field: a, op: eq, value: [1]}", "41: rules[0].conditions.value: found a list (expected a string, a number, a boolean or null)"),
        (
            "{field: a, op: in, value: 1}",
            "41: rules[0].conditions.value: found a number (expected a list of strings, numbers, booleans or nulls)",
        ),
        (
            "{field: a, op: in, value: [[1]]}",
            "42: rules[0].conditions.value[0]: found a list (expected a string, a number, a boolean or null)",
        ),
        ("{field: a, op: gt, value: x}", "41: rules[0].conditions.value: `x` is not a number (expected a number)"),
        ("{field: a, op: gt, value: true}", "41: rules[0].conditions.value: found a boolean (expected a number)"),
        (
            "{field: a, op: in_range, value: 5}",
            "47: rules[0].conditions.value: found a number (expected [low, high], each a number or null)",
        ),
        (
            "{field: a, op: in_range, value: [5]}",
            "47: rules[0].conditions.value: found a list of 1 (expected [low, high], each a number or null)",
        ),
        ("{field: a, op: in_range, value: [5, x]}", "51: rules[0].conditions.value[1]: `x` is not a number (expected a number or null)"),
        ("{field: a, op: prefix, value: 5}", "45: rules[0].conditions.value: found a number (expected a string)"),
        (
            "{field: a, op: contains, value: {}}",
            "47: rules[0].conditions.value: found a map (expected a string, a number, a boolean or null)",
        ),
        ("{field: a, op: regex, value: 5}", "44: rules[0].conditions.value: found a number (expected a regular expression)"),
        ("{field: a, op: regex, value: 'a('}", "44: rules[0].conditions.value: bad regular expression: unclosed group at character 2"),
        (
            r"{field: a, op: regex, value: '(\w{99}){99}'}",
            "44: rules[0].conditions.value: the regular expression is larger than REGEX_PROGRAM_BYTES_MAX (262144 bytes) when compiled",
        ),
        (
            "{field: a, op: cidr, value: 10.0.0}",
            "43: rules[0].conditions.value: `10.0.0` is not a network (expected a network such as 10.0.0.0/8)",
        ),
        (
            "{field: a, op: cidr, value: 5}",
            "43: rules[0].conditions.value: found a number (expected a network such as 10.0.0.0/8, or a list of networks)",
        ),
        ("{field: a, op: exists, value: 1}", "45: rules[0].conditions.value: found a number (expected true or false)"),
        (
            "{field: a, op: length, value: x}",
            "45: rules[0].conditions.value: `x` is not a number (expected a number, or a comparison such as { operator: greater_than, value: 3 })",
        ),
        (
            "{field: a, op: length, value: {regex: x}}",
            "45: rules[0].conditions.value: `regex` does not compare lengths (expected a comparison of numbers)",
        ),
        (
            "{field: a, op: length, value: {value: 3}}",
            "45: rules[0].conditions.value: `operator` is missing (expected a number, or a comparison such as { operator: greater_than, value: 3 })",
        ),
        (
            "{field: a, op: before, value: 2026-01-01}",
            "45: rules[0].conditions.value: `2026-01-01` is not an instant of RFC 3339 (expected an instant such as 2026-01-31T09:30:00Z)",
        ),
        ("5", "15: rules[0].conditions: found a number (expected a list, or a map with `field`, `all`, `any`, `not` or `combinator`)"),
        (
            "{al: []}",
            "15: rules[0].conditions: not a condition, did you mean `all`? (expected a list, or a map with `field`, `all`, `any`, `not` or `combinator`)",
        ),
        ("{all: {}}", "21: rules[0].conditions.all: found a map (expected a list)"),
        ("{all: [], any: []}", "25: rules[0].conditions.any: unknown key `any` (expected one of all)"),
        (
            "{combinator: XOR, conditions: []}",
            "28: rules[0].conditions.combinator: unknown word `XOR`, did you mean `OR`? (expected one of AND, OR, NOT, and, or, not)",
        ),
        ("{conditions: []}", "15: rules[0].conditions: `combinator` is missing"),
        (
            "{combinator: NOT, conditions: [{all: []}, {all: []}]}",
            "45: rules[0].conditions.conditions: NOT over 2 conditions (expected exactly one condition)",
        ),
    ] {
        assert_eq!(condition_error(conditions), problem, "{conditions}");
    }
}

#[test]
fn rules() {
    for (rule, problem) in [
        ("{}", "f.yaml:2:3: rules[0]: `id` is missing"),
        ("{id: a b}", "f.yaml:2:8: rules[0].id: \"a b\" is not an id (expected a rule's id: 1 to 128 characters of A-Z a-z 0-9 . _ -)"),
        (
            "{id: r, prioritty: 5}",
            "f.yaml:2:11: rules[0].prioritty: unknown key `prioritty`, did you mean `priority`? (expected one of id, description, enabled, priority, \
             event_type, conditions, when, transform, after, requires, on_match, actions, version)",
        ),
        ("{id: r, priority: 1.5}", "f.yaml:2:21: rules[0].priority: found 1.5 (expected a whole number from -1000000000 to 1000000000)"),
        ("{id: r, enabled: 'yes'}", "f.yaml:2:20: rules[0].enabled: found a string (expected true or false)"),
        ("{id: r, event_type: [a]}", "f.yaml:2:23: rules[0].event_type: found a list (expected a string)"),
        (
            "{id: r, when: [], conditions: []}",
            "f.yaml:2:21: rules[0].conditions: `when` and `conditions` are two names of one thing (expected one of them)",
        ),
        ("{id: r, on_match: halt}", "f.yaml:2:21: rules[0].on_match: unknown word `halt` (expected one of continue, stop)"),
        ("{id: r, requires: al}", "f.yaml:2:21: rules[0].requires: unknown word `al`, did you mean `all`? (expected one of all, any)"),
        ("{id: r, after: x}", "f.yaml:2:18: rules[0].after: found a string (expected a list)"),
        (
            "{id: rule, after: [ruel]}",
            "f.yaml:2:22: rules[0].after[0]: unknown rule `ruel`, did you mean `rule`? (expected the id of a rule in this catalog)",
        ),
        ("{id: r, after: [r]}", "f.yaml:2:19: rules[0].after[0]: `r` comes after itself (expected another rule)"),
        ("x", "f.yaml:2:3: rules[0]: found a string (expected a map)"),
        (
            "{id: r, transform: [{st: a}]}",
            "f.yaml:2:23: rules[0].transform[0]: not a transform, did you mean `set`? (expected one of set, copy, rename, remove, compute, lookup)",
        ),
        (
            "{id: r, transform: [{set: a}]}",
            "f.yaml:2:23: rules[0].transform[0]: `value` is missing (expected any value; strings may hold ${expressions})",
        ),
        ("{id: r, transform: [{copy: a}]}", "f.yaml:2:23: rules[0].transform[0]: `to` is missing"),
        (
            "{id: r, transform: [{remove: $source}]}",
            "f.yaml:2:32: rules[0].transform[0].remove: the envelope cannot be changed (expected a path of the payload such as risk.level)",
        ),
        (
            "{id: r, transform: [{lookup: a, in: tabel, to: b}]}",
            "f.yaml:2:39: rules[0].transform[0].in: unknown lookup table `tabel`, did you mean `table`? (expected one of table)",
        ),
        ("{id: r, actions: [{}]}", "f.yaml:2:21: rules[0].actions[0]: `workflow` is missing"),
        (
            "{id: r, actions: [{workflow: w, version: 0}]}",
            "f.yaml:2:44: rules[0].actions[0].version: found 0 (expected `latest` or a version number from 1)",
        ),
        ("{id: r, actions: [{workflow: w, params: [1]}]}", "f.yaml:2:43: rules[0].actions[0].params: found a list (expected a map)"),
        (
            "{id: r, actions: [{workflow: w, timeout: soon}]}",
            "f.yaml:2:44: rules[0].actions[0].timeout: \"soon\" is not a duration (expected a duration such as 5, 5.5 (seconds), 250ms, 10s, 2m, 1h)",
        ),
        (
            "{id: r, actions: [{workflow: w, timeout: 0}]}",
            "f.yaml:2:44: rules[0].actions[0].timeout: the duration is too short (expected at least 1ms)",
        ),
        (
            "{id: r, actions: [{workflow: w, retry: often}]}",
            "f.yaml:2:42: rules[0].actions[0].retry: found a string (expected a number of retries or a map)",
        ),
        (
            "{id: r, actions: [{workflow: w, ordering_key: [a]}]}",
            "f.yaml:2:49: rules[0].actions[0].ordering_key: found a list (expected a string such as ${user.id})",
        ),
        (
            "{id: r, actions: [{workflow: w, concurrency: {key: k, limit: 0}}]}",
            "f.yaml:2:64: rules[0].actions[0].concurrency.limit: found 0 (expected a whole number from 1 to 1000000)",
        ),
        (
            "{id: r, actions: [{workflow: w, delay: -1}]}",
            "f.yaml:2:42: rules[0].actions[0].delay: -1 is not between 0 and 3660 days (expected a duration such as 5, 5.5 (seconds), 250ms, 10s, 2m, 1h)",
        ),
    ] {
        assert_eq!(errors(&format!("rules:\n- {rule}\nlookups: {{table: {{}}}}\n")), [problem], "{rule}");
    }
}

#[test]
fn expressions_are_checked_with_the_rules() {
    let problems =
        errors("rules:\n- id: r\n  transform:\n  - compute: a\n    expr: 1 +\n  actions:\n  - workflow: w\n    params: {x: \"${1 +}\"}\n");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("f.yaml:5:11: rules[0].transform[0].expr: bad expression: "), "{}", problems[0]);
    assert!(problems[1].starts_with("f.yaml:8:17: rules[0].actions[0].params.x: bad expression: "), "{}", problems[1]);
}

#[test]
fn the_catalog_itself() {
    for (text, problem) in [
        ("- id: r\n", "f.yaml:1:1: found a list (expected a map)"),
        ("lookups: {}\n", "f.yaml:1:1: `rules` is missing"),
        ("rules: {}\n", "f.yaml:1:8: rules: found a map (expected a list)"),
        (
            "rules: []\nrule: []\n",
            "f.yaml:2:1: rule: unknown key `rule`, did you mean `rules`? (expected one of rules, lookups, fail_fast, keep_unmatched)",
        ),
        ("rules: []\nfail_fast: 1\n", "f.yaml:2:12: fail_fast: found a number (expected true or false)"),
        ("rules: []\nlookups: []\n", "f.yaml:2:10: lookups: found a list (expected a map)"),
        ("rules: []\nlookups: {a: 5}\n", "f.yaml:2:14: lookups.a: found a number (expected a map)"),
        (
            "rules: []\nlookups:\n  a b: {}\n",
            "f.yaml:3:3: lookups[\"a b\"]: \"a b\" is not an id (expected a table's name: 1 to 128 characters of A-Z a-z 0-9 . _ -)",
        ),
        ("rules:\n- {id: r}\n- {id: r}\n", "f.yaml:3:8: rules[1].id: the id `r` is given twice, first in rules[0] (expected a unique id)"),
        ("rules: [\n", "f.yaml:1:8: not YAML: unclosed bracket '['"),
    ] {
        let problems = errors(text);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(problems[0], problem);
    }
}

#[test]
fn all_problems_are_found_in_the_order_of_the_text() {
    let text = "rules:\n- id: a\n  priority: high\n  conditions: [{field: x, op: lik, value: 1}, {field: y, op: gt, value: z}]\n  actions: [{workflow: w, dealy: 1}]\n- id: b\n  after: [a, c]\n  on_match: stp\n";
    let places: Vec<String> = errors(text).iter().map(|problem| problem.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        places,
        [
            "f.yaml:3:13 rules[0].priority",
            "f.yaml:4:31 rules[0].conditions[0].op",
            "f.yaml:4:73 rules[0].conditions[1].value",
            "f.yaml:5:27 rules[0].actions[0].dealy",
            "f.yaml:8:13 rules[1].on_match",
        ]
    );
}

#[test]
fn a_rule_with_a_mistake_is_still_known_to_the_others() {
    assert_eq!(errors("rules:\n- {id: a, priority: x}\n- {id: b, after: [a]}\n").len(), 1);
}

#[test]
fn cycles_are_named_rule_by_rule() {
    let text = "rules:\n- {id: a, after: [c]}\n- {id: b, after: [a]}\n- {id: c, after: [b, d]}\n- {id: d}\n- {id: x, after: [y]}\n- {id: y, after: [x]}\n";
    assert_eq!(
        errors(text),
        [
            "f.yaml:2:19: rules[0].after: these rules wait for each other: a after c after b after a (expected no cycle)",
            "f.yaml:6:19: rules[4].after: these rules wait for each other: x after y after x (expected no cycle)",
        ]
    );
}

#[test]
fn unknown_workflows_are_refused_where_the_known_ones_are_given() {
    let known = BTreeSet::from(["fraud_check".to_string()]);
    let text = "rules:\n- id: r\n  actions:\n  - workflow: fraud_chek\n";
    let (usable, problems) = problems_of(text, Some(&known));
    assert!(!usable);
    assert_eq!(
        problems,
        [
            "f.yaml:4:15: rules[0].actions[0].workflow: unknown workflow `fraud_chek`, did you mean `fraud_check`? (expected a workflow that exists)"
        ]
    );
    assert_eq!(warnings(text), [""; 0]);
    assert!(problems_of(&text.replace("chek", "check"), Some(&known)).0);
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    for (conditions, warning) in [
        (
            "{field: a, op: in, value: []}",
            "f.yaml:3:41: rules[0].conditions.value: warning: the list is empty (expected at least one value)",
        ),
        (
            "{field: a, op: in_range, value: [5, 3]}",
            "f.yaml:3:47: rules[0].conditions.value: warning: no number lies in this range: its low end is above its high end",
        ),
        (
            "{field: a, op: regex, value: .*}",
            "f.yaml:3:44: rules[0].conditions.value: warning: this regex matches every string (expected `exists`, if that is meant)",
        ),
        (
            "{field: a, op: wildcard, value: '*'}",
            "f.yaml:3:47: rules[0].conditions.value: warning: this wildcard matches every string (expected `exists`, if that is meant)",
        ),
        (
            "{field: a, op: prefix, value: ''}",
            "f.yaml:3:45: rules[0].conditions.value: warning: this prefix matches every string (expected `exists`, if that is meant)",
        ),
        (
            "{field: a, op: cidr, value: 10.1.2.3/8}",
            "f.yaml:3:43: rules[0].conditions.value: warning: `10.1.2.3/8` has bits beyond its prefix; it is read as 10.0.0.0/8",
        ),
        ("{field: a..b, op: exists}", "f.yaml:3:23: rules[0].conditions.field: warning: the path names a member whose name is empty"),
        (
            "[{field: a, op: gt, value: 5}, {field: a, op: lt, value: 3}]",
            "f.yaml:3:15: rules[0].conditions: warning: no single value of `a` fulfils all comparisons of it: this holds for lists only, if at all",
        ),
        (
            "[{field: a, op: eq, value: x}, {all: [{field: a, op: in, value: [y, z]}]}]",
            "f.yaml:3:15: rules[0].conditions: warning: no single value of `a` fulfils all comparisons of it: this holds for lists only, if at all",
        ),
        (
            "[{field: a, op: eq, value: x}, {field: a, op: gt, value: 3}]",
            "f.yaml:3:15: rules[0].conditions: warning: no single value of `a` fulfils all comparisons of it: this holds for lists only, if at all",
        ),
        (
            "[{field: a, op: eq, value: x}, {field: a, op: not_in, value: [x, y]}]",
            "f.yaml:3:15: rules[0].conditions: warning: `a` must equal and must not equal the same value: this never holds",
        ),
        (
            "[{field: a, op: exists, value: false}, {field: a, op: prefix, value: x}]",
            "f.yaml:3:15: rules[0].conditions: warning: `a` must be missing and must fulfil `prefix`: this never holds",
        ),
    ] {
        let problems = condition_warnings(conditions);
        assert_eq!(problems, [warning], "{conditions}");
    }
    for fine in [
        "[{field: a, op: gt, value: 3}, {field: a, op: lt, value: 5}, {field: a, op: eq, value: 4}]",
        "{any: [{field: a, op: gt, value: 5}, {field: a, op: lt, value: 3}]}",
        "[{field: a, op: eq, value: x}, {field: b, op: not_equals, value: x}, {field: c, op: exists, value: false}]",
    ] {
        assert_eq!(condition_warnings(fine), [""; 0], "{fine}");
    }
}

#[test]
fn rules_that_are_never_reached_or_say_the_same_are_warnings() {
    let rule = |id: &str, priority: i32, rest: &str| format!("- {{id: {id}, priority: {priority}, {rest}}}\n");
    let leaf = |field: &str| format!("{{field: {field}, op: exists}}");
    let text = format!(
        "rules:\n{}{}{}",
        rule("stop", 9, &format!("on_match: stop, conditions: [{}]", leaf("a"))),
        rule("below", 5, &format!("conditions: [{}, {}]", leaf("b"), leaf("a"))),
        rule("other", 5, &format!("conditions: [{}]", leaf("b"))),
    );
    assert_eq!(
        warnings(&text),
        ["f.yaml:3:3: rules[1]: warning: `below` is never reached: whenever it would match, `stop` has matched before and stopped"]
    );
    let text = format!(
        "rules:\n{}{}fail_fast: true\n",
        rule("first", 9, "actions: [{workflow: w}]"),
        rule("second", 5, &format!("conditions: [{}]", leaf("b")))
    );
    assert_eq!(
        warnings(&text),
        ["f.yaml:3:3: rules[1]: warning: `second` is never reached: whenever it would match, `first` has matched before and stopped"]
    );
    let text = format!("rules:\n{}{}", rule("one", 9, "event_type: e"), rule("two", 5, "event_type: e"));
    assert_eq!(warnings(&text), ["f.yaml:3:3: rules[1]: warning: `two` says the same as `one`"]);
    let text = "rules:\n- {id: a, enabled: false}\n- {id: b, after: [a]}\n- {id: c, after: [a, b], requires: any, version: 3}\n";
    assert_eq!(
        warnings(text),
        [
            "f.yaml:3:19: rules[1].after[0]: warning: `a` is disabled, so this rule can never match",
            "f.yaml:4:50: rules[2].version: warning: `version` is given by the catalog; the one written here is not used",
        ]
    );
}

#[test]
fn one_rule_is_replaced_added_and_removed() {
    let context = CheckContext::default();
    let set = check("f.yaml", "rules:\n- {id: a}\n- {id: b, after: [a]}\nlookups: {t: {k: 1}}\n", &context).catalog.unwrap();
    let rule = check_rule("b.json", r#"{"id": "b", "priority": 7, "transform": [{"lookup": "x", "in": "t", "to": "y"}]}"#).unwrap();
    let replaced = set.with_rule(rule, &context).catalog.unwrap();
    assert_eq!((replaced.len(), replaced.rule("b").unwrap().priority()), (2, 7));
    assert!(set.without_rule("nobody").is_none());
    assert_eq!(replaced.without_rule("a").unwrap().catalog.unwrap().len(), 1);
    let texts = |problems: Vec<distric_rules::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        texts(set.without_rule("a").unwrap().problems),
        ["f.yaml:3:19: rules[1].after[0]: unknown rule `a` (expected the id of a rule in this catalog)"]
    );
    let rule = check_rule("c.yaml", "id: c\nafter: [gone]\ntransform: [{lookup: x, in: u, to: y}]\n").unwrap();
    assert_eq!(
        texts(set.with_rule(rule, &context).problems),
        [
            "c.yaml:1:1: transform[0].in: unknown lookup table `u` (expected one of t)",
            "c.yaml:2:9: after[0]: unknown rule `gone` (expected the id of a rule in this catalog)",
        ]
    );
    assert_eq!(
        texts(check_rule("c.yaml", "id: c\nwhem: []\n").unwrap_err())[0].split(" (").next(),
        Some("c.yaml:2:1: whem: unknown key `whem`, did you mean `when`?")
    );
}
