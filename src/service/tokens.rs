//! Use cases of access tokens: issue, introspect, revoke.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempts::Attempt;
use super::believed::Believed;
use super::{Caller, Proof, Service};
use crate::domain::{
    Action, Client, GrantRequest, LimitStatus, Moment, NewRevocation, ScopeSet, Subject, UseKind,
};
use crate::error::{Error, Result};
use crate::keys::jwt::{self, Audiences};
use crate::keys::{Claims, Rejection};
use crate::secrets::{Secret, random};

/// An access token for the client that asked for it.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token: a bearer secret.
    pub access_token: Secret,
    /// How long it lives: whole seconds, at least one.
    pub expires_in: Duration,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// How the limits of issuance stand, this token counted.
    pub limits: Vec<LimitStatus>,
}

/// What a token is good for.
pub(super) enum Token {
    /// It would be accepted now: what it says, and its client.
    Live(Arc<Believed>, Arc<Client>),
    /// It has ended by itself.
    Expired,
    /// It was revoked.
    Revoked,
    /// It is none of ours, or what stands behind it may do nothing now.
    Invalid,
}

/// What a good token or API key tells.
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
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// Who made it.
    pub issuer: String,
    /// When it was made; an API key does not tell.
    pub issued_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Moment>,
    /// Its id; an API key has none.
    pub token_id: Option<String>,
}

impl Service {
    /// The client credentials grant (RFC 6749, section 4.4).
    pub async fn issue_token(
        &self,
        proof: Proof,
        request: GrantRequest,
        address: Option<IpAddr>,
    ) -> Result<IssuedToken> {
        let client = self.authenticate_client(proof, address).await?;
        self.issue_to(&client, request, address).await
    }

    /// What an authenticated client is granted, as a token, within the limits.
    pub async fn issue_to(
        &self,
        client: &Client,
        request: GrantRequest,
        address: Option<IpAddr>,
    ) -> Result<IssuedToken> {
        let now = self.now();
        let grant = client.grant(request, now)?;
        let (iat, exp) = (now.as_second(), grant.expires_at.as_second());
        // The last second of an application or credential is too short for a token.
        let lifetime = u64::try_from(exp - iat).unwrap_or_default();
        if lifetime == 0 {
            return Err(Error::InvalidClient);
        }
        let limits = self.count_token(client).await?;
        let epochs = client.epochs;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: client.subject.to_string(),
            aud: Audiences::new(grant.audiences.iter().map(ToString::to_string).collect()),
            client_id: client.name.credential.to_string(),
            iat,
            exp,
            jti: random::id(now)?,
            scope: grant.scopes.to_string(),
            tenant: client.tenant.id.to_string(),
            roles: client.role_ids(),
            epochs: [epochs.tenant, epochs.application, epochs.credential],
        };
        let keys = self.keys();
        let key = keys.signer(now).ok_or_else(|| Error::internal("no signing key is active"))?;
        let token = jwt::sign(key, &claims)?;
        if token.len() > jwt::MAX_LENGTH {
            return Err(Error::TokenTooLong(jwt::MAX_LENGTH));
        }
        self.used(client, UseKind::Exchange, address);
        Ok(IssuedToken {
            access_token: Secret::new(token),
            expires_in: Duration::from_secs(lifetime),
            scopes: grant.scopes,
            limits,
        })
    }

    /// What a token tells, if it would be accepted now and is the caller's to know of
    /// (RFC 7662).
    pub async fn introspect(&self, caller: &Caller, token: &Secret) -> Result<Option<TokenInfo>> {
        let (client, info) = if self.prefixes.looks_like_api_key(token.expose()) {
            match self.authenticate_key(caller, token, None).await {
                Ok(client) => {
                    let info = self.info_of_key(&client);
                    (client, info)
                }
                Err(Error::InvalidClient) => return Ok(None),
                Err(error) => return Err(error),
            }
        } else {
            match self.live_token(token.expose()).await? {
                Some((believed, client)) => (client, info_of_token(&believed)?),
                None => return Ok(None),
            }
        };
        if !caller.may_introspect(&client.name.application) {
            return Ok(None);
        }
        // Where the credential is used from, the one who asks does not tell.
        self.used(&client, UseKind::Check, None);
        Ok(Some(info))
    }

    /// Revokes a token (RFC 7009). When this answers, the token is refused; one that
    /// is not good anyway needs nothing done.
    pub async fn revoke(&self, caller: &Caller, token: &Secret) -> Result<()> {
        if self.prefixes.looks_like_api_key(token.expose()) {
            return Err(Error::UnsupportedTokenType);
        }
        let Some((believed, client)) = self.revocable_token(token.expose()).await? else {
            return Ok(());
        };
        let (claims, name) = (&believed.claims, &*client.name);
        let attempt = Attempt::new(caller, Action::RevokeToken, &client.tenant.id, name);
        self.audited(&attempt, async {
            if !caller.may_revoke(&client.name.application) {
                return Err(Error::NotYourToken);
            }
            let expires_at = second(claims.exp)?;
            let mut ledger = self.begin(&attempt).await?;
            if ledger.lock_tenant(&client.tenant.id).await?.is_none() {
                // Deleted meanwhile, and the token with it.
                return Ok(());
            }
            let subject = Subject::Token(claims.jti.clone());
            ledger.revoke(NewRevocation { subject, epoch: 0, expires_at });
            let detail = format!("the token {} was revoked", claims.jti);
            ledger.note_with(Action::RevokeToken, name, Vec::new(), detail).await?;
            ledger.commit().await
        })
        .await
    }

    /// What a token says and its client, if the token would be accepted now.
    pub(super) async fn live_token(
        &self,
        token: &str,
    ) -> Result<Option<(Arc<Believed>, Arc<Client>)>> {
        match self.token(token).await? {
            Token::Live(believed, client) => Ok(Some((believed, client))),
            Token::Expired | Token::Revoked | Token::Invalid => Ok(None),
        }
    }

    /// The same, if the token is good now or will be: one that was made by a clock that was ahead
    /// can be revoked before its time comes.
    async fn revocable_token(&self, token: &str) -> Result<Option<(Arc<Believed>, Arc<Client>)>> {
        let now = self.now();
        let at = jwt::claimed_issuance(token).map_or(now, |issued| issued.max(now));
        match self.token_at(token, at).await? {
            Token::Live(believed, client) => Ok(Some((believed, client))),
            Token::Expired | Token::Revoked | Token::Invalid => Ok(None),
        }
    }

    /// What a token is good for: by itself, and by all that stands behind it.
    pub(super) async fn token(&self, token: &str) -> Result<Token> {
        self.token_at(token, self.now()).await
    }

    async fn token_at(&self, token: &str, now: Timestamp) -> Result<Token> {
        let believed = match self.believed.verify(token, &self.keys(), &self.issuer, now) {
            Ok(believed) => believed,
            Err(rejection) => {
                tracing::debug!(%rejection, "token refused");
                return Ok(match rejection {
                    Rejection::Expired => Token::Expired,
                    _ => Token::Invalid,
                });
            }
        };
        let minted = believed.claims.minted();
        if self.revocations.revokes(&minted).await? {
            return Ok(Token::Revoked);
        }
        let mut client = self.client(&believed.credential).await?;
        if !client.as_ref().is_some_and(|client| stands(&believed, client, now)) {
            // Another replica may have made it from something newer than was read here.
            client = self.client_afresh(&believed.credential).await?;
        }
        // Reading may have taken as long as the list may be old: what counts is what is known
        // now.
        if self.revocations.revokes(&minted).await? {
            return Ok(Token::Revoked);
        }
        Ok(match client {
            Some(client) if stands(&believed, &client, now) => Token::Live(believed, client),
            _ => Token::Invalid,
        })
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
        }
    }
}

/// Whether all that stands behind a token still does: its client may act, no epoch was
/// raised since, and the application has every scope that the token carries.
fn stands(token: &Believed, client: &Client, now: Timestamp) -> bool {
    let (claims, epochs) = (&token.claims, client.epochs);
    client.is_active(now)
        && claims.epochs == [epochs.tenant, epochs.application, epochs.credential]
        && claims.tenant == client.tenant.id.as_str()
        && claims.sub == *client.subject
        && token.scopes.is_within(&client.scopes)
}

fn info_of_token(token: &Believed) -> Result<TokenInfo> {
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
    })
}

/// A moment from a claim: those of our own tokens are within the years that exist.
fn second(claim: i64) -> Result<Timestamp> {
    Timestamp::from_second(claim).map_err(|error| Error::Internal(Box::new(error)))
}
