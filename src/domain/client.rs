//! A client: a credential with all that stands above it, and what it may be granted. Of
//! each no more than requests need, since those of many are held in memory.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Application, Audience, Credential, CredentialName, Life, Limits, Minted, Moment, RoleId,
    ScopeSet, SecretRecord, Tenant,
};
use crate::clock::later;
use crate::error::{Error, Result};

/// A credential with what decides over it in its application and its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whose it is. Clients of one tenant may share it.
    pub tenant: Arc<Tenant>,
    /// The credential's name, with the application's. Shared with all that is told of it.
    pub name: Arc<CredentialName>,
    /// The application's resource name: the subject of tokens.
    pub subject: Box<str>,
    /// The scopes that the application can use now.
    pub scopes: ScopeSet,
    /// The roles that the application was given, in order.
    pub roles: Box<[RoleId]>,
    /// The counters as they stand.
    pub epochs: Epochs,
    /// What tells the credential's secrets apart, newest first; some may have ended.
    pub secrets: Box<[SecretMark]>,
    /// Whether credential, application, owner or tenant are disabled.
    disabled: bool,
    /// When the first of credential and application ends, or the policy ends them.
    ends_at: Option<Moment>,
    /// All of them hold at once; few have any.
    pub(super) application_limits: Box<[Limits]>,
    /// Which application of its name it is.
    pub application_life: i64,
    pub(super) credential_limits: Option<Box<Limits>>,
}

/// What tells one secret of a credential from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretMark {
    /// Counts the secrets of a credential.
    pub version: i64,
    /// Its last four characters.
    last_four: [u8; 4],
    /// From then on it is refused.
    expires_at: Option<Timestamp>,
}

/// The counters that a token carries: raising one revokes every older token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Of the tenant.
    pub tenant: i64,
    /// Of the application.
    pub application: i64,
    /// Of the credential.
    pub credential: i64,
}

/// What a client asks for; nothing means what it has by default.
#[derive(Clone, Debug, Default)]
pub struct GrantRequest {
    /// The scopes wanted; none: all that the application has.
    pub scopes: ScopeSet,
    /// The audiences wanted; none: the tenant's default.
    pub audiences: Vec<Audience>,
}

/// What a client gets: no more than it asked for, and never silently less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The scopes.
    pub scopes: ScopeSet,
    /// The audiences, at least one.
    pub audiences: Vec<Audience>,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl SecretMark {
    fn of(secret: &SecretRecord) -> Self {
        Self {
            version: secret.version,
            // Every secret of ours has as many.
            last_four: secret.last_four.as_bytes().try_into().unwrap_or_default(),
            expires_at: secret.expires_at,
        }
    }
}

impl Client {
    /// The client of a credential, of its application and of its tenant.
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
            tenant: Arc::new(tenant),
        }
    }

    /// Whether it may do anything at all at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        !self.disabled && self.ends_at.is_none_or(|end| end > now)
    }

    /// Which tenant and which application of their names it is of.
    pub fn life(&self) -> Life {
        Life { tenant: self.tenant.life, application: self.application_life }
    }

    /// What a token of it would say of its making.
    pub fn minted(&self) -> Minted<'_> {
        Minted {
            tenant: self.tenant.id.as_str(),
            application: &self.subject,
            credential: self.name.credential.as_str(),
            token: None,
            epochs: self.epochs,
        }
    }

    /// When the client itself ends, if it does.
    pub fn expires_at(&self) -> Option<Moment> {
        self.ends_at
    }

    /// The version of the secret that is accepted at `now` and ends so. There is one check
    /// whatever the number of secrets, so that the time tells nothing.
    pub fn secret_ending(&self, last_four: &str, now: Timestamp) -> Option<i64> {
        let live = |mark: &&SecretMark| mark.expires_at.is_none_or(|end| now < end);
        let mut live = self.secrets.iter().filter(live);
        live.find(|mark| mark.last_four == last_four.as_bytes()).map(|mark| mark.version)
    }

    /// The ids of the roles, in order, as strings.
    pub fn role_ids(&self) -> Vec<String> {
        self.roles.iter().map(ToString::to_string).collect()
    }

    /// What it is granted at `now`: everything it asks for, or an error.
    pub fn grant(&self, request: GrantRequest, now: Timestamp) -> Result<Grant> {
        let settings = &self.tenant.settings;
        let effective = &self.scopes;
        if !request.scopes.is_within(effective) || effective.is_empty() {
            return Err(Error::ScopeNotAllowed(request.scopes.without(effective)));
        }
        if let Some(foreign) =
            request.audiences.iter().find(|audience| !settings.allows_audience(audience))
        {
            return Err(Error::AudienceNotAllowed(foreign.to_string()));
        }
        let mut audiences = Vec::new();
        for audience in request.audiences {
            if !audiences.contains(&audience) {
                audiences.push(audience);
            }
        }
        let end = later(now, settings.access_token_lifetime.duration());
        Ok(Grant {
            scopes: if request.scopes.is_empty() { effective.clone() } else { request.scopes },
            audiences: if audiences.is_empty() {
                vec![settings.default_audience.clone()]
            } else {
                audiences
            },
            expires_at: self.expires_at().map_or(end, |limit| limit.timestamp().min(end)),
        })
    }
}
