//! A copy of the revocation list in Redis. It serves replicas that cannot reach the database while
//! another one can, and it announces changes. It only contains what a database contained. If it is
//! missing or belongs to another list, it is ignored, and a replica with a database connection
//! writes it again.
//!
//! Others may be able to write to Redis. Therefore all data on which decisions depend carries an
//! authentication code with a key derived from the master key: each row, the number of the last
//! row, and the time at which the list was complete. Rows cannot be forged or removed unnoticed,
//! and the list cannot be made to look newer than it is. A projection is never moved back: if it is
//! ahead of the index, it is left unchanged and shows that the database is outdated.

use std::cmp::Ordering;
use std::time::Duration;

use super::{Cursor, Index};
use crate::clock::from_microsecond;
use crate::domain::{Revocation, Subject};
use crate::error::{Error, Result};
use crate::redis::{Redis, Script, Subscription};
use crate::secrets::{Authenticator, random};

/// The number of rows per command.
const BATCH: usize = 500;
/// If the projection has this many expired rows, it is rewritten, which removes them.
const SLACK: usize = 10_000;

/// The maximum number of consecutive conflicts with other replicas.
const MAX_CONFLICTS: usize = 20;

#[derive(Debug)]
pub(super) struct Projection {
    redis: Redis,
    codes: Authenticator,
    marker: String,
    rows: String,
    /// Keys of versions that wrote no authentication codes.
    old: [String; 2],
    channel: String,
    look: Script,
    project: Script,
    stage: Script,
    install: Script,
    confirm: Script,
    fetch: Script,
}

/// The marker in Redis; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    feed: String,
    last: String,
    code: String,
}

#[derive(Debug)]
pub(super) enum UpdateResult {
    /// The projection contains the whole index.
    Updated(Updated),
    /// The projection is ahead of the index and was left unchanged.
    Ahead(Cursor),
}

/// The state to which a projection was updated.
#[derive(Debug)]
pub(super) struct Updated {
    place: Cursor,
    /// When, by the clock of Redis, in milliseconds.
    at: i64,
}

/// The data read from a projection.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The rows from the requested number on.
    pub(super) rows: Vec<Revocation>,
    /// The list is complete up to this number.
    pub(super) last: i64,
    /// How long ago a replica confirmed with the database that the list is complete.
    pub(super) age: Duration,
}

/// The result of one step of an update.
enum Step {
    Done(Marker, Updated),
    More(Marker),
    /// Another replica changed the projection.
    Changed,
    /// The projection cannot be extended and must be rewritten.
    Rewrite,
}

impl Projection {
    pub(super) fn new(redis: Redis, codes: Authenticator) -> Self {
        Self {
            marker: redis.key("revocations", "{list}:coded:marker"),
            rows: redis.key("revocations", "{list}:coded:rows"),
            old: ["{list}:marker", "{list}:rows"].map(|key| redis.key("revocations", key)),
            channel: redis.key("revocations", "news"),
            look: Script::new(include_str!("look.lua")),
            project: Script::new(include_str!("project.lua")),
            stage: Script::new(include_str!("stage.lua")),
            install: Script::new(include_str!("install.lua")),
            confirm: Script::new(include_str!("confirm.lua")),
            fetch: Script::new(include_str!("fetch.lua")),
            codes,
            redis,
        }
    }

    /// Subscribes to changes. A message is the position of the newest revocation.
    pub(super) fn subscribe(&self) -> Subscription {
        self.redis.subscribe(self.channel.clone())
    }

    /// The position of the projection, if it exists and is authentic.
    pub(super) async fn place(&self) -> Result<Option<Cursor>> {
        self.look().await.map(|marker| self.verified(&marker))
    }

    /// All rows, with the name of their list. `None` if there is no authentic projection.
    pub(super) async fn everything(&self) -> Result<Option<(String, Vec<Revocation>)>> {
        let Some(place) = self.place().await? else { return Ok(None) };
        let fetched = self.fetch(&place.feed, 1).await?;
        Ok(Some((place.feed, fetched.rows)))
    }

    async fn look(&self) -> Result<Marker> {
        let keys = [self.marker.clone()];
        let (feed, last, code) =
            self.redis.run::<(String, String, String)>(&self.look, &keys, &[""; 0]).await?;
        Ok(Marker { feed, last, code })
    }

    fn verified(&self, marker: &Marker) -> Option<Cursor> {
        let Marker { feed, last, code } = marker;
        let ours = self.codes.accepts(&["marker", feed, last], code);
        ours.then(|| Some(Cursor { feed: feed.clone(), number: last.parse().ok()? })).flatten()
    }

    fn marked(&self, feed: &str, last: i64) -> Marker {
        let last = last.to_string();
        let code = self.codes.code(&["marker", feed, &last]);
        Marker { feed: feed.to_owned(), last, code }
    }

    /// Updates the projection with the index, unless it is ahead. `seen` is the last known marker,
    /// and is updated.
    pub(super) async fn follow(
        &self,
        index: &Index,
        seen: &mut Option<Marker>,
    ) -> Result<UpdateResult> {
        let mut lost = 0;
        while lost < MAX_CONFLICTS {
            let marker = match seen.take() {
                Some(marker) => marker,
                None => self.look().await?,
            };
            let place = self.verified(&marker);
            let here = index.place().ok_or_else(|| Error::internal("no list was read"))?;
            let mut step = Step::Rewrite;
            if let Some(place) = place {
                match place.compare(&here) {
                    Some(Ordering::Greater) => {
                        *seen = Some(marker);
                        return Ok(UpdateResult::Ahead(place));
                    }
                    Some(_) if place.feed == here.feed => {
                        step = self.extend(index, &marker, place.number).await?;
                    }
                    // It belongs to an earlier list, or to an unrelated Keyward.
                    _ => {}
                }
            }
            if matches!(step, Step::Rewrite) {
                step = self.rebuild(index, &marker).await?;
            }
            match step {
                Step::Done(marker, updated) => {
                    *seen = Some(marker);
                    return Ok(UpdateResult::Updated(updated));
                }
                Step::More(marker) => *seen = Some(marker),
                Step::Changed | Step::Rewrite => lost += 1,
            }
        }
        Err(Error::Unavailable("other replicas keep changing the revocation list in Redis".into()))
    }

    /// Writes the whole projection again, with codes by the primary master key only, unless it is
    /// ahead of the index.
    pub(super) async fn rewrite(&self, index: &Index) -> Result<UpdateResult> {
        for _ in 0..MAX_CONFLICTS {
            let marker = self.look().await?;
            let here = index.place().ok_or_else(|| Error::internal("no list was read"))?;
            if let Some(place) = self.verified(&marker)
                && place.compare(&here) == Some(Ordering::Greater)
            {
                return Ok(UpdateResult::Ahead(place));
            }
            if let Step::Done(_, updated) = self.rebuild(index, &marker).await? {
                return Ok(UpdateResult::Updated(updated));
            }
        }
        Err(Error::Unavailable("other replicas keep changing the revocation list in Redis".into()))
    }

    /// Appends the index's rows after `number`, the last one in the projection.
    async fn extend(&self, index: &Index, from: &Marker, number: i64) -> Result<Step> {
        let Some(part) = index.after(number, BATCH) else { return Ok(Step::Rewrite) };
        if part.feed != from.feed {
            return Ok(Step::Changed);
        }
        let to = self.marked(&part.feed, part.last);
        let place = Cursor { feed: part.feed, number: part.last };
        let before = index.held(number - 1, 1).revocations;
        let before = before.first().filter(|row| row.number == number);
        let mut args = vec![self.channel.clone(), place.to_string()];
        args.extend([&from.feed, &from.last, &from.code, &to.last, &to.code].map(String::clone));
        // A replica whose master keys have other roles may have written it.
        let mut forms = before.map(|row| self.forms(&place.feed, row)).unwrap_or_default();
        forms.resize(2, forms.first().cloned().unwrap_or_default());
        args.extend(forms);
        for row in &part.revocations {
            args.extend([row.number.to_string(), self.written(&place.feed, row)]);
        }
        let keys = [self.marker.clone(), self.rows.clone()];
        let (outcome, count, at): (i64, i64, i64) =
            self.redis.run(&self.project, &keys, &args).await?;
        let too_many = usize::try_from(count).unwrap_or_default() > index.len() + SLACK;
        Ok(match outcome {
            0 => Step::Changed,
            1 if part.more => Step::More(to),
            1 if !too_many => Step::Done(to, Updated { place, at }),
            1 => self.rebuild(index, &to).await?,
            _ => Step::Rewrite,
        })
    }

    /// Writes a new projection next to the existing one, and then replaces that.
    async fn rebuild(&self, index: &Index, seen: &Marker) -> Result<Step> {
        let mut beside = self.redis.key("revocations", "{list}:");
        random::push_base62(&mut beside, 16)?;
        let mut count = 0;
        let mut part = index.held(0, BATCH);
        loop {
            let row = |row: &Revocation| [row.number.to_string(), self.written(&part.feed, row)];
            let args: Vec<_> = part.revocations.iter().flat_map(row).collect();
            if !args.is_empty() {
                let keys = [beside.clone()];
                self.redis.run::<i64>(&self.stage, &keys, &args).await?;
            }
            count += part.revocations.len();
            if !part.more {
                break;
            }
            // A list with the same name continues the rows that were read.
            let next = index.held(part.last, BATCH);
            if next.feed != part.feed {
                return Ok(Step::Changed);
            }
            part = next;
        }
        let [old_marker, old_rows] = self.old.clone();
        let keys = [self.marker.clone(), self.rows.clone(), beside, old_marker, old_rows];
        let marker = self.marked(&part.feed, part.last);
        let place = Cursor { feed: part.feed, number: part.last };
        let count = count.to_string();
        let Marker { feed, last, code } = seen.clone();
        let new = marker.clone();
        let channel = self.channel.clone();
        let args =
            [feed, last, code, new.feed, new.last, new.code, count, channel, place.to_string()];
        match self.redis.run::<i64>(&self.install, &keys, &args).await? {
            -2 => Ok(Step::Changed),
            at if at < 0 => {
                Err(Error::Unavailable("Redis lost a part of the revocation list".into()))
            }
            at => Ok(Step::Done(marker, Updated { place, at })),
        }
    }

    /// Confirms that the list was complete `age` ago. The time is relative to the clock of Redis at
    /// the update, so that a delayed command does not confirm a later time.
    pub(super) async fn confirm(&self, updated: &Updated, age: Duration) -> Result<()> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
        let when = updated.at.saturating_sub(age).to_string();
        let (feed, last) = (updated.place.feed.clone(), updated.place.number.to_string());
        let proof = self.codes.code(&["checked", &feed, &last, &when]);
        let keys = [self.marker.clone()];
        self.redis.run::<i64>(&self.confirm, &keys, &[feed, last, when, proof]).await.map(drop)
    }

    /// The rows of the list `feed` from a number on. Rows of other lists and rows without a valid
    /// code are skipped.
    pub(super) async fn fetch(&self, feed: &str, from: i64) -> Result<Fetched> {
        let missing = || Error::Unavailable("Redis does not have the revocation list".into());
        let mut after = from - 1;
        let mut fetched: Option<Fetched> = None;
        loop {
            let keys = [self.marker.clone(), self.rows.clone()];
            let args = [after.to_string(), BATCH.to_string()];
            let (now, checked, upto, proof, rows): (i64, String, String, String, Vec<String>) =
                self.redis.run(&self.fetch, &keys, &args).await?;
            // The first answer determines the end of the list. Rows that are added later are extra.
            if fetched.is_none() {
                if !self.codes.accepts(&["checked", feed, &upto, &checked], &proof) {
                    return Err(missing());
                }
                let checked: i64 = checked.parse().map_err(|_| missing())?;
                // If the clock of Redis was set back, the age is unknown.
                let age = u64::try_from(now.saturating_sub(checked)).map_err(|_| missing())?;
                let last = upto.parse().map_err(|_| missing())?;
                fetched = Some(Fetched { rows: Vec::new(), last, age: Duration::from_millis(age) });
            }
            let fetched_so_far = fetched.as_mut().ok_or_else(missing)?;
            let all = rows.len() < BATCH;
            let ours = rows.iter().filter_map(|row| self.accepted(feed, row));
            fetched_so_far.rows.extend(ours.collect::<Result<Vec<_>>>()?);
            let newest = fetched_so_far.rows.iter().map(|row| row.number).max();
            match newest {
                Some(newest) if !all && newest > after => after = newest,
                _ => break,
            }
        }
        let mut fetched = fetched.ok_or_else(missing)?;
        fetched.rows.sort_by_key(|row| row.number);
        fetched.rows.dedup_by_key(|row| row.number);
        Ok(fetched)
    }

    /// A row in its stored form, after its code.
    fn written(&self, feed: &str, row: &Revocation) -> String {
        let text = written(row);
        format!("{} {text}", self.codes.code(&["row", feed, &text]))
    }

    /// The stored forms of a row that are accepted, one for each master key.
    fn forms(&self, feed: &str, row: &Revocation) -> Vec<String> {
        let text = written(row);
        let codes = self.codes.codes(&["row", feed, &text]);
        codes.into_iter().map(|code| format!("{code} {text}")).collect()
    }

    /// Parses a row, if it belongs to this list and its code is valid.
    fn accepted(&self, feed: &str, row: &str) -> Option<Result<Revocation>> {
        let (code, text) = row.split_once(' ')?;
        self.codes.accepts(&["row", feed, text], code).then(|| read(text))
    }
}

/// A row in one line. The subject is last, because a token id may contain spaces.
fn written(row: &Revocation) -> String {
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
    let broken = || Error::internal(format!("invalid row in the projection: {row:?}"));
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
    fn rows_round_trip_through_text() {
        for (kind, name) in [("token", "with some spaces"), ("tenant", "tenants/acme")] {
            let row = Revocation {
                number: 7,
                subject: Subject::parse(kind, name).unwrap(),
                epoch: 3,
                revoked_at: from_microsecond(1_780_000_000_123_456),
                expires_at: from_microsecond(1_780_003_600_123_456),
            };
            assert_eq!(read(&written(&row)).unwrap(), row);
        }
        assert!(read("7 tenant 3 x 1 tenants/acme").is_err());
        assert!(read("").is_err());
    }
}
