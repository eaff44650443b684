//! The list of revocations once more in Redis: for a replica that does not reach the
//! database while another one does, and to tell all of them of news. It is never more than
//! the database said: where it is missing, or of another list, it says nothing, and whoever
//! reaches the database makes it anew.

use std::sync::Arc;
use std::time::Duration;

use super::Index;
use crate::clock::from_microsecond;
use crate::domain::{Revocation, Subject};
use crate::error::{Error, Result};
use crate::redis::{Redis, Script, Subscription};
use crate::secrets::random;

/// How many rows are written or read at once.
const BATCH: usize = 500;
/// So many rows more than there should be, and the projection is made anew: what has lapsed
/// is forgotten so.
const SLACK: usize = 10_000;

/// The projection of the list.
#[derive(Debug)]
pub(super) struct Projection {
    redis: Redis,
    marker: String,
    rows: String,
    channel: String,
    project: Script,
    stage: Script,
    install: Script,
    confirm: Script,
    fetch: Script,
}

/// What a projection was brought to.
#[derive(Debug)]
pub(super) struct Brought {
    feed: String,
    /// The number up to which it goes.
    pub(super) last: i64,
    /// When, by the time of Redis, in milliseconds.
    at: i64,
}

/// What was read of a projection.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The rows from the number on that was asked for.
    pub(super) rows: Vec<Revocation>,
    /// The number up to which they go.
    pub(super) last: i64,
    /// How long ago a replica knew from the database that this was all.
    pub(super) age: Duration,
}

impl Projection {
    pub(super) fn new(redis: Redis) -> Self {
        Self {
            marker: redis.key("revocations", "{list}:marker"),
            rows: redis.key("revocations", "{list}:rows"),
            channel: redis.key("revocations", "news"),
            project: Script::new(include_str!("project.lua")),
            stage: Script::new(include_str!("stage.lua")),
            install: Script::new(include_str!("install.lua")),
            confirm: Script::new(include_str!("confirm.lua")),
            fetch: Script::new(include_str!("fetch.lua")),
            redis,
        }
    }

    /// Hears of news: a message is the number of the newest revocation.
    pub(super) fn subscribe(&self) -> Subscription {
        self.redis.subscribe(self.channel.clone())
    }

    /// Brings the projection up to what the index has. `known` is how far it was when it was
    /// last seen, and is again.
    pub(super) async fn follow(&self, index: &Index, known: &mut i64) -> Result<Brought> {
        while let Some(part) = index.after(*known, BATCH) {
            let mut args = vec![part.feed.clone(), self.channel.clone()];
            // With the one before them, which has to be there as it is here.
            let before = index.held(*known - 1, 1).revocations;
            let before = before.iter().filter(|row| row.number == *known);
            for row in before.chain(&part.revocations) {
                args.extend([row.number.to_string(), written(row)]);
            }
            let keys = [self.marker.clone(), self.rows.clone()];
            let (reached, count, at): (i64, i64, i64) =
                self.redis.run(&self.project, &keys, &args).await?;
            let too_many = usize::try_from(count).unwrap_or_default() > index.len() + SLACK;
            if reached < 0 || too_many {
                break;
            }
            // Somebody else may have brought more, which is not known here yet.
            *known = reached.min(part.last);
            if reached >= part.last && !part.more {
                return Ok(Brought { feed: part.feed, last: reached, at });
            }
        }
        let brought = self.rebuild(index).await?;
        *known = brought.last;
        Ok(brought)
    }

    /// Makes the projection anew, beside the one there is, and puts it in its place.
    pub(super) async fn rebuild(&self, index: &Index) -> Result<Brought> {
        let mut beside = self.redis.key("revocations", "{list}:");
        random::push_base62(&mut beside, 16)?;
        // At once, so that it is of one list.
        let whole = index.held(0, usize::MAX);
        for rows in whole.revocations.chunks(BATCH) {
            let args: Vec<_> =
                rows.iter().flat_map(|row| [row.number.to_string(), written(row)]).collect();
            let keys = [beside.clone()];
            self.redis.run::<i64>(&self.stage, &keys, &args).await?;
        }
        let keys = [self.marker.clone(), self.rows.clone(), beside];
        let count = whole.revocations.len().to_string();
        let args = [whole.feed.clone(), whole.last.to_string(), count, self.channel.clone()];
        let at: i64 = self.redis.run(&self.install, &keys, &args).await?;
        if at < 0 {
            return Err(Error::Unavailable("Redis lost a part of the list".into()));
        }
        Ok(Brought { feed: whole.feed, last: whole.last, at })
    }

    /// Says that nothing was missing in what was brought, so long ago. By the time that Redis
    /// had then: a command that it did not come to for a while says nothing else later.
    pub(super) async fn confirm(&self, brought: &Brought, age: Duration) -> Result<()> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
        let when = brought.at.saturating_sub(age);
        let args = [brought.feed.clone(), brought.last.to_string(), when.to_string()];
        let keys = [self.marker.clone()];
        self.redis.run::<i64>(&self.confirm, &keys, &args).await.map(drop)
    }

    /// What the projection has of the list from a number on.
    pub(super) async fn fetch(&self, feed: &str, from: i64) -> Result<Fetched> {
        let missing = || Error::Unavailable("Redis does not have the list of revocations".into());
        let mut after = from - 1;
        let mut fetched = Fetched { rows: Vec::new(), last: from, age: Duration::ZERO };
        loop {
            let keys = [self.marker.clone(), self.rows.clone()];
            let args = [feed.to_owned(), after.to_string(), BATCH.to_string()];
            let (last, age, rows): (i64, i64, Vec<String>) =
                self.redis.run(&self.fetch, &keys, &args).await?;
            if last < from {
                return Err(missing());
            }
            // Of a Redis whose time was set back, nobody knows how old its word is.
            let age = Duration::from_millis(u64::try_from(age).map_err(|_| missing())?);
            // The oldest word counts for all of it.
            fetched.age = fetched.age.max(age);
            let rows = rows.iter().map(|row| read(row)).collect::<Result<Vec<_>>>()?;
            let Some(newest) = rows.last().map(|row| row.number) else {
                fetched.last = last;
                return Ok(fetched);
            };
            fetched.rows.extend(rows);
            fetched.last = newest;
            after = newest;
            if newest >= last {
                return Ok(fetched);
            }
        }
    }
}

/// A row as it stands in Redis. What it is about stands last: the id of a token may have
/// spaces.
fn written(row: &Arc<Revocation>) -> String {
    format!(
        "{} {} {} {} {} {}",
        row.number,
        row.subject.kind(),
        row.epoch,
        row.revoked_at.as_microsecond(),
        row.expires_at.as_microsecond(),
        row.subject.name()
    )
}

fn read(row: &str) -> Result<Revocation> {
    let broken = || Error::internal(format!("a row of the projection is {row:?}"));
    let mut parts = row.splitn(6, ' ');
    let mut next = || parts.next().ok_or_else(broken);
    let (number, kind) = (next()?, next()?);
    let (epoch, revoked_at, expires_at, subject) = (next()?, next()?, next()?, next()?);
    let whole = |text: &str| text.parse::<i64>().map_err(|_| broken());
    Ok(Revocation {
        number: whole(number)?,
        subject: Subject::parse(kind, subject).map_err(|_| broken())?,
        epoch: whole(epoch)?,
        revoked_at: from_microsecond(whole(revoked_at)?),
        expires_at: from_microsecond(whole(expires_at)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_is_written() {
        for (kind, name) in [("token", "with some spaces"), ("tenant", "tenants/acme")] {
            let row = Revocation {
                number: 7,
                subject: Subject::parse(kind, name).unwrap(),
                epoch: 3,
                revoked_at: from_microsecond(1_780_000_000_123_456),
                expires_at: from_microsecond(1_780_003_600_123_456),
            };
            assert_eq!(read(&written(&Arc::new(row.clone()))).unwrap(), row);
        }
        assert!(read("7 tenant 3 x 1 tenants/acme").is_err());
        assert!(read("").is_err());
    }
}
