//! Networks: which of many an address lies in, at a cost that follows the lengths of their prefixes and not their number.
//!
//! For each length there is a sorted table of the addresses that networks of that length begin with; an address is cut to the length
//! and looked up. Rules use few lengths; there are 33 and 129 at most.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks with a number each; several may have the same one.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    v4: Vec<Length>,
    v6: Vec<Length>,
}

/// All networks of one prefix length.
#[derive(Debug)]
struct Length {
    /// The bits that count.
    mask: u128,
    /// First address and number; ascending.
    networks: Vec<(u128, u32)>,
}

impl Networks {
    /// A table of these.
    pub fn new(list: &[(IpNet, u32)]) -> Self {
        let mut networks = Self::default();
        for (net, number) in list {
            let (lengths, bits) = if net.addr().is_ipv4() { (&mut networks.v4, 32) } else { (&mut networks.v6, 128) };
            let mask = mask_of(net.prefix_len(), bits);
            let at = lengths.iter().position(|length| length.mask == mask).unwrap_or_else(|| {
                lengths.push(Length { mask, networks: Vec::new() });
                lengths.len() - 1
            });
            lengths[at].networks.push((number_of(net.addr()) & mask, *number));
        }
        networks.v4.iter_mut().chain(&mut networks.v6).for_each(|length| length.networks.sort_unstable());
        networks
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Tells the number of each network that the address lies in.
    pub fn each(&self, address: IpAddr, mut found: impl FnMut(u32)) {
        let whole = number_of(address);
        for length in if address.is_ipv4() { &self.v4 } else { &self.v6 } {
            let cut = whole & length.mask;
            let from = length.networks.partition_point(|(first, _)| *first < cut);
            length.networks[from..].iter().take_while(|(first, _)| *first == cut).for_each(|(_, number)| found(*number));
        }
    }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The highest `prefix` of so many bits.
fn mask_of(prefix: u8, bits: u32) -> u128 {
    let all = u128::MAX >> (128 - bits);
    let rest = bits - u32::from(prefix).min(bits);
    all & u128::MAX.checked_shl(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_networks_are_found_as_by_asking_each() {
        let mut texts: Vec<String> =
            ["0.0.0.0/0", "::/0", "::1/128", "2001:db8::/33", "::ffff:0:0/96", "10.0.0.0/8", "10.0.0.0/8"].map(String::from).to_vec();
        texts.extend((0..=32).map(|prefix| format!("10.77.{}.{}/{prefix}", prefix * 7, prefix)));
        texts.extend((0..=128).map(|prefix| format!("2001:db8:{prefix:x}::{prefix:x}/{prefix}")));
        let list: Vec<(IpNet, u32)> = texts.iter().zip(0..).map(|(text, number)| (text.parse().unwrap(), number)).collect();
        let networks = Networks::new(&list);
        let mut addresses: Vec<IpAddr> = list.iter().flat_map(|(net, _)| [net.addr(), net.network(), net.broadcast()]).collect();
        addresses.extend(["127.0.0.1", "255.255.255.255", "::ffff:10.0.0.1"].map(|text| text.parse::<IpAddr>().unwrap()));
        for address in addresses {
            let mut found = Vec::new();
            networks.each(address, |number| found.push(number));
            found.sort_unstable();
            let expected: Vec<u32> = list.iter().filter(|(net, _)| net.contains(&address)).map(|(_, number)| *number).collect();
            assert_eq!(found, expected, "{address}");
        }
        assert!(Networks::new(&[]).is_empty() && !networks.is_empty());
    }
}
