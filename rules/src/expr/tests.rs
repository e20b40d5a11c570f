//! Claims about the language.
