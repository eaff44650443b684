//! Reads PEM files (RFC 7468) block by block, so that an error names the block.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Labels of blocks that may stand beside a certificate: some tools write one file for everything.
const BESIDE_CERTIFICATES: [&str; 5] =
    ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "EC PARAMETERS", "DH PARAMETERS"];
/// Labels of blocks that may stand beside a key.
const BESIDE_KEYS: [&str; 3] = ["CERTIFICATE", "EC PARAMETERS", "DH PARAMETERS"];

/// One block of a file.
struct Block<'a> {
    number: usize,
    line: usize,
    label: &'a str,
    text: &'a str,
}

impl Block<'_> {
    fn fault(&self, what: &str) -> String {
        format!("block {} (line {}, {}) {what}", self.number, self.line, self.label)
    }

    fn decode(&self) -> Result<(SectionKind, Vec<u8>), String> {
        let decoded = <(SectionKind, Vec<u8>)>::from_pem_slice(self.text.as_bytes());
        decoded.map_err(|error| {
            self.fault(match error {
                pem::Error::MissingSectionEnd { .. } => {
                    "has no END line: the file is cut short or half written"
                }
                pem::Error::Base64Decode(_) => "is not valid base64",
                _ => "cannot be read",
            })
        })
    }
}

/// All certificates of a file, in their order, each with a name for errors. A file without one is
/// an error.
pub fn certificates(bytes: &[u8]) -> Result<Vec<(CertificateDer<'static>, String)>, String> {
    let mut certificates = Vec::new();
    for block in blocks(bytes)? {
        if BESIDE_CERTIFICATES.contains(&block.label) {
            continue;
        }
        if block.label != "CERTIFICATE" {
            return Err(block.fault("is not a CERTIFICATE"));
        }
        let (_, der) = block.decode()?;
        certificates.push((der.into(), block.fault("")));
    }
    if certificates.is_empty() {
        return Err("has no CERTIFICATE block; it must be in PEM format".to_owned());
    }
    Ok(certificates)
}

/// The private key of a file. Exactly one is required.
pub fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let mut key = None;
    for block in blocks(bytes)? {
        if BESIDE_KEYS.contains(&block.label) {
            continue;
        }
        if block.label == "ENCRYPTED PRIVATE KEY" || block.text.contains("\nProc-Type: 4,ENCRYPTED")
        {
            return Err(block.fault("is encrypted: decrypt it with `openssl pkey`"));
        }
        let (kind, der) = match block.label {
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => block.decode()?,
            _ => return Err(block.fault("is not a PRIVATE KEY")),
        };
        if key.is_some() {
            return Err(block.fault("is a second key: the file must have exactly one"));
        }
        key = PrivateKeyDer::from_pem(kind, der);
    }
    key.ok_or_else(|| "has no PRIVATE KEY block; it must be in PEM format".to_owned())
}

/// A certificate in PEM.
pub fn encode(certificate: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(certificate);
    let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body: String = lines.flat_map(|line| [line, "\n".into()]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

/// Splits a file at its `BEGIN` lines.
fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, String> {
    let text = str::from_utf8(bytes)
        .map_err(|_| "is not text; it must be in PEM format (for DER, use `openssl x509`)")?;
    let mut starts = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = line.strip_prefix("-----BEGIN ") {
            starts.push((offset, index + 1, rest.trim_end().trim_end_matches('-')));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, ..)| *start).chain([text.len()]);
    let numbered = starts.iter().zip(ends).enumerate();
    Ok(numbered
        .map(|(index, ((start, line, label), end))| Block {
            number: index + 1,
            line: *line,
            label,
            text: &text[*start..end],
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn unreadable_block_is_named() {
        let count = |text: &str| certificates(text.as_bytes()).map(|all| all.len());
        assert_eq!(count(&[GOOD, "comment\n", GOOD].concat()), Ok(2));
        assert_eq!(count(&GOOD.replace('\n', "\r\n")), Ok(1));
        for (rest, says) in [
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "block 2 (line 4, CERTIFICATE) has no END"),
            (
                "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
                "block 2 (line 4, CERTIFICATE) is not valid base64",
            ),
            (
                "-----BEGIN TRUSTED CERTIFICATE-----\nAA==\n-----END TRUSTED CERTIFICATE-----\n",
                "block 2 (line 4, TRUSTED CERTIFICATE) is not a CERTIFICATE",
            ),
        ] {
            let refused = count(&[GOOD, rest, GOOD].concat()).unwrap_err();
            assert!(refused.starts_with(says), "{refused}");
        }
        assert!(count("").unwrap_err().contains("PEM"));
        assert!(certificates(&[0x30, 0x82, 0xff]).unwrap_err().contains("PEM"));
    }

    #[test]
    fn key_file_must_have_exactly_one_plain_key() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(private_key([GOOD, key].concat().as_bytes()).is_ok());
        for (text, says) in [
            ([key, key].concat(), "second key"),
            (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "openssl pkey"),
            (key[..40].to_owned(), "no END line"),
            (GOOD.to_owned(), "no PRIVATE KEY"),
        ] {
            let refused = private_key(text.as_bytes()).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
