//! `keyward apply`: profiles from files.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::{View, note};
use super::profile::ProfileFile;
use super::{Connection, Failure};
use crate::proto::admin::profile_change::Action;
use crate::proto::admin::{PolicyViolation, ProfileChange};

/// Make a tenant what a profile says, and show the difference
///
/// All or nothing. The tenant is made if there is none; scopes that the profile does not list
/// are deleted, and so are roles and rules for endpoints if it has any. What exists and a new policy would not allow is
/// told, and stays. Applying a profile twice changes nothing the second time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward apply deploy/profiles/vcc.toml --dry-run
  keyward apply deploy/profiles/voiso.toml --tenant acme")]
pub(super) struct Apply {
    /// The profile (TOML)
    file: PathBuf,
    /// The tenant to apply it to [default: the one that the profile names]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Show the difference and change nothing; fails where the real run would
    #[arg(long)]
    dry_run: bool,
    /// Take scopes and roles away even from those that hold them; tokens are revoked
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Row {
    action: &'static str,
    resource: String,
    details: Vec<String>,
    affected_applications: i64,
}

impl View for Row {
    const COLUMNS: &'static [&'static str] =
        &["action", "resource", "affected_applications", "details"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl From<ProfileChange> for Row {
    fn from(change: ProfileChange) -> Self {
        let action = match change.action() {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::Unspecified => "unknown",
        };
        Self {
            action,
            resource: change.resource,
            details: change.details,
            affected_applications: change.affected_applications,
        }
    }
}

impl Apply {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut request = ProfileFile::read(&self.file)?.request(self.tenant.as_deref())?;
        request.validate_only = self.dry_run;
        request.force = self.force;
        let output = self.connection.output;
        let mut client = self.connection.tenants().await?;
        let applied = client.apply_profile(request).await?.into_inner();
        let changes = applied.changes;
        tell(&applied.violations);
        let rows: Vec<_> = changes.into_iter().map(Row::from).collect();
        if rows.is_empty() {
            output.done("nothing to change");
            if output == super::Format::Table {
                return Ok(());
            }
        }
        output.many(&rows)?;
        if self.dry_run {
            output.done("nothing was changed: this was a dry run");
        }
        Ok(())
    }
}

/// Tells of rows that a policy would not allow any more.
pub(super) fn tell(violations: &[PolicyViolation]) {
    for violation in violations {
        let PolicyViolation { field, description, count, resources } = violation;
        note(&format!("policy.{field} ({count}): {description}"));
        for resource in resources {
            note(&format!("  {resource}"));
        }
    }
}
