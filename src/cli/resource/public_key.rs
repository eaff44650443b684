//! Flags of credentials of the kind public-key.

use clap::Args;
use serde_json::{Value, json};

use super::MaskBuilder;
use crate::proto::admin as pb;
use crate::proto::admin::credential::public_key::Keys;
use crate::proto::admin::credential::{PublicKey, Registration};

/// The public keys of a client, or of the issuer of its tokens. An update replaces all of them.
#[derive(Debug, Args)]
pub(super) struct PublicKeyFlags {
    /// A file with the public keys, as a JWK set
    #[arg(long, value_name = "FILE", value_parser = jwks, help_heading = "Public key")]
    jwks: Option<String>,
    /// The https URL of a JWK set: the client can then replace its keys by itself
    #[arg(long, value_name = "URL", conflicts_with = "jwks", help_heading = "Public key")]
    jwks_uri: Option<String>,
    /// A file with the public keys in PEM: one or more PUBLIC KEY blocks
    #[arg(
        long,
        value_name = "FILE",
        value_parser = pem,
        conflicts_with_all = ["jwks", "jwks_uri"],
        help_heading = "Public key"
    )]
    pem: Option<String>,
}

fn text(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// A private key must not leave the machine. The server checks all else.
fn jwks(path: &str) -> Result<String, String> {
    let text = text(path)?;
    let set: Value = serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array);
    let is_secret = |key: &Value| key.get("d").or_else(|| key.get("k")).is_some();
    if is_secret(&set) || keys.is_some_and(|keys| keys.iter().any(is_secret)) {
        return Err(
            "it has a private key: give only public ones, without the members d and k".into()
        );
    }
    Ok(text)
}

fn pem(path: &str) -> Result<String, String> {
    let text = text(path)?;
    if text.contains("PRIVATE KEY-----") {
        return Err("it has a private key: give the public one (openssl pkey -pubout)".into());
    }
    Ok(text)
}

impl PublicKeyFlags {
    /// The keys that are given.
    pub(super) fn keys(&self) -> Option<Keys> {
        let keys = [
            self.jwks.clone().map(Keys::Jwks),
            self.jwks_uri.clone().map(Keys::JwksUri),
            self.pem.clone().map(Keys::Pem),
        ];
        keys.into_iter().flatten().next()
    }

    pub(super) fn apply(&self, credential: &mut pb::Credential, mask: &mut MaskBuilder) {
        let Some(keys) = self.keys() else { return };
        credential.registration = Some(Registration::PublicKey(PublicKey { keys: Some(keys) }));
        mask.add("public_key");
    }
}

/// What a credential is registered with, as JSON.
pub(super) fn view(credential: &pb::Credential) -> Value {
    let Some(Registration::PublicKey(PublicKey { keys: Some(keys) })) = &credential.registration
    else {
        return Value::Null;
    };
    view_of_keys(keys)
}

/// Keys, as JSON.
pub(super) fn view_of_keys(keys: &Keys) -> Value {
    match keys {
        // As JSON, not as a text with JSON.
        Keys::Jwks(jwks) => json!({ "jwks": serde_json::from_str::<Value>(jwks).ok() }),
        Keys::JwksUri(url) => json!({ "jwks_uri": url }),
        Keys::Pem(pem) => json!({ "pem": pem }),
    }
}
