//! `sql`: one statement on a PostgreSQL database, in a transaction of its own.
//!
//! Config: `connection`, the name of one of the worker's databases; `query`, one statement with `$1`, `$2`, …; `params`, their values, which are
//! always bound and never become part of the text; `dedupe` (default false); `rows_max` (default 1,000); `timeout` (default 30 s), which the
//! database keeps as well.
//! Output: `{"rows": [{...}], "row_count": 1, "repeated": false}`.
//!
//! An attempt may run twice, a transaction must not: with `dedupe: true` the task's idempotency key and its output are written to the table
//! `distric_dedupe` in the same transaction. The next attempt at the same task finds them, changes nothing, and answers
//! with that output and `repeated: true`. The table is the database's owner's to make: see [`DEDUPE_TABLE`].

mod databases;
mod failures;
mod values;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

pub use self::databases::{Databases, DatabasesError};
use self::failures::{failed, lost};
use self::values::{Param, row_of};
use crate::config::{self, bad};
use crate::failure::{self, Code};
use crate::{TaskContext, TaskFailure, output};

/// Makes the table that `dedupe: true` needs. Rows older than the longest retry of any workflow may be deleted at any time.
pub const DEDUPE_TABLE: &str = "create table distric_dedupe (key text primary key, at timestamptz not null default now(), output jsonb)";

/// Most rows that an output has when its task does not say.
const ROWS_MAX_DEFAULT: usize = 1_000;
/// Most rows that an output may have; its bytes are bounded as well.
const ROWS_MAX: usize = 100_000;
/// Most bound values: the protocol counts them in 16 bits.
const PARAMS_MAX: usize = 65_535;

const CLAIM: &str = "insert into distric_dedupe (key) values ($1) on conflict (key) do nothing";
const FOUND: &str = "select output from distric_dedupe where key = $1";
const KEEP: &str = "update distric_dedupe set output = $2 where key = $1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlConfig {
    connection: String,
    query: String,
    #[serde(default)]
    params: Vec<Value>,
    #[serde(default)]
    dedupe: bool,
    rows_max: Option<usize>,
    timeout: Option<Value>,
}

/// Runs one `sql` task. Errors: see [`Code`]; a lost connection, a deadlock, a serialization failure, a lack of resources and the timeout are retryable.
pub async fn run(databases: &Databases, context: &TaskContext) -> Result<Value, TaskFailure> {
    let config: SqlConfig = config::read(&context.config)?;
    let rows_max = config.rows_max.unwrap_or(ROWS_MAX_DEFAULT);
    if rows_max > ROWS_MAX {
        return Err(bad("rows_max", format_args!("must be at most {ROWS_MAX}")));
    }
    if config.params.len() > PARAMS_MAX {
        return Err(bad("params", format_args!("must be at most {PARAMS_MAX}")));
    }
    let within = config::timeout(config.timeout.as_ref())?;
    // What is dropped in mid-transaction is rolled back before its connection serves another task.
    match timeout(within, exchange(databases, context, &config, rows_max, within)).await {
        Ok(result) => output::bounded(result?),
        Err(_) => Err(failure::passing(Code::ExchangeTimeout, format!("no answer within {} ms", within.as_millis()), None)),
    }
}

async fn exchange(
    databases: &Databases,
    context: &TaskContext,
    config: &SqlConfig,
    rows_max: usize,
    within: Duration,
) -> Result<Value, TaskFailure> {
    let mut client = databases.get(&config.connection).await?;
    let transaction = client.transaction().await.map_err(lost)?;
    // The number comes from a duration, never from text.
    transaction.batch_execute(&format!("set local statement_timeout = {}", within.as_millis())).await.map_err(lost)?;
    if config.dedupe
        && let Some(before) = claim(&transaction, &context.idempotency_key).await?
    {
        return Ok(before);
    }
    let statement = transaction.prepare(&config.query).await.map_err(|error| failed("query", &error))?;
    let result = execute(&transaction, &statement, &config.params, rows_max).await?;
    if config.dedupe {
        transaction.execute(KEEP, &[&context.idempotency_key, &result]).await.map_err(|error| failed("dedupe", &error))?;
    }
    transaction.commit().await.map_err(|error| failed("query", &error))?;
    Ok(result)
}

/// Enters the task's key. Returns the output that an earlier attempt has left; waits for one that is under way.
async fn claim(transaction: &Transaction<'_>, key: &String) -> Result<Option<Value>, TaskFailure> {
    let claimed = transaction.execute(CLAIM, &[key]).await.map_err(|error| failed("dedupe", &error))?;
    if claimed > 0 {
        return Ok(None);
    }
    let row = transaction.query_one(FOUND, &[key]).await.map_err(|error| failed("dedupe", &error))?;
    let mut before: Value = row.try_get::<_, Option<Value>>(0).map_err(|error| failed("dedupe", &error))?.unwrap_or_else(|| json!({}));
    before["repeated"] = Value::Bool(true);
    Ok(Some(before))
}

async fn execute(transaction: &Transaction<'_>, statement: &Statement, params: &[Value], rows_max: usize) -> Result<Value, TaskFailure> {
    let expected = statement.params().len();
    if params.len() != expected {
        return Err(bad("params", format_args!("the query has {expected} parameters, {} values are given", params.len())));
    }
    let params: Vec<Param<'_>> = params.iter().map(Param).collect();
    let bound: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
    if statement.columns().is_empty() {
        let count = transaction.execute(statement, &bound).await.map_err(|error| failed("query", &error))?;
        return Ok(json!({ "rows": [], "row_count": count, "repeated": false }));
    }
    // A portal brings no more rows than are wanted, however many there are.
    let portal = transaction.bind(statement, &bound).await.map_err(|error| failed("query", &error))?;
    let wanted = i32::try_from(rows_max + 1).expect("ROWS_MAX is far below");
    let rows = transaction.query_portal(&portal, wanted).await.map_err(|error| failed("query", &error))?;
    if rows.len() > rows_max {
        return Err(failure::permanent(Code::OutputTooLarge, format!("the query has more rows than rows_max, {rows_max}")));
    }
    let rows = rows.iter().map(row_of).collect::<Result<Vec<Value>, TaskFailure>>()?;
    Ok(json!({ "row_count": rows.len(), "rows": rows, "repeated": false }))
}
