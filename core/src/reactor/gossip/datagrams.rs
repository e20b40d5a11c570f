//! Datagrams in batches: everything that waits is read, and everything that a turn produced leaves in few system calls.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};

use distric_gossip::{DATAGRAM_BYTES_MAX, Datagram, Endpoint};
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, recvfrom, sendmmsg};

use super::{address_of, endpoint_of};

/// Datagrams in one call.
const BATCH_MAX: usize = 32;
/// Most datagrams read before timers and other agents have their turn.
pub const DRAIN_MAX: usize = 256;
/// One byte more than any that is legal, so that a longer one is seen to be longer.
pub const RECEIVE_BYTES: usize = DATAGRAM_BYTES_MAX + 1;

/// Sends a turn's datagrams. Returns how many the system did not take: to the machine those are lost packets.
pub fn send(socket: &UdpSocket, on_v6: bool, datagrams: &[Datagram]) -> u64 {
    let mut refused = 0;
    for batch in datagrams.chunks(BATCH_MAX) {
        let addresses: Vec<SocketAddrAny> = batch.iter().map(|one| address_of(one.to, on_v6).into()).collect();
        let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|one| [IoSlice::new(&one.bytes)]).collect();
        let mut at = 0;
        while at < batch.len() {
            let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = batch[at..].iter().map(|_| SendAncillaryBuffer::default()).collect();
            let parts = addresses[at..].iter().zip(&slices[at..]).zip(&mut controls);
            let mut messages: Vec<MMsgHdr<'_>> = parts.map(|((to, slice), control)| MMsgHdr::new_with_addr(to, slice, control)).collect();
            match sendmmsg(socket, &mut messages, SendFlags::DONTWAIT) {
                Ok(sent) if sent > 0 => at += sent,
                // The first of the rest was refused (nobody is routed there, the buffer is full): it is lost, the others go on.
                Ok(_) | Err(_) => {
                    refused += 1;
                    at += 1;
                }
            }
        }
    }
    refused
}

/// Reads what has arrived, at most [`DRAIN_MAX`]. Returns how many.
pub fn drain(socket: &UdpSocket, buffer: &mut [u8], mut take: impl FnMut(Endpoint, &[u8])) -> usize {
    for count in 0..DRAIN_MAX {
        match recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((bytes, _, Some(from))) => {
                if let Ok(from) = SocketAddr::try_from(from) {
                    take(endpoint_of(from), &buffer[..bytes]);
                }
            }
            Ok((_, _, None)) => {}
            Err(_) => return count,
        }
    }
    DRAIN_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_whole_and_what_cannot_be_sent_does_not_hold_up_the_rest() {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let target = endpoint_of(to.local_addr().unwrap());
        let datagram = |to, n: u8| Datagram { to, bytes: vec![n; 10].into() };
        let mut batch: Vec<Datagram> = (0..70).map(|n| datagram(target, n)).collect();
        // An IPv6 address does not leave an IPv4 socket.
        batch.insert(40, datagram(Endpoint::v6([1; 16], 9), 200));
        assert_eq!(send(&from, false, &batch), 1);
        let (mut buffer, mut seen) = ([0; RECEIVE_BYTES], Vec::new());
        let count = drain(&to, &mut buffer, |_, bytes| seen.push(bytes[0]));
        assert_eq!(count, 70);
        assert_eq!(seen, (0..70).collect::<Vec<u8>>());
    }

    #[test]
    fn a_datagram_that_is_too_long_is_seen_to_be() {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        from.send_to(&[7; 3_000], to.local_addr().unwrap()).unwrap();
        let (mut buffer, mut seen) = ([0; RECEIVE_BYTES], 0);
        drain(&to, &mut buffer, |_, bytes| seen = bytes.len());
        assert!(seen > DATAGRAM_BYTES_MAX);
    }
}
