//! The task executors of a worker: the built-in `transform`, `log`, `http`, `webhook`, `sql`, `exec`, `shell`, and plugins of a directory.
//!
//! In: a [`TaskContext`] and an input per attempt, their templates already rendered by the replicated machine.
//! Out: a JSON output, or a [`TaskFailure`] that says whether another attempt may help and after how long.
//! May touch: `model`, `rules` (expressions of `transform`, positioned settings), `sdk` (to register), `plugins/host`, sockets of the task's own
//! requests and databases, the directory of plugins, the programs of the settings.  Never: the log, other tasks, other parts of the file system, proxy settings of the environment.
//! Lives on: the tokio runtime of the worker. No state is kept between tasks but pooled connections.
//! Invariant: every attempt of a task sends the same `Idempotency-Key`.   Invariant: no output exceeds
//! [`distric_model::limits::TASK_OUTPUT_BYTES_MAX`].
//! Start reading at [`Builtins`].

mod builtins;
mod clients;
mod config;
mod exchange;
pub mod failure;
pub mod http;
pub mod log;
mod output;
pub mod plugins;
pub mod programs;
pub mod signature;
pub mod sql;
pub mod transform;
pub mod webhook;

pub use builtins::{BUILTIN_TYPES, Builtins, CONFIGURED_TYPES};
pub use clients::{ClientOptions, Clients, ClientsError, REDIRECTS_MAX};
pub use distric_sdk::worker::{TaskContext, TaskFailure};
pub use plugins::{Plugins, PluginsError};
pub use programs::{Programs, ProgramsError};
pub use sql::{Databases, DatabasesError};

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::TaskContext;

    /// The first attempt at a task with this config.
    pub(crate) fn context(config: Value) -> TaskContext {
        TaskContext {
            task_id: "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap(),
            instance_id: "0190163d-8694-7f01-8000-000000000001".parse().unwrap(),
            namespace: "default".to_owned(),
            workflow: "orders".to_owned(),
            workflow_version: 1,
            task: "notify".to_owned(),
            task_type: "log".to_owned(),
            attempt: 1,
            fencing_token: 1,
            config,
            timeout_ms: 0,
            idempotency_key: "key".to_owned(),
            traceparent: None,
        }
    }
}
