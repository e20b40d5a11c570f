//! A node and what surrounds it in one process: HTTP, a worker, the catalog files, signals.
//!
//! In: a checked configuration.  Out: a running node until a signal, a closed stdin, or a failure ends it.
//! The node's own threads are inside `distric_core`; everything here lives on one tokio thread, the housekeeping core.
//! Order of the start: files are checked, listeners are bound, the node starts, the catalog is applied, then `ready` is said.
//! Order of the end: HTTP stops accepting and finishes, the worker hands its tasks back, the node flushes and ends.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use distric_core::config::{Config, Loaded};
use distric_core::{NodeHandle, NodeOptions, StartError};
use distric_exec::definition::{KnownTypes, check_workflows};
use distric_rules::document::{NodeValue, parse_document};
use distric_rules::{CheckContext, Problem, Severity};
use distric_sdk::{Client, ClientOptions, Command, CommandKind};
use distric_shim_http::{ShimLimits, ShimState};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint};
use crate::settings::{CATALOG_BYTES_MAX, read_text};
use crate::{logging, signals, verbs, workers};

/// Longest time for the node to lead its groups and take the catalog.
const CATALOG_WITHIN_MS: u64 = 15_000;
/// Longest time for everything to finish after the first signal; then the process ends anyway, with a failure.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How long the wire port may still be in use at the start. The kernel takes an io_uring apart after its process has ended, and until
/// then an accept in flight holds the listener: a node that was killed and is started again at once would find its own port taken.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(1);
/// The port of the binary protocol that client verbs assume.
const DEFAULT_WIRE_PORT: u16 = 7_400;
/// Between two tries to listen.
const PORT_ASKED_EVERY: Duration = Duration::from_millis(20);

/// What a verb wants besides the node.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The verb, for people and in the `ready` line.
    pub verb: &'static str,
    /// Rules to apply.
    pub rules: Option<PathBuf>,
    /// Workflows to apply.
    pub workflows: Option<PathBuf>,
    /// Whether to run a worker in this process.
    pub worker: bool,
    /// Whether the data directory is removed at the end.
    pub temporary: bool,
    /// Whether to end when stdin is closed.
    pub until_stdin_closes: bool,
}

/// Runs a node until something ends it.
pub fn run(loaded: Loaded, data_dir: &Path, wishes: &Wishes, output: Output) -> Result<Exit, Failure> {
    let mut config = loaded.config;
    config.node.data_dir = Some(data_dir.to_owned());
    let _log = logging::install(&config.log, &config.node.name);
    let signals = match wishes.rules.is_some() || wishes.workflows.is_some() {
        true => signals::listen_and_reload().map(|(stopped, reloaded)| (stopped, Some(reloaded))),
        // Without files there is nothing to read again, and a closed terminal ends the node as it ends anything.
        false => signals::listen().map(|stopped| (stopped, None)),
    };
    let signals = signals.map_err(|error| Failure::new(Exit::Environment, format!("cannot listen to signals: {error}")))?;
    let catalog = CatalogFiles::read(wishes)?;
    let http = if config.http.enabled { Some(bind("http.bind", config.http.bind)?) } else { None };
    let node = start(&config, data_dir)?;
    let result = crate::client::block_on(host(&node, &config, http, catalog, wishes, signals, output));
    let ended = node.shutdown().map_err(|error| Failure::new(Exit::NodeFailed, format!("the node did not end cleanly: {error}")));
    let exit = result?;
    ended?;
    tracing::info!("stopped");
    Ok(exit)
}

/// Starts the node; a wire port that is still held by a predecessor gets a moment to become free.
fn start(config: &Config, data_dir: &Path) -> Result<NodeHandle, Failure> {
    let deadline = Instant::now() + PORT_FREE_WITHIN;
    loop {
        match distric_core::start(NodeOptions::new(config.clone())) {
            Ok(node) => return Ok(node),
            Err(StartError::Bind { source, .. } | StartError::BindPeer { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(PORT_ASKED_EVERY);
            }
            Err(StartError::Bind { address, source }) => return Err(bind_failure("wire.bind", address, &source)),
            Err(StartError::BindPeer { address, source }) => return Err(bind_failure("peer.bind", address, &source)),
            Err(error) => {
                let message = format!("the node cannot start on {}: {error}", data_dir.display());
                return Err(Failure::new(Exit::Environment, message));
            }
        }
    }
}

/// Binds a listener, naming setting and remedy when that fails.
fn bind(key: &str, address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let refused = |error: io::Error| bind_failure(key, address, &error);
    let listener = std::net::TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

fn bind_failure(key: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Environment, format!("cannot listen on {address} ({key}): {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            failure.with_remedy(format!("end the other process, or choose another port: --set {key}=127.0.0.1:0 takes a free one"))
        }
        io::ErrorKind::PermissionDenied => failure.with_remedy("choose a port above 1023"),
        io::ErrorKind::AddrNotAvailable => failure.with_remedy("choose an address of this machine"),
        _ => failure,
    }
}

async fn host(
    node: &NodeHandle,
    config: &Config,
    http: Option<std::net::TcpListener>,
    catalog: CatalogFiles,
    wishes: &Wishes,
    (mut stopped, reloaded): (watch::Receiver<bool>, Option<watch::Receiver<u64>>),
    output: Output,
) -> Result<Exit, Failure> {
    let wire = node.wire_address();
    let client = Client::connect(ClientOptions::new([wire.to_string()]).name("distric-host").request_timeout_ms(CATALOG_WITHIN_MS)).await?;
    let catalog_version = catalog.apply(&client, "files given at start").await?;
    let (stop, stopping) = watch::channel(false);
    let (http_address, edge) = match http {
        Some(listener) => {
            let (address, edge) = serve_http(node, listener, client.clone(), stopping.clone())?;
            (Some(address), Some(edge))
        }
        None => (None, None),
    };
    let worker = if wishes.worker { Some(workers::beside(node, config, wire, stopping).await?) } else { None };
    let event_type = catalog.rules.as_ref().and_then(first_event_type);
    let found = Found { http: http_address, catalog_version, event_type };
    announce(node, config, &found, wishes, output);
    let reloading = reloaded.map(|reloaded| tokio::spawn(reload(client.clone(), wishes.clone(), reloaded)));

    let failed = tokio::select! {
        () = signals::first(&mut stopped) => None,
        () = stdin_closes(wishes.until_stdin_closes) => None,
        reason = failure_of(node) => Some(reason),
    };
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    drop(client);
    // Nobody listens when neither HTTP nor a worker runs here.
    let _ = stop.send(true);
    let finish = async {
        if let Some(edge) = edge {
            let _ = edge.await;
        }
        if let Some(worker) = worker {
            let _ = worker.await;
        }
    };
    let in_time = tokio::time::timeout(STOP_WITHIN, finish).await.is_ok();
    match failed {
        Some(reason) => {
            Err(Failure::new(Exit::NodeFailed, format!("the node stopped by itself: {reason}")).with_remedy("its log lines say more"))
        }
        None if !in_time => Err(Failure::new(Exit::FailedOutcome, format!("not everything finished within {} s", STOP_WITHIN.as_secs()))),
        None => Ok(Exit::Success),
    }
}

/// Reads the catalog files again at every SIGHUP, and applies them. What does not pass its check changes nothing.
async fn reload(client: Client, wishes: Wishes, mut reloaded: watch::Receiver<u64>) {
    loop {
        signals::hang_up(&mut reloaded).await;
        let applied = match CatalogFiles::read(&wishes) {
            Ok(files) => files.apply(&client, "files read again after SIGHUP").await,
            Err(failure) => Err(failure),
        };
        match applied {
            Ok(catalog_version) => tracing::info!(catalog_version, "catalog files read again after SIGHUP"),
            Err(failure) => {
                tracing::error!(error = %failure, "the catalog files were read again after SIGHUP and are not applied; the catalog is as it was");
            }
        }
    }
}

/// Resolves when the node has stopped by itself, with the reason.
async fn failure_of(node: &NodeHandle) -> String {
    node.failed().await
}

/// Resolves when stdin is closed, if that is wanted.
pub async fn stdin_closes(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (closed, told) = tokio::sync::oneshot::channel();
    // A thread of its own: a blocking read of stdin cannot be cancelled, and must not keep the runtime from ending.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = told.await;
}

fn serve_http(
    node: &NodeHandle,
    listener: std::net::TcpListener,
    client: Client,
    mut stopping: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Environment, format!("cannot serve HTTP: {error}"));
    let address = listener.local_addr().map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let metrics = node.metrics();
    let state =
        ShimState { client, metrics: Arc::new(move || metrics.text()), version: verbs::version::VERSION, limits: ShimLimits::default() };
    let edge = tokio::spawn(distric_shim_http::serve(listener, state, async move { signals::first(&mut stopping).await }));
    Ok((address, edge))
}

/// The catalog files of this start, read and checked before anything runs.
#[derive(Debug, Default)]
struct CatalogFiles {
    rules: Option<Source>,
    workflows: Option<Source>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
}

impl Source {
    fn read(path: &Path) -> Result<Self, Failure> {
        Ok(Self { name: path.display().to_string(), text: read_text(path, CATALOG_BYTES_MAX)? })
    }

    fn json(source: Option<&Self>) -> Value {
        source.map_or(Value::Null, |source| json!({"name": source.name, "text": source.text}))
    }
}

impl CatalogFiles {
    fn read(wishes: &Wishes) -> Result<Self, Failure> {
        let files = Self {
            rules: wishes.rules.as_deref().map(Source::read).transpose()?,
            workflows: wishes.workflows.as_deref().map(Source::read).transpose()?,
        };
        let mut problems: Vec<Problem> = Vec::new();
        let mut known = None;
        if let Some(source) = &files.workflows {
            let checked = check_workflows(&source.name, &source.text, &KnownTypes::any());
            known = Some(checked.definitions.iter().map(|definition| definition.id.to_string()).collect::<BTreeSet<_>>());
            problems.extend(checked.problems);
        }
        if let Some(source) = &files.rules {
            problems.extend(
                distric_rules::check(
                    &source.name,
                    &source.text,
                    &CheckContext { known_workflows: known.as_ref(), ..CheckContext::default() },
                )
                .problems,
            );
        }
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Failure::new(Exit::BadInput, "the catalog files are not valid; nothing was started")
                .with_remedy("distric rules check FILE, distric workflows check FILE")
                .with_findings(problems));
        }
        for problem in problems {
            tracing::warn!("{problem}");
        }
        Ok(files)
    }

    /// Applies both files as one change. Returns the catalog's version, if there was anything to apply.
    async fn apply(&self, client: &Client, reason: &str) -> Result<Option<u64>, Failure> {
        if self.rules.is_none() && self.workflows.is_none() {
            return Ok(None);
        }
        let body = json!({"rules": Source::json(self.rules.as_ref()), "workflows": Source::json(self.workflows.as_ref())});
        let command = Command::new(CommandKind::ApplyCatalog).body(body.to_string()).author("command line").reason(reason);
        let reply = client.command(command).await?;
        Ok(reply.version)
    }
}

/// What only the start itself could tell.
struct Found {
    http: Option<SocketAddr>,
    catalog_version: Option<u64>,
    event_type: Option<String>,
}

fn announce(node: &NodeHandle, config: &Config, found: &Found, wishes: &Wishes, output: Output) {
    let wire = node.wire_address();
    let data_dir = config.node.data_dir.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let http = found.http.map(|address| format!("http://{address}"));
    output.json(&json!({
        "event": "ready", "verb": wishes.verb, "version": verbs::version::VERSION, "pid": std::process::id(), "node": config.node.name,
        "node_id": node.node_id().to_string(), "cluster_id": node.cluster_id().to_string(), "wire": wire.to_string(), "peer": node.peer_address().to_string(), "http": http,
        "data_dir": data_dir, "temporary": wishes.temporary, "catalog_version": found.catalog_version, "plan": node.plan(),
    }));
    let line = |name: &str, value: &str| output.text(format!("  {:<8} {value}", output.paint(Paint::Dim, name)));
    output.text(format!(
        "{} {}, node {} {}",
        output.paint(Paint::Strong, &format!("distric {}", wishes.verb)),
        verbs::version::VERSION,
        config.node.name,
        node.node_id()
    ));
    for (position, row) in node.plan().to_string().lines().enumerate() {
        line(if position == 0 { "cores" } else { "" }, row.trim());
    }
    line("wire", &wire.to_string());
    line("peers", &node.peer_address().to_string());
    line("http", http.as_deref().unwrap_or("off"));
    line("data", &format!("{data_dir}{}", if wishes.temporary { " (temporary, removed at the end)" } else { "" }));
    line("try", &suggestion(http.as_deref(), wire, found.event_type.as_deref()));
    tracing::info!(verb = wishes.verb, wire = %wire, http = http.as_deref().unwrap_or("off"), data_dir, "ready");
}

/// One line to try next: an event of the first type that the loaded rules ask for, or a message over HTTP.
fn suggestion(http: Option<&str>, wire: SocketAddr, event_type: Option<&str>) -> String {
    match (http, event_type) {
        (Some(http), None) => {
            format!("curl -s {http}/api/v1/messages -H 'Content-Type: application/json' -d '{{\"event_type\":\"hello\",\"n\":1}}'")
        }
        (_, event_type) => {
            let addr = if wire.port() == DEFAULT_WIRE_PORT { String::new() } else { format!(" --addr {wire}") };
            format!("distric send{addr} {} '{{\"n\":1}}'", event_type.unwrap_or("hello"))
        }
    }
}

/// The first event type that a rule file names.
fn first_event_type(rules: &Source) -> Option<String> {
    let document = parse_document(&rules.name, &rules.text).ok()?;
    let NodeValue::List(rules) = &document.root.get("rules")?.value else { return None };
    rules.iter().find_map(|rule| rule.get("event_type")?.as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_fits_what_is_loaded() {
        let source = Source { name: "rules.yaml".to_owned(), text: crate::demo::RULES_TEXT.to_owned() };
        let event_type = first_event_type(&source);
        let wire = SocketAddr::from(([127, 0, 0, 1], 7_400));
        assert_eq!(suggestion(Some("http://a"), wire, event_type.as_deref()), "distric send payment_received '{\"n\":1}'");
        assert!(suggestion(Some("http://a"), wire, None).starts_with("curl -s http://a/"));
        assert!(suggestion(None, SocketAddr::from(([127, 0, 0, 1], 9)), None).contains("--addr 127.0.0.1:9 hello"));
    }
}
