//! What is said about the settings of each type of task.

use super::*;

#[test]
fn an_aggregate_is_checked() {
    accept(
        "workflow: { id: w, tasks: [{ id: a, type: aggregate, config: { items: '${input.rows}', group_by: [zone, at.day], measures: { n: count, s: { sum: . } } } }] }",
    );
    refuse_tasks(
        &[
            "{ id: a, type: aggregate, config: { items: rows, measures: { n: counts, s: { sum: 5 }, m: { median: a }, b: { min: a, max: a } } } }",
            "{ id: b, type: aggregate, config: { items: [1], group_by: [a, 'b..c'], measures: { group: count, x: { avg: '${input.a}' } } } }",
            "{ id: c, type: aggregate, config: { items: '${inputs.x}', group_by: [], measures: {} } }",
            "{ id: d, type: aggregate, timeout: 5, config: { item: [1], measures: count } }",
        ],
        &[
            "f.yaml:4:50: workflow.tasks[0].config.items: the items are a string (expected a list, or ${an expression} that gives one)",
            "f.yaml:4:71: workflow.tasks[0].config.measures.n: there is no `counts`, did you mean `count`? (expected `count`, or one of count, sum, min, max, avg with its field)",
            "f.yaml:4:89: workflow.tasks[0].config.measures.s.sum: found a number (expected a field such as `price` or `order.total`, or `.` for the item)",
            "f.yaml:4:99: workflow.tasks[0].config.measures.m.median: unknown key `median` (expected one of count, sum, min, max, avg)",
            "f.yaml:4:115: workflow.tasks[0].config.measures.b: a measure is one operator with its field",
            "f.yaml:5:69: workflow.tasks[1].config.group_by[1]: not a field (expected a field such as `price` or `order.total`, or `.` for the item)",
            "f.yaml:5:90: workflow.tasks[1].config.measures.group: `group` is the member that says which group it is",
            "f.yaml:5:114: workflow.tasks[1].config.measures.x.avg: not a field (expected a field such as `price` or `order.total`, or `.` for the item)",
            "f.yaml:6:50: workflow.tasks[2].config.items: there is no `inputs` here, did you mean `input`?, at column 3 of the text (expected one of input, params, message, tasks, instance, workflow, task, attempt)",
            "f.yaml:6:75: workflow.tasks[2].config.group_by: 0 fields are not 1 to 8",
            "f.yaml:6:89: workflow.tasks[2].config.measures: 0 measures are not 1 to 32",
            "f.yaml:7:33: workflow.tasks[3].timeout: `timeout` means nothing for a `aggregate`, which runs without a worker",
            "f.yaml:7:53: workflow.tasks[3].config: `items` is missing",
            "f.yaml:7:55: workflow.tasks[3].config.item: unknown key `item`, did you mean `items`? (expected one of items, group_by, measures)",
            "f.yaml:7:76: workflow.tasks[3].config.measures: found a string (expected a map)",
        ],
    );
}

/// What is said about the config of one task of this type.
#[track_caller]
fn refuse_config(task_type: &str, config: &str, expected: &[&str]) {
    let text = format!("workflow: {{ id: w, tasks: [{{ id: a, type: {task_type}, config: {config} }}] }}");
    let problems = check_workflows("f.yaml", &text, &KnownTypes::builtin()).problems;
    let said: Vec<String> = problems
        .iter()
        .map(|problem| {
            let expected = problem.expected.as_ref().map_or(String::new(), |expected| format!(" ({expected})"));
            format!(
                "{}: {}{expected}",
                problem.path.trim_start_matches("workflow.tasks[0].config").trim_start_matches('.'),
                problem.message
            )
        })
        .collect();
    assert_eq!(said, expected, "{text}");
}

#[test]
fn configs_are_checked_by_type() {
    refuse_config("transform", "{}", &[": a transform needs `set`, names and expressions, or `expr`, one expression"]);
    refuse_config("transform", "{ set: {}, expr: '1' }", &["expr: a transform has `set` or `expr`, not both"]);
    refuse_config("transform", "{ set: [1] }", &["set: found a list (a map)"]);
    refuse_config("transform", "{ expr: 5 }", &["expr: found a number (a string)"]);
    refuse_config(
        "log",
        "{ level: loud }",
        &[": `message` is missing", "level: unknown word `loud` (one of trace, debug, info, warn, error)"],
    );
    refuse_config("log", "text", &[": found a string (a map)"]);
    refuse_config(
        "http",
        "{ url: ftp://x, method: fetch, mehtod: x }",
        &[
            "url: not an address that a task may call (http://… or https://…)",
            "method: unknown word `fetch` (one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS)",
            "mehtod: unknown key `mehtod`, did you mean `method`? (one of method, url, headers, body, expect_status, timeout)",
        ],
    );
    refuse_config(
        "http",
        "{ url: 'http://x', expect_status: [200, 2xx, 6xx, 99], timeout: 2h, headers: { Host: x, 'a b': y, ok: [1] } }",
        &[
            "expect_status[2]: not a status (a status such as 200, a class such as 2xx, or a list of them)",
            "expect_status[3]: not a status (a status such as 200, a class such as 2xx, or a list of them)",
            "timeout: the duration is too long (at most 1h)",
            "headers.Host: the header `Host` is set by the connection",
            "headers[\"a b\"]: not the name of a header",
            "headers.ok: found a list (text, a number or a boolean)",
        ],
    );
    refuse_config(
        "sql",
        "{ connection: main, query: 'select ${input.x}', params: 5, dedupe: maybe, rows_max: 0, timeout: 2h }",
        &[
            "query: the query is constant text ($1, $2, … in the query, and their values in `params`)",
            "params: found a number (a list)",
            "dedupe: found a string (true or false)",
            "rows_max: found 0 (a whole number from 1 to 100000)",
            "timeout: the duration is too long (at most 1h)",
        ],
    );
    refuse_config(
        "http",
        "{ url: 5, expect_status: [] }",
        &[
            "url: found a number (a string)",
            "expect_status: the list is empty (a status such as 200, a class such as 2xx, or a list of them)",
        ],
    );
    refuse_config(
        "webhook",
        "{ method: GET, secret: 5 }",
        &[
            ": `url` is missing",
            "method: unknown key `method` (one of url, body, headers, secret, expect_status, timeout)",
            "secret: found a number (a string)",
        ],
    );
    refuse_config(
        "exec",
        "{ program: /bin/rm, args: [a, [b], null], env: { 1A: x, LD_PRELOAD: x, PATH: '/', OK: {} }, expect_exit: [], permanent_exit: 256 }",
        &[
            "program: a path is not taken from a workflow (the name that the worker's configuration gives a program, such as `resize`)",
            "args[1]: found a list (text, a number or a boolean)",
            "args[2]: found null (text, a number or a boolean)",
            "env.1A: not the name of a variable (1 to 128 of a-z A-Z 0-9 _, no digit first)",
            "env.LD_PRELOAD: the variable `LD_PRELOAD` is the worker's to set",
            "env.PATH: the variable `PATH` is the worker's to set",
            "env.OK: found a map (text, a number or a boolean)",
            "expect_exit: the list is empty (an exit code from 0 to 255, or a list of them)",
            "permanent_exit: not an exit code (an exit code from 0 to 255, or a list of them)",
        ],
    );
    refuse_config(
        "exec",
        "{ program: '${input.program}', args: 5, path: /bin/rm, expect_exit: [0, 1.5, '2'] }",
        &[
            "program: the name of a program is constant text (the name that the worker's configuration gives a program, such as `resize`)",
            "args: found a number (a list)",
            "path: unknown key `path` (one of program, args, env, expect_exit, permanent_exit)",
            "expect_exit[1]: not an exit code (an exit code from 0 to 255, or a list of them)",
            "expect_exit[2]: not an exit code (an exit code from 0 to 255, or a list of them)",
        ],
    );
    refuse_config(
        "shell",
        "{ script: 'rm -r ${input.dir}', program: x }",
        &[
            "script: a script is constant text: a value in it would be taken for commands (`env: { NAME: \"${…}\" }` and \"$NAME\" without braces in the script, or the input as JSON on stdin)",
            "program: unknown key `program` (one of script, env, expect_exit, permanent_exit)",
        ],
    );
    refuse_config("shell", "{ script: ' ' }", &["script: the script is empty (commands of a shell)"]);
    refuse_tasks(&["{ id: a, type: shell }"], &["f.yaml:4:7: workflow.tasks[0]: `config` is missing"]);
    accept(
        "workflow:
  id: w
  tasks:
    - id: a
      type: exec
      config: { program: resize, args: ['-w', 640, '${input.file}'], env: { LANG: C, SIZE: '${input.size}' }, expect_exit: [0, 3], permanent_exit: 2 }
    - { id: b, type: shell, config: { script: 'cat; echo \"$WHO\"', env: { WHO: '${input.who}' }, expect_exit: 0 } }
",
    );
    refuse_config("wait", "{}", &[": a wait needs `duration` or `until`"]);
    refuse_config("wait", "{ duration: 5, until: '2030-01-01T00:00:00Z' }", &["until: a wait has `duration` or `until`, not both"]);
    refuse_config("wait", "{ duration: 5, for: 6 }", &["for: `duration` and `for` are two names of one thing (one of them)"]);
    refuse_config(
        "wait",
        "{ duration: long }",
        &["duration: \"long\" is not a duration (a duration such as 5, 5.5 (seconds), 250ms, 10s, 2m, 1h)"],
    );
    refuse_config("wait", "{ until: tomorrow }", &["until: not an instant (an RFC 3339 instant such as 2030-01-31T12:00:00Z)"]);
    refuse_config("branch", "{ default: '${input.x}' }", &[": `cases` is missing", "default: the name of a branch is constant text"]);
    refuse_config(
        "branch",
        "{ cases: [{ name: a }, { when: 'true' }, { when: 'true', name: '' }, 5] }",
        &[
            "cases[0]: `when` is missing",
            "cases[1]: `name` is missing",
            "cases[2].name: the name of a branch is constant text",
            "cases[3]: found a number (a map)",
        ],
    );
    refuse_config("fail", "{ code: 5 }", &[": `message` is missing", "code: found a number (a string)"]);
    refuse_config(
        "publish",
        "{ event_type: x, delay: 5s }",
        &[": `payload` is missing", "delay: `delay` is not supported by this version"],
    );
    refuse_tasks(&["{ id: a, type: wait }"], &["f.yaml:4:7: workflow.tasks[0]: `config` is missing"]);
}
