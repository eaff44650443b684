//! The address of the client: the peer of the connection or, if that is a trusted proxy, the
//! address in `X-Forwarded-For`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

use crate::domain::{Fault, parse_address};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose `X-Forwarded-For` header is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// A network: addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: Ipv6Addr,
    bits: u8,
}

impl TrustedProxies {
    /// Parses addresses and networks, separated by commas or spaces: `10.0.0.0/8, ::1`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let each =
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|one| !one.is_empty());
        each.map(Network::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address belongs to a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }

    /// The address of the client. `X-Forwarded-For` is read from its end, where each proxy appends
    /// the address of its peer. The first address that is not a trusted proxy is the client's.
    pub fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let mut source = peer;
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        for line in lines.filter_map(|line| line.to_str().ok()) {
            for hop in line.rsplit(',') {
                let Some(address) = parse_address(hop) else {
                    return source;
                };
                source = SocketAddr::new(address, 0);
                if !self.trusts(address) {
                    return source;
                }
            }
        }
        source
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, Fault> {
        let wrong =
            || Fault::new("must be addresses or networks like 10.0.0.0/8, 192.0.2.7 or fd00::/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address = match bits {
            Some(_) => address.parse().map_err(|_| wrong())?,
            None => parse_address(address).ok_or_else(wrong)?,
        };
        let (most, more) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address: to_ipv6(address), bits: bits + more })
    }

    fn has(self, address: IpAddr) -> bool {
        let differ = self.address.to_bits() ^ to_ipv6(address).to_bits();
        differ.leading_zeros() >= u32::from(self.bits)
    }
}

/// The address as IPv6, because an IPv4 address can appear in either form.
fn to_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Network { address, bits }) in self.0.iter().enumerate() {
            write!(f, "{}{address}/{bits}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(trusted: &str, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted = TrustedProxies::parse(trusted).unwrap();
        trusted.source(SocketAddr::new(peer.parse().unwrap(), 1), &headers).ip().to_string()
    }

    #[test]
    fn forwarded_address_is_used_only_from_a_trusted_proxy() {
        assert_eq!(source("", "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
        assert_eq!(source("10.0.0.0/8", "11.0.0.1", &["192.0.2.1"]), "11.0.0.1");
        assert_eq!(source("10.0.0.0/8", "10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(source("10.0.0.0/8", "::ffff:10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(source("fd00::/8", "fd00::1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(source("10.0.0.0/8", "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(source("10.0.0.0/8", "10.0.0.1", &["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(source("10.0.0.0/8", "10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(source("10.0.0.0/8", "10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(source("10.0.0.0/8", "10.0.0.1", &["fe80::1%eth0"]), "fe80::1");
    }

    #[test]
    fn addresses_prepended_by_the_client_are_ignored() {
        let trusted = "10.0.0.0/8 127.0.0.1";
        let of = |lines: &[&str]| source(trusted, "127.0.0.1", lines);
        assert_eq!(of(&["1.1.1.1, 192.0.2.1, 10.0.0.9"]), "192.0.2.1");
        assert_eq!(of(&["1.1.1.1", "192.0.2.1", "10.0.0.9"]), "192.0.2.1");
        assert_eq!(of(&["unknown, 10.0.0.9"]), "10.0.0.9", "the last address that can be parsed");
        assert_eq!(of(&["10.0.0.8, 10.0.0.9"]), "10.0.0.8");
    }

    #[test]
    fn networks_are_validated() {
        let one = TrustedProxies::parse("192.0.2.7:443\n[2001:db8::1]:443, fe80::1%eth0").unwrap();
        assert_eq!(one, TrustedProxies::parse("192.0.2.7 2001:db8::1 fe80::1").unwrap());
        for bad in ["10.0.0.0/33", "fd00::/129", "example.com", "10.0.0.0/x", "10.0.0.0/"] {
            assert!(TrustedProxies::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(TrustedProxies::parse(" , ").unwrap(), TrustedProxies::default());
    }
}
