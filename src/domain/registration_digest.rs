//! A registration as the audit log has it: keys and certificates by their thumbprints, because the
//! log keeps each change for years, and a registration can have 64 KiB.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::client_certificate::thumbprint;
use super::{KeySource, Registration};

/// How much of the id of a key is kept.
const MAX_ID_CHARACTERS: usize = 64;

impl Registration {
    /// The form in the audit log: that of the database, with a thumbprint in place of each key and
    /// each certificate. It has a few kilobytes at most.
    pub fn digest(&self) -> String {
        let (kind, value) = match self {
            Self::PublicKey(keys) => ("public_key", keys.digest()),
            Self::Certificate(rule) => {
                let mut value = json!(rule);
                value["authorities"] = certificates(&rule.authorities);
                ("certificate", value)
            }
            Self::Federated(federation) => {
                let mut value = json!(federation);
                value["keys"] = federation.keys.as_ref().map_or(Value::Null, KeySource::digest);
                ("federated", value)
            }
        };
        json!({ kind: value }).to_string()
    }
}

impl KeySource {
    fn digest(&self) -> Value {
        match self {
            Self::Jwks(jwks) => {
                let set: Value = serde_json::from_str(jwks).unwrap_or_default();
                let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
                json!({ "jwks": keys.iter().map(key).collect::<Vec<_>>() })
            }
            Self::JwksUri(url) => json!({ "jwks_uri": url }),
            Self::Pem(pem) => json!({ "pem": hash(pem) }),
        }
    }
}

/// A key by its id, its algorithm and its RFC 7638 thumbprint.
fn key(jwk: &Value) -> Value {
    let names: &[&str] = match jwk["kty"].as_str() {
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("OKP") => &["crv", "kty", "x"],
        _ => &["e", "kty", "n"],
    };
    // serde_json sorts the members of a map.
    let members: Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), jwk[*name].clone())).collect();
    let mut key = json!({ "thumbprint": hash(&Value::Object(members).to_string()) });
    if let Some(kid) = jwk["kid"].as_str() {
        key["kid"] = kid.chars().take(MAX_ID_CHARACTERS).collect::<String>().into();
    }
    if let Some(algorithm) = jwk["alg"].as_str() {
        key["alg"] = algorithm.into();
    }
    key
}

/// The thumbprints of the certificates in a PEM text that was checked when it was registered.
fn certificates(pem: &str) -> Value {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    all.map(|certificate| thumbprint(&certificate)).collect()
}

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::{CertificateName, CertificateRule};
    use super::*;

    fn read(registration: &Registration) -> Value {
        serde_json::from_str(&registration.digest()).unwrap()
    }

    #[test]
    fn key_is_shown_by_its_rfc_7638_thumbprint() {
        // The example of RFC 7638, section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_\
                 BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_F\
                 DW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4v\
                 MQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
        let keys = json!({ "keys": [jwk] }).to_string();
        let shown = read(&Registration::PublicKey(KeySource::Jwks(keys)));
        let expected = json!({
            "thumbprint": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
            "kid": "2011-04-29",
            "alg": "RS256",
        });
        assert_eq!(shown, json!({ "public_key": { "jwks": [expected] } }));
    }

    #[test]
    fn digest_of_the_largest_registration_is_small() {
        let key = |n: usize| {
            let kid = format!("{n}{}", "k".repeat(250));
            json!({ "kty": "RSA", "n": format!("{n}{}", "A".repeat(1365)), "e": "AQAB", "kid": kid })
        };
        let keys = json!({ "keys": (0..32).map(key).collect::<Vec<_>>() }).to_string();
        assert!(keys.len() > 40_000);
        let keys = Registration::PublicKey(KeySource::Jwks(keys)).digest();
        assert!(keys.len() < 8 * 1024, "{}", keys.len());
        let block = |n: usize| {
            let body = base64::engine::general_purpose::STANDARD.encode(vec![1; 5000 + n]);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        let rule = CertificateRule {
            authorities: (0..8).map(block).collect(),
            name: Some(CertificateName::SanDns("crm.example".to_owned())),
            thumbprints: Vec::new(),
        };
        let shown = read(&Registration::Certificate(rule));
        let authorities = shown["certificate"]["authorities"].as_array().unwrap();
        assert_eq!((authorities.len(), shown.to_string().len() < 1024), (8, true), "{shown}");
        assert_eq!(authorities[3], thumbprint(&vec![1; 5003]));
        assert_eq!(shown["certificate"]["name"]["san_dns"], "crm.example");
    }
}
