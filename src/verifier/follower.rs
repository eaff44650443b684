//! Who keeps the knowledge up: connects, reads the keys and the list of revocations, goes on
//! where it was when the connection breaks, and proves itself anew before its token ends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use super::feed::Place;
use super::knowledge::{Keys, Knowledge};
use super::link::{Authorization, Link};
use super::trouble::{Backoff, Trouble};
use crate::clock::{Clock, Stopwatch};
use crate::proto::access::WatchRevocationsResponse;

/// There is a message each second: after so long a silence the connection is given up. What
/// comes late may have lain somewhere, and is not believed to be new.
const SILENCE: Duration = Duration::from_secs(3);
/// Who was served so long was not sent away: the next pause is a short one again.
const STEADY: Duration = Duration::from_secs(10);
/// How old a key set may become that nobody renews, if the server does not say.
const DEFAULT_MAX_AGE: Duration = Duration::from_mins(5);

/// How it goes, for whoever waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Keys and list have been read.
    pub(super) ready: bool,
    /// Why the feed is not followed; none while it is.
    pub(super) trouble: Option<Trouble>,
}

/// Whoever keeps the knowledge up.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) endpoint: Endpoint,
    pub(super) authorization: Authorization,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) clock: Clock,
    pub(super) place: Mutex<Place>,
}

/// A stream of revocations.
struct Revocations {
    messages: Streaming<WatchRevocationsResponse>,
    /// When it was asked for, until the first message came: that is not older.
    asked: Option<Duration>,
    /// Since the last message.
    silent: Stopwatch,
}

impl Follower {
    /// Follows for ever.
    pub(super) async fn run(self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let session = Stopwatch::start();
            let trouble = match self.session().await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            self.knowledge.lose_keys();
            self.tell(&trouble);
            if session.elapsed() > STEADY {
                backoff = Backoff::default();
            }
            backoff.pause(&trouble).await;
        }
    }

    /// Follows as long as the connection serves.
    async fn session(&self) -> Result<Infallible, Trouble> {
        let link = Link::open(&self.endpoint).await?;
        tokio::select! {
            trouble = self.follow_revocations(&link) => trouble,
            never = self.follow_keys(&link) => match never {},
        }
    }

    async fn follow_revocations(&self, link: &Link) -> Result<Infallible, Trouble> {
        let mut stream = self.begin(link).await?;
        self.place().begin();
        let mut renewed = Box::pin(self.renewed(link));
        loop {
            tokio::select! {
                message = stream.next() => {
                    let message = message.map_err(|status| self.sent_away(status))?;
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

    /// Takes in a message.
    fn apply(
        &self,
        message: WatchRevocationsResponse,
        stream: &mut Revocations,
    ) -> Result<(), Trouble> {
        let sent = stream.asked.take().unwrap_or_else(|| self.knowledge.now());
        let mut place = self.place();
        let taken = place.take(message, &self.knowledge, sent, self.clock.now());
        if let Err(broken) = taken {
            place.lose();
            return Err(Trouble::Refused(broken.to_string()));
        }
        drop(place);
        self.report();
        Ok(())
    }

    /// Begins to be told, from where we are.
    async fn begin(&self, link: &Link) -> Result<Revocations, Trouble> {
        let bearer = self.authorization.bearer(link).await?;
        let asked = self.knowledge.now();
        let cursor = self.place().cursor();
        let stream = link.watch_revocations(cursor, &bearer).await;
        Ok(Revocations {
            messages: stream.map_err(|status| self.sent_away(status))?,
            asked: Some(asked),
            silent: Stopwatch::start(),
        })
    }

    /// A stream under a new token, when the one there is comes near its end. Until then the
    /// old stream goes on.
    async fn renewed(&self, link: &Link) -> Revocations {
        let mut backoff = Backoff::default();
        loop {
            match self.authorization.lasts() {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
            match self.begin(link).await {
                Ok(stream) => return stream,
                Err(trouble) => backoff.pause(&trouble).await,
            }
        }
    }

    /// What it means that the server ended a stream, or did not begin it.
    fn sent_away(&self, status: Status) -> Trouble {
        match status.code() {
            // Expired, or revoked: with another one it may go on.
            Code::Unauthenticated => self.authorization.forget(),
            // The list goes on without us, or is another one.
            Code::OutOfRange | Code::InvalidArgument => self.place().lose(),
            _ => {}
        }
        Trouble::from(status)
    }

    /// Keeps the keys up, as long as there is a connection.
    async fn follow_keys(&self, link: &Link) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let session = Stopwatch::start();
            let trouble = match self.read_keys(link).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            self.knowledge.lose_keys();
            tracing::debug!(cause = trouble.clone().into_words(), "keys are not followed");
            if session.elapsed() > STEADY {
                backoff = Backoff::default();
            }
            backoff.pause(&trouble).await;
        }
    }

    async fn read_keys(&self, link: &Link) -> Result<Infallible, Trouble> {
        let mut stream = link.watch_keys().await?;
        loop {
            let Some(message) = stream.message().await? else {
                return Err(Trouble::away("it ended the stream of keys"));
            };
            let max_age = message.max_age.and_then(|age| Duration::try_from(age).ok());
            let keys = Keys::parse(&message.jwks, max_age.unwrap_or(DEFAULT_MAX_AGE));
            match keys.filter(|keys| !keys.is_empty()) {
                Some(keys) => self.knowledge.take_keys(keys),
                None => return Err(Trouble::away("it publishes no key that can be used")),
            }
            self.report();
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait that something was heard.
    fn report(&self) {
        let ready = self.knowledge.is_complete();
        self.progress.send_if_modified(|progress| {
            let news = progress.trouble.is_some() || progress.ready != ready;
            if progress.trouble.take().is_some() {
                tracing::info!("revocations are followed again");
            }
            progress.ready = ready;
            news
        });
    }

    /// Tells that the feed is not followed: the log hears of it when it begins, and when the
    /// reason is another one.
    fn tell(&self, trouble: &Trouble) {
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
}

impl Revocations {
    /// The next message.
    async fn next(&mut self) -> Result<WatchRevocationsResponse, Status> {
        match timeout(SILENCE, self.messages.message()).await {
            // The process may have stood still, and the message may be as old as that.
            Ok(Ok(Some(_))) if self.silent.elapsed() > SILENCE => {
                Err(Status::unavailable("nobody listened to it for a while"))
            }
            Ok(Ok(Some(message))) => {
                self.silent = Stopwatch::start();
                Ok(message)
            }
            Ok(Ok(None)) => Err(Status::unavailable("it ended the stream")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::unavailable("it says nothing any more")),
        }
    }
}
