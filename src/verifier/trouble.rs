//! Connection errors of the verifier, and how long it pauses after each.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

use crate::transport::innermost;

/// The longest pause while the server may recover by itself.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause if an operator must change something first.
const MAX_PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// Why the verifier cannot follow the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FollowError {
    /// The server is down, or ended the stream. Retrying helps.
    Away(String),
    /// The server refuses the credential.
    Refused(String),
}

impl FollowError {
    pub(super) fn away(why: impl Into<String>) -> Self {
        Self::Away(why.into())
    }

    pub(super) fn into_words(self) -> String {
        match self {
            Self::Away(words) | Self::Refused(words) => words,
        }
    }

    /// The longest pause before another attempt.
    pub(super) fn max_pause(&self) -> Duration {
        match self {
            Self::Away(_) => MAX_PAUSE,
            Self::Refused(_) => MAX_PAUSE_REFUSED,
        }
    }
}

impl From<Status> for FollowError {
    fn from(status: Status) -> Self {
        // A transport error has a cause that says more.
        let words = match status.source() {
            Some(cause) => innermost(cause),
            None => status.message().to_owned(),
        };
        match status.code() {
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unimplemented => Self::Refused(words),
            code => Self::Away(format!("{words} ({code:?})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_credential_is_retried_less_often() {
        let [refused, away] = [FollowError::Refused, FollowError::Away].map(|of| of(String::new()));
        assert!(refused.max_pause() > away.max_pause());
    }

    #[test]
    fn lasting_errors_are_distinguished_from_passing_ones() {
        let refused =
            |code| matches!(FollowError::from(Status::new(code, "")), FollowError::Refused(_));
        assert!(refused(Code::Unauthenticated) && refused(Code::PermissionDenied));
        assert!(!refused(Code::Unavailable) && !refused(Code::ResourceExhausted));
    }
}
