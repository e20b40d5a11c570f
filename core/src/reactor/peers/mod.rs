//! Peers: the connections between coordinators.
//!
//! Every coordinator dials every other and says on that connection what it has to say; on the one that comes back it listens.
//! [`links`] knows who is linked and when to dial again, [`hello`] opens a connection, [`join`] does it before the node runs,
//! [`book`] remembers where everybody is, [`bulk`] fetches snapshots.

pub mod book;
pub mod bulk;
pub mod hello;
pub mod join;
pub mod links;

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest time for one try to connect, milliseconds.
pub const CONNECT_MS_MAX: u64 = 1_000;
/// What a dead peer's socket may leave unacknowledged before it counts as broken, milliseconds.
const UNACKNOWLEDGED_MS_MAX: u32 = 3_000;

/// Connects to `host:port`; every address of the name is tried. Blocks for [`CONNECT_MS_MAX`] per address at most.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match connect_to(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to one address. Blocks for [`CONNECT_MS_MAX`] at most.
pub fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_MS_MAX))?;
    stream.set_nodelay(true)?;
    // A peer that vanished without a word must not hold what is meant for its successor.
    rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX)?;
    Ok(stream)
}
