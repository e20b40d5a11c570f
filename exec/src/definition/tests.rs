//! Claims about the workflow language.
