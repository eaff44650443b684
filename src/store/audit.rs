//! The table of the audit log. Triggers of both databases refuse changes of events.

use sqlx::{AssertSqlSafe, FromRow};

use super::row::{RowRef, micros};
use super::{Session, Tx, execute, find_row, list_rows};
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

impl Session {
    /// A page of a tenant's events with numbers from `since` on.
    pub async fn list_audit_events(
        &mut self,
        tenant: &TenantId,
        since: i64,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEvent>> {
        let after = page.after.as_deref().map(str::parse).transpose();
        let after: Option<i64> = after.map_err(|_| Error::InvalidPageToken)?;
        let resource = filter.resource.as_deref().unwrap_or_default();
        let parent = parent(resource);
        // One bound on each side: SQLite would use any of several for its index.
        let (first, last) = self.numbers_of_times(tenant, filter).await?;
        let (low, high) = match after {
            Some(after) if filter.oldest_first => (after.saturating_add(1), last),
            Some(after) => (0, last.min(after)),
            None => (0, last),
        };
        let low = low.max(since).max(first);
        let is_postgres = self.is_postgres();
        let sealed: Option<(i64,)> = find_row!(
            self,
            "select number from audit_heads where tenant_id = $1",
            tenant.as_str()
        )?;
        let rows: Vec<AuditEventRow> = list_rows!(
            self,
            AssertSqlSafe(search(is_postgres, tenant, filter)),
            tenant.as_str(),
            low,
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
            page.limit(),
            high,
            // The first event that is not in the chain.
            low.max(sealed.map_or(1, |(number,)| number.saturating_add(1)))
        )?;
        let events = rows.into_iter().map(AuditEventRow::event).collect::<Result<_>>()?;
        Ok(page.page(events, |event| event.number.to_string()))
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
        const ENDS: &str = "select coalesce(min(number), 0), coalesce(max(number), 0) \
            from audit_events where tenant_id = $1";
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

/// The statement for a page of events. Each branch follows one index in the order of the numbers,
/// and stops at the size of the page, so that the time does not depend on the length of the log.
fn search(is_postgres: bool, tenant: &TenantId, filter: &AuditFilter) -> String {
    let order = if filter.oldest_first { "asc" } else { "desc" };
    let resource = filter.resource.as_deref().unwrap_or_default();
    // Written so that no index fits them: SQLite, which has no statistics, would otherwise prefer one
    // of those to the index of the branch.
    let conditions = [
        (
            !resource.is_empty(),
            "((e.resource || '') in ($3, $4, $5) \
              or ((e.resource || '') >= $6 and (e.resource || '') < $7))",
        ),
        (filter.actor.is_some(), "((e.service || '') = $8 or (e.user_name || '') = $8)"),
        (filter.action.is_some(), "(e.action || '') = $9"),
        (filter.start.is_some(), "e.at + 0 >= $10"),
        (filter.end.is_some(), "e.at + 0 < $11"),
    ];
    let mut filters = String::new();
    for (_, condition) in conditions.into_iter().filter(|(is_set, _)| *is_set) {
        filters.push_str(" and ");
        filters.push_str(condition);
    }
    let branch = |from: &str, table: &str, by: &str| {
        format!(
            "select number from (select {table}.number from {from} where {table}.tenant_id = $1 \
               and {table}.number < $13 and {by}{filters} \
             order by {table}.number {order} limit $12) x"
        )
    };
    // SQLite has no statistics, and would use the primary key.
    let hint = |index: &str| {
        if is_postgres { String::new() } else { format!(" indexed by {index}") }
    };
    let by_number = |by: &str| branch("audit_events e", "e", by);
    let by_event = |index: &str, by: &str| {
        let from = format!("audit_events e{}", hint(index));
        branch(&from, "e", &format!("{by} and e.number >= $2"))
    };
    let by_resource = |by: &str| by_event("audit_events_by_resource", by);
    // The chain has the columns that the table of events has no index for.
    let by_chain = |index: &str, by: &str| {
        // SQLite follows the order of a cross join.
        let from = format!("audit_chain c{} cross join audit_events e", hint(index));
        let joined = "e.tenant_id = c.tenant_id and e.number = c.number and c.number >= $2";
        branch(&from, "c", &format!("{by} and {joined}"))
    };
    let unsealed = "e.number >= $14";
    let depth = resource.split('/').count();
    let branches = if resource == tenant.name() {
        // Nearly all events of a tenant match, so that the log itself is the best index.
        vec![by_number("e.number >= $2")]
    } else if depth.is_multiple_of(2) && depth > 2 && !resource.contains("/scopes/") {
        // Below these there is one level at most: the credentials of an application. Names of scopes
        // can have slashes.
        vec![
            by_resource("e.resource = $3"),
            by_resource("e.resource = $4"),
            by_resource("e.resource = $5"),
            by_chain("audit_chain_by_parent", "c.parent = $3"),
            by_number(unsealed),
        ]
    } else if !resource.is_empty() {
        vec![
            by_resource("e.resource = $3"),
            by_resource("e.resource = $4"),
            by_resource("e.resource = $5"),
            by_resource("e.resource >= $6 and e.resource < $7"),
        ]
    } else if filter.actor.is_some() {
        vec![
            by_event("audit_events_by_service", "e.service = $8"),
            by_event("audit_events_by_user", "e.user_name = $8"),
        ]
    } else if filter.action.is_some() {
        vec![by_chain("audit_chain_by_action", "c.action = $9"), by_number(unsealed)]
    } else {
        vec![by_number("e.number >= $2")]
    };
    // All parameters must occur in the statement.
    format!(
        "select tenant_id, number, at, service, user_name, source_address, action, resource, \
           refused, detail, changes from audit_events \
         where tenant_id = $1 and number in ({}) \
           and $3 = $3 and $4 = $4 and $5 = $5 and $6 = $6 and $7 = $7 and $8 = $8 and $9 = $9 \
           and coalesce($10, $2) = coalesce($10, $2) \
           and coalesce($11, $14) = coalesce($11, $14) \
         order by number {order} limit $12",
        branches.join(" union ")
    )
}

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
