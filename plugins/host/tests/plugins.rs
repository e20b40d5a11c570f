//! Plugins that behave, files that are none, and what the worker is told about both.

mod support;

use std::process::Command;
use std::time::Duration;

use distric_plugins_abi::raw::{Context, PluginV1};
use distric_plugins_host::{Failed, InProcess, Isolation, Outcome, Pool, Spec, StartError};
use support::{Attacker, attacker, call, compile, keeper, plugin};

#[tokio::test]
async fn hello_says_hello_and_keeps_its_isolation() {
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec { path: plugin("examples/c/hello.c", &dir.path().join("hello.so")), ..Spec::default() };
    let pool = Pool::start(&keeper(), spec).await.unwrap();
    assert_eq!((pool.identity().name.as_str(), pool.identity().version.as_str()), ("hello", "1.0.0"));
    assert!(pool.identity().isolation >= Isolation::Syscalls, "{:?}", pool.identity());
    let outcome = pool.execute(&call("", r#"{"name":"Ada"}"#)).await.unwrap();
    assert_eq!(outcome, Outcome::Completed(br#"{"greeting":"Hello, Ada!"}"#.to_vec()));
    let Outcome::Failed(failed) = pool.execute(&call("", "{}")).await.unwrap() else { panic!("there was no name") };
    assert_eq!((failed.code.as_str(), failed.retryable), ("bad_input", false));
    pool.close().await;
}

#[tokio::test]
async fn the_context_says_everything_about_the_attempt() {
    let attacker = Attacker::new(|_| ()).await;
    assert_eq!(attacker.says("context", "").await, "t-1 i-1 attack w default k-1 00-a-b-01 2 7 1");
}

#[tokio::test]
async fn a_failure_carries_code_words_and_wait() {
    let attacker = Attacker::new(|_| ()).await;
    let expected = Failed { code: "busy".to_owned(), message: "come back later".to_owned(), retryable: true, retry_after_ms: Some(1_500) };
    assert_eq!(attacker.run("retry", "").await.unwrap(), Outcome::Failed(expected));
}

#[tokio::test]
async fn a_config_that_the_plugin_does_not_accept_fails_the_attempt() {
    let attacker = Attacker::new(|_| ()).await;
    let Outcome::Failed(failed) = attacker.run("invalid", "").await.unwrap() else { panic!("it was accepted") };
    assert_eq!((failed.code.as_str(), failed.retryable), ("bad_config", false));
}

#[tokio::test]
async fn inputs_and_outputs_of_a_megabyte_go_through() {
    let attacker = Attacker::new(|_| ()).await;
    let input = format!("[{}1]", "1,".repeat(400_000));
    assert_eq!(attacker.says("echo", &input).await, input);
}

#[tokio::test]
async fn attempts_beyond_the_processes_wait_their_turn() {
    let attacker = Attacker::new(|spec| spec.limits.processes = 2).await;
    let attempts: Vec<_> = (0..20)
        .map(|number| {
            let pool = attacker.pool.clone();
            tokio::spawn(async move { pool.execute(&call("echo", &number.to_string())).await })
        })
        .collect();
    for (number, attempt) in attempts.into_iter().enumerate() {
        assert_eq!(attempt.await.unwrap().unwrap(), Outcome::Completed(number.to_string().into_bytes()));
    }
}

#[tokio::test]
async fn a_process_is_replaced_after_its_number_of_attempts() {
    let attacker = Attacker::new(|spec| spec.limits.calls_per_process = 2).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(attacker.says("warm", "").await);
    }
    assert_eq!(seen, ["first", "again", "first", "again"]);
}

#[tokio::test]
async fn starts_that_fail_say_why() {
    let path = attacker();
    let start = async |config: &str, change: fn(&mut Spec)| {
        let mut spec = Spec { path: path.clone(), config_json: format!(r#"{{"start":"{config}"}}"#), ..Spec::default() };
        change(&mut spec);
        Pool::start(&keeper(), spec).await.unwrap_err()
    };
    let refused = start("refuse", |_| ()).await.to_string();
    assert!(refused.contains("init returned 1") && refused.contains("I want a better config"), "{refused}");
    assert!(matches!(start("die", |_| ()).await, StartError::Died { reason, .. } if reason.contains("SIGABRT")));
    assert!(matches!(start("hang", |spec| spec.limits.start_timeout_ms = 300).await, StartError::Slow { within_ms: 300, .. }));
    let missing = start("", |spec| spec.path = "/no/such.so".into()).await.to_string();
    assert!(missing.contains("/no/such.so"), "{missing}");
    let grant = |spec: &mut Spec| {
        spec.grants.read.push("/no/such/grant".into());
        spec.isolation_required = Isolation::Full;
    };
    let weak = start("", grant).await;
    assert!(matches!(weak, StartError::Isolation { required: Isolation::Full, .. }) && weak.to_string().contains("landlock"), "{weak}");
}

#[tokio::test]
async fn files_that_are_no_plugin_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |path: std::path::PathBuf| Pool::start(&keeper(), Spec { path, ..Spec::default() }).await.unwrap_err().to_string();
    let text = dir.path().join("text.so");
    std::fs::write(&text, "hello").unwrap();
    assert!(start(text).await.contains("not a shared library"));
    let good = [
        ("NAME", "\"shape\""),
        ("VERSION", "DISTRIC_PLUGIN_ABI"),
        ("SIZE", "sizeof(distric_plugin)"),
        ("EXECUTE", "execute"),
        ("SYMBOL", "distric_plugin_v1"),
    ];
    for (number, (macro_name, value, part)) in [
        ("SYMBOL", "something_else", "exports no `distric_plugin_v1`"),
        ("VERSION", "2", "version 2 of the plugin interface"),
        ("SIZE", "16", "16 bytes"),
        ("EXECUTE", "(void *)0", "`execute` is null"),
        ("NAME", "\"two words\"", "two words"),
        ("NAME", "(char *)0", "get_name gave \"\""),
    ]
    .into_iter()
    .enumerate()
    {
        let macros: Vec<String> =
            good.iter().map(|(name, usual)| format!("-D{name}={}", if *name == macro_name { value } else { *usual })).collect();
        let mut flags = vec!["-shared", "-fPIC", "-Wno-unused-function"];
        flags.extend(macros.iter().map(String::as_str));
        let said = start(compile("host/tests/plugins/shapes.c", &dir.path().join(format!("{number}.so")), &flags)).await;
        assert!(said.contains(part), "{macro_name}={value}: {said}");
    }
}

#[test]
fn the_header_and_the_binding_have_one_layout() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("host/tests/plugins/shapes.c", &dir.path().join("sizes"), &["-DSIZES"]);
    let printed = String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap();
    let ours = [
        size_of::<PluginV1>(),
        std::mem::offset_of!(PluginV1, execute),
        std::mem::offset_of!(PluginV1, shutdown),
        size_of::<Context>(),
        std::mem::offset_of!(Context, attempt),
        std::mem::offset_of!(Context, retry_after),
    ];
    assert_eq!(printed.trim(), ours.map(|n| n.to_string()).join(" "));
}

#[tokio::test]
async fn a_trusted_plugin_runs_inside_and_says_so() {
    let path = attacker();
    let inside = InProcess::start(Spec { path: path.clone(), isolation_required: Isolation::None, ..Spec::default() }).await.unwrap();
    assert_eq!(inside.identity().isolation, Isolation::None);
    assert_eq!(inside.execute(call("echo", "[2]")).await.unwrap(), Outcome::Completed(b"[2]".to_vec()));
    let listening = inside.execute(call("listen", ""));
    assert!(tokio::time::timeout(Duration::from_millis(50), listening).await.is_err());
    assert_eq!(inside.execute(call("echo", "[3]")).await.unwrap(), Outcome::Completed(b"[3]".to_vec()));
    let required = InProcess::start(Spec { path, isolation_required: Isolation::Process, ..Spec::default() }).await.unwrap_err();
    assert!(matches!(required, StartError::Isolation { .. }));
}
