//! `tidy`: the rules that hold over the whole tree.
//!
//! In: a [`Tree`] of paths and texts.  Out: [`Finding`]s. Pure but for [`Tree::read`].
//! Each rule is one file, one function and one row of `RULES`; each has tests that show a bad sample caught.

mod absent;
mod arrows;
mod finding;
mod links;
mod manifest;
mod records;
mod rust;
mod shape;
mod toml;
mod tree;
mod words;
mod workshop;

pub use self::finding::Finding;
pub use self::tree::Tree;

/// One rule: its name, what it holds, and how.
struct Rule {
    name: &'static str,
    holds: &'static str,
    check: fn(&Tree, &mut Vec<Finding>),
}

const RULES: &[Rule] = &[
    Rule { name: arrows::NAME, holds: "crates depend on each other only along the arrows of ARCHITECTURE.md", check: arrows::check },
    Rule {
        name: words::NAME,
        holds: "pure rooms name no socket, file, clock, thread, lock, hash order or randomness",
        check: words::check,
    },
    Rule {
        name: absent::NAME,
        holds: "no catch-all modules, unfinished macros, `static mut`, `unsafe` or bare `unwrap` out of place",
        check: absent::check,
    },
    Rule { name: shape::NAME, holds: "every Rust file opens with a module doc and stays readable in length", check: shape::check },
    Rule { name: links::NAME, holds: "links of Markdown pages to files of the repository lead somewhere", check: links::check },
    Rule { name: manifest::NAME, holds: "every workspace dependency says why it is here, and is used", check: manifest::check },
    Rule {
        name: records::NAME,
        holds: "decision records are numbered without gaps, have their four parts, and are listed",
        check: records::check,
    },
    Rule { name: workshop::NAME, holds: "no word of the workshop is left lying about", check: workshop::check },
];

/// Holds every rule over the tree. Findings come sorted by file and line.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        (rule.check)(tree, &mut findings);
    }
    findings.sort();
    findings.dedup();
    findings
}

/// One line per rule.
pub fn describe() -> String {
    RULES.iter().map(|rule| format!("{:<10} {}\n", rule.name, rule.holds)).collect()
}

/// What a rule says about a tree made of these files, as lines. For tests.
#[cfg(test)]
fn said(check: fn(&Tree, &mut Vec<Finding>), files: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    check(&Tree::of(files), &mut findings);
    findings.sort();
    findings.iter().map(ToString::to_string).collect()
}
