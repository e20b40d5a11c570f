//! The interface of task plugins, and what a plugin written in Rust needs.
//!
//! In: `include/distric_plugin.h`, which is the truth; `raw` is the same in Rust, and a test of the host compares the two.
//! Out: [`Plugin`] and [`export_plugin!`], with which a plugin in Rust has no `unsafe` of its own.
//! May touch: nothing. Never: files, sockets, threads.
//! Start reading at [`Plugin`].

mod attempt_unsafe;
mod export_unsafe;
#[path = "raw_unsafe.rs"]
pub mod raw;

pub use attempt_unsafe::{Attempt, Level};
#[doc(hidden)]
pub use export_unsafe::glue;

/// The name of the constant that a plugin exports.
pub const SYMBOL: &str = "distric_plugin_v1";

/// Longest name of a plugin, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A plugin written in Rust; `export_plugin!` makes a shared library of it.
///
/// One value exists per process, and its calls come one at a time, all from one thread. A panic ends the process, and with it the attempt.
pub trait Plugin: Sized + 'static {
    /// The type of the tasks that it runs: 1 to 64 of `a-z A-Z 0-9 _ . -`, and a zero byte at its end.
    const NAME: &'static std::ffi::CStr;
    /// Its version, for people.
    const VERSION: &'static std::ffi::CStr;

    /// Makes the plugin of its config, JSON. Errors: a sentence for whoever wrote the config.
    fn init(config_json: &str) -> Result<Self, String>;

    /// Runs one attempt: JSON in, JSON out.
    fn execute(&mut self, attempt: &Attempt<'_>, input: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Whether a task's config, JSON, can be used. Errors: a sentence for whoever wrote the workflow.
    fn validate(config_json: &str) -> Result<(), String> {
        let _ = config_json;
        Ok(())
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A short stable name, for `retry_on`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// The least wait before it, milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure that no attempt can mend.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, retry_after_ms: None }
    }

    /// A failure that another attempt may mend.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: true, retry_after_ms: None }
    }
}
