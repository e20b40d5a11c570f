//! The last check of an output: what the log would refuse is refused here, with the limit in words.

use std::io;

use distric_model::limits::{NESTING_MAX, TASK_OUTPUT_BYTES_MAX};
use serde_json::Value;

use crate::TaskFailure;
use crate::failure::{self, Code};

/// Passes an output on when it is within its limits.
///
/// Errors: `output_too_large` above [`TASK_OUTPUT_BYTES_MAX`] bytes of JSON, or nested deeper than [`NESTING_MAX`].
pub(crate) fn bounded(output: Value) -> Result<Value, TaskFailure> {
    if !is_shallow(&output, NESTING_MAX) {
        return Err(failure::permanent(Code::OutputTooLarge, format!("output is nested deeper than {NESTING_MAX} levels")));
    }
    let mut counter = Counter { bytes: 0 };
    match serde_json::to_writer(&mut counter, &output) {
        Ok(()) => Ok(output),
        Err(_) => Err(too_large("output")),
    }
}

/// The refusal of `what` for its size.
pub(crate) fn too_large(what: &str) -> TaskFailure {
    failure::permanent(Code::OutputTooLarge, format!("{what} exceeds the limit of {TASK_OUTPUT_BYTES_MAX} bytes"))
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_shallow(member, levels - 1)),
        _ => true,
    }
}

/// Counts what is written and stops the writer at the limit, so that the text itself is never built.
struct Counter {
    bytes: usize,
}

impl io::Write for Counter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes += buf.len();
        if self.bytes > TASK_OUTPUT_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(buf.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outputs_are_bounded_in_bytes_and_depth() {
        assert!(bounded(json!({"a": [1, 2, {"b": null}]})).is_ok());
        // Two bytes are the quotation marks.
        assert!(bounded(Value::String("x".repeat(TASK_OUTPUT_BYTES_MAX - 2))).is_ok());
        let failure = bounded(Value::String("x".repeat(TASK_OUTPUT_BYTES_MAX - 1))).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("output_too_large", false));
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(bounded(nested(NESTING_MAX)).is_ok());
        assert!(bounded(nested(NESTING_MAX + 1)).unwrap_err().message.contains("32"));
    }
}
