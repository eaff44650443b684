//! The change feed: which resources of a tenant changed, for servers that keep what they read. The
//! database adds a row with each event of the audit log that is not a refused attempt.

use jiff::Timestamp;
use sqlx::FromRow;

use super::{Session, Tx, execute, find_row, list_rows};
use crate::domain::{CredentialId, TenantId};
use crate::error::Result;

/// How many rows one transaction deletes.
const BATCH: u64 = 10_000;

/// A change of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct TenantChange {
    /// Its number in its tenant: changes are committed in this order.
    pub number: i64,
    /// When, in microseconds since the epoch.
    pub at: i64,
    /// The resource name of what changed.
    pub resource: String,
}

impl Session {
    /// The last change of a credential's tenant, if there is any.
    pub async fn last_change_around(
        &mut self,
        credential: &CredentialId,
    ) -> Result<Option<TenantChange>> {
        const SQL: &str = "select number, at, resource from tenant_changes \
            where tenant_id = (select tenant_id from credentials where id = $1) \
            order by number desc limit 1";
        find_row!(self, SQL, credential.as_str())
    }

    /// A tenant's changes from a number on, at most so many.
    pub async fn changes_from(
        &mut self,
        tenant: &TenantId,
        number: i64,
        max: i64,
    ) -> Result<Vec<TenantChange>> {
        const SQL: &str = "select number, at, resource from tenant_changes \
            where tenant_id = $1 and number >= $2 order by number limit $3";
        list_rows!(self, SQL, tenant.as_str(), number, max)
    }
}

impl Tx {
    /// Deletes changes before `end`, some at a time; `true` when none is left. The last change of a
    /// tenant stays: a server that knows it has missed nothing.
    pub async fn purge_changes(&mut self, end: Timestamp) -> Result<bool> {
        const SQL: &str = "delete from tenant_changes where (tenant_id, number) in ( \
            select c.tenant_id, c.number from tenant_changes c where c.at < $1 \
              and exists (select 1 from tenant_changes n \
                where n.tenant_id = c.tenant_id and n.number > c.number) \
              limit 10000)";
        execute!(self, SQL, end.as_microsecond()).map(|rows| rows < BATCH)
    }
}
