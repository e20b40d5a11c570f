//! `exec` and `shell`: a program of this machine, one process per attempt, in the sandbox that plugins have.
//!
//! `exec` config: `program`, a name of the worker's settings; `args`; `env`. `shell` config: `script`, constant text for `/bin/sh -c`; `env`. Both:
//! `expect_exit` (default 0) and `permanent_exit` (default none), codes.
//! The input is one JSON document on stdin, then its end. Output: stdout if it is JSON, null if it is empty, else `{"stdout": text}`, or
//! `{"stdout_base64": …}` of what is no text.
//!
//! Every program is shut in once before the worker says what it offers, so that one that cannot be run is found when the worker starts.

mod settings;
mod task;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use distric_plugins_host::{Isolation, Keeper, Program, ProgramError, ProgramSpec};
use distric_rules::Problem;
use distric_sdk::worker::WorkerBuilder;

pub use settings::ProgramSettings;

/// Most programs of one worker.
pub const PROGRAMS_MAX: usize = 256;

/// Why the programs of a worker cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is wrong.
    #[error("{path} is not right", path = path.display())]
    Settings {
        /// Which.
        path: PathBuf,
        /// Everything that is wrong in it.
        problems: Vec<Problem>,
    },
    /// A program cannot be run.
    #[error("{what}: {source}")]
    Start {
        /// Which: `program NAME`, or `shell`.
        what: String,
        /// Why.
        source: ProgramError,
    },
}

/// The programs that a worker offers. Cheap to clone; clones share the bounds of attempts at once.
#[derive(Clone, Debug, Default)]
pub struct Programs(Arc<Offered>);

#[derive(Debug, Default)]
struct Offered {
    programs: BTreeMap<String, Program>,
    shell: Option<Program>,
}

impl Programs {
    /// Reads the settings, and shuts each program in once. `required` is the weakest isolation that this worker accepts.
    ///
    /// Errors: [`ProgramsError`], for the first program that cannot be offered.
    pub async fn start(path: &Path, keeper: &Keeper, required: Isolation) -> Result<Self, ProgramsError> {
        let settings = ProgramSettings::of(path)?;
        let mut programs = BTreeMap::new();
        for (name, spec) in settings.programs {
            let program = start(keeper, spec, required, format!("program {name}")).await?;
            programs.insert(name, program);
        }
        let shell = match settings.shell {
            Some(spec) => Some(start(keeper, spec, required, "shell".to_owned()).await?),
            None => None,
        };
        Ok(Self(Arc::new(Offered { programs, shell })))
    }

    /// The names of the programs, and how far each is kept apart.
    pub fn names(&self) -> impl Iterator<Item = (&str, Isolation)> {
        self.0.programs.iter().map(|(name, program)| (name.as_str(), program.isolation()))
    }

    /// How far the shell is kept apart, where there is one.
    pub fn shell(&self) -> Option<Isolation> {
        self.0.shell.as_ref().map(Program::isolation)
    }

    /// The weakest isolation among them; `None` when there are none.
    pub fn isolation(&self) -> Option<Isolation> {
        self.names().map(|(_, isolation)| isolation).chain(self.shell()).min()
    }

    /// Offers `exec` through this worker if there is a program, and `shell` if there is one.
    pub fn register(&self, mut worker: WorkerBuilder) -> WorkerBuilder {
        if !self.0.programs.is_empty() {
            let offered = self.0.clone();
            worker = worker.task("exec", move |context, input| {
                let offered = offered.clone();
                async move { task::exec(&offered.programs, &context, &input).await }
            });
        }
        if let Some(shell) = self.0.shell.clone() {
            worker = worker.task("shell", move |context, input| {
                let shell = shell.clone();
                async move { task::shell(&shell, &context, &input).await }
            });
        }
        worker
    }
}

async fn start(keeper: &Keeper, mut spec: ProgramSpec, required: Isolation, what: String) -> Result<Program, ProgramsError> {
    spec.spec.isolation_required = spec.spec.isolation_required.max(required);
    let path = spec.spec.path.display().to_string();
    match Program::start(keeper, spec).await {
        Ok(program) => {
            tracing::info!(what, path, isolation = %program.isolation(), "program");
            Ok(program)
        }
        Err(source) => Err(ProgramsError::Start { what, source }),
    }
}
