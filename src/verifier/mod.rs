//! An offline verifier for services that check access tokens themselves: in microseconds, without a
//! call per token. It connects to Keyward with a credential, follows the published keys and the
//! revocation list, and verifies tokens with them.
//!
//! The verifier is an ordinary client of Keyward. It does not depend on server modules, and server
//! modules do not depend on it.
//!
//! # TLS
//!
//! An `https://` address uses the certificates that this machine trusts, or the file
//! [`Settings::ca`]; [`Settings::client_certificate`] is for servers that require one. An `http://`
//! address of another machine is refused, unless [`Settings::allow_plaintext`] is set.
//!
//! # With tonic
//!
//! ```no_run
//! use keyward::proto::access::key_service_server::{KeyService, KeyServiceServer};
//! use keyward::verifier::{Settings, Verified, Verifier, VerifierCredential};
//!
//! # async fn serve<S: KeyService>(my_service: S) -> Result<(), Box<dyn std::error::Error>> {
//! let credential = VerifierCredential::client_secret("…", "kws_…");
//! let verifier = Verifier::connect(Settings::new(
//!     "https://keyward.internal:50051",
//!     credential,
//!     "https://id.example.com",
//!     "https://api.example.com",
//! ))
//! .await?;
//!
//! // Every call needs a valid token with these scopes. Handlers find it in the extensions:
//! // `request.extensions().get::<Verified>()`.
//! let service = KeyServiceServer::with_interceptor(
//!     my_service,
//!     verifier.interceptor(&["calls.read"]),
//! );
//! # let _ = (service, None::<Verified>);
//! # Ok(())
//! # }
//! ```
//!
//! # With axum
//!
//! ```no_run
//! use axum::routing::get;
//! use axum::{Extension, Router};
//! use keyward::verifier::{Verified, Verifier};
//!
//! async fn calls(Extension(token): Extension<Verified>) -> String {
//!     format!("calls of {}", token.tenant())
//! }
//!
//! fn router(verifier: &Verifier) -> Router {
//!     Router::new().route("/v1/calls", get(calls)).layer(verifier.layer(&["calls.read"]))
//! }
//! ```
//!
//! # When a revocation takes effect
//!
//! Within [`Settings::max_lag`] (default 5 s) after Keyward has acknowledged it, and usually within
//! milliseconds. [`Verifier::lag`] returns the age of the data: the server's own staleness in its
//! last message, plus the time since that message. The server sends a message each second. The time
//! that a message needs to arrive is not included, but a message after a silence of more than 3 s
//! does not count as current.
//!
//! If the feed is lost (Keyward or the network is down, or the credential was deleted), tokens are
//! verified until the data is older than `max_lag`. Then valid tokens are refused with
//! [`Refusal::FeedLost`]. That is an error of the service and not of the client: 503,
//! `UNAVAILABLE`. A service that prefers to accept tokens which may have been revoked sets
//! [`WhenLost::RefuseAfter`]. The verifier reconnects by itself and resumes.
//!
//! # Keys
//!
//! Keys are streamed over the same connection. While the server refuses that (too many streams, a
//! proxy without support for streams), they are requested about twice per cache lifetime, and the
//! verifier keeps trying to stream them. Keys are published ten minutes before their first use, so
//! no valid token is refused meanwhile. The exception is a key that replaces a revoked one: it signs
//! at once, and its tokens are refused with [`Refusal::UnknownKey`] until the stream brings it, which
//! takes a second at most.
//!
//! A key set replaces the one before as a whole. A revoked key is on the revocation list too, so that
//! its tokens are refused even if the key set is old.
//!
//! # Bound tokens
//!
//! A token with the claim `cnf` is bound to a client certificate (RFC 8705) or a key (`DPoP`, RFC
//! 9449): alone it proves nothing. [`Verifier::verify`] refuses it. [`Verifier::verify_bound`] takes
//! the certificate of the connection and the proof of the key, and so do the layer and the
//! interceptor, from a [`SenderProof`] among the extensions of the request.
//!
//! # Limitations
//!
//! - *Limits.* Requests that are verified here do not count against limits, and do not update the
//!   last use of a credential. Endpoint rules are not evaluated.
//! - *API keys.* Only Keyward can verify them ([`Refusal::ApiKey`]). A service that receives API
//!   keys calls `AccessService.CheckAccess`, which also accepts tokens.
//! - *Proofs.* A verifier keeps no memory of `DPoP` proofs, which the instances of a service could
//!   not share: within 70 s, one can be used again for the same method, URL and token. A service
//!   that must accept each once calls `AccessService.CheckAccess`.
//! - *Additions.* A token contains what its application had when it was issued. Removing something
//!   revokes the token; additions appear in the next token.

#![warn(missing_docs)]

mod connector;
mod feed;
mod follower;
mod gate;
mod interceptor;
mod knowledge;
mod layer;
mod link;
mod sender_proof;
mod settings;
mod trouble;
mod verified;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use interceptor::VerifierInterceptor;
pub use layer::{VerifierLayer, VerifierService};
pub use sender_proof::SenderProof;
pub use settings::{ServerAddress, Settings, StartError, VerifierCredential, WhenLost};
pub use verified::{InsufficientScope, Refusal, Verified};

use crate::clock::{Clock, SteadyTime};
use crate::keys::{Rejection, jwt};
use crate::secrets::Prefixes;
pub use crate::transport::CertificateFiles;
use follower::{Follower, Progress};
use knowledge::{Keys, Knowledge};
use link::BearerSource;
use trouble::FollowError;

/// Verifies access tokens. Clones share the connection and the data. The connection is closed when
/// the last clone is dropped.
#[derive(Clone)]
pub struct Verifier(Arc<VerifierInner>);

struct VerifierInner {
    knowledge: Arc<Knowledge>,
    progress: watch::Receiver<Progress>,
    issuer: String,
    audience: String,
    prefixes: Prefixes,
    clock: Clock,
    max_lag: Duration,
    /// The maximum age of the data.
    oldest: Duration,
    _follower: DropGuard,
}

impl Verifier {
    /// Connects, and waits at most [`Settings::ready_within`] until keys and revocations are read.
    /// Returns immediately with an error if Keyward refuses the credential.
    pub async fn connect(settings: Settings) -> Result<Self, StartError> {
        let within = settings.ready_within;
        let verifier = Self::start(settings)?;
        verifier.ready(within).await?;
        Ok(verifier)
    }

    /// Starts to connect without waiting. Every token is refused until the verifier is ready. For
    /// services that must start even if Keyward is down.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let connector = settings.check()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let (oldest, stop) = (settings.oldest(), CancellationToken::new());
        let knowledge = Arc::new(Knowledge::empty(&settings.clock));
        let (sender, progress) = watch::channel(Progress::default());
        let follower = Follower {
            connector,
            authorization: BearerSource::new(settings.credential, settings.clock.clone()),
            knowledge: Arc::clone(&knowledge),
            progress: sender,
            // Setting the clock ahead must not remove revocations.
            steady: SteadyTime::new(settings.clock.clone()),
            place: std::sync::Mutex::default(),
        };
        let stopped = stop.clone();
        runtime.spawn(async move { stopped.run_until_cancelled(follower.run()).await });
        Ok(Self(Arc::new(VerifierInner {
            knowledge,
            progress,
            issuer: settings.issuer,
            audience: settings.audience,
            prefixes: Prefixes { api_key: settings.api_key_prefix, ..Prefixes::default() },
            clock: settings.clock,
            max_lag: settings.max_lag,
            oldest,
            _follower: stop.drop_guard(),
        })))
    }

    /// Waits until keys and revocations are read.
    pub async fn ready(&self, within: Duration) -> Result<(), StartError> {
        let mut progress = self.0.progress.clone();
        let decided = progress.wait_for(|progress| {
            progress.ready || matches!(progress.trouble, Some(FollowError::Refused(_)))
        });
        // The sender lives as long as this verifier, so the channel cannot be closed.
        let _ = timeout(within, decided).await;
        let Progress { ready, trouble, keys_trouble } = progress.borrow().clone();
        match trouble {
            _ if ready => Ok(()),
            Some(FollowError::Refused(why)) => Err(StartError::Refused(why)),
            trouble => {
                let nothing = || "the server has not answered yet".to_owned();
                let cause = trouble.or(keys_trouble).map_or_else(nothing, FollowError::into_words);
                Err(StartError::NotReady { waited: within, cause })
            }
        }
    }

    /// Verifies an access token without I/O: its form and signature, its claims, and the
    /// revocations. Refuses a token that is bound to a certificate or a key: see
    /// [`Self::verify_bound`].
    pub fn verify(&self, token: &str) -> Result<Verified, Refusal> {
        self.verify_bound(token, &SenderProof::default())
    }

    /// Like [`Self::verify`], for a sender that proved to have this. A token that is bound to it is
    /// accepted, and one that is bound to nothing is, too.
    pub fn verify_bound(&self, token: &str, presented: &SenderProof) -> Result<Verified, Refusal> {
        let VerifierInner { knowledge, prefixes, issuer, audience, clock, .. } = &*self.0;
        if prefixes.looks_like_api_key(token) {
            return Err(Refusal::ApiKey);
        }
        let keys = knowledge.keys();
        self.require_keys(&keys)?;
        let (claims, key) = match jwt::verify(token, keys.iter(), issuer, clock.now()) {
            Ok(verified) => verified,
            // The key may have been published since the last update.
            Err(Rejection::UnknownKey) => return Err(self.unknown_key()),
            Err(rejection) => return Err(rejection.into()),
        };
        if !claims.aud.as_slice().contains(audience) {
            return Err(Refusal::WrongAudience);
        }
        presented.require(claims.cnf.as_deref(), token, clock.now())?;
        let token = Verified::new(claims, &key.jwk.kid);
        self.require_unrevoked(&token)?;
        Ok(token)
    }

    /// Checks the expiry and revocation of a verified token again, for long requests such as
    /// streams, and that its key is still published.
    pub fn recheck(&self, token: &Verified) -> Result<(), Refusal> {
        token.check_time(self.0.clock.now())?;
        let keys = self.0.knowledge.keys();
        self.require_keys(&keys)?;
        if !keys.iter().any(|key| key.jwk.kid == token.kid()) {
            return Err(self.unknown_key());
        }
        self.require_unrevoked(token)
    }

    /// The age of the revocation data. [`Duration::MAX`] until it was read once.
    pub fn lag(&self) -> Duration {
        self.0.knowledge.lag().unwrap_or(Duration::MAX)
    }

    /// The number of revocations in memory.
    pub fn revocations(&self) -> usize {
        self.0.knowledge.index.len()
    }

    /// Returns an error if there are no keys, or they are too old.
    fn require_keys(&self, keys: &Keys) -> Result<(), Refusal> {
        if keys.is_empty() {
            return Err(Refusal::NotReady);
        }
        let overdue = self.0.knowledge.keys_overdue(keys);
        if overdue > self.0.oldest {
            return Err(Refusal::FeedLost { lag: overdue });
        }
        Ok(())
    }

    fn unknown_key(&self) -> Refusal {
        match self.0.knowledge.lag() {
            Some(lag) if lag > self.0.max_lag => Refusal::FeedLost { lag },
            _ => Refusal::UnknownKey,
        }
    }

    fn require_unrevoked(&self, token: &Verified) -> Result<(), Refusal> {
        let knowledge = &self.0.knowledge;
        // Read before the list, so that the list is at least as recent.
        let lag = knowledge.lag();
        if knowledge.index.revokes(&token.revocation_keys()) {
            return Err(Refusal::Revoked);
        }
        match lag {
            None => Err(Refusal::NotReady),
            Some(lag) if lag > self.0.oldest => Err(Refusal::FeedLost { lag }),
            Some(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .field("lag", &self.0.knowledge.lag())
            .finish_non_exhaustive()
    }
}
