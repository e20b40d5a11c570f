//! Links: what a Markdown page points to inside the repository is there, headings included.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::tree::Tree;

pub const NAME: &str = "links";

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.ending(".md") {
        for (target, line) in targets(text) {
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let Some(to) = resolve(path, file) else {
                findings.push(Finding::new(path, line, NAME, format!("`{target}` leads out of the repository")));
                continue;
            };
            if !tree.has(&to) {
                findings.push(Finding::new(path, line, NAME, format!("`{target}` leads to nothing: there is no {to}")));
            } else if let (Some(heading), Some(page)) = (heading, tree.text(&to).filter(|_| to.ends_with(".md")))
                && !anchors(page).contains(&heading.to_owned())
            {
                findings.push(Finding::new(path, line, NAME, format!("`{target}` leads to a heading that {to} does not have")));
            }
        }
    }
}

/// Targets of `[words](target)` that are files or headings, with their lines. Code is skipped.
fn targets(text: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for (line, words) in prose(text) {
        let mut rest = words;
        let mut code = false;
        while let Some(at) = rest.find(['`', ']']) {
            if rest.as_bytes()[at] == b'`' {
                code = !code;
            } else if let Some(target) = rest[at + 1..].strip_prefix('(').and_then(|after| after.split([')', ' ']).next())
                && !code
                && !target.is_empty()
                && !target.contains("://")
                && !target.starts_with("mailto:")
            {
                found.push((target, line));
            }
            rest = &rest[at + 1..];
        }
    }
    found
}

/// Lines outside fenced code, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(n, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((n + 1, line))
    })
}

/// The path from the root that a target means on a page. None above the root.
fn resolve(page: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(page.to_owned());
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    if let Some(from_root) = target.strip_prefix('/') {
        return Some(from_root.trim_end_matches('/').to_owned());
    }
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The names of a page's headings as they stand after `#`: lower case, punctuation gone, spaces to hyphens, repeats numbered.
fn anchors(page: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(page).filter_map(|(_, line)| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    headings
        .map(|words| {
            let name: String = words
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            if *times == 1 { name } else { format!("{name}-{}", *times - 1) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    fn of(text: &str) -> Vec<String> {
        said(check, &[("docs/a.md", text), ("docs/b.md", "# The `b` page\n## More, still\n## More, still\n"), ("README.md", "# R\n")])
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        assert_eq!(of("one\n[x](c.md)"), ["docs/a.md:2: links: `c.md` leads to nothing: there is no docs/c.md"]);
        assert_eq!(of("[x](../docs/c.md#y)").len(), 1);
        assert_eq!(of("[x](../../b.md)").len(), 1);
        assert_eq!(of("![x](b.png)").len(), 1);
        assert_eq!(of("| a | [x](gone/) |").len(), 1);
    }

    #[test]
    fn a_link_to_a_heading_that_is_not_there_is_found() {
        assert_eq!(of("[x](b.md#missing)").len(), 1);
        assert_eq!(of("# Here\n[x](#there)").len(), 1);
        assert_eq!(of("# Here\n[x](#here) [y](b.md#the-b-page) [z](b.md#more-still-1)"), [""; 0]);
    }

    #[test]
    fn what_is_there_or_elsewhere_is_left_alone() {
        assert_eq!(of("[x](b.md) [y](../README.md) [z](..) [w](/docs/b.md)"), [""; 0]);
        assert_eq!(of("[x](https://example.org/c.md) `[x](c.md)`\n```\n[x](c.md)\n```\n"), [""; 0]);
        assert_eq!(of("`a[1]` (see c.md) and [b] (c.md)"), [""; 0]);
    }
}
