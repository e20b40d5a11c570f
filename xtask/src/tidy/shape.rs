//! Shape: a Rust file opens by saying who it is, and stays readable in length.

use super::finding::Finding;
use super::rust::RustFile;
use super::tree::Tree;

pub const NAME: &str = "shape";

/// Beyond this many lines one looks for the second noun.
const LINES_COMFORTABLE_MAX: usize = 800;
/// Beyond this it is two rooms.
const LINES_MAX: usize = 1_200;
/// Tests are tables more often, and read by searching.
const TEST_LINES_MAX: usize = 1_500;

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in RustFile::all(tree) {
        if !file.text.starts_with("//!") {
            findings.push(Finding::new(file.path, 1, NAME, "the first line says what this module is: `//! …`"));
        }
        let lines = file.text.lines().count();
        let lines_max = if file.is_test() { TEST_LINES_MAX } else { LINES_MAX };
        if lines > lines_max {
            findings.push(Finding::new(
                file.path,
                lines,
                NAME,
                format!("{lines} lines, at most {lines_max}: there are two things in here"),
            ));
        } else if lines > LINES_COMFORTABLE_MAX && !file.is_test() {
            findings.push(Finding::warning(file.path, lines, NAME, format!("{lines} lines: look for the second noun")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    fn of_length(path: &str, lines: usize) -> Vec<String> {
        said(check, &[(path, &format!("//! A file.\n{}", "const A: u8 = 1;\n".repeat(lines - 1)))])
    }

    #[test]
    fn a_file_that_does_not_say_who_it_is_is_found() {
        assert_eq!(said(check, &[("a/src/lib.rs", "use b;\n//! Late.\n")]).len(), 1);
        assert_eq!(said(check, &[("a/src/lib.rs", "//! Who.\nuse b;\n")]), [""; 0]);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(of_length("a/src/b.rs", LINES_COMFORTABLE_MAX), [""; 0]);
        assert!(of_length("a/src/b.rs", LINES_COMFORTABLE_MAX + 1)[0].contains("warning"));
        assert!(of_length("a/src/b.rs", LINES_MAX + 1)[0].contains("two things"));
        assert_eq!(of_length("a/tests/b.rs", TEST_LINES_MAX), [""; 0]);
        assert_eq!(of_length("a/tests/b.rs", TEST_LINES_MAX + 1).len(), 1);
    }
}
