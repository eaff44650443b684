//! Revocations in tables: a list without gaps, read from a number on.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::FromRow;

use super::row::At;
use super::{Session, Tx, execute, find_row, list_rows, one_value};
use crate::clock::{from_microsecond, later};
use crate::domain::{MAX_CLOCK_LEAD, NewRevocation, Revocation, Subject};
use crate::error::{Error, Result};

/// Where the list stands.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Feed {
    /// Names the list; another database has another one, and so has a state of this one that an
    /// operator declared to be the truth.
    pub id: String,
    /// The number of the newest revocation; 0 when there was none yet.
    pub last_number: i64,
    /// Of those up to this number some have lapsed and are gone.
    pub purged_through: i64,
}

#[derive(FromRow)]
struct Row {
    number: i64,
    kind: String,
    subject: String,
    epoch: i64,
    revoked_at: i64,
    expires_at: i64,
}

impl Row {
    fn revocation(self) -> Result<Revocation> {
        let key = self.number.to_string();
        let at = At { table: "revocations", key: &key };
        Ok(Revocation {
            number: self.number,
            subject: at.column("subject", Subject::parse(&self.kind, &self.subject))?,
            epoch: self.epoch,
            revoked_at: from_microsecond(self.revoked_at),
            expires_at: from_microsecond(self.expires_at),
        })
    }
}

impl Session {
    /// Where the list stands now.
    pub async fn revocation_feed(&mut self) -> Result<Feed> {
        const SQL: &str = "select id, last_number, purged_through from revocation_feed";
        let feed: Option<Feed> = find_row!(self, SQL)?;
        feed.ok_or_else(|| Error::internal("the table revocation_feed is empty"))
    }

    /// What time it is by the clock of the database; `None` for SQLite, which has none but that
    /// of this machine.
    pub async fn time(&mut self) -> Result<Option<Timestamp>> {
        const SQL: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        if !self.is_postgres() {
            return Ok(None);
        }
        let micros: i64 = one_value!(self, SQL)?;
        Ok(Some(from_microsecond(micros)))
    }

    /// The first `most` revocations behind `after` and up to `last`, in order.
    pub async fn list_revocations(
        &mut self,
        after: i64,
        last: i64,
        most: i64,
    ) -> Result<Vec<Revocation>> {
        const SQL: &str = "select number, kind, subject, epoch, revoked_at, expires_at \
            from revocations where number > $1 and number <= $2 order by number limit $3";
        let rows: Vec<Row> = list_rows!(self, SQL, after, last, most)?;
        rows.into_iter().map(Row::revocation).collect()
    }

    /// The epoch below which tokens of this subject are revoked; 0 when none is. One that is
    /// made again begins with it, so that tokens of the one before it stay revoked.
    pub async fn revoked_epoch(&mut self, subject: &Subject) -> Result<i64> {
        const SQL: &str =
            "select coalesce(max(epoch), 0) from revocations where kind = $1 and subject = $2";
        one_value!(self, SQL, subject.kind(), subject.name())
    }
}

impl Tx {
    /// Adds revocations to the end of the list; answers them with their numbers. From here to the
    /// commit no other transaction can add any, so this comes last in a transaction.
    pub async fn insert_revocations(
        &mut self,
        revocations: &[NewRevocation],
        now: Timestamp,
    ) -> Result<Vec<Revocation>> {
        const SQL: &str = "insert into revocations (number, kind, subject, epoch, revoked_at, \
            expires_at) values ($1, $2, $3, $4, $5, $6)";
        let count = i64::try_from(revocations.len()).unwrap_or(i64::MAX);
        let least = self.end_of_all_tokens(now).await?;
        let first = self.take_revocation_numbers(count).await? - count + 1;
        let mut inserted = Vec::with_capacity(revocations.len());
        for (number, new) in (first..).zip(revocations) {
            let expires_at = new.expires_at.max(least);
            execute!(
                self,
                SQL,
                number,
                new.subject.kind(),
                new.subject.name(),
                new.epoch,
                now.as_microsecond(),
                expires_at.as_microsecond()
            )?;
            inserted.push(Revocation {
                number,
                subject: new.subject.clone(),
                epoch: new.epoch,
                revoked_at: now,
                expires_at,
            });
        }
        Ok(inserted)
    }

    /// When the tokens have ended that were made by a clock ahead of this one, if there was any:
    /// what revokes them must last as long, or they are good when their time comes. As a rule
    /// there was none, and that is `now`.
    pub(super) async fn end_of_all_tokens(&mut self, now: Timestamp) -> Result<Timestamp> {
        let latest: i64 = one_value!(self, "select checked_at from readiness")?;
        let latest = from_microsecond(latest);
        let is_ahead = latest > later(now, Duration::from_secs(MAX_CLOCK_LEAD));
        Ok(if is_ahead { NewRevocation::end(latest) } else { now })
    }

    /// Takes the next numbers; the last of them. Others who want some wait until this
    /// transaction ends.
    pub(super) async fn take_revocation_numbers(&mut self, count: i64) -> Result<i64> {
        const SQL: &str =
            "update revocation_feed set last_number = last_number + $1 returning last_number";
        one_value!(self, SQL, count)
    }

    /// Deletes revocations that say nothing any more since `end`, some at a time; `true` when
    /// none is left.
    pub async fn purge_revocations(&mut self, end: Timestamp) -> Result<bool> {
        const MARK: &str = "update revocation_feed set purged_through = (select max(number) \
            from (select number from revocations where expires_at <= $1 \
              order by expires_at, number limit 1000) x) \
            where purged_through < (select max(number) \
            from (select number from revocations where expires_at <= $1 \
              order by expires_at, number limit 1000) x)";
        const DELETE: &str = "delete from revocations where number in (select number \
            from revocations where expires_at <= $1 order by expires_at, number limit 1000)";
        execute!(self, MARK, end.as_microsecond())?;
        execute!(self, DELETE, end.as_microsecond()).map(|rows| rows < 1000)
    }
}
