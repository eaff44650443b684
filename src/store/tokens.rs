//! Revoked tokens in tables: one row for each that has not ended by itself.

use jiff::Timestamp;

use super::{Session, Tx, execute, one_value};
use crate::domain::TenantId;
use crate::error::Result;

impl Session {
    /// Whether this token was revoked.
    pub async fn is_token_revoked(&mut self, id: &str) -> Result<bool> {
        const SQL: &str = "select count(*) from revoked_tokens where id = $1";
        let count: i64 = one_value!(self, SQL, id)?;
        Ok(count > 0)
    }
}

impl Tx {
    /// Revokes a token; once more is no error.
    pub async fn insert_revoked_token(
        &mut self,
        id: &str,
        tenant: &TenantId,
        revoked_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        const SQL: &str = "insert into revoked_tokens (id, tenant_id, revoked_at, expires_at) \
            values ($1, $2, $3, $4) on conflict do nothing";
        execute!(
            self,
            SQL,
            id,
            tenant.as_str(),
            revoked_at.as_microsecond(),
            expires_at.as_microsecond()
        )
        .map(drop)
    }

    /// Deletes rows of tokens that have ended by themselves before `end`, some at a time;
    /// `true` when none is left.
    pub async fn purge_revoked_tokens(&mut self, end: Timestamp) -> Result<bool> {
        const SQL: &str = "delete from revoked_tokens where id in \
            (select id from revoked_tokens where expires_at <= $1 order by id limit 1000)";
        execute!(self, SQL, end.as_microsecond()).map(|rows| rows < 1000)
    }
}
