//! The rule language: parse, check, match, explain.
