//! Plugins that crash, loop, eat, fork, write and lie: the attempt fails with a reason, and everybody else goes on.

mod support;

use std::time::Duration;

use distric_plugins_host::{CallError, Isolation, Outcome};
use support::{Attacker, call};

/// The attack loses its attempt, with this in the reason; a neighbour that runs meanwhile and the next attempt notice nothing.
async fn loses(attack: &str, part: &str) -> CallError {
    let attacker = Attacker::new(|spec| spec.limits.memory_bytes = 256 << 20).await;
    let neighbour = attacker.pool.clone();
    let busy = tokio::spawn(async move {
        let mut attempt = call("listen", "");
        attempt.timeout_ms = 60_000;
        neighbour.execute(&attempt).await
    });
    let mut attempt = call(attack, "");
    attempt.timeout_ms = if attack == "loop" { 500 } else { 30_000 };
    let error = attacker.pool.execute(&attempt).await.expect_err("the attack must not succeed");
    assert!(error.to_string().contains(part), "{attack}: {error}");
    assert_eq!(attacker.says("echo", "[1]").await, "[1]");
    assert!(!busy.is_finished(), "the neighbour noticed");
    busy.abort();
    error
}

#[tokio::test]
async fn a_crash_is_told_with_its_signal_and_the_last_words() {
    let error = loses("crash", "died of SIGSEGV").await;
    assert_eq!(error.code(), "plugin_crashed");
    assert!(error.to_string().contains("about to fall"), "{error}");
}

#[tokio::test]
async fn abort_and_exit_are_told_apart() {
    loses("abort", "died of SIGABRT").await;
    loses("exit", "ended with exit code 3").await;
}

#[tokio::test]
async fn an_endless_loop_is_killed_and_its_log_told() {
    let error = loses("loop", "did not return within 500 ms").await;
    assert_eq!(error.code(), "plugin_timeout");
    assert!(error.to_string().contains("round and round"), "{error}");
}

#[tokio::test]
async fn a_memory_bomb_meets_its_limit() {
    loses("memory", "no more after").await;
}

#[tokio::test]
async fn a_wild_write_harms_its_own_process_only() {
    loses("wild", "the plugin").await;
}

#[tokio::test]
async fn garbage_on_the_worker_s_own_socket_is_no_answer() {
    let error = loses("garbage", "no answer").await;
    assert_eq!(error.code(), "plugin_garbled");
}

#[tokio::test]
async fn an_output_longer_than_its_buffer_is_a_crash_not_a_leak() {
    let attacker = Attacker::new(|_| ()).await;
    match attacker.run("liar", "").await {
        // What lies behind the buffer is the plugin's own process, which it could have read anyway.
        Ok(Outcome::Completed(output)) => assert_eq!(output.len(), 900_000),
        Err(error) => assert_eq!(error.code(), "plugin_crashed"),
        other => panic!("{other:?}"),
    }
    assert_eq!(attacker.says("echo", "[1]").await, "[1]");
}

#[tokio::test]
async fn an_output_over_the_limit_fails_the_attempt_and_keeps_the_process() {
    let attacker = Attacker::new(|_| ()).await;
    for (attack, code) in [("huge", "output_too_large"), ("null", "bad_output")] {
        match attacker.run(attack, "").await {
            Ok(Outcome::Failed(failed)) => assert_eq!((failed.code.as_str(), failed.retryable), (code, false)),
            other => panic!("{attack}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_flood_of_lines_is_cut() {
    let attacker = Attacker::new(|_| ()).await;
    assert_eq!(attacker.says("flood", "").await, "flooded");
}

#[tokio::test]
async fn processes_and_threads_are_refused_without_a_grant() {
    let attacker = Attacker::new(|_| ()).await;
    assert_eq!(attacker.says("forks", "").await, "EPERM");
    assert_eq!(attacker.says("threads", "").await, "none");
    assert_eq!(attacker.says("execve", "").await, "EPERM");
}

#[tokio::test]
async fn granted_threads_are_bounded_by_memory_and_forks_still_refused() {
    let attacker = Attacker::new(|spec| {
        spec.grants.threads = true;
        spec.limits.memory_bytes = 256 << 20;
    })
    .await;
    assert_eq!(attacker.says("forks", "").await, "EPERM");
    assert_eq!(attacker.says("threads", "").await, "some");
}

#[tokio::test]
async fn descriptors_are_bounded() {
    let attacker = Attacker::new(|_| ()).await;
    assert_eq!(attacker.says("descriptors", "").await, "EMFILE");
}

#[tokio::test]
async fn what_reaches_outside_is_refused() {
    let attacker = Attacker::new(|_| ()).await;
    for attack in ["kill", "socket", "unix", "uring", "ptrace", "unshare", "privileges", "starve"] {
        assert_eq!(attacker.says(attack, "").await, "EPERM", "{attack}");
    }
    assert_eq!(attacker.says("stdin", "").await, "nothing");
    assert_eq!(attacker.says("environment", "").await, "empty");
}

#[tokio::test]
async fn the_network_needs_a_grant_which_is_for_ip_only() {
    let attacker = Attacker::new(|spec| spec.grants.network = true).await;
    assert_eq!(attacker.says("socket", "").await, "ok");
    assert_eq!(attacker.says("unix", "").await, "EPERM");
}

#[tokio::test]
async fn files_need_a_grant_each_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for name in ["readable", "writable", "other"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("file"), "x").unwrap();
    }
    let attacker = Attacker::new(|spec| {
        spec.grants.read.push(dir.path().join("readable"));
        spec.grants.write.push(dir.path().join("writable"));
    })
    .await;
    let is_full = attacker.pool.identity().isolation == Isolation::Full;
    assert_eq!(attacker.says("read_given", &path("readable/file")).await, "ok");
    assert_eq!(attacker.says("write_given", &path("writable/new")).await, "ok");
    if is_full {
        assert_eq!(attacker.says("read_given", &path("other/file")).await, "EACCES");
        assert_eq!(attacker.says("write_given", &path("readable/file")).await, "EACCES");
        assert_eq!(attacker.says("write_given", &path("other/new")).await, "EACCES");
        assert_eq!(attacker.says("passwd", "").await, "EACCES");
    } else {
        eprintln!("this kernel has no Landlock: grants of files were not attacked");
    }
    // Without any grant to write even the list of system calls says no.
    let reader = Attacker::new(|_| ()).await;
    assert!(["EPERM", "EACCES"].contains(&reader.says("write_given", &path("other/new")).await.as_str()));
    assert!(!dir.path().join("other/new").exists());
}

#[tokio::test]
async fn a_secret_reaches_only_whom_it_was_granted() {
    let attacker = Attacker::new(|spec| drop(spec.grants.secrets.insert("GRANTED".to_owned(), "s3cret".to_owned()))).await;
    assert_eq!(attacker.says("secret", "").await, "s3cret/-");
}

#[tokio::test]
async fn a_process_that_died_between_two_attempts_costs_none() {
    let attacker = Attacker::new(|spec| spec.limits.processes = 1).await;
    assert_eq!(attacker.says("warm", "").await, "first");
    assert_eq!(attacker.says("warm", "").await, "again");
    assert!(attacker.run("crash", "").await.is_err());
    assert_eq!(attacker.says("warm", "").await, "first");
}

#[tokio::test]
async fn a_dropped_attempt_is_told_to_stop_and_its_process_stays_warm() {
    let attacker = Attacker::new(|spec| spec.limits.processes = 1).await;
    assert_eq!(attacker.says("warm", "").await, "first");
    assert!(tokio::time::timeout(Duration::from_millis(50), attacker.run("listen", "")).await.is_err());
    assert_eq!(attacker.says("warm", "").await, "again");
}

#[tokio::test]
async fn a_dropped_attempt_that_does_not_listen_is_killed() {
    let attacker = Attacker::new(|spec| spec.limits.processes = 1).await;
    assert_eq!(attacker.says("warm", "").await, "first");
    assert!(tokio::time::timeout(Duration::from_millis(50), attacker.run("loop", "")).await.is_err());
    assert_eq!(attacker.says("warm", "").await, "first");
}
