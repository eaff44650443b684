//! The keys of one signer: a JWK set (RFC 7517, section 5).
//!
//! What an administrator registers is read strictly: each fault is an error. What is fetched is
//! read leniently: a key that is not understood is skipped and counted, because one key of a new
//! type must not disable the others.

use serde_json::{Value, json};

use super::public_key::{JwkFault, PublicKey};
use super::{JwsAlgorithm, JwtRefusal, members};
use crate::domain::{Fault, FieldErrors};
use crate::error::Error;

/// The maximum length of a document with keys.
pub const MAX_KEY_SET_BYTES: usize = 64 * 1024;
/// The maximum number of keys in a set.
pub const MAX_KEYS: usize = 32;
/// The maximum number of keys that are tried for a token that does not name one.
const MAX_TRIES: usize = 4;
const ALL: [JwsAlgorithm; 5] = [
    JwsAlgorithm::Es256,
    JwsAlgorithm::Es384,
    JwsAlgorithm::Ed25519,
    JwsAlgorithm::Ps256,
    JwsAlgorithm::Rs256,
];

/// The public keys of one signer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

/// A set that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LenientKeySet {
    pub keys: KeySet,
    /// How many keys of the document are not used.
    pub skipped: usize,
}

/// What is wrong with keys that an administrator registers: each fault with its place in the
/// document, such as `keys[2].kty`. An empty place is the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySetFaults(pub Vec<(String, Fault)>);

impl KeySetFaults {
    pub(super) fn one(place: impl Into<String>, fault: impl Into<String>) -> Self {
        Self(vec![(place.into(), Fault::new(fault))])
    }

    fn add(&mut self, place: &str, JwkFault { member, fault }: JwkFault) {
        let dot = if member.is_empty() { "" } else { "." };
        self.0.push((format!("{place}{dot}{member}"), fault));
    }

    /// Records the faults of `field`, the field that has the document.
    pub fn record(self, field: &str, errors: &mut FieldErrors) {
        for (place, fault) in self.0 {
            let dot = if place.is_empty() { "" } else { "." };
            errors.fault(format_args!("{field}{dot}{place}"), fault.0);
        }
    }

    /// The error for these faults in `field`.
    pub fn of(self, field: &str) -> Error {
        let mut errors = FieldErrors::default();
        self.record(field, &mut errors);
        errors.finish::<()>(None).err().unwrap_or_else(|| Error::internal("no fault"))
    }
}

impl KeySet {
    /// Reads a JWK set that an administrator registers.
    pub fn parse_jwks(bytes: &[u8]) -> Result<Self, KeySetFaults> {
        if bytes.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetFaults::one("", "must have at most 65536 bytes"));
        }
        let set = members::object(bytes).ok_or_else(|| {
            KeySetFaults::one("", "must be a JSON object with unique members, a JWK set")
        })?;
        let Some(Value::Array(jwks)) = set.get("keys") else {
            return Err(KeySetFaults::one("keys", "must be an array of keys"));
        };
        // More keys are not read: their faults would only lengthen the error.
        if jwks.len() > MAX_KEYS {
            return Err(too_many());
        }
        let (mut keys, mut faults) = (Vec::with_capacity(jwks.len()), KeySetFaults::default());
        for (n, jwk) in jwks.iter().enumerate() {
            match PublicKey::parse(jwk) {
                Ok(key) => keys.push(key),
                Err(fault) => faults.add(&format!("keys[{n}]"), fault),
            }
        }
        if faults.0.is_empty() { Self::registered(keys) } else { Err(faults) }
    }

    /// Checks that each key of a set can be selected.
    pub(super) fn registered(keys: Vec<PublicKey>) -> Result<Self, KeySetFaults> {
        if keys.is_empty() {
            return Err(KeySetFaults::one("keys", "must have at least one key"));
        }
        if keys.len() > MAX_KEYS {
            return Err(too_many());
        }
        let mut faults = KeySetFaults::default();
        for (n, key) in keys.iter().enumerate() {
            let place = format!("keys[{n}]");
            let conflicts = |other: &PublicKey| other.kid() == key.kid() && overlap(key, other);
            let earlier = &keys[..n];
            match key.kid() {
                Some(kid) if earlier.iter().any(conflicts) => {
                    let fault = format!(
                        "{kid} is also the id of an earlier key for the same algorithm: give each \
                         key an id of its own"
                    );
                    faults.add(&place, JwkFault::new("kid", fault));
                }
                None if earlier.iter().filter(|other| conflicts(other)).count() >= MAX_TRIES => {
                    let fault =
                        "is missing: at most 4 keys for the same algorithm can be without it";
                    faults.add(&place, JwkFault::new("kid", fault));
                }
                _ => {}
            }
        }
        if faults.0.is_empty() { Ok(Self { keys }) } else { Err(faults) }
    }

    /// Reads a JWK set that was fetched. Keys that are not understood, have private members or are
    /// for encryption are skipped. So are a repeated key, and all after the first 32. A set without
    /// any key that can be used is a set: its tokens are refused.
    pub fn parse_fetched(bytes: &[u8]) -> Result<LenientKeySet, Fault> {
        if bytes.len() > MAX_KEY_SET_BYTES {
            return Err(Fault::new("must have at most 65536 bytes"));
        }
        // The last of two members with one name counts, as RFC 7517, section 4, permits.
        let set: Value = serde_json::from_slice(bytes).map_err(|_| Fault::new("must be JSON"))?;
        let jwks = set.get("keys").and_then(Value::as_array);
        let jwks = jwks.ok_or_else(|| Fault::new("must be a JWK set: an object with keys"))?;
        let mut keys: Vec<PublicKey> = Vec::new();
        for key in jwks.iter().filter_map(|jwk| PublicKey::parse(jwk).ok()) {
            if keys.len() < MAX_KEYS && !keys.contains(&key) {
                keys.push(key);
            }
        }
        let skipped = jwks.len() - keys.len();
        Ok(LenientKeySet { keys: Self { keys }, skipped })
    }

    /// Reads a set that [`Self::to_jwks`] wrote.
    pub fn from_stored(text: &str) -> Result<Self, Error> {
        Self::parse_jwks(text.as_bytes())
            .map_err(|faults| Error::internal(format!("stored keys are invalid: {faults:?}")))
    }

    /// The set as a JWK set, to be stored: the keys in their order, with the members that are used.
    pub fn to_jwks(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(PublicKey::to_jwk).collect();
        json!({ "keys": keys }).to_string()
    }

    /// The keys in their order.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The keys that may have signed a token: the one that `kid` names, whose type must fit; or, if
    /// the token or no key has this id, those that fit.
    pub(super) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: JwsAlgorithm,
    ) -> Result<Vec<&PublicKey>, JwtRefusal> {
        let is_known = kid.is_some() && self.keys.iter().any(|key| key.kid() == kid);
        // With an id that no key has, keys without any id are meant, such as those of a PEM file.
        let wanted = |key: &&PublicKey| match kid {
            Some(_) if is_known => key.kid() == kid,
            Some(_) => key.kid().is_none(),
            None => true,
        };
        let wanted = self.keys.iter().filter(wanted);
        let fitting: Vec<_> = wanted.filter(|key| key.fits(algorithm)).collect();
        match fitting.len() {
            0 if is_known => Err(JwtRefusal::OtherAlgorithm),
            0 if kid.is_some() => Err(JwtRefusal::UnknownKey),
            0 => Err(JwtRefusal::NoKeyFits),
            2.. if is_known => Err(JwtRefusal::AmbiguousKey),
            1..=MAX_TRIES => Ok(fitting),
            _ => Err(JwtRefusal::KeyIdRequired),
        }
    }
}

/// Whether both keys may verify one token.
fn overlap(key: &PublicKey, other: &PublicKey) -> bool {
    ALL.into_iter().any(|algorithm| key.fits(algorithm) && other.fits(algorithm))
}

fn too_many() -> KeySetFaults {
    KeySetFaults::one("keys", "must have at most 32 keys")
}
