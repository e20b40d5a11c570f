//! Endpoints: where a node is reached, as a value. No sockets here; the rim converts.

use std::fmt;

use distric_model::NodeId;

/// An address and a port. IPv4 addresses are kept in their IPv6-mapped form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address in network order.
    pub ip: [u8; 16],
    /// The UDP port; streams use the TCP port of the same number.
    pub port: u16,
}

/// Where something goes, and to whom, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) node: Option<NodeId>,
}

impl Target {
    /// A member at its endpoint.
    pub(crate) const fn member(node: NodeId, endpoint: Endpoint) -> Self {
        Self { endpoint, node: Some(node) }
    }
}

/// The first 12 bytes of an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2).
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Endpoint {
    /// An IPv4 endpoint.
    pub fn v4(ip: [u8; 4], port: u16) -> Self {
        let mut mapped = [0; 16];
        mapped[..12].copy_from_slice(&V4_MAPPED);
        mapped[12..].copy_from_slice(&ip);
        Self { ip: mapped, port }
    }

    /// An IPv6 endpoint.
    pub const fn v6(ip: [u8; 16], port: u16) -> Self {
        Self { ip, port }
    }

    /// The four bytes, when this is an IPv4 endpoint.
    pub fn as_v4(&self) -> Option<[u8; 4]> {
        let (head, tail) = self.ip.split_at(12);
        if head == V4_MAPPED { tail.try_into().ok() } else { None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some([a, b, c, d]) = self.as_v4() {
            return write!(f, "{a}.{b}.{c}.{d}:{}", self.port);
        }
        f.write_str("[")?;
        for (n, pair) in self.ip.chunks_exact(2).enumerate() {
            let colon = if n == 0 { "" } else { ":" };
            write!(f, "{colon}{:x}", u16::from_be_bytes([pair[0], pair[1]]))?;
        }
        write!(f, "]:{}", self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_print_as_usual() {
        assert_eq!(Endpoint::v4([10, 0, 0, 7], 7946).to_string(), "10.0.0.7:7946");
        let mut ip = [0; 16];
        ip[15] = 1;
        assert_eq!(Endpoint::v6(ip, 1).to_string(), "[0:0:0:0:0:0:0:1]:1");
    }
}
