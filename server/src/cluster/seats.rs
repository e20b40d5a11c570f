//! Seats: where the nodes of a cluster on one machine listen.
//!
//! The first start decides, by ports in a row or by what the system gave; later starts on the same data find the same ones, because
//! the nodes look for each other where they were.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use distric_core::config::gossip_beside;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// Their file in the cluster's directory.
const FILE: &str = "addresses.json";

/// From the port of one node's binary protocol to the next one's: that one, the other nodes', and gossip's, which follows where nothing else is said.
const PORTS: usize = 3;

/// Where one node listens. Port 0: the system chooses at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The binary protocol.
    pub wire: SocketAddr,
    /// The other nodes.
    pub peer: SocketAddr,
    /// HTTP, if it is served.
    pub http: Option<SocketAddr>,
}

/// Seats in a row from the first one: three ports apart for the protocols and gossip, one for HTTP. A port 0 stays 0.
///
/// Errors: the last port would be above 65,535.
pub fn in_a_row(first: &Seat, count: usize) -> Result<Vec<Seat>, Failure> {
    let shifted = |address: SocketAddr, by: usize| match address.port() {
        0 => Ok(address),
        port => u16::try_from(usize::from(port) + by).map(|port| SocketAddr::new(address.ip(), port)).map_err(|_| {
            Failure::new(Exit::BadInput, format!("{count} nodes from port {port} on need ports above 65535"))
                .with_remedy("choose a lower port")
        }),
    };
    (0..count)
        .map(|n| {
            let http = first.http.map(|http| shifted(http, n)).transpose()?;
            Ok(Seat { wire: shifted(first.wire, PORTS * n)?, peer: shifted(first.peer, PORTS * n)?, http })
        })
        .collect()
}

/// Where gossip of a node must listen instead of beside its binary protocol, because another one listens there. With port 0 the system
/// chooses.
pub fn gossip_apart(seats: &[Seat], position: usize) -> Option<SocketAddr> {
    let usual = gossip_beside(seats[position].wire);
    let listens = |seat: &Seat| [Some(seat.wire), Some(seat.peer), seat.http].into_iter().flatten().any(|it| it.port() == usual.port());
    (usual.port() != 0 && seats.iter().any(listens)).then_some(SocketAddr::new(usual.ip(), 0))
}

fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// The seats that an earlier start on this directory had. `None`: there was none.
pub fn read(dir: &Path) -> Result<Option<Vec<Seat>>, Failure> {
    let path = file(dir);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::new(Exit::Environment, format!("{} is damaged: {error}", path.display()))
                .with_remedy("write the nodes' addresses into it again: a list of {\"wire\", \"peer\", \"http\"}")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("read", &path, &error)),
    }
}

/// Keeps the seats for later starts.
pub fn write(dir: &Path, seats: &[Seat]) -> Result<(), Failure> {
    let path = file(dir);
    let text = serde_json::to_vec_pretty(seats).expect("addresses are plain data");
    std::fs::write(&path, text).map_err(|error| Failure::io("write", &path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(wire: u16, peer: u16, http: Option<u16>) -> Seat {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Seat { wire: at(wire), peer: at(peer), http: http.map(at) }
    }

    #[test]
    fn seats_are_in_a_row_and_free_ones_stay_free() {
        let row = in_a_row(&seat(7_400, 7_401, Some(8_080)), 3).unwrap();
        assert_eq!(row[2], seat(7_406, 7_407, Some(8_082)));
        assert!((0..3).all(|position| gossip_apart(&row, position).is_none()));
        assert_eq!(in_a_row(&seat(0, 0, None), 3).unwrap()[2], seat(0, 0, None));
        assert!(in_a_row(&seat(65_533, 65_534, None), 3).unwrap_err().message.contains("65535"));
    }

    #[test]
    fn gossip_leaves_the_port_of_another_node_alone() {
        let seats = [seat(40_000, 40_001, None), seat(40_002, 40_003, Some(40_100)), seat(0, 0, None)];
        assert_eq!(gossip_apart(&seats, 0), Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert_eq!((gossip_apart(&seats, 1), gossip_apart(&seats, 2)), (None, None));
    }

    #[test]
    fn seats_are_found_again_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let row = vec![seat(1, 2, Some(3)), seat(4, 5, None)];
        write(dir.path(), &row).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(row));
        std::fs::write(file(dir.path()), "[{").unwrap();
        assert!(read(dir.path()).unwrap_err().message.contains("addresses.json is damaged"));
    }
}
