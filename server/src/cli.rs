//! The command line: its shape only. What a verb does is in `verbs/`, one file each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::verbs::rules_live::{ChangeArgs, ExportForm};

/// Messages in, workflows out, durably.
#[derive(Debug, Parser)]
#[command(name = "distric", version, about, propagate_version = true, max_term_width = 120, disable_help_subcommand = true)]
pub struct Cli {
    /// Print JSON for scripts instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run one node with a worker and HTTP, to develop against.
    Dev(DevArgs),
    /// Run a coordinator node; workers connect from elsewhere.
    Coordinator(CoordinatorArgs),
    /// Run a worker that takes tasks from coordinators.
    Worker(WorkerArgs),
    /// Show the whole thing at work: three nodes, 5,000 events, a leader killed in mid-stream, and a proof that nothing was lost or doubled.
    Demo(DemoArgs),
    /// Send one event and follow what it starts to the end.
    Send(SendArgs),
    /// Start a workflow without a rule and follow it to the end.
    Run(RunArgs),
    /// Start one task without a workflow and follow it to the end.
    Submit(SubmitArgs),
    /// Send a signal to the task that waits for it.
    Signal(SignalArgs),
    /// Work with rule files.
    #[command(subcommand)]
    Rules(RulesVerb),
    /// Work with workflow files.
    #[command(subcommand)]
    Workflows(WorkflowsVerb),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Work with task plugins.
    #[command(subcommand)]
    Plugin(PluginVerb),
    /// The part of a worker that runs one plugin; started by workers.
    #[command(hide = true)]
    PluginHost,
    /// Measure.
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Fit the node to its machine.
    #[command(subcommand)]
    Tune(TuneVerb),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Where configuration comes from, for every verb that has one.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "DISTRIC_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set any key of docs/config.md; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Least severe log level: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Shape of log lines: json, text.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The usual keys of a node as flags.
#[derive(Args, Clone, Debug, Default)]
pub struct NodeArgs {
    /// Sources of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Name of the node.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Directory of log and state.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Listener of the binary protocol, IP:port.
    #[arg(long, value_name = "ADDRESS")]
    pub wire_bind: Option<String>,
    /// Listener of HTTP, IP:port.
    #[arg(long, value_name = "ADDRESS")]
    pub http_bind: Option<String>,
    /// Do not serve HTTP.
    #[arg(long)]
    pub no_http: bool,
    /// Allow listeners that other machines can reach, although clients are not authenticated.
    #[arg(long)]
    pub insecure_bind: bool,
    /// Listener for the other coordinators.
    #[arg(long, value_name = "ADDRESS")]
    pub peer_bind: Option<String>,
    /// Become a member of the cluster of these coordinators (their peer addresses), if the data directory is empty.
    #[arg(long, value_name = "ADDRESSES")]
    pub join: Option<String>,
    /// Shards: auto, or a number.
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// Work groups of a new data directory.
    #[arg(long, value_name = "N")]
    pub partitions: Option<String>,
}

/// `distric dev`.
#[derive(Args, Clone, Debug, Default)]
pub struct DevArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Rules to apply once the node is up.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Workflows to apply once the node is up.
    #[arg(long, value_name = "FILE")]
    pub workflows: Option<PathBuf>,
    /// A cluster of so many nodes on this machine, each a process with a data directory of its own: 1, 3 or 5.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,
    /// Directory of task plugins for the worker in this process.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// File that names the programs which the worker in this process runs, and allows a shell.
    #[arg(long, value_name = "FILE")]
    pub programs: Option<PathBuf>,
    /// Do not run a worker in this process.
    #[arg(long)]
    pub no_worker: bool,
    /// End when stdin is closed: for a parent that must not leave this process behind.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// `distric coordinator`.
#[derive(Args, Clone, Debug, Default)]
pub struct CoordinatorArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Rules to apply once the node is up.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Workflows to apply once the node is up.
    #[arg(long, value_name = "FILE")]
    pub workflows: Option<PathBuf>,
    /// End when stdin is closed: for a parent that must not leave this process behind.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// `distric worker`.
#[derive(Args, Clone, Debug, Default)]
pub struct WorkerArgs {
    /// Sources of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Coordinators to connect to, comma-separated host:port.
    #[arg(long, alias = "join", value_name = "ADDRESSES")]
    pub coordinators: Option<String>,
    /// Name of the worker.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Tasks that run at the same time.
    #[arg(long, value_name = "N")]
    pub slots: Option<String>,
    /// Tasks held ready beyond the running ones.
    #[arg(long, value_name = "N")]
    pub prefetch: Option<String>,
    /// Processors for its tasks, thousandths, such as 8000.
    #[arg(long, value_name = "N")]
    pub cpu_millis: Option<String>,
    /// Memory for its tasks, such as 16GiB.
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Labels, comma-separated name=value.
    #[arg(long, value_name = "LABELS")]
    pub labels: Option<String>,
    /// Directory of task plugins.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// File that names the programs which it runs, and allows a shell.
    #[arg(long, value_name = "FILE")]
    pub programs: Option<PathBuf>,
    /// End when stdin is closed: for a parent that must not leave this process behind.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// `distric demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many events of the stream to submit.
    #[arg(long, value_name = "N", default_value_t = crate::demo::events::STREAM_EVENTS)]
    pub events: usize,
    /// Keep the temporary directory, and say where it is.
    #[arg(long)]
    pub keep: bool,
}

/// Where client verbs connect to.
#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// Coordinators, comma-separated host:port.
    #[arg(long, value_name = "ADDRESSES", env = "DISTRIC_ADDR", default_value = "127.0.0.1:7400")]
    pub addr: String,
    /// Namespace.
    #[arg(long, value_name = "NAME", env = "DISTRIC_NAMESPACE")]
    pub namespace: Option<String>,
    /// Longest wait for one answer, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout_ms: u64,
}

/// `distric send`.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Event type.
    pub event_type: String,
    /// Payload as JSON; `@FILE` reads a file, `-` reads stdin.
    pub payload: String,
    /// Two events with one key take effect once.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Events with one routing key keep their order.
    #[arg(long, value_name = "KEY")]
    pub routing_key: Option<String>,
    /// Who sends it.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// A header; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Do not wait for the workflows that it starts.
    #[arg(long)]
    pub no_follow: bool,
}

/// `distric run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The workflow.
    pub workflow: String,
    /// Its input as JSON; `@FILE` reads a file, `-` reads stdin.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub input: String,
    /// Two starts with one key take effect once.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Begin so much later: seconds, or 10s, 2m, 1h.
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    pub delay: Option<String>,
    /// Begin then: an RFC 3339 instant.
    #[arg(long, value_name = "INSTANT")]
    pub at: Option<String>,
    /// Do not wait for its end.
    #[arg(long)]
    pub no_follow: bool,
}

/// `distric submit`.
#[derive(Args, Clone, Debug)]
pub struct SubmitArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Task type.
    #[arg(long, value_name = "TYPE")]
    pub task: String,
    /// Its config as JSON; `@FILE` reads a file.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub config: String,
    /// Its input as JSON; `@FILE` reads a file, `-` reads stdin.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub input: String,
    /// Two starts with one key take effect once.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Do not wait for its end.
    #[arg(long)]
    pub no_follow: bool,
}

/// `distric workflows cancel|pause|resume`.
#[derive(Args, Clone, Debug)]
pub struct InstanceArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The instance.
    #[arg(value_name = "ID")]
    pub id: uuid::Uuid,
    /// Why, for its history.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `distric workflows retry`.
#[derive(Args, Clone, Debug)]
pub struct RetryArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The instance.
    #[arg(value_name = "ID", required_unless_present = "status")]
    pub id: Option<uuid::Uuid>,
    /// Every instance with this status: failed, timed_out or cancelled.
    #[arg(long, value_name = "STATUS", conflicts_with = "id")]
    pub status: Option<String>,
    /// Of those, only the instances of this workflow.
    #[arg(long, value_name = "WORKFLOW", requires = "status")]
    pub workflow: Option<String>,
    /// Only say which instances it would be.
    #[arg(long, requires = "status")]
    pub dry_run: bool,
    /// From this task on, although it may have completed.
    #[arg(long, value_name = "TASK")]
    pub from: Option<String>,
    /// Another input as JSON; `@FILE` reads a file, `-` reads stdin.
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// Another version of the definition.
    #[arg(long, value_name = "N")]
    pub version: Option<u64>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `distric signal`.
#[derive(Args, Clone, Debug)]
pub struct SignalArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The signal's name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The key that the waiting task gave.
    #[arg(long, value_name = "KEY", required_unless_present = "instance", conflicts_with = "instance")]
    pub key: Option<String>,
    /// The instance, for a task that waits without a key.
    #[arg(long, value_name = "ID")]
    pub instance: Option<uuid::Uuid>,
    /// What it carries as JSON; `@FILE` reads a file, `-` reads stdin.
    #[arg(long, value_name = "JSON", default_value = "null")]
    pub payload: String,
    /// How long it is kept while nobody waits, such as `10m`; 24h when not given.
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<String>,
    /// Two signals with one key take effect once.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// `distric rules …`.
#[derive(Clone, Debug, Subcommand)]
pub enum RulesVerb {
    /// Parse and check rule files; exit 1 with positions when something is wrong.
    Check {
        /// Rule files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Workflow files that the actions may name; without any, names are not checked.
        #[arg(long, value_name = "FILE")]
        workflows: Vec<PathBuf>,
    },
    /// The same, and what only warns is a finding too: unreachable, contradictory, duplicate rules.
    Lint {
        /// Rule files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Workflow files that the actions may name; without any, names are not checked.
        #[arg(long, value_name = "FILE")]
        workflows: Vec<PathBuf>,
    },
    /// Run unit tests of rules, written in YAML.
    Test {
        /// Test files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Test these rules instead of those that the files name.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
    },
    /// Replay recorded messages against a candidate, and show which decisions would differ.
    #[command(disable_version_flag = true)]
    Backtest(crate::verbs::rules_backtest::BacktestArgs),
    /// Measure what a rule file costs on this machine.
    Bench {
        /// The rule file, or a directory of them.
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// One JSON message a line.
        #[arg(long, value_name = "FILE")]
        messages: PathBuf,
        /// How long to measure.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3_600))]
        seconds: u32,
    },
    /// List the rules of a cluster.
    List {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a file or directory the rules of a cluster: the plan first, then one atomic version.
    Apply {
        /// The rule file, or a directory of rule and workflow files.
        #[arg(value_name = "FILE")]
        rules: PathBuf,
        /// Workflows to apply in the same version.
        #[arg(long, value_name = "FILE")]
        workflows: Option<PathBuf>,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Compare two rule files; or a cluster's rules with a file; or an older version with what holds now. Exit 1 when they differ.
    #[command(disable_version_flag = true)]
    Diff {
        /// Where the cluster is.
        #[command(flatten)]
        client: ClientArgs,
        /// One file to compare the cluster with, or two to compare with each other.
        #[arg(value_name = "FILE", num_args = 0..=2, required_unless_present = "version")]
        files: Vec<PathBuf>,
        /// The cluster's catalog at this version.
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
    /// Show how often rules matched on a node since it started.
    Top {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
        /// So many rules.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Let a candidate judge what the catalog decides, while only the catalog acts.
    #[command(subcommand)]
    Shadow(crate::verbs::rules_trial::ShadowVerb),
    /// Let a candidate decide for a share of the messages.
    #[command(subcommand)]
    Canary(crate::verbs::rules_trial::CanaryVerb),
    /// Show the versions of a cluster's catalog: who, when, why.
    History {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
        /// So many versions.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Make rules and workflows what they were at a version, as a new version.
    #[command(disable_version_flag = true)]
    Rollback {
        /// The version.
        #[arg(value_name = "VERSION")]
        version: u64,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Print a cluster's catalog as it can be applied again.
    #[command(disable_version_flag = true)]
    Export {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
        /// As it was at this version.
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
        /// What to print.
        #[arg(long, value_name = "FORM", default_value = "rules")]
        form: ExportForm,
    },
    /// Let a rule take part again.
    Enable {
        /// The rule.
        #[arg(value_name = "ID")]
        id: String,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Keep a rule and let it take no part.
    Disable {
        /// The rule.
        #[arg(value_name = "ID")]
        id: String,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Apply a file or directory now and whenever it changes.
    Watch {
        /// The rule file, or a directory of rule and workflow files.
        #[arg(value_name = "DIR")]
        path: PathBuf,
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Who, for the history.
        #[arg(long, value_name = "NAME", env = "USER")]
        author: Option<String>,
    },
    /// Explain why a message that a cluster took in matched what it matched.
    #[command(disable_version_flag = true)]
    Why {
        /// The message.
        #[arg(value_name = "MESSAGE_ID")]
        message: uuid::Uuid,
        /// Only this rule.
        #[arg(long, value_name = "ID")]
        rule: Option<String>,
        /// Explain it under this version instead of the one that decided.
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Match messages offline: one line a message, a summary on stderr.
    Match {
        /// The rule file.
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// One JSON message a line.
        #[arg(long, value_name = "FILE")]
        messages: PathBuf,
    },
    /// Show every condition with the value that it saw.
    Explain {
        /// The rule file.
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// One JSON message; `-` reads stdin.
        #[arg(long, value_name = "FILE")]
        message: PathBuf,
        /// Only this rule.
        #[arg(long, value_name = "ID")]
        rule: Option<String>,
        /// Event type of the envelope.
        #[arg(long, value_name = "TYPE")]
        event_type: Option<String>,
    },
}

/// `distric workflows …`.
#[derive(Clone, Debug, Subcommand)]
pub enum WorkflowsVerb {
    /// Parse and check workflow files; exit 1 with positions when something is wrong.
    Check {
        /// Workflow files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A task type that workers offer beyond the built-in ones; may be given several times.
        #[arg(long = "task-type", value_name = "TYPE")]
        task_types: Vec<String>,
        /// Take every unknown task type for one that some worker will offer.
        #[arg(long)]
        any_task_type: bool,
    },
    /// List instances, in order of their creation.
    List {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Only with this status.
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
        /// Only these.
        #[command(flatten)]
        filter: ListFilterArgs,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Instances that failed: list them, look at one, retry them.
    #[command(subcommand)]
    Incidents(IncidentsVerb),
    /// List the schedules by which workflows start, with their next runs.
    Schedules {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Say what an instance waits for: its keys, and what keeps each of its open tasks.
    Why {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// The instance.
        #[arg(value_name = "ID")]
        id: uuid::Uuid,
    },
    /// End an instance early.
    Cancel(InstanceArgs),
    /// Start nothing new in an instance; what runs goes on.
    Pause(InstanceArgs),
    /// Let a paused instance go on.
    Resume(InstanceArgs),
    /// Take instances that failed back to where they failed: one by its id, or all that a query finds.
    #[command(disable_version_flag = true)]
    Retry(RetryArgs),
}

/// `distric workflows incidents …`.
#[derive(Clone, Debug, Subcommand)]
pub enum IncidentsVerb {
    /// List incidents.
    List {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Only these.
        #[command(flatten)]
        filter: ListFilterArgs,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one with its reason, the input and the attempts of its task.
    Show {
        /// Where to.
        #[command(flatten)]
        client: ClientArgs,
        /// Its instance.
        #[arg(value_name = "ID")]
        id: uuid::Uuid,
    },
    /// Retry from the failed task: one by its instance, or all that a filter finds.
    Resolve(ResolveArgs),
}

/// `distric workflows incidents resolve`.
#[derive(Args, Clone, Debug)]
pub struct ResolveArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The instance.
    #[arg(value_name = "ID", required_unless_present_any = ["workflow", "rule", "message", "key", "code", "task", "from", "until"])]
    pub id: Option<uuid::Uuid>,
    /// All of these.
    #[command(flatten)]
    pub filter: ListFilterArgs,
    /// Only say which it would be.
    #[arg(long)]
    pub dry_run: bool,
    /// Another input as JSON; `@FILE` reads a file, `-` reads stdin.
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// Another version of the definition.
    #[arg(long, value_name = "N")]
    pub to_version: Option<u64>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// What a list shall contain only.
#[derive(Args, Clone, Debug, Default)]
pub struct ListFilterArgs {
    /// Of this workflow.
    #[arg(long, value_name = "WORKFLOW")]
    pub workflow: Option<String>,
    /// Started by this rule.
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Started by this message.
    #[arg(long, value_name = "ID")]
    pub message: Option<uuid::Uuid>,
    /// With this key: one that it begins by, or that its tasks take turns under.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// With this code of its error.
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// Failed in this task.
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// Created then or later: an RFC 3339 instant.
    #[arg(long, value_name = "INSTANT")]
    pub from: Option<String>,
    /// Created before: an RFC 3339 instant.
    #[arg(long, value_name = "INSTANT")]
    pub until: Option<String>,
}

/// `distric config …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a configuration without starting anything.
    Check {
        /// The file; without one, environment and flags alone.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// More sources.
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Print what holds after file, environment and flags.
    Print {
        /// Say for each value where it came from.
        #[arg(long)]
        show_origin: bool,
        /// The sources.
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// `distric plugin …`.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginVerb {
    /// Start a plugin in its sandbox as a worker would, without a cluster, and say what it is; with an input, run one task.
    Check(PluginCheckArgs),
}

/// `distric plugin check`.
#[derive(Args, Clone, Debug)]
pub struct PluginCheckArgs {
    /// The shared library; settings are read from the `.yaml` beside it.
    #[arg(value_name = "FILE.so")]
    pub file: PathBuf,
    /// Run one task with this input, JSON; `@FILE` reads a file, `-` reads stdin.
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// The config of that task, JSON; `@FILE` reads a file.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub config: String,
    /// Weakest isolation that is good enough: none, process, syscalls, full.
    #[arg(long, value_name = "LEVEL", default_value = "process", value_parser = ["none", "process", "syscalls", "full"])]
    pub isolation: String,
}

/// `distric bench …`.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchVerb {
    /// Measure how fast a node accepts messages.
    Ingest(crate::verbs::bench::IngestArgs),
    /// Measure workflows of no-op tasks from end to end, with workers in this process.
    Workflows(crate::verbs::bench_workflows::WorkflowsArgs),
    /// Measure how long a change of the catalog takes until every shard of a cluster decides by it, under load.
    Reload(crate::verbs::bench_reload::ReloadArgs),
}

/// `distric tune …`.
#[derive(Clone, Debug, Subcommand)]
pub enum TuneVerb {
    /// Print which thread would run on which core.
    Plan {
        /// The sources.
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_is_documented() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).unwrap();
        for verb in Cli::command().get_subcommands() {
            let below: Vec<String> = verb.get_subcommands().map(|sub| format!("`distric {} {}", verb.get_name(), sub.get_name())).collect();
            let names = if below.is_empty() { vec![format!("`distric {}", verb.get_name())] } else { below };
            for name in names {
                assert!(page.contains(&name), "docs/cli.md lacks {name}");
            }
        }
    }
}
