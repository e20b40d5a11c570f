//! The node: pure composition and the reactor around it.
