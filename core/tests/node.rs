//! Claims about the node: the rooms composed, in a virtual world with virtual time.
//!
//! One program, so that the world is built once. Start reading at `world/mod.rs`, then any file of `claims/`.

mod claims;
mod world;
