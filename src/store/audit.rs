//! The table of the audit log. Triggers of both databases refuse changes of events.

use sqlx::{AssertSqlSafe, FromRow};

use super::audit_search::{AuditSearch, MAX_SCANNED, Path};
use super::row::{RowRef, micros};
use super::{Session, Tx, execute, find_row, list_rows, one_value};
use crate::clock::from_microsecond;
use crate::domain::{
    Actor, AuditEvent, AuditFilter, Outcome, Page, PageRequest, TenantId, UserName,
};
use crate::error::{Error, Result};

#[derive(FromRow)]
struct AuditEventRow {
    tenant_id: String,
    number: i64,
    at: i64,
    service: String,
    user_name: Option<String>,
    source_address: Option<String>,
    action: String,
    resource: String,
    refused: bool,
    detail: String,
    changes: String,
}

impl AuditEventRow {
    fn event(self) -> Result<AuditEvent> {
        let key = self.number.to_string();
        let at = RowRef { table: "audit_events", key: &key };
        let user = self.user_name.as_deref().map(UserName::parse).transpose();
        Ok(AuditEvent {
            tenant: at.column("tenant_id", TenantId::parse(&self.tenant_id))?,
            number: self.number,
            at: from_microsecond(self.at),
            actor: Actor {
                service: self.service,
                user: at.column("user_name", user)?,
                address: self.source_address,
            },
            action: self.action,
            resource: self.resource,
            outcome: if self.refused { Outcome::Refused } else { Outcome::Done },
            detail: self.detail,
            changes: serde_json::from_str(&self.changes)
                .map_err(|error| Error::Internal(Box::new(error)))?,
        })
    }
}

/// The numbers that a page can have: from `low` on, below `high`.
#[derive(Clone, Copy)]
struct Numbers {
    low: i64,
    high: i64,
}

#[derive(Clone, Copy)]
struct Sealing {
    first_unsealed: i64,
    unsealed: i64,
}

/// Runs a statement of a search with its parameters.
macro_rules! run_search {
    ($run:ident, $session:expr, $sql:expr, $search:expr, $numbers:expr, $sealing:expr, $limit:expr) => {{
        let (filter, resource) = ($search.filter, $search.resource());
        let parent = parent(resource);
        $run!(
            $session,
            AssertSqlSafe($sql),
            $search.tenant.as_str(),
            $numbers.low,
            resource,
            parent,
            self::parent(parent),
            // The range of names that begin with the resource and a slash. "0" follows "/".
            format!("{resource}/"),
            format!("{resource}0"),
            filter.actor.as_deref().unwrap_or_default(),
            filter.action.map_or("", |action| action.into_str()),
            micros(filter.start),
            micros(filter.end),
            $limit,
            $numbers.high,
            $numbers.low.max($sealing.first_unsealed)
        )
    }};
}

impl Session {
    /// A page of a tenant's events with numbers from `since` on. If no index has few enough events
    /// for the filter, the page ends after a part of the log, and can have fewer events than asked
    /// for.
    pub async fn list_audit_events(
        &mut self,
        tenant: &TenantId,
        since: i64,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEvent>> {
        let after = page.after.as_deref().map(str::parse).transpose();
        let after: Option<i64> = after.map_err(|_| Error::InvalidPageToken)?;
        let (first, last) = self.numbers_of_times(tenant, filter).await?;
        let (low, high) = match after {
            Some(after) if filter.oldest_first => (after.saturating_add(1), last),
            Some(after) => (0, last.min(after)),
            None => (0, last),
        };
        let numbers = Numbers { low: low.max(since).max(first), high };
        let sealing = self.sealing(tenant).await?;
        let is_postgres = self.is_postgres();
        let mut search = AuditSearch { is_postgres, tenant, filter, has_many_below: false };
        if search.has_range() {
            let sql = AuditSearch::count_below();
            let below: i64 = run_search!(one_value, self, sql, search, numbers, sealing, 0_i64)?;
            search.has_many_below = below >= MAX_SCANNED;
        }
        let (sql, end) = self.audit_page(&search, numbers, sealing).await?;
        let rows: Vec<AuditEventRow> =
            run_search!(list_rows, self, sql, search, numbers, sealing, page.limit())?;
        let events = rows.into_iter().map(AuditEventRow::event).collect::<Result<_>>()?;
        let mut page = page.page(events, |event: &AuditEvent| event.number.to_string());
        page.next = page.next.or_else(|| end.map(|end| end.to_string()));
        Ok(page)
    }

    /// The statement for a page. With the number of the last event that it compares, if the page
    /// ends there even if it is not full.
    async fn audit_page(
        &mut self,
        search: &AuditSearch<'_>,
        numbers: Numbers,
        sealing: Sealing,
    ) -> Result<(String, Option<i64>)> {
        let paths = search.paths();
        let has_many_unsealed =
            sealing.unsealed >= MAX_SCANNED && paths.iter().any(|path| search.has_unsealed(*path));
        if let [path] = paths[..]
            && search.is_decided_by(path)
            && !has_many_unsealed
        {
            return Ok((search.page_of_path(path), None));
        }
        let mut furthest: Option<(Path, i64)> = None;
        for path in paths {
            let sql = search.extent(path);
            let extent: Option<(i64, i64)> =
                run_search!(find_row, self, sql, search, numbers, sealing, MAX_SCANNED)?;
            let (count, last) = extent.unwrap_or_default();
            if count < MAX_SCANNED {
                return Ok((search.page_of_scan(path), None));
            }
            let is_further = furthest.is_none_or(|(_, before)| {
                if search.filter.oldest_first { last > before } else { last < before }
            });
            if is_further {
                furthest = Some((path, last));
            }
        }
        let (path, end) = furthest.map_or((Path::Number, None), |(path, last)| (path, Some(last)));
        Ok((search.page_of_scan(path), end))
    }

    /// How far the chain of a tenant is behind its log.
    async fn sealing(&mut self, tenant: &TenantId) -> Result<Sealing> {
        const SQL: &str = "select coalesce((select number from audit_heads where tenant_id = $1), 0), \
            coalesce((select max(number) from audit_events where tenant_id = $1), 0)";
        let row: Option<(i64, i64)> = find_row!(self, SQL, tenant.as_str())?;
        let (sealed, last) = row.unwrap_or_default();
        Ok(Sealing { first_unsealed: sealed.saturating_add(1), unsealed: last - sealed })
    }

    /// The first and the last number that events of the filter's times can have. Events are in the
    /// order of their times, except that the clocks of servers differ.
    async fn numbers_of_times(
        &mut self,
        tenant: &TenantId,
        filter: &AuditFilter,
    ) -> Result<(i64, i64)> {
        let (mut first, mut last) = (0, i64::MAX);
        if let Some(start) = filter.start {
            let start = start.as_microsecond().saturating_sub(MAX_CLOCK_DIFFERENCE);
            first = self.first_number_at(tenant, start).await?;
        }
        if let Some(end) = filter.end {
            let end = end.as_microsecond().saturating_add(MAX_CLOCK_DIFFERENCE);
            last = self.first_number_at(tenant, end).await?;
        }
        Ok((first, last))
    }

    /// The number of the first event from this time on, by bisection; the next number if there is
    /// none.
    async fn first_number_at(&mut self, tenant: &TenantId, at: i64) -> Result<i64> {
        // SQLite would read all numbers for both ends at once.
        const ENDS: &str = "select \
            coalesce((select min(number) from audit_events where tenant_id = $1), 0), \
            coalesce((select max(number) from audit_events where tenant_id = $1), 0)";
        const NEXT: &str = "select number, at from audit_events \
            where tenant_id = $1 and number >= $2 order by number limit 1";
        let ends: Option<(i64, i64)> = find_row!(self, ENDS, tenant.as_str())?;
        let (mut low, mut high) = ends.map_or((0, 0), |(min, max)| (min, max + 1));
        while low < high {
            let middle = low + (high - low) / 2;
            let next: Option<(i64, i64)> = find_row!(self, NEXT, tenant.as_str(), middle)?;
            match next {
                Some((number, time)) if time < at => low = number + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// By how much the times of events can differ from their order, in microseconds. A server whose
/// clock is wrong by more issues no tokens that others accept.
const MAX_CLOCK_DIFFERENCE: i64 = 60 * 60 * 1_000_000;

/// The parent of a resource: the application of a credential, the tenant of an application.
fn parent(resource: &str) -> &str {
    let mut slashes = resource.rmatch_indices('/').skip(1);
    slashes.next().map_or("", |(end, _)| &resource[..end])
}

impl Tx {
    /// Adds an event with the next number of its tenant. The transaction must have locked or
    /// created the tenant.
    pub async fn insert_audit_event(&mut self, event: &AuditEvent) -> Result<()> {
        const SQL: &str = "insert into audit_events (tenant_id, number, at, service, user_name, \
            source_address, action, resource, refused, detail, changes) values ($1, \
            (select coalesce(max(number), 0) + 1 from audit_events where tenant_id = $1), \
            $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        execute!(
            self,
            SQL,
            event.tenant.as_str(),
            event.at.as_microsecond(),
            &event.actor.service,
            event.actor.user.as_ref().map(ToString::to_string),
            event.actor.address.as_deref(),
            &event.action,
            &event.resource,
            event.outcome == Outcome::Refused,
            &event.detail,
            changes_column(event)?
        )
        .map(drop)
    }
}

/// Converts the changes of an event to a column.
pub(super) fn changes_column(event: &AuditEvent) -> Result<String> {
    serde_json::to_string(&event.changes).map_err(|error| Error::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::parent;

    #[test]
    fn parent_is_prefix_of_resource_name() {
        assert_eq!(parent("tenants/t/applications/a/credentials/c"), "tenants/t/applications/a");
        assert_eq!(parent("tenants/t/applications/a"), "tenants/t");
        assert_eq!(parent("tenants/t"), "");
        assert_eq!(parent(""), "");
    }
}
