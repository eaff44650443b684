//! Where requests come from, as far as budgets tell sources apart.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A source of requests that has budgets of its own: an IPv4 address, or an IPv6 network of
/// 64 bits, since a host of IPv6 can take any address of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_an_address_or_a_network_of_ipv6() {
        let source = |address: &str| Source::of(address.parse().unwrap());
        for (one, other) in
            [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8:1:2::1", "2001:db8:1:2:ffff::7")]
        {
            assert_eq!(source(one), source(other));
        }
        for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8:1:2::1", "2001:db8:1:3::1")] {
            assert_ne!(source(one), source(other));
        }
    }
}
