//! `docs/rules.md` is true: its files are written down, its commands are run, and they return and print what the page says.

mod support;

use std::fmt::Write;

use support::program;

/// What stands before a block: `file: NAME`, or `run: EXIT` with, at will, `contains: TEXT`.
enum Block<'a> {
    File(&'a str, &'a str),
    Run { exit: i32, contains: Option<&'a str>, commands: &'a str },
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for part in page.split("<!-- ").skip(1) {
        let (mark, rest) = part.split_once(" -->").expect("a mark ends");
        let body = rest.split_once("```").and_then(|(_, rest)| rest.split_once('\n')).expect("a block follows its mark").1;
        let body = body.split_once("```").expect("a block ends").0;
        if let Some(name) = mark.strip_prefix("file: ") {
            blocks.push(Block::File(name, body));
        } else if let Some(run) = mark.strip_prefix("run: ") {
            let (exit, contains) = match run.split_once(" contains: ") {
                Some((exit, contains)) => (exit, Some(contains)),
                None => (run, None),
            };
            blocks.push(Block::Run { exit: exit.parse().expect("an exit code"), contains, commands: body });
        }
    }
    blocks
}

#[test]
fn the_guide_does_what_it_says() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut files, mut runs) = (0, String::new());
    for block in blocks(&page) {
        match block {
            Block::File(name, body) => {
                std::fs::write(dir.path().join(name), body).unwrap();
                files += 1;
            }
            Block::Run { exit, contains, commands } => {
                for line in commands.lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    assert_eq!(words[0], "distric", "{line}");
                    let mut command = program().command(words[1..].iter().copied());
                    command.current_dir(dir.path());
                    let finished = distric_harness::Running::start(command).wait().expect(exit);
                    assert!(contains.is_none_or(|text| finished.stdout.contains(text)), "{line} printed:\n{}", finished.stdout);
                    let _ = writeln!(runs, "{line}");
                }
            }
        }
    }
    assert!(files >= 7 && runs.lines().count() >= 6, "{files} files, and these commands:\n{runs}");
}
