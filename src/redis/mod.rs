//! The link to Redis or Valkey: one connection for all, that mends itself. It knows no
//! more than how to run scripts, keep values for a while and pass messages on; what they mean is
//! its users' affair.
//!
//! Nothing here waits for a Redis that is away. Calls fail at once while the link is down,
//! the first one that gets no answer takes it down for all, and whoever keeps the link
//! ([`Redis::run_link`]) takes it up again. Who cannot do without Redis has to fall back.

mod checks;
mod connect;
mod fault;
mod keeper;
mod script;
mod subscription;
mod url;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use redis::{Cmd, RedisError, Value};
use tokio_util::sync::CancellationToken;

pub use keeper::Trouble;
pub use script::Script;
pub use subscription::{Heard, Subscription};
pub use url::RedisUrl;

use crate::error::{Error, Result};
use connect::{Connection, Dialler};

/// How long Redis may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To accept a connection and let us in.
    pub connect: Duration,
    /// To answer a command.
    pub response: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(1), response: Duration::from_millis(250) }
    }
}

/// A Redis. Cheap to clone; clones share the link.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    dialler: Dialler,
    prefix: String,
    link: RwLock<Option<Arc<Link>>>,
    /// Why there is no link; none while there is one.
    trouble: RwLock<Option<String>>,
    commands: Counter,
    up: Gauge,
}

/// A connection for as long as it serves.
struct Link {
    connection: Connection,
    lost: AtomicBool,
    /// Cancelled when it is lost: who still waits for an answer need not wait for a timeout.
    down: CancellationToken,
}

impl Redis {
    /// The Redis of this URL, not connected yet. Every key and channel begins with `prefix`,
    /// which has no braces.
    pub fn new(url: RedisUrl, prefix: impl Into<String>, timeouts: Timeouts) -> Self {
        Self(Arc::new(Inner {
            dialler: Dialler { url, timeouts },
            prefix: prefix.into(),
            link: RwLock::new(None),
            trouble: RwLock::new(None),
            commands: Counter::default(),
            up: Gauge::default(),
        }))
    }

    /// Whether it can be asked.
    pub fn is_up(&self) -> bool {
        self.link().is_some()
    }

    /// Why it cannot be asked; none while it can.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is a cluster, whose keys are in several places.
    pub fn is_clustered(&self) -> bool {
        self.0.dialler.url.is_clustered()
    }

    /// 1 while it can be asked, else 0.
    pub fn up(&self) -> &Gauge {
        &self.0.up
    }

    /// Commands sent for callers. What keeps the link up is not counted.
    pub fn commands(&self) -> &Counter {
        &self.0.commands
    }

    /// The name of a key (or channel) that a room of ours owns. In a cluster, all that is
    /// between the first braces of `rest` decides where the key is.
    pub fn key(&self, room: &str, rest: &str) -> String {
        format!("{}:{room}:{rest}", self.0.prefix)
    }

    /// Tells all who are subscribed to a channel.
    pub async fn publish(&self, channel: &str, message: &[u8]) -> Result<()> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(message);
        self.send(&publish).await?.map(drop).map_err(fault::fault)
    }

    /// The value of a key, which is then kept for so long again.
    pub async fn find_for(&self, key: &str, life: Duration) -> Result<Option<Vec<u8>>> {
        let mut find = redis::cmd("GETEX");
        find.arg(key).arg("EX").arg(life.as_secs());
        let value = self.send(&find).await?.map_err(fault::fault)?;
        redis::from_redis_value(value).map_err(|error| Error::Internal(Box::new(error)))
    }

    /// Gives a key a value, for so long.
    pub async fn keep_for(&self, key: &str, value: &[u8], life: Duration) -> Result<()> {
        let mut keep = redis::cmd("SET");
        keep.arg(key).arg(value).arg("EX").arg(life.as_secs());
        self.send(&keep).await?.map(drop).map_err(fault::fault)
    }

    /// Sends a command. The outer error: there was no answer; the inner one is an answer.
    async fn send(&self, command: &Cmd) -> Result<Result<Value, RedisError>> {
        let away = || Error::Unavailable("Redis is away".into());
        let link = self.link().ok_or_else(away)?;
        self.0.commands.inc();
        let mut connection = link.connection.clone();
        let answer = tokio::select! {
            biased;
            answer = connection.send(command) => answer,
            () = link.down.cancelled() => return Err(away()),
        };
        match answer {
            Err(error) if fault::severs(&error) => {
                self.lose(&link, &error.clone().into());
                Err(fault::fault(error))
            }
            answer => Ok(answer),
        }
    }

    /// The link, unless it was lost.
    fn link(&self) -> Option<Arc<Link>> {
        let link = self.0.link.read().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|link| !link.lost.load(Ordering::Acquire)).cloned()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.0.dialler.url)
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}
