//! Arrows: which room may depend on which. The table of ARCHITECTURE.md, as a table.
//!
//! A room that is not in the table cannot have a manifest, so that a new room is a decision and not an accident.

use super::finding::Finding;
use super::toml;
use super::tree::Tree;

pub const NAME: &str = "arrows";

/// What every package of ours is called, before the name of its room.
const OURS: &str = "distric-";

/// One room: its folder, and what of ours its manifest may name.
struct Room {
    folder: &'static str,
    may_use: May,
    /// Only in `[dev-dependencies]`, beside the above.
    tests_may_use: &'static [&'static str],
    /// Foreign packages that would bring sockets, clocks, threads or randomness into a pure room.
    pure: bool,
}

enum May {
    Anything,
    Only(&'static [&'static str]),
}

const fn pure(folder: &'static str, may_use: &'static [&'static str]) -> Room {
    Room { folder, may_use: May::Only(may_use), tests_may_use: &[], pure: true }
}

const fn room(folder: &'static str, may_use: &'static [&'static str]) -> Room {
    Room { folder, may_use: May::Only(may_use), tests_may_use: &[], pure: false }
}

const fn edge(folder: &'static str) -> Room {
    Room { folder, may_use: May::Anything, tests_may_use: &[], pure: false }
}

const ROOMS: &[Room] = &[
    pure("model", &[]),
    pure("wire", &["model"]),
    pure("rules", &["model"]),
    Room { tests_may_use: &["raft-store"], ..pure("raft", &["model"]) },
    room("raft/store", &["model", "raft"]),
    pure("gossip", &["model"]),
    pure("exec", &["model", "rules"]),
    room("plugins/abi", &["model"]),
    room("plugins/host", &["model", "plugins-abi"]),
    room("core/lane", &[]),
    room("core", &["model", "wire", "rules", "raft", "raft-store", "gossip", "exec", "plugins-abi", "plugins-host", "lane"]),
    room("sdk/rust", &["model", "wire"]),
    room("worker", &["model", "rules", "sdk", "plugins-abi", "plugins-host"]),
    room("shim-http", &["model", "wire", "sdk"]),
    room("loadgen", &["model", "wire", "sdk"]),
    edge("admin"),
    edge("server"),
    edge("testing/sim"),
    edge("testing/harness"),
    edge("testing/fuzz"),
    edge("testing/oracle"),
    edge("benches"),
    edge("benches/raft-rs"),
    edge("benches/rules-peers"),
    room("xtask", &[]),
];

const IMPURE_PACKAGES: [&str; 18] = [
    "async-std",
    "axum",
    "core_affinity",
    "crossbeam",
    "fastrand",
    "getrandom",
    "glommio",
    "hyper",
    "libc",
    "mio",
    "monoio",
    "nix",
    "parking_lot",
    "rand",
    "reqwest",
    "rustix",
    "tokio",
    "tracing",
];

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let root = tree.text("Cargo.toml").unwrap_or_default();
    for (member, line) in toml::array(root, "workspace", "members") {
        if !tree.has(&format!("{member}/Cargo.toml")) {
            findings.push(Finding::new("Cargo.toml", line, NAME, format!("the member `{member}` has no Cargo.toml")));
        }
    }
    for (path, text) in tree.ending("/Cargo.toml") {
        let folder = path.trim_end_matches("/Cargo.toml");
        match ROOMS.iter().find(|room| room.folder == folder) {
            Some(room) => check_room(room, path, text, findings),
            None => findings.push(Finding::new(
                path,
                1,
                NAME,
                format!(
                    "the room `{folder}` has no arrows yet: decide what it may use, in ARCHITECTURE.md and in xtask/src/tidy/arrows.rs"
                ),
            )),
        }
    }
}

fn check_room(room: &Room, path: &str, text: &str, findings: &mut Vec<Finding>) {
    let entries = toml::entries(text);
    // A workspace of its own, for a yardstick that nothing else should build, has no lints to take over.
    let stands_alone = text.lines().any(|line| line.trim() == "[workspace]");
    if !stands_alone && !entries.iter().any(|entry| entry.section == "lints" && entry.key == "workspace") {
        findings.push(Finding::new(path, 1, NAME, "without `[lints] workspace = true` the lints of the workspace do not hold here"));
    }
    for entry in entries.iter().filter(|entry| entry.section.ends_with("dependencies")) {
        let for_tests = entry.section.ends_with("dev-dependencies");
        if let Some(used) = entry.key.strip_prefix(OURS) {
            let allowed = match room.may_use {
                May::Anything => true,
                May::Only(names) => names.contains(&used) || (for_tests && room.tests_may_use.contains(&used)),
            };
            if !allowed {
                findings.push(Finding::new(path, entry.line, NAME, format!("`{}` may not use `{used}`", room.folder)));
            }
        } else if room.pure && !for_tests && IMPURE_PACKAGES.contains(&entry.key) {
            findings.push(Finding::new(path, entry.line, NAME, format!("`{}` is a pure room, `{}` is not for it", room.folder, entry.key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn of(folder: &str, dependencies: &str) -> Vec<String> {
        said(check, &[(&format!("{folder}/Cargo.toml"), &format!("{LINTS}{dependencies}"))])
    }

    #[test]
    fn an_arrow_against_the_direction_is_found() {
        assert_eq!(
            of("wire", "[dependencies]\ndistric-model.workspace = true\ndistric-exec.workspace = true\n"),
            ["wire/Cargo.toml:5: arrows: `wire` may not use `exec`"]
        );
        assert_eq!(of("core/lane", "[dependencies]\ndistric-model = { path = \"../../model\" }\n").len(), 1);
        assert_eq!(of("exec", "[dependencies.distric-raft]\nworkspace = true\n").len(), 1);
        assert_eq!(of("exec", "[build-dependencies]\ndistric-raft.workspace = true\n").len(), 1);
        assert_eq!(of("worker", "[target.'cfg(unix)'.dependencies]\ndistric-core.workspace = true\n").len(), 1);
        assert_eq!(of("xtask", "[dependencies]\ndistric-model.workspace = true\n").len(), 1);
    }

    #[test]
    fn an_arrow_that_only_tests_may_have_is_not_for_the_room() {
        assert_eq!(of("raft", "[dev-dependencies]\ndistric-raft-store.workspace = true\n"), [""; 0]);
        assert_eq!(of("raft", "[dependencies]\ndistric-raft-store.workspace = true\n").len(), 1);
        assert_eq!(of("rules", "[dev-dependencies]\ndistric-exec.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_pure_room_takes_no_package_that_is_not() {
        assert_eq!(of("raft", "[dependencies]\nrand = \"0.9\"\n").len(), 1);
        assert_eq!(of("gossip", "[dependencies]\ntokio.workspace = true\n").len(), 1);
        assert_eq!(of("sdk/rust", "[dependencies]\ntokio.workspace = true\n"), [""; 0]);
    }

    #[test]
    fn a_room_nobody_decided_on_is_found() {
        assert_eq!(of("shared", "").len(), 1);
        let ghost = said(check, &[("Cargo.toml", "[workspace]\nmembers = [\n\"ghost\",\n]\n")]);
        assert_eq!(ghost, ["Cargo.toml:3: arrows: the member `ghost` has no Cargo.toml"]);
    }

    #[test]
    fn a_room_without_the_lints_is_found() {
        assert_eq!(said(check, &[("model/Cargo.toml", "[package]\n")]).len(), 1);
    }
}
