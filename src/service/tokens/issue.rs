//! Issuing access tokens: the phases that all grants share.

use std::time::Duration;

use jiff::Timestamp;

use super::base::{IssuedTokens, Tokens};
use super::{binding, client_credentials};
use crate::domain::{Client, Confirmation, Grant, GrantRequest, LimitStatus, ScopeSet, UseKind};
use crate::error::{Error, Result};
use crate::keys::Claims;
use crate::keys::jwt::{self, Audiences, Unsigned};
use crate::secrets::{Secret, random};
use crate::service::auth::{AuthenticatedClient, ClientCredential, UnspentAssertion};
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
    /// The state of the limits of issuance, with this token counted.
    pub limits: Vec<LimitStatus>,
}

/// Who gets a token.
struct Recipient<'a> {
    client: &'a Client,
    /// What it authenticated with, if that can be used once.
    assertion: Option<UnspentAssertion>,
    /// What the token is bound to.
    confirmation: Option<Confirmation>,
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
        let Some(proof) = proof else {
            return self.issue_once(context, &client, assertion, request.grant).await;
        };
        let key = self.auth.spend_proof(context, proof).await?;
        let context = context.clone().with_key(key);
        self.issue_once(&context, &client, assertion, request.grant).await
    }

    /// Like [`issue`](Self::issue), for a client that is authenticated already.
    pub async fn issue_to(
        &self,
        context: &RequestContext<'_>,
        client: &Client,
        grant: GrantType,
    ) -> Result<IssuedToken> {
        self.issue_once(context, client, None, grant).await
    }

    async fn issue_once(
        &self,
        context: &RequestContext<'_>,
        client: &Client,
        assertion: Option<UnspentAssertion>,
        grant: GrantType,
    ) -> Result<IssuedToken> {
        // Authentication may have waited for a hash, so the time of the request is too old.
        let now = self.clock.now();
        let (grant, issued) = match grant {
            GrantType::ClientCredentials(request) => {
                let grant = client_credentials::permit(client, request, now)?;
                (grant, &self.issued.client_credentials)
            }
        };
        let confirmation = binding::of_new_token(context, client)?;
        let recipient = Recipient { client, assertion, confirmation };
        let token = self.sign(context, recipient, grant, now).await?;
        issued.inc();
        Ok(token)
    }

    /// Signs what a client is permitted, within the limits. Only [`Client::grant`] makes a [`Grant`].
    async fn sign(
        &self,
        context: &RequestContext<'_>,
        Recipient { client, assertion, confirmation }: Recipient<'_>,
        grant: Grant,
        now: Timestamp,
    ) -> Result<IssuedToken> {
        let (iat, exp) = (now.as_second(), grant.expires_at().as_second());
        // The last second of an application or credential is too short for a token.
        let lifetime = u64::try_from(exp - iat).unwrap_or_default();
        if lifetime == 0 {
            return Err(Error::InvalidClient);
        }
        let epochs = client.epochs;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: client.subject.to_string(),
            aud: Audiences::new(grant.audiences().iter().map(ToString::to_string).collect()),
            client_id: client.name.credential.to_string(),
            iat,
            exp,
            jti: random::id(now)?,
            scope: grant.scopes().to_string(),
            tenant: client.tenant.id.to_string(),
            roles: client.role_ids(),
            epochs: [epochs.tenant, epochs.application, epochs.credential],
            cnf: confirmation.clone().map(Box::new),
        };
        let keys = self.signing.keys_for_signing(now).await?;
        let key = keys.signer(now).ok_or_else(|| Error::internal("no signing key is active"))?;
        let unsigned = Unsigned::new(key, &claims, &client.tenant.settings.policy.token_claims)?;
        if unsigned.length() > jwt::MAX_LENGTH {
            return Err(Error::TokenTooLong(jwt::MAX_LENGTH));
        }
        // After everything else that can refuse, so that only tokens that are issued are counted,
        // and before the signature, so that one beyond the limit costs none.
        if let Some(assertion) = assertion {
            // A client repeats a request that a limit refused. One that uses an assertion again
            // must not count.
            self.limits.require_room(client).await?;
            self.auth.spend(context, assertion).await?;
        }
        let limits = self.limits.count_token(client).await?;
        let token = unsigned.sign()?;
        self.usage.count(client, UseKind::Exchange, now, context.address());
        Ok(IssuedToken {
            access_token: Secret::new(token),
            expires_in: Duration::from_secs(lifetime),
            scopes: grant.into_scopes(),
            confirmation,
            limits,
        })
    }
}
