//! Declaring that the database as it is, restored from a backup, is the truth: one statement for
//! each step, whatever the number of tenants.

use jiff::Timestamp;

use super::{Tx, execute};
use crate::domain::NewRevocation;
use crate::error::Result;

/// Epochs rise by so much at least: far more than they can have risen since a backup.
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

impl Tx {
    /// Raises every epoch there is, beyond what tokens can carry that were made after a backup.
    /// `$1` is the time, which has moved on since an earlier declaration. From here to the commit
    /// no other transaction changes a tenant.
    pub async fn raise_all_epochs(&mut self, now: Timestamp) -> Result<()> {
        const TENANTS: &str = raise!("tenants", ", revision = revision + 1, updated_at = $2");
        const APPLICATIONS: &str = raise!("applications", "");
        const CREDENTIALS: &str = raise!("credentials", "");
        // Tenants first: what changes anything of a tenant locks it first.
        execute!(self, TENANTS, now.as_millisecond(), now.as_microsecond())?;
        execute!(self, APPLICATIONS, now.as_millisecond())?;
        execute!(self, CREDENTIALS, now.as_millisecond()).map(drop)
    }

    /// Gives the list of revocations another name.
    pub async fn rename_revocation_feed(&mut self, id: &str) -> Result<()> {
        execute!(self, "update revocation_feed set id = $1", id).map(drop)
    }

    /// Revokes the tokens of every tenant that are older than its epoch; how many tenants.
    pub async fn revoke_all_tenants(&mut self, now: Timestamp) -> Result<u64> {
        const SQL: &str = "insert into revocations (number, kind, subject, epoch, revoked_at, \
            expires_at) select (select last_number from revocation_feed) \
            + row_number() over (order by id), 'tenant', 'tenants/' || id, epoch, $1, $2 \
            from tenants";
        self.take_revocation_numbers(0).await?;
        let end = NewRevocation::end(now).max(self.end_of_all_tokens(now).await?);
        let count = execute!(self, SQL, now.as_microsecond(), end.as_microsecond())?;
        self.take_revocation_numbers(i64::try_from(count).unwrap_or(i64::MAX)).await?;
        Ok(count)
    }
}
