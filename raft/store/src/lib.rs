//! Durable logs for raft.
