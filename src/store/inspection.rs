//! Reads the state of a database without changing it, for `keyward doctor`.

use jiff::Timestamp;
use sqlx::FromRow;

use super::row::moment;
use super::schema::{Applied, SchemaReport, postgres_migrations, sqlite_migrations};
use super::{Session, list_rows, one_value};
use crate::domain::Moment;
use crate::error::Result;

/// A standby of the database server.
#[derive(Clone, Debug, FromRow)]
pub struct Standby {
    pub name: String,
    /// `sync`, `quorum`, `potential` or `async`; empty if the role may not see it.
    pub sync_state: String,
    /// The bytes of the write-ahead log that it has not replayed.
    pub lag_bytes: i64,
    pub lag_seconds: i64,
}

/// The connections of a PostgreSQL server.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct ConnectionCounts {
    /// How many it permits, without those that are reserved for superusers.
    pub permitted: i64,
    /// How many are open, those of this command included.
    pub open: i64,
}

/// A credential and its end.
#[derive(Clone, Debug)]
pub struct CredentialEnd {
    /// The resource name.
    pub name: String,
    /// When it ends; `None`: never.
    pub at: Option<Moment>,
}

#[derive(FromRow)]
struct CredentialEndRow {
    tenant_id: String,
    application_id: String,
    id: String,
    expires_at: Option<i64>,
}

impl From<CredentialEndRow> for CredentialEnd {
    fn from(row: CredentialEndRow) -> Self {
        let CredentialEndRow { tenant_id, application_id, id, expires_at } = row;
        let name = format!("tenants/{tenant_id}/applications/{application_id}/credentials/{id}");
        Self { name, at: moment(expires_at) }
    }
}

impl Session {
    /// The version of the database software.
    pub async fn software_version(&mut self) -> Result<String> {
        if self.is_postgres() {
            let version: String = one_value!(self, "select current_setting('server_version')")?;
            return Ok(format!("PostgreSQL {version}"));
        }
        let version: String = one_value!(self, "select sqlite_version()")?;
        let mode: String = one_value!(self, "pragma journal_mode")?;
        Ok(format!("SQLite {version}, journal mode {mode}"))
    }

    /// Compares the schema with that of this version.
    pub async fn schema_report(&mut self) -> Result<SchemaReport> {
        const MIGRATIONS: &str =
            "select version, checksum from _sqlx_migrations where success order by version";
        const COMPATIBILITY: &str =
            "select migration, oldest_program from schema_compatibility order by migration";
        let mut applied = Applied::default();
        if self.has_table("_sqlx_migrations").await? {
            applied.migrations = list_rows!(self, MIGRATIONS)?;
        }
        if self.has_table("schema_compatibility").await? {
            applied.compatibility = list_rows!(self, COMPATIBILITY)?;
        }
        let ours = if self.is_postgres() { postgres_migrations() } else { sqlite_migrations() };
        Ok(SchemaReport::new(&applied, ours))
    }

    async fn has_table(&mut self, name: &str) -> Result<bool> {
        const POSTGRES: &str = "select count(to_regclass($1)) from (select 1) one";
        const SQLITE: &str = "select count(*) from sqlite_master where name = $1";
        let sql = if self.is_postgres() { POSTGRES } else { SQLITE };
        let count: i64 = one_value!(self, sql, name)?;
        Ok(count > 0)
    }

    /// The standbys that are connected. Empty for SQLite.
    pub async fn standbys(&mut self) -> Result<Vec<Standby>> {
        const SQL: &str = "select coalesce(application_name, '') as name, \
            coalesce(sync_state, '') as sync_state, \
            coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint as lag_bytes, \
            coalesce(extract(epoch from replay_lag), 0)::bigint as lag_seconds \
            from pg_stat_replication order by 1";
        if !self.is_postgres() {
            return Ok(Vec::new());
        }
        list_rows!(self, SQL)
    }

    /// The connections of the server. `None` for SQLite.
    pub async fn connections(&mut self) -> Result<Option<ConnectionCounts>> {
        const SQL: &str = "select current_setting('max_connections')::bigint \
              - current_setting('superuser_reserved_connections')::bigint as permitted, \
            (select count(*) from pg_stat_activity where datname is not null) as open";
        if !self.is_postgres() {
            return Ok(None);
        }
        let rows: Vec<ConnectionCounts> = list_rows!(self, SQL)?;
        Ok(rows.into_iter().next())
    }

    /// The enabled credentials that may manage everything, with their ends.
    pub async fn admin_credentials(&mut self) -> Result<Vec<CredentialEnd>> {
        const SQL: &str = "select c.tenant_id, c.application_id, c.id, \
              case when a.expires_at is null then c.expires_at \
                when c.expires_at is null or a.expires_at < c.expires_at then a.expires_at \
                else c.expires_at end as expires_at \
            from credentials c \
            join applications a on a.tenant_id = c.tenant_id and a.id = c.application_id \
            join application_scopes s on s.tenant_id = a.tenant_id and s.application_id = a.id \
            where c.tenant_id = 'system' and s.scope = 'keyward.admin' \
              and not c.disabled and not a.disabled order by c.id";
        let rows: Vec<CredentialEndRow> = list_rows!(self, SQL)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Up to `max` enabled credentials that end in this time, the first one first.
    pub async fn credentials_that_end(
        &mut self,
        from: Timestamp,
        until: Timestamp,
        max: i64,
    ) -> Result<Vec<CredentialEnd>> {
        const SQL: &str = "select tenant_id, application_id, id, expires_at from credentials \
            where expires_at > $1 and expires_at <= $2 and not disabled \
            order by expires_at, id limit $3";
        let (from, until) = (from.as_microsecond(), until.as_microsecond());
        let rows: Vec<CredentialEndRow> = list_rows!(self, SQL, from, until, max)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}
