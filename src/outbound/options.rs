//! The settings of connections to other hosts.

use std::path::PathBuf;

use crate::domain::{Fault, Networks};

/// The settings of connections to other hosts.
#[derive(Clone, Debug, Default)]
pub struct OutboundOptions {
    /// Networks that are not public, and may be reached all the same.
    pub allowed_networks: Networks,
    /// Hosts that may be reached over `http`.
    pub plaintext_hosts: PlaintextHosts,
    /// A PEM file of authorities to trust, besides those of this machine.
    pub ca_file: Option<PathBuf>,
}

/// Names or addresses of hosts, without port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaintextHosts(Vec<String>);

impl PlaintextHosts {
    /// Parses hosts, separated by commas or spaces.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let each =
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|one| !one.is_empty());
        each.map(|host| match host.parse::<http::uri::Authority>() {
            Ok(authority)
                if authority.port().is_none() && authority.as_str() == authority.host() =>
            {
                Ok(host.trim_matches(['[', ']']).to_ascii_lowercase())
            }
            _ => Err(Fault::new("must be names of hosts without ports, like keys.internal")),
        })
        .collect::<Result<_, _>>()
        .map(Self)
    }

    pub(super) fn contains(&self, host: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}
