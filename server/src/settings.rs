//! From file, environment and flags of this process to a checked configuration.

use std::fs;
use std::path::{Path, PathBuf};

use distric_core::config::{Config, ConfigProblem, Loaded, Sources, load};

use crate::cli::{ConfigArgs, NodeArgs, WorkerArgs};
use crate::exit::{Exit, Failure};

/// Largest configuration file, bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Largest rule or workflow file, bytes.
pub const CATALOG_BYTES_MAX: u64 = 64 << 20;

/// The configuration of a node.
pub fn of_node(args: &NodeArgs) -> Result<Loaded, Failure> {
    of_node_with_file(args, args.config.config.as_deref())
}

/// The configuration of a node, from this file.
pub fn of_node_with_file(args: &NodeArgs, file: Option<&Path>) -> Result<Loaded, Failure> {
    let mut flags = Flags::default();
    flags.option("node.name", "--name", args.name.as_deref());
    flags.path("node.data_dir", "--data-dir", args.data_dir.as_ref());
    flags.option("wire.bind", "--wire-bind", args.wire_bind.as_deref());
    flags.option("peer.bind", "--peer-bind", args.peer_bind.as_deref());
    flags.option("cluster.join", "--join", args.join.as_deref());
    flags.option("http.bind", "--http-bind", args.http_bind.as_deref());
    flags.option("http.enabled", "--no-http", args.no_http.then_some("false"));
    flags.option("insecure_bind", "--insecure-bind", args.insecure_bind.then_some("true"));
    flags.option("shards", "--shards", args.shards.as_deref());
    flags.option("partitions", "--partitions", args.partitions.as_deref());
    flags.finish(&args.config, file)
}

/// The configuration of a worker process.
pub fn of_worker(args: &WorkerArgs) -> Result<Loaded, Failure> {
    let mut flags = Flags::default();
    flags.option("worker.coordinators", "--coordinators", args.coordinators.as_deref());
    flags.option("worker.name", "--name", args.name.as_deref());
    flags.option("worker.slots", "--slots", args.slots.as_deref());
    flags.option("worker.prefetch", "--prefetch", args.prefetch.as_deref());
    flags.option("worker.cpu_millis", "--cpu-millis", args.cpu_millis.as_deref());
    flags.option("worker.memory_bytes", "--memory", args.memory.as_deref());
    flags.option("worker.labels", "--labels", args.labels.as_deref());
    flags.path("worker.plugins", "--plugins", args.plugins.as_ref());
    flags.path("worker.programs", "--programs", args.programs.as_ref());
    flags.finish(&args.config, args.config.config.as_deref())
}

/// Flags that were given, as key, flag, value.
#[derive(Default)]
struct Flags(Vec<(String, String, String)>);

impl Flags {
    fn option(&mut self, key: &str, flag: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push((key.to_owned(), flag.to_owned(), value.to_owned()));
        }
    }

    fn path(&mut self, key: &str, flag: &str, value: Option<&PathBuf>) {
        self.option(key, flag, value.map(|path| path.to_string_lossy().into_owned()).as_deref());
    }

    fn finish(mut self, args: &ConfigArgs, file: Option<&Path>) -> Result<Loaded, Failure> {
        self.option("log.level", "--log-level", args.log_level.as_deref());
        self.option("log.format", "--log-format", args.log_format.as_deref());
        for pair in &args.set {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::new(Exit::Usage, format!("--set {pair}: expected KEY=VALUE")));
            };
            self.0.push((key.to_owned(), format!("--set {key}"), value.to_owned()));
        }
        let file = match file {
            Some(path) => Some((path.display().to_string(), read_text(path, CONFIG_BYTES_MAX)?)),
            None => None,
        };
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(distric_core::config::table::VARIABLE_PREFIX)) else { continue };
            match value.to_str() {
                Some(value) => environment.push((name.to_owned(), value.to_owned())),
                None => return Err(Failure::new(Exit::BadInput, format!("environment {name}: the value is not UTF-8"))),
            }
        }
        load(&Sources { file, environment, flags: self.0 }).map_err(|problems| refused(&problems))
    }
}

fn refused(problems: &[ConfigProblem]) -> Failure {
    let count = problems.len();
    Failure::new(Exit::BadInput, format!("the configuration has {count} problem{}", if count == 1 { "" } else { "s" }))
        .with_remedy("docs/config.md lists every key; `distric config print --show-origin` shows where values come from")
        .with_findings(problems)
}

/// Reads a text file of bounded size, naming it in every error.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    let io = |error: std::io::Error| Failure::io("read", path, &error);
    let metadata = fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(Failure::new(Exit::BadInput, format!("cannot read {}: it is a directory", path.display())).with_remedy("name a file"));
    }
    if metadata.len() > bytes_max {
        return Err(Failure::new(
            Exit::BadInput,
            format!("{} has {} bytes, more than the limit of {bytes_max}", path.display(), metadata.len()),
        ));
    }
    let bytes = fs::read(path).map_err(io)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Exit::BadInput, format!("{} is not UTF-8 text: byte {at} is wrong", path.display()))
    })
}

/// The data directory that must have been given.
pub fn data_dir_of(config: &Config) -> Result<&Path, Failure> {
    config.node.data_dir.as_deref().ok_or_else(|| {
        Failure::new(Exit::BadInput, "no data directory is configured")
            .with_remedy("give --data-dir DIR, or node.data_dir in the configuration; `distric dev` can do without")
    })
}

/// The data directory, or a temporary one that is removed when its handle is dropped.
pub fn data_dir_or_temporary(config: &Config) -> Result<(Option<tempfile::TempDir>, PathBuf), Failure> {
    if let Some(path) = &config.node.data_dir {
        return Ok((None, path.clone()));
    }
    let dir = tempfile::Builder::new()
        .prefix("distric-dev-")
        .tempdir()
        .map_err(|error| Failure::io("create a directory in", &std::env::temp_dir(), &error))?;
    let path = dir.path().to_owned();
    Ok((Some(dir), path))
}
