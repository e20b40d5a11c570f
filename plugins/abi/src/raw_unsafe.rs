//! `distric_plugin.h` in Rust, member by member. Types only.

use std::ffi::{c_char, c_int, c_void};

/// The version of the interface.
pub const ABI: u32 = 1;

/// Done.
pub const OK: c_int = 0;
/// No further attempt can help.
pub const FAILED: c_int = 1;
/// Another attempt may help.
pub const RETRY: c_int = 2;

/// Level of a log line: something failed.
pub const LOG_ERROR: c_int = 1;
/// Level of a log line: something is not as it should be.
pub const LOG_WARN: c_int = 2;
/// Level of a log line: for whoever looks.
pub const LOG_INFO: c_int = 3;
/// Level of a log line: for whoever searches.
pub const LOG_DEBUG: c_int = 4;

/// `distric_context`: the attempt, and what the host does for it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Of this structure as the host knows it, bytes.
    pub size: usize,
    /// The host's own.
    pub host: *mut c_void,
    /// Stable over attempts.
    pub task_id: *const c_char,
    /// Of the workflow.
    pub instance_id: *const c_char,
    /// The task's id in its workflow.
    pub task: *const c_char,
    /// The workflow's name.
    pub workflow: *const c_char,
    /// Its namespace.
    pub namespace: *const c_char,
    /// For effects outside: the same for all attempts.
    pub idempotency_key: *const c_char,
    /// W3C trace context, or empty.
    pub traceparent: *const c_char,
    /// The task's config, templates filled in.
    pub config_json: *const c_char,
    /// Greater for every later assignment.
    pub fencing_token: u64,
    /// From 1.
    pub attempt: u32,
    /// Zero.
    pub reserved: u32,
    /// One log line.
    pub log: Option<unsafe extern "C" fn(*const Context, c_int, *const c_char)>,
    /// How far the attempt is, 0 to 1, and in words or null.
    pub progress: Option<unsafe extern "C" fn(*const Context, f64, *const c_char)>,
    /// Not zero when the result is not wanted any more.
    pub cancelled: Option<unsafe extern "C" fn(*const Context) -> c_int>,
    /// Milliseconds until the attempt's time is over.
    pub remaining_ms: Option<unsafe extern "C" fn(*const Context) -> u64>,
    /// A secret that the plugin was granted, or null.
    pub secret: Option<unsafe extern "C" fn(*const Context, *const c_char) -> *const c_char>,
    /// Why the attempt fails: code and message.
    pub fail: Option<unsafe extern "C" fn(*const Context, *const c_char, *const c_char)>,
    /// The least wait before another attempt, milliseconds.
    pub retry_after: Option<unsafe extern "C" fn(*const Context, u64)>,
}

/// `distric_plugin`: what a plugin exports. A member that is `None` is a null pointer in C.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PluginV1 {
    /// [`ABI`].
    pub abi: u32,
    /// Of this structure as the plugin knows it, bytes.
    pub size: u32,
    /// Required: the type of the tasks that it runs.
    pub get_name: Option<unsafe extern "C" fn() -> *const c_char>,
    /// Required: for people.
    pub get_version: Option<unsafe extern "C" fn() -> *const c_char>,
    /// Optional: once, before anything else, with the plugin's config.
    pub init: Option<unsafe extern "C" fn(*const c_char) -> c_int>,
    /// Required: runs one attempt.
    pub execute: Option<unsafe extern "C" fn(*const Context, *const u8, usize, *mut *mut u8, *mut usize) -> c_int>,
    /// Required: frees what `execute` has given.
    pub cleanup: Option<unsafe extern "C" fn(*mut u8)>,
    /// Optional: whether a task's config can be used.
    pub validate: Option<unsafe extern "C" fn(*const c_char) -> c_int>,
    /// Optional: once, at the end.
    pub shutdown: Option<unsafe extern "C" fn()>,
}
