//! The task executors built into every worker.
