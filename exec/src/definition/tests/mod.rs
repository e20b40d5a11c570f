//! Claims about the workflow language: each text, and exactly what is said about it.

use distric_model::Timestamp;
use distric_rules::expr::Budget;
use serde_json::json;

use super::*;

mod configs;

/// The one valid definition of a text.
#[track_caller]
fn accept(text: &str) -> Definition {
    let checked = check_workflows("f.yaml", text, &KnownTypes::builtin());
    let problems: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0], "{text}");
    let [definition] = &checked.definitions[..] else {
        panic!("{} definitions", checked.definitions.len());
    };
    definition.clone()
}

/// Everything that is said about a text.
#[track_caller]
fn refuse(text: &str, expected: &[&str]) {
    let checked = check_workflows("f.yaml", text, &KnownTypes::builtin());
    let problems: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, expected, "{text}");
    assert!(!checked.is_ok() && checked.definitions.is_empty());
}

/// What is said about a workflow `w` whose tasks are `tasks`, flow style, one a line from line 4 on.
#[track_caller]
fn refuse_tasks(tasks: &[&str], expected: &[&str]) {
    let lines: String = tasks.iter().map(|task| format!("    - {task}\n")).collect();
    refuse(&format!("workflow:\n  id: w\n  tasks:\n{lines}"), expected);
}

#[test]
fn everything_that_can_be_said_is_read() {
    let definition = accept(
        "workflow:
  id: order
  version: 3
  description: Orders
  timeout: 5m
  on_failure: fail
  tasks:
    - id: check
      type: http
      config: { method: post, url: 'https://x/${input.id}', headers: { X-A: 1 }, body: { a: '${params.a}' }, expect_status: [2xx, 404], timeout: 1m30s }
      input: { id: '${input.id}' }
      timeout: 10
      retry: { max_attempts: 3, initial_backoff: 1s, multiplier: 2, max_backoff: 60s, jitter: 0.2 }
      priority: 5
      placement: { strategy: round_robin, labels: { zone: eu } }
      idempotency_key: '${instance.id}-${task.id}'
      critical: false
    - id: way
      type: branch
      depends_on: check
      config: { cases: [{ when: '${tasks.check.output.status == 200}', goto: good }], default: bad }
    - id: pause
      type: wait
      depends_on: [way]
      join: any
      when: tasks.way.output.branch == 'good' && message.headers['x-fast'] != '1'
      config: { for: 10s }
    - { id: stop, type: fail, depends_on: [way], when: \"tasks.way.output.branch == 'bad'\", config: { code: bad_order, message: 'status ${tasks.check.output.status}' } }
    - { id: tell, type: publish, depends_on: [pause], join: all_done, config: { event_type: done, payload: { id: '${input.id}' }, routing_key: '${input.user}', headers: { a: b } } }
    - { id: note, type: log, depends_on: [pause, stop], config: { level: warn, message: 'attempt ${attempt} of ${task.id} in ${workflow.id}' } }
    - { id: hook, type: webhook, config: { url: '${params.url}', secret: s } }
    - { id: sum, type: transform, depends_on: [check], config: { set: { a: tasks.check.output.body.a + 1, b: '${input.b}', c: 7 } } }
",
    );
    assert_eq!((&*definition.id, definition.version, definition.timeout_ms), ("order", 3, 300_000));
    let check = &definition.tasks[0];
    assert_eq!((check.timeout_ms, check.priority, check.critical, check.retry.unwrap().max_attempts), (10_000, 5, false, 3));
    assert_eq!(check.placement.strategy, Strategy::RoundRobin);
    assert_eq!(check.placement.labels["zone"], "eu");
    assert_eq!(check.config["timeout"], "90s");
    assert_eq!(check.dependents, [1, 7]);
    let way = &definition.tasks[1];
    assert_eq!(way.config["cases"], json!([{"when": "tasks.check.output.status == 200", "name": "good"}]));
    assert_eq!((way.depends_on.as_slice(), way.dependents.as_slice()), (&[0][..], &[2, 3][..]));
    assert_eq!((definition.tasks[2].join, definition.tasks[4].join), (Join::Any, Join::AllDone));
    assert_eq!(definition.tasks[2].config, json!({"duration": "10s"}));
    assert_eq!(definition.order, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    let text = definition.to_json().to_string();
    assert_eq!(check_workflows("f.json", &text, &KnownTypes::builtin()).definitions.first(), Some(&definition));
    assert_eq!(definition.compile().unwrap().tasks.len(), 8);
}

#[test]
fn what_is_left_out_has_a_default() {
    let definition = accept("workflow: { id: w, tasks: [{ id: a, type: log, config: { message: hello } }] }");
    assert_eq!((definition.version, definition.timeout_ms, definition.on_failure), (0, WORKFLOW_TIMEOUT_MS_DEFAULT, OnFailure::Fail));
    let task = &definition.tasks[0];
    assert_eq!((task.timeout_ms, task.retry, task.join, task.critical), (TASK_TIMEOUT_MS_DEFAULT, None, Join::All, true));
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
}

#[test]
fn a_text_may_hold_one_workflow_a_list_or_several_documents() {
    let task = "tasks: [{ id: a, type: log, config: { message: m } }]";
    for (text, ids) in [
        (format!("workflow: {{ id: a, {task} }}"), vec!["a"]),
        (format!("workflows:\n  - {{ id: a, {task} }}\n  - {{ id: b, {task} }}"), vec!["a", "b"]),
        (format!("workflow: {{ id: a, {task} }}\n---\nworkflow: {{ id: b, {task} }}"), vec!["a", "b"]),
        (format!("id: a\n{task}"), vec!["a"]),
        ("workflows: []".to_owned(), vec![]),
    ] {
        let checked = check_workflows("f.yaml", &text, &KnownTypes::builtin());
        assert!(checked.is_ok(), "{:?}", checked.problems);
        assert_eq!(checked.definitions.iter().map(|definition| &*definition.id).collect::<Vec<_>>(), ids);
    }
    refuse("", &["f.yaml:1:1: there is no workflow in this text (expected `workflow:` or `workflows:`)"]);
    refuse("[1]", &["f.yaml:1:1: found a list (expected `workflow:` or `workflows:`)"]);
    refuse("{}", &["f.yaml:1:1: there is no workflow in this document (expected `workflow:` or `workflows:`)"]);
    refuse("workflow: 5", &["f.yaml:1:11: workflow: found a number (expected a map)"]);
    refuse("workflow: { id: w, id: v }", &["f.yaml:1:20: the key `id` is given twice, first at line 1 column 13"]);
    refuse(
        "work:\n  id: w\n",
        &[
            "f.yaml:1:1: there is no workflow in this document (expected `workflow:` or `workflows:`)",
            "f.yaml:1:1: work: unknown key `work`, did you mean `workflow`? (expected one of workflow, workflows)",
        ],
    );
}

#[test]
fn one_bad_workflow_does_not_hide_the_good_one() {
    let text = "workflows:
  - { id: a, tasks: [{ id: x, type: log, config: { message: m } }] }
  - { id: a, tasks: [{ id: x, type: log, config: { message: m } }] }
";
    let checked = check_workflows("f.yaml", text, &KnownTypes::builtin());
    assert_eq!(checked.definitions.len(), 1);
    assert!(!checked.is_ok());
    assert_eq!(checked.problems[0].to_string(), "f.yaml:3:11: workflows[1].id: the workflow `a` is given twice, first at line 2 column 11");
}

#[test]
fn the_shape_of_a_workflow_is_checked() {
    refuse(
        "workflow: { id: 'a b', tasks: [] }",
        &[
            "f.yaml:1:17: workflow.id: not a name (expected 1 to 128 characters of A-Z a-z 0-9 . _ -)",
            "f.yaml:1:31: workflow.tasks: a workflow has at least one task",
        ],
    );
    refuse(
        "workflow:\n  timeuot: 5\n  version: 0\n  timeout: 0\n  on_failure: retry\n",
        &[
            "f.yaml:2:3: workflow: `id` is missing",
            "f.yaml:2:3: workflow: `tasks` is missing",
            "f.yaml:2:3: workflow.timeuot: unknown key `timeuot`, did you mean `timeout`? (expected one of id, version, description, input_schema, params_schema, timeout, on_failure, output, tasks, schedule, placement, concurrency, singleton, rate_limit, debounce, batch, fairness)",
            "f.yaml:3:12: workflow.version: found 0 (expected a whole number from 1)",
            "f.yaml:4:12: workflow.timeout: the duration is too short (expected at least 1ms)",
            "f.yaml:5:15: workflow.on_failure: unknown word `retry` (expected one of fail, compensate)",
        ],
    );
    refuse_tasks(
        &[
            "{ type: log }",
            "5",
            "{ id: a, type: log, timeout: soon, retry: -1, join: al, priority: 5000, critical: 1, config: { message: m } }",
        ],
        &[
            "f.yaml:4:7: workflow.tasks[0]: `id` is missing",
            "f.yaml:4:7: workflow.tasks[0]: `config` is missing",
            "f.yaml:5:7: workflow.tasks[1]: found a number (expected a map)",
            "f.yaml:6:36: workflow.tasks[2].timeout: \"soon\" is not a duration (expected a duration such as 5, 5.5 (seconds), 250ms, 10s, 2m, 1h)",
            "f.yaml:6:49: workflow.tasks[2].retry: found -1 (expected a whole number from 0 to 999)",
            "f.yaml:6:59: workflow.tasks[2].join: unknown word `al`, did you mean `all`? (expected one of all, any, all_done)",
            "f.yaml:6:73: workflow.tasks[2].priority: found 5000 (expected a whole number from -1000 to 1000)",
            "f.yaml:6:89: workflow.tasks[2].critical: found a number (expected true or false)",
        ],
    );
    let many: String = (0..=distric_model::limits::WORKFLOW_TASKS_MAX)
        .map(|n| format!("  - {{ id: t{n}, type: log, config: {{ message: m }} }}\n"))
        .collect();
    refuse(
        &format!("workflow:\n  id: w\n  tasks:\n{many}"),
        &["f.yaml:1028:5: workflow.tasks[1024]: the workflow has more tasks than WORKFLOW_TASKS_MAX (expected at most 1024)"],
    );
}

#[test]
fn what_this_version_cannot_do_is_said_and_not_ignored() {
    refuse(
        "workflow:
  id: w
  output_schema: {}
  ordering_key: a
  on_failure: fail
  tasks:
    - { id: a, type: shell, for_each: {}, config: { script: 'true' } }
    - { id: b, type: log, config: { message: m }, retry: { max_attempts: 2, retry_on: [connect_failed] } }
    - { id: c, type: log, config: { message: m }, placement: { strategy: affinity, affinity_key: k } }
    - { id: d, type: http, config: { url: 'http://x', tls: {} } }
",
        &[
            "f.yaml:3:3: workflow.output_schema: `output_schema` is not supported by this version",
            "f.yaml:4:3: workflow.ordering_key: `ordering_key` is not supported by this version",
            "f.yaml:7:29: workflow.tasks[0].for_each: `for_each` is not supported by this version",
            "f.yaml:9:74: workflow.tasks[2].placement.strategy: the strategy `affinity` is not supported by this version (expected least_loaded or round_robin or power_of_two or random or locality or custom or cluster)",
            "f.yaml:10:55: workflow.tasks[3].config.tls: `tls` is not supported by this version",
        ],
    );
    refuse_tasks(
        &["{ id: a, type: wait, config: { duration: 1s }, retry: 2, timeout: 5 }"],
        &[
            "f.yaml:4:54: workflow.tasks[0].retry: `retry` means nothing for a `wait`, which runs without a worker",
            "f.yaml:4:64: workflow.tasks[0].timeout: `timeout` means nothing for a `wait`, which runs without a worker",
        ],
    );
}

#[test]
fn a_compensation_is_checked_like_a_task_and_sees_the_output_of_its_own() {
    let definition = accept(
        "workflow:
  id: w
  on_failure: compensate
  tasks:
    - id: a
      type: log
      config: { message: m }
      compensate: { type: http, timeout: 5s, retry: 2, config: { url: 'http://x/${tasks.a.output.id}' }, idempotency_key: 'undo-${instance.id}' }
    - { id: b, type: log, depends_on: [a], config: { message: m }, compensate: { type: publish, config: { event_type: e, payload: '${tasks.a.output}' } } }
",
    );
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    let expanded = definition.with_compensations();
    let ids: Vec<&str> = expanded.tasks.iter().map(|task| &*task.id).collect();
    assert_eq!(ids, ["a", "b", "a:compensate", "b:compensate"]);
    assert_eq!((expanded.tasks[3].depends_on.as_slice(), expanded.tasks[1].dependents.len()), (&[1][..], 0));
    refuse(
        "workflow:
  id: w
  on_failure: compensate
  tasks:
    - { id: a, type: log, config: { message: m }, compensate: { type: wait, when: true, config: { duration: 1s } } }
    - { id: b, type: log, config: { message: m }, compensate: { type: log, config: { message: '${tasks.a.output}' } } }
    - { id: c, type: log, config: { message: m }, compensate: { type: htp } }
",
        &[
            "f.yaml:5:71: workflow.tasks[0].compensate.type: a `wait` undoes nothing (expected a type that does something)",
            "f.yaml:5:77: workflow.tasks[0].compensate.when: unknown key `when` (expected one of type, config, input, timeout, retry, priority, placement, resources, idempotency_key)",
            "f.yaml:6:95: workflow.tasks[1].compensate.config.message: `b` does not depend on `a`, so `a` may not have run, at column 3 of the text",
            "f.yaml:7:71: workflow.tasks[2].compensate.type: there is no task type `htp`, did you mean `http`? (expected one of transform, log, http, webhook, sql, exec, shell, wait, wait_for_signal, branch, fail, publish, aggregate, for_each, while, sub_workflow)",
        ],
    );
    refuse(
        "workflow: { id: w, on_failure: compensate, tasks: [{ id: a, type: log, config: { message: m } }] }",
        &["f.yaml:1:32: workflow.on_failure: no task has a `compensate` (expected at least one task that says how it is undone)"],
    );
    refuse_tasks(
        &["{ id: a, type: log, config: { message: m }, compensate: { type: log, config: { message: m } } }"],
        &["f.yaml:4:63: workflow.tasks[0].compensate: the compensation never runs: the workflow has no `on_failure: compensate`"],
    );
}

#[test]
fn a_wait_for_a_signal_has_a_name_and_may_have_a_key_and_a_limit() {
    let definition = accept(
        "workflow: { id: w, tasks: [{ id: a, type: wait_for_signal, config: { name: paid, key: '${input.order}', timeout: 90 } }] }",
    );
    assert_eq!(definition.tasks[0].config, json!({ "name": "paid", "key": "${input.order}", "timeout": "90s" }));
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    definition.compile().unwrap();
    refuse_tasks(
        &["{ id: a, type: wait_for_signal, config: { key: 5, timeout: 0, ttl: 1 }, timeout: 5 }"],
        &[
            "f.yaml:4:47: workflow.tasks[0].config: `name` is missing",
            "f.yaml:4:54: workflow.tasks[0].config.key: found a number (expected a string)",
            "f.yaml:4:66: workflow.tasks[0].config.timeout: the duration is too short (expected at least 1ms)",
            "f.yaml:4:69: workflow.tasks[0].config.ttl: unknown key `ttl` (expected one of name, key, timeout)",
            "f.yaml:4:79: workflow.tasks[0].timeout: `timeout` means nothing for a `wait_for_signal`, which runs without a worker",
        ],
    );
}

#[test]
fn expressions_about_workers_are_checked() {
    let placed = accept(
        "workflow: { id: w, placement: { where: 'worker.slots > 2' }, tasks: [{ id: a, type: log, config: { message: m } }, \
         { id: b, type: log, config: { message: m }, placement: { where: '${worker.labels.gpu == \"yes\"}', prefer: worker.free } }] }",
    );
    let placement = |index: usize| &placed.tasks[index].placement;
    assert_eq!((placement(0).condition.as_deref(), placement(0).strategy), (Some("worker.slots > 2"), Strategy::Cluster));
    assert_eq!(placement(1).condition.as_deref(), Some("worker.labels.gpu == \"yes\""));
    assert_eq!((placement(1).prefer.as_deref(), placement(1).strategy), (Some("worker.free"), Strategy::Custom));
    assert_eq!(Definition::from_json(&placed.to_json()).unwrap(), placed);
    let task = |placement: &str| format!("{{ id: t, type: log, config: {{ message: m }}, placement: {{ {placement} }} }}");
    let check = |placement: &str| {
        let text = format!("workflow: {{ id: w, tasks: [{}] }}", task(placement));
        let checked = check_workflows("f", &text, &KnownTypes::builtin());
        checked.problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
    };
    for (placement, expected) in [
        (
            "where: 'worker.free > 1'",
            "`where` does not see `free`, which changes while a task waits; `prefer` does, at column 1 of the text",
        ),
        ("where: 'worker.label.a'", "a worker has no `label`, did you mean `labels`?, at column 1 of the text"),
        ("where: 'input.a == 1'", "there is no `input` here: `where` sees `worker` alone, at column 1 of the text"),
        ("where: 'worker'", "`worker` is followed by one of id, name, labels, slots, prefetch, cpu, memory, at column 1 of the text"),
        ("prefer: '1 +'", "expected a value, found the end, at column 4 of the text"),
        ("strategy: custom", "the strategy `custom` chooses by `prefer`, which is missing"),
        ("strategy: round_robin, prefer: worker.free", "`prefer` is the strategy `custom`, but another one is asked for"),
    ] {
        assert_eq!(check(placement), expected, "{placement}");
    }
}

#[test]
fn task_types_are_known() {
    refuse_tasks(
        &["{ id: a, type: htp }", "{ id: b, type: payment_validator }"],
        &[
            "f.yaml:4:22: workflow.tasks[0].type: there is no task type `htp`, did you mean `http`? (expected one of transform, log, http, webhook, sql, exec, shell, wait, wait_for_signal, branch, fail, publish, aggregate, for_each, while, sub_workflow)",
            "f.yaml:5:22: workflow.tasks[1].type: there is no task type `payment_validator` (expected one of transform, log, http, webhook, sql, exec, shell, wait, wait_for_signal, branch, fail, publish, aggregate, for_each, while, sub_workflow)",
        ],
    );
    let text = "workflow: { id: w, tasks: [{ id: a, type: payment_validator, config: { threshold: '${params.max}', any: [1] } }] }";
    let custom = KnownTypes { custom: BTreeSet::from(["payment_validator".to_owned()]), any_custom: false };
    assert!(check_workflows("f", text, &custom).is_ok());
    assert!(check_workflows("f", text, &KnownTypes::any()).is_ok());
    let near = check_workflows("f", &text.replace("payment_validator", "payment_validater"), &custom);
    assert_eq!(near.problems[0].message, "there is no task type `payment_validater`, did you mean `payment_validator`?");
}

#[test]
fn dependencies_are_known_once_and_without_cycles() {
    refuse_tasks(
        &[
            "{ id: check, type: log, config: { message: m } }",
            "{ id: check, type: log, config: { message: m } }",
            "{ id: b, type: log, depends_on: [chek, check, check, 5], config: { message: m } }",
        ],
        &[
            "f.yaml:5:13: workflow.tasks[1].id: the task id `check` is given twice, first at line 4 column 13",
            "f.yaml:6:40: workflow.tasks[2].depends_on[0]: there is no task `chek`, did you mean `check`?",
            "f.yaml:6:53: workflow.tasks[2].depends_on[2]: `check` is listed twice",
            "f.yaml:6:60: workflow.tasks[2].depends_on[3]: found a number (expected the id of a task)",
        ],
    );
    let task = |id: &str, depends_on: &str| format!("{{ id: {id}, type: log, depends_on: [{depends_on}], config: {{ message: m }} }}");
    let ring = [task("start", ""), task("c", "start, a"), task("a", "b"), task("b", "c"), task("after", "b"), task("self", "self")];
    refuse_tasks(
        &ring.each_ref().map(String::as_str),
        &[
            "f.yaml:5:47: workflow.tasks[1].depends_on[1]: the tasks wait for each other: c -> a -> b -> c (expected dependencies without a cycle)",
            "f.yaml:9:43: workflow.tasks[5].depends_on[0]: the tasks wait for each other: self -> self (expected dependencies without a cycle)",
        ],
    );
}

#[test]
fn the_order_puts_every_task_after_what_it_depends_on() {
    let task = |id: usize, depends_on: &str| format!("{{ id: t{id}, type: log, depends_on: [{depends_on}], config: {{ message: m }} }}");
    let tasks = [task(0, "t4"), task(1, ""), task(2, "t1, t0"), task(3, "t1"), task(4, "")];
    let definition = accept(&format!("workflow: {{ id: w, tasks: [{}] }}", tasks.join(", ")));
    assert_eq!(definition.order, [1, 3, 4, 0, 2]);
    assert_eq!(definition.tasks[1].dependents, [2, 3]);
}

#[test]
fn expressions_say_line_column_and_what_is_wrong() {
    refuse(
        "workflow:
  id: w
  tasks:
    - id: a
      type: log
      when: input.x >
      config:
        message: 'a ${input.y +} b'
    - id: b
      type: http
      idempotency_key: k-${attempt}
      config:
        url: http://${input.host
        body: { list: [1, '${frob(1)}'], 'k${x}': 1 }
    - id: c
      type: branch
      config:
        cases:
          - { when: '1 +', name: x }
          - { when: ' ${1 + + } ', name: y }
        default: z
    - id: d
      type: transform
      config: { expr: \"1\\n+ *\" }
",
        &[
            "f.yaml:6:13: workflow.tasks[0].when: expected a value, found the end, at column 10 of the text",
            "f.yaml:8:18: workflow.tasks[0].config.message: expected a value, found the end, at column 14 of the text",
            "f.yaml:11:24: workflow.tasks[1].idempotency_key: `attempt` cannot be used here: this is evaluated once for all attempts, at column 5 of the text",
            "f.yaml:13:14: workflow.tasks[1].config.url: `${` has no closing `}`, at column 8 of the text",
            "f.yaml:14:27: workflow.tasks[1].config.body.list[1]: there is no function `frob`, only all, bool, contains, default, double, endsWith, exists, exists_one, filter, has, int, map, matches, max, min, size, startsWith, string, uint, at column 3 of the text",
            "f.yaml:14:42: workflow.tasks[1].config.body[\"k${x}\"]: a key cannot hold an expression",
            "f.yaml:19:21: workflow.tasks[2].config.cases[0].when: expected a value, found the end, at column 4 of the text",
            "f.yaml:20:21: workflow.tasks[2].config.cases[1].when: expected a value, found `+`, at column 8 of the text",
            "f.yaml:24:23: workflow.tasks[3].config.expr: expected a value, found `*`, at line 2, column 3 of the text",
        ],
    );
}

#[test]
fn names_are_there_when_the_expression_runs() {
    refuse_tasks(
        &[
            "{ id: first-one, type: log, config: { message: m } }",
            "{ id: way, type: branch, depends_on: [first-one], config: { cases: [{ when: inptu.x, name: a }] } }",
            "{ id: b, type: log, depends_on: [way], when: tasks.other.status == 'failed', config: { message: '${tasks.wya.output} ${tasks.first.output}' } }",
            "{ id: other, type: log, when: attempt > 1, config: { message: '${tasks} ${tasks.other.output} ${message.sender} ${workflow.name}' } }",
            "{ id: c, type: log, depends_on: [way], when: tasks.way.output == 'a', config: { message: \"${tasks['first-one'].result} ${tasks.way.output.brunch}\" } }",
            "{ id: d, type: log, depends_on: [way], config: { message: \"${tasks['first-one'].output.x} ${tasks.way.output.branch} ${tasks.way.status} ${tasks.b.output} ${tasks.b.output}\" } }",
        ],
        &[
            "f.yaml:5:83: workflow.tasks[1].config.cases[0].when: there is no `inptu` here, did you mean `input`?, at column 1 of the text (expected one of input, params, message, tasks, instance, workflow, task, attempt)",
            "f.yaml:6:52: workflow.tasks[2].when: `b` does not depend on `other`, so `other` may not have run, at column 1 of the text",
            "f.yaml:6:103: workflow.tasks[2].config.message: there is no task `wya`, did you mean `way`?, at column 3 of the text",
            "f.yaml:6:103: workflow.tasks[2].config.message: there is no task `first`; `first-one` is written tasks[\"first-one\"], at column 23 of the text",
            "f.yaml:7:37: workflow.tasks[3].when: `attempt` cannot be used here: this is evaluated once for all attempts, at column 1 of the text",
            "f.yaml:7:69: workflow.tasks[3].config.message: `tasks` is followed by the id of a task, as in tasks.check.output, at column 3 of the text",
            "f.yaml:7:69: workflow.tasks[3].config.message: `other` is this task, which has not run yet, at column 12 of the text",
            "f.yaml:7:69: workflow.tasks[3].config.message: `message` has no `sender`, only id, event_type, source, headers, timestamp, at column 34 of the text",
            "f.yaml:7:69: workflow.tasks[3].config.message: `workflow` has no `name`, only id, version, at column 52 of the text",
            "f.yaml:8:52: workflow.tasks[4].when: the output of a branch is a map: tasks.way.output.branch is the name, at column 1 of the text",
            "f.yaml:8:96: workflow.tasks[4].config.message: a task has no `result`, only output, status, error, at column 3 of the text",
            "f.yaml:8:96: workflow.tasks[4].config.message: the output of a branch is a map: tasks.way.output.branch is the name, at column 32 of the text",
            "f.yaml:9:65: workflow.tasks[5].config.message: `d` does not depend on `b`, so `b` may not have run, at column 81 of the text",
        ],
    );
}

#[test]
fn a_transform_sees_the_members_of_its_input() {
    refuse_tasks(
        &[
            "{ id: a, type: log, config: { message: m } }",
            "{ id: b, type: log, depends_on: [a], config: { message: m } }",
            "{ id: c, type: transform, input: { amount: '${input.x}' }, config: { set: { x: amunt * 2, y: input.amount, z: params.a } } }",
            "{ id: d, type: transform, depends_on: [b], config: { set: { x: amount, y: tasks.a.output, z: tasks.b.error, w: tasks.b.output, v: input.v } } }",
            "{ id: e, type: transform, input: '${input}', config: { expr: anything.at.all } }",
        ],
        &[
            "f.yaml:6:86: workflow.tasks[2].config.set.x: the task's input has no `amunt`, did you mean `amount`?, at column 1 of the text (expected one of amount, input)",
            "f.yaml:6:117: workflow.tasks[2].config.set.z: the task's input has no `params`, at column 1 of the text (expected one of amount, input)",
            "f.yaml:7:70: workflow.tasks[3].config.set.x: the task's input has no `amount`, at column 1 of the text (expected one of input, params, tasks)",
            "f.yaml:7:81: workflow.tasks[3].config.set.y: `tasks.a.output` is not in the task's input: without `input` it holds output and status of direct dependencies, at column 1 of the text",
            "f.yaml:7:100: workflow.tasks[3].config.set.z: `tasks.b.error` is not in the task's input: without `input` it holds output and status of direct dependencies, at column 1 of the text",
        ],
    );
}

#[test]
fn a_wait_is_over_after_its_duration_or_at_its_instant() {
    let input = json!({"s": 1.5, "text": "2m", "at": "2030-01-31T12:00:00+01:00", "bad": [1], "past": "1969-01-01T00:00:00Z"});
    let now = Timestamp::from_us(1_000_000);
    let due = |config: serde_json::Value| {
        let text = json!({"id": "w", "tasks": [{"id": "a", "type": "wait", "config": config}]});
        let compiled = Definition::from_json(&text).unwrap().compile().unwrap();
        let Work::Wait(wait) = &compiled.tasks[0].work else { panic!("not a wait") };
        let names = names_over(&input);
        wait.due(now, &names.scope(), &mut Budget::default()).map(Timestamp::as_us).map_err(|error| error.message)
    };
    assert_eq!(due(json!({"duration": "250ms"})), Ok(1_250_000));
    assert_eq!(due(json!({"for": "${input.s}"})), Ok(2_500_000));
    assert_eq!(due(json!({"duration": "${input.text}"})), Ok(121_000_000));
    assert_eq!(due(json!({"until": "${input.at}"})), Ok(1_896_087_600_000_000));
    assert_eq!(due(json!({"until": "${input.past}"})), Ok(now.as_us()));
    assert_eq!(due(json!({"duration": "${input.bad}"})), Err("duration: found a list".to_owned()));
    assert_eq!(due(json!({"until": "${input.text}"})), Err("until: the value is no RFC 3339 instant".to_owned()));
    assert_eq!(due(json!({"until": "${input.gone}"})), Err("`input` has no field `gone`".to_owned()));
}

fn names_over(input: &serde_json::Value) -> RunNames<'_> {
    static PARAMS: Value = Value::Null;
    RunNames {
        input,
        params: &PARAMS,
        message: None,
        tasks: vec![
            ("a", TaskNames { output: Some(input), status: "completed", error: None }),
            ("b", TaskNames { output: None, status: "failed", error: Some(("timeout", "too slow")) }),
        ],
        instance_id: "i",
        workflow_id: "w",
        workflow_version: 2,
        task_id: "t",
        attempt: 1,
        loops: Vec::new(),
    }
}

#[test]
fn expressions_see_every_name_of_the_table() {
    let input = json!({"x": 1});
    let mut names = names_over(&input);
    let headers = [("k".to_owned(), "v".to_owned())];
    names.message =
        Some(MessageNames { id: "m", event_type: Some("e"), source: None, headers: &headers, timestamp: Some("2030-01-31T12:00:00Z") });
    let template = json!([
        "${input.x}",
        "${params}",
        "${message.id}",
        "${message.event_type}",
        "${message.headers.k}",
        "${default(message.source, 'none')}",
        "${message.timestamp}",
        "${tasks.a.output.x}",
        "${tasks.b.status}",
        "${tasks.b.error.code}",
        "${default(tasks.b.output.x, 0)}",
        "${tasks.a.error}",
        "${instance.id}",
        "${workflow.id}/${workflow.version}",
        "${task.id}",
        "${attempt}",
    ]);
    let rendered = distric_rules::expr::Template::compile(&template).unwrap().render(&names.scope(), &mut Budget::default()).unwrap();
    let expected = json!([1, null, "m", "e", "v", "none", "2030-01-31T12:00:00Z", 1, "failed", "timeout", 0, null, "i", "w/2", "t", 1]);
    assert_eq!(rendered, expected);
    assert_eq!(
        names.default_input(&["b"]),
        json!({"input": {"x": 1}, "params": null, "tasks": {"b": {"output": null, "status": "failed"}}})
    );
}

#[test]
fn bodies_are_read_written_and_see_what_is_around_them() {
    let text = "workflow:
  id: w
  on_failure: { workflow: help }
  output: { all: '${tasks.each.output}' }
  tasks:
    - { id: load, type: log, config: { message: m } }
    - id: each
      type: for_each
      depends_on: [load]
      timeout: 5m
      retry: 1
      config:
        items: ${tasks.load.output}
        max_parallel: 4
        on_item_failure: finish
        item_timeout: 30s
        output: ${tasks.say.output}
        tasks:
          - { id: say, type: log, config: { message: '${item.name} ${index} ${input.x} ${tasks.load.status}' } }
          - { id: more, type: while, depends_on: [say], config: { condition: '${state < index}', initial: 0, workflow: other }, input: '${state + 1}' }
    - { id: call, type: sub_workflow, config: { workflow: other }, input: { a: '${tasks.each.output[0]}' }, depends_on: [each] }
";
    let definition = accept(text);
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    assert_eq!((definition.handler.as_deref(), definition.tasks_count()), (Some("help"), 5));
    let each = &definition.tasks[1];
    assert_eq!((each.timeout_ms, definition.tasks[2].timeout_ms), (300_000, 0), "a body has a limit only when it says so");
    let Some(Body::Tasks(body)) = each.body.as_deref() else { panic!() };
    assert_eq!(body.tasks[1].config["condition"], "state < index");
    assert!(definition.with_compensations().compile().is_ok());
}

#[test]
fn what_is_wrong_with_a_body_is_said_at_its_place() {
    refuse_tasks(
        &[
            "{ id: a, type: for_each, config: { items: 5, max_parallel: 1000, tasks: [{ id: b, type: log, config: { message: '${itm}' } }] } }",
            "{ id: c, type: for_each, config: { items: [1], workflow: w2, tasks: [] } }",
            "{ id: d, type: while, config: { condition: 'stat > 1', max_iterations: 0, workflow: w2 } }",
            "{ id: e, type: sub_workflow, config: {} }",
            "{ id: f, type: log, config: { message: '${item}' } }",
            "{ id: g, type: for_each, config: { items: [1], tasks: [{ id: f, type: log, config: { message: '${tasks.a.output}' } }] } }",
            "{ id: h, type: sub_workflow, config: { workflow: w2 }, priority: 3 }",
            "{ id: i, type: for_each, config: { items: [1], tasks: [{ id: x, type: log, depends_on: [y], config: { message: m } }, { id: y, type: log, depends_on: [x], config: { message: m } }] } }",
        ],
        &[
            "f.yaml:4:49: workflow.tasks[0].config.items: the items are a number (expected a list, or ${an expression} that gives one)",
            "f.yaml:4:66: workflow.tasks[0].config.max_parallel: found 1000 (expected a whole number from 1 to 256)",
            "f.yaml:4:119: workflow.tasks[0].config.tasks[0].config.message: there is no `itm` here, did you mean `item`?, at column 3 of the text (expected one of input, params, message, tasks, instance, workflow, task, attempt, item, index)",
            "f.yaml:5:64: workflow.tasks[1].config.workflow: a body is `tasks` or a `workflow`, not both",
            "f.yaml:6:50: workflow.tasks[2].config.condition: there is no `stat` here, did you mean `state`?, at column 1 of the text (expected one of input, params, message, tasks, instance, workflow, task, attempt, state, iteration)",
            "f.yaml:6:78: workflow.tasks[2].config.max_iterations: found 0 (expected a whole number from 1 to 10000)",
            "f.yaml:7:44: workflow.tasks[3].config: the sub_workflow does not say what it runs (expected the id of a `workflow`)",
            "f.yaml:8:46: workflow.tasks[4].config.message: `item` is only there inside a `for_each`, at column 3 of the text (expected one of input, params, message, tasks, instance, workflow, task, attempt)",
            "f.yaml:9:68: workflow.tasks[5].config.tasks[0].id: the task id `f` is given outside this body as well",
            "f.yaml:9:101: workflow.tasks[5].config.tasks[0].config.message: `g` does not depend on `a`, so `a` may not have run, at column 3 of the text",
            "f.yaml:10:62: workflow.tasks[6].priority: `priority` means nothing for a `sub_workflow`, which runs without a worker",
            "f.yaml:11:95: workflow.tasks[7].config.tasks[0].depends_on[0]: the tasks wait for each other: x -> y -> x (expected dependencies without a cycle)",
        ],
    );
    refuse(
        "workflows:\n  - { id: a, tasks: [{ id: t, type: sub_workflow, config: { workflow: b } }] }\n  - { id: b, tasks: [{ id: t, type: sub_workflow, config: { workflow: a } }] }\n",
        &["f.yaml:3:71: tasks[0].config.workflow: the workflows call each other: a -> b -> a"],
    );
    let mut deep = json!([{ "id": "t9", "type": "log", "config": { "message": "m" } }]);
    for n in 0..4 {
        deep = json!([{ "id": format!("t{n}"), "type": "for_each", "config": { "items": [1], "tasks": deep } }]);
    }
    let checked = check_workflows("f.json", &json!({ "id": "w", "tasks": deep }).to_string(), &KnownTypes::builtin());
    assert_eq!(checked.problems[0].message, "bodies stand in bodies deeper than BODY_DEPTH_MAX, 3");
}

#[test]
fn canonical_json_of_another_version_is_read_without_judging_its_expressions() {
    let text = json!({"id": "w", "tasks": [{"id": "a", "type": "newer_type", "when": "unknown.name", "config": {"any": "${thing}"}}]});
    let definition = Definition::from_json(&text).unwrap();
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    assert!(definition.compile().is_ok());
    let bad = json!({"id": "w", "tasks": [{"id": "a", "type": "log", "config": {"message": "${1 +}"}}]});
    let error = Definition::from_json(&bad).unwrap().compile().unwrap_err();
    assert_eq!(error.to_string(), "task `a`: config: message: expected a value, found the end");
    let shape = Definition::from_json(&json!({"id": "w", "tasks": [{"id": "a", "type": "log", "depends_on": ["gone"]}]})).unwrap_err();
    assert_eq!(shape[0].to_string(), "definition: tasks[0].depends_on[0]: there is no task `gone`");
    assert!(Definition::from_json(&json!(5)).is_err());
}

#[test]
fn the_largest_dense_graph_is_checked_in_a_moment() {
    let tasks: Vec<_> = (0..distric_model::limits::WORKFLOW_TASKS_MAX)
        .map(|n| {
            json!({"id": format!("t{n}"), "type": "log", "depends_on": (0..n).map(|m| format!("t{m}")).collect::<Vec<_>>(),
            "config": {"message": if n > 0 { "${tasks.t0.output}" } else { "m" }}})
        })
        .collect();
    let text = json!({"id": "w", "tasks": tasks}).to_string();
    let checked = check_workflows("f.json", &text, &KnownTypes::builtin());
    assert!(checked.is_ok(), "{:?}", checked.problems.first());
    assert_eq!(checked.definitions[0].order.len(), distric_model::limits::WORKFLOW_TASKS_MAX);
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[a-z:\\- \n{}\\[\\]'$,.]{0,120}") {
        check_workflows("f.yaml", &text, &KnownTypes::any());
        let wrapped = format!("workflow:\n  id: w\n  tasks:\n    - id: a\n      type: transform\n      when: |\n        {}\n", text.replace('\n', "\n        "));
        check_workflows("f.yaml", &wrapped, &KnownTypes::any());
    }
}

#[test]
fn every_example_is_accepted() {
    let text = include_str!("../../../../examples/payments/workflows.yaml");
    let checked = check_workflows("workflows.yaml", text, &KnownTypes::builtin());
    let problems: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0]);
}

#[test]
fn admission_is_read_in_the_order_in_which_it_is_passed_and_written_back() {
    let text = "workflow:
  id: w
  rate_limit: { key: '${input.t}', limit: 3, per: 1m, when_full: drop_newest }
  concurrency: { key: '${params.k}-${message.headers.h}', limit: 2 }
  debounce: { wait: 5s }
  fairness: { key: '${input.t}', weight: '${input.w}' }
  tasks: [{ id: a, type: log, config: { message: m } }]
";
    let definition = accept(text);
    let names: Vec<&str> = definition.admission.gates.iter().map(|gate| gate.rule.name()).collect();
    assert_eq!(names, ["debounce", "concurrency", "rate_limit"]);
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    let json = definition.to_json();
    assert_eq!(json["rate_limit"], json!({ "key": "${input.t}", "limit": 3, "per": "1m", "burst": 3, "when_full": "drop_newest" }));
    assert!(definition.compile().is_ok());
    let single = accept("workflow:\n  id: w\n  singleton: true\n  tasks: [{ id: a, type: log, config: { message: m } }]\n");
    assert_eq!(single.to_json()["concurrency"], json!({ "limit": 1, "when_full": "drop_newest" }));
}

#[test]
fn bad_admission_is_refused_at_its_place() {
    refuse(
        "workflow:
  id: w
  concurrency: { key: '${tasks.a.output}', limit: 0, when_ful: queue }
  singleton: true
  rate_limit: { key: '${input.}', limit: 3, when_full: cancel_oldest }
  debounce: { wait: 5s, max_wait: 1s }
  batch: { max_items: 2, max_wait: 1s }
  fairness: { weight: 5000 }
  tasks: [{ id: a, type: log, config: { message: m } }]
",
        &[
            "f.yaml:3:23: workflow.concurrency.key: `tasks` cannot be used here: this is evaluated before the workflow begins, at column 3 of the text",
            "f.yaml:3:51: workflow.concurrency.limit: found 0 (expected a whole number from 1 to 1000000)",
            "f.yaml:3:54: workflow.concurrency.when_ful: unknown key `when_ful`, did you mean `when_full`? (expected one of key, limit, when_full)",
            "f.yaml:4:14: workflow.singleton: `singleton` is a `concurrency` with the limit 1: say one of them",
            "f.yaml:5:15: workflow.rate_limit: `per` is missing",
            "f.yaml:5:22: workflow.rate_limit.key: expected a field name, found the end, at column 9 of the text",
            "f.yaml:5:56: workflow.rate_limit.when_full: unknown word `cancel_oldest` (expected one of queue, drop_newest)",
            "f.yaml:6:35: workflow.debounce.max_wait: `max_wait` is shorter than `wait`",
            "f.yaml:7:10: workflow.batch: a workflow has `debounce` or `batch`, not both",
            "f.yaml:8:13: workflow.fairness: `key` is missing",
        ],
    );
}

#[test]
fn schedules_are_read_and_written_back() {
    let text = "workflow:
  id: w
  schedule:
    - { cron: '0 6 * * mon', timezone: '+02:00', input: { kind: weekly } }
    - { cron: '*/5 * * * *', missed: skip }
  tasks: [{ id: a, type: log, config: { message: '${input.scheduled_at}' } }]
";
    let definition = accept(text);
    assert_eq!(definition.schedules.len(), 2);
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), definition);
    assert_eq!(
        definition.to_json()["schedule"][0],
        json!({ "cron": "0 6 * * mon", "timezone": "+02:00", "missed": "once", "input": { "kind": "weekly" } })
    );
    refuse(
        "workflow:
  id: w
  schedule: { cron: '61 * * * *', timezone: Europe/Berlin, missed: never }
  tasks: [{ id: a, type: log, config: { message: m } }]
",
        &[
            "f.yaml:3:21: workflow.schedule.cron: minute: `61` is not within 0 and 59 (expected five fields such as `*/15 9-17 * * mon-fri`)",
            "f.yaml:3:45: workflow.schedule.timezone: not an offset from UTC (the rules of named zones change, and all replicas must agree) (expected UTC, or an offset such as +02:00)",
            "f.yaml:3:68: workflow.schedule.missed: unknown word `never` (expected one of once, skip, all)",
        ],
    );
}
