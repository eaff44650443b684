//! Replicas announce themselves in Redis, so that each knows their number. A lock ensures that a
//! SQLite database has only one server.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{ServerError, files, redis_rights};
use crate::config::Config;
use crate::error::{FailureLog, Result};
use crate::limiter::Limiter;
use crate::redis::{LinkError, Redis, Script};
use crate::secrets::random;

/// How often a replica announces itself.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// How long an announcement is valid, in milliseconds.
const ANNOUNCEMENT_MILLIS: u64 = 10_000;

/// KEYS: the set of replicas. ARGV: the name of this one, and how long an announcement is valid.
const ANNOUNCE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])";

/// Connects to Redis if one is configured. The server starts even if Redis does not answer, but
/// refuses to start with a Redis that it cannot use.
pub(super) async fn connect(config: &Config) -> Result<Option<Redis>, ServerError> {
    let Some(url) = &config.redis.url else {
        tracing::info!(
            "no Redis is configured (redis.url): limits are counted by this server alone, and \
             other replicas read revocations from the database"
        );
        return Ok(None);
    };
    let redis = Redis::new(url.clone(), &config.redis.key_prefix, config.redis.timeouts);
    match redis.check_once().await {
        Ok(()) => redis_rights::check(&redis).await?,
        Err(LinkError::Away(error)) => {
            tracing::warn!(%url, %error, "Redis does not answer; the server keeps retrying");
        }
        Err(LinkError::Unfit(why)) => return Err(ServerError::Redis(why)),
    }
    Ok(Some(redis))
}

/// Announces this replica, and passes the number of replicas to the limiter. Without Redis, each
/// replica enforces its share of the limits.
pub(super) async fn announce(redis: Redis, limiter: Limiter, stop: CancellationToken) {
    let script = Script::new(ANNOUNCE);
    let keys = [redis.key("replicas", "present")];
    let Ok(name) = name() else { return };
    let args = [name, ANNOUNCEMENT_MILLIS.to_string()];
    let mut before = 1;
    let mut announcing = FailureLog::default();
    loop {
        let announced = redis.run::<usize>(&script, &keys, &args).await.map(|count| {
            // A Redis that lost its data knows only some replicas until all have announced
            // themselves.
            limiter.set_replicas(count.max(before));
            before = count.max(1);
        });
        announcing.note(
            &announced,
            "this server cannot announce itself in Redis: while Redis is away, it may count a \
             wrong share of the limits",
            "this server announces itself in Redis again",
        );
        if stop.run_until_cancelled(sleep(ANNOUNCE_INTERVAL)).await.is_none() {
            return;
        }
    }
}

fn name() -> Result<String> {
    let mut name = String::new();
    random::push_base62(&mut name, 16)?;
    Ok(name)
}

/// Locks a SQLite file for this server, for as long as the returned file is kept.
pub(super) fn lock_database(database: &Path) -> Result<File, ServerError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |error: std::io::Error| ServerError::Database {
        database: database.display().to_string(),
        cause: format!("{} cannot be locked: {error}", path.display()),
    };
    let file = files::open(&path, File::options().create(true).truncate(false).write(true));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Shared { path: database.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
