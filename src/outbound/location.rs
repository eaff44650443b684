//! Where the keys of another party are.

use serde::Deserialize;

use super::{FetchError, FetchedDocument, Fetcher};

/// Where the keys of another party are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyLocation {
    /// The URL of a JWK Set.
    JwksUri(String),
    /// An issuer: its metadata have the URL (`OpenID` Connect Discovery, section 4).
    Issuer(String),
}

/// The members of an issuer's metadata that are used.
#[derive(Deserialize)]
struct IssuerMetadata {
    issuer: String,
    jwks_uri: String,
}

impl KeyLocation {
    /// The URL that an administrator has named, or that is made of it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::JwksUri(url) => url.clone(),
            // Section 4.1: a `/` at the end of the issuer is left out.
            Self::Issuer(issuer) => {
                let base = issuer.strip_suffix('/').unwrap_or(issuer);
                format!("{base}/.well-known/openid-configuration")
            }
        }
    }

    /// The document with the keys, or why it cannot be had.
    pub(super) async fn fetch(&self, fetcher: &Fetcher) -> Result<FetchedDocument, String> {
        let wrong = |error: FetchError| error.to_string();
        let first = fetcher.get_json(&self.url()).await.map_err(wrong)?;
        let Self::Issuer(issuer) = self else { return Ok(first) };
        let metadata: IssuerMetadata = serde_json::from_slice(&first.body)
            .map_err(|_| "the metadata of the issuer have no issuer and jwks_uri".to_owned())?;
        // RFC 8414, section 3.3: otherwise one host could speak for another.
        if metadata.issuer != *issuer {
            return Err("the metadata are those of another issuer".to_owned());
        }
        fetcher.get_json(&metadata.jwks_uri).await.map_err(|error| format!("jwks_uri: {error}"))
    }
}
