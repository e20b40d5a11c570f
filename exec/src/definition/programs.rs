//! The configs of the tasks that run a program: `exec`, by a name that the worker knows, and `shell`, a script.
//!
//! What comes from data reaches a program as an argument, as a variable of its environment, or on stdin, and never as text of a script: a shell
//! would take it for commands.

use distric_rules::document::{Cursor, NodeValue, Problems};

/// Most arguments of one task.
const ARGS_MAX: usize = 256;
/// Most variables of one task's environment.
const ENV_MAX: usize = 64;
/// Longest script, bytes.
const SCRIPT_BYTES_MAX: usize = 64 << 10;
/// Most exit codes of one list.
const EXIT_CODES_MAX: usize = 256;
/// Longest name of a program or a variable, bytes.
const WORD_BYTES_MAX: usize = 128;
/// Variables that say which code runs, or who runs it: the worker's to set.
const ENV_RESERVED: [&str; 3] = ["DISTRIC_", "LD_", "GCONV_"];
/// The same, by their whole name.
const ENV_RESERVED_NAMES: [&str; 6] = ["PATH", "TRACEPARENT", "ENV", "BASH_ENV", "SHELLOPTS", "IFS"];

const EXPECTED_PROGRAM: &str = "the name that the worker's configuration gives a program, such as `resize`";
const EXPECTED_VALUE: &str = "text, a number or a boolean";
const EXPECTED_CODES: &str = "an exit code from 0 to 255, or a list of them";

pub(super) fn check_program(program: &Cursor<'_>, problems: &mut Problems) {
    let Some(name) = program.string_or(problems, EXPECTED_PROGRAM) else { return };
    if name.contains("${") {
        program.error(problems, "the name of a program is constant text", Some(EXPECTED_PROGRAM));
    } else if name.contains('/') {
        program.error(problems, "a path is not taken from a workflow", Some(EXPECTED_PROGRAM));
    } else if !is_word(name, b"_.-") {
        program.error(problems, "not the name of a program", Some(&format!("1 to {WORD_BYTES_MAX} of a-z A-Z 0-9 _ . -")));
    }
}

pub(super) fn check_args(args: &Cursor<'_>, problems: &mut Problems) {
    let args = args.list(problems).unwrap_or_default();
    if let Some(beyond) = args.get(ARGS_MAX) {
        beyond.error(problems, format!("more arguments than {ARGS_MAX}"), None);
    }
    args.iter().for_each(|arg| check_value(arg, problems));
}

pub(super) fn check_env(env: &Cursor<'_>, problems: &mut Problems) {
    let Some(variables) = env.any_map(problems) else { return };
    if variables.iter().count() > ENV_MAX {
        problems.error(variables.at(), variables.path(), format!("more variables than {ENV_MAX}"), None);
    }
    for (key, value) in variables.iter() {
        let name = key.text.as_str();
        if !is_word(name, b"_") || name.as_bytes()[0].is_ascii_digit() {
            let expected = format!("1 to {WORD_BYTES_MAX} of a-z A-Z 0-9 _, no digit first");
            problems.error(key.at, &value.path, "not the name of a variable", Some(&expected));
        } else if ENV_RESERVED.iter().any(|begin| name.starts_with(begin)) || ENV_RESERVED_NAMES.contains(&name) {
            problems.error(key.at, &value.path, format!("the variable `{name}` is the worker's to set"), None);
        }
        check_value(&value, problems);
    }
}

pub(super) fn check_script(script: &Cursor<'_>, problems: &mut Problems) {
    const EXPECTED: &str = "commands of a shell";
    let Some(text) = script.string_or(problems, EXPECTED) else { return };
    if text.contains("${") {
        script.error(
            problems,
            "a script is constant text: a value in it would be taken for commands",
            Some("`env: { NAME: \"${…}\" }` and \"$NAME\" without braces in the script, or the input as JSON on stdin"),
        );
    }
    if text.trim().is_empty() {
        script.error(problems, "the script is empty", Some(EXPECTED));
    }
    if text.len() > SCRIPT_BYTES_MAX {
        script.error(problems, format!("the script has {} bytes, at most {SCRIPT_BYTES_MAX}", text.len()), None);
    }
    if text.contains('\0') {
        script.error(problems, "the script has a NUL", None);
    }
}

pub(super) fn check_exit_codes(codes: &Cursor<'_>, problems: &mut Problems) {
    let items = match &codes.node.value {
        NodeValue::List(_) => codes.list(problems).unwrap_or_default(),
        _ => vec![codes.clone()],
    };
    if items.is_empty() {
        codes.error(problems, "the list is empty", Some(EXPECTED_CODES));
    }
    if let Some(beyond) = items.get(EXIT_CODES_MAX) {
        beyond.error(problems, format!("more exit codes than {EXIT_CODES_MAX}"), None);
    }
    for item in &items {
        let is_code = matches!(&item.node.value, NodeValue::Number(number) if number.to_string().parse::<u8>().is_ok());
        if !is_code {
            item.error(problems, "not an exit code", Some(EXPECTED_CODES));
        }
    }
}

fn check_value(value: &Cursor<'_>, problems: &mut Problems) {
    match &value.node.value {
        NodeValue::List(_) | NodeValue::Map(_) | NodeValue::Null => {
            value.error(problems, format!("found {}", value.node.kind()), Some(EXPECTED_VALUE));
        }
        NodeValue::String(text) if text.contains('\0') => value.error(problems, "the text has a NUL", None),
        _ => {}
    }
}

fn is_word(text: &str, beside: &[u8]) -> bool {
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || beside.contains(&b))
}
