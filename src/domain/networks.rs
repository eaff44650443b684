//! Networks of IP addresses, as settings name them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Fault, parse_address};

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Parses addresses and networks, separated by commas or spaces: `10.0.0.0/8, ::1`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let each =
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|one| !one.is_empty());
        each.map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is in one of the networks. An IPv4 address can be written as IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Parses a network, or an address, which is a network of one.
fn network(text: &str) -> Result<IpNet, Fault> {
    let network = match text.parse() {
        Ok(network) => Some(network),
        Err(_) => parse_address(text).map(IpNet::from),
    };
    network.map(canonical).ok_or_else(|| {
        Fault::new("must be addresses or networks like 10.0.0.0/8, 192.0.2.7 or fd00::/8")
    })
}

/// An IPv4 network that is written as IPv6 (`::ffff:10.0.0.0/104`) as IPv4: addresses are compared
/// in that form.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(MAPPED_BITS)) {
        (address @ IpAddr::V4(_), Some(bits)) if network.addr().is_ipv6() => {
            IpNet::new(address, bits).unwrap_or(network)
        }
        _ => network,
    }
}
