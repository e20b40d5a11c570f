//! Bugs put back into raft, one at a time, to see whether the simulation finds them.
//!
//! In: the patches of `testing/mutants`.  Out: how many seeds the simulation took to meet each.
//! May touch: the standard library, `anyhow`, cargo and git as programs.  Never: the working tree; a scratch copy is patched.
//! Start reading at [`run`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// What is copied, built and run.
const MEMBERS: [&str; 3] = ["model", "raft", "raft/store"];
/// After so many failures the median is known well enough.
const CATCHES: usize = 3;
/// Within so many seeds each bug has to be met.
pub const SEEDS: u64 = 1_000;

/// A patch.
struct Mutant {
    name: String,
    path: PathBuf,
    /// Its first line.
    what: String,
    /// The files that it changes.
    files: Vec<String>,
}

/// Runs the simulation against every mutant whose name contains one of `names`; all of them without any. Returns whether
/// each was caught within `seeds` seeds.
///
/// Errors: a patch that does not apply any more, a mutant that does not build, an unchanged replica that is "caught".
pub fn run(root: &Path, names: &[&str], seeds: u64) -> Result<bool> {
    let mutants: Vec<Mutant> = read(&root.join("testing/mutants"))?
        .into_iter()
        .filter(|mutant| names.is_empty() || names.iter().any(|name| mutant.name.contains(name)))
        .collect();
    ensure!(!mutants.is_empty(), "no mutant of testing/mutants is called that");
    let scratch = root.join("target/mutants/tree");
    copy(root, &scratch)?;
    println!("| bug | median seeds | seeds |\n|---|---|---|");
    let mut missed = Vec::new();
    for mutant in &mutants {
        let began = Instant::now();
        let gaps = caught_with(&scratch, mutant, seeds).with_context(|| mutant.name.clone())?;
        for file in &mutant.files {
            fs::copy(root.join(file), scratch.join(file)).with_context(|| file.clone())?;
        }
        let mut sorted = gaps.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).map_or("not caught".to_owned(), u64::to_string);
        let found = gaps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        println!("| {} | {median} | {found} |", mutant.what);
        eprintln!("{}: {median} ({} s)", mutant.name, began.elapsed().as_secs());
        if gaps.is_empty() {
            missed.push(mutant.name.as_str());
        }
    }
    if missed.is_empty() {
        println!("\nmutants: all {} caught", mutants.len());
    } else {
        println!("\nmutants: {} of {} not caught within {seeds} seeds: {}", missed.len(), mutants.len(), missed.join(", "));
    }
    Ok(missed.is_empty())
}

fn read(folder: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for item in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = item?.path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a patch has a plain name")?.to_owned();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let what = text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned();
        let files: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned).collect();
        ensure!(!files.is_empty() && files.iter().all(|file| file.starts_with("raft/src/")), "{name}: a mutant changes raft/src only");
        mutants.push(Mutant { name, path, what, files });
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

/// The sources as they are, under a workspace of their own.
fn copy(root: &Path, scratch: &Path) -> Result<()> {
    if scratch.exists() {
        fs::remove_dir_all(scratch).context("clearing the scratch copy")?;
    }
    for member in MEMBERS {
        copy_folder(&root.join(member), &scratch.join(member))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let (before, rest) = manifest.split_once("members = [").context("the root manifest lists members")?;
    let (_, after) = rest.split_once("\n]").context("the list of members ends")?;
    fs::write(scratch.join("Cargo.toml"), format!("{before}members = [\"{}\"]{after}", MEMBERS.join("\", \"")))?;
    fs::copy(root.join("Cargo.lock"), scratch.join("Cargo.lock")).context("Cargo.lock")?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for item in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let (path, name) = {
            let item = item?;
            (item.path(), item.file_name())
        };
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// How many seeds each catch took; empty when none was.
fn caught_with(scratch: &Path, mutant: &Mutant, seeds: u64) -> Result<Vec<u64>> {
    let patch = mutant.path.canonicalize()?;
    let applied = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&patch)
        .current_dir(scratch)
        // The scratch copy lies inside a repository and is none of it.
        .env("GIT_CEILING_DIRECTORIES", scratch.parent().context("the scratch copy lies in a folder")?)
        .output()
        .context("git apply")?;
    ensure!(applied.status.success(), "the patch does not apply: {}", String::from_utf8_lossy(&applied.stderr));
    for file in &mutant.files {
        ensure!(fs::read(scratch.join(file))? != fs::read(scratch.join("../../..").join(file))?, "the patch changes nothing in {file}");
    }
    let ran = Command::new("cargo")
        .args(["test", "--offline", "--quiet", "-p", "distric-raft", "--test", "simulation", "--", "nothing_committed", "--nocapture"])
        .current_dir(scratch)
        .env("CARGO_TARGET_DIR", scratch.join("../build"))
        .env("RAFT_SIM_SEEDS", seeds.to_string())
        .env("RAFT_SIM_CATCHES", CATCHES.to_string())
        .env_remove("RAFT_SIM_SEED")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .context("cargo test")?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let Some((_, rest)) = text.split_once("seeds to catch: [") else {
        bail!("the simulation did not run:\n{}", String::from_utf8_lossy(&ran.stderr));
    };
    let (list, _) = rest.split_once(']').context("the list ends")?;
    list.split(", ").filter(|gap| !gap.is_empty()).map(|gap| gap.parse().context("a number of seeds")).collect()
}
