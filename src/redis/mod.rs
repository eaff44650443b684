//! The link to Redis or Valkey: one connection, shared by all callers, that reconnects by itself.
//! This module runs scripts, stores values and passes messages; the meaning of keys and values
//! belongs to its users.
//!
//! Calls never wait for a Redis that is down. They fail immediately while the link is down; the
//! first call without an answer marks the link as down for all; and [`Redis::run_link`] reconnects.
//! Users that cannot do without Redis must have a fallback.

mod checks;
mod connect;
mod facts;
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

pub use connect::Timeouts;
pub use facts::RedisFacts;
pub use fault::LinkError;
pub use script::Script;
pub use subscription::{Subscription, SubscriptionEvent};
pub use url::RedisUrl;

use crate::error::{Error, Result};
use connect::{Connector, RedisConnection};

/// A handle for a Redis. Clones share the link.
#[derive(Clone)]
pub struct Redis(Arc<RedisInner>);

struct RedisInner {
    connector: Connector,
    prefix: String,
    link: RwLock<Option<Arc<ActiveLink>>>,
    /// Why there is no link; `None` while there is one.
    trouble: RwLock<Option<String>>,
    commands: Counter,
    in_flight: Gauge,
    up: Gauge,
}

/// Counts a command as in flight until it is dropped.
struct InFlightCommand<'a>(&'a Gauge);

impl<'a> InFlightCommand<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlightCommand<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A connection that works.
struct ActiveLink {
    connection: RedisConnection,
    lost: AtomicBool,
    /// Cancelled when the link is lost, so that waiting callers need not wait for their timeout.
    down: CancellationToken,
}

impl Redis {
    /// A handle that is not connected yet. All keys and channels begin with `prefix`, which must
    /// not contain braces.
    pub fn new(url: RedisUrl, prefix: impl Into<String>, timeouts: Timeouts) -> Self {
        Self(Arc::new(RedisInner {
            connector: Connector { url, timeouts },
            prefix: prefix.into(),
            link: RwLock::new(None),
            trouble: RwLock::new(None),
            commands: Counter::default(),
            in_flight: Gauge::default(),
            up: Gauge::default(),
        }))
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        self.link().is_some()
    }

    /// Why the link is down; `None` while it is up.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is a cluster, in which keys are on several nodes.
    pub fn is_clustered(&self) -> bool {
        self.0.connector.url.is_clustered()
    }

    /// 1 while the link is up, otherwise 0.
    pub fn up(&self) -> &Gauge {
        &self.0.up
    }

    /// The number of commands for callers. Health checks of the link are not counted.
    pub fn commands(&self) -> &Counter {
        &self.0.commands
    }

    /// The number of commands that wait for an answer.
    pub fn in_flight(&self) -> &Gauge {
        &self.0.in_flight
    }

    /// The full name of a key or channel. In a cluster, the text between the first braces in `rest`
    /// is the hash tag that selects the node.
    pub fn key(&self, room: &str, rest: &str) -> String {
        format!("{}:{room}:{rest}", self.0.prefix)
    }

    /// Publishes a message on a channel, for tests: scripts of others publish what they write.
    #[cfg(feature = "internals")]
    pub async fn publish(&self, channel: &str, message: &[u8]) -> Result<()> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(message);
        self.send(&publish).await?.map(drop).map_err(fault::fault)
    }

    /// Reads a key and resets its expiry to `life`.
    pub async fn find_for(&self, key: &str, life: Duration) -> Result<Option<Vec<u8>>> {
        let mut find = redis::cmd("GETEX");
        find.arg(key).arg("EX").arg(life.as_secs());
        let value = self.send(&find).await?.map_err(fault::fault)?;
        redis::from_redis_value(value).map_err(|error| Error::Internal(Box::new(error)))
    }

    /// Stores a value that expires after `life`.
    pub async fn keep_for(&self, key: &str, value: &[u8], life: Duration) -> Result<()> {
        let mut keep = redis::cmd("SET");
        keep.arg(key).arg(value).arg("EX").arg(life.as_secs());
        self.send(&keep).await?.map(drop).map_err(fault::fault)
    }

    /// Sends a command. The outer error means that there was no answer; the inner error is an
    /// answer.
    async fn send(&self, command: &Cmd) -> Result<Result<Value, RedisError>> {
        let away = || Error::Unavailable("Redis cannot be reached".into());
        let link = self.link().ok_or_else(away)?;
        self.0.commands.inc();
        let _in_flight = InFlightCommand::new(&self.0.in_flight);
        let mut connection = link.connection.clone();
        let answer = tokio::select! {
            biased;
            answer = connection.send(command) => answer,
            () = link.down.cancelled() => return Err(away()),
        };
        match answer {
            Err(error) if fault::ends_connection(&error) => {
                self.lose(&link, &error.clone().into());
                Err(fault::fault(error))
            }
            answer => Ok(answer),
        }
    }

    /// The link, unless it is lost.
    fn link(&self) -> Option<Arc<ActiveLink>> {
        let link = self.0.link.read().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|link| !link.lost.load(Ordering::Acquire)).cloned()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.0.connector.url)
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}
