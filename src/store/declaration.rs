//! Statements of the command that declares a database as valid after a restore from a backup. Each
//! step is one statement for all tenants.

use jiff::Timestamp;

use super::{Tx, execute};
use crate::domain::NewRevocation;
use crate::error::Result;

/// Raises epochs by at least 1,000,000: far more than they can have increased since the backup.
macro_rules! raise {
    ($table:literal, $more:literal) => {
        concat!(
            "update ",
            $table,
            " set epoch = case when epoch + 1000000 > $1 then epoch + 1000000 else $1 end",
            $more
        )
    };
}

macro_rules! revise {
    ($table:literal) => {
        concat!("update ", $table, " set revision = revision + 1000000")
    };
}

impl Tx {
    /// Raises all epochs above those of tokens that were issued after the backup. `$1` is the time,
    /// so that a second declaration raises them again. Until the commit, no other transaction can
    /// change a tenant.
    pub async fn raise_all_epochs(&mut self, now: Timestamp) -> Result<()> {
        const TENANTS: &str = raise!("tenants", ", revision = revision + 1, updated_at = $2");
        const APPLICATIONS: &str = raise!("applications", "");
        const CREDENTIALS: &str = raise!("credentials", "");
        // Tenants come first, because every change in a tenant locks the tenant first.
        execute!(self, TENANTS, now.as_millisecond(), now.as_microsecond())?;
        execute!(self, APPLICATIONS, now.as_millisecond())?;
        execute!(self, CREDENTIALS, now.as_millisecond()).map(drop)
    }

    /// Raises all revisions by far more than they can have increased since the backup. An etag from
    /// after the backup then matches nothing.
    pub async fn raise_all_revisions(&mut self) -> Result<()> {
        const TABLES: [&str; 6] = [
            revise!("tenants"),
            revise!("scopes"),
            revise!("roles"),
            revise!("users"),
            revise!("applications"),
            revise!("credentials"),
        ];
        for sql in TABLES {
            execute!(self, sql)?;
        }
        Ok(())
    }

    /// Changes the id of the revocation feed.
    pub async fn rename_revocation_feed(&mut self, id: &str) -> Result<()> {
        execute!(self, "update revocation_feed set id = $1", id).map(drop)
    }

    /// Revokes the tokens of each tenant below its epoch, and returns the number of tenants.
    pub async fn revoke_all_tenants(&mut self, now: Timestamp) -> Result<u64> {
        const SQL: &str = "insert into revocations (number, kind, subject, epoch, revoked_at, \
            expires_at) select (select last_number from revocation_feed) \
            + row_number() over (order by id), 'tenant', 'tenants/' || id, epoch, $1, $2 \
            from tenants";
        self.reserve_revocation_numbers(0).await?;
        let end = NewRevocation::end(now).max(self.last_token_expiry(now).await?);
        let count = execute!(self, SQL, now.as_microsecond(), end.as_microsecond())?;
        self.reserve_revocation_numbers(i64::try_from(count).unwrap_or(i64::MAX)).await?;
        Ok(count)
    }
}
