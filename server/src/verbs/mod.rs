//! The verbs, one file each. A verb returns its exit code, or a [`Failure`] that `run` prints.

pub mod bench;
pub mod bench_reload;
pub mod bench_workflows;
pub mod completions;
pub mod config;
pub mod coordinator;
pub mod demo;
pub mod dev;
pub mod dev_cluster;
pub mod plugin_check;
pub mod rules_backtest;
pub mod rules_bench;
pub mod rules_check;
pub mod rules_explain;
pub mod rules_live;
pub mod rules_match;
pub mod rules_test;
pub mod rules_trial;
pub mod rules_watch;
pub mod rules_why;
pub mod run;
pub mod send;
pub mod signal;
pub mod submit;
pub mod tune;
pub mod version;
pub mod worker;
pub mod workflows_check;
pub mod workflows_live;
pub mod workflows_operate;
pub mod workflows_why;

use distric_wire::client::CommandKind;

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
        Verb::Signal(args) => signal::run(&args, output),
        Verb::Rules(verb) => run_rules(verb, output),
        Verb::Workflows(WorkflowsVerb::Check { files, task_types, any_task_type }) => {
            workflows_check::run(&files, &task_types, any_task_type, output)
        }
        Verb::Workflows(WorkflowsVerb::List { client, status, filter, limit }) => {
            workflows_live::list(&client, status.as_deref(), &filter, limit, output)
        }
        Verb::Workflows(WorkflowsVerb::Incidents(verb)) => workflows_live::incidents(&verb, output),
        Verb::Workflows(WorkflowsVerb::Schedules { client }) => workflows_live::schedules(&client, output),
        Verb::Workflows(WorkflowsVerb::Why { client, id }) => workflows_why::run(&client, id, output),
        Verb::Workflows(WorkflowsVerb::Cancel(args)) => workflows_operate::one(CommandKind::CancelInstance, &args, output),
        Verb::Workflows(WorkflowsVerb::Pause(args)) => workflows_operate::one(CommandKind::PauseInstance, &args, output),
        Verb::Workflows(WorkflowsVerb::Resume(args)) => workflows_operate::one(CommandKind::ResumeInstance, &args, output),
        Verb::Workflows(WorkflowsVerb::Retry(args)) => workflows_operate::retry(&args, output),
        Verb::Config(ConfigVerb::Check { file, node }) => config::check(file.as_deref(), &node, output),
        Verb::Config(ConfigVerb::Print { show_origin, node }) => config::print(show_origin, &node, output),
        Verb::Plugin(PluginVerb::Check(args)) => plugin_check::run(&args, output),
        Verb::PluginHost => plugin_check::host(),
        Verb::Bench(BenchVerb::Ingest(args)) => bench::run(&args, output),
        Verb::Bench(BenchVerb::Workflows(args)) => bench_workflows::run(&args, output),
        Verb::Bench(BenchVerb::Reload(args)) => bench_reload::run(&args, output),
        Verb::Tune(TuneVerb::Plan { node }) => tune::run(&node, output),
        Verb::Version => Ok(version::run(output)),
        Verb::Completions { shell } => completions::run(shell, output),
    }
}

fn run_rules(verb: RulesVerb, output: Output) -> Result<Exit, Failure> {
    match verb {
        RulesVerb::Check { files, workflows } => rules_check::run(&files, &workflows, rules_check::Severe::Errors, output),
        RulesVerb::Lint { files, workflows } => rules_check::run(&files, &workflows, rules_check::Severe::Warnings, output),
        RulesVerb::Test { files, rules } => rules_test::run(&files, rules.as_deref(), output),
        RulesVerb::Backtest(args) => rules_backtest::run(&args, output),
        RulesVerb::Bench { rules, messages, seconds } => rules_bench::run(&rules, &messages, seconds, output),
        RulesVerb::List { client } => rules_live::list(&client, output),
        RulesVerb::Apply { rules, workflows, change } => rules_live::apply(&rules, workflows.as_deref(), &change, output),
        RulesVerb::Diff { client, files, version } => rules_live::diff(&client, &files, version, output),
        RulesVerb::Top { client, limit } => rules_live::top(&client, limit, output),
        RulesVerb::Shadow(verb) => rules_trial::shadow(&verb, output),
        RulesVerb::Canary(verb) => rules_trial::canary(&verb, output),
        RulesVerb::History { client, limit } => rules_live::history(&client, limit, output),
        RulesVerb::Rollback { version, change } => rules_live::rollback(version, &change, output),
        RulesVerb::Export { client, version, form } => rules_live::export(&client, version, form),
        RulesVerb::Enable { id, change } => rules_live::switch(&id, true, &change, output),
        RulesVerb::Disable { id, change } => rules_live::switch(&id, false, &change, output),
        RulesVerb::Watch { path, client, author } => rules_watch::run(&path, &client, author.as_deref(), output),
        RulesVerb::Why { message, rule, version, client } => rules_why::run(&client, message, rule.as_deref(), version, output),
        RulesVerb::Match { rules, messages } => rules_match::run(&rules, &messages, output),
        RulesVerb::Explain { rules, message, rule, event_type } => {
            rules_explain::run(&rules, &message, rule.as_deref(), event_type.as_deref(), output)
        }
    }
}
