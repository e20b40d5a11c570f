//! Plugins compiled from C for the tests, and the child that runs them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use distric_plugins_host::{Call, CallError, Keeper, Outcome, Pool, Spec};

/// Compiles a C source of the repository, warnings being errors.
pub fn compile(source: &str, into: &Path, flags: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let status = Command::new("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root.join("abi/include"))
        .args(flags)
        .arg("-o")
        .arg(into)
        .arg(root.join(source))
        .status()
        .expect("a C compiler is installed");
    assert!(status.success(), "{source} does not compile");
    into.to_owned()
}

/// Compiles a plugin.
#[allow(dead_code)]
pub fn plugin(source: &str, into: &Path) -> PathBuf {
    compile(source, into, &["-shared", "-fPIC", "-pthread"])
}

/// The attacker, compiled once per test program.
#[allow(dead_code)]
pub fn attacker() -> PathBuf {
    static COMPILED: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        plugin("host/tests/plugins/attacker.c", &dir.path().join("attacker.so"));
        dir
    });
    COMPILED.path().join("attacker.so")
}

/// Children are the program of this package.
#[allow(dead_code)]
pub fn keeper() -> Keeper {
    Keeper::new(env!("CARGO_BIN_EXE_distric-plugin-host").into(), Vec::new()).unwrap()
}

/// The attacker, with what `change` makes of its spec.
#[allow(dead_code)]
pub struct Attacker {
    pub pool: Pool,
}

#[allow(dead_code)]
impl Attacker {
    pub async fn new(change: impl FnOnce(&mut Spec)) -> Self {
        let mut spec = Spec { path: attacker(), ..Spec::default() };
        change(&mut spec);
        Self { pool: Pool::start(&keeper(), spec).await.unwrap() }
    }

    pub async fn run(&self, what: &str, input: &str) -> Result<Outcome, CallError> {
        self.pool.execute(&call(what, input)).await
    }

    /// What it did, in its own words.
    pub async fn says(&self, what: &str, input: &str) -> String {
        match self.run(what, input).await {
            Ok(Outcome::Completed(output)) => String::from_utf8(output).unwrap().trim_matches('"').to_owned(),
            other => format!("{other:?}"),
        }
    }
}

#[allow(dead_code)]
pub fn call(what: &str, input: &str) -> Call {
    Call {
        task_id: "t-1".to_owned(),
        instance_id: "i-1".to_owned(),
        task: "attack".to_owned(),
        workflow: "w".to_owned(),
        namespace: "default".to_owned(),
        idempotency_key: "k-1".to_owned(),
        traceparent: "00-a-b-01".to_owned(),
        config_json: format!(r#"{{"do":"{what}"}}"#),
        fencing_token: 7,
        attempt: 2,
        timeout_ms: 5_000,
        input: input.as_bytes().to_vec(),
    }
}
