//! Issuing access tokens: the phases that all grants share.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::base::{IssuedTokens, Tokens};
use super::draft::TokenDraft;
use super::token_exchange::ExchangeRequest;
use super::{binding, client_credentials};
use crate::domain::{
    Client, Confirmation, GrantRequest, LimitStatus, ScopeSet, TokenType, UseKind,
};
use crate::error::{Error, Result};
use crate::keys::Claims;
use crate::keys::jwt::{self, Audiences, Unsigned};
use crate::secrets::{Secret, random};
use crate::service::auth::{AuthenticatedClient, ClientCredential, Unspent};
use crate::service::context::RequestContext;

/// A request for an access token (RFC 6749, section 3.2).
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What the client authenticates with.
    pub credential: ClientCredential,
    /// By which grant, and what it asks for.
    pub grant: GrantType,
}

/// The grants, each with its parameters.
#[derive(Clone, Debug)]
pub enum GrantType {
    /// The client asks for itself.
    ClientCredentials(GrantRequest),
    /// The client asks in exchange for another token (RFC 8693).
    TokenExchange(Box<ExchangeRequest>),
}

/// An access token for the client that asked for it.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token: a bearer secret.
    pub access_token: Secret,
    /// Its lifetime: whole seconds, at least one.
    pub expires_in: Duration,
    pub scopes: ScopeSet,
    /// What it is bound to.
    pub confirmation: Option<Confirmation>,
    /// Its type, as an exchange asked for it. `None` for other grants.
    pub issued_type: Option<TokenType>,
    /// The state of the limits of issuance, with this token counted.
    pub limits: Vec<LimitStatus>,
}

impl Tokens {
    /// Counts tokens that were issued.
    pub fn issued(&self) -> &IssuedTokens {
        &self.issued
    }

    /// Authenticates the client, decides what it is permitted, and issues the token.
    pub async fn issue(
        &self,
        context: &RequestContext<'_>,
        request: TokenRequest,
    ) -> Result<IssuedToken> {
        let proof = self.auth.proof(context)?;
        let AuthenticatedClient { client, assertion } =
            self.auth.client(context, request.credential).await?;
        let key = proof.as_ref().map(|proof| proof.key.clone());
        let unspent = Unspent { assertion, proof };
        let Some(key) = key else {
            return self.issue_once(context, &client, unspent, request.grant).await;
        };
        let context = context.clone().with_key(key);
        self.issue_once(&context, &client, unspent, request.grant).await
    }

    /// Like [`issue`](Self::issue), for a client that is authenticated already.
    #[cfg(any(test, feature = "internals"))]
    pub async fn issue_to(
        &self,
        context: &RequestContext<'_>,
        client: &Arc<Client>,
        grant: GrantType,
    ) -> Result<IssuedToken> {
        self.issue_once(context, client, Unspent::default(), grant).await
    }

    async fn issue_once(
        &self,
        context: &RequestContext<'_>,
        client: &Arc<Client>,
        unspent: Unspent,
        grant: GrantType,
    ) -> Result<IssuedToken> {
        // Authentication may have waited for a hash, so the time of the request is too old.
        let now = self.clock.now();
        let (draft, issued) = match grant {
            GrantType::ClientCredentials(request) => {
                let grant = client_credentials::permit(client, request, now)?;
                let confirmation = binding::of_new_token(context, client, std::iter::empty())?;
                (TokenDraft::of(client, grant, confirmation), &self.issued.client_credentials)
            }
            GrantType::TokenExchange(request) => {
                // Boxed: each request for a token would grow by its size.
                let draft = Box::pin(self.exchanged(context, client, *request, now)).await?;
                (draft, &self.issued.token_exchange)
            }
        };
        let token = self.sign(context, (client, unspent), draft, now).await?;
        issued.inc();
        Ok(token)
    }

    /// Signs what a client is permitted, within its limits. Only [`Client::grant`] and
    /// [`Client::grant_exchange`] make the grant of a draft.
    async fn sign(
        &self,
        context: &RequestContext<'_>,
        (client, unspent): (&Client, Unspent),
        draft: TokenDraft,
        now: Timestamp,
    ) -> Result<IssuedToken> {
        let TokenDraft { grant, confirmation, subject, requested, .. } = draft;
        let (iat, exp) = (now.as_second(), grant.expires_at().as_second());
        // The last second of an application or credential is too short for a token.
        let lifetime = u64::try_from(exp - iat).unwrap_or_default();
        if lifetime == 0 {
            return Err(Error::InvalidClient);
        }
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: draft.sub,
            aud: Audiences::new(grant.audiences().iter().map(ToString::to_string).collect()),
            client_id: client.name.credential.to_string(),
            iat,
            exp,
            jti: random::id(now)?,
            scope: grant.scopes().to_string(),
            tenant: client.tenant.id.to_string(),
            roles: draft.roles,
            epochs: draft.epochs,
            cnf: confirmation.clone().map(Box::new),
            act: draft.act,
            parents: draft.parents,
        };
        let keys = self.signing.keys_for_signing(now).await?;
        let key = keys.signer(now).ok_or_else(|| Error::internal("no signing key is active"))?;
        let unsigned = Unsigned::new(key, &claims, &client.tenant.settings.policy.token_claims)?;
        if unsigned.length() > jwt::MAX_LENGTH {
            return Err(Error::TokenTooLong(jwt::MAX_LENGTH));
        }
        // After everything else that can refuse, so that only tokens that are issued are counted,
        // and before the signature, so that one beyond the limit costs none.
        if !unspent.is_empty() {
            // A client repeats a request that a limit refused. One that uses an assertion or a proof
            // again must not count.
            self.limits.require_room(client).await?;
            self.auth.spend(context, unspent).await?;
        }
        let limits = self.limits.count_token(client).await?;
        let token = unsigned.sign()?;
        self.usage.count(client, UseKind::Exchange, now, context.address());
        if let Some(subject) = subject {
            // The client does not say from which address the presented token was used.
            self.usage.count(&subject, UseKind::Check, now, None);
        }
        Ok(IssuedToken {
            access_token: Secret::new(token),
            expires_in: Duration::from_secs(lifetime),
            scopes: grant.into_scopes(),
            confirmation,
            issued_type: requested,
            limits,
        })
    }
}
