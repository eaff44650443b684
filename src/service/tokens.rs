//! Use cases of access tokens: issue, introspect, revoke.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempts::Attempt;
use super::believed::Believed;
use super::{Caller, Service};
use crate::domain::{
    Action, ApplicationName, Client, GrantRequest, LimitStatus, Moment, NewRevocation, ScopeSet,
    Subject, UseKind,
};
use crate::error::{Error, Result};
use crate::keys::jwt::{self, Audiences, Unsigned};
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
    /// What an authenticated client is granted, as a token, within the limits: the client
    /// credentials grant (RFC 6749, section 4.4).
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
        let unsigned = Unsigned::new(key, &claims)?;
        if unsigned.length() > jwt::MAX_LENGTH {
            return Err(Error::TokenTooLong(jwt::MAX_LENGTH));
        }
        // Last of all that can refuse: what is refused for another reason is not counted. And
        // before the signature, so that one too many costs none.
        let limits = self.count_token(client).await?;
        let token = unsigned.sign()?;
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
            if !self.may_ask_about_key(caller, token).await? {
                return Ok(None);
            }
            match self.authenticate_key(caller, token, None).await {
                Ok(client) => {
                    let info = self.info_of_key(&client);
                    (client, info)
                }
                Err(Error::InvalidClient) => return Ok(None),
                Err(error) => return Err(error),
            }
        } else {
            // Whose it is decides before whether it is good: the answer about another's token is
            // the same whatever became of it, and takes as long.
            let now = self.now();
            let Ok(believed) = self.signed(token.expose(), now) else { return Ok(None) };
            if !caller.may_introspect(&believed.claims.sub) {
                return Ok(None);
            }
            match self.state_of(believed, now).await? {
                Token::Live(believed, client) => (client, info_of_token(&believed)?),
                Token::Expired | Token::Revoked | Token::Invalid => return Ok(None),
            }
        };
        // Where the credential is used from, the one who asks does not tell.
        self.used(&client, UseKind::Check, None);
        Ok(Some(info))
    }

    /// Whether an API key, right or wrong, is of a credential that the caller may ask about.
    /// Hashes and budgets are for those who may.
    async fn may_ask_about_key(&self, caller: &Caller, key: &Secret) -> Result<bool> {
        if caller.require_verifier().is_ok() {
            return Ok(true);
        }
        let Some(id) = self.prefixes.credential_of_api_key(key.expose()) else {
            return Ok(false);
        };
        let client = self.client(&id).await?;
        Ok(client.is_some_and(|client| caller.may_introspect(&client.subject)))
    }

    /// Revokes a token (RFC 7009); whether it did. When this answers, the token is refused; one
    /// that is not good anyway needs nothing done. An application does not learn of another
    /// tenant's token whether there was something to revoke.
    pub async fn revoke(&self, caller: &Caller, token: &Secret) -> Result<bool> {
        if self.prefixes.looks_like_api_key(token.expose()) {
            return Err(Error::UnsupportedTokenType);
        }
        // Asked before the token, so that the answer to a user who may not act is the same for all.
        let authority = self.acting_user(caller).await?;
        // One that was made by a clock that was ahead can be revoked before its time comes.
        let now = self.now();
        let at = jwt::claimed_issuance(token.expose()).map_or(now, |issued| issued.max(now));
        let Ok(believed) = self.signed(token.expose(), at) else { return Ok(false) };
        let claims = &believed.claims;
        let application = ApplicationName::parse(&claims.sub).map_err(|f| Error::internal(f.0))?;
        if !caller.may_know_of(&application, authority.is_some()) {
            return Ok(false);
        }
        let name = format!("{application}/credentials/{}", claims.client_id);
        let attempt = Attempt::new(caller, Action::RevokeToken, &application.tenant, &name);
        self.audited(&attempt, async {
            // Before its state: those who may not revoke it do not learn whether it is good.
            match &authority {
                Some(authority) => self.require_revoker(authority, &application).await?,
                None if !caller.may_revoke(&claims.sub) => return Err(Error::NotYourToken),
                None => {}
            }
            let Token::Live(believed, client) = self.state_of(Arc::clone(&believed), at).await?
            else {
                return Ok(false);
            };
            let claims = &believed.claims;
            let expires_at = second(claims.exp)?;
            let mut ledger = self.begin(&attempt).await?;
            if ledger.lock_tenant(&client.tenant.id).await?.is_none() {
                // Deleted meanwhile, and the token with it.
                return Ok(false);
            }
            let subject = Subject::Token(claims.jti.clone());
            ledger.revoke(NewRevocation { subject, epoch: 0, expires_at });
            let detail = format!("the token {} was revoked", claims.jti);
            ledger.note_with(Action::RevokeToken, &*client.name, Vec::new(), detail).await?;
            ledger.commit().await?;
            Ok(true)
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

    /// What a token is good for: by itself, and by all that stands behind it.
    pub(super) async fn token(&self, token: &str) -> Result<Token> {
        let now = self.now();
        match self.signed(token, now) {
            Ok(believed) => self.state_of(believed, now).await,
            Err(Rejection::Expired) => Ok(Token::Expired),
            Err(_) => Ok(Token::Invalid),
        }
    }

    /// What a token says that one of our keys has signed, and that is good at this time.
    fn signed(&self, token: &str, at: Timestamp) -> Result<Arc<Believed>, Rejection> {
        let verified = self.believed.verify(token, &self.keys(), &self.issuer, at);
        verified.inspect_err(|rejection| tracing::debug!(%rejection, "token refused"))
    }

    /// What a signed token is good for, by all that stands behind it.
    async fn state_of(&self, believed: Arc<Believed>, now: Timestamp) -> Result<Token> {
        let revocation_keys = believed.claims.revocation_keys();
        if self.revocations.revokes(&revocation_keys).await? {
            return Ok(Token::Revoked);
        }
        let mut client = self.client(&believed.credential).await?;
        if !client.as_ref().is_some_and(|client| stands(&believed, client, now)) {
            // Another replica may have made it from something newer than was read here.
            client = self.client_afresh(&believed.credential).await?;
        }
        // Reading may have taken as long as the list may be old: what counts is what is known
        // now.
        if self.revocations.revokes(&revocation_keys).await? {
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
