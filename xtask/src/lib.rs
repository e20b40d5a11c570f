//! House rules as a program: everything about this repository that can be checked without compiling it.
//!
//! In: the files of the repository.  Out: findings with file and line.
//! May touch: the standard library, `anyhow`, programs of the toolchain.  Never: the rooms that it judges.
//! Start reading at [`tidy::check`].

pub mod mutants;
pub mod tidy;
