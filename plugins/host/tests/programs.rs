//! Programs in the sandbox: what they get, how they end, and attacks that lose.

mod support;

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use distric_plugins_host::{Finished, Isolation, Program, ProgramError, ProgramSpec, Run, Spec};
use rustix::process::{Pid, Signal, kill_process, test_kill_process, test_kill_process_group};
use support::{compile, keeper};

/// The shell, with what `change` makes of its spec.
async fn shell(change: impl FnOnce(&mut ProgramSpec)) -> Program {
    let mut spec = ProgramSpec {
        spec: Spec { path: "/bin/sh".into(), ..Spec::default() },
        arguments: vec!["-c".to_owned()],
        processes: 16,
        runs: vec!["/bin".into(), "/usr/bin".into()],
    };
    change(&mut spec);
    Program::start(&keeper(), spec).await.unwrap()
}

async fn attacker(change: impl FnOnce(&mut ProgramSpec)) -> Program {
    static COMPILED: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        compile("host/tests/programs/attacker.c", &dir.path().join("attacker"), &["-pthread"]);
        dir
    });
    let spec = Spec { path: COMPILED.path().join("attacker"), ..Spec::default() };
    let mut spec = ProgramSpec { spec, processes: 4, ..ProgramSpec::default() };
    change(&mut spec);
    Program::start(&keeper(), spec).await.unwrap()
}

fn given(argument: &str, input: &str) -> Run {
    Run { arguments: vec![argument.to_owned()], input: input.as_bytes().to_vec(), timeout_ms: 20_000, ..Run::default() }
}

async fn ends(program: &Program, argument: &str, input: &str) -> Finished {
    program.run(given(argument, input)).await.unwrap()
}

async fn says(program: &Program, argument: &str) -> String {
    let finished = ends(program, argument, "").await;
    let output = String::from_utf8(finished.output.clone()).unwrap().trim().to_owned();
    if output.is_empty() { format!("{}: {}", finished.reason(), finished.tail) } else { output }
}

fn pid(text: &str) -> Pid {
    let number = text.trim().lines().last().unwrap_or_default().trim().parse().unwrap_or_else(|_| panic!("no number in {text:?}"));
    Pid::from_raw(number).unwrap()
}

/// Waits until nothing is left of a process group.
async fn is_gone(group: Pid) {
    let until = Instant::now() + Duration::from_secs(10);
    while test_kill_process_group(group).is_ok() {
        assert!(Instant::now() < until, "the group {group:?} lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a file says, as soon as it says a whole line.
async fn appears(path: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => assert!(Instant::now() < until, "{} does not come", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn input_goes_to_stdin_and_output_comes_from_stdout() {
    let shell = shell(|_| ()).await;
    let finished = ends(&shell, "cat; echo beside >&2", r#"{"a":1}"#).await;
    assert_eq!((finished.output.as_slice(), finished.tail.as_str()), (br#"{"a":1}"#.as_slice(), "beside"));
    assert!(finished.status.success() && finished.reason() == "ended with exit code 0");
    let large = "x".repeat(900_000);
    assert_eq!(ends(&shell, "cat", &large).await.output.len(), large.len());
    // One that reads nothing ends all the same.
    assert!(ends(&shell, "true", &large).await.status.success());
}

#[tokio::test]
async fn the_environment_holds_only_what_was_given() {
    let shell = shell(|program| drop(program.spec.grants.secrets.insert("GRANTED".to_owned(), "g".to_owned()))).await;
    let mut run = given("/usr/bin/env | /usr/bin/sort", "");
    run.environment.insert("DISTRIC_ATTEMPT".to_owned(), "2".to_owned());
    let output = String::from_utf8(shell.run(run).await.unwrap().output).unwrap();
    let ours: Vec<&str> = output.lines().filter(|line| !["PWD=", "OLDPWD=", "_="].iter().any(|own| line.starts_with(own))).collect();
    assert_eq!(ours, ["DISTRIC_ATTEMPT=2", "GRANTED=g", "PATH=/usr/local/bin:/usr/bin:/bin"]);
}

#[tokio::test]
async fn an_end_is_told_with_its_code_or_signal() {
    let shell = shell(|_| ()).await;
    let finished = ends(&shell, "echo why >&2; exit 3", "").await;
    assert_eq!((finished.reason().as_str(), finished.tail.as_str()), ("ended with exit code 3", "why"));
    let attacker = attacker(|_| ()).await;
    let finished = ends(&attacker, "crash", "").await;
    assert!(finished.reason().starts_with("died of SIGSEGV") && finished.tail == "about to fall", "{finished:?}");
}

#[tokio::test]
async fn what_cannot_be_run_is_told_before_any_task() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "#!/no/such/interpreter\n").unwrap();
    for (path, part) in
        [(Path::new("/no/such/program"), "is not there"), (&text, "cannot be run by the worker's user"), (dir.path(), "is no file")]
    {
        let spec = ProgramSpec { spec: Spec { path: path.to_owned(), ..Spec::default() }, processes: 1, ..ProgramSpec::default() };
        let error = Program::start(&keeper(), spec).await.unwrap_err();
        assert!(error.to_string().contains(part) && error.code() == "program_not_started", "{error}");
    }
    // A file that says that it can be run and cannot is told as a shell would.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o755)).unwrap();
    let spec = ProgramSpec { spec: Spec { path: text, ..Spec::default() }, processes: 1, ..ProgramSpec::default() };
    let finished = Program::start(&keeper(), spec).await.unwrap().run(given("", "")).await.unwrap();
    assert!(finished.reason() == "ended with exit code 126" && finished.tail.contains("cannot be run: No such file"), "{finished:?}");
}

#[tokio::test]
async fn an_isolation_that_is_there_is_enough_and_reported() {
    let shell = shell(|_| ()).await;
    let reached = shell.isolation();
    assert!(reached >= Isolation::Process);
    if reached == Isolation::Full {
        let required = ProgramSpec {
            spec: Spec { path: "/bin/sh".into(), isolation_required: Isolation::Full, ..Spec::default() },
            processes: 1,
            ..ProgramSpec::default()
        };
        assert_eq!(Program::start(&keeper(), required).await.unwrap().isolation(), Isolation::Full);
    } else {
        eprintln!("this machine has not the whole sandbox: {reached}");
    }
}

/// A bomb that ends at some depth: a sandbox that fails costs a thousand processes and not the machine.
const BOMB: &str = "echo $$ >&2; f() { if [ $1 -lt 10 ]; then f $(($1+1)) | f $(($1+1)) & else sleep 5; fi; }; f 0; sleep 20";

#[tokio::test]
async fn a_fork_bomb_is_killed_whole() {
    let shell = shell(|_| ()).await;
    let neighbour = shell.clone();
    let busy = tokio::spawn(async move { ends(&neighbour, "sleep 2; echo done", "").await });
    let error = shell.run(given(BOMB, "")).await.unwrap_err();
    assert_eq!((error.code(), error.is_passing()), ("too_many_processes", false), "{error}");
    let ProgramError::TooManyProcesses { processes_max: 16, tail } = error else { panic!("{error:?}") };
    is_gone(pid(tail.lines().next().unwrap())).await;
    assert_eq!(busy.await.unwrap().output, b"done\n", "the neighbour noticed");
}

#[tokio::test]
async fn processes_need_a_limit_above_one() {
    let shell = shell(|program| program.processes = 1).await;
    let said = says(&shell, "echo alone; /usr/bin/env | cat").await;
    assert_eq!(said, "alone");
    assert!(!ends(&shell, "true | cat", "").await.status.success());
}

#[tokio::test]
async fn a_memory_bomb_meets_its_limit() {
    let attacker = attacker(|program| program.spec.limits.memory_bytes = 256 << 20).await;
    let finished = ends(&attacker, "memory", "").await;
    assert!(!finished.status.success() && finished.tail.contains("no more after") && !finished.tail.contains("65536"), "{finished:?}");
    assert_eq!(says(&attacker, "raise").await, "EPERM");
}

#[tokio::test]
async fn processor_time_is_bounded() {
    let shell = shell(|program| program.spec.limits.cpu_s = 1).await;
    // On a busy machine a second of its own takes long.
    let finished = shell.run(Run { timeout_ms: 240_000, ..given("while :; do :; done", "") }).await.unwrap();
    assert!(finished.reason().contains("SIGXCPU"), "{}", finished.reason());
}

#[tokio::test]
async fn an_output_flood_is_cut_off() {
    let shell = shell(|_| ()).await;
    let error = shell.run(given("while :; do echo again and again; done", "")).await.unwrap_err();
    assert_eq!((error.code(), error.is_passing()), ("output_too_large", false), "{error}");
    // stderr may flood: only its end is kept.
    let finished = ends(&shell, "i=0; while [ $i -lt 20000 ]; do echo again >&2; i=$((i+1)); done; echo last >&2", "").await;
    assert!(finished.tail.len() <= 2_048 && finished.tail.ends_with("last"), "{}", finished.tail.len());
}

#[tokio::test]
async fn what_reaches_outside_is_refused() {
    let attacker = attacker(|_| ()).await;
    for attack in ["kill", "socket", "unix", "uring", "ptrace", "unshare", "namespace", "memfd", "setuid", "starve", "group", "leave"] {
        assert_eq!(says(&attacker, attack).await, "EPERM", "{attack}");
    }
    assert_eq!(says(&attacker, "threads").await, "none");
    assert_eq!(says(&attacker, "descriptors").await, "EMFILE");
}

#[tokio::test]
async fn grants_of_network_and_threads_are_that_and_no_more() {
    let attacker = attacker(|program| {
        program.spec.grants.network = true;
        program.spec.grants.threads = true;
    })
    .await;
    assert_eq!(says(&attacker, "socket").await, "ok");
    assert_eq!(says(&attacker, "threads").await, "some");
    for attack in ["unix", "namespace", "leave"] {
        assert_eq!(says(&attacker, attack).await, "EPERM", "{attack}");
    }
}

#[tokio::test]
async fn files_need_a_grant_each_way() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["readable", "writable", "other"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("file"), "x").unwrap();
    }
    let at = |name: &str| dir.path().join(name).display().to_string();
    let shell = shell(|program| {
        program.spec.grants.read.push(dir.path().join("readable"));
        program.spec.grants.write.push(dir.path().join("writable"));
    })
    .await;
    assert_eq!(says(&shell, &format!("cat {}", at("readable/file"))).await, "x");
    assert_eq!(says(&shell, &format!("echo new > {0} && cat {0}", at("writable/new"))).await, "new");
    assert_eq!(says(&shell, "echo lost > /dev/null && echo kept").await, "kept");
    if shell.isolation() < Isolation::Full {
        eprintln!("this kernel has no Landlock: grants of files were not attacked");
        return;
    }
    for command in
        ["cat /etc/shadow", "cat /etc/passwd", "ls /", "cat /proc/self/environ", &format!("cat {}", at("other/file")), "ls /root"]
    {
        let finished = ends(&shell, command, "").await;
        assert!(
            !finished.status.success() && finished.output.is_empty() && finished.tail.contains("ermission denied"),
            "{command}: {finished:?}"
        );
    }
    for place in ["readable/file", "other/new", "readable/new"] {
        let finished = ends(&shell, &format!("echo bad > {}", at(place)), "").await;
        assert!(!finished.status.success(), "{place}: {finished:?}");
    }
    // What it wrote itself it cannot run.
    let script = format!("cp /bin/true {0} && {0}", at("writable/own"));
    assert!(!ends(&shell, &script, "").await.status.success());
    assert_eq!(std::fs::read_to_string(dir.path().join("readable/file")).unwrap(), "x");
    assert!(!dir.path().join("other/new").exists());
}

#[tokio::test]
async fn a_child_that_outlives_its_parent_does_not_outlive_the_attempt() {
    let shell = shell(|_| ()).await;
    let begun = Instant::now();
    // The second one holds stdout, and both lost their parent to this very attempt's supervisor.
    let finished = ends(&shell, "(sleep 300 >/dev/null &); sleep 300 & echo $$", "").await;
    assert!(finished.status.success() && begun.elapsed() < Duration::from_secs(10), "{finished:?}");
    is_gone(pid(&String::from_utf8(finished.output).unwrap())).await;
}

#[tokio::test]
async fn a_timeout_is_heard_or_enforced() {
    let shell = shell(|_| ()).await;
    let attacker = attacker(|_| ()).await;
    let polite = "trap 'echo bye >&2; exit 0' TERM; echo $$ >&2; while :; do sleep 0.01; done";
    let deaf = "trap '' TERM; echo $$ >&2; while :; do sleep 0.01; done";
    for (script, last) in [(polite, Some("bye")), (deaf, None)] {
        let error = shell.run(Run { timeout_ms: 500, ..given(script, "") }).await.unwrap_err();
        assert!(error.code() == "program_timeout" && error.is_passing(), "{error}");
        let ProgramError::TimedOut { within_ms: 500, tail } = error else { panic!("{error:?}") };
        assert!(last.is_none_or(|last| tail.ends_with(last)), "{tail}");
        is_gone(pid(tail.lines().next().unwrap())).await;
    }
    let begun = Instant::now();
    let error = attacker.run(Run { timeout_ms: 300, ..given("deaf", "") }).await.unwrap_err();
    assert!(error.code() == "program_timeout" && begun.elapsed() < Duration::from_secs(5), "{error}");
}

#[tokio::test]
async fn a_dropped_attempt_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let shell = shell(|program| program.spec.grants.write.push(dir.path().to_owned())).await;
    let note = dir.path().join("note");
    let run = given(&format!("trap '' TERM; sleep 300 & echo $$ > {}; wait; wait", note.display()), "");
    let running = tokio::spawn(async move { shell.run(run).await });
    let group = pid(&appears(&note).await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    is_gone(group).await;
}

#[tokio::test]
async fn a_supervisor_that_dies_takes_the_program_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let shell = shell(|program| program.spec.grants.write.push(dir.path().to_owned())).await;
    let note = dir.path().join("note");
    let run = given(&format!("sleep 300 & echo $PPID $$ > {}; wait", note.display()), "");
    let running = tokio::spawn(async move { shell.run(run).await });
    let text = appears(&note).await;
    let (supervisor, group) = text.trim().split_once(' ').map(|(parent, own)| (pid(parent), pid(own))).unwrap();
    assert!(test_kill_process(supervisor).is_ok());
    kill_process(supervisor, Signal::KILL).unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert!(error.code() == "program_lost" && error.to_string().contains("lost its supervisor"), "{error}");
    is_gone(group).await;
}

#[tokio::test]
async fn attempts_at_once_are_bounded() {
    let shell = shell(|program| program.spec.limits.processes = 1).await;
    let begun = Instant::now();
    let both = tokio::join!(ends(&shell, "sleep 0.3", ""), ends(&shell, "sleep 0.3", ""));
    assert!(both.0.status.success() && both.1.status.success() && begun.elapsed() >= Duration::from_millis(600));
}
