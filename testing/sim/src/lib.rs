//! Storms over a virtual cluster: the node's production code on one virtual clock, and everything around it from a seed.
//!
//! In: a seed.  Out: a calm cluster that kept its promises, or a panic with the storm's diary.
//! May touch: every room.  Never: real time, sockets, files, threads, randomness but the seed's.
//! The world is that of the claims about the node (`core/tests/world`): shards, consensus, catalog, machines, log and checkpoint
//! stores and the worker's protocol are the real ones, joined by lanes instead of threads.
//! Start reading at [`storm::run`].

pub mod diary;
pub mod linear;
pub mod storm;
#[allow(missing_docs, reason = "the world of the claims about the node, which reads by its tests")]
#[path = "../../../core/tests/world/mod.rs"]
pub mod world;
