//! Why a client assertion is refused.

use crate::error::Error;
use crate::jose::JwtRefusal;

/// Why an assertion does not authenticate.
#[derive(Debug)]
pub(super) enum AssertionRefusal {
    /// It is wrong, with the cause for the log.
    Wrong(&'static str),
    /// Its form, its signature or its claims are wrong.
    Jwt(JwtRefusal),
    /// It is not known whether it is right.
    Undecided(Error),
}

impl From<JwtRefusal> for AssertionRefusal {
    fn from(refusal: JwtRefusal) -> Self {
        Self::Jwt(refusal)
    }
}

impl From<Error> for AssertionRefusal {
    fn from(error: Error) -> Self {
        Self::Undecided(error)
    }
}
