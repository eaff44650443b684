//! `keyward apply`: applies profile files.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Column, Tabular, listed};
use super::print::note;
use super::profile::ProfileFile;
use super::{Failure, ServerConnection};
use crate::proto::admin::profile_change::Action;
use crate::proto::admin::tenant_service_client::TenantServiceClient;
use crate::proto::admin::{PolicyViolation, ProfileChange};

/// Apply a profile to a tenant, and show the changes
///
/// Makes all changes or none. Creates the tenant if it does not exist. Deletes scopes that the
/// profile does not list. If the profile lists roles or endpoint rules, deletes other roles or
/// rules too. Reports existing resources that a new policy does not allow, but keeps them. Applying
/// a profile twice changes nothing the second time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward apply deploy/profiles/vcc.toml --dry-run
  keyward apply deploy/profiles/voiso.toml --tenant acme
  sed s/Voiso/Acme/ deploy/profiles/voiso.toml | keyward apply - --tenant acme")]
pub(super) struct Apply {
    /// The profile (TOML), or - for standard input
    file: PathBuf,
    /// The tenant to apply it to [default: the one in the profile]
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Show the changes without making them; fails if the real run would fail
    #[arg(long)]
    dry_run: bool,
    /// Remove deleted scopes and roles from their holders too, and revoke their tokens
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: ServerConnection,
}

impl Tabular for ProfileChange {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "action", |change| {
            json!(match change.action() {
                Action::Create => "create",
                Action::Update => "update",
                Action::Delete => "delete",
                Action::Unspecified => "unknown",
            })
        }),
        listed(2, "resource", |change| json!(change.resource)),
        listed(3, "affected_applications", |change| json!(change.affected_applications)),
        listed(4, "details", |change| json!(change.details)),
    ];
}

impl Apply {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut request = ProfileFile::read(&self.file)?.request(self.tenant.as_deref())?;
        request.validate_only = self.dry_run;
        request.force = self.force;
        let output = &self.connection.output;
        let mut client = TenantServiceClient::new(self.connection.authorized().await?);
        let applied = client.apply_profile(request).await?.into_inner();
        report(&applied.violations);
        if applied.changes.is_empty() && output.is_table() {
            output.done("nothing to change");
            return Ok(());
        }
        output.many(&applied.changes)?;
        if self.dry_run {
            output.done("nothing was changed: this was a dry run");
        }
        Ok(())
    }
}

/// Reports existing resources that a policy does not allow.
pub(super) fn report(violations: &[PolicyViolation]) {
    for violation in violations {
        let PolicyViolation { field, description, count, resources } = violation;
        note(&format!("policy.{field} ({count}): {description}"));
        for resource in resources {
            note(&format!("  {resource}"));
        }
    }
}
