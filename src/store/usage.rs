//! Usage: the last use of applications and credentials, and counts by day.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use super::row::RowRef;
use super::{Session, Tx, execute, list_rows};
use crate::clock::later;
use crate::domain::{
    ApplicationName, CredentialId, CredentialName, Fault, Life, MAX_CLOCK_LEAD, UsageDay,
};
use crate::error::{Error, Result};

#[derive(FromRow)]
struct UsageRow {
    day: String,
    credential_id: String,
    exchanges: i64,
    checks: i64,
}

impl UsageRow {
    fn usage(self) -> Result<UsageDay> {
        let at = RowRef { table: "usage_days", key: &self.credential_id };
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
    /// The usage of an application from the first to the last day.
    pub async fn list_usage(
        &mut self,
        application: &ApplicationName,
        first: Date,
        last: Date,
    ) -> Result<Vec<UsageDay>> {
        const SQL: &str = "select day, credential_id, exchanges, checks from usage_days \
            where tenant_id = $1 and application_id = $2 and day >= $3 and day <= $4 \
            order by day, credential_id";
        let rows: Vec<UsageRow> = list_rows!(
            self,
            SQL,
            application.tenant.as_str(),
            application.application.as_str(),
            first.to_string(),
            last.to_string()
        )?;
        rows.into_iter().map(UsageRow::usage).collect()
    }
}

/// The last known use of a credential.
#[derive(Clone, Copy, Debug)]
pub struct CredentialUse<'a> {
    /// The credential that was used.
    pub credential: &'a CredentialName,
    /// Distinguishes the tenant and application from deleted ones with the same names.
    pub life: Life,
    /// The time of the use.
    pub at: Timestamp,
    /// The address of the caller, if it is known.
    pub address: Option<IpAddr>,
}

/// A table of the rows in `$1`, a JSON array of arrays. The column of a row is `value`. So the
/// statement does not depend on the number of rows.
pub(super) fn rows(session: &Session) -> &'static str {
    if session.is_postgres() { "json_array_elements(cast($1 as json))" } else { "json_each($1)" }
}

/// Whether `a` is the application of the use `u`, and not a later one with the same name.
macro_rules! same_application {
    () => {
        "a.tenant_id = u.tenant_id and a.id = u.application_id \
         and a.life = cast(u.life as bigint) \
         and exists (select 1 from tenants t \
           where t.id = a.tenant_id and t.life = cast(u.tenant_life as bigint))"
    };
}

/// The tenant, id, time, address, life of the tenant, and life of the application.
type UseRow<'a> = (&'a str, &'a str, i64, Option<IpAddr>, i64, i64);

impl Tx {
    /// Updates the last use of credentials and their applications to later values. Skips those that
    /// were deleted. A last use after `now` was written by a server with a fast clock, and is
    /// replaced.
    pub async fn record_last_use(
        &mut self,
        uses: &[CredentialUse<'_>],
        now: Timestamp,
    ) -> Result<()> {
        let mut credentials = Vec::with_capacity(uses.len());
        let mut applications: HashMap<_, (Timestamp, Option<IpAddr>)> = HashMap::new();
        for &CredentialUse { credential, life, at, address } in uses {
            let application = &credential.application;
            let tenant = application.tenant.as_str();
            credentials.push((
                tenant,
                credential.credential.as_str(),
                at.as_microsecond(),
                address,
                life.tenant,
                life.application,
            ));
            let last = applications
                .entry((tenant, application.application.as_str(), life.tenant, life.application))
                .or_insert((at, address));
            if last.0 <= at {
                *last = (at, address.or(last.1));
            }
        }
        let applications: Vec<_> = applications
            .into_iter()
            .map(|((tenant, id, life, of), (at, address))| {
                (tenant, id, at.as_microsecond(), address, life, of)
            })
            .collect();
        // A credential needs no check of its life, because its id is never used again.
        let latest = later(now, Duration::from_secs(MAX_CLOCK_LEAD));
        self.move_last_use("credentials", "id", "true", &credentials, latest).await?;
        let same = concat!("exists (select 1 from applications a where ", same_application!(), ")");
        self.move_last_use("application_uses", "application_id", same, &applications, latest).await
    }

    async fn move_last_use(
        &mut self,
        table: &str,
        id: &str,
        same: &str,
        uses: &[UseRow<'_>],
        latest: Timestamp,
    ) -> Result<()> {
        let rows = rows(self);
        let sql = format!(
            "update {table} set last_used_at = u.used_at, \
               last_used_address = coalesce(u.address, last_used_address) \
             from (select value ->> 0 as tenant_id, value ->> 1 as application_id, \
               cast(value ->> 2 as bigint) as used_at, value ->> 3 as address, \
               value ->> 4 as tenant_life, value ->> 5 as life from {rows}) u \
             where {table}.tenant_id = u.tenant_id and {table}.{id} = u.application_id \
               and ({table}.last_used_at <= u.used_at or {table}.last_used_at > $2) and {same}"
        );
        execute!(self, AssertSqlSafe(sql), json(uses)?, latest.as_microsecond()).map(drop)
    }

    /// Adds usage to the counts of each day. Skips applications that were deleted. A day of a
    /// credential must occur only once.
    pub async fn add_usage(&mut self, usage: &[(&ApplicationName, Life, UsageDay)]) -> Result<()> {
        let rows = rows(self);
        let same = same_application!();
        let sql = format!(
            "insert into usage_days (tenant_id, application_id, credential_id, day, exchanges, \
               checks) select a.tenant_id, a.id, u.credential_id, u.day, u.exchanges, u.checks \
             from (select value ->> 0 as tenant_id, value ->> 1 as application_id, \
               value ->> 2 as credential_id, value ->> 3 as day, \
               cast(value ->> 4 as bigint) as exchanges, cast(value ->> 5 as bigint) as checks, \
               value ->> 6 as tenant_life, value ->> 7 as life from {rows}) u \
             join applications a on {same} \
             where true \
             on conflict (tenant_id, application_id, day, credential_id) do update set \
             exchanges = usage_days.exchanges + excluded.exchanges, \
             checks = usage_days.checks + excluded.checks"
        );
        let usage: Vec<_> = usage
            .iter()
            .map(|(application, life, day)| {
                let (tenant, id) = (application.tenant.as_str(), application.application.as_str());
                let credential = day.credential.as_str();
                let date = day.date.to_string();
                let Life { tenant: tenant_life, application } = *life;
                (tenant, id, credential, date, day.exchanges, day.checks, tenant_life, application)
            })
            .collect();
        execute!(self, AssertSqlSafe(sql), json(&usage)?).map(drop)
    }
}

fn json(rows: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(rows).map_err(|error| Error::Internal(Box::new(error)))
}
