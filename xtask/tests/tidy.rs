//! The house rules hold over this repository.

use std::path::Path;

use xtask::tidy;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tree = tidy::Tree::read(root).unwrap();
    assert!(tree.len() > 100, "the rules looked at {} files only", tree.len());
    let errors: Vec<String> = tidy::check(&tree).iter().filter(|finding| finding.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}
