//! Values of settings and headers: addresses, networks and durations.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use keyward::internals::config::{TrustedProxies, duration};
use keyward::internals::domain::{Source, parse_address};
use proptest::prelude::*;

use super::cases;

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn address_is_read_with_and_without_a_port(address in any::<IpAddr>(), port in any::<u16>()) {
        let canonical = Some(address.to_canonical());
        prop_assert_eq!(parse_address(&address.to_string()), canonical);
        prop_assert_eq!(parse_address(&SocketAddr::new(address, port).to_string()), canonical);
        prop_assert_eq!(parse_address(&format!(" {address} ")), canonical);
    }

    #[test]
    fn other_text_is_no_address(text in "[g-z .:\\[\\]]{0,20}") {
        prop_assume!(!text.trim().trim_matches(['[', ']']).chars().all(|c| c == ':'));
        prop_assert_eq!(parse_address(&text), None);
    }

    #[test]
    fn addresses_of_one_network_are_one_source(network in any::<u64>(), hosts in any::<[u64; 2]>()) {
        let address = |host: u64| {
            let bits = (u128::from(network) << 64) | u128::from(host);
            IpAddr::from(std::net::Ipv6Addr::from_bits(bits))
        };
        // The network of addresses that stand for IPv4 addresses has a source for each.
        prop_assume!(network != 0);
        prop_assert_eq!(Source::of(address(hosts[0])), Source::of(address(hosts[1])));
    }

    #[test]
    fn network_trusts_the_addresses_that_share_its_prefix(
        network in any::<u32>(), address in any::<u32>(), near in any::<bool>(), length in 0_u8..=32,
    ) {
        let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or_default();
        let address = if near { (network & !host) | (address & host) } else { address };
        let shares = (network ^ address) & !host == 0;
        let [network, address] = [network & !host, address].map(std::net::Ipv4Addr::from_bits);
        let trusted = TrustedProxies::parse(&format!("::1, {network}/{length}")).unwrap();
        prop_assert_eq!(trusted.trusts(address.into()), shares);
    }

    #[test]
    fn duration_is_the_sum_of_its_parts(
        hours in 0_u64..1000, minutes in 0_u64..1000, seconds in 0_u64..1000,
    ) {
        let expected = Duration::from_secs(hours * 3600 + minutes * 60 + seconds);
        prop_assert_eq!(duration(&format!("{hours}h {minutes}m {seconds}s")), Ok(expected));
        prop_assert_eq!(duration(&format!("{hours}h{minutes}m{seconds}s")), Ok(expected));
        prop_assert_eq!(duration(&format!("{hours}d")), Ok(Duration::from_hours(hours * 24)));
    }

    #[test]
    fn any_text_is_a_duration_or_a_fault(text in "[-+0-9a-zA-Z. ]{0,12}") {
        if let Err(fault) = duration(&text) {
            let advice = format!("{fault:?}");
            prop_assert!(advice.contains("must be a duration"), "{}", advice);
        }
    }
}
