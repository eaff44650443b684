//! `keyward audit`

mod export;
mod file;
mod follow;
mod head;
mod lines;
mod verify;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Authorized, Limit, all_pages};
use super::output::{Column, Tabular, listed, member, table_only};
use super::{Failure, ServerConnection, names};
use crate::domain::Moment;
use crate::proto::admin as pb;
use crate::proto::admin::audit_event::Outcome;
use crate::proto::admin::audit_service_client::AuditServiceClient;

/// Read, export and verify audit logs: who did what, from where, and what was refused.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    connection: ServerConnection,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List events, the newest first
    #[command(after_help = "\
Examples:
  keyward audit list acme --since 7d
  keyward audit list acme --resource acme/crm/ID --oldest-first
  keyward audit list acme --actor acme/sam --action DeleteCredential")]
    List {
        /// The tenant: acme
        tenant: String,
        #[command(flatten)]
        conditions: Conditions,
        #[command(flatten)]
        limit: Limit,
    },
    Export(export::Export),
    Verify(verify::VerifyAudit),
    Head(head::Head),
}

#[derive(Debug, Args)]
struct Conditions {
    /// The resource, with all above and below it: acme/crm, acme/crm/ID, or a full name like
    /// tenants/acme/roles/admin
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// The actor: a user (acme/sam), a service (system/admin or a full name), or keyward
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// The action, as the log names it: `CreateCredential`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// The earliest time: 2027-01-31, 2027-01-31T00:00:00Z, or a span before now like 7d
    #[arg(long, value_name = "TIME", value_parser = names::ago)]
    since: Option<Moment>,
    /// The latest time
    #[arg(long, value_name = "TIME", value_parser = names::ago)]
    until: Option<Moment>,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
}

impl Conditions {
    /// The request for one page.
    fn request(
        &self,
        parent: String,
        page_size: i32,
        page_token: String,
    ) -> pb::ListAuditEventsRequest {
        pb::ListAuditEventsRequest {
            parent,
            page_size,
            page_token,
            resource: self.resource.as_deref().map(names::resource).unwrap_or_default(),
            actor: self.actor.as_deref().map(names::actor).unwrap_or_default(),
            action: self.action.clone().unwrap_or_default(),
            start_time: self.since.map(Into::into),
            end_time: self.until.map(Into::into),
            order_by: if self.oldest_first { "time" } else { "time desc" }.to_owned(),
        }
    }
}

/// JSON and YAML have all fields. Tables have one line for each event.
impl Tabular for pb::AuditEvent {
    const COLUMNS: &'static [Column<Self>] = &[
        member("name", |event| json!(event.name)),
        listed(1, "time", |event| json!(names::moment(event.time.as_ref()))),
        table_only(2, "who", |event| {
            let who = if event.user.is_empty() { &event.service } else { &event.user };
            json!(names::short_actor(who))
        }),
        member("service", |event| json!(event.service)),
        member("user", |event| json!(event.user)),
        listed(7, "source_address", |event| json!(event.source_address)),
        listed(3, "action", |event| json!(event.action)),
        listed(4, "resource", |event| json!(event.resource)),
        listed(5, "outcome", |event| {
            json!(match event.outcome() {
                Outcome::Done => "done",
                Outcome::Refused => "refused",
                Outcome::Unspecified => "unknown",
            })
        }),
        table_only(6, "what", |event| {
            let changes = event.changes.iter().map(|change| phrase(change, &event.action));
            let detail = Some(event.detail.clone()).filter(|detail| !detail.is_empty());
            json!(changes.chain(detail).collect::<Vec<_>>().join("; "))
        }),
        member("detail", |event| json!(event.detail)),
        member("changes", |event| {
            let each = event.changes.iter().map(|change| {
                json!({ "field": change.field, "before": change.before, "after": change.after })
            });
            each.collect()
        }),
    ];
}

/// `field: before -> after`, or one value for a new or deleted field.
fn phrase(change: &pb::audit_event::Change, action: &str) -> String {
    let pb::audit_event::Change { field, before, after } = change;
    let (old, new) = (or_quotes(before), or_quotes(after));
    if before.is_empty() && action.starts_with("Create") {
        format!("{field}: {new}")
    } else if after.is_empty() && action.starts_with("Delete") {
        format!("{field}: {old}")
    } else {
        format!("{field}: {old} -> {new}")
    }
}

/// Makes an empty value visible.
fn or_quotes(value: &str) -> &str {
    if value.is_empty() { "''" } else { value }
}

impl Audit {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (tenant, conditions, limit) = match self.command {
            AuditCommand::List { tenant, conditions, limit } => (tenant, conditions, limit),
            AuditCommand::Export(export) => return Box::pin(export.run(&self.connection)).await,
            AuditCommand::Verify(verify) => return Box::pin(verify.run(&self.connection)).await,
            AuditCommand::Head(head) => return Box::pin(head.run(&self.connection)).await,
        };
        let (parent, conditions) = (&names::tenant(&tenant), &conditions);
        let work = async |channel: Authorized| {
            all_pages(limit, async |page_size, page_token| {
                let request = conditions.request(parent.clone(), page_size, page_token);
                let mut client = AuditServiceClient::new(channel.clone());
                let page = client.list_audit_events(request).await?.into_inner();
                Ok((page.events, page.next_page_token))
            })
            .await
        };
        let events = self.connection.call(Some(parent), work).await?;
        self.connection.output.list(&events)
    }
}
