//! What a call of a plugin costs: `cargo run --release -p distric-plugins-host --example call_overhead`.
//!
//! Compiles `hello.c`, then calls it in its sandbox, on a thread of this process, and directly, one call after the other. Prints percentiles.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use distric_plugins_host::{Call, InProcess, Isolation, Keeper, Loaded, LogLevel, Outcome, Pool, Sink, Spec};

/// Calls that are not counted.
const WARM_UP: usize = 2_000;
/// Calls that are.
const CALLS: usize = 20_000;

struct Nobody;

impl Sink for Nobody {
    fn log(&mut self, _level: LogLevel, _text: &str) {}
    fn progress(&mut self, _fraction: f64, _text: &str) {}
    fn is_cancelled(&mut self) -> bool {
        false
    }
    fn remaining_ms(&mut self) -> u64 {
        u64::MAX
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("child") {
        distric_plugins_host::child::run().expect("started by the keeper below");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("hello.so");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder of the repository");
    let compiled = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-I"])
        .arg(root.join("abi/include"))
        .arg("-o")
        .arg(&path)
        .arg(root.join("examples/c/hello.c"))
        .status()
        .expect("a C compiler is installed");
    assert!(compiled.success(), "hello.c does not compile");
    let call = Call { config_json: "{}".to_owned(), attempt: 1, input: br#"{"name":"Ada"}"#.to_vec(), ..Call::default() };
    let spec = Spec { path, isolation_required: Isolation::Process, ..Spec::default() };

    let mut loaded = Loaded::open(&spec.path, "{}", 1 << 20, &Default::default()).expect("hello is a plugin");
    measure("direct", || is_greeting(&loaded.execute(&call, &mut Nobody)));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let inside = Spec { isolation_required: Isolation::None, ..spec.clone() };
    let inside = runtime.block_on(InProcess::start(inside)).expect("hello is a plugin");
    measure("in process, on its thread", || is_greeting(&runtime.block_on(inside.execute(call.clone())).expect("hello answers")));

    let keeper = Keeper::new("/proc/self/exe".into(), vec!["child".into()]).expect("threads can be started");
    let pool = runtime.block_on(Pool::start(&keeper, spec)).expect("hello is a plugin");
    let label = format!("sandbox, isolation {}", pool.identity().isolation);
    measure(&label, || is_greeting(&runtime.block_on(pool.execute(&call)).expect("hello answers")));
}

fn is_greeting(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Completed(output) if output == br#"{"greeting":"Hello, Ada!"}"#), "{outcome:?}");
}

fn measure(what: &str, mut call: impl FnMut()) {
    (0..WARM_UP).for_each(|_| call());
    let mut nanoseconds: Vec<u128> = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = Instant::now();
        call();
        nanoseconds.push(start.elapsed().as_nanos());
    }
    nanoseconds.sort_unstable();
    let at = |share: f64| nanoseconds[((CALLS - 1) as f64 * share) as usize] as f64 / 1_000.0;
    println!("{what}: p50 {:.2} us, p90 {:.2} us, p99 {:.2} us ({CALLS} calls)", at(0.5), at(0.9), at(0.99));
}
