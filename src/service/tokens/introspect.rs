//! Token introspection (RFC 7662).

use jiff::Timestamp;
use serde::Serialize;

use super::base::{Tokens, second};
use crate::domain::{Client, Confirmation, Moment, ScopeSet, TokenActor, TokenClaims, UseKind};
use crate::error::{Error, Result};
use crate::keys::introspection::{self, IntrospectionClaims};
use crate::secrets::Secret;
use crate::service::auth::{Caller, TokenState, VerifiedToken};

/// What is known of a token or API key that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// The scopes it carries.
    pub scopes: ScopeSet,
    /// The credential it was made with.
    pub client_id: String,
    /// The application's resource name.
    pub subject: String,
    /// The tenant's id.
    pub tenant: String,
    /// The ids of the application's roles.
    pub roles: Vec<String>,
    /// The audiences that it is for.
    pub audiences: Vec<String>,
    /// Its issuer.
    pub issuer: String,
    /// When it was issued; `None` for an API key.
    pub issued_at: Option<Timestamp>,
    /// The expiry.
    pub expires_at: Option<Moment>,
    /// Its id; `None` for an API key.
    pub token_id: Option<String>,
    /// What it is bound to; the caller must check that its sender has it.
    pub confirmation: Option<Confirmation>,
    /// The claims that it has by the policy of its tenant.
    pub token_claims: TokenClaims,
    /// Who acts for the subject.
    pub actor: Option<Box<TokenActor>>,
}

impl Tokens {
    /// What is known of a token or API key, if it is accepted now and the caller may ask about it
    /// (RFC 7662).
    pub async fn introspect(&self, caller: &Caller, token: &Secret) -> Result<Option<TokenInfo>> {
        let now = self.clock.now();
        let (client, info) = if self.auth.is_api_key(token) {
            if !self.may_ask_about_key(caller, token).await? {
                return Ok(None);
            }
            match self.auth.key(caller, token, None, now).await {
                Ok(client) => {
                    let info = self.info_of_key(&client);
                    (client, info)
                }
                Err(Error::InvalidClient) => return Ok(None),
                Err(error) => return Err(error),
            }
        } else {
            // The owner is checked before the state: the answer about another's token is the same
            // whatever its state is, and takes as long.
            let tokens = self.auth.tokens();
            let Ok(verified) = tokens.signed(token.expose(), now) else { return Ok(None) };
            let (sub, holder) = (&verified.claims.sub, verified.claims.holder());
            if !caller.may_introspect(sub) && !caller.may_introspect(holder) {
                return Ok(None);
            }
            match tokens.state_of(verified, now).await? {
                TokenState::Live(verified, client) => {
                    let token_claims = verified.own_claims(token.expose()).clone();
                    (client, TokenInfo { token_claims, ..info_of_token(&verified)? })
                }
                TokenState::Expired | TokenState::Revoked | TokenState::Invalid => return Ok(None),
            }
        };
        // The caller does not say from which address the credential is used.
        self.usage.count(&client, UseKind::Check, now, None);
        Ok(Some(info))
    }

    /// An introspection answer for this caller, as a signed JWT (RFC 9701). It is for this caller
    /// alone, and no one takes it for an access token.
    pub async fn sign_introspection(
        &self,
        caller: &Caller,
        answer: &impl Serialize,
    ) -> Result<Secret> {
        let now = self.clock.now();
        let client_id = caller.client().map(|client| client.name.credential.to_string());
        let client_id =
            client_id.ok_or_else(|| Error::internal("Keyward asks without a client"))?;
        let keys = self.signing.keys_for_signing(now).await?;
        let key = keys.signer(now).ok_or_else(|| Error::internal("no signing key is active"))?;
        let claims = IntrospectionClaims {
            iss: &self.issuer,
            aud: &client_id,
            iat: now.as_second(),
            token_introspection: answer,
        };
        introspection::sign(key, &claims).map(Secret::new)
    }

    /// Whether an API key, right or wrong, is of a credential that the caller may ask about. Other
    /// callers cost no hash and use no budget.
    async fn may_ask_about_key(&self, caller: &Caller, key: &Secret) -> Result<bool> {
        if caller.require_verifier().is_ok() {
            return Ok(true);
        }
        let Some(id) = self.auth.credential_of_key(key) else {
            return Ok(false);
        };
        let client = self.clients.client(&id).await?;
        Ok(client.is_some_and(|client| caller.may_introspect(&client.subject)))
    }

    fn info_of_key(&self, client: &Client) -> TokenInfo {
        TokenInfo {
            scopes: client.scopes.clone(),
            client_id: client.name.credential.to_string(),
            subject: client.subject.to_string(),
            tenant: client.tenant.id.to_string(),
            roles: client.role_ids(),
            audiences: vec![client.tenant.settings.default_audience.to_string()],
            issuer: self.issuer.clone(),
            issued_at: None,
            expires_at: client.expires_at(),
            token_id: None,
            confirmation: None,
            token_claims: TokenClaims::default(),
            actor: None,
        }
    }
}

fn info_of_token(token: &VerifiedToken) -> Result<TokenInfo> {
    let claims = &token.claims;
    Ok(TokenInfo {
        scopes: token.scopes.clone(),
        audiences: claims.aud.as_slice().to_vec(),
        client_id: claims.client_id.clone(),
        subject: claims.sub.clone(),
        tenant: claims.tenant.clone(),
        roles: claims.roles.clone(),
        issuer: claims.iss.clone(),
        issued_at: Some(second(claims.iat)?),
        expires_at: Some(second(claims.exp)?.into()),
        token_id: Some(claims.jti.clone()),
        confirmation: claims.cnf.as_deref().cloned(),
        token_claims: TokenClaims::default(),
        actor: claims.act.clone(),
    })
}
