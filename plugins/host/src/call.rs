//! One attempt as the host hands it to a plugin, and how it ends.

/// What a plugin is told about an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The task, stable over attempts.
    pub task_id: String,
    /// Its workflow instance.
    pub instance_id: String,
    /// Its id in the workflow.
    pub task: String,
    /// The workflow's name.
    pub workflow: String,
    /// Its namespace.
    pub namespace: String,
    /// For effects outside: the same for all attempts.
    pub idempotency_key: String,
    /// W3C trace context, or empty.
    pub traceparent: String,
    /// The task's config, JSON.
    pub config_json: String,
    /// Greater for every later assignment.
    pub fencing_token: u64,
    /// From 1.
    pub attempt: u32,
    /// How long it may take, milliseconds; zero: as long as the plugin's limits allow.
    pub timeout_ms: u64,
    /// JSON.
    pub input: Vec<u8>,
}

/// How a plugin ended an attempt by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this output, which the plugin says is JSON.
    Completed(Vec<u8>),
    /// It says that it failed.
    Failed(Failed),
}

/// What a plugin says about its failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// A short stable name.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// The least wait before it, milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// How severe a plugin's log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// For whoever looks.
    Info,
    /// For whoever searches.
    Debug,
}

impl LogLevel {
    /// By its number in the header; an unknown number is taken for the least severe.
    pub fn of_number(number: i64) -> Self {
        match number {
            1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            _ => Self::Debug,
        }
    }

    /// Its number in the header.
    pub fn number(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
        }
    }
}

/// What a plugin may ask of its host during a call.
pub trait Sink {
    /// One log line.
    fn log(&mut self, level: LogLevel, text: &str);
    /// How far it is, 0 to 1.
    fn progress(&mut self, fraction: f64, text: &str);
    /// Whether the result is not wanted any more.
    fn is_cancelled(&mut self) -> bool;
    /// Milliseconds until the attempt's time is over; `u64::MAX` without a limit.
    fn remaining_ms(&mut self) -> u64;
}
