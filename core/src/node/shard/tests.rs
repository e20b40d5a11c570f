//! Claims about a shard.
