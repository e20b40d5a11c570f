//! The verbs, one file each. A verb returns its exit code, or a [`Failure`] that `run` prints.

pub mod bench;
pub mod completions;
pub mod config;
pub mod coordinator;
pub mod demo;
pub mod dev;
pub mod dev_cluster;
pub mod plugin_check;
pub mod rules_check;
pub mod rules_explain;
pub mod rules_match;
pub mod run;
pub mod send;
pub mod submit;
pub mod tune;
pub mod version;
pub mod worker;
pub mod workflows_check;

use crate::cli::{BenchVerb, ConfigVerb, PluginVerb, RulesVerb, TuneVerb, Verb, WorkflowsVerb};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs one verb.
pub fn run(verb: Verb, output: Output) -> Result<Exit, Failure> {
    match verb {
        Verb::Dev(args) => dev::run(&args, output),
        Verb::Coordinator(args) => coordinator::run(&args, output),
        Verb::Worker(args) => worker::run(&args, output),
        Verb::Demo(args) => demo::run(&args, output),
        Verb::Send(args) => send::run(&args, output),
        Verb::Run(args) => run::run(&args, output),
        Verb::Submit(args) => submit::run(&args, output),
        Verb::Rules(RulesVerb::Check { files, workflows }) => rules_check::run(&files, &workflows, output),
        Verb::Rules(RulesVerb::Match { rules, messages }) => rules_match::run(&rules, &messages, output),
        Verb::Rules(RulesVerb::Explain { rules, message, rule, event_type }) => {
            rules_explain::run(&rules, &message, rule.as_deref(), event_type.as_deref(), output)
        }
        Verb::Workflows(WorkflowsVerb::Check { files, task_types, any_task_type }) => {
            workflows_check::run(&files, &task_types, any_task_type, output)
        }
        Verb::Config(ConfigVerb::Check { file, node }) => config::check(file.as_deref(), &node, output),
        Verb::Config(ConfigVerb::Print { show_origin, node }) => config::print(show_origin, &node, output),
        Verb::Plugin(PluginVerb::Check(args)) => plugin_check::run(&args, output),
        Verb::PluginHost => plugin_check::host(),
        Verb::Bench(BenchVerb::Ingest(args)) => bench::run(&args, output),
        Verb::Tune(TuneVerb::Plan { node }) => tune::run(&node, output),
        Verb::Version => Ok(version::run(output)),
        Verb::Completions { shell } => completions::run(shell, output),
    }
}
