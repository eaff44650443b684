//! `keyward apply`: profiles from files.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::output::View;
use super::{Connection, Failure, names};
use crate::proto::admin::profile_change::Action;
use crate::proto::admin::{ApplyProfileRequest, Profile, ProfileChange, Scope};

/// Make a tenant what a profile says, all or nothing, and show the difference. The
/// tenant is made if there is none; scopes that the profile does not list are taken out
/// of its catalogue. Applying a profile twice changes nothing the second time.
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
    /// Show the difference and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take scopes away even from applications that hold them; their tokens are revoked
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A profile file. Unknown fields are faults: a misspelt one must not be lost.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileFile {
    tenant: Option<String>,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    default_audience: String,
    access_token_lifetime: Option<String>,
    /// Required: a profile that says nothing of scopes must not empty a catalogue.
    scopes: Vec<ScopeEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeEntry {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    family: String,
    #[serde(default)]
    disabled: bool,
}

impl ProfileFile {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let fault = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The request that applies it to a tenant.
    pub(super) fn request(self, tenant: Option<&str>) -> Result<ApplyProfileRequest, Failure> {
        let tenant = tenant
            .map(ToOwned::to_owned)
            .or(self.tenant)
            .ok_or_else(|| Failure::usage("the profile names no tenant: name one with --tenant"))?;
        let lifetime = self.access_token_lifetime.as_deref().map(names::span).transpose();
        let profile = Profile {
            display_name: self.display_name,
            default_audience: self.default_audience,
            access_token_lifetime: lifetime
                .map_err(|what| Failure::usage(format!("access_token_lifetime {what}")))?,
            scopes: self.scopes.into_iter().map(Scope::from).collect(),
        };
        Ok(ApplyProfileRequest {
            name: names::tenant(&tenant),
            profile: Some(profile),
            ..ApplyProfileRequest::default()
        })
    }
}

impl From<ScopeEntry> for Scope {
    fn from(entry: ScopeEntry) -> Self {
        Self {
            name: entry.name,
            description: entry.description,
            domain: entry.domain,
            family: entry.family,
            disabled: entry.disabled,
            ..Self::default()
        }
    }
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
        let changes = client.apply_profile(request).await?.into_inner().changes;
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
