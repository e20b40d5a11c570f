//! Workers with the built-in executors: beside a node, or as a process of their own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use distric_core::NodeHandle;
use distric_core::config::table::WORKER_LABELS_MAX;
use distric_core::config::{Config, WorkerConfig};
use distric_model::{Slot, Timestamp, WorkerId};
use distric_plugins_host::{Isolation, Keeper, ProgramError, StartError};
use distric_sdk::worker::{WorkerBuilder, WorkerGauge, WorkerOptions};
use distric_worker::{Builtins, Databases, Plugins, PluginsError, Programs, ProgramsError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::demo::submit::now_us;
use crate::exit::{Exit, Failure};
use crate::signals;

/// The file in a data directory that remembers the id of the worker beside the node.
const WORKER_ID_FILE: &str = "worker-id";
/// The label under which placement can ask for a level of isolation.
const ISOLATION_LABEL: &str = "plugin_isolation";
/// The same for programs.
const PROGRAM_ISOLATION_LABEL: &str = "program_isolation";
/// Before a program's name: the label under which placement can ask for a worker that has it.
const PROGRAM_LABEL: &str = "program_";
/// How long tasks may go on after the end was asked for, milliseconds; below what the process allows for everything.
const DRAIN_WITHIN_MS: u64 = 10_000;

/// Starts the worker beside a node.
///
/// It keeps its id over restarts on one data directory: a node that comes back asks this worker about the tasks that it had, is told
/// that they are unknown, and hands them out again at once instead of waiting for the worker to be declared dead.
pub async fn beside(
    node: &NodeHandle,
    config: &Config,
    wire: SocketAddr,
    stopping: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Failure> {
    let id = match &config.node.data_dir {
        Some(dir) => Some(remembered_id(&dir.join(WORKER_ID_FILE))?),
        None => None,
    };
    tracing::debug!(node = %node.node_id(), "worker beside the node");
    let guests = Guests::start(&config.worker).await?;
    let builder = builder([wire.to_string()], &config.worker, id, None, &guests, WorkerGauge::default())?;
    Ok(tokio::spawn(async move {
        if let Err(error) = run(builder, stopping).await {
            tracing::error!(%error, "the worker beside the node ended; tasks wait for another one");
        }
        guests.plugins.close().await;
    }))
}

/// Foreign code that a worker runs, each in processes of its own.
#[derive(Clone, Debug, Default)]
pub struct Guests {
    /// Those of the configured directory; none when there is none.
    pub plugins: Plugins,
    /// Those of the configured file; none when there is none.
    pub programs: Programs,
}

impl Guests {
    /// Starts what the configuration names. Errors: what cannot be offered, for whoever started the worker.
    pub async fn start(config: &WorkerConfig) -> Result<Self, Failure> {
        let mut guests = Self::default();
        if config.plugins.is_none() && config.programs.is_none() {
            return Ok(guests);
        }
        let required = Isolation::of_name(&config.plugin_isolation).expect("the configuration takes only names of levels");
        let keeper = keeper()?;
        if let Some(dir) = &config.plugins {
            guests.plugins = Plugins::start(dir, &keeper, required).await.map_err(|error| refused(&error))?;
        }
        if let Some(file) = &config.programs {
            guests.programs = Programs::start(file, &keeper, required).await.map_err(|error| refused_program(&error))?;
        }
        Ok(guests)
    }

    /// What placement may ask of a worker with these: how far they are kept apart, and which programs there are.
    fn labels(&self, labels: &mut BTreeMap<String, String>) {
        let levels = [(ISOLATION_LABEL, self.plugins.isolation()), (PROGRAM_ISOLATION_LABEL, self.programs.isolation())];
        let levels = levels.into_iter().filter_map(|(label, level)| Some((label.to_owned(), level?.name().to_owned())));
        let programs = self.programs.names().map(|(name, _)| (format!("{PROGRAM_LABEL}{name}"), "yes".to_owned()));
        for (label, value) in levels.chain(programs) {
            // What is configured comes first, and is never crowded out.
            if labels.len() < WORKER_LABELS_MAX {
                labels.entry(label).or_insert(value);
            }
        }
    }
}

/// What starts the processes of plugins: this very program, also when its file has been replaced meanwhile.
pub fn keeper() -> Result<Keeper, Failure> {
    Keeper::new("/proc/self/exe".into(), vec!["plugin-host".into()])
        .map_err(|error| Failure::new(Exit::Environment, format!("cannot start a thread: {error}")))
}

/// A plugin that cannot be offered, for whoever started the worker.
pub fn refused(error: &PluginsError) -> Failure {
    let exit = match error {
        PluginsError::Start { source: StartError::Isolation { .. } | StartError::Spawn { .. }, .. } => Exit::Environment,
        _ => Exit::BadInput,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        PluginsError::Settings { problems, .. } => failure.with_findings(problems),
        PluginsError::Start { source: StartError::Isolation { .. }, .. } => failure
            .with_remedy("use a machine that gives it, or require less: worker.plugin_isolation, and `isolation` in the plugin's settings"),
        PluginsError::Start { .. } => {
            failure.with_remedy("`distric plugin check FILE.so` tries one plugin alone; docs/plugins.md says what it must have")
        }
        _ => failure,
    }
}

/// A program that cannot be offered, for whoever started the worker.
fn refused_program(error: &ProgramsError) -> Failure {
    let exit = match error {
        ProgramsError::Start { source: ProgramError::Isolation { .. } | ProgramError::Spawn { .. }, .. } => Exit::Environment,
        _ => Exit::BadInput,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        ProgramsError::Settings { problems, .. } => failure.with_findings(problems),
        ProgramsError::Start { source: ProgramError::Isolation { .. }, .. } => failure.with_remedy(
            "use a machine that gives it, or require less: worker.plugin_isolation, and `isolation` in the file of worker.programs",
        ),
        _ => failure.with_remedy("docs/plugins.md says what the file of worker.programs holds"),
    }
}

/// A worker for these coordinators, with the built-in task types, these plugins and programs. `generation`: which run this is, microseconds; the start
/// when `None`. `gauge` tells what the worker has in hand.
///
/// Errors: a database of the configuration whose address is missing or none.
///
/// Its labels `plugin_isolation` and `program_isolation` are the levels that all of them have reached, and `program_NAME` is `yes` for each program,
/// unless the configuration sets those labels.
pub fn builder(
    addresses: impl IntoIterator<Item = String>,
    config: &WorkerConfig,
    id: Option<WorkerId>,
    generation: Option<u64>,
    guests: &Guests,
    gauge: WorkerGauge,
) -> Result<WorkerBuilder, Failure> {
    let builtins = Builtins::default().databases(databases(config)?);
    let mut labels = config.labels.clone();
    guests.labels(&mut labels);
    let options = WorkerOptions {
        gauge: Some(gauge),
        worker_id: id,
        generation,
        name: config.name.clone(),
        slots: config.slots,
        prefetch: config.prefetch,
        cpu_millis: config.cpu_millis,
        memory_mib: config.memory_mib,
        labels: labels.into_iter().collect(),
        api_key: std::env::var("DISTRIC_API_KEY").ok(),
        drain_deadline_ms: DRAIN_WITHIN_MS,
        ..WorkerOptions::default()
    };
    let worker = builtins.register(WorkerBuilder::new(addresses, options));
    Ok(guests.programs.register(guests.plugins.register(worker)))
}

/// The databases of the configuration, their addresses from the environment.
fn databases(config: &WorkerConfig) -> Result<Databases, Failure> {
    let address = |(name, variable): (&String, &String)| match std::env::var(variable) {
        Ok(address) => Ok((name.clone(), address)),
        Err(error) => Err(Failure::new(Exit::BadInput, format!("worker.sql: database `{name}`: environment variable {variable}: {error}"))),
    };
    let addresses = config.sql.iter().map(address).collect::<Result<_, _>>()?;
    Databases::new(&addresses).map_err(|error| Failure::new(Exit::BadInput, format!("worker.sql: {error}")))
}

/// Runs a worker until it is asked to stop. Errors: a coordinator refused it for good.
pub async fn run(builder: WorkerBuilder, mut stopping: watch::Receiver<bool>) -> Result<(), distric_sdk::Error> {
    builder.run(async move { signals::first(&mut stopping).await }).await
}

/// An id that no other worker has, and the number of this run.
pub fn fresh_identity() -> Result<(WorkerId, u64), Failure> {
    let started_us = now_us();
    Ok((WorkerId::new(Timestamp::from_us(started_us), Slot::truncate(0), random()?), started_us))
}

fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::new(Exit::Environment, format!("the system gives no random numbers: {error}")))
}

/// The id in this file; a new one is written when there is none.
fn remembered_id(path: &Path) -> Result<WorkerId, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|error| {
            Failure::new(Exit::Environment, format!("{} is damaged: {error}", path.display()))
                .with_remedy("remove that file: a new id is made")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (id, _) = fresh_identity()?;
            let write = || -> io::Result<()> {
                let mut file = fs::File::create(path)?;
                writeln!(file, "{id}")?;
                file.sync_all()
            };
            write().map_err(|error| Failure::io("write", path, &error))?;
            Ok(id)
        }
        Err(error) => Err(Failure::io("read", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_kept_over_restarts_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(WORKER_ID_FILE);
        let first = remembered_id(&path).unwrap();
        assert_eq!(remembered_id(&path).unwrap(), first);
        fs::write(&path, "hello").unwrap();
        let failure = remembered_id(&path).unwrap_err();
        assert!(failure.message.contains("worker-id is damaged") && failure.remedy.is_some());
    }
}
