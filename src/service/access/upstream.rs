//! Tokens for the services behind a gateway. A client shows the gateway an opaque key, or a token for
//! the outside; the service gets a signed token of a minute in its place, and never the credential.

use super::{AccessChecks, Known};
use crate::domain::Audience;
use crate::error::{Error, Result};
use crate::keys::Claims;
use crate::keys::jwt::{Audiences, Unsigned};
use crate::secrets::{Secret, random};

/// How long such a token lives, in seconds. It outlives a revocation by no more than this, where a
/// service verifies it without the list of revocations.
const LIFETIME: i64 = 60;

impl AccessChecks {
    /// A token with what the holder may do, for this audience. It is bound to nothing: what the
    /// client's token is bound to was proved to the gateway. It counts against no limit of tokens,
    /// because the request itself was counted.
    pub(super) async fn upstream_token(
        &self,
        known: &Known,
        audience: &Audience,
    ) -> Result<Secret> {
        let now = self.clock.now();
        let (client, principal) = (&known.client, &known.principal);
        let iat = now.as_second();
        let end = principal.expires_at.map_or(i64::MAX, |end| end.timestamp().as_second());
        let token = known.token.as_deref().map(|token| &token.claims);
        let epochs = client.epochs;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: token.map_or_else(|| client.subject.to_string(), |claims| claims.sub.clone()),
            aud: Audiences::new(vec![audience.to_string()]),
            client_id: client.name.credential.to_string(),
            iat,
            exp: end.min(iat + LIFETIME).max(iat + 1),
            jti: random::id(now)?,
            scope: principal.scopes.to_string(),
            tenant: client.tenant.id.to_string(),
            roles: principal.roles.iter().map(ToString::to_string).collect(),
            // What revokes the client's token revokes this one.
            epochs: match token {
                Some(claims) => claims.epochs,
                None => Some([epochs.tenant, epochs.application, epochs.credential]),
            },
            cnf: None,
            act: token.and_then(|claims| claims.act.clone()),
            parents: token.and_then(|claims| claims.parents.clone()),
        };
        let keys = self.signing.keys_for_signing(now).await?;
        let key = keys.signer(now).ok_or_else(|| Error::internal("no signing key is active"))?;
        let own = &client.tenant.settings.policy.token_claims;
        Unsigned::new(key, &claims, own)?.sign().map(Secret::new)
    }
}
