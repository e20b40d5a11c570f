//! Gossip on real sockets: one machine per agent, any number of agents on one thread with a runtime of its own.
//!
//! In: commands of [`AgentControl`], datagrams, streams.  Out: what the machine says, told to a [`Listen`].
//! A coordinator has a thread with one agent, a worker process likewise; a test puts a hundred on one thread.
//! Bounds: [`STREAMS_OPEN_MAX`], [`STREAMS_TAKEN_MAX`], `datagrams::DRAIN_MAX`.
//! Start reading at [`AgentThread::start`].

mod agent;
mod datagrams;
pub mod keys;
pub mod load;
pub mod refusals;
mod streams;
mod thread;

pub use agent::{AgentStart, Listen, Sockets};
pub use datagrams::DRAIN_MAX;
pub use streams::{STREAMS_OPEN_MAX, STREAMS_TAKEN_MAX};
pub use thread::{AgentCommand, AgentControl, AgentThread};

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use distric_gossip::Endpoint;

/// An address of the system as the machine knows it.
pub fn endpoint_of(address: SocketAddr) -> Endpoint {
    match address.ip() {
        IpAddr::V4(ip) => Endpoint::v4(ip.octets(), address.port()),
        IpAddr::V6(ip) => Endpoint::v6(ip.octets(), address.port()),
    }
}

/// The first address of `host:port`. Blocks as long as the system's resolver does.  Errors: the name has none.
pub fn resolve_one(name: &str) -> io::Result<Endpoint> {
    let no_address = || io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"));
    Ok(endpoint_of(name.to_socket_addrs()?.next().ok_or_else(no_address)?))
}

/// An endpoint for the system's calls; `on_v6`: for a socket of that family, which reaches IPv4 by its mapped form.
pub fn address_of(endpoint: Endpoint, on_v6: bool) -> SocketAddr {
    match endpoint.as_v4() {
        Some(ip) if !on_v6 => SocketAddr::from((ip, endpoint.port)),
        _ => SocketAddr::from((Ipv6Addr::from(endpoint.ip), endpoint.port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_come_back_as_they_were() {
        for text in ["10.1.2.3:7402", "[2001:db8::7]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(address_of(endpoint_of(address), false), address);
        }
        let mapped = address_of(Endpoint::v4([10, 1, 2, 3], 7402), true);
        assert_eq!(mapped.to_string(), "[::ffff:10.1.2.3]:7402");
        assert_eq!(endpoint_of(mapped), Endpoint::v4([10, 1, 2, 3], 7402));
    }
}
