//! What an evaluation may cost, counted the same everywhere: steps and bytes, never time.

use serde_json::Value;

use super::{EXPR_BYTES_MAX, EXPR_BYTES_PER_STEP, EXPR_STEPS_MAX, ExprErrorKind, VALUE_DEPTH_MAX};

/// What an evaluation may still cost. Shared by all expressions that must fit one budget together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Steps left: one for each node evaluated, element walked, and [`EXPR_BYTES_PER_STEP`] bytes of text scanned.
    pub steps: u32,
    /// Bytes of made values left.
    pub bytes: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: EXPR_STEPS_MAX, bytes: EXPR_BYTES_MAX }
    }
}

impl Budget {
    /// Takes `steps`. A spent budget stays spent, so that no operator can absorb the error.
    pub(super) fn spend_steps(&mut self, steps: usize) -> Result<(), Trouble> {
        match u32::try_from(steps).ok().and_then(|steps| self.steps.checked_sub(steps)) {
            Some(left) => self.steps = left,
            None => {
                self.steps = 0;
                return Err(Trouble::exhausted("the expression takes more steps than its budget allows"));
            }
        }
        Ok(())
    }

    /// Takes the steps of scanning `bytes` of text once.
    pub(super) fn spend_scan(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.spend_steps(bytes / EXPR_BYTES_PER_STEP)
    }

    /// Takes the bytes of a value about to be made.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), Trouble> {
        match u32::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_sub(bytes)) {
            Some(left) => self.bytes = left,
            None => {
                self.bytes = 0;
                return Err(Trouble::exhausted("the expression makes more bytes than its budget allows"));
            }
        }
        Ok(())
    }

    /// Takes the bytes of a copy of `value`.
    pub(super) fn spend_copy(&mut self, value: &Value) -> Result<(), Trouble> {
        self.spend_value(value, 0)
    }

    fn spend_value(&mut self, value: &Value, depth: usize) -> Result<(), Trouble> {
        if depth > VALUE_DEPTH_MAX {
            return Err(Trouble::exhausted("the value is nested too deep"));
        }
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.spend_bytes(PART_BYTES),
            Value::String(text) => self.spend_bytes(PART_BYTES + text.len()),
            Value::Array(items) => {
                self.spend_bytes(PART_BYTES)?;
                items.iter().try_for_each(|item| self.spend_value(item, depth + 1))
            }
            Value::Object(members) => {
                self.spend_bytes(PART_BYTES)?;
                members.iter().try_for_each(|(key, item)| {
                    self.spend_bytes(PART_BYTES + key.len())?;
                    self.spend_value(item, depth + 1)
                })
            }
        }
    }
}

/// Refuses a value that is nested deeper than [`VALUE_DEPTH_MAX`].
pub(super) fn check_depth(value: &Value) -> Result<(), Trouble> {
    fn fits(value: &Value, depth: usize) -> bool {
        depth <= VALUE_DEPTH_MAX
            && match value {
                Value::Array(items) => items.iter().all(|item| fits(item, depth + 1)),
                Value::Object(members) => members.values().all(|item| fits(item, depth + 1)),
                _ => true,
            }
    }
    if fits(value, 0) { Ok(()) } else { Err(Trouble::exhausted("the value is nested too deep")) }
}

/// What one part of a value counts beyond its text, bytes. Near the size of a short JSON number, so that a payload of the
/// largest size fits the default budget unless it is made of nothing but single digits.
pub(super) const PART_BYTES: usize = 8;

/// An error that does not know its position yet.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub kind: ExprErrorKind,
    pub message: String,
}

impl Trouble {
    pub fn value(message: impl Into<String>) -> Self {
        Self { kind: ExprErrorKind::Value, message: message.into() }
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self { kind: ExprErrorKind::Missing, message: message.into() }
    }

    pub fn exhausted(message: impl Into<String>) -> Self {
        Self { kind: ExprErrorKind::Exhausted, message: message.into() }
    }
}
