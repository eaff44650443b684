//! A client: a credential together with what its application and tenant allow. It holds only what
//! requests need, because many clients are cached in memory.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Application, Audience, Credential, CredentialKind, CredentialName, Life, Limits, Moment,
    Registration, RevocationKeys, RoleId, ScopeSet, SecretRecord, Tenant, TokenLifetime,
};
use crate::clock::later;
use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Shared by the cached clients of a tenant.
    pub tenant: Arc<Tenant>,
    /// The credential's resource name, shared with audit events and usage counters.
    pub name: Arc<CredentialName>,
    /// The application's resource name: the `sub` claim of tokens.
    pub subject: Box<str>,
    /// The effective scopes of the application.
    pub scopes: ScopeSet,
    /// The application's roles, sorted.
    pub roles: Box<[RoleId]>,
    /// The current epochs.
    pub epochs: Epochs,
    /// The kind of the credential.
    pub kind: CredentialKind,
    /// What the client is recognised by, if it has no secret.
    pub registration: Option<Arc<Registration>>,
    /// Whether each token is bound to the client certificate of the connection that asks for it.
    pub certificate_bound_tokens: bool,
    /// Identifies the credential's secrets, newest first. Includes expired ones.
    pub secrets: Box<[SecretMark]>,
    /// Whether the credential, application, owner or tenant is disabled.
    disabled: bool,
    /// The earliest expiry of the credential, the application and the policy.
    ends_at: Option<Moment>,
    /// All of these apply together; most clients have none.
    pub(super) application_limits: Box<[Limits]>,
    /// See [`Application::life`](super::Application::life).
    pub application_life: i64,
    pub(super) credential_limits: Option<Box<Limits>>,
    /// The audiences for which it may exchange tokens. Empty: it may not exchange any.
    exchange_audiences: Box<[Audience]>,
    /// The application's own lifetime of tokens, if it has one.
    token_lifetime: Option<TokenLifetime>,
}

/// Identifies one secret of a credential without revealing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretMark {
    /// Numbers the secrets of a credential.
    pub version: i64,
    last_four: [u8; 4],
    /// The secret is refused from this time on. `None`: never.
    expires_at: Option<Timestamp>,
}

/// The epochs that a token carries. Raising one revokes all older tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub tenant: i64,
    pub application: i64,
    pub credential: i64,
}

impl From<[i64; 3]> for Epochs {
    fn from([tenant, application, credential]: [i64; 3]) -> Self {
        Self { tenant, application, credential }
    }
}

/// What a client asks for in a token request.
#[derive(Clone, Debug, Default)]
pub struct GrantRequest {
    /// Empty: all scopes of the application.
    pub scopes: ScopeSet,
    /// Empty: the tenant's default audience.
    pub audiences: Vec<Audience>,
}

/// What an exchanged token cannot exceed: the token or API key that it is exchanged for.
#[derive(Clone, Debug)]
pub struct ExchangeCeiling<'a> {
    pub scopes: &'a ScopeSet,
    /// When the first of the presented tokens and keys ends. `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// What a token grants. A request is granted completely or refused. Only [`Client::grant`] and
/// [`Client::grant_exchange`] make one, so every token has the ceiling and the lifetime that they
/// decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    scopes: ScopeSet,
    audiences: Vec<Audience>,
    expires_at: Timestamp,
}

impl Grant {
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    pub fn into_scopes(self) -> ScopeSet {
        self.scopes
    }

    /// At least one.
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// When the token expires.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl SecretMark {
    fn of(secret: &SecretRecord) -> Self {
        Self {
            version: secret.version,
            // All generated secrets end with four ASCII characters.
            last_four: secret.last_four.as_bytes().try_into().unwrap_or_default(),
            expires_at: secret.expires_at,
        }
    }
}

impl Client {
    /// Combines a credential with its application and tenant.
    pub fn new(tenant: Tenant, application: Application, credential: &Credential) -> Self {
        let policy = &tenant.settings.policy;
        let ends = [
            application.settings.expires_at,
            credential.settings.expires_at,
            policy.latest_end(credential.record.created_at),
        ];
        Self {
            name: Arc::new(credential.name.clone()),
            subject: application.name.to_string().into(),
            scopes: application.effective_scopes,
            roles: application.settings.roles.into_iter().collect(),
            epochs: Epochs {
                tenant: tenant.epoch,
                application: application.epoch,
                credential: credential.epoch,
            },
            kind: credential.kind,
            registration: credential.settings.registration.clone().map(Arc::new),
            certificate_bound_tokens: credential.settings.certificate_bound_tokens
                || credential.kind == CredentialKind::Certificate,
            secrets: credential.secrets.iter().map(SecretMark::of).collect(),
            disabled: tenant.settings.disabled
                || policy.api_credentials_disabled
                || application.settings.disabled
                || application.owner_disabled
                || credential.settings.disabled,
            ends_at: ends.into_iter().flatten().min(),
            application_limits: policy
                .application_limits(application.settings.limits, application.settings.limits_lifted)
                .into(),
            application_life: application.life,
            credential_limits: credential.settings.limits.map(Box::new),
            exchange_audiences: application.settings.exchange_audiences.into_iter().collect(),
            token_lifetime: application.settings.access_token_lifetime,
            tenant: Arc::new(tenant),
        }
    }

    /// Whether the client may do anything at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        !self.disabled && self.ends_at.is_none_or(|end| end > now)
    }

    pub fn life(&self) -> Life {
        Life { tenant: self.tenant.life, application: self.application_life }
    }

    /// The values of a new token that revocations are matched against.
    pub fn revocation_keys(&self) -> RevocationKeys<'_> {
        RevocationKeys {
            tenant: self.tenant.id.as_str(),
            application: &self.subject,
            credential: self.name.credential.as_str(),
            token: None,
            signing_key: None,
            epochs: self.epochs,
            parents: &[],
        }
    }

    /// When the client expires, if it does.
    pub fn expires_at(&self) -> Option<Moment> {
        self.ends_at
    }

    /// The version of the secret that works at `now` and ends with `last_four`. At most one secret
    /// is then hashed, so that the response time does not reveal how many there are.
    pub fn secret_ending(&self, last_four: &str, now: Timestamp) -> Option<i64> {
        let live = |mark: &&SecretMark| mark.expires_at.is_none_or(|end| now < end);
        let mut live = self.secrets.iter().filter(live);
        live.find(|mark| mark.last_four == last_four.as_bytes()).map(|mark| mark.version)
    }

    /// The sorted role ids.
    pub fn role_ids(&self) -> Vec<String> {
        self.roles.iter().map(ToString::to_string).collect()
    }

    /// Grants a token request at `now`, completely or with an error.
    pub fn grant(&self, request: GrantRequest, now: Timestamp) -> Result<Grant> {
        let settings = &self.tenant.settings;
        let scopes = within(request.scopes, &self.scopes)?;
        let foreign = request.audiences.iter().find(|audience| !settings.allows_audience(audience));
        if let Some(foreign) = foreign {
            return Err(Error::AudienceNotAllowed(foreign.to_string()));
        }
        let mut audiences = distinct(request.audiences);
        if audiences.is_empty() {
            audiences.push(settings.default_audience.clone());
        }
        Ok(Grant { scopes, audiences, expires_at: self.token_end(now) })
    }

    /// The audiences for which this client may exchange a token. Without a wanted one, the only one
    /// that its application may exchange for.
    pub fn exchange_targets(&self, wanted: Vec<Audience>) -> Result<Vec<Audience>> {
        let settings = &self.tenant.settings;
        let allowed = &self.exchange_audiences;
        if allowed.is_empty() {
            return Err(Error::ExchangeNotAllowed);
        }
        let targets = match (distinct(wanted), &**allowed) {
            (wanted, [only]) if wanted.is_empty() => vec![only.clone()],
            (wanted, _) if wanted.is_empty() => return Err(Error::ExchangeTargetMissing),
            (wanted, _) => wanted,
        };
        let foreign = targets.iter().find(|target| {
            !allowed.contains(target)
                || !settings.allows_audience(target)
                || target.as_str() == Audience::KEYWARD
        });
        match foreign {
            Some(foreign) => Err(Error::AudienceNotAllowed(foreign.to_string())),
            None => Ok(targets),
        }
    }

    /// Grants an exchange for these [targets](Self::exchange_targets) at `now`, completely or with
    /// an error. The scopes are those of the presented token, or fewer: the client's own play no
    /// role, because it passes on the access of another.
    pub fn grant_exchange(
        &self,
        targets: Vec<Audience>,
        wanted: ScopeSet,
        ceiling: &ExchangeCeiling<'_>,
        now: Timestamp,
    ) -> Result<Grant> {
        let end = self.token_end(now);
        Ok(Grant {
            scopes: within(wanted, ceiling.scopes)?,
            audiences: targets,
            expires_at: ceiling.expires_at.map_or(end, |limit| limit.min(end)),
        })
    }

    /// When a token for the access of this client, issued at `now`, expires at the latest.
    pub fn token_end(&self, now: Timestamp) -> Timestamp {
        let of_tenant = self.tenant.settings.access_token_lifetime;
        let lifetime = self.token_lifetime.map_or(of_tenant, |own| own.min(of_tenant));
        let end = later(now, lifetime.duration());
        self.expires_at().map_or(end, |limit| limit.timestamp().min(end))
    }
}

/// The wanted scopes, or all if none is named.
fn within(wanted: ScopeSet, allowed: &ScopeSet) -> Result<ScopeSet> {
    if !wanted.is_within(allowed) || allowed.is_empty() {
        return Err(Error::ScopeNotAllowed(wanted.without(allowed)));
    }
    Ok(if wanted.is_empty() { allowed.clone() } else { wanted })
}

fn distinct(all: Vec<Audience>) -> Vec<Audience> {
    let mut distinct = Vec::with_capacity(all.len().max(1));
    for audience in all {
        if !distinct.contains(&audience) {
            distinct.push(audience);
        }
    }
    distinct
}
