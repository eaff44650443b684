//! Who keeps the link: connects, makes sure of it each second, and connects again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::RedisError;
use tokio::time::{error::Elapsed, sleep};
use tokio_util::sync::CancellationToken;

use super::connect::Connection;
use super::fault::needs_mending;
use super::{Link, Redis};
use crate::error::Cause;
use crate::secrets::random;

/// How often a link that works is made sure of.
const WATCH: Duration = Duration::from_secs(1);
/// The first pause before another attempt, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Redis does not answer; it may come back by itself.
    #[error("{0}")]
    Away(#[source] Cause),
    /// Redis answers, and is not fit to be relied on until somebody does something.
    #[error("{0}")]
    Unfit(String),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        if needs_mending(&error) {
            Self::Unfit(error.to_string())
        } else {
            Self::Away(Box::new(error))
        }
    }
}

impl From<Elapsed> for Trouble {
    fn from(elapsed: Elapsed) -> Self {
        Self::Away(elapsed.into())
    }
}

/// Pauses that double, each cut by chance to between half and all of it, so that the
/// replicas do not all come at once.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(PAUSES.0)
    }

    pub(super) async fn pause(&mut self) {
        let mut chance = [u8::MAX];
        // Without randomness all come at once, which is worse and no reason to give up.
        random::fill(&mut chance).ok();
        let half = self.0 / 2;
        sleep(half + half * u32::from(chance[0]) / u32::from(u8::MAX)).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}

/// What was last said of the link, so that it is said once.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Away,
    Unfit(String),
}

impl Redis {
    /// Connects once, for a server that starts: from then on the link is up, until
    /// [`Redis::run_link`] is told otherwise.
    pub async fn check_once(&self) -> Result<(), Trouble> {
        let connection = self.0.dialler.open().await?;
        self.take_up(connection);
        Ok(())
    }

    /// Keeps the link up until it is told to stop.
    pub async fn run_link(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut told = Told::Nothing;
        let mut backoff = Backoff::new();
        loop {
            let link = match self.link() {
                Some(link) => link,
                None => match self.0.dialler.open().await {
                    Ok(connection) => self.take_up(connection),
                    Err(trouble) => {
                        self.tell(&mut told, &trouble);
                        backoff.pause().await;
                        continue;
                    }
                },
            };
            told = Told::Nothing;
            if self.watch(&link).await {
                backoff = Backoff::new();
            } else {
                backoff.pause().await;
            }
        }
    }

    /// Watches a link until it is lost. Whether it was of use.
    async fn watch(&self, link: &Arc<Link>) -> bool {
        let mut of_use = false;
        loop {
            tokio::select! {
                () = link.down.cancelled() => return of_use,
                () = sleep(WATCH) => {}
            }
            let mut connection = link.connection.clone();
            if let Err(trouble) = self.0.dialler.examine(&mut connection).await {
                self.lose(link, &trouble);
                return of_use;
            }
            of_use = true;
        }
    }

    fn take_up(&self, connection: Connection) -> Arc<Link> {
        let down = CancellationToken::new();
        let link = Arc::new(Link { connection, lost: AtomicBool::new(false), down });
        *self.0.link.write().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        self.note_trouble(None);
        self.0.up.set(1);
        tracing::info!(redis = %self.0.dialler.url, "Redis is there");
        link
    }

    /// Gives up a link, once.
    pub(super) fn lose(&self, link: &Link, trouble: &Trouble) {
        if !link.lost.swap(true, Ordering::AcqRel) {
            self.0.up.set(0);
            link.down.cancel();
            self.note_trouble(Some(trouble));
            tracing::warn!(redis = %self.0.dialler.url, %trouble, "Redis is lost");
        }
    }

    fn note_trouble(&self, trouble: Option<&Trouble>) {
        let words = trouble.map(ToString::to_string);
        *self.0.trouble.write().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn tell(&self, told: &mut Told, trouble: &Trouble) {
        self.note_trouble(Some(trouble));
        let now = match trouble {
            Trouble::Away(_) => Told::Away,
            Trouble::Unfit(words) => Told::Unfit(words.clone()),
        };
        if *told != now {
            *told = now;
            tracing::warn!(redis = %self.0.dialler.url, %trouble, "Redis cannot be used");
        }
    }
}
