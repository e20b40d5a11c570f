//! The configs of the built-in task types: which members each has, and what stands in them.
//!
//! A string that holds an expression has its value only at run time, so only constants are checked here beyond their type.

use distric_model::limits::{HEADERS_MAX, NAME_BYTES_MAX};
use distric_rules::document::{Cursor, Members, Node, NodeValue, Problems};
use distric_rules::duration::{duration_text, read_duration_ms};
use distric_rules::{did_you_mean, parse_duration_ms};
use serde_json::{Map, Value};

use super::aggregate::{Field, GROUP_FIELDS_MAX, GROUP_MEMBER, MEASURES_MAX, Operator};
use super::body::check_items;
use super::compile::{bare, parse_instant};
use super::programs::{check_args, check_env, check_exit_codes, check_program, check_script};
use super::read::known_members;

/// Most names that one `set` of a `transform` may have.
const SET_NAMES_MAX: usize = 256;
/// Most cases of one `branch`.
const CASES_MAX: usize = 256;
/// Most rows that the output of one `sql` task may have.
const SQL_ROWS_MAX: i64 = 100_000;
/// Longest time one outgoing request may be given, milliseconds.
const EXCHANGE_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
/// Headers that belong to the connection, not to the task.
const HEADERS_RESERVED: [&str; 8] = ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

const NO_KEYS: [&str; 0] = [];

/// One spelling for everything that has several: aliases, durations, `${}` around a bare expression.
pub(super) fn canonical(task_type: &str, mut config: Value) -> Value {
    let Some(members) = config.as_object_mut() else {
        return config;
    };
    match task_type {
        "wait" => rename(members, &["for"], "duration"),
        "branch" => {
            for case in members.get_mut("cases").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
                rename(case, &["goto", "value"], "name");
                if let Some(Value::String(when)) = case.get_mut("when") {
                    *when = bare(when).to_owned();
                }
            }
        }
        "http" | "webhook" | "sql" | "wait_for_signal" => {
            if let Some(timeout) = members.get_mut("timeout").filter(|timeout| !holds_expression(timeout))
                && let Ok(ms) = parse_duration_ms(&Node::from_json(timeout))
            {
                *timeout = Value::from(duration_text(ms));
            }
        }
        _ => {}
    }
    config
}

fn rename(members: &mut Map<String, Value>, aliases: &[&str], name: &str) {
    for alias in aliases {
        if !members.contains_key(name)
            && let Some(value) = members.remove(*alias)
        {
            members.insert(name.to_owned(), value);
        }
    }
}

fn holds_expression(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("${"))
}

/// Checks the config of a built-in type; other types have any config.
pub(super) fn check(task_type: &str, task: &Members<'_>, problems: &mut Problems) {
    let (known, later): (&[&str], &[&str]) = match task_type {
        "transform" => (&["set", "expr"], &NO_KEYS),
        "log" => (&["message", "level"], &NO_KEYS),
        "http" => {
            (&["method", "url", "headers", "body", "expect_status", "timeout"], &["tls", "auth", "proxy", "follow_redirects", "query"])
        }
        "webhook" => (&["url", "body", "headers", "secret", "expect_status", "timeout"], &["tls", "auth", "proxy"]),
        "sql" => (&["connection", "query", "params", "dedupe", "rows_max", "timeout"], &NO_KEYS),
        "exec" => (&["program", "args", "env", "expect_exit", "permanent_exit"], &NO_KEYS),
        "shell" => (&["script", "env", "expect_exit", "permanent_exit"], &NO_KEYS),
        "wait" => (&["duration", "for", "until"], &NO_KEYS),
        "wait_for_signal" => (&["name", "key", "timeout"], &NO_KEYS),
        "branch" => (&["cases", "default"], &NO_KEYS),
        "fail" => (&["code", "message"], &NO_KEYS),
        "aggregate" => (&["items", "group_by", "measures"], &NO_KEYS),
        "publish" => (&["event_type", "payload", "routing_key", "headers"], &["delay", "namespace"]),
        _ => return,
    };
    let Some(config) = task.required(problems, "config").and_then(|config| known_members(&config, problems, known, later)) else {
        return;
    };
    let check = Check { config, problems };
    match task_type {
        "transform" => check.transform(),
        "log" => check.log(),
        "http" | "webhook" => check.request(task_type == "http"),
        "sql" => check.sql(),
        "exec" => check.exec(),
        "shell" => check.shell(),
        "wait" => check.wait(),
        "wait_for_signal" => check.wait_for_signal(),
        "branch" => check.branch(),
        "fail" => check.fail(),
        "aggregate" => check.aggregate(),
        _ => check.publish(),
    }
}

struct Check<'a, 'p> {
    config: Members<'a>,
    problems: &'p mut Problems,
}

impl<'a> Check<'a, '_> {
    fn transform(mut self) {
        let (set, expr) = (self.config.get("set"), self.config.get("expr"));
        match (&set, &expr) {
            (Some(_), Some(expr)) => expr.error(self.problems, "a transform has `set` or `expr`, not both", None),
            (None, None) => self.error("a transform needs `set`, names and expressions, or `expr`, one expression"),
            _ => {}
        }
        if let Some(names) = set.and_then(|set| set.any_map(self.problems))
            && names.iter().count() > SET_NAMES_MAX
        {
            let message = format!("the set has more names than {SET_NAMES_MAX}");
            self.problems.error(names.at(), names.path(), message, None);
        }
        self.text(expr);
    }

    fn log(self) {
        self.config.required(self.problems, "message");
        if let Some(level) = self.constant("level") {
            level.word(self.problems, &LEVELS);
        }
    }

    fn request(mut self, has_method: bool) {
        let url = self.config.required(self.problems, "url");
        self.text(url.clone());
        if let Some((url, text)) = url.as_ref().and_then(|url| Some((url, url.node.as_str()?)))
            && !text.starts_with("${")
            && !["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
        {
            url.error(self.problems, "not an address that a task may call", Some("http://… or https://…"));
        }
        if has_method && let Some(method) = self.constant("method") {
            let is_known = method.node.as_str().is_some_and(|word| METHODS.contains(&word.to_ascii_uppercase().as_str()));
            if !is_known {
                method.word(self.problems, &METHODS);
            }
        }
        if !has_method {
            self.text(self.config.get("secret"));
        }
        self.exchange_timeout();
        self.headers();
        self.expect_status();
    }

    fn exchange_timeout(&mut self) {
        if let Some(timeout) = self.constant("timeout")
            && read_duration_ms(&timeout, self.problems, 1).is_some_and(|ms| ms > EXCHANGE_TIMEOUT_MS_MAX)
        {
            timeout.error(self.problems, "the duration is too long", Some("at most 1h"));
        }
    }

    fn sql(mut self) {
        let connection = self.config.required(self.problems, "connection");
        self.text(connection);
        let query = self.config.required(self.problems, "query");
        self.text(query.clone());
        // A value in the text of a query could become a part of its meaning.
        if let Some(query) = query.filter(is_expression) {
            query.error(self.problems, "the query is constant text", Some("$1, $2, … in the query, and their values in `params`"));
        }
        if let Some(params) = self.constant("params") {
            params.list(self.problems);
        }
        if let Some(dedupe) = self.constant("dedupe") {
            dedupe.bool(self.problems);
        }
        if let Some(rows) = self.constant("rows_max") {
            rows.integer(self.problems, 1, SQL_ROWS_MAX);
        }
        self.exchange_timeout();
    }

    fn exec(self) {
        if let Some(program) = self.config.required(self.problems, "program") {
            check_program(&program, self.problems);
        }
        if let Some(args) = self.constant("args") {
            check_args(&args, self.problems);
        }
        self.program_env_and_exit();
    }

    fn shell(self) {
        if let Some(script) = self.config.required(self.problems, "script") {
            check_script(&script, self.problems);
        }
        self.program_env_and_exit();
    }

    fn program_env_and_exit(self) {
        if let Some(env) = self.config.get("env") {
            check_env(&env, self.problems);
        }
        for name in ["expect_exit", "permanent_exit"] {
            if let Some(codes) = self.config.get(name) {
                check_exit_codes(&codes, self.problems);
            }
        }
    }

    fn expect_status(&mut self) {
        let Some(expected) = self.constant("expect_status") else {
            return;
        };
        let items = match &expected.node.value {
            NodeValue::List(items) if items.is_empty() => {
                expected.error(self.problems, "the list is empty", Some(EXPECTED_STATUS));
                return;
            }
            NodeValue::List(_) => expected.list(self.problems).unwrap_or_default(),
            _ => vec![expected],
        };
        for item in items {
            if !is_status(&item.node.value) {
                item.error(self.problems, "not a status", Some(EXPECTED_STATUS));
            }
        }
    }

    fn headers(&mut self) {
        let Some(headers) = self.config.get("headers").and_then(|headers| headers.any_map(self.problems)) else {
            return;
        };
        if headers.iter().count() > HEADERS_MAX {
            self.problems.error(headers.at(), headers.path(), format!("more headers than HEADERS_MAX, {HEADERS_MAX}"), None);
        }
        for (key, value) in headers.iter() {
            let name = key.text.as_str();
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
            if !is_name {
                self.problems.error(key.at, &value.path, "not the name of a header", None);
            } else if HEADERS_RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                self.problems.error(key.at, &value.path, format!("the header `{name}` is set by the connection"), None);
            }
            if matches!(value.node.value, NodeValue::List(_) | NodeValue::Map(_)) {
                value.error(self.problems, format!("found {}", value.node.kind()), Some("text, a number or a boolean"));
            }
        }
    }

    fn wait(mut self) {
        let duration = self.config.alias(self.problems, &["duration", "for"]).filter(|duration| !duration.node.is_null());
        let until = self.config.get("until");
        match (duration, until) {
            (Some(_), Some(until)) => until.error(self.problems, "a wait has `duration` or `until`, not both", None),
            (None, None) => self.error("a wait needs `duration` or `until`"),
            (Some(duration), None) => {
                if !is_expression(&duration) {
                    read_duration_ms(&duration, self.problems, 0);
                }
            }
            (None, Some(until)) => {
                let text = until.string_or(self.problems, EXPECTED_INSTANT);
                if text.is_some_and(|text| !text.contains("${") && parse_instant(text).is_none()) {
                    until.error(self.problems, "not an instant", Some(EXPECTED_INSTANT));
                }
            }
        }
    }

    fn wait_for_signal(mut self) {
        let name = self.config.required(self.problems, "name");
        self.text(name.clone());
        if let Some(name) = name.filter(|name| !is_expression(name))
            && name.node.as_str().is_some_and(|text| !(1..=NAME_BYTES_MAX).contains(&text.len()))
        {
            name.error(self.problems, "not the name of a signal", Some(&format!("1 to {NAME_BYTES_MAX} bytes")));
        }
        self.text(self.config.get("key"));
        if let Some(timeout) = self.constant("timeout") {
            read_duration_ms(&timeout, self.problems, 1);
        }
    }

    fn branch(mut self) {
        let cases = self.config.required(self.problems, "cases").and_then(|cases| cases.list(self.problems)).unwrap_or_default();
        if let Some(first_beyond) = cases.get(CASES_MAX) {
            first_beyond.error(self.problems, format!("the branch has more cases than {CASES_MAX}"), None);
        }
        for case in &cases {
            let Some(members) = known_members(case, self.problems, &["when", "name", "goto", "value"], &NO_KEYS) else {
                continue;
            };
            if let Some(when) = members.required(self.problems, "when") {
                when.string_or(self.problems, "an expression");
            }
            match members.alias(self.problems, &["name", "goto", "value"]) {
                Some(name) => self.branch_name(&name),
                None => self.problems.error(members.at(), members.path(), "`name` is missing", None),
            }
        }
        if let Some(default) = self.config.get("default") {
            self.branch_name(&default);
        }
    }

    fn branch_name(&mut self, name: &Cursor<'_>) {
        if name.string_or(self.problems, "the name of a branch").is_some_and(|text| text.is_empty() || text.contains("${")) {
            name.error(self.problems, "the name of a branch is constant text", None);
        }
    }

    fn fail(mut self) {
        self.text(self.config.get("code"));
        let message = self.config.required(self.problems, "message");
        self.text(message);
    }

    fn aggregate(mut self) {
        if let Some(items) = self.config.required(self.problems, "items") {
            check_items(&items, self.problems);
        }
        let group_by = self.config.get("group_by");
        let fields = match &group_by {
            Some(list) if matches!(list.node.value, NodeValue::List(_)) => list.list(self.problems).unwrap_or_default(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        if let Some(group_by) = &group_by
            && !(1..=GROUP_FIELDS_MAX).contains(&fields.len())
        {
            let message = format!("{} fields are not 1 to {GROUP_FIELDS_MAX}", fields.len());
            group_by.error(self.problems, message, None);
        }
        fields.iter().for_each(|field| self.field(field));
        let Some(measures) = self.config.required(self.problems, "measures").and_then(|measures| measures.any_map(self.problems)) else {
            return;
        };
        let count = measures.iter().count();
        if !(1..=MEASURES_MAX).contains(&count) {
            self.problems.error(measures.at(), measures.path(), format!("{count} measures are not 1 to {MEASURES_MAX}"), None);
        }
        for (key, measure) in measures.iter() {
            if key.text == GROUP_MEMBER && group_by.is_some() {
                let message = format!("`{GROUP_MEMBER}` is the member that says which group it is");
                self.problems.error(key.at, &measure.path, message, None);
            }
            self.measure(&measure);
        }
    }

    fn measure(&mut self, measure: &Cursor<'a>) {
        const WORDS: [&str; 5] =
            [Operator::WORDS[0].0, Operator::WORDS[1].0, Operator::WORDS[2].0, Operator::WORDS[3].0, Operator::WORDS[4].0];
        if !matches!(measure.node.value, NodeValue::Map(_)) {
            if measure.node.as_str() != Some("count") {
                let written = measure.node.as_str();
                let message = match written.map(|word| (word, did_you_mean(word, &WORDS))) {
                    Some((word, _)) if WORDS.contains(&word) => format!("`{word}` needs a field"),
                    Some((word, Some(near))) => format!("there is no `{word}`, did you mean `{near}`?"),
                    Some((word, None)) => format!("there is no `{word}`"),
                    None => format!("found {}", measure.node.kind()),
                };
                let expected = format!("`count`, or one of {} with its field", WORDS.join(", "));
                measure.error(self.problems, message, Some(&expected));
            }
            return;
        }
        let Some(members) = known_members(measure, self.problems, &WORDS, &NO_KEYS) else {
            return;
        };
        if members.iter().count() != 1 {
            measure.error(self.problems, "a measure is one operator with its field", None);
        }
        members.iter().filter(|(key, _)| WORDS.contains(&key.text.as_str())).for_each(|(_, field)| self.field(&field));
    }

    fn field(&mut self, field: &Cursor<'a>) {
        const EXPECTED: &str = "a field such as `price` or `order.total`, or `.` for the item";
        if field.string_or(self.problems, EXPECTED).is_some_and(|text| Field::parse(text).is_none()) {
            field.error(self.problems, "not a field", Some(EXPECTED));
        }
    }

    fn publish(mut self) {
        let event_type = self.config.required(self.problems, "event_type");
        self.text(event_type);
        self.config.required(self.problems, "payload");
        self.text(self.config.get("routing_key"));
        self.headers();
    }

    fn text(&mut self, member: Option<Cursor<'a>>) {
        if let Some(member) = member {
            member.string(self.problems);
        }
    }

    /// The member, unless its value is only known at run time.
    fn constant(&self, name: &str) -> Option<Cursor<'a>> {
        self.config.get(name).filter(|member| !is_expression(member))
    }

    fn error(&mut self, message: &str) {
        self.problems.error(self.config.at(), self.config.path(), message, None);
    }
}

const EXPECTED_STATUS: &str = "a status such as 200, a class such as 2xx, or a list of them";
const EXPECTED_INSTANT: &str = "an RFC 3339 instant such as 2030-01-31T12:00:00Z";

fn is_expression(cursor: &Cursor<'_>) -> bool {
    cursor.node.as_str().is_some_and(|text| text.contains("${"))
}

/// `200`, `"200"` or `"2xx"`.
fn is_status(value: &NodeValue) -> bool {
    let text = match value {
        NodeValue::Number(number) => number.to_string(),
        NodeValue::String(text) => text.trim().to_ascii_lowercase(),
        _ => return false,
    };
    match text.strip_suffix("xx") {
        Some(class) => matches!(class, "1" | "2" | "3" | "4" | "5"),
        None => text.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status)),
    }
}
