//! Workflow definitions and the replicated machine.
