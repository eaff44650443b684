//! Connection errors of the verifier, and the pauses between attempts.

use std::error::Error as _;
use std::time::Duration;

use tokio::time::sleep;
use tonic::{Code, Status};

use crate::secrets::random;
use crate::transport::innermost;

/// The first pause before another attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
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

    fn max_pause(&self) -> Duration {
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

/// Pauses that double, each [`jittered`].
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    pub(super) async fn pause(&mut self, why: &FollowError) {
        sleep(self.next(why)).await;
    }

    pub(super) fn next(&mut self, why: &FollowError) -> Duration {
        let whole = self.0.min(why.max_pause());
        self.0 = (whole * 2).min(why.max_pause());
        jittered(whole)
    }
}

/// A random duration between half of `whole` and `whole`, so that verifiers do not reconnect at the
/// same time.
pub(super) fn jittered(whole: Duration) -> Duration {
    let mut chance = [u8::MAX];
    // If the generator fails, the pauses are equal. That is no reason to give up.
    random::fill(&mut chance).ok();
    whole / 2 + (whole / 2).mul_f64(f64::from(chance[0]) / f64::from(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_that_depends_on_the_error() {
        let mut backoff = Backoff::default();
        for (why, longest) in [
            (FollowError::Refused(String::new()), MAX_PAUSE_REFUSED),
            (FollowError::Away(String::new()), MAX_PAUSE),
        ] {
            let pauses: Vec<_> = (0..20).map(|_| backoff.next(&why)).collect();
            let last = *pauses.last().unwrap();
            assert!(last >= longest / 2 && last <= longest, "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2), "{pauses:?}");
        }
    }

    #[test]
    fn lasting_errors_are_distinguished_from_passing_ones() {
        let refused =
            |code| matches!(FollowError::from(Status::new(code, "")), FollowError::Refused(_));
        assert!(refused(Code::Unauthenticated) && refused(Code::PermissionDenied));
        assert!(!refused(Code::Unavailable) && !refused(Code::ResourceExhausted));
    }
}
