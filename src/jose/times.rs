//! When a token passes.

use std::time::Duration;

use jiff::Timestamp;

use super::{JwtClaims, JwtRefusal};
use crate::clock::later;

/// How far ahead of this server's clock the clock of a signer may be. FAPI 2.0 (section 5.3.2.1)
/// asks to accept 10 seconds and to refuse more than 60.
pub const MAX_AHEAD: Duration = Duration::from_secs(10);

/// What the times of a token must be. `iat` and `nbf` may always be [`MAX_AHEAD`] in the future,
/// and `exp` must be in the future if it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRule {
    /// Whether `exp` is required.
    pub requires_expiry: bool,
    /// How old a token may be, counted from `iat`, which is then required. `None`: any age.
    pub max_age: Option<Duration>,
    /// The maximum time from `iat`, or without it from now, to `exp`. `None`: any time.
    pub max_lifetime: Option<Duration>,
}

impl TimeRule {
    /// Checks the times of a token.
    pub fn check(&self, claims: &JwtClaims, now: Timestamp) -> Result<(), JwtRefusal> {
        let ahead = later(now, MAX_AHEAD);
        for (name, moment) in [("iat", claims.issued_at()), ("nbf", claims.not_before())] {
            if moment.is_some_and(|moment| moment > ahead) {
                return Err(JwtRefusal::InFuture(name));
            }
        }
        if let (Some(max), Some(expiry)) = (self.max_lifetime, claims.expiry())
            && expiry > later(claims.issued_at().unwrap_or(now), max)
        {
            return Err(JwtRefusal::LivesTooLong);
        }
        if now < self.passes_until(claims)? {
            return Ok(());
        }
        let has_expired = claims.expiry().is_some_and(|expiry| expiry <= now);
        Err(if has_expired { JwtRefusal::Expired } else { JwtRefusal::TooOld })
    }

    /// The first instant at which the token does not pass any more. A token that may be used once
    /// is remembered until then. It is counted from the token's own times, because a token from a
    /// clock that is ahead passes for longer than one from a clock that is right.
    pub fn passes_until(&self, claims: &JwtClaims) -> Result<Timestamp, JwtRefusal> {
        let expiry = claims.expiry();
        if self.requires_expiry && expiry.is_none() {
            return Err(JwtRefusal::ClaimMissing("exp"));
        }
        let oldest = match self.max_age {
            Some(age) => {
                let issued_at = claims.issued_at().ok_or(JwtRefusal::ClaimMissing("iat"))?;
                Some(later(issued_at, age))
            }
            None => None,
        };
        Ok([expiry, oldest].into_iter().flatten().min().unwrap_or(Timestamp::MAX))
    }
}
