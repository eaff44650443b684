//! Tokens of ours that were looked at before: a signature that was right stays right, so it is
//! verified once. Whether the token is accepted now is asked every time.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::{CredentialId, RoleId, ScopeSet};
use crate::keys::{Claims, KeyRing, Rejection, jwt};

/// How much memory they may take.
const MOST_BYTES: u64 = 48 * 1024 * 1024;
/// How many that is, as a rule.
const TOKENS: usize = 50_000;
/// What one takes besides its claims.
const ENTRY: usize = 400;

/// What a token says that one of our keys has signed.
#[derive(Debug)]
pub(super) struct Believed {
    /// Its claims.
    pub(super) claims: Claims,
    /// Its scopes.
    pub(super) scopes: ScopeSet,
    /// Its roles.
    pub(super) roles: Vec<RoleId>,
    /// The credential it was made with.
    pub(super) credential: CredentialId,
    /// The key that signed it.
    key: String,
}

impl Believed {
    fn new(claims: Claims, key: String) -> Option<Self> {
        let roles = claims.roles.iter().map(|role| RoleId::parse(role));
        Some(Self {
            scopes: ScopeSet::parse(&claims.scope).ok()?,
            roles: roles.collect::<Result<_, _>>().ok()?,
            credential: CredentialId::parse(&claims.client_id).ok()?,
            key,
            claims,
        })
    }
}

/// Tokens whose signature was found right, by the hash of all of the token.
#[derive(Debug)]
pub(super) struct BelievedTokens(Cache<[u8; 32], Arc<Believed>, Weights>);

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<[u8; 32], Arc<Believed>> for Weights {
    fn weight(&self, _hash: &[u8; 32], token: &Arc<Believed>) -> u64 {
        let Claims { iss, sub, scope, tenant, jti, .. } = &token.claims;
        let scopes = token.scopes.len() * 64 + scope.len() * 2;
        (ENTRY + iss.len() + sub.len() + tenant.len() + jti.len() + scopes) as u64
    }
}

impl BelievedTokens {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(TOKENS, MOST_BYTES, Weights))
    }

    /// What a token says, if it is one of ours whose time is not over. Its key must be one
    /// that is published still.
    pub(super) fn verify(
        &self,
        token: &str,
        keys: &KeyRing,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<Believed>, Rejection> {
        if token.len() > jwt::MAX_LENGTH {
            return Err(Rejection::TooLong);
        }
        let hash: [u8; 32] = digest(&SHA256, token.as_bytes())
            .as_ref()
            .try_into()
            .map_err(|_| Rejection::Malformed)?;
        if let Some(believed) = self.0.get(&hash) {
            if keys.find(&believed.key, now).is_none() {
                self.0.remove(&hash);
                return Err(Rejection::UnknownKey);
            }
            if believed.claims.exp <= now.as_second() {
                self.0.remove(&hash);
                return Err(Rejection::Expired);
            }
            return Ok(believed);
        }
        let mut key = String::new();
        let find = |kid: &str| {
            kid.clone_into(&mut key);
            keys.find(kid, now)
        };
        let claims = jwt::verify(token, find, issuer, now)?;
        let believed = Arc::new(Believed::new(claims, key).ok_or(Rejection::Malformed)?);
        self.0.insert(hash, Arc::clone(&believed));
        Ok(believed)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
