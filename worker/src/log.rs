//! `log`: one structured log event, written by the worker that runs the task.
//!
//! Config: `message` (text; any other JSON is printed as JSON), `level` (`trace`, `debug`, `info`, `warn`, `error`;
//! default `info`). The event's target is `task.log`; it carries workflow, task, instance and attempt.
//! Output: `{"logged": true}`.

use serde::Deserialize;
use serde_json::{Value, json};
use tracing::Level;

use crate::{TaskContext, TaskFailure, config};

/// Longest message that is logged, bytes; the rest is cut off, since a log line is not a place for documents.
pub const LOG_MESSAGE_BYTES_MAX: usize = 8 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogConfig {
    message: Value,
    level: Option<String>,
}

/// Runs one `log` task. Errors: `bad_config`.
pub async fn run(context: &TaskContext) -> Result<Value, TaskFailure> {
    let config: LogConfig = config::read(&context.config)?;
    let level = level(config.level.as_deref().unwrap_or("info"))?;
    let text = match config.message {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let message = cut(&text, LOG_MESSAGE_BYTES_MAX);
    // The level of a tracing event is part of its static description: one call site per level.
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(target: "task.log", $level, workflow = %context.workflow, task = %context.task,
                instance = %context.instance_id, attempt = context.attempt, "{message}")
        };
    }
    match level {
        Level::TRACE => event!(Level::TRACE),
        Level::DEBUG => event!(Level::DEBUG),
        Level::INFO => event!(Level::INFO),
        Level::WARN => event!(Level::WARN),
        Level::ERROR => event!(Level::ERROR),
    }
    Ok(json!({"logged": true}))
}

fn level(name: &str) -> Result<Level, TaskFailure> {
    match name.to_ascii_lowercase().as_str() {
        "trace" => Ok(Level::TRACE),
        "debug" => Ok(Level::DEBUG),
        "info" => Ok(Level::INFO),
        "warn" | "warning" => Ok(Level::WARN),
        "error" => Ok(Level::ERROR),
        _ => Err(config::bad("level", format_args!("{name:?} is not one of trace, debug, info, warn, error"))),
    }
}

/// The longest prefix of at most `bytes_max` bytes that ends between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(config: Value) -> Result<Value, TaskFailure> {
        run(&crate::tests::context(config)).await
    }

    #[tokio::test]
    async fn a_message_is_logged_at_any_level() {
        for level in ["trace", "DEBUG", "info", "warning", "error"] {
            assert_eq!(check(json!({"message": "paid", "level": level})).await.unwrap(), json!({"logged": true}));
        }
        assert_eq!(check(json!({"message": {"a": 1}})).await.unwrap(), json!({"logged": true}));
    }

    #[tokio::test]
    async fn mistakes_are_named() {
        let message = |failure: TaskFailure| failure.message;
        assert!(message(check(json!({})).await.unwrap_err()).contains("`message`"));
        assert!(message(check(json!({"message": "a", "level": "loud"})).await.unwrap_err()).contains("config.level"));
        assert!(message(check(json!({"massage": "a"})).await.unwrap_err()).contains("massage"));
        assert!(message(check(json!("text")).await.unwrap_err()).starts_with("config: "));
    }

    #[test]
    fn cutting_never_splits_a_character() {
        assert_eq!(cut("h\u{e9}llo", 2), "h");
        assert_eq!(cut("h\u{e9}llo", 3), "h\u{e9}");
        assert_eq!(cut("short", 100), "short");
    }
}
