//! `sql` against a real PostgreSQL of this test's own. Without its server programs on this machine the tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use distric_worker::{Databases, TaskContext, TaskFailure, sql};
use serde_json::{Value, json};

/// Who the server runs as when the test is root, which the server refuses: nobody.
const NOBODY: u32 = 65_534;
/// The server is there within this.
const READY_WITHIN: Duration = Duration::from_secs(60);

struct Server {
    home: tempfile::TempDir,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory with `initdb` and `postgres`.
fn programs() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    versions.chain(on_path).find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
}

fn command(program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

impl Server {
    fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: no initdb and postgres on this machine");
            return None;
        };
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        if is_root() {
            std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).expect("root may give a directory away");
        }
        let data = home.path().join("data");
        let made = command(&programs.join("initdb"))
            .current_dir(home.path())
            .args(["-A", "trust", "-U", "distric", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .status();
        assert!(made.is_ok_and(|status| status.success()), "initdb makes a database");
        let child = command(&programs.join("postgres"))
            .current_dir(home.path())
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(home.path())
            .spawn()
            .expect("the server starts");
        Some(Self { home, child })
    }

    fn databases(&self) -> Databases {
        let address = format!("host={} user=distric dbname=postgres", self.home.path().display());
        Databases::new(&BTreeMap::from([("main".to_owned(), address)])).expect("the address is one")
    }
}

fn context(config: Value) -> TaskContext {
    static BASE: OnceLock<TaskContext> = OnceLock::new();
    let base = BASE.get_or_init(|| TaskContext {
        task_id: "0190163d-8694-739b-aea5-966c26f8ad91".parse().expect("an id"),
        instance_id: "0190163d-8694-7f01-8000-000000000001".parse().expect("an id"),
        namespace: "default".to_owned(),
        workflow: "orders".to_owned(),
        workflow_version: 1,
        task: "book".to_owned(),
        task_type: "sql".to_owned(),
        attempt: 1,
        fencing_token: 1,
        config: Value::Null,
        timeout_ms: 0,
        idempotency_key: "order-1-book".to_owned(),
        traceparent: None,
    });
    TaskContext { config, ..base.clone() }
}

async fn run(databases: &Databases, mut config: Value) -> Result<Value, TaskFailure> {
    config["connection"] = json!("main");
    sql::run(databases, &context(config)).await
}

async fn ready(databases: &Databases) {
    let began = Instant::now();
    while let Err(error) = run(databases, json!({ "query": "select 1" })).await {
        assert!(began.elapsed() < READY_WITHIN, "the server is not there: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn failure(result: Result<Value, TaskFailure>) -> (String, bool, String) {
    let failure = result.expect_err("it is refused");
    (failure.code, failure.retryable, failure.message)
}

#[tokio::test]
async fn a_statement_has_its_effect_once_and_says_what_it_did() {
    let Some(mut server) = Server::start() else { return };
    let databases = server.databases();
    ready(&databases).await;
    values(&databases).await;
    once(&databases).await;
    refusals(&databases).await;

    server.child.kill().expect("it runs");
    server.child.wait().expect("it is a child");
    let (code, retryable, _) = failure(run(&databases, json!({ "query": "select 1" })).await);
    assert!(retryable && (code == "connect_failed" || code == "connection_lost"), "{code}");
}

async fn values(databases: &Databases) {
    let query = "select $1::int8 as whole, $2::numeric(12,2) as exact, $3::text as text, $4::bool as truth, $5::timestamptz as at, $6::jsonb as tree, \
                 $7::text[] as list, $8::uuid as id, $9::float8 as float, null::int4 as nothing, '\\x00ff'::bytea as bytes, $10::date as day";
    let hostile = "'; drop table accounts; --";
    let params = json!([
        9_007_199_254_740_993_i64, "123456.70", hostile, true, "2026-01-02T03:04:05Z", { "a": [1, null] }, ["x\"y", null],
        "0190163d-8694-739b-aea5-966c26f8ad91", 0.25, "2026-01-02"
    ]);
    let output = run(databases, json!({ "query": query, "params": params })).await.unwrap();
    assert_eq!(
        output["rows"],
        json!([{
            "whole": 9_007_199_254_740_993_i64, "exact": "123456.70", "text": hostile, "truth": true, "at": "2026-01-02T03:04:05Z",
            "tree": { "a": [1, null] }, "list": ["x\"y", null], "id": "0190163d-8694-739b-aea5-966c26f8ad91", "float": 0.25, "nothing": null,
            "bytes": "AP8=", "day": "2026-01-02"
        }])
    );
    assert_eq!((&output["row_count"], &output["repeated"]), (&json!(1), &json!(false)));
}

async fn once(databases: &Databases) {
    run(databases, json!({ "query": "create table accounts (id text primary key, cents int8 not null)" })).await.unwrap();
    let output = run(databases, json!({ "query": "insert into accounts values ($1, $2)", "params": ["ada", 100] })).await.unwrap();
    assert_eq!(output, json!({ "rows": [], "row_count": 1, "repeated": false }));

    let book =
        json!({ "query": "update accounts set cents = cents - $1 where id = $2 returning cents", "params": [30, "ada"], "dedupe": true });
    let (code, retryable, message) = failure(run(databases, book.clone()).await);
    assert!(code == "bad_config" && !retryable && message.contains(sql::DEDUPE_TABLE), "{message}");
    run(databases, json!({ "query": sql::DEDUPE_TABLE })).await.unwrap();
    // Two attempts at one task at the same time, as when a worker was given up that still runs; and one after them.
    let (one, other) = tokio::join!(run(databases, book.clone()), run(databases, book.clone()));
    let (one, other, third) = (one.unwrap(), other.unwrap(), run(databases, book).await.unwrap());
    let repeated = [&one, &other, &third].iter().filter(|output| output["repeated"] == true).count();
    assert_eq!(repeated, 2, "{one} {other} {third}");
    assert!([&one, &other, &third].iter().all(|output| output["rows"] == json!([{ "cents": 70 }])), "{one} {other} {third}");
    let left = run(databases, json!({ "query": "select cents from accounts" })).await.unwrap();
    assert_eq!(left["rows"], json!([{ "cents": 70 }]), "it was booked once");
}

async fn refusals(databases: &Databases) {
    let (code, retryable, message) = failure(run(databases, json!({ "query": "select 1 frm accounts" })).await);
    assert!(code == "sql_failed" && !retryable && message.contains("42601") && message.contains("at character 14"), "{message}");
    let (code, retryable, message) = failure(run(databases, json!({ "query": "insert into accounts values ('ada', 1)" })).await);
    assert!(code == "sql_failed" && !retryable && message.contains("23505") && message.contains("already exists"), "{message}");
    let (code, _, message) = failure(run(databases, json!({ "query": "select $1::int4", "params": [1, 2] })).await);
    assert!(code == "bad_config" && message.contains("has 1 parameters, 2 values"), "{message}");
    let (_, _, message) = failure(run(databases, json!({ "query": "select $1::text", "params": [{}] })).await);
    assert!(message.contains("cannot be bound") && message.contains("::jsonb"), "{message}");
    let (_, _, message) = failure(run(databases, json!({ "query": "select point '(1,2)' as spot" })).await);
    assert!(message.contains("column `spot` is of type point") && message.contains("select spot::text"), "{message}");
    let many = json!({ "query": "select * from generate_series(1, 1000000)", "rows_max": 10 });
    let (code, _, message) = failure(run(databases, many).await);
    assert!(code == "output_too_large" && message.contains("rows_max, 10"), "{message}");
    let (code, retryable, _) = failure(run(databases, json!({ "query": "select pg_sleep(20)", "timeout": "200ms" })).await);
    assert!(retryable && matches!(code.as_str(), "exchange_timeout" | "sql_passing"), "{code}");
    let (_, _, message) = failure(sql::run(databases, &context(json!({ "connection": "other", "query": "select 1" }))).await);
    assert!(message.contains("no database `other`") && message.contains("main"), "{message}");
    // More tasks than connections, and none of them is stuck behind what was cut off before.
    let all = (0..40).map(|n| run(databases, json!({ "query": "select $1::int4 as n", "params": [n] })));
    for (n, output) in futures_of(all).await.into_iter().enumerate() {
        assert_eq!(output.unwrap()["rows"], json!([{ "n": n }]));
    }
}

async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}
