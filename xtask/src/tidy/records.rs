//! Decision records: `docs/adr/NNNN-title.md`, numbered without gaps, each with its four parts, each in the index.

use super::finding::Finding;
use super::tree::Tree;

pub const NAME: &str = "records";

const FOLDER: &str = "docs/adr/";
const INDEX: &str = "docs/adr/README.md";
const PARTS: [&str; 4] = ["## Context", "## Choice", "## Price", "## What would make us return"];

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let index = tree.text(INDEX).unwrap_or_default();
    let mut expected = 1;
    for (path, text) in tree.files().filter(|(path, _)| path.starts_with(FOLDER) && *path != INDEX) {
        let name = &path[FOLDER.len()..];
        let number = name.split('-').next().filter(|digits| digits.len() == 4).and_then(|digits| digits.parse::<usize>().ok());
        let mut object = |words: String| findings.push(Finding::new(path, 1, NAME, words));
        match number {
            Some(number) if number == expected => expected += 1,
            Some(number) => {
                object(format!("the next number is {expected:04}"));
                expected = number + 1;
            }
            None => object("a record is named NNNN-title.md".to_owned()),
        }
        for part in PARTS.iter().filter(|part| !text.lines().any(|line| line == **part)) {
            object(format!("lacks `{part}`"));
        }
        if !index.contains(&format!("]({name})")) {
            object(format!("{INDEX} does not list it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    const WHOLE: &str = "# T\n\n## Context\n\n## Choice\n\n## Price\n\n## What would make us return\n";

    #[test]
    fn gaps_omissions_and_missing_parts_are_found() {
        let index = "[a](0001-a.md) [b](0002-b.md)";
        let good = [("docs/adr/README.md", index), ("docs/adr/0001-a.md", WHOLE), ("docs/adr/0002-b.md", WHOLE)];
        assert_eq!(said(check, &good), [""; 0]);
        assert_eq!(said(check, &[("docs/adr/README.md", "[a](0002-b.md)"), ("docs/adr/0002-b.md", WHOLE)]).len(), 1);
        assert_eq!(said(check, &[("docs/adr/README.md", ""), ("docs/adr/0001-a.md", WHOLE)]).len(), 1);
        assert_eq!(said(check, &[("docs/adr/README.md", "[a](0001-a.md)"), ("docs/adr/0001-a.md", "# T\n## Context\n")]).len(), 3);
        assert_eq!(said(check, &[("docs/adr/README.md", "[a](first.md)"), ("docs/adr/first.md", WHOLE)]).len(), 1);
    }

    #[test]
    fn one_number_twice_is_found() {
        let index = "[a](0001-a.md) [b](0001-b.md)";
        assert_eq!(said(check, &[("docs/adr/README.md", index), ("docs/adr/0001-a.md", WHOLE), ("docs/adr/0001-b.md", WHOLE)]).len(), 1);
    }
}
