//! The settings of gateways.

use super::layers::Reader;
use super::values::authority_url;
use crate::domain::{Audience, Fault, Networks};
use crate::gateway::{ForwardAuth, GatewayOptions, HeaderFamily, UpstreamCredential};

/// Reads `gateway.*`. What trusts a gateway is off unless it is set.
pub(super) fn options(r: &mut Reader) -> GatewayOptions {
    let public_url = r.optional("gateway.public_url", authority_url);
    let key_header = r.get("gateway.api_key_header", "x-api-key", header_or_none);
    let items_header = r.optional("gateway.items_header", header);
    let upstream = upstream(r);
    GatewayOptions { forward_auth: forward_auth(r), public_url, key_header, items_header, upstream }
}

fn forward_auth(r: &mut Reader) -> Option<ForwardAuth> {
    let callers = r.optional("gateway.callers", callers);
    let family = r.optional("gateway.headers", HeaderFamily::parse);
    let nginx_statuses = r.get("gateway.statuses", "plain", nginx_statuses);
    let certificate_header = r.optional("gateway.certificate_header", header);
    match (callers, family) {
        (Some(callers), Some(family)) => {
            Some(ForwardAuth { callers, family, nginx_statuses, certificate_header })
        }
        (None, None) => None,
        (Some(_), None) => {
            r.fault("gateway.headers", "must be set with gateway.callers");
            None
        }
        (None, Some(_)) => {
            r.fault("gateway.callers", "must be set with gateway.headers");
            None
        }
    }
}

fn upstream(r: &mut Reader) -> UpstreamCredential {
    let audience = r.optional("gateway.upstream_audience", Audience::parse_for_exchange);
    let kind = r.get("gateway.upstream_credential", "none", |value| match value {
        "none" | "same" | "token" => Ok(value.to_owned()),
        _ => Err(Fault::new("must be none, same or token")),
    });
    match (kind.as_str(), audience) {
        ("token", Some(audience)) => UpstreamCredential::Token(audience),
        ("token", None) => {
            r.fault(
                "gateway.upstream_audience",
                "must be set if gateway.upstream_credential is token",
            );
            UpstreamCredential::Nothing
        }
        ("same", _) => UpstreamCredential::Same,
        _ => UpstreamCredential::Nothing,
    }
}

fn callers(value: &str) -> Result<Networks, Fault> {
    let networks = Networks::parse(value)?;
    if networks == Networks::default() {
        return Err(Fault::new("must have an address or a network like 10.0.0.0/8"));
    }
    Ok(networks)
}

fn nginx_statuses(value: &str) -> Result<bool, Fault> {
    match value {
        "plain" => Ok(false),
        "nginx" => Ok(true),
        _ => Err(Fault::new("must be plain or nginx")),
    }
}

fn header_or_none(value: &str) -> Result<Option<String>, Fault> {
    if value == "none" { Ok(None) } else { header(value).map(Some) }
}

/// A header that no other part of a request uses.
fn header(value: &str) -> Result<String, Fault> {
    const USED: [&str; 8] = [
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "dpop",
        "host",
        "proxy-authorization",
        "transfer-encoding",
    ];
    let name = value.to_ascii_lowercase();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(Fault::new("must be a header of 1 to 64 letters, digits and -"));
    }
    if USED.contains(&name.as_str()) || crate::gateway::is_own_header(&name) {
        return Err(Fault::new("must be a header that has no other meaning"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};

    fn faults(settings: &[(&'static str, &str)]) -> Vec<String> {
        let mut layers = Layers::default();
        for (key, value) in settings {
            layers = layers.with_flag(key, "test", Some(value));
        }
        Config::read(layers).err().map_or_else(Vec::new, |faults| faults.0)
    }

    #[test]
    fn gateways_are_trusted_only_by_name() {
        let config = Config::read(Layers::default()).unwrap();
        assert!(config.gateway.forward_auth.is_none());
        assert_eq!(config.gateway.upstream, UpstreamCredential::Nothing);
        let callers = ("gateway.callers", "10.0.0.0/8");
        let family = ("gateway.headers", "x-original");
        assert!(faults(&[callers, family]).is_empty());
        for (settings, fault) in [
            (&[callers][..], "gateway.headers must be set"),
            (&[family], "gateway.callers must be set"),
            (&[family, ("gateway.callers", " , ")], "gateway.callers"),
            (&[callers, ("gateway.headers", "both")], "gateway.headers must be x-original"),
            (&[("gateway.upstream_credential", "token")], "gateway.upstream_audience must be set"),
            (&[("gateway.upstream_audience", "keyward")], "gateway.upstream_audience"),
            (&[("gateway.api_key_header", "Authorization")], "gateway.api_key_header"),
            (&[("gateway.items_header", "X-Keyward-Items")], "gateway.items_header"),
            (&[("gateway.public_url", "https://api.example/x")], "gateway.public_url"),
        ] {
            let faults = faults(settings);
            assert!(faults.iter().any(|one| one.contains(fault)), "{settings:?}: {faults:?}");
        }
    }
}
