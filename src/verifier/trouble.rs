//! Why the feed is not followed for the moment, and how long to wait before another attempt.

use std::error::Error as _;
use std::time::Duration;

use tokio::time::sleep;
use tonic::{Code, Status};

use crate::secrets::random;
use crate::transport::innermost;

/// The first pause before another attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest while the server may come back any moment.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest where somebody has to do something first.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// Why the feed is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server is away, or sends us away; it will come back by itself.
    Away(String),
    /// The server does not let us in.
    Refused(String),
}

impl Trouble {
    pub(super) fn away(why: impl Into<String>) -> Self {
        Self::Away(why.into())
    }

    pub(super) fn into_words(self) -> String {
        match self {
            Self::Away(words) | Self::Refused(words) => words,
        }
    }

    fn longest_pause(&self) -> Duration {
        match self {
            Self::Away(_) => LONGEST_PAUSE,
            Self::Refused(_) => LONGEST_PAUSE_REFUSED,
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        // What the transport says of itself has a cause, which says more.
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
    pub(super) async fn pause(&mut self, why: &Trouble) {
        sleep(self.next(why)).await;
    }

    pub(super) fn next(&mut self, why: &Trouble) -> Duration {
        let whole = self.0.min(why.longest_pause());
        self.0 = (whole * 2).min(why.longest_pause());
        jittered(whole)
    }
}

/// Between half and all of a pause, by chance, so that verifiers do not all come at once.
pub(super) fn jittered(whole: Duration) -> Duration {
    let mut chance = [u8::MAX];
    // Without randomness all come at once, which is worse and no reason to give up.
    random::fill(&mut chance).ok();
    whole / 2 + (whole / 2).mul_f64(f64::from(chance[0]) / f64::from(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_that_depends_on_the_trouble() {
        let mut backoff = Backoff::default();
        for (why, longest) in [
            (Trouble::Refused(String::new()), LONGEST_PAUSE_REFUSED),
            (Trouble::Away(String::new()), LONGEST_PAUSE),
        ] {
            let pauses: Vec<_> = (0..20).map(|_| backoff.next(&why)).collect();
            let last = *pauses.last().unwrap();
            assert!(last >= longest / 2 && last <= longest, "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2), "{pauses:?}");
        }
    }

    #[test]
    fn what_will_not_pass_by_itself_is_told_apart() {
        let refused = |code| matches!(Trouble::from(Status::new(code, "")), Trouble::Refused(_));
        assert!(refused(Code::Unauthenticated) && refused(Code::PermissionDenied));
        assert!(!refused(Code::Unavailable) && !refused(Code::ResourceExhausted));
    }
}
