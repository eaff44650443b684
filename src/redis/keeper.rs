//! The task that keeps the link up: it connects, checks the link each second, and reconnects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connect::RedisConnection;
use super::fault::LinkError;
use super::{ActiveLink, Redis};
use crate::backoff::Backoff;

/// The interval between checks of a working link.
const WATCH: Duration = Duration::from_secs(1);
/// The longest pause between connection attempts.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The last reported state of the link, so that each state is logged once.
#[derive(Debug, PartialEq, Eq)]
enum ReportedState {
    Nothing,
    Away,
    Unfit(String),
}

impl Redis {
    /// Connects once, when the server starts. The link then counts as up until [`Redis::run_link`]
    /// finds otherwise.
    pub async fn check_once(&self) -> Result<(), LinkError> {
        let connection = self.0.connector.open().await?;
        self.set_link(connection);
        Ok(())
    }

    /// Keeps the link up until `stop` is cancelled.
    pub async fn run_link(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&self) {
        let mut reported = ReportedState::Nothing;
        let mut backoff = Backoff::default();
        loop {
            let link = match self.link() {
                Some(link) => link,
                None => match self.0.connector.open().await {
                    Ok(connection) => self.set_link(connection),
                    Err(trouble) => {
                        self.report(&mut reported, &trouble);
                        backoff.pause(MAX_PAUSE).await;
                        continue;
                    }
                },
            };
            reported = ReportedState::Nothing;
            if self.watch(&link).await {
                backoff = Backoff::default();
            } else {
                backoff.pause(MAX_PAUSE).await;
            }
        }
    }

    /// Watches a link until it is lost. Returns whether it passed at least one check.
    async fn watch(&self, link: &Arc<ActiveLink>) -> bool {
        let mut of_use = false;
        loop {
            tokio::select! {
                () = link.down.cancelled() => return of_use,
                () = sleep(WATCH) => {}
            }
            let mut connection = link.connection.clone();
            if let Err(trouble) = self.0.connector.examine(&mut connection).await {
                self.lose(link, &trouble);
                return of_use;
            }
            of_use = true;
        }
    }

    fn set_link(&self, connection: RedisConnection) -> Arc<ActiveLink> {
        let down = CancellationToken::new();
        let link = Arc::new(ActiveLink { connection, lost: AtomicBool::new(false), down });
        *self.0.link.write().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        self.note_trouble(None);
        self.0.up.set(1);
        tracing::info!(redis = %self.0.connector.url, "connected to Redis");
        link
    }

    /// Marks a link as lost. Later calls for the same link have no effect.
    pub(super) fn lose(&self, link: &ActiveLink, trouble: &LinkError) {
        if !link.lost.swap(true, Ordering::AcqRel) {
            self.0.up.set(0);
            link.down.cancel();
            self.note_trouble(Some(trouble));
            tracing::warn!(redis = %self.0.connector.url, %trouble, "lost the connection to Redis");
        }
    }

    fn note_trouble(&self, trouble: Option<&LinkError>) {
        let words = trouble.map(ToString::to_string);
        *self.0.trouble.write().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn report(&self, reported: &mut ReportedState, trouble: &LinkError) {
        self.note_trouble(Some(trouble));
        let now = match trouble {
            LinkError::Away(_) => ReportedState::Away,
            LinkError::Unfit(words) => ReportedState::Unfit(words.clone()),
        };
        if *reported != now {
            *reported = now;
            tracing::warn!(redis = %self.0.connector.url, %trouble, "Redis cannot be used");
        }
    }
}
