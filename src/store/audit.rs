//! The table of the audit log. Triggers of both databases refuse changes of events.

use sqlx::{AssertSqlSafe, FromRow};

use super::row::{RowRef, micros};
use super::{Session, Tx, execute, list_rows};
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
        let (beyond, order, start) =
            if filter.oldest_first { (">", "asc", 0) } else { ("<", "desc", i64::MAX) };
        let resource = filter.resource.as_deref().unwrap_or_default();
        let parent = parent(resource);
        // A condition without a value is left out, so that the database can use the index of
        // another. Its parameters must still occur in the statement.
        let conditions = [
            (
                !resource.is_empty(),
                "(resource in ($3, $4, $5) or (resource >= $6 and resource < $7))",
                "$3 = $3 and $4 = $4 and $5 = $5 and $6 = $6 and $7 = $7",
            ),
            (filter.actor.is_some(), "(service = $8 or user_name = $8)", "$8 = $8"),
            (filter.action.is_some(), "action = $9", "$9 = $9"),
            (filter.start.is_some(), "at >= $10", "$10 is null"),
            (filter.end.is_some(), "at < $11", "$11 is null"),
        ]
        .map(|(is_set, condition, otherwise)| if is_set { condition } else { otherwise })
        .join(" and ");
        let sql = format!(
            "select tenant_id, number, at, service, user_name, source_address, action, resource, \
               refused, detail, changes from audit_events \
             where tenant_id = $1 and number {beyond} $2 and number >= $13 and {conditions} \
             order by number {order} limit $12"
        );
        let rows: Vec<AuditEventRow> = list_rows!(
            self,
            AssertSqlSafe(sql),
            tenant.as_str(),
            after.unwrap_or(start),
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
            since
        )?;
        let events = rows.into_iter().map(AuditEventRow::event).collect::<Result<_>>()?;
        Ok(page.page(events, |event| event.number.to_string()))
    }
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
