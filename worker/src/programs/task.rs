//! One attempt at an `exec` or a `shell` task.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use distric_plugins_host::{ARGUMENT_BYTES_MAX, ARGUMENTS_BYTES_MAX, Finished, Program, ProgramError, Run};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{self, bad};
use crate::failure::{self, Code};
use crate::plugins::within;
use crate::{TaskContext, TaskFailure, output};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecConfig {
    program: String,
    #[serde(default)]
    args: Vec<Value>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    expect_exit: Option<Codes>,
    permanent_exit: Option<Codes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShellConfig {
    script: String,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    expect_exit: Option<Codes>,
    permanent_exit: Option<Codes>,
}

/// Exit codes, one or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Codes {
    One(u8),
    Some(Vec<u8>),
}

impl Codes {
    fn contain(codes: Option<&Self>, default: &[u8], code: i32) -> bool {
        let codes = match codes {
            None => default,
            Some(Self::One(one)) => std::slice::from_ref(one),
            Some(Self::Some(list)) => list,
        };
        codes.iter().any(|one| i32::from(*one) == code)
    }
}

/// Runs a program by its name. Errors: see [`Code`]; a program that this worker does not have cannot be run by another attempt here.
pub(super) async fn exec(programs: &BTreeMap<String, Program>, context: &TaskContext, input: &Value) -> Result<Value, TaskFailure> {
    let config: ExecConfig = config::read(&context.config)?;
    let Some(program) = programs.get(&config.program) else {
        let known: Vec<&str> = programs.keys().map(String::as_str).collect();
        let message = format!("this worker has no program {:?}, only {}", config.program, known.join(", "));
        return Err(failure::permanent(Code::UnknownProgram, message));
    };
    let arguments = config.args.iter().enumerate().map(|(at, value)| text(value, &format!("args[{at}]"))).collect::<Result<_, _>>()?;
    run(program, &config.program, arguments, &config.env, context, input)
        .await
        .and_then(|finished| outcome(&config.program, finished, config.expect_exit.as_ref(), config.permanent_exit.as_ref()))
}

/// Runs a script. Errors: see [`Code`].
pub(super) async fn shell(shell: &Program, context: &TaskContext, input: &Value) -> Result<Value, TaskFailure> {
    let config: ShellConfig = config::read(&context.config)?;
    let arguments = vec![text(&Value::String(config.script), "script")?];
    run(shell, "shell", arguments, &config.env, context, input)
        .await
        .and_then(|finished| outcome("shell", finished, config.expect_exit.as_ref(), config.permanent_exit.as_ref()))
}

async fn run(
    program: &Program,
    name: &str,
    arguments: Vec<String>,
    env: &BTreeMap<String, Value>,
    context: &TaskContext,
    input: &Value,
) -> Result<Finished, TaskFailure> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut environment = identity(context, now_ms);
    for (key, value) in env {
        // What says who the attempt is cannot be said by the task.
        environment.entry(key.clone()).or_insert(text(value, &format!("env.{key}"))?);
    }
    let bytes: usize = arguments.iter().map(String::len).chain(environment.iter().map(|(key, value)| key.len() + value.len() + 1)).sum();
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(bad("args", format_args!("{bytes} bytes with the environment exceed the limit of {ARGUMENTS_BYTES_MAX}: use stdin")));
    }
    let run = Run { arguments, environment, input: input.to_string().into_bytes(), timeout_ms: within(context.timeout_ms) };
    let finished = program.run(run).await.map_err(|error| broken(&error))?;
    if !finished.tail.is_empty() {
        tracing::info!(program = name, task = %context.task_id, attempt = context.attempt, stderr = finished.tail, "program");
    }
    Ok(finished)
}

/// What every program is told about its attempt.
fn identity(context: &TaskContext, now_ms: u64) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = [
        ("DISTRIC_IDEMPOTENCY_KEY", context.idempotency_key.clone()),
        ("DISTRIC_ATTEMPT", context.attempt.to_string()),
        ("DISTRIC_FENCING_TOKEN", context.fencing_token.to_string()),
        ("DISTRIC_INSTANCE_ID", context.instance_id.to_string()),
        ("DISTRIC_TASK_ID", context.task_id.to_string()),
        ("DISTRIC_TASK", context.task.clone()),
        ("DISTRIC_WORKFLOW", context.workflow.clone()),
        ("DISTRIC_NAMESPACE", context.namespace.clone()),
    ]
    .into_iter()
    // The kernel takes no NUL; a key with one is left out, never altered: an altered key would be another key.
    .filter(|(_, value)| is_bearable(value))
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if context.timeout_ms > 0 {
        let deadline_ms = now_ms.saturating_add(within(context.timeout_ms));
        environment.insert("DISTRIC_DEADLINE_MS".to_owned(), deadline_ms.to_string());
    }
    if let Some(traceparent) = context.traceparent.as_deref().filter(|value| is_bearable(value)) {
        environment.insert("TRACEPARENT".to_owned(), traceparent.to_owned());
    }
    environment
}

fn is_bearable(value: &str) -> bool {
    value.len() < ARGUMENT_BYTES_MAX / 2 && !value.contains('\0')
}

/// An argument or a variable as the kernel takes it.
fn text(value: &Value, member: &str) -> Result<String, TaskFailure> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(bad(member, "expected text, a number or a truth value")),
    };
    // A name stands before a variable's value; no name that the check lets through is as long as what is kept for it.
    let bytes_max = ARGUMENT_BYTES_MAX - NAME_BYTES_KEPT;
    if text.len() > bytes_max {
        return Err(bad(member, format_args!("{} bytes exceed the limit of {bytes_max}: use stdin", text.len())));
    }
    if text.contains('\0') {
        return Err(bad(member, "has a NUL, which no program can be given"));
    }
    Ok(text)
}

/// See [`text`].
const NAME_BYTES_KEPT: usize = 256;

fn outcome(name: &str, finished: Finished, expect: Option<&Codes>, permanent: Option<&Codes>) -> Result<Value, TaskFailure> {
    let words = || {
        let tail = if finished.tail.is_empty() { String::new() } else { format!("; it wrote last: {}", finished.tail) };
        format!("{name} {}{tail}", finished.reason())
    };
    match finished.status.code() {
        Some(code) if Codes::contain(expect, &[0], code) => output::bounded(output_of(finished.output)),
        Some(code) if Codes::contain(permanent, &[], code) => Err(failure::permanent(Code::ExitStatus, words())),
        Some(_) => Err(failure::passing(Code::ExitStatus, words(), None)),
        None => Err(failure::passing(Code::ExitSignal, words(), None)),
    }
}

fn output_of(stdout: Vec<u8>) -> Value {
    if stdout.is_empty() {
        return Value::Null;
    }
    if let Ok(value) = serde_json::from_slice(&stdout) {
        return value;
    }
    match String::from_utf8(stdout) {
        Ok(text) => json!({ "stdout": text }),
        Err(error) => json!({ "stdout_base64": STANDARD.encode(error.as_bytes()) }),
    }
}

fn broken(error: &ProgramError) -> TaskFailure {
    if error.is_passing() {
        TaskFailure::retryable(error.code(), error.to_string())
    } else {
        TaskFailure::permanent(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn finished(status: i32, output: &[u8]) -> Finished {
        Finished { status: ExitStatus::from_raw(status), output: output.to_vec(), tail: "why".to_owned() }
    }

    #[test]
    fn an_output_is_json_or_text_or_neither() {
        let of = |output: &[u8]| outcome("p", finished(0, output), None, None).unwrap();
        assert_eq!(of(b""), Value::Null);
        assert_eq!(of(b"{\"a\":1}\n"), json!({"a": 1}));
        assert_eq!(of(b"done\n"), json!({"stdout": "done\n"}));
        assert_eq!(of(b"\xff"), json!({"stdout_base64": "/w=="}));
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(outcome("p", finished(0, deep.as_bytes()), None, None).unwrap_err().code, "output_too_large");
    }

    #[test]
    fn an_end_that_is_not_expected_is_a_failure_with_its_reason() {
        let codes = |list: &[u8]| Codes::Some(list.to_vec());
        let failed = outcome("p", finished(3 << 8, b""), None, None).unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), ("exit_status", true));
        assert_eq!(failed.message, "p ended with exit code 3; it wrote last: why");
        let failed = outcome("p", finished(3 << 8, b""), None, Some(&Codes::One(3))).unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), ("exit_status", false));
        assert!(outcome("p", finished(3 << 8, b""), Some(&codes(&[0, 3])), None).is_ok());
        assert!(outcome("p", finished(0, b""), Some(&codes(&[3])), None).is_err());
        let failed = outcome("p", finished(libc_sigterm(), b""), None, Some(&codes(&[15]))).unwrap_err();
        assert_eq!((failed.code.as_str(), failed.retryable), ("exit_signal", true));
        assert!(failed.message.contains("SIGTERM"), "{}", failed.message);
    }

    /// The raw status of a process that a SIGTERM ended.
    const fn libc_sigterm() -> i32 {
        15
    }

    #[test]
    fn the_environment_says_who_the_attempt_is() {
        let mut context = crate::tests::context(Value::Null);
        context.traceparent = Some("00-1-2-01".to_owned());
        context.timeout_ms = 1_000;
        let environment = identity(&context, 5_000);
        let of = |name: &str| environment.get(name).map(String::as_str);
        assert_eq!([of("DISTRIC_IDEMPOTENCY_KEY"), of("DISTRIC_ATTEMPT"), of("TRACEPARENT")], [Some("key"), Some("1"), Some("00-1-2-01")]);
        assert_eq!([of("DISTRIC_DEADLINE_MS"), of("DISTRIC_TASK")], [Some("5900"), Some("notify")]);
        context.idempotency_key = "a\0b".to_owned();
        assert_eq!(identity(&context, 0).get("DISTRIC_IDEMPOTENCY_KEY"), None);
    }

    #[test]
    fn what_a_program_cannot_be_given_is_refused() {
        assert_eq!(text(&json!(1.5), "args[0]").unwrap(), "1.5");
        assert_eq!(text(&json!(true), "args[0]").unwrap(), "true");
        for value in [json!(null), json!([]), json!({}), json!("a\0b"), json!("x".repeat(ARGUMENT_BYTES_MAX))] {
            let failed = text(&value, "args[0]").unwrap_err();
            assert!(failed.code == "bad_config" && failed.message.starts_with("config.args[0]: "), "{}", failed.message);
        }
    }
}
