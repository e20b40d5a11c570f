//! Addresses for nodes that must be found again where they were.
//!
//! A port that the kernel hands out for `:0` may become the local port of anybody's connection as soon as its listener is gone. These come
//! from below the range of such ports, so that nobody gets one by chance.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port handed out.
const FIRST: u16 = 16_384;
/// How many ports lie between there and the start of Linux' default range of ephemeral ports (32,768).
const COUNT: u32 = 16_384;
/// Ports from one address to the next: a node whose `peer.bind` and gossip are not set takes the two after its own.
const APART: u32 = 4;

/// An address of loopback that nobody listens on now, nor on the three ports after it.
///
/// # Panics
/// When every port of the range is taken.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that test at the same time begin in different places.
    let own = std::process::id().wrapping_mul(61) * APART;
    (0..COUNT / APART)
        .map(|_| {
            let offset = own.wrapping_add(NEXT.fetch_add(APART, Ordering::Relaxed)) % COUNT;
            SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + u16::try_from(offset).expect("below COUNT")))
        })
        .find(|address| (0..APART as u16).all(|after| is_free(SocketAddr::new(address.ip(), address.port() + after))))
        .expect("loopback has a free port")
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_differ_and_a_taken_one_is_passed_over() {
        let first = free_address();
        let held: Vec<TcpListener> = (1..=20).map(|n| TcpListener::bind((first.ip(), first.port() + n * 8 % 16_000)).unwrap()).collect();
        let taken: BTreeSet<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let more: BTreeSet<u16> = (0..100).map(|_| free_address().port()).collect();
        assert_eq!(more.len(), 100);
        assert!(more.is_disjoint(&taken), "{more:?} {taken:?}");
        assert!(more.iter().all(|port| (FIRST..32_768).contains(port) && port % APART as u16 == FIRST % APART as u16));
    }
}
