//! Documents of other hosts: what is reached, how much it may cost, and how key sets are kept.

mod fetching;
mod jwks;
pub(crate) mod stub;

use keyward::internals::domain::Networks;
use keyward::internals::outbound::{Fetcher, OutboundMetrics, OutboundOptions};

use stub::StubHost;

/// A fetcher that trusts the authority of a stub and may reach these networks.
fn fetcher(host: &StubHost, networks: &str) -> Fetcher {
    let options = OutboundOptions {
        allowed_networks: Networks::parse(networks).unwrap(),
        ca_file: Some(host.ca_file()),
        ..OutboundOptions::default()
    };
    Fetcher::new(options, OutboundMetrics::default()).unwrap()
}

const LOOPBACK: &str = "127.0.0.0/8, ::1";
