//! Words that a pure room must not use: whatever is unpredictable comes in as an argument, from the rim.
//!
//! Test code is exempt. So are addresses as values (`std::net::IpAddr`), which need no network.

use super::finding::Finding;
use super::rust::RustFile;
use super::tree::Tree;

pub const NAME: &str = "words";

/// Source folders of the pure rooms.
const PURE: [&str; 7] = ["model/src/", "wire/src/", "rules/src/", "raft/src/", "gossip/src/", "exec/src/", "core/src/node/"];

/// A path that begins like this, and why it is not for a pure room.
const PATHS: &[(&str, &str)] = &[
    ("std::net", "sockets belong to the reactor"),
    ("std::fs", "files belong to the rim"),
    ("std::env", "configuration comes in as an argument"),
    ("std::process", "processes belong to the rim"),
    ("std::thread", "threads belong to the reactor"),
    ("std::sync::mpsc", "what goes out is a value, not a message on a channel"),
    ("std::time::Instant", "time comes in as `distric_model::Instant`"),
    ("std::time::SystemTime", "time comes in as `distric_model::Timestamp`"),
    ("Instant::now", "time comes in as an argument"),
    ("SystemTime", "time comes in as an argument"),
    ("std::io::stdin", "a room has one door"),
    ("std::io::stdout", "a room has one door"),
    ("std::io::stderr", "a room has one door"),
    ("std::collections::hash_map", "the order of a hash map differs between replicas"),
    ("tokio", "no runtime in a pure room"),
    ("monoio", "the runtime is touched in core/src/reactor only"),
    ("glommio", "no runtime in a pure room"),
    ("rustix", "system calls belong to the rim"),
    ("libc", "system calls belong to the rim"),
    ("tracing", "logs are written at doors, by the rim"),
    ("rand", "randomness comes in as a seed or a draw"),
    ("getrandom", "randomness comes in as a seed or a draw"),
    ("crate::reactor", "the reactor calls the node, never the other way"),
];

/// A word that stands for itself wherever it is read.
const WORDS: &[(&str, &str)] = &[
    ("async", "a pure room does not wait"),
    ("await", "a pure room does not wait"),
    ("Mutex", "one owner, no sharing"),
    ("RwLock", "one owner, no sharing"),
    ("Condvar", "one owner, no sharing"),
    ("HashMap", "the order of a hash map differs between replicas; use BTreeMap"),
    ("HashSet", "the order of a hash set differs between replicas; use BTreeSet"),
    ("RandomState", "randomness comes in as a seed or a draw"),
];

/// A macro that prints.
const MACROS: [&str; 4] = ["print", "println", "eprint", "eprintln"];

/// Types of `std::net` that are plain values.
const ADDRESS_VALUES: [&str; 6] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in RustFile::all(tree).iter().filter(|file| PURE.iter().any(|folder| file.path.starts_with(folder))) {
        for (path, line) in file.paths() {
            if let Some((word, why)) = PATHS.iter().find(|(word, _)| begins_with(&path, word))
                && !is_address_value(&path)
            {
                findings.push(Finding::new(file.path, line, NAME, format!("`{word}`: {why}")));
            }
        }
        for (at, token) in file.code() {
            if let Some((word, why)) = WORDS.iter().find(|(word, _)| *word == token.text) {
                findings.push(Finding::new(file.path, token.line, NAME, format!("`{word}`: {why}")));
            }
            if MACROS.contains(&token.text) && file.reads(at + 1, &["!"]) {
                findings.push(Finding::new(file.path, token.line, NAME, format!("`{}!`: a pure room prints nothing", token.text)));
            }
        }
    }
}

/// A package is only meant where something of it is named: `rand` alone is a name like any other.
fn begins_with(path: &str, word: &str) -> bool {
    let is_package = word.chars().all(char::is_lowercase);
    path.strip_prefix(word).is_some_and(|rest| rest.starts_with("::") || (rest.is_empty() && !is_package))
}

fn is_address_value(path: &str) -> bool {
    path.strip_prefix("std::net::").and_then(|rest| rest.split("::").next()).is_some_and(|name| ADDRESS_VALUES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    fn of(text: &str) -> Vec<String> {
        said(check, &[("raft/src/node.rs", text)])
    }

    #[test]
    fn each_banned_path_is_found_however_it_is_imported() {
        for (path, _) in PATHS {
            assert_eq!(of(&format!("use {path}::x;")).len(), 1, "{path} is not found");
            assert_eq!(of(&format!("fn f() {{ {path}::x() }}")).len(), 1, "{path} in passing is not found");
            if let Some((outer, inner)) = path.rsplit_once("::") {
                assert_eq!(of(&format!("use {outer}::{{a, {inner}}};")).len(), 1, "{path} in a group is not found");
            }
        }
        assert_eq!(
            of("use std::{collections::BTreeMap, time::{Duration, Instant}};"),
            ["raft/src/node.rs:1: words: `std::time::Instant`: time comes in as `distric_model::Instant`"]
        );
    }

    #[test]
    fn each_banned_word_and_macro_is_found() {
        for (word, _) in WORDS {
            assert_eq!(of(&format!("fn f() {{ let a: {word}; }}")).len(), 1, "{word} is not found");
        }
        for name in MACROS {
            assert_eq!(of(&format!("fn f() {{ {name}!(\"x\") }}")).len(), 1, "{name}! is not found");
        }
        assert_eq!(of("type Shared = Arc<Mutex<u8>>;").len(), 1);
        assert_eq!(of("async fn f() {}").len(), 1);
        assert_eq!(of("use std::collections::{HashMap};").len(), 1);
    }

    #[test]
    fn every_pure_room_is_looked_at_and_the_rim_is_not() {
        for folder in PURE {
            assert_eq!(said(check, &[(&format!("{folder}deep/a.rs"), "use std::fs;")]).len(), 1, "{folder}");
        }
        for folder in ["core/src/reactor/", "server/src/", "worker/src/", "raft/store/src/", "sdk/rust/src/"] {
            assert_eq!(said(check, &[(&format!("{folder}a.rs"), "use std::fs; use std::sync::Mutex;")]), [""; 0], "{folder}");
        }
    }

    #[test]
    fn tests_comments_and_values_are_free() {
        let free = "// std::fs\n/// [`HashMap`]\nuse std::net::{IpAddr, Ipv4Addr};\nuse distric_model::Instant;\n\
                    fn f(now: Instant) -> &'static str { \"tokio::spawn async\" }\n#[cfg(test)]\nmod tests { use std::fs; async fn f() {} }";
        assert_eq!(of(free), [""; 0]);
        assert_eq!(said(check, &[("exec/tests/a.rs", "use std::fs;"), ("exec/src/a/tests.rs", "use std::fs;")]), [""; 0]);
        assert_eq!(of("use std::net::TcpStream;").len(), 1);
        assert_eq!(of("fn f(rand: u64) { operand::rand_like(rand); printer(rand) }"), [""; 0]);
    }
}
