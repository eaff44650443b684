//! Sources of requests, for per-source budgets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A source of requests with its own budgets: an IPv4 address or an IPv6 /64 network, because an
/// IPv6 host can use every address of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
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

/// Parses an address as proxies and sockets write it: `203.0.113.9`, `203.0.113.9:1234`,
/// `2001:db8::1`, `[2001:db8::1]:443`. A zone (`fe80::1%eth0`) is local to one machine and is
/// ignored.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        // An address with two colons is IPv6. It has a port only after brackets.
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, &text[host.len()..]),
            _ => (text, ""),
        },
    };
    match port.strip_prefix(':') {
        Some(number) => drop(u16::from_str(number).ok()?),
        None if port.is_empty() => {}
        None => return None,
    }
    let address = match host.split_once('%') {
        Some((_, "")) => return None,
        Some((address, _)) => Ipv6Addr::from_str(address).ok()?.into(),
        None if text.starts_with('[') => Ipv6Addr::from_str(host).ok()?.into(),
        None => IpAddr::from_str(host).ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_as_proxies_write_them() {
        let read = |text| parse_address(text).map(|address| address.to_string());
        for (text, address) in [
            ("203.0.113.9", "203.0.113.9"),
            (" 203.0.113.9 ", "203.0.113.9"),
            ("203.0.113.9:1234", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%eth0]:443", "fe80::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
        ] {
            assert_eq!(read(text).as_deref(), Some(address), "{text}");
        }
        for text in [
            "",
            ":80",
            "203.0.113.9:",
            "203.0.113.9:99999",
            "203.0.113.9%eth0",
            "[203.0.113.9]:80",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "2001:db8::1%",
            "unknown",
            "203.0.113.9.4",
            "203.0.113.9, 203.0.113.10",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn source_is_an_ipv4_address_or_an_ipv6_network() {
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
