//! `keyward credential`

use clap::{Args, Subcommand, ValueEnum};
use prost_types::{Duration, FieldMask};
use serde::Serialize;

use super::client::{Authorized, all_pages};
use super::limits::{LimitsView, limit_flags};
use super::names::Expiry;
use super::output::{View, note, print_json, say};
use super::{Connection, Failure, Format, names};
use crate::domain::Moment;
use crate::proto::admin as pb;
use crate::proto::admin::credential::State;
use crate::proto::admin::credential_service_client::CredentialServiceClient;

/// Manage credentials: how an application proves itself.
#[derive(Debug, Args)]
pub(super) struct Credential {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the credentials of an application or of a whole tenant
    #[command(after_help = "\
Examples:
  keyward credential list acme/crm
  keyward credential list acme --expiring 30d --unused 90d")]
    List {
        /// Whose they are: an application (acme/crm), or all of a tenant (acme)
        #[arg(value_name = "APPLICATION|TENANT")]
        of: String,
        #[command(flatten)]
        conditions: Conditions,
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a credential, without its secret
    #[command(after_help = "Example:\n  keyward credential show acme/crm/ID")]
    Show {
        /// The credential: acme/crm/ID
        name: String,
    },
    /// Print a credential's newest secret again, if the policy has secrets viewable; the
    /// audit log tells of it
    #[command(after_help = "Example:\n  keyward credential reveal acme/crm/ID")]
    Reveal {
        /// The credential: acme/crm/ID
        name: String,
    },
    /// Create a credential and print its secret, this once
    #[command(after_help = "\
Examples:
  keyward credential create acme/crm
  keyward credential create acme/crm --kind api-key --expire-time 90d")]
    Create {
        /// The application: acme/crm
        application: String,
        /// What it is made of
        #[arg(long, value_enum, default_value_t)]
        kind: Kind,
        #[command(flatten)]
        fields: Fields,
        /// Names this very request, so that it can be repeated safely
        #[arg(long, default_value = "", hide_default_value = true)]
        request_id: String,
    },
    /// Change what is given of a credential
    #[command(after_help = "\
Examples:
  keyward credential update acme/crm/ID --disabled true
  keyward credential update acme/crm/ID --limit-requests 10 --limit-window 1s")]
    Update {
        /// The credential: acme/crm/ID
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Disable it (true), revoking its tokens, or enable it again (false)
        #[arg(long)]
        disabled: Option<bool>,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Give a credential a new secret and print it, this once
    #[command(after_help = "\
Examples:
  keyward credential rotate acme/crm/ID
  keyward credential rotate acme/crm/ID --overlap 0s    # it leaked")]
    Rotate {
        /// The credential: acme/crm/ID
        name: String,
        /// How long the old secret goes on working, up to 30d; 0s revokes its tokens too
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = names::span)]
        overlap: Duration,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Delete a credential; its tokens are refused at once
    #[command(after_help = "Example:\n  keyward credential delete acme/crm/ID")]
    Delete {
        /// The credential: acme/crm/ID
        name: String,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Kind {
    /// A client id and a client secret
    #[default]
    ClientSecret,
    /// One string that is both
    ApiKey,
}

/// Which credentials are wanted; with both, those that meet either.
#[derive(Debug, Args)]
struct Conditions {
    /// Those that end within this span, as 30d, or before a moment, or have ended
    #[arg(long, value_name = "SPAN", value_parser = names::ahead)]
    expiring: Option<Moment>,
    /// Those neither created nor used for this span, as 90d, or since a moment; with
    /// --expiring, those to which either applies
    #[arg(long, value_name = "SPAN", value_parser = names::ago)]
    unused: Option<Moment>,
}

limit_flags!(LimitFlags, "limit", " with it", "no-limits": "No limits of its own");

#[derive(Debug, Args)]
struct Fields {
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// When it ends: 2027-01-31T00:00:00Z, a span as 90d, or never
    #[arg(long, value_name = "TIME", value_parser = names::expiry)]
    expire_time: Option<Expiry>,
    #[command(flatten)]
    limits: LimitFlags,
}

impl Fields {
    /// The message and the fields that were given; limits that are given in part are
    /// completed from those before.
    fn message(self, before: Option<pb::Limits>) -> (pb::Credential, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("expire_time", self.expire_time.is_some()),
            ("limits", self.limits.given().is_any()),
        ]);
        let credential = pb::Credential {
            display_name: self.display_name.unwrap_or_default(),
            expire_time: self.expire_time.and_then(Expiry::message),
            limits: self.limits.given().onto(before),
            ..pb::Credential::default()
        };
        (credential, mask)
    }
}

#[derive(Serialize)]
struct CredentialView {
    name: String,
    client_id: String,
    kind: &'static str,
    display_name: String,
    state: &'static str,
    disabled_by_platform: bool,
    secrets: Vec<String>,
    viewable: bool,
    last_use_time: Option<String>,
    last_use_address: String,
    expire_time: Option<String>,
    limits: Option<LimitsView>,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl View for CredentialView {
    const COLUMNS: &'static [&'static str] =
        &["name", "kind", "display_name", "state", "secrets", "last_use_time", "expire_time"];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "kind",
        "display_name",
        "state",
        "disabled_by_platform",
        "secrets",
        "viewable",
        "last_use_time",
        "last_use_address",
        "expire_time",
        "limits",
        "create_time",
        "update_time",
        "etag",
        "client_id",
        "secret",
    ];
}

impl CredentialView {
    fn new(credential: Option<pb::Credential>, secret: Option<String>) -> Self {
        let credential = credential.unwrap_or_default();
        let state = match credential.state() {
            State::Active => "active",
            State::Disabled => "disabled",
            State::Expired => "expired",
            State::Unspecified => "unknown",
        };
        let kind = match credential.kind() {
            pb::credential::Kind::ClientSecret => "client_secret",
            pb::credential::Kind::ApiKey => "api_key",
            pb::credential::Kind::Unspecified => "unknown",
        };
        Self {
            kind,
            state,
            disabled_by_platform: credential.disabled_by_platform,
            secrets: credential.secrets.iter().map(masked).collect(),
            viewable: credential.viewable,
            last_use_time: names::moment(credential.last_use_time.as_ref()),
            last_use_address: credential.last_use_address,
            expire_time: names::moment(credential.expire_time.as_ref()),
            limits: credential.limits.map(LimitsView::from),
            create_time: names::moment(credential.create_time.as_ref()),
            update_time: names::moment(credential.update_time.as_ref()),
            name: credential.name,
            client_id: credential.client_id,
            display_name: credential.display_name,
            etag: credential.etag,
            secret,
        }
    }
}

/// A secret alone.
#[derive(Serialize)]
struct SecretView {
    secret: String,
}

/// `…9x7Q`, and until when if it is being replaced.
fn masked(secret: &pb::credential::Secret) -> String {
    match names::moment(secret.expire_time.as_ref()) {
        Some(end) => format!("…{} (until {end})", secret.last_four),
        None => format!("…{}", secret.last_four),
    }
}

impl Credential {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.credentials().await?;
        let mut calls = client.clone();
        let (credential, secret) = match self.command {
            Command::List { of, conditions, limit } => {
                let parent = names::parent_of_credentials(&of);
                let credentials = list(client, parent, &conditions, limit).await?;
                return output.many(&credentials);
            }
            Command::Reveal { name } => {
                let request = pb::RevealCredentialRequest { name: names::credential(&name) };
                let secret = calls.reveal_credential(request).await?.into_inner().secret;
                if output == Format::Json {
                    return print_json(&SecretView { secret });
                }
                say!("{secret}");
                return Ok(());
            }
            Command::Show { name } => {
                let request = pb::GetCredentialRequest { name: names::credential(&name) };
                (calls.get_credential(request).await?.into_inner().credential, None)
            }
            Command::Create { application, kind, fields, request_id } => {
                let (mut credential, _) = fields.message(None);
                credential.set_kind(match kind {
                    Kind::ClientSecret => pb::credential::Kind::ClientSecret,
                    Kind::ApiKey => pb::credential::Kind::ApiKey,
                });
                let request = pb::CreateCredentialRequest {
                    parent: names::application(&application),
                    credential: Some(credential),
                    request_id,
                };
                let made = calls.create_credential(request).await?.into_inner();
                (made.credential, Some(made.secret))
            }
            Command::Update { name, fields, disabled, mut etag } => {
                let name = names::credential(&name);
                let mut limits = None;
                if fields.limits.given().is_any() {
                    let request = pb::GetCredentialRequest { name: name.clone() };
                    let read = calls.get_credential(request).await?.into_inner();
                    let read = read.credential.unwrap_or_default();
                    limits = read.limits;
                    etag = if etag.is_empty() { read.etag } else { etag };
                }
                let (credential, mut paths) = fields.message(limits);
                paths.extend(disabled.map(|_| "disabled".to_owned()));
                let credential = pb::Credential {
                    name,
                    disabled: disabled.unwrap_or_default(),
                    etag,
                    ..credential
                };
                let request = pb::UpdateCredentialRequest {
                    credential: Some(credential),
                    update_mask: Some(FieldMask { paths }),
                };
                (calls.update_credential(request).await?.into_inner().credential, None)
            }
            Command::Rotate { name, overlap, etag } => {
                let request = pb::RotateCredentialRequest {
                    name: names::credential(&name),
                    etag,
                    overlap: Some(overlap),
                };
                let made = calls.rotate_credential(request).await?.into_inner();
                (made.credential, Some(made.secret))
            }
            Command::Delete { name, etag } => {
                let name = names::credential(&name);
                let request = pb::DeleteCredentialRequest { name: name.clone(), etag };
                calls.delete_credential(request).await?;
                output.done(&format!("{name} is deleted"));
                return Ok(());
            }
        };
        let view = CredentialView::new(credential, secret);
        if view.secret.is_some() && !view.viewable {
            note("The secret below is shown this once:");
        }
        output.one(&view)
    }
}

async fn list(
    client: &CredentialServiceClient<Authorized>,
    parent: String,
    conditions: &Conditions,
    limit: usize,
) -> Result<Vec<CredentialView>, Failure> {
    let parent = &parent;
    let credentials = all_pages(limit, async |page_size, page_token| {
        let request = pb::ListCredentialsRequest {
            parent: parent.clone(),
            page_size,
            page_token,
            expire_before: conditions.expiring.map(names::timestamp),
            unused_since: conditions.unused.map(names::timestamp),
        };
        let page = client.clone().list_credentials(request).await?.into_inner();
        Ok((page.credentials, page.next_page_token))
    })
    .await?;
    let views = credentials.into_iter().map(|one| CredentialView::new(Some(one), None));
    Ok(views.collect())
}
