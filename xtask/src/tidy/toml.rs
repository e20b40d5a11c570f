//! As much of TOML as manifests use: sections, `key = value` lines, comments at their ends.

/// One `key = value` line of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The section's name as written between its brackets.
    pub section: &'a str,
    /// The key, up to its first dot: `serde` of `serde.workspace = true`.
    pub key: &'a str,
    /// Everything after the first `=` or dot, without the comment.
    pub value: &'a str,
    /// The comment at the end of the line, trimmed.
    pub comment: Option<&'a str>,
    /// The line, from 1.
    pub line: usize,
}

/// The entries of a manifest. A `[dependencies.name]` section is an entry `name` of `dependencies`.
pub fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for (n, whole) in text.lines().enumerate() {
        let (body, comment) = split_comment(whole);
        let body = body.trim();
        if let Some(name) = body.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).trim();
            if let Some((outer, key)) = section.rsplit_once('.').filter(|(outer, _)| outer.ends_with("dependencies")) {
                found.push(Entry { section: outer, key, value: "", comment, line: n + 1 });
            }
            continue;
        }
        let Some(end) = body.find(['=', '.', ' ']).filter(|end| *end > 0 && body.contains('=')) else { continue };
        let (key, value) = (body[..end].trim_matches('"'), body[end + 1..].trim().trim_start_matches('=').trim());
        found.push(Entry { section, key, value, comment, line: n + 1 });
    }
    found
}

/// The strings of an array that is written over several lines, with their lines: `members` of the workspace.
pub fn array<'a>(text: &'a str, section: &str, key: &str) -> Vec<(&'a str, usize)> {
    let (mut here, mut inside) = (false, false);
    let mut found = Vec::new();
    for (n, whole) in text.lines().enumerate() {
        let body = split_comment(whole).0.trim();
        if !inside && body.starts_with('[') {
            here = body == format!("[{section}]");
        } else if here && !inside && body.split(['=', ' ']).next() == Some(key) {
            inside = true;
        }
        if inside {
            found.extend(body.split('"').skip(1).step_by(2).map(|member| (member, n + 1)));
            inside = !body.ends_with(']');
        }
    }
    found
}

/// The line up to its comment, and the comment.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'#' if !quoted => return (&line[..at], Some(line[at + 1..].trim())),
            _ => {}
        }
    }
    (line, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_dependency_are_read() {
        let text = "[dependencies]\na.workspace = true # why\nb = { path = \"x#y\" }\n\n[dev-dependencies.c]\nversion = \"1\"\n\
                    [target.'cfg(loom)'.dependencies]\nd = \"1\"\n";
        let found: Vec<_> = entries(text).into_iter().map(|e| (e.section, e.key, e.comment, e.line)).collect();
        assert_eq!(found[0], ("dependencies", "a", Some("why"), 2));
        assert_eq!(found[1], ("dependencies", "b", None, 3));
        assert_eq!(found[2], ("dev-dependencies", "c", None, 5));
        assert_eq!(found.last().unwrap(), &("target.'cfg(loom)'.dependencies", "d", None, 8));
    }

    #[test]
    fn members_are_read() {
        let text = "[workspace]\nresolver = \"3\"\nmembers = [\n  \"a\", # one\n  \"b/c\",\n]\n[x]\nmembers = [\"no\"]\n";
        assert_eq!(array(text, "workspace", "members"), [("a", 4), ("b/c", 5)]);
        assert_eq!(array("[workspace]\nmembers = [\"a\", \"b\"]\n", "workspace", "members"), [("a", 2), ("b", 2)]);
    }
}
