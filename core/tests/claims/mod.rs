//! What a node promises, by theme.

mod admission;
mod between_groups;
mod catalog;
mod catalog_changes;
mod checkpoints;
mod definitions;
mod joining;
mod leads;
mod liveness;
mod queries;
mod sessions;
mod signals;
mod soak;
mod starting;
mod submit;
mod three_nodes;
mod timers;
mod trials;
mod workers;
