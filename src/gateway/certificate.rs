//! The client certificate as a gateway writes it: PEM that is percent-encoded (nginx, Envoy), or the
//! base64 of DER (Traefik), the client's own first.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::described::RequestFault;
use crate::certificates::{current, pem};
use crate::domain::ClientCertificate;

/// The thumbprint of the certificate, if there is one that is valid now. The gateway let the client
/// prove that it has the key.
pub(super) fn thumbprint(text: &str, now: Timestamp) -> Result<Option<String>, RequestFault> {
    if text.len() > ClientCertificate::MAX_BYTES {
        return Err(unreadable());
    }
    let decoded: Cow<'_, str> = percent_decode_str(text).decode_utf8().map_err(|_| unreadable())?;
    let text = decoded.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let der = if text.starts_with("-----BEGIN ") {
        let certificates = pem::certificates(text.as_bytes()).map_err(|_| unreadable())?;
        let first = certificates.into_iter().next().ok_or_else(unreadable)?;
        first.0.to_vec()
    } else {
        let first = text.split(',').next().unwrap_or_default();
        STANDARD.decode(first.trim()).map_err(|_| unreadable())?
    };
    let certificate = ClientCertificate::presented([&der[..]]).ok_or_else(unreadable)?;
    Ok(current(&certificate, now).is_ok().then(|| certificate.thumbprint()))
}

fn unreadable() -> RequestFault {
    RequestFault::ambiguous("the client certificate from the gateway cannot be read")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn certificate_counts_while_it_is_valid_in_each_spelling() {
        let mut params = CertificateParams::new(vec!["crm.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 2, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let pem = certificate.pem();
        let base64 = STANDARD.encode(certificate.der());
        let escaped = pem.replace('\n', "%0A").replace('+', "%2B").replace(' ', "%20");
        let expected = crate::domain::client_certificate::thumbprint(certificate.der());
        let at = |time: &str| time.parse().unwrap();
        for text in [&pem, &escaped, &base64, &format!("{base64},{base64}")] {
            let found = thumbprint(text, at("2026-01-15T00:00:00Z"));
            assert_eq!(found, Ok(Some(expected.clone())), "{text}");
            for outside in ["2025-12-31T00:00:00Z", "2026-02-02T00:00:00Z"] {
                assert_eq!(thumbprint(text, at(outside)), Ok(None), "{text}");
            }
        }
        assert_eq!(thumbprint("", at("2026-01-15T00:00:00Z")), Ok(None));
        let long = "A".repeat(ClientCertificate::MAX_BYTES + 1);
        for text in ["x", "%zz", "%ff", "-----BEGIN CERTIFICATE-----", &long] {
            let found = thumbprint(text, at("2026-01-15T00:00:00Z"));
            assert!(matches!(found, Err(RequestFault::Ambiguous(_))), "{text}: {found:?}");
        }
    }
}
