//! The attempt as a plugin in Rust sees it: the context's members and callbacks, safe to use.
//!
//! Proof for every block here: `of` is only called by the glue of `export_plugin!`, with the context that the host handed to `execute`; the
//! header promises that it, its texts and its callbacks are valid until `execute` returns, and an [`Attempt`] does not outlive that call.

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;

use crate::raw::{self, Context};

/// How severe a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// For whoever looks.
    Info,
    /// For whoever searches.
    Debug,
}

/// One attempt at a task.
#[derive(Debug)]
pub struct Attempt<'a> {
    context: *const Context,
    lives: PhantomData<&'a Context>,
}

impl Attempt<'_> {
    /// # Safety
    /// `context` is what the host handed to `execute`, and that call outlives the value.
    pub(crate) unsafe fn of(context: *const Context) -> Self {
        Self { context, lives: PhantomData }
    }

    fn context(&self) -> &Context {
        // SAFETY: see the module.
        unsafe { &*self.context }
    }

    fn text(&self, text: *const c_char) -> &str {
        if text.is_null() {
            return "";
        }
        // SAFETY: see the module; every text of the context ends with a zero byte.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
    }

    /// The task, stable over attempts.
    pub fn task_id(&self) -> &str {
        self.text(self.context().task_id)
    }

    /// The workflow instance.
    pub fn instance_id(&self) -> &str {
        self.text(self.context().instance_id)
    }

    /// The task's id in its workflow.
    pub fn task(&self) -> &str {
        self.text(self.context().task)
    }

    /// The workflow's name.
    pub fn workflow(&self) -> &str {
        self.text(self.context().workflow)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.text(self.context().namespace)
    }

    /// For effects outside: the same for all attempts.
    pub fn idempotency_key(&self) -> &str {
        self.text(self.context().idempotency_key)
    }

    /// W3C trace context, or empty.
    pub fn traceparent(&self) -> &str {
        self.text(self.context().traceparent)
    }

    /// The task's config, JSON, templates filled in.
    pub fn config_json(&self) -> &str {
        self.text(self.context().config_json)
    }

    /// Which attempt, from 1.
    pub fn number(&self) -> u32 {
        self.context().attempt
    }

    /// Greater for every later assignment.
    pub fn fencing_token(&self) -> u64 {
        self.context().fencing_token
    }

    /// Writes one log line; zero bytes end it early.
    pub fn log(&self, level: Level, text: &str) {
        let level = match level {
            Level::Error => raw::LOG_ERROR,
            Level::Warn => raw::LOG_WARN,
            Level::Info => raw::LOG_INFO,
            Level::Debug => raw::LOG_DEBUG,
        };
        if let Some(log) = self.context().log {
            // SAFETY: see the module.
            unsafe { log(self.context, level, terminated(text).as_ptr()) }
        }
    }

    /// Says how far the attempt is, 0 to 1.
    pub fn progress(&self, fraction: f64, text: &str) {
        if let Some(progress) = self.context().progress {
            // SAFETY: see the module.
            unsafe { progress(self.context, fraction, terminated(text).as_ptr()) }
        }
    }

    /// Whether the result is not wanted any more, or its time is over.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: see the module.
        self.context().cancelled.is_some_and(|cancelled| unsafe { cancelled(self.context) } != 0)
    }

    /// Milliseconds until the attempt's time is over; `None` without a limit.
    pub fn remaining_ms(&self) -> Option<u64> {
        // SAFETY: see the module.
        self.context().remaining_ms.map(|remaining| unsafe { remaining(self.context) }).filter(|ms| *ms != u64::MAX)
    }

    /// A secret that the plugin was granted.
    pub fn secret(&self, name: &str) -> Option<&str> {
        // SAFETY: see the module.
        let text = self.context().secret.map(|secret| unsafe { secret(self.context, terminated(name).as_ptr()) })?;
        (!text.is_null()).then(|| self.text(text))
    }
}

/// The text up to its first zero byte, with one behind it.
pub(crate) fn terminated(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
