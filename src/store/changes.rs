//! The change feed: the resources of a tenant that changed, for servers that cache them. A trigger
//! of the database adds a row for each event of the audit log, except for refused attempts.

use jiff::Timestamp;
use sqlx::FromRow;

use super::{Session, Tx, execute, find_row, list_rows};
use crate::domain::{CredentialId, TenantId};
use crate::error::Result;

/// The number of rows that one statement deletes.
const BATCH: u64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct TenantChange {
    /// The number in its tenant. Changes of a tenant are committed in this order.
    pub number: i64,
    /// The time in microseconds since the epoch.
    pub at: i64,
    /// The name of the resource that changed.
    pub resource: String,
}

impl Session {
    /// The last change of the tenant of a credential, if there is one.
    pub async fn last_tenant_change(
        &mut self,
        credential: &CredentialId,
    ) -> Result<Option<TenantChange>> {
        const SQL: &str = "select number, at, resource from tenant_changes \
            where tenant_id = (select tenant_id from credentials where id = $1) \
            order by number desc limit 1";
        find_row!(self, SQL, credential.as_str())
    }

    /// Up to `max` changes of a tenant, from this number on.
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
    /// Deletes a batch of changes before `end`; `true` if none is left. Keeps the last change of
    /// each tenant: a server that knows it has missed nothing.
    pub async fn purge_changes(&mut self, end: Timestamp) -> Result<bool> {
        const SQL: &str = "delete from tenant_changes where (tenant_id, number) in ( \
            select c.tenant_id, c.number from tenant_changes c where c.at < $1 \
              and exists (select 1 from tenant_changes n \
                where n.tenant_id = c.tenant_id and n.number > c.number) \
              limit 10000)";
        execute!(self, SQL, end.as_microsecond()).map(|rows| rows < BATCH)
    }
}
