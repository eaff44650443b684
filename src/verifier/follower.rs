//! Keeps the verifier's data up to date: connects, reads keys and revocations, resumes after a
//! disconnect, and renews the access token before it expires.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use super::connector::ServerConnector;
use super::feed::FeedPosition;
use super::knowledge::{Keys, Knowledge};
use super::link::{BearerSource, ServerLink};
use super::trouble::FollowError;
use crate::backoff::{Backoff, jittered};
use crate::clock::{SteadyTime, Stopwatch};
use crate::proto::access::{GetJwksResponse, WatchJwksResponse, WatchRevocationsResponse};
use crate::secrets::Secret;
use crate::transport::ProtocolProbe;

/// The server sends a message each second. After this silence the connection is closed. A message
/// that arrives later may have been delayed, so it is not treated as current.
const SILENCE: Duration = Duration::from_secs(3);
/// A session of this length resets the backoff.
const STEADY: Duration = Duration::from_secs(10);
/// How long an unconfirmed key set may be used, if the server does not say.
const DEFAULT_MAX_AGE: Duration = Duration::from_mins(5);

/// The state that [`Verifier::ready`](super::Verifier::ready) waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Keys and revocations have been read.
    pub(super) ready: bool,
    /// Why revocations are not followed; `None` while they are.
    pub(super) trouble: Option<FollowError>,
    /// Why keys are not followed; `None` while they are.
    pub(super) keys_trouble: Option<FollowError>,
}

/// The task that keeps the data up to date.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) connector: ServerConnector,
    pub(super) authorization: BearerSource,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) steady: SteadyTime,
    pub(super) place: Mutex<FeedPosition>,
}

/// A stream of revocations.
struct RevocationStream {
    messages: Streaming<WatchRevocationsResponse>,
    bearer: Secret,
    /// The time of the request, until the first message arrives: the message is not older than
    /// that.
    asked: Option<Duration>,
    /// Since the last message.
    silent: Stopwatch,
}

impl Follower {
    /// Runs until the task is cancelled.
    pub(super) async fn run(self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut probe = ProtocolProbe::default();
        loop {
            let session = Stopwatch::start();
            let trouble = match self.session(&probe).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            self.knowledge.lose_keys();
            self.note_feed_error(&trouble);
            if session.elapsed() > STEADY {
                backoff = Backoff::default();
                probe = ProtocolProbe::default();
            }
            backoff.pause(trouble.max_pause()).await;
        }
    }

    /// Runs until the connection fails.
    async fn session(&self, probe: &ProtocolProbe) -> Result<Infallible, FollowError> {
        let link = ServerLink::open(&self.connector, probe).await?;
        tokio::select! {
            trouble = self.follow_revocations(&link) => trouble,
            never = Box::pin(self.follow_keys(&link)) => match never {},
        }
    }

    async fn follow_revocations(&self, link: &ServerLink) -> Result<Infallible, FollowError> {
        let mut stream = self.begin(link).await?;
        self.place().begin();
        let mut renewed = Box::pin(self.renewed(link));
        loop {
            tokio::select! {
                message = stream.next() => {
                    let message =
                        message.map_err(|status| self.stream_error(status, &stream.bearer))?;
                    self.apply(message, &mut stream)?;
                }
                fresh = &mut renewed => {
                    stream = fresh;
                    self.place().begin();
                    renewed.set(self.renewed(link));
                }
            }
        }
    }

    /// Applies a message.
    fn apply(
        &self,
        message: WatchRevocationsResponse,
        stream: &mut RevocationStream,
    ) -> Result<(), FollowError> {
        let sent = stream.asked.take().unwrap_or_else(|| self.knowledge.now());
        let mut place = self.place();
        let taken = place.take(message, &self.knowledge, sent, self.steady.now());
        if let Err(broken) = taken {
            place.lose();
            return Err(FollowError::Refused(broken.to_string()));
        }
        drop(place);
        self.feed_followed();
        Ok(())
    }

    /// Starts a stream from the current position.
    async fn begin(&self, link: &ServerLink) -> Result<RevocationStream, FollowError> {
        let bearer = self.authorization.bearer(link).await?;
        let asked = self.knowledge.now();
        let cursor = self.place().cursor();
        let stream = link.watch_revocations(cursor, &bearer).await;
        Ok(RevocationStream {
            messages: stream.map_err(|status| self.stream_error(status, &bearer))?,
            bearer,
            asked: Some(asked),
            silent: Stopwatch::start(),
        })
    }

    /// Starts a stream with a new token when the current token is about to expire. The old stream
    /// is used until then.
    async fn renewed(&self, link: &ServerLink) -> RevocationStream {
        let mut backoff = Backoff::default();
        loop {
            self.authorization.wait_for_renewal().await;
            match self.begin(link).await {
                Ok(stream) => return stream,
                Err(trouble) => backoff.pause(trouble.max_pause()).await,
            }
        }
    }

    /// Interprets the status with which the server ended or refused a stream.
    fn stream_error(&self, status: Status, bearer: &Secret) -> FollowError {
        match status.code() {
            // The token has expired or was revoked. A new one may be accepted.
            Code::Unauthenticated => self.authorization.forget(bearer),
            // The cursor is too old, or belongs to another list.
            Code::OutOfRange | Code::InvalidArgument => self.place().lose(),
            _ => {}
        }
        FollowError::from(status)
    }

    /// Keeps the keys up to date. While the server refuses to stream them, they are requested
    /// periodically.
    async fn follow_keys(&self, link: &ServerLink) -> Infallible {
        let mut backoff = Backoff::default();
        let mut due = Duration::ZERO;
        loop {
            let session = Stopwatch::start();
            let trouble = match self.watch_keys(link).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            self.knowledge.lose_keys();
            let mut cause = format!("keys cannot be streamed: {}", trouble.clone().into_words());
            if session.elapsed() > STEADY {
                backoff = Backoff::default();
            }
            let mut pause = backoff.next(trouble.max_pause());
            if self.knowledge.now() >= due {
                match self.request_keys(link).await {
                    Ok(max_age) => due = self.knowledge.now() + jittered(max_age / 2),
                    Err(trouble) => {
                        let words = trouble.into_words();
                        cause = format!("{cause}; requesting them failed too: {words}");
                    }
                }
            }
            self.note_keys_error(FollowError::Away(cause));
            let left = due.saturating_sub(self.knowledge.now());
            if !left.is_zero() {
                pause = pause.min(left);
            }
            sleep(pause).await;
        }
    }

    /// Streams the keys, renewing the stream with each new token.
    async fn watch_keys(&self, link: &ServerLink) -> Result<Infallible, FollowError> {
        loop {
            let bearer = self.authorization.bearer(link).await?;
            let stream_error = |status: Status| {
                if status.code() == Code::Unauthenticated {
                    self.authorization.forget(&bearer);
                }
                FollowError::from(status)
            };
            let mut stream = link.watch_keys(&bearer).await.map_err(stream_error)?;
            // The server sends the keys immediately.
            let first = timeout(SILENCE, stream.message()).await;
            let late = |_| FollowError::away("the server started a key stream and sent no keys");
            let mut message = first.map_err(late)?;
            let mut end = pin!(self.authorization.wait_for_renewal());
            loop {
                let sent = message.map_err(stream_error)?;
                let sent =
                    sent.ok_or_else(|| FollowError::away("the server ended the key stream"))?;
                let WatchJwksResponse { jwks, max_age } = sent;
                self.take_keys(&jwks, max_age)?;
                self.keys_followed();
                tokio::select! {
                    next = stream.message() => message = next,
                    // The next stream starts with the current keys.
                    () = &mut end => break,
                }
            }
        }
    }

    /// Requests the keys once. Returns how long they may be cached.
    async fn request_keys(&self, link: &ServerLink) -> Result<Duration, FollowError> {
        let GetJwksResponse { jwks, max_age, .. } = link.keys(self.authorization.held()).await?;
        let max_age = self.take_keys(&jwks, max_age)?;
        self.knowledge.lose_keys();
        self.report();
        Ok(max_age)
    }

    /// Stores a current key set. Returns how long it may be cached.
    fn take_keys(
        &self,
        jwks: &str,
        max_age: Option<prost_types::Duration>,
    ) -> Result<Duration, FollowError> {
        let max_age = max_age.and_then(|age| Duration::try_from(age).ok());
        let max_age = max_age.unwrap_or(DEFAULT_MAX_AGE);
        let keys = Keys::parse(jwks, max_age).filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| FollowError::away("the server publishes no usable key"))?;
        self.knowledge.take_keys(keys);
        Ok(max_age)
    }

    fn place(&self) -> MutexGuard<'_, FeedPosition> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that revocations or keys have been read.
    fn report(&self) {
        let ready = self.knowledge.is_complete();
        self.progress.send_if_modified(|progress| {
            let news = progress.ready != ready;
            progress.ready = ready;
            news
        });
    }

    /// Notes that revocations are followed.
    fn feed_followed(&self) {
        self.progress.send_if_modified(|progress| {
            let again = progress.trouble.take().is_some();
            if again {
                tracing::info!("revocations are followed again");
            }
            again
        });
        self.report();
    }

    /// Notes that revocations are not followed. Logged when it starts, and when the reason changes.
    fn note_feed_error(&self, trouble: &FollowError) {
        self.progress.send_if_modified(|progress| {
            let news = progress.trouble.as_ref() != Some(trouble);
            if news {
                let cause = trouble.clone().into_words();
                tracing::warn!(cause, "revocations are not followed");
                progress.trouble = Some(trouble.clone());
            }
            news
        });
    }

    /// Notes that keys are followed.
    fn keys_followed(&self) {
        self.progress.send_if_modified(|progress| {
            let again = progress.keys_trouble.take().is_some();
            if again {
                tracing::info!("keys are followed again");
            }
            again
        });
        self.report();
    }

    /// Notes that keys are not followed. Logged like [`note_feed_error`](Self::note_feed_error).
    fn note_keys_error(&self, trouble: FollowError) {
        self.progress.send_if_modified(|progress| {
            let news = progress.keys_trouble.as_ref() != Some(&trouble);
            if news {
                tracing::warn!(cause = trouble.clone().into_words(), "keys are not followed");
                progress.keys_trouble = Some(trouble);
            }
            news
        });
    }
}

impl RevocationStream {
    /// The next message.
    async fn next(&mut self) -> Result<WatchRevocationsResponse, Status> {
        match timeout(SILENCE, self.messages.message()).await {
            // The process may have been suspended, so the message may be that old.
            Ok(Ok(Some(_))) if self.silent.elapsed() > SILENCE => {
                Err(Status::unavailable("the stream was not read for a while"))
            }
            Ok(Ok(Some(message))) => {
                self.silent = Stopwatch::start();
                Ok(message)
            }
            Ok(Ok(None)) => Err(Status::unavailable("the server ended the stream")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::unavailable("the server sends no messages")),
        }
    }
}
