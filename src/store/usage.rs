//! Use in tables: the last one on application and credential, and counts by day.

use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::FromRow;

use super::row::At;
use super::{Session, Tx, execute, list_rows};
use crate::domain::{ApplicationName, CredentialId, CredentialName, Fault, UsageDay};
use crate::error::Result;

#[derive(FromRow)]
struct Row {
    day: String,
    credential_id: String,
    exchanges: i64,
    checks: i64,
}

impl Row {
    fn usage(self) -> Result<UsageDay> {
        let at = At { table: "usage_days", key: &self.credential_id };
        let date = self.day.parse::<Date>().map_err(|error| Fault::new(error.to_string()));
        Ok(UsageDay {
            date: at.column("day", date)?,
            credential: at.column("credential_id", CredentialId::parse(&self.credential_id))?,
            exchanges: self.exchanges,
            checks: self.checks,
        })
    }
}

impl Session {
    /// How often an application was used, from one day to another.
    pub async fn list_usage(
        &mut self,
        application: &ApplicationName,
        first: Date,
        last: Date,
    ) -> Result<Vec<UsageDay>> {
        const SQL: &str = "select day, credential_id, exchanges, checks from usage_days \
            where tenant_id = $1 and application_id = $2 and day >= $3 and day <= $4 \
            order by day, credential_id";
        let rows: Vec<Row> = list_rows!(
            self,
            SQL,
            application.tenant.as_str(),
            application.application.as_str(),
            first.to_string(),
            last.to_string()
        )?;
        rows.into_iter().map(Row::usage).collect()
    }
}

impl Tx {
    /// Moves the last use of a credential and its application forward, if they are still
    /// there.
    pub async fn record_last_use(
        &mut self,
        credential: &CredentialName,
        at: Timestamp,
        address: Option<&str>,
    ) -> Result<()> {
        const CREDENTIAL: &str = "update credentials set last_used_at = $3, \
            last_used_address = coalesce($4, last_used_address) \
            where tenant_id = $1 and id = $2 and last_used_at <= $3";
        const APPLICATION: &str = "update applications set last_used_at = $3, \
            last_used_address = coalesce($4, last_used_address) \
            where tenant_id = $1 and id = $2 and last_used_at <= $3";
        let application = &credential.application;
        let (tenant, at) = (application.tenant.as_str(), at.as_microsecond());
        execute!(self, CREDENTIAL, tenant, credential.credential.as_str(), at, address)?;
        execute!(self, APPLICATION, tenant, application.application.as_str(), at, address).map(drop)
    }

    /// Adds to the counts of a day, if the application is still there.
    pub async fn add_usage(
        &mut self,
        application: &ApplicationName,
        usage: &UsageDay,
    ) -> Result<()> {
        const SQL: &str = "insert into usage_days (tenant_id, application_id, credential_id, day, \
            exchanges, checks) select tenant_id, id, $3, $4, $5, $6 from applications \
            where tenant_id = $1 and id = $2 \
            on conflict (tenant_id, application_id, day, credential_id) do update set \
            exchanges = usage_days.exchanges + excluded.exchanges, \
            checks = usage_days.checks + excluded.checks";
        execute!(
            self,
            SQL,
            application.tenant.as_str(),
            application.application.as_str(),
            usage.credential.as_str(),
            usage.date.to_string(),
            usage.exchanges,
            usage.checks
        )
        .map(drop)
    }
}
