//! The task executors built into every worker: `transform`, `log`, `http`, `webhook`.
//!
//! In: one [`TaskInput`] per attempt, its templates already rendered by the replicated machine.
//! Out: a JSON output, or a [`TaskFailure`] that says whether another attempt may help and after how long.
//! May touch: `model`, `rules` (expressions of `transform`), `sdk` (to register), sockets of the task's own requests.
//! Never: the log, other tasks, the file system, proxy settings of the environment.
//! Lives on: the tokio runtime of the worker. No state is kept between tasks but pooled connections.
//! Invariant: every attempt of a task sends the same `Idempotency-Key`.   Invariant: no output exceeds
//! [`distric_model::limits::TASK_OUTPUT_BYTES_MAX`].
//! Start reading at [`Builtins`].

//mod builtins;
mod clients;
mod config;
mod exchange;
pub mod failure;
pub mod http;
pub mod log;
mod output;
pub mod signature;
mod task;
pub mod transform;
pub mod webhook;

//pub use builtins::{BUILTIN_TYPES, Builtins};
pub use clients::{ClientOptions, Clients, ClientsError};
pub use distric_sdk::TaskFailure;
pub use task::{TaskInput, TaskMeta};
