//! `transform`: computes values from the task's input.
//!
//! Config: either `set`, an object of names and expressions (a value that is not text stands for itself), whose output is
//! the object of their values; or `expr`, one expression whose value is the output. All expressions of a task see the same
//! names and share one budget of steps and bytes.
//!
//! Names: every member of the task's input, and `input`: the member of that name, or else the whole input. The
//! expressions reach this task as text; `${...}` around a whole one is allowed and means the same.

use distric_rules::expr::{Budget, Expr, ExprError, ExprErrorKind, Scope};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failure::{self, Code};
use crate::{TaskContext, TaskFailure, config, output};

/// Most names that one `set` may have.
pub const SET_NAMES_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransformConfig {
    set: Option<Map<String, Value>>,
    expr: Option<String>,
}

/// Runs one `transform` task. Errors: `bad_config`, `expression_failed`, `output_too_large`; none is retryable, since
/// the same input gives the same answer.
pub async fn run(context: &TaskContext, input: &Value) -> Result<Value, TaskFailure> {
    let config: TransformConfig = config::read(&context.config)?;
    let scope = Scope::over(input).with("input", input.get("input").unwrap_or(input));
    let mut budget = Budget::default();
    let output = match (config.set, config.expr) {
        (Some(set), None) => {
            if set.len() > SET_NAMES_MAX {
                return Err(config::bad("set", format_args!("{} names exceed the limit of {SET_NAMES_MAX}", set.len())));
            }
            let mut object = Map::new();
            for (name, value) in set {
                let value = match value {
                    Value::String(text) => evaluate(&format!("set.{name}"), &text, &scope, &mut budget)?,
                    literal => literal,
                };
                object.insert(name, value);
            }
            Value::Object(object)
        }
        (None, Some(text)) => evaluate("expr", &text, &scope, &mut budget)?,
        (Some(_), Some(_)) => return Err(config::bad("expr", "give either set or expr, not both")),
        (None, None) => return Err(config::bad("set", "give set (names and expressions) or expr (one expression)")),
    };
    output::bounded(output)
}

fn evaluate(member: &str, text: &str, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, TaskFailure> {
    let failed = |error: ExprError| {
        // A text that is no expression is the author's mistake; a missing field or an overflow is the input's.
        let code = if error.kind == ExprErrorKind::Syntax { Code::BadConfig } else { Code::ExpressionFailed };
        let at = format!("line {}, column {}", error.line, error.column);
        failure::permanent(code, format!("config.{member}: {} ({at})", error.message))
    };
    let expression = Expr::parse(unwrapped(text)).map_err(failed)?;
    expression.evaluate(scope, budget).map_err(failed)
}

/// The expression within `${...}`; no expression starts with a dollar and a brace, so nothing else can be meant.
fn unwrapped(text: &str) -> &str {
    let trimmed = text.trim();
    trimmed.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn check(config: Value, input: Value) -> Result<Value, TaskFailure> {
        run(&crate::tests::context(config), &input).await
    }

    #[tokio::test]
    async fn names_are_the_members_of_the_input() {
        let input = json!({"amount": 120, "user": {"tier": "gold"}});
        let config = json!({"set": {"net": "amount - 20", "gold": "user.tier == 'gold'", "same": "input.amount", "fixed": 7}});
        assert_eq!(check(config, input).await.unwrap(), json!({"net": 100, "gold": true, "same": 120, "fixed": 7}));
    }

    #[tokio::test]
    async fn a_member_called_input_is_what_input_means() {
        let input = json!({"input": {"amount": 5}, "tasks": {"score": {"output": {"risk": 0.5}}}});
        let config = json!({"expr": "{'a': input.amount, 'r': tasks.score.output.risk}"});
        assert_eq!(check(config, input).await.unwrap(), json!({"a": 5, "r": 0.5}));
    }

    #[tokio::test]
    async fn template_braces_around_a_whole_expression_are_allowed() {
        assert_eq!(check(json!({"expr": " ${a + 1} "}), json!({"a": 1})).await.unwrap(), json!(2));
    }

    #[tokio::test]
    async fn mistakes_are_named_and_never_retried() {
        for (config, code, part) in [
            (json!({}), "bad_config", "config.set"),
            (json!({"set": {}, "expr": "1"}), "bad_config", "not both"),
            (json!({"sets": {}}), "bad_config", "sets"),
            (json!({"expr": "1 +"}), "bad_config", "config.expr"),
            (json!({"set": {"x": "missing.field"}}), "expression_failed", "config.set.x"),
            (json!({"set": {"x": "1 / 0"}}), "expression_failed", "config.set.x"),
        ] {
            let failure = check(config.clone(), json!({"a": 1})).await.unwrap_err();
            assert_eq!((failure.code.as_str(), failure.retryable), (code, false), "{config}");
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn one_budget_bounds_all_expressions_of_a_task() {
        let input = json!({"list": (0..2_000).collect::<Vec<_>>()});
        let squared = "list.all(a, list.all(b, a + b >= 0))";
        let failure = check(json!({"set": {"x": squared}}), input).await.unwrap_err();
        assert_eq!(failure.code, "expression_failed");
    }
}
