//! Lua scripts. They are called by digest, and sent in full only if Redis does not know them.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind, ToRedisArgs, from_redis_value};

use super::Redis;
use super::fault::fault;
use crate::error::{Error, Result};

#[derive(Clone, Debug)]
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    /// A script with this text.
    pub fn new(text: &'static str) -> Self {
        // The digest is only an identifier. Redis prescribes SHA-1.
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let digits = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        Self { text, digest: digits.collect() }
    }
}

/// A call of a script by its digest (EVALSHA) or with its text (EVAL).
fn call(command: &str, script: &str, keys: &[impl ToRedisArgs], args: &[impl ToRedisArgs]) -> Cmd {
    let mut call = redis::cmd(command);
    call.arg(script).arg(keys.len()).arg(keys).arg(args);
    call
}

impl Redis {
    /// Runs a script in one round trip, or in two if Redis does not have it cached. In a cluster,
    /// all keys must have the same hash tag.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[impl ToRedisArgs],
        args: &[impl ToRedisArgs],
    ) -> Result<T> {
        let known = call("EVALSHA", &script.digest, keys, args);
        let answer = match self.send(&known).await? {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(&call("EVAL", script.text, keys, args)).await?
            }
            answer => answer,
        };
        let value = answer.map_err(fault)?;
        from_redis_value(value).map_err(|error| Error::Internal(Box::new(error)))
    }
}
