//! Revoked tokens in tables: one row for each that has not ended by itself.

use jiff::Timestamp;

use super::{Session, Tx, fault, on};
use crate::domain::TenantId;
use crate::error::Result;

impl Session {
    /// Whether this token was revoked.
    pub async fn is_token_revoked(&mut self, id: &str) -> Result<bool> {
        const SQL: &str = "select count(*) from revoked_tokens where id = $1";
        let count: i64 = on!(self, |c| sqlx::query_scalar(SQL)
            .bind(id)
            .fetch_one(c)
            .await)
        .map_err(fault)?;
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
        on!(self, |c| sqlx::query(SQL)
            .bind(id)
            .bind(tenant.as_str())
            .bind(revoked_at.as_microsecond())
            .bind(expires_at.as_microsecond())
            .execute(c)
            .await
            .map(drop))
        .map_err(fault)
    }

    /// Deletes the rows of tokens that have ended by themselves.
    pub async fn purge_revoked_tokens(&mut self, now: Timestamp) -> Result<()> {
        const SQL: &str = "delete from revoked_tokens where expires_at <= $1";
        on!(self, |c| sqlx::query(SQL)
            .bind(now.as_microsecond())
            .execute(c)
            .await
            .map(drop))
        .map_err(fault)
    }
}
