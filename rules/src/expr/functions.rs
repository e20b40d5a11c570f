//! The functions of the language. Each says what it takes, and what it costs beyond the step of its node.

use std::borrow::Cow;
use std::cmp::Ordering;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::budget::{Budget, PART_BYTES, Trouble};
use super::datum::{Datum, order};
use super::tree::Function;

/// Longest pattern of `matches`, bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 10;
/// Largest compiled pattern, bytes: room for a handful of Unicode classes, too little for a large counted repetition of them.
const PATTERN_COMPILED_BYTES_MAX: usize = 256 << 10;
/// Deepest nesting of a pattern.
const PATTERN_DEPTH_MAX: u32 = 32;
/// Bytes of text that one step pays for under a pattern. Fewer than for plain search: a pattern can cost more a byte.
const MATCHED_BYTES_PER_STEP: usize = 4;

/// Compiles a pattern of `matches`: RE2's syntax, linear in the text, unanchored. Errors: a sentence.
pub(super) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern has {} bytes, more than {PATTERN_BYTES_MAX}", pattern.len()));
    }
    Regex::builder()
        .configure(Regex::config().nfa_size_limit(Some(PATTERN_COMPILED_BYTES_MAX)))
        .syntax(syntax::Config::new().nest_limit(PATTERN_DEPTH_MAX))
        .build(pattern)
        .map_err(|error| match (error.size_limit(), error.syntax_error()) {
            (Some(_), _) => "the pattern is too large when compiled".to_owned(),
            (_, Some(error)) => format!("bad pattern: {}", last_line(&error.to_string())),
            _ => format!("bad pattern: {}", last_line(&error.to_string())),
        })
}

/// The sentence at the end of a message that draws a picture first.
fn last_line(message: &str) -> &str {
    message.lines().last().unwrap_or(message).trim_start_matches("error: ")
}

/// `matches`, with its pattern already compiled.
pub(super) fn matches(text: &Datum<'_>, regex: &Regex, budget: &mut Budget) -> Result<bool, Trouble> {
    let Datum::Text(text) = text else {
        return Err(Trouble::value(format!("`matches` takes a string, not {}", text.type_name())));
    };
    budget.spend_steps(text.len() / MATCHED_BYTES_PER_STEP)?;
    Ok(regex.is_match(text.as_bytes()))
}

/// Calls a function. The parser has counted the arguments.
pub(super) fn call<'a>(function: Function, arguments: Vec<Datum<'a>>, budget: &mut Budget) -> Result<Datum<'a>, Trouble> {
    let refuse = |datum: &Datum<'_>| Trouble::value(format!("`{}` does not take {}", function.name(), datum.type_name()));
    if matches!(function, Function::Min | Function::Max) {
        return extreme(function, arguments, budget);
    }
    let mut arguments = arguments.into_iter();
    let first = arguments.next().ok_or_else(|| Trouble::value("an argument is missing"))?;
    match function {
        Function::Size => {
            let size = match &first {
                Datum::Text(text) => {
                    budget.spend_scan(text.len())?;
                    text.chars().count()
                }
                Datum::List(items) => items.len(),
                Datum::Map(members) => members.len(),
                Datum::Record(members) => members.len(),
                other => return Err(refuse(other)),
            };
            Ok(Datum::Int(size as i64))
        }
        Function::Contains | Function::StartsWith | Function::EndsWith => {
            let part = arguments.next().ok_or_else(|| Trouble::value("an argument is missing"))?;
            let (Datum::Text(text), Datum::Text(part)) = (&first, &part) else {
                return Err(Trouble::value(format!(
                    "`{}` takes strings, not {} and {}",
                    function.name(),
                    first.type_name(),
                    part.type_name()
                )));
            };
            budget.spend_scan(text.len() + part.len())?;
            Ok(Datum::Bool(match function {
                Function::Contains => text.contains(&**part),
                Function::StartsWith => text.starts_with(&**part),
                _ => text.ends_with(&**part),
            }))
        }
        Function::String => {
            let text = match first {
                Datum::Text(_) => return Ok(first),
                Datum::Bool(value) => value.to_string(),
                // As JSON writes it, so that `string(x)` and a template agree.
                Datum::Int(_) | Datum::Uint(_) | Datum::Double(_) => first.into_value(budget)?.to_string(),
                other => return Err(refuse(&other)),
            };
            budget.spend_bytes(PART_BYTES + text.len())?;
            Ok(Datum::Text(Cow::Owned(text)))
        }
        Function::Int => match &first {
            Datum::Int(number) => Some(*number),
            Datum::Uint(number) => i64::try_from(*number).ok(),
            Datum::Double(number) => whole_of(*number).and_then(|number| i64::try_from(number).ok()),
            Datum::Text(text) => text.parse().ok(),
            other => return Err(refuse(other)),
        }
        .map(Datum::Int)
        .ok_or_else(|| not_a("an int", &first)),
        Function::Uint => match &first {
            Datum::Int(number) => u64::try_from(*number).ok(),
            Datum::Uint(number) => Some(*number),
            Datum::Double(number) => whole_of(*number).and_then(|number| u64::try_from(number).ok()),
            Datum::Text(text) => text.parse().ok(),
            other => return Err(refuse(other)),
        }
        .map(Datum::Uint)
        .ok_or_else(|| not_a("a uint", &first)),
        Function::Double => match &first {
            Datum::Int(number) => Some(*number as f64),
            Datum::Uint(number) => Some(*number as f64),
            Datum::Double(number) => Some(*number),
            Datum::Text(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
            other => return Err(refuse(other)),
        }
        .map(Datum::Double)
        .ok_or_else(|| not_a("a double", &first)),
        Function::Bool => match &first {
            Datum::Bool(value) => Some(*value),
            Datum::Text(text) => match &**text {
                "true" | "True" | "TRUE" | "t" | "1" => Some(true),
                "false" | "False" | "FALSE" | "f" | "0" => Some(false),
                _ => None,
            },
            other => return Err(refuse(other)),
        }
        .map(Datum::Bool)
        .ok_or_else(|| not_a("a bool", &first)),
        Function::Min | Function::Max => unreachable!("taken above"),
    }
}

fn not_a(what: &str, given: &Datum<'_>) -> Trouble {
    match given {
        Datum::Text(_) => Trouble::value(format!("the string does not read as {what}")),
        _ => Trouble::value(format!("the number does not fit {what}")),
    }
}

/// Towards zero, as CEL converts; `None` when far out of any integer's range.
fn whole_of(number: f64) -> Option<i128> {
    const BEYOND: f64 = 1e20;
    (number.abs() < BEYOND).then_some(number.trunc() as i128)
}

/// The least or greatest of the arguments, or of the one list given. Of equals, the first.
fn extreme<'a>(function: Function, arguments: Vec<Datum<'a>>, budget: &mut Budget) -> Result<Datum<'a>, Trouble> {
    let wanted = if function == Function::Min { Ordering::Less } else { Ordering::Greater };
    let mut best: Option<Datum<'a>> = None;
    let mut consider = |next: Datum<'a>, budget: &mut Budget| {
        budget.spend_steps(1)?;
        let is_better = match &best {
            Some(best) => order(function.name(), &next, best, budget)? == wanted,
            None => true,
        };
        if is_better {
            best = Some(next);
        }
        Ok::<(), Trouble>(())
    };
    let mut arguments = arguments;
    let only = if arguments.len() == 1 { arguments.pop() } else { None };
    match only {
        Some(Datum::List(Cow::Borrowed(items))) => items.iter().try_for_each(|item| consider(Datum::borrowed(item), budget))?,
        Some(Datum::List(Cow::Owned(items))) => items.into_iter().try_for_each(|item| consider(Datum::owned(item), budget))?,
        Some(only) => return Ok(only),
        None => arguments.into_iter().try_for_each(|argument| consider(argument, budget))?,
    }
    best.ok_or_else(|| Trouble::missing(format!("`{}` of an empty list", function.name())))
}
