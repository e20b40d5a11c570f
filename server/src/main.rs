//! The distric binary.
fn main() {}
