//! A client: a credential with all that stands above it, and what it may be granted.

use jiff::Timestamp;

use super::{Application, Audience, Credential, ScopeSet, State, Tenant};
use crate::clock::later;
use crate::error::{Error, Result};

/// A credential, its application and its tenant.
#[derive(Clone, Debug)]
pub struct Client {
    /// Whose it is.
    pub tenant: Tenant,
    /// What gets access.
    pub application: Application,
    /// How it proves itself.
    pub credential: Credential,
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

impl Client {
    /// Whether it may do anything at all at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        !self.tenant.settings.disabled
            && !self.tenant.settings.policy.api_credentials_disabled
            && self.latest_end().is_none_or(|end| now < end)
            && self.application.state(now) == State::Active
            && self.credential.state(now) == State::Active
    }

    /// The counters as they stand.
    pub fn epochs(&self) -> Epochs {
        Epochs {
            tenant: self.tenant.epoch,
            application: self.application.epoch,
            credential: self.credential.epoch,
        }
    }

    /// When the client itself ends, if it does.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let ends = [
            self.application.settings.expires_at,
            self.credential.settings.expires_at,
            self.latest_end(),
        ];
        ends.into_iter().flatten().min()
    }

    /// When the policy ends it.
    fn latest_end(&self) -> Option<Timestamp> {
        self.tenant.settings.policy.latest_end(self.credential.record.created_at)
    }

    /// What it is granted at `now`: everything it asks for, or an error.
    pub fn grant(&self, request: GrantRequest, now: Timestamp) -> Result<Grant> {
        let settings = &self.tenant.settings;
        let effective = &self.application.effective_scopes;
        let beyond = request.scopes.without(effective);
        if !beyond.is_empty() || effective.is_empty() {
            return Err(Error::ScopeNotAllowed(beyond));
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
            expires_at: self.expires_at().map_or(end, |limit| limit.min(end)),
        })
    }
}
