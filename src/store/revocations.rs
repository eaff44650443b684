//! The revocation feed: numbered revocations without gaps.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::FromRow;

use super::revocation_chunk::{RevocationChunk, TokenList, of_issued_token};
use super::row::RowRef;
use super::{Session, Tx, execute, find_row, list_rows, one_row, one_value};
use crate::clock::{from_microsecond, later};
use crate::domain::{MAX_CLOCK_LEAD, NewRevocation, Revocation, Subject};
use crate::error::{Error, Result};

/// The state of the revocation feed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct RevocationFeed {
    /// The id of the feed. It is unique to the database, and changes when an operator declares a
    /// restored database as valid.
    pub id: String,
    /// The number of the newest revocation. 0 before the first one.
    pub last_number: i64,
    /// Some revocations up to this number have expired and were deleted.
    pub purged_through: i64,
}

#[derive(FromRow)]
struct RevocationRow {
    number: i64,
    kind: String,
    subject: String,
    epoch: i64,
    revoked_at: i64,
    expires_at: i64,
}

impl RevocationRow {
    fn revocation(self) -> Result<Revocation> {
        let key = self.number.to_string();
        let at = RowRef { table: "revocations", key: &key };
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
    /// The current state of the revocation feed.
    pub async fn revocation_feed(&mut self) -> Result<RevocationFeed> {
        const SQL: &str = "select id, last_number, purged_through from revocation_feed";
        let feed: Option<RevocationFeed> = find_row!(self, SQL)?;
        feed.ok_or_else(|| Error::internal("the table revocation_feed is empty"))
    }

    /// The time of the database's clock. `None` for SQLite, which has only the clock of this
    /// machine.
    pub async fn time(&mut self) -> Result<Option<Timestamp>> {
        const SQL: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        if !self.is_postgres() {
            return Ok(None);
        }
        let micros: i64 = one_value!(self, SQL)?;
        Ok(Some(from_microsecond(micros)))
    }

    /// Up to `max` revocations with numbers greater than `after` and at most `last`, in order.
    pub async fn list_revocations(
        &mut self,
        after: i64,
        last: i64,
        max: i64,
    ) -> Result<Vec<Revocation>> {
        const SQL: &str = "select number, kind, subject, epoch, revoked_at, expires_at \
            from revocations where number > $1 and number <= $2 order by number limit $3";
        let rows: Vec<RevocationRow> = list_rows!(self, SQL, after, last, max)?;
        rows.into_iter().map(RevocationRow::revocation).collect()
    }

    /// Up to `max` revocations with numbers greater than `after` and at most `last`. `None`: there
    /// are none.
    pub async fn read_revocations(
        &mut self,
        after: i64,
        last: i64,
        max: i64,
    ) -> Result<Option<RevocationChunk>> {
        const OTHERS: &str = concat!(
            "select number, kind, subject, epoch, revoked_at, expires_at from revocations \
             where number > $1 and number <= $2 and not ",
            of_issued_token!(),
            " order by number"
        );
        let (last, tokens, others): (Option<i64>, _, i64) = if self.is_postgres() {
            let row: (_, Vec<u8>, _) = one_row!(self, TokenList::POSTGRES, after, last, max)?;
            (row.0, TokenList::Records(row.1), row.2)
        } else {
            let row: (_, String, _) = one_row!(self, TokenList::SQLITE, after, last, max)?;
            (row.0, TokenList::Text(row.1), row.2)
        };
        let Some(last) = last else { return Ok(None) };
        let others: Vec<RevocationRow> =
            if others == 0 { Vec::new() } else { list_rows!(self, OTHERS, after, last)? };
        let others = others.into_iter().map(RevocationRow::revocation).collect::<Result<_>>()?;
        Ok(Some(RevocationChunk { tokens, others, last }))
    }

    /// Tokens of this subject with a smaller epoch are revoked. 0 if there are none. A resource
    /// that is created again starts with this epoch, so that tokens of the deleted one stay
    /// revoked.
    pub async fn revoked_epoch(&mut self, subject: &Subject) -> Result<i64> {
        const SQL: &str =
            "select coalesce(max(epoch), 0) from revocations where kind = $1 and subject = $2";
        one_value!(self, SQL, subject.kind(), subject.name())
    }
}

impl Tx {
    /// Appends revocations to the feed, and returns them with their numbers. Until the commit,
    /// other transactions wait before they can add any. So this is the last step of a transaction.
    pub async fn insert_revocations(
        &mut self,
        revocations: &[NewRevocation],
        now: Timestamp,
    ) -> Result<Vec<Revocation>> {
        const SQL: &str = "insert into revocations (number, kind, subject, epoch, revoked_at, \
            expires_at) values ($1, $2, $3, $4, $5, $6)";
        let count = i64::try_from(revocations.len()).unwrap_or(i64::MAX);
        let min_expiry = self.last_token_expiry(now).await?;
        let first = self.reserve_revocation_numbers(count).await? - count + 1;
        let mut inserted = Vec::with_capacity(revocations.len());
        for (number, new) in (first..).zip(revocations) {
            let expires_at = new.expires_at.max(min_expiry);
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

    /// The latest expiry of tokens that a server with a fast clock may have issued. Revocations
    /// must last as long, or such a token would become valid again. `now` if no clock was ahead.
    pub(super) async fn last_token_expiry(&mut self, now: Timestamp) -> Result<Timestamp> {
        let latest: i64 = one_value!(self, "select checked_at from readiness")?;
        let latest = from_microsecond(latest);
        let is_ahead = latest > later(now, Duration::from_secs(MAX_CLOCK_LEAD));
        Ok(if is_ahead { NewRevocation::end(latest) } else { now })
    }

    /// Reserves the next numbers, and returns the last one. Other transactions that need numbers
    /// wait until this one ends.
    pub(super) async fn reserve_revocation_numbers(&mut self, count: i64) -> Result<i64> {
        const SQL: &str =
            "update revocation_feed set last_number = last_number + $1 returning last_number";
        one_value!(self, SQL, count)
    }

    /// Deletes a batch of revocations that expired by `end`; `true` if none is left.
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
