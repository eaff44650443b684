//! `keyward audit`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::all_pages;
use super::output::{Format, View, print_json};
use super::{Connection, Failure, names};
use crate::domain::Moment;
use crate::proto::admin as pb;
use crate::proto::admin::audit_event::Outcome;

/// Read a tenant's audit log: who did what, from where, and what was refused.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
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
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
}

#[derive(Debug, Args)]
struct Conditions {
    /// What it is about, with all above and below it: acme/crm, acme/crm/ID, or a full name
    /// as tenants/acme/roles/admin
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// Who did it: a user (acme/sam), a service (system/admin or a full name), or keyward
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// What was attempted, as the log names it: `CreateCredential`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// From when on: 2027-01-31, 2027-01-31T00:00:00Z, or a span before now as 7d
    #[arg(long, value_name = "TIME", value_parser = names::ago)]
    since: Option<Moment>,
    /// Until when
    #[arg(long, value_name = "TIME", value_parser = names::ago)]
    until: Option<Moment>,
    /// The oldest first: a story from its beginning
    #[arg(long)]
    oldest_first: bool,
}

impl Conditions {
    /// The request for a page of the events that meet them.
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
            start_time: self.since.map(names::timestamp),
            end_time: self.until.map(names::timestamp),
            order_by: if self.oldest_first { "time" } else { "time desc" }.to_owned(),
        }
    }
}

/// An event, with all of its fields: for scripts.
#[derive(Serialize)]
struct Event {
    name: String,
    time: Option<String>,
    service: String,
    user: String,
    source_address: String,
    action: String,
    resource: String,
    outcome: &'static str,
    detail: String,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    field: String,
    before: String,
    after: String,
}

/// An event in a line: for people.
#[derive(Serialize)]
struct Row {
    time: Option<String>,
    who: String,
    source_address: String,
    action: String,
    resource: String,
    outcome: &'static str,
    what: String,
}

impl View for Row {
    const COLUMNS: &'static [&'static str] =
        &["time", "who", "source_address", "action", "resource", "outcome", "what"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl From<pb::AuditEvent> for Event {
    fn from(event: pb::AuditEvent) -> Self {
        let outcome = match event.outcome() {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::Unspecified => "unknown",
        };
        let change = |change: pb::audit_event::Change| Change {
            field: change.field,
            before: change.before,
            after: change.after,
        };
        Self {
            outcome,
            time: names::moment(event.time.as_ref()),
            name: event.name,
            service: event.service,
            user: event.user,
            source_address: event.source_address,
            action: event.action,
            resource: event.resource,
            detail: event.detail,
            changes: event.changes.into_iter().map(change).collect(),
        }
    }
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        let mut what: Vec<_> =
            event.changes.iter().map(|change| change.phrase(&event.action)).collect();
        what.extend(Some(event.detail).filter(|detail| !detail.is_empty()));
        let who = if event.user.is_empty() { &event.service } else { &event.user };
        Self {
            who: names::short_actor(who),
            resource: names::short_resource(&event.resource),
            what: what.join("; "),
            time: event.time,
            source_address: event.source_address,
            action: event.action,
            outcome: event.outcome,
        }
    }
}

impl Change {
    /// `field: before -> after`; of what is new or gone, what it is or was.
    fn phrase(&self, action: &str) -> String {
        let Self { field, before, after } = self;
        let (old, new) = (or_quotes(before), or_quotes(after));
        if before.is_empty() && action.starts_with("Create") {
            format!("{field}: {new}")
        } else if after.is_empty() && action.starts_with("Delete") {
            format!("{field}: {old}")
        } else {
            format!("{field}: {old} -> {new}")
        }
    }
}

/// Nothing, so that it can be seen.
fn or_quotes(value: &str) -> &str {
    if value.is_empty() { "''" } else { value }
}

impl Audit {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = &self.connection.audit().await?;
        let Command::List { tenant, conditions, limit } = self.command;
        let (parent, conditions) = (&names::tenant(&tenant), &conditions);
        let events = all_pages(limit, async |page_size, page_token| {
            let request = conditions.request(parent.clone(), page_size, page_token);
            let page = client.clone().list_audit_events(request).await?.into_inner();
            Ok((page.events, page.next_page_token))
        })
        .await?;
        let events = events.into_iter().map(Event::from);
        match self.connection.output {
            Format::Json => print_json(&events.collect::<Vec<_>>()),
            table @ Format::Table => table.many(&events.map(Row::from).collect::<Vec<_>>()),
        }
    }
}
