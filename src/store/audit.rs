//! The audit log in its table: written once, never changed. Both databases refuse it.

use sqlx::{AssertSqlSafe, FromRow};

use super::row::{At, micros};
use super::{Session, Tx, execute, list_rows};
use crate::clock::from_microsecond;
use crate::domain::{
    Actor, AuditEvent, AuditFilter, Outcome, Page, PageRequest, TenantId, UserName,
};
use crate::error::{Error, Result};

#[derive(FromRow)]
struct Row {
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

impl Row {
    fn event(self) -> Result<AuditEvent> {
        let key = self.number.to_string();
        let at = At { table: "audit_events", key: &key };
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
    /// A page of a tenant's events, of those from the number `since` on.
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
        // A condition that is not made leaves the database free to use an index for those
        // that are; what stands for it must be spoken of all the same.
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
        .map(|(made, condition, otherwise)| if made { condition } else { otherwise })
        .join(" and ");
        let sql = format!(
            "select tenant_id, number, at, service, user_name, source_address, action, resource, \
               refused, detail, changes from audit_events \
             where tenant_id = $1 and number {beyond} $2 and number >= $13 and {conditions} \
             order by number {order} limit $12"
        );
        let rows: Vec<Row> = list_rows!(
            self,
            AssertSqlSafe(sql),
            tenant.as_str(),
            after.unwrap_or(start),
            resource,
            parent,
            self::parent(parent),
            // All that begins with the resource and a slash: 0 is the character after it.
            format!("{resource}/"),
            format!("{resource}0"),
            filter.actor.as_deref().unwrap_or_default(),
            filter.action.map_or("", |action| action.as_str()),
            micros(filter.start),
            micros(filter.end),
            page.limit(),
            since
        )?;
        let events = rows.into_iter().map(Row::event).collect::<Result<_>>()?;
        Ok(page.page(events, |event| event.number.to_string()))
    }
}

/// The resource that one is below: `tenants/t/applications/a` of one of its credentials.
fn parent(resource: &str) -> &str {
    let mut slashes = resource.rmatch_indices('/').skip(1);
    slashes.next().map_or("", |(end, _)| &resource[..end])
}

impl Tx {
    /// Adds an event, with the next number of its tenant: the tenant is locked, or is made
    /// in this transaction.
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

/// The changes of an event, for their column.
pub(super) fn changes_column(event: &AuditEvent) -> Result<String> {
    serde_json::to_string(&event.changes).map_err(|error| Error::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::parent;

    #[test]
    fn a_resource_is_below_what_its_name_begins_with() {
        assert_eq!(parent("tenants/t/applications/a/credentials/c"), "tenants/t/applications/a");
        assert_eq!(parent("tenants/t/applications/a"), "tenants/t");
        assert_eq!(parent("tenants/t"), "");
        assert_eq!(parent(""), "");
    }
}
