//! The node: the rooms composed ([`node`]), and the reactor that owns every system call around them ([`reactor`]).
//!
//! In: a checked [`config::Config`].  Out: a running node, reachable over the binary protocol.
//! May touch: every room above it.  Never: HTTP.
//! Start reading at [`node::shard::Shard`] for what happens, at [`reactor::start`] for where it runs.

pub mod config;
pub mod node;
pub mod reactor;

mod plan;

pub use plan::Plan;
pub use reactor::{Failure, Metrics, NodeHandle, NodeOptions, StartError, start};

/// Plans the cores of this machine for a configuration.
pub fn plan(config: &config::Config) -> Plan {
    Plan::for_this_machine(config)
}
