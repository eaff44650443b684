//! The address of the client: the peer of the connection or, if that is a trusted proxy, the
//! address in `X-Forwarded-For`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

use crate::domain::{Fault, Networks, parse_address};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose `X-Forwarded-For` header is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Networks);

impl TrustedProxies {
    /// Parses addresses and networks, separated by commas or spaces: `10.0.0.0/8, ::1`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        Networks::parse(text).map(Self)
    }

    /// Whether an address belongs to a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.contains(address)
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

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
        let mapped = TrustedProxies::parse("::ffff:10.0.0.0/104").unwrap();
        assert_eq!(mapped, TrustedProxies::parse("10.0.0.0/8").unwrap());
    }
}
