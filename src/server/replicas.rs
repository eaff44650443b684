//! Replicas: how many there are, as they tell each other through Redis; and that SQLite has
//! no more than one.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{StartError, files, rights};
use crate::config::Config;
use crate::error::{FailureLog, Result};
use crate::limiter::Limiter;
use crate::redis::{LinkError, Redis, Script};
use crate::secrets::random;

/// How often a replica says that it is there.
const PRESENT: Duration = Duration::from_secs(2);
/// How long one counts that has said nothing since, in milliseconds.
const ABSENT: u64 = 10_000;

/// KEYS: those who are there. ARGV: who says so, and after how long one has left.
const ANNOUNCE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])";

/// The link to Redis, if there is to be one: a Redis that does not answer is waited for
/// beside the requests, one that is not fit is no Redis.
pub(super) async fn connect(config: &Config) -> Result<Option<Redis>, StartError> {
    let Some(url) = &config.redis.url else {
        tracing::info!(
            "no Redis is configured (redis.url): limits are counted by this server alone, and \
             other replicas hear of revocations by asking the database"
        );
        return Ok(None);
    };
    let redis = Redis::new(url.clone(), &config.redis.key_prefix, config.redis.timeouts);
    match redis.check_once().await {
        Ok(()) => rights::check(&redis).await?,
        Err(LinkError::Away(error)) => {
            tracing::warn!(%url, %error, "Redis does not answer: it is asked again and again");
        }
        Err(LinkError::Unfit(why)) => return Err(StartError::Redis(why)),
    }
    Ok(Some(redis))
}

/// Says that this replica is there, and tells the limiter how many there are: while Redis is
/// away, each counts its share of the limits.
pub(super) async fn announce(redis: Redis, limiter: Limiter, stop: CancellationToken) {
    let script = Script::new(ANNOUNCE);
    let keys = [redis.key("replicas", "present")];
    let Ok(name) = name() else { return };
    let args = [name, ABSENT.to_string()];
    let mut before = 1;
    let mut announcing = FailureLog::default();
    loop {
        let announced = redis.run::<usize>(&script, &keys, &args).await.map(|count| {
            // A Redis that comes back empty knows of one only, until all have been there.
            limiter.set_replicas(count.max(before));
            before = count.max(1);
        });
        announcing.note(
            &announced,
            "Redis is not told that this server is there: while Redis is away, it may count a \
             wrong share of the limits",
            "Redis is told again that this server is there",
        );
        if stop.run_until_cancelled(sleep(PRESENT)).await.is_none() {
            return;
        }
    }
}

fn name() -> Result<String> {
    let mut name = String::new();
    random::push_base62(&mut name, 16)?;
    Ok(name)
}

/// Takes a SQLite file for this server alone, for as long as what it returns is kept.
pub(super) fn take_alone(database: &Path) -> Result<File, StartError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |error: std::io::Error| StartError::Database {
        database: database.display().to_string(),
        cause: format!("{} cannot be locked: {error}", path.display()),
    };
    let file = files::open(&path, File::options().create(true).truncate(false).write(true));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Shared { path: database.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
