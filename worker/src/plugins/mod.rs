//! Plugins of a directory, offered as task types: `NAME.so`, and beside it, if anything is to be decided about it, `NAME.yaml`.
//!
//! Every plugin is started once before the worker says what it offers, so that a file that is no plugin is found when the worker starts and not
//! when a task comes.

pub(crate) mod settings;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use distric_plugins_host::{Call, CallError, Identity, InProcess, Isolation, Keeper, Outcome, Pool, Spec, StartError};
use distric_rules::Problem;
use distric_sdk::worker::WorkerBuilder;
use serde_json::Value;

pub use settings::Settings;

use crate::{TaskContext, TaskFailure, output};

/// Most plugins of one directory.
pub const PLUGINS_MAX: usize = 256;
/// Largest settings file, bytes.
pub const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// Why the plugins of a directory cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// More than are allowed.
    #[error("{path} has more than {PLUGINS_MAX} plugins", path = path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// A settings file is wrong.
    #[error("{path} is not right", path = path.display())]
    Settings {
        /// Which.
        path: PathBuf,
        /// Everything that is wrong in it.
        problems: Vec<Problem>,
    },
    /// A plugin does not start.
    #[error("{path}: {source}", path = path.display())]
    Start {
        /// Which.
        path: PathBuf,
        /// Why.
        source: StartError,
    },
    /// Two files give one task type, or one that every worker has.
    #[error("{path} offers the task type {name:?}, which {other} offers already", path = path.display())]
    Twice {
        /// The later one.
        path: PathBuf,
        /// The type.
        name: String,
        /// Who has it.
        other: String,
    },
}

/// The started plugins of one directory. Cheap to clone; clones share the processes.
#[derive(Clone, Debug, Default)]
pub struct Plugins(Arc<Vec<Plugin>>);

#[derive(Clone, Debug)]
struct Plugin {
    path: PathBuf,
    runner: Runner,
}

#[derive(Clone, Debug)]
enum Runner {
    Apart(Pool),
    Inside(InProcess),
}

impl Plugins {
    /// Starts every plugin of a directory. `required` is the weakest isolation that this worker accepts; a plugin that is configured to run in
    /// the worker's process needs [`Isolation::None`] there.
    ///
    /// Errors: [`PluginsError`], for the first plugin that cannot be offered: a worker that offers less than it was told to is a surprise.
    pub async fn start(dir: &Path, keeper: &Keeper, required: Isolation) -> Result<Self, PluginsError> {
        let mut plugins: Vec<Plugin> = Vec::new();
        for path in libraries(dir)? {
            let settings = Settings::beside(&path)?;
            let spec = settings.spec(&path, required);
            let start = |source| PluginsError::Start { path: path.clone(), source };
            let runner = if settings.in_process {
                let spec = Spec { isolation_required: required, ..spec };
                Runner::Inside(InProcess::start(spec).await.map_err(start)?)
            } else {
                Runner::Apart(Pool::start(keeper, spec).await.map_err(start)?)
            };
            let identity = runner.identity();
            let other =
                plugins.iter().find(|other| other.runner.identity().name == identity.name).map(|other| other.path.display().to_string());
            let built_in = crate::BUILTIN_TYPES.contains(&identity.name.as_str()).then(|| "every worker".to_owned());
            let configured =
                crate::CONFIGURED_TYPES.contains(&identity.name.as_str()).then(|| "a worker that is configured for it".to_owned());
            if let Some(other) = other.or(built_in).or(configured) {
                return Err(PluginsError::Twice { path, name: identity.name.clone(), other });
            }
            tracing::info!(plugin = identity.name, version = identity.version, isolation = %identity.isolation, path = %path.display(), "plugin");
            plugins.push(Plugin { path, runner });
        }
        Ok(Self(Arc::new(plugins)))
    }

    /// Who they are.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter().map(|plugin| plugin.runner.identity())
    }

    /// The weakest isolation among them; `None` when there are none.
    pub fn isolation(&self) -> Option<Isolation> {
        self.identities().map(|identity| identity.isolation).min()
    }

    /// Offers them through this worker.
    pub fn register(&self, mut worker: WorkerBuilder) -> WorkerBuilder {
        for plugin in self.0.iter() {
            let runner = plugin.runner.clone();
            worker = worker.task(plugin.runner.identity().name.clone(), move |context, input| {
                let runner = runner.clone();
                async move { run(&runner, &context, &input).await }
            });
        }
        worker
    }

    /// Lets them shut down in order.
    pub async fn close(&self) {
        for plugin in self.0.iter() {
            if let Runner::Apart(pool) = &plugin.runner {
                pool.close().await;
            }
        }
    }
}

impl Runner {
    fn identity(&self) -> &Identity {
        match self {
            Self::Apart(pool) => pool.identity(),
            Self::Inside(inside) => inside.identity(),
        }
    }
}

/// The shared libraries of a directory, by name.
fn libraries(dir: &Path) -> Result<Vec<PathBuf>, PluginsError> {
    let read = |source| PluginsError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        // Absolute, as the processes of plugins start elsewhere.
        let path = std::path::absolute(entry.map_err(read)?.path()).map_err(read)?;
        if path.extension().is_some_and(|extension| extension == "so") {
            paths.push(path);
        }
        if paths.len() > PLUGINS_MAX {
            return Err(PluginsError::TooMany { path: dir.to_owned() });
        }
    }
    paths.sort();
    Ok(paths)
}

async fn run(runner: &Runner, context: &TaskContext, input: &Value) -> Result<Value, TaskFailure> {
    let call = call(context, input);
    let outcome = match runner {
        Runner::Apart(pool) => pool.execute(&call).await,
        Runner::Inside(inside) => inside.execute(call).await,
    };
    match outcome.map_err(|error| broken(&error))? {
        Outcome::Completed(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => output::bounded(value),
            Err(error) => Err(TaskFailure::permanent("bad_output", format!("the plugin's output is not JSON: {error}"))),
        },
        Outcome::Failed(failed) => Err(TaskFailure {
            code: failed.code,
            message: failed.message,
            retryable: failed.retryable,
            retry_after_ms: failed.retry_after_ms,
        }),
    }
}

/// Another attempt may meet a better process, or a better worker.
fn broken(error: &CallError) -> TaskFailure {
    TaskFailure::retryable(error.code(), error.to_string())
}

fn call(context: &TaskContext, input: &Value) -> Call {
    Call {
        task_id: context.task_id.to_string(),
        instance_id: context.instance_id.to_string(),
        task: context.task.clone(),
        workflow: context.workflow.clone(),
        namespace: context.namespace.clone(),
        idempotency_key: context.idempotency_key.clone(),
        traceparent: context.traceparent.clone().unwrap_or_default(),
        config_json: if context.config.is_null() { "{}".to_owned() } else { context.config.to_string() },
        fencing_token: context.fencing_token,
        attempt: context.attempt,
        timeout_ms: within(context.timeout_ms),
        input: input.to_string().into_bytes(),
    }
}

/// How long the plugin or program has of the attempt's time: a little less, so that its end is told with its last words before the attempt's is.
pub(crate) fn within(timeout_ms: u64) -> u64 {
    timeout_ms - (timeout_ms / REPORT_SHARE).min(REPORT_MS_MAX)
}

/// The part of an attempt's time that is kept for reporting.
const REPORT_SHARE: u64 = 10;
/// And the most of it, milliseconds; it covers the grace that a plugin has to stop by itself.
const REPORT_MS_MAX: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_s_end_comes_before_the_attempt_s() {
        assert_eq!([within(0), within(1), within(1_000), within(30_000)], [0, 1, 900, 29_500]);
    }

    #[test]
    fn a_call_says_everything_about_the_attempt() {
        let mut context = crate::tests::context(Value::Null);
        context.traceparent = Some("00-1-2-01".to_owned());
        let call = call(&context, &serde_json::json!({"a": 1}));
        assert_eq!((call.config_json.as_str(), call.input.as_slice(), call.timeout_ms), ("{}", br#"{"a":1}"#.as_slice(), 0));
        assert_eq!((call.idempotency_key.as_str(), call.traceparent.as_str(), call.attempt), ("key", "00-1-2-01", 1));
    }
}
