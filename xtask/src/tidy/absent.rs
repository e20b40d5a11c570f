//! What is absent on purpose, in every room.

use super::finding::Finding;
use super::rust::RustFile;
use super::tree::Tree;

pub const NAME: &str = "absent";

/// Names that say nothing about what is inside.
const CATCH_ALLS: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "misc", "shared"];

/// Macros of unfinished work.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, _) in tree.files() {
        for part in path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if CATCH_ALLS.contains(&stem) {
                findings.push(Finding::new(path, 1, NAME, format!("`{stem}` says nothing about what is inside: name the thing")));
            }
        }
    }
    for file in RustFile::all(tree) {
        check_file(&file, findings);
    }
}

fn check_file(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    let may_be_unsafe = file.path.rsplit('/').next().is_some_and(|name| name.contains("unsafe"));
    for (at, token) in file.tokens.iter().enumerate() {
        let mut object = |words: String| findings.push(Finding::new(file.path, token.line, NAME, words));
        match token.text {
            word if UNFINISHED.contains(&word) && file.reads(at + 1, &["!"]) => object(format!("`{word}!` is unfinished work")),
            "unsafe" if !may_be_unsafe => object("`unsafe` only in a file whose name says so".to_owned()),
            "static" if file.reads(at + 1, &["mut"]) => object("`static mut`: no global mutable state".to_owned()),
            "mod" if file.tokens.get(at + 1).is_some_and(|name| CATCH_ALLS.contains(&name.text)) => {
                object(format!("the module `{}` says nothing about what is inside", file.tokens[at + 1].text));
            }
            "." if !file.in_test[at] && file.reads(at + 1, &["unwrap", "(", ")"]) => {
                object("`.unwrap()` outside tests: say with `expect` why it cannot fail".to_owned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    fn of(text: &str) -> Vec<String> {
        said(check, &[("core/src/a.rs", text)])
    }

    #[test]
    fn catch_all_names_are_found() {
        for name in CATCH_ALLS {
            assert_eq!(said(check, &[(&format!("exec/src/{name}.rs"), "")]).len(), 1, "{name}.rs");
            assert_eq!(said(check, &[(&format!("exec/src/{name}/mod.rs"), "")]).len(), 1, "{name}/");
            assert_eq!(of(&format!("mod {name} {{}}")).len(), 1, "mod {name}");
        }
    }

    #[test]
    fn unfinished_macros_are_found_even_in_tests() {
        for name in UNFINISHED {
            assert_eq!(of(&format!("fn f() {{ {name}!() }}")).len(), 1);
            assert_eq!(of(&format!("#[test]\nfn f() {{ {name}!(1) }}")).len(), 1);
        }
    }

    #[test]
    fn unsafe_is_found_unless_the_file_is_named_for_it() {
        assert_eq!(of("fn f() { unsafe { g() } }"), ["core/src/a.rs:1: absent: `unsafe` only in a file whose name says so"]);
        assert_eq!(said(check, &[("core/src/ring_unsafe.rs", "unsafe impl Send for A {}")]), [""; 0]);
        assert_eq!(of("#![forbid(unsafe_code)]"), [""; 0]);
    }

    #[test]
    fn bare_unwrap_is_for_tests() {
        assert_eq!(
            of("fn f() {\n g()\n  .unwrap() }"),
            ["core/src/a.rs:3: absent: `.unwrap()` outside tests: say with `expect` why it cannot fail"]
        );
        assert_eq!(of("fn f() { g().unwrap_or(1) }\n/// g().unwrap()\n#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }"), [""; 0]);
        assert_eq!(said(check, &[("core/tests/a.rs", "fn f() { g().unwrap() }")]), [""; 0]);
    }

    #[test]
    fn global_mutable_state_is_found() {
        assert_eq!(of("static mut A: u8 = 0;").len(), 1);
        assert_eq!(of("fn f(a: &'static mut u8) {}"), [""; 0]);
    }
}
