//! What is revoked now, by subject.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::{Epochs, Revocation, RevocationKeys, Subject};

/// What is revoked, indexed by claims of the token.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// By `jti`: the end of the revocation.
    tokens: HashMap<String, Timestamp>,
    /// By client id.
    credentials: HashMap<String, Raised>,
    /// By resource name.
    applications: HashMap<String, Raised>,
    /// By tenant id.
    tenants: HashMap<String, Raised>,
    /// By `kid`: the end of the revocation.
    signing_keys: HashMap<String, Timestamp>,
}

/// The epochs below which a subject's tokens are revoked, each with its end. A lower epoch is kept
/// only if it ends later than the higher ones.
#[derive(Debug)]
struct Raised(Vec<(i64, Timestamp)>);

impl Raised {
    fn epoch(&self) -> i64 {
        self.0.iter().map(|(epoch, _)| *epoch).max().unwrap_or_default()
    }

    fn raise(&mut self, epoch: i64, end: Timestamp) {
        if self.0.iter().any(|(known, lasts)| *known >= epoch && *lasts >= end) {
            return;
        }
        self.0.retain(|(known, lasts)| *known > epoch || *lasts > end);
        self.0.push((epoch, end));
    }
}

impl InForce {
    /// Whether a token is revoked.
    pub(super) fn revokes(&self, revocation_keys: &RevocationKeys<'_>) -> bool {
        let below = |epochs: &HashMap<String, Raised>, key: &str, epoch: i64| {
            epochs.get(key).is_some_and(|raised| epoch < raised.epoch())
        };
        let Epochs { tenant, application, credential } = revocation_keys.epochs;
        below(&self.tenants, revocation_keys.tenant, tenant)
            || below(&self.applications, revocation_keys.application, application)
            || below(&self.credentials, revocation_keys.credential, credential)
            || revocation_keys.token.is_some_and(|id| self.tokens.contains_key(id))
            || revocation_keys.signing_key.is_some_and(|kid| self.revokes_key(kid))
    }

    /// Whether all tokens of a signing key are revoked.
    pub(super) fn revokes_key(&self, kid: &str) -> bool {
        self.signing_keys.contains_key(kid)
    }

    /// The epoch below which the subject's tokens are revoked, or 0.
    pub(super) fn epoch(&self, subject: &Subject) -> i64 {
        let raised = match subject {
            Subject::Token(_) | Subject::SigningKey(_) => None,
            Subject::Credential(name) => self.credentials.get(name.credential.as_str()),
            Subject::Client(id) => self.credentials.get(id.as_str()),
            Subject::Application(name) => self.applications.get(&name.to_string()),
            Subject::Tenant(id) => self.tenants.get(id.as_str()),
        };
        raised.map_or(0, Raised::epoch)
    }

    /// Adds a revocation.
    pub(super) fn apply(&mut self, row: &Revocation) {
        if let Some((epochs, key)) = self.epochs(&row.subject) {
            if let Some(raised) = epochs.get_mut(&key) {
                raised.raise(row.epoch, row.expires_at);
            } else {
                epochs.insert(key, Raised(vec![(row.epoch, row.expires_at)]));
            }
            return;
        }
        let (ends, key) = self.ends(&row.subject);
        let end = ends.entry(key).or_insert(row.expires_at);
        *end = row.expires_at.max(*end);
    }

    /// Removes an expired revocation, and all revocations of the same subject that expired before
    /// it.
    pub(super) fn remove(&mut self, row: &Revocation) {
        let end = row.expires_at;
        if let Some((epochs, key)) = self.epochs(&row.subject) {
            if let Some(raised) = epochs.get_mut(&key) {
                raised.0.retain(|(_, lasts)| *lasts > end);
                if raised.0.is_empty() {
                    epochs.remove(&key);
                }
            }
            return;
        }
        let (ends, key) = self.ends(&row.subject);
        if ends.get(&key).is_some_and(|lasts| *lasts <= end) {
            ends.remove(&key);
        }
    }

    /// The map of a subject without an epoch, and the subject's key in it.
    fn ends(&mut self, subject: &Subject) -> (&mut HashMap<String, Timestamp>, String) {
        match subject {
            Subject::SigningKey(name) => (&mut self.signing_keys, name.kid().to_owned()),
            other => (&mut self.tokens, other.name()),
        }
    }

    /// The map of the subject's kind, and the subject's key in it. `None` for a token or a signing
    /// key, which have no epoch.
    fn epochs(&mut self, subject: &Subject) -> Option<(&mut HashMap<String, Raised>, String)> {
        match subject {
            Subject::Token(_) | Subject::SigningKey(_) => None,
            Subject::Credential(name) => Some((&mut self.credentials, name.credential.to_string())),
            Subject::Client(id) => Some((&mut self.credentials, id.to_string())),
            Subject::Application(name) => Some((&mut self.applications, name.to_string())),
            Subject::Tenant(id) => Some((&mut self.tenants, id.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn raised_epoch_lasts_as_long_as_its_longest_revocation() {
        let row = |epoch, end| Revocation {
            number: 1,
            subject: Subject::parse("tenant", "tenants/acme").unwrap(),
            epoch,
            revoked_at: at(0),
            expires_at: at(end),
        };
        let epoch = |known: &InForce| known.epoch(&row(0, 0).subject);
        let mut known = InForce::default();
        for row in [row(5, 10), row(3, 20), row(5, 15), row(1, 12)] {
            known.apply(&row);
        }
        assert_eq!(epoch(&known), 5);
        known.remove(&row(5, 10));
        assert_eq!(epoch(&known), 5, "another row revokes the same epoch for longer");
        known.remove(&row(5, 15));
        assert_eq!(epoch(&known), 3, "a lower epoch remains");
        known.remove(&row(3, 20));
        assert_eq!(epoch(&known), 0);
    }
}
