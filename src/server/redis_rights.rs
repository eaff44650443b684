//! Checks once, at the start, that the configured Redis user may run all commands that the server
//! needs. The code that runs a command handles permissions that are removed later.

use super::ServerError;
use crate::error::Error;
use crate::redis::{LinkError, Redis, Script};

/// Runs all commands, and deletes what they write. KEYS: two keys that nothing else uses. ARGV: a
/// channel without subscribers. Returns the commands that Redis refuses.
const TRY: &str = "\
local missing = {}
local function try(...)
  local answer = redis.pcall(...)
  local said = type(answer) == 'table' and answer.err or ''
  -- Redis, Valkey, and Redis up to 7.0 have words of their own for it.
  for _, words in ipairs({ 'NOPERM', 'ACL failure', 'user executing the script' }) do
    if string.find(said, words, 1, true) then
      missing[#missing + 1] = string.lower((...))
      return
    end
  end
end
local one, other = KEYS[1], KEYS[2]
try('TIME')
try('PING')
try('PUBLISH', ARGV[1], '')
try('SET', one, '', 'PX', 1000)
try('GET', one)
try('GETEX', one, 'PX', 1000)
try('GETRANGE', one, 0, 0)
try('SETRANGE', one, 0, '')
-- Not what these are for, and so no more than a try.
try('HSET', one, 'field', '')
try('HMGET', one, 'field')
try('ZADD', one, 0, '')
try('ZCARD', one)
try('ZRANGEBYSCORE', one, 0, 0)
try('ZREMRANGEBYSCORE', one, 0, 0)
try('PEXPIRE', one, 1000)
try('RENAME', one, other)
try('PERSIST', one)
try('UNLINK', one)
try('DEL', other)
return missing";

/// Returns an error if the Redis user lacks a permission.
pub(super) async fn check(redis: &Redis) -> Result<(), ServerError> {
    let keys = ["{tried}:one", "{tried}:other"].map(|key| redis.key("rights", key));
    let channel = redis.key("rights", "tried");
    let missing = redis.run::<Vec<String>>(&Script::new(TRY), &keys, &[&channel]).await;
    let subscribed = redis.check_subscription(&channel).await;
    if !redis.is_up() {
        // Redis became unreachable. The server reconnects.
        return Ok(());
    }
    let refused = |what: String| {
        Err(ServerError::Redis(format!(
            "its user may not do what is needed ({what}): deploy/keyward.toml names the rights"
        )))
    };
    match (missing, subscribed) {
        (Ok(missing), _) if !missing.is_empty() => refused(missing.join(", ")),
        (Err(Error::Internal(cause) | Error::Unavailable(cause)), _) => refused(cause.to_string()),
        (_, Err(LinkError::Unfit(why))) => refused(why),
        _ => Ok(()),
    }
}
