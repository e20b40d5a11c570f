//! The example plugins, each built and run in its sandbox.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use distric_plugins_host::{Call, Outcome, Pool, Spec};
use serde_json::{Value, json};
use support::{call, compile, keeper, plugin};

/// A library that cargo has built beside this test.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(format!("lib{name}.so"));
    assert!(path.exists(), "{} is not built: `cargo build -p distric-plugins-host --examples`", path.display());
    path
}

async fn start(path: &Path, change: impl FnOnce(&mut Spec)) -> Pool {
    let mut spec = Spec { path: path.to_owned(), ..Spec::default() };
    change(&mut spec);
    Pool::start(&keeper(), spec).await.unwrap()
}

/// The output, or the code of the failure as a string.
async fn run(pool: &Pool, config: Value, input: Value) -> Value {
    let call = Call { config_json: config.to_string(), ..call("", &input.to_string()) };
    match pool.execute(&call).await.unwrap() {
        Outcome::Completed(output) => serde_json::from_slice(&output).unwrap(),
        Outcome::Failed(failed) => Value::String(failed.code),
    }
}

#[tokio::test]
async fn payment_validator_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let pool = start(&plugin("examples/c/payment_validator.c", &dir.path().join("p.so")), |_| ()).await;
    let payment =
        |amount: Value, currency: &str, card: &str| json!({"note": {"a": ["}", 1]}, "amount": amount, "currency": currency, "card": card});
    let card = "4111111111111111";
    assert_eq!(run(&pool, json!({}), payment(json!(12.5), "EUR", card)).await, json!({"valid": true, "amount": 12.5}));
    for (config, input, reason) in [
        (json!({}), payment(json!(-1), "EUR", card), "amount is not above zero"),
        (json!({}), payment(json!("12"), "EUR", card), "amount is missing or no number"),
        (json!({"max_amount": 100}), payment(json!(101), "EUR", card), "amount is above the limit"),
        (json!({}), payment(json!(1), "ABC", card), "currency is unknown"),
        (json!({}), payment(json!(1), "EUR", "4111111111111112"), "card number is not valid"),
        (json!({}), json!([1, 2]), "amount is missing or no number"),
    ] {
        assert_eq!(run(&pool, config, input.clone()).await, json!({"valid": false, "reason": reason}), "{input}");
    }
    assert_eq!(run(&pool, json!({"max_amount": "many"}), json!({})).await, "bad_config");
}

#[tokio::test]
async fn user_history_checker_reads_the_one_file_that_it_is_granted() {
    let dir = tempfile::tempdir().unwrap();
    let probe = dir.path().join("probe.c");
    std::fs::write(&probe, "#include <sqlite3.h>\n").unwrap();
    let has_headers = Command::new("cc").arg("-E").arg(&probe).output().is_ok_and(|output| output.status.success());
    if !has_headers {
        eprintln!("sqlite3.h is not installed here (package libsqlite3-dev): user_history_checker was not built");
        return;
    }
    let database = dir.path().join("history.db");
    let maker = compile_with_sqlite("host/tests/plugins/history.c", &dir.path().join("make"), &[]);
    assert!(Command::new(maker).arg(&database).status().unwrap().success(), "the database could not be made");
    let flags = ["-shared", "-fPIC", "-pthread"];
    let path = compile_with_sqlite("examples/c/user_history_checker.c", &dir.path().join("u.so"), &flags);
    let pool = start(&path, |spec| {
        spec.config_json = json!({"database": database}).to_string();
        spec.grants.read.push(database.clone());
    })
    .await;
    let known = json!({"known": true, "payments": 2, "chargebacks": 1, "total": 120.5});
    assert_eq!(run(&pool, json!({}), json!({"user": "u-1"})).await, known);
    let injected = json!({"user": "x' OR '1'='1"});
    assert_eq!(run(&pool, json!({}), injected).await["known"], json!(false));
    assert_eq!(run(&pool, json!({}), json!({})).await, "bad_input");
    let refused = Pool::start(&keeper(), Spec { path, ..Spec::default() }).await.unwrap_err().to_string();
    assert!(refused.contains("config.database"), "{refused}");
}

fn compile_with_sqlite(source: &str, into: &Path, flags: &[&str]) -> PathBuf {
    // After the source, where the linker looks for what it misses.
    let mut flags = flags.to_vec();
    flags.extend(["-Wl,--no-as-needed", "-lsqlite3"]);
    compile(source, into, &flags)
}

#[tokio::test]
async fn ml_inference_scores_with_the_weights_that_it_brings() {
    let pool = start(&built("ml_inference"), |_| ()).await;
    let usual = json!({"amount": 85, "hour": 13.5, "attempts": 1.2, "account_age_days": 420});
    let output = run(&pool, json!({}), usual).await;
    // All features at their means: the score is the logistic function of the intercept, -4.2.
    assert!((output["score"].as_f64().unwrap() - 0.014_774_031_693_273_055).abs() < 1e-12, "{output}");
    assert_eq!((&output["flagged"], &output["model"]), (&json!(false), &json!("fraud-logistic-1")));
    let odd = json!({"amount": 900, "hour": 3, "attempts": 4, "account_age_days": 2});
    let output = run(&pool, json!({"threshold": 0.9}), odd).await;
    assert_eq!(output["flagged"], json!(true), "{output}");
    assert_eq!(run(&pool, json!({}), json!({"amount": 1})).await, "bad_input");
    assert_eq!(run(&pool, json!({"threshold": 2}), json!({})).await, "bad_config");
}

#[tokio::test]
async fn aggregate_counts_by_group() {
    let pool = start(&built("aggregate"), |_| ()).await;
    let input = json!({"records": [{"p": "a", "v": 1}, {"p": "b", "v": 5}, {"p": "a", "v": 3}]});
    let expected = json!({"a": {"count": 2, "sum": 4.0, "min": 1.0, "max": 3.0, "mean": 2.0}, "b": {"count": 1, "sum": 5.0, "min": 5.0, "max": 5.0, "mean": 5.0}});
    assert_eq!(run(&pool, json!({"field": "v", "by": "p"}), input.clone()).await, expected);
    assert_eq!(run(&pool, json!({"field": "v"}), input.clone()).await["all"]["count"], json!(3));
    assert_eq!(run(&pool, json!({"field": "w"}), input).await, "bad_input");
    assert_eq!(run(&pool, json!({}), json!({"records": []})).await, "bad_config");
}
