//! Bounds the number of streams.

use std::net::IpAddr;
use std::sync::Arc;

use super::places::{Permit, StreamPlaces};
use crate::domain::Source;
use crate::error::Result;
use crate::service::auth::Caller;

/// How many streams of one kind callers that may verify tokens can have, in all and of one
/// application: a leaked credential takes a part, not all.
const MAX_KNOWN: usize = 4096;
const MAX_OF_APPLICATION: usize = MAX_KNOWN / 4;
/// How many anonymous streams there may be, in all and from one source.
const MAX_ANONYMOUS: usize = 2048;
const MAX_OF_SOURCE: usize = 64;
/// How many streams of audit events there may be, in all and of one application. Each reads the
/// database at every heartbeat.
const MAX_AUDIT: usize = 64;
const MAX_AUDIT_OF_APPLICATION: usize = MAX_AUDIT / 4;

/// Places for streams. Each kind has its own, and so have anonymous streams: those need no
/// permission, and must not keep others out.
#[derive(Debug)]
pub(super) struct Watchers {
    revocations: Arc<StreamPlaces<String>>,
    jwks: Arc<StreamPlaces<String>>,
    anonymous_jwks: Arc<StreamPlaces<Option<Source>>>,
    audit: Arc<StreamPlaces<String>>,
}

impl Default for Watchers {
    fn default() -> Self {
        let known = || Arc::new(StreamPlaces::new(MAX_KNOWN, MAX_OF_APPLICATION));
        let anonymous = Arc::new(StreamPlaces::new(MAX_ANONYMOUS, MAX_OF_SOURCE));
        let audit = Arc::new(StreamPlaces::new(MAX_AUDIT, MAX_AUDIT_OF_APPLICATION));
        Self { revocations: known(), jwks: known(), anonymous_jwks: anonymous, audit }
    }
}

impl Watchers {
    /// How many streams of revocations there are.
    pub(super) fn revocations_taken(&self) -> usize {
        self.revocations.taken()
    }

    pub(super) fn revocations(&self, caller: &Caller) -> Result<Permit> {
        self.revocations.take(caller.service(), "streams of this application")
    }

    pub(super) fn audit(&self, caller: &Caller) -> Result<Permit> {
        self.audit.take(caller.service(), "streams of audit events of this application")
    }

    pub(super) fn jwks(&self, caller: Option<&Caller>, source: Option<IpAddr>) -> Result<Permit> {
        match caller {
            Some(caller) if caller.require_verifier().is_ok() => {
                self.jwks.take(caller.service(), "streams of this application")
            }
            _ => {
                let source = source.map(Source::of);
                self.anonymous_jwks.take(source, "anonymous streams from this address")
            }
        }
    }
}
