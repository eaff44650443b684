//! Public keys in PEM files: `PUBLIC KEY` blocks (RFC 7468, section 13).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::key_set::{KeySet, KeySetFaults, MAX_KEY_SET_BYTES, MAX_KEYS};
use super::public_key::{JwkFault, KeyParameters, PublicKey};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const BEGIN: &str = "-----BEGIN ";
const LABEL: &str = "PUBLIC KEY-----";

impl KeySet {
    /// Reads the keys of a PEM text that an administrator registers: one or more `PUBLIC KEY`
    /// blocks, and no others. The keys have no id.
    pub fn parse_pem(text: &str) -> Result<Self, KeySetFaults> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetFaults::one("", "must have at most 65536 bytes"));
        }
        let mut keys = Vec::new();
        for (n, block) in text.split(BEGIN).skip(1).enumerate() {
            let block = format!("{BEGIN}{block}");
            let key = public_key(&block).map_err(|fault| {
                KeySetFaults::one("", format!("has a faulty block {}: it {fault}", n + 1))
            })?;
            if n >= MAX_KEYS {
                return Err(KeySetFaults::one("", "must have at most 32 keys"));
            }
            if keys.contains(&key) {
                return Err(KeySetFaults::one("", format!("has a key twice: block {}", n + 1)));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeySetFaults::one("", "must have a PUBLIC KEY block in PEM format"));
        }
        Self::registered(keys)
    }
}

fn public_key(block: &str) -> Result<PublicKey, String> {
    let label = block.strip_prefix(BEGIN).unwrap_or_default();
    if label.lines().next().is_some_and(|label| label.contains("PRIVATE KEY")) {
        return Err("is a private key: send only the public key (`openssl pkey -pubout`), and \
             replace this one, because it has left its place"
            .to_owned());
    }
    if !label.starts_with(LABEL) {
        return Err("must be a PUBLIC KEY".to_owned());
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(block.as_bytes())
        .map_err(|_| "must be valid base64 with an END line".to_owned())?;
    let parameters = parameters(&der).ok_or("must be a P-256, P-384, Ed25519 or RSA public key")?;
    PublicKey::new(parameters, None, None)
        .map_err(|JwkFault { member, fault }| format!("has a part {member} that {}", fault.0))
}

/// The parameters of a key. `None` if its type is not accepted.
fn parameters(der: &[u8]) -> Option<KeyParameters> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let bytes = info.subject_public_key.as_bytes()?;
    let halves = |length: usize| match bytes {
        [4, rest @ ..] if rest.len() == 2 * length => {
            Some((encode(&rest[..length]), encode(&rest[length..])))
        }
        _ => None,
    };
    let oid = info.algorithm.oid;
    if oid == RSA {
        let (n, e) = modulus_and_exponent(bytes)?;
        return Some(KeyParameters::Rsa { n: encode(n.as_bytes()), e: encode(e.as_bytes()) });
    }
    if oid == ED25519 {
        return Some(KeyParameters::Ed25519 { x: encode(bytes) });
    }
    let curve = (oid == EC).then(|| info.algorithm.parameters_oid().ok())??;
    if curve == P256 {
        return halves(32).map(|(x, y)| KeyParameters::P256 { x, y });
    }
    if curve == P384 {
        return halves(48).map(|(x, y)| KeyParameters::P384 { x, y });
    }
    None
}

/// The numbers of an `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn modulus_and_exponent(bytes: &[u8]) -> Option<(UintRef<'_>, UintRef<'_>)> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let numbers = reader
        .sequence(|inner| -> Result<_, x509_cert::der::Error> {
            Ok((UintRef::decode(inner)?, UintRef::decode(inner)?))
        })
        .ok()?;
    reader.is_finished().then_some(numbers)
}
