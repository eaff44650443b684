//! Client authentication: one way in, whatever face it comes through.

use std::net::IpAddr;

use super::Service;
use crate::domain::{Client, CredentialId, CredentialKind, SecretRecord};
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// How a client proves itself.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A client id and a secret.
    ClientSecret {
        /// The client id.
        client_id: String,
        /// The secret.
        secret: Secret,
    },
    /// A string that is both.
    ApiKey(Secret),
}

/// A client as it was read, and what that says of a secret.
struct Standing {
    client: Client,
    active: bool,
    hash: Option<String>,
}

impl Service {
    /// The client that this proves, if it is one that may do anything now. Unknown,
    /// wrong, disabled, expired: the error is the same, and so is the work, except that
    /// what cannot be a secret at all (its form is no secret) costs nothing. Too many wrong
    /// ones of one client from one source are refused unread.
    pub async fn authenticate_client(
        &self,
        proof: Proof,
        source: Option<IpAddr>,
    ) -> Result<Client> {
        let (id, secret) = self.plausible(proof).ok_or(Error::InvalidClient)?;
        let guess = self.begin_guess(&id, source).await?;
        let read = self.standing(&id, &secret).await?;
        let hash = read.as_ref().and_then(|read| read.hash.clone());
        let proven = self.hasher.verify(secret.clone(), hash.clone()).await?;
        if !proven || !read.is_some_and(|read| read.active) {
            guess.failed().await;
            return Err(Error::InvalidClient);
        }
        // The hash may have waited for seconds: what counts is how things stand after it.
        self.standing(&id, &secret)
            .await?
            .filter(|now| now.active && now.hash == hash)
            .map(|now| now.client)
            .ok_or(Error::InvalidClient)
    }

    /// How a client stands, and the hash that this secret would have to match.
    async fn standing(&self, id: &CredentialId, secret: &Secret) -> Result<Option<Standing>> {
        let client = self.store.read().await?.find_client(id).await?;
        let now = self.now();
        Ok(client.map(|client| Standing {
            active: client.is_active(now),
            hash: candidate(client.credential.live_secrets(now), secret),
            client,
        }))
    }

    /// The id and secret, if the secret has the form of one of that client.
    fn plausible(&self, proof: Proof) -> Option<(CredentialId, Secret)> {
        match proof {
            Proof::ApiKey(key) => {
                let id = self.prefixes.credential_of_api_key(key.expose())?;
                Some((id, key))
            }
            Proof::ClientSecret { client_id, secret } => {
                let id = CredentialId::parse(&client_id).ok()?;
                [CredentialKind::ClientSecret, CredentialKind::ApiKey]
                    .into_iter()
                    .any(|kind| self.prefixes.is_plausible(&secret, kind, &id))
                    .then_some((id, secret))
            }
        }
    }
}

/// The hash to check against: that of the secret with the same end. There is one check
/// whatever the number of secrets, so that the time tells nothing.
fn candidate<'a>(
    mut live: impl Iterator<Item = &'a SecretRecord>,
    presented: &Secret,
) -> Option<String> {
    let end = presented.last_four();
    live.find(|secret| secret.last_four == end).map(|secret| secret.hash.clone())
}
