//! `distric rules list|apply|diff|history|rollback|export|enable|disable`: the catalog of a running cluster.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use comfy_table::Table;
use distric_sdk::{Client, Command, CommandKind, Query, QueryKind};
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::{block_on, connect};
use crate::exit::{Exit, Failure};
use crate::live_catalog::{Difference, Exported, json_of};
use crate::output::{Output, Paint, write_line};
use crate::rule_files::{Sources, rule_set};
use crate::settings::{CATALOG_BYTES_MAX, read_text};

/// Lines of history on one answer.
const HISTORY_ROWS_MAX: u32 = 1_000;
/// Names of one kind that a plan shows; the rest is counted.
const PLAN_NAMES_SHOWN: usize = 50;

/// Where a change goes, and what the history will say about it.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// Where to.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Who asks, for the history.
    #[arg(long, value_name = "NAME", env = "USER")]
    pub author: Option<String>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Refuse unless the catalog has this version.
    #[arg(long, value_name = "VERSION")]
    pub if_match: Option<u64>,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// Rules alone, as a file that `rules apply` takes.
    Rules,
    /// Workflows alone.
    Workflows,
    /// Both, and the version.
    Both,
}

impl ChangeArgs {
    /// A command of this kind that says all this.
    pub(super) fn command(&self, kind: CommandKind) -> Command {
        let mut command = Command::new(kind).dry_run(self.dry_run);
        command.author.clone_from(&self.author);
        command.reason.clone_from(&self.reason);
        command.if_match = self.if_match;
        command
    }
}

/// Applies a file or directory: the plan first, then one atomic version.
pub fn apply(rules: &Path, workflows: Option<&Path>, args: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    let mut sources = Sources::read(rules)?;
    if let Some(path) = workflows {
        sources.workflows = Some((path.display().to_string(), read_text(path, CATALOG_BYTES_MAX)?));
    }
    block_on(async {
        let client = connect(&args.client).await?;
        let command = || args.command(CommandKind::ApplyCatalog).body(sources.body());
        let plan = client.command(command().dry_run(true)).await.map_err(|error| explained(error.into()))?;
        let version = plan.version;
        let plan = json_of(&plan)?;
        if args.dry_run {
            output.json(&plan);
            print_plan(&plan, output);
            return Ok(Exit::Success);
        }
        if !output.json {
            print_plan(&plan, output);
        }
        if plan["would_be"] == plan["catalog_version"] {
            output.json(&json!({"catalog_version": version, "changed": false}));
            return Ok(Exit::Success);
        }
        let mut command = command();
        // What is applied is what was planned: nobody may have come in between.
        command.if_match = args.if_match.or(version);
        finish(&client, command, output).await
    })
}

/// Makes the catalog what it was at a version, as a new version.
pub fn rollback(version: u64, args: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    change(args.command(CommandKind::RollbackCatalog).version(version), args, output)
}

/// Lets one rule take part, or not.
pub fn switch(id: &str, enabled: bool, args: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    let kind = if enabled { CommandKind::EnableRule } else { CommandKind::DisableRule };
    change(args.command(kind).name(id), args, output)
}

fn change(command: Command, args: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    block_on(async {
        let client = connect(&args.client).await?;
        if command.dry_run {
            let plan = json_of(&client.command(command).await?)?;
            output.json(&plan);
            print_plan(&plan, output);
            return Ok(Exit::Success);
        }
        finish(&client, command, output).await
    })
}

async fn finish(client: &Client, command: Command, output: Output) -> Result<Exit, Failure> {
    let applied = json_of(&client.command(command).await.map_err(|error| explained(error.into()))?)?;
    output.json(&applied);
    output.text(format!("{} catalog version {}", output.paint(Paint::Good, "applied"), applied["catalog_version"]));
    Ok(Exit::Success)
}

/// A catalog that does not fit in the log has a remedy of its own.
pub(super) fn explained(failure: Failure) -> Failure {
    if failure.message.contains("when compressed") {
        return failure.with_remedy("split the rules over namespaces");
    }
    failure
}

/// Prints what a change would do.
pub(super) fn print_plan(plan: &Value, output: Output) {
    let names = |list: &str| -> Vec<String> {
        let items = plan[list].as_array().into_iter().flatten();
        // A changed workflow is told with its new number.
        items
            .map(|item| {
                item.as_str().map_or_else(|| format!("{} version {}", item[0].as_str().unwrap_or_default(), item[1]), str::to_owned)
            })
            .collect()
    };
    for (list, sign, what) in [
        ("rules_changed", "~", "rule"),
        ("rules_removed", "-", "rule"),
        ("workflows_changed", "~", "workflow"),
        ("workflows_removed", "-", "workflow"),
    ] {
        let names = names(list);
        names.iter().take(PLAN_NAMES_SHOWN).for_each(|name| output.text(format!("  {sign} {what} {name}")));
        let count = plan[format!("{list}_count")].as_u64().map_or(names.len(), |count| count as usize);
        if count > PLAN_NAMES_SHOWN {
            output.text(format!("  {sign} and {} more", count - PLAN_NAMES_SHOWN));
        }
    }
    for warning in plan["warnings"].as_array().into_iter().flatten() {
        let text = |member: &str| warning[member].as_str().unwrap_or_default().to_owned();
        output.text(format!("  {}:{}: warning: {}", text("file"), warning["line"], text("message")));
    }
    let (now, then) = (&plan["catalog_version"], &plan["would_be"]);
    output.text(if now == then { format!("nothing changes: catalog version {now}") } else { format!("catalog version {now} -> {then}") });
}

/// What `after` changes of `before`. Each is a file, a directory, or the node's catalog. Exit 1 when they differ.
pub fn diff(client: &ClientArgs, files: &[PathBuf], version: Option<u64>, output: Output) -> Result<Exit, Failure> {
    let difference = match files {
        [before, after] => Difference::between(&rule_set(before)?, &rule_set(after)?),
        [after] => {
            let after = rule_set(after)?;
            let live = block_on(async { Exported::fetch(&connect(client).await?, version).await })?;
            Difference::between(&live.rule_set()?, &after)
        }
        _ => {
            let (then, now) = block_on(async {
                let client = connect(client).await?;
                Ok((Exported::fetch(&client, version).await?, Exported::fetch(&client, None).await?))
            })?;
            Difference::between(&then.rule_set()?, &now.rule_set()?)
        }
    };
    output.json(&difference.to_json());
    difference.lines().iter().for_each(|line| output.text(line));
    if difference.is_empty() {
        output.text("no difference");
    }
    Ok(if difference.is_empty() { Exit::Success } else { Exit::FailedOutcome })
}

/// Versions, newest first.
pub fn history(client: &ClientArgs, limit: u32, output: Output) -> Result<Exit, Failure> {
    let history = block_on(async {
        let query = Query::new(QueryKind::CatalogHistory).limit(limit.clamp(1, HISTORY_ROWS_MAX));
        json_of(&connect(client).await?.query(query).await?)
    })?;
    output.json(&history);
    if output.json {
        return Ok(Exit::Success);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "VERSION",
        "APPLIED",
        "NAMESPACE",
        "RULES",
        "WORKFLOWS",
        "AUTHOR",
        "REASON",
    ]);
    for row in history["items"].as_array().into_iter().flatten() {
        let count =
            |list: &str| row[format!("{list}_count")].as_u64().map_or_else(|| row[list].as_array().map_or(0, Vec::len), |n| n as usize);
        let applied = row["applied_at_us"].as_i64().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
        let counts = |changed: usize, removed: usize| format!("~{changed} -{removed}");
        let text = |member: &str| row[member].as_str().unwrap_or("").to_owned();
        table.add_row([
            row["version"].to_string(),
            applied.map(|at| at.to_string()).unwrap_or_default(),
            text("namespace"),
            counts(count("rules_changed"), count("rules_removed")),
            counts(count("workflows_changed"), count("workflows_removed")),
            text("author"),
            text("reason"),
        ]);
    }
    write_line(&table.to_string());
    write_line(&format!(
        "now at version {}; versions from {} on can be seen and gone back to",
        history["catalog_version"], history["oldest_version"]
    ));
    Ok(Exit::Success)
}

/// What rules did on the node that answers, the costliest first, then those with most matches.
pub fn top(client: &ClientArgs, limit: usize, output: Output) -> Result<Exit, Failure> {
    let counted = block_on(async { json_of(&connect(client).await?.query(Query::new(QueryKind::RuleStatistics)).await?) })?;
    output.json(&counted);
    if output.json {
        return Ok(Exit::Success);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["RULE", "EVALUATED", "MATCHED", "SHARE", "ERRORS", "COST"]);
    for row in counted["items"].as_array().into_iter().flatten().take(limit) {
        let number = |member: &str| row[member].as_u64().unwrap_or(0);
        let share = number("matched") as f64 * 100.0 / number("evaluated").max(1) as f64;
        table.add_row([
            row["rule"].as_str().unwrap_or_default().to_owned(),
            number("evaluated").to_string(),
            number("matched").to_string(),
            format!("{share:.2} %"),
            number("errors").to_string(),
            row["cost_share"].as_f64().map_or("-".to_owned(), |share| format!("{:.2} %", share * 100.0)),
        ]);
    }
    write_line(&table.to_string());
    write_line(&format!("{} messages, {} rules matched at least once", counted["messages"], counted["rules_matched_count"]));
    Ok(Exit::Success)
}

/// Prints the catalog as it can be applied again.
pub fn export(client: &ClientArgs, version: Option<u64>, form: ExportForm) -> Result<Exit, Failure> {
    let exported = block_on(async { Exported::fetch(&connect(client).await?, version).await })?;
    let document = match form {
        ExportForm::Rules => Value::Object(exported.rules),
        ExportForm::Workflows => json!({"workflows": exported.workflows}),
        ExportForm::Both => json!({"catalog_version": exported.version, "rules": exported.rules, "workflows": exported.workflows}),
    };
    // JSON is YAML: the same file serves both readers.
    write_line(&serde_json::to_string_pretty(&document).expect("a tree of texts and numbers is JSON"));
    Ok(Exit::Success)
}

/// The rules in the order in which they are tried.
pub fn list(client: &ClientArgs, output: Output) -> Result<Exit, Failure> {
    let exported = block_on(async { Exported::fetch(&connect(client).await?, None).await })?;
    let empty = Vec::new();
    let mut rules: Vec<&Value> = exported.rules["rules"].as_array().unwrap_or(&empty).iter().collect();
    // The export is in order of id, which stays among equals.
    rules.sort_by_key(|rule| std::cmp::Reverse(rule["priority"].as_i64().unwrap_or(0)));
    output.json(&json!({"catalog_version": exported.version, "rules": rules}));
    if output.json {
        return Ok(Exit::Success);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["ID", "PRIORITY", "ENABLED", "EVENT TYPE", "STARTS", "DESCRIPTION"]);
    for rule in rules {
        let text = |member: &str| rule[member].as_str().unwrap_or("").to_owned();
        let starts: Vec<&str> = rule["actions"].as_array().into_iter().flatten().filter_map(|action| action["workflow"].as_str()).collect();
        table.add_row([
            text("id"),
            rule["priority"].as_i64().unwrap_or(0).to_string(),
            (rule["enabled"] != json!(false)).to_string(),
            text("event_type"),
            starts.join(", "),
            text("description"),
        ]);
    }
    write_line(&table.to_string());
    Ok(Exit::Success)
}
