//! The offline verifier, for services that check access tokens themselves: in microseconds,
//! without a call for each. Given Keyward's address and a credential, it follows the published
//! keys and the list of what was revoked, and checks tokens by them.
//!
//! It is a client of Keyward's like any other and knows nothing of the server; nothing of the
//! server knows it.
//!
//! # With tonic
//!
//! ```no_run
//! use keyward::proto::access::key_service_server::{KeyService, KeyServiceServer};
//! use keyward::verifier::{Access, Settings, Verified, Verifier};
//!
//! # async fn serve<S: KeyService>(my_service: S) -> Result<(), Box<dyn std::error::Error>> {
//! let access = Access::client_secret("…", "kws_…");
//! let verifier = Verifier::connect(Settings::new(
//!     "https://keyward.internal:50051",
//!     access,
//!     "https://id.example.com",
//!     "https://api.example.com",
//! ))
//! .await?;
//!
//! // Every call needs a good token with these scopes; a handler finds it in the extensions:
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
//! # How late a revocation is applied
//!
//! Within [`Settings::max_lag`], 5 s unless it is set otherwise, from when Keyward has
//! acknowledged it; as a rule within milliseconds. [`Verifier::lag`] tells how old the knowledge
//! is: how old the server's own was when it last spoke, which it does each second, and how long
//! ago that is. What it cannot tell is how long the message was on its way; a message that comes
//! after a silence of more than 3 s is not taken for a new one.
//!
//! When the feed is lost (Keyward or the way to it is down, the credential was deleted),
//! everything goes on for what is left of `max_lag`. Then tokens that would be good are refused
//! with [`Refusal::FeedLost`], as a fault of ours and not the client's: 503, `UNAVAILABLE`. A
//! service for which that is worse than a token that should not be taken any more sets
//! [`WhenLost::RefuseAfter`]. The verifier connects again by itself, and goes on where it was.
//!
//! # Keys
//!
//! The keys are watched over the same connection. While the server refuses that (too many
//! streams, a proxy that knows no streams), they are asked for, about twice in the time that they
//! may be kept, and the verifier goes on trying to watch them. A key is published ten minutes
//! before it signs, so nothing good is refused meanwhile.
//!
//! # What it cannot know
//!
//! - *Limits.* Nothing is counted: requests that are checked here are not part of any limit, nor
//!   of what Keyward tells of the last use of a credential. Endpoint rules are not known either.
//! - *API keys.* Only Keyward can check them ([`Refusal::ApiKey`]). Services to which they are
//!   sent ask `AccessService.CheckAccess`, which takes tokens as well.
//! - *What was given since.* A token says what its application had when it was made. Whatever is
//!   taken away revokes it; what is given shows in the next one.

mod feed;
mod follower;
mod gate;
mod interceptor;
mod knowledge;
mod layer;
mod link;
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
pub use settings::{Access, Server, Settings, StartError, WhenLost};
pub use verified::{InsufficientScope, Refusal, Verified};

use crate::clock::{Clock, SteadyTime};
use crate::keys::{Rejection, jwt};
use crate::secrets::Prefixes;
use follower::{Follower, Progress};
use knowledge::{Keys, Knowledge};
use link::Authorization;
use trouble::Trouble;

/// Checks access tokens. Cheap to clone; clones share what they know. When the last one is
/// dropped, its connection ends.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    knowledge: Arc<Knowledge>,
    progress: watch::Receiver<Progress>,
    issuer: String,
    audience: String,
    prefixes: Prefixes,
    clock: Clock,
    max_lag: Duration,
    /// The oldest knowledge that tokens are taken on.
    oldest: Duration,
    _follower: DropGuard,
}

impl Verifier {
    /// A verifier that is ready: it has the keys and all that is revoked. Waits for them for
    /// [`Settings::ready_within`], and not at all if Keyward does not let it in.
    pub async fn connect(settings: Settings) -> Result<Self, StartError> {
        let within = settings.ready_within;
        let verifier = Self::start(settings)?;
        verifier.ready(within).await?;
        Ok(verifier)
    }

    /// A verifier that begins to get ready, and refuses every token until it is: for services
    /// that must start when Keyward is away too.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let endpoint = settings.check()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let (oldest, stop) = (settings.oldest(), CancellationToken::new());
        let knowledge = Arc::new(Knowledge::nothing());
        let (sender, progress) = watch::channel(Progress::default());
        let follower = Follower {
            endpoint,
            authorization: Authorization::new(settings.access),
            knowledge: Arc::clone(&knowledge),
            progress: sender,
            // A clock that is set ahead makes it forget nothing.
            steady: SteadyTime::new(settings.clock.clone()),
            place: std::sync::Mutex::default(),
        };
        let stopped = stop.clone();
        runtime.spawn(async move { stopped.run_until_cancelled(follower.run()).await });
        Ok(Self(Arc::new(Inner {
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

    /// Waits until there are keys and all that is revoked is known.
    pub async fn ready(&self, within: Duration) -> Result<(), StartError> {
        let mut progress = self.0.progress.clone();
        let decided = progress.wait_for(|progress| {
            progress.ready || matches!(progress.trouble, Some(Trouble::Refused(_)))
        });
        // The one who reports lives as long as this verifier.
        let _ = timeout(within, decided).await;
        let Progress { ready, trouble, keys_trouble } = progress.borrow().clone();
        match trouble {
            _ if ready => Ok(()),
            Some(Trouble::Refused(why)) => Err(StartError::Refused(why)),
            trouble => {
                let nothing = || "the server has not answered yet".to_owned();
                let cause = trouble.or(keys_trouble).map_or_else(nothing, Trouble::into_words);
                Err(StartError::NotReady { waited: within, cause })
            }
        }
    }

    /// Checks an access token, as it stands behind `Bearer`: by itself, by the keys, and by
    /// what was revoked. Asks nobody and waits for nothing.
    pub fn verify(&self, token: &str) -> Result<Verified, Refusal> {
        let Inner { knowledge, prefixes, issuer, audience, clock, .. } = &*self.0;
        if prefixes.looks_like_api_key(token) {
            return Err(Refusal::ApiKey);
        }
        let keys = knowledge.keys();
        self.require_keys(&keys)?;
        let claims = match jwt::verify(token, keys.iter(), issuer, clock.now()) {
            Ok((claims, _)) => claims,
            // It may be one that was published since.
            Err(Rejection::UnknownKey) => return Err(self.unknown_key()),
            Err(rejection) => return Err(rejection.into()),
        };
        if !claims.aud.as_slice().contains(audience) {
            return Err(Refusal::WrongAudience);
        }
        let token = Verified::new(claims);
        self.require_unrevoked(&token)?;
        Ok(token)
    }

    /// Checks again a token that was found good: for requests that take long, such as streams.
    pub fn recheck(&self, token: &Verified) -> Result<(), Refusal> {
        token.check_time(self.0.clock.now())?;
        self.require_unrevoked(token)
    }

    /// How old the knowledge of what was revoked is. Without end until all of it was read once.
    pub fn lag(&self) -> Duration {
        self.0.knowledge.lag().unwrap_or(Duration::MAX)
    }

    /// How many revocations are held.
    pub fn revocations(&self) -> usize {
        self.0.knowledge.index.len()
    }

    /// Refuses when there are no keys, or when there may be others by now.
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
        // Before the list is looked at, so that it is never taken to be younger than it is.
        let lag = knowledge.lag();
        if knowledge.index.revokes(&token.minted()) {
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
