//! `keyward credential`

use clap::{Args, Subcommand, ValueEnum};
use prost_types::Duration;
use serde_json::json;

use super::certificate::{self, CertificateFlags};
use super::federated::{self, FederatedFlags};
use super::limits::{LimitsView, limit_flags};
use super::public_key::{self, PublicKeyFlags};
use super::{
    Deleted, FieldFlags, Made, MaskBuilder, NoFlags, Place, Resource, ResourceCommand, Words,
    calls, full_name,
};
use crate::cli::client::Authorized;
use crate::cli::names::{self, Expiry, moment};
use crate::cli::output::{Column, Tabular, listed, member};
use crate::cli::print::note;
use crate::cli::{Failure, ServerConnection};
use crate::domain::Moment;
use crate::proto::admin as pb;
use crate::proto::admin::credential::State;
use crate::proto::admin::credential_service_client::CredentialServiceClient;

/// Manage credentials: how an application authenticates.
#[derive(Debug, Args)]
pub(in crate::cli) struct CredentialArgs {
    #[command(subcommand)]
    command: CredentialCommand,
    #[command(flatten)]
    connection: ServerConnection,
}

#[derive(Debug, Subcommand)]
enum CredentialCommand {
    #[command(flatten)]
    Shared(ResourceCommand<pb::Credential>),
    /// Print the newest secret of a credential again, if the policy makes secrets viewable; the
    /// audit log records it
    #[command(after_help = "Example:\n  keyward credential reveal acme/crm/ID")]
    Reveal {
        /// The credential: acme/crm/ID
        name: String,
    },
    /// Replace the secret of a credential and print the new one once
    #[command(after_help = "\
Examples:
  keyward credential rotate acme/crm/ID
  keyward credential rotate acme/crm/ID --overlap 0s    # it leaked")]
    Rotate {
        /// The credential: acme/crm/ID
        name: String,
        /// How long the old secret still works, up to 30d; 0s revokes its tokens too
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = names::span)]
        overlap: Duration,
        /// Rotate it only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum KindArg {
    /// A client id and a client secret
    #[default]
    ClientSecret,
    /// One string that is both
    ApiKey,
    /// A certificate of the client (mTLS): see --ca-file and --certificate
    Certificate,
    /// A token that the client's platform gives it, as in Kubernetes: see --issuer
    Federated,
    /// A private key of the client, which signs a JWT: see --jwks, --jwks-uri and --pem
    PublicKey,
}

impl KindArg {
    const fn has_secret(self) -> bool {
        matches!(self, Self::ClientSecret | Self::ApiKey)
    }
}

impl From<KindArg> for i32 {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::ClientSecret => pb::credential::Kind::ClientSecret.into(),
            KindArg::ApiKey => pb::credential::Kind::ApiKey.into(),
            KindArg::Certificate => pb::credential::Kind::Certificate.into(),
            KindArg::Federated => pb::credential::Kind::Federated.into(),
            KindArg::PublicKey => pb::credential::Kind::PublicKey.into(),
        }
    }
}

/// An application, or a tenant for all of its applications.
#[derive(Debug, Args)]
pub(in crate::cli) struct InApplication {
    /// The application (acme/crm), or the tenant for all of its applications (acme)
    #[arg(value_name = "APPLICATION|TENANT")]
    of: String,
}

impl Place for InApplication {
    fn parent(&self) -> String {
        names::parent_of_credentials(&self.of)
    }
}

/// The filter of a list. With both conditions, a credential must meet one of them.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct CredentialFilterArgs {
    /// Only those that expire within this span (30d) or before this time, or have expired
    #[arg(long, value_name = "SPAN", value_parser = names::ahead)]
    expiring: Option<Moment>,
    /// Only those neither created nor used for this span (90d) or since this time; with --expiring,
    /// those that meet either condition
    #[arg(long, value_name = "SPAN", value_parser = names::ago)]
    unused: Option<Moment>,
}

limit_flags!(CredentialLimits, "limit", " with this credential", "no-limits": "No own limits");

#[derive(Debug, Args)]
pub(in crate::cli) struct CredentialFields {
    /// The display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// When the credential expires: 2027-01-31T00:00:00Z, a span like 90d, or never
    #[arg(long, value_name = "TIME", value_parser = names::expiry)]
    expire_time: Option<Expiry>,
    #[command(flatten)]
    limits: CredentialLimits,
    #[command(flatten)]
    certificate: CertificateFlags,
    #[command(flatten)]
    public_key: PublicKeyFlags,
    #[command(flatten)]
    federated: FederatedFlags,
}

impl FieldFlags<pb::Credential> for CredentialFields {
    /// Limits are replaced as a whole.
    fn needs_current(&self) -> bool {
        self.limits.given().is_any()
    }

    fn apply(&self, credential: &mut pb::Credential, mask: &mut MaskBuilder) {
        let expire_time = self.expire_time.map(Expiry::message);
        mask.set("display_name", self.display_name.as_ref(), &mut credential.display_name);
        mask.set("expire_time", expire_time.as_ref(), &mut credential.expire_time);
        self.limits.given().apply(&mut credential.limits, mask);
        self.certificate.apply(credential, mask);
        if !self.federated.apply(&self.public_key, &self.certificate, credential, mask) {
            self.public_key.apply(credential, mask);
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CredentialCreate {
    /// The kind of credential
    #[arg(long, value_enum, default_value_t)]
    kind: KindArg,
    /// An id of this request, with which it can be retried safely
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CredentialUpdate {
    /// Disable the credential (true), which revokes its tokens, or enable it (false)
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
}

impl FieldFlags<pb::Credential> for CredentialUpdate {
    fn apply(&self, credential: &mut pb::Credential, mask: &mut MaskBuilder) {
        mask.set("disabled", self.disabled.as_ref(), &mut credential.disabled);
    }
}

impl Tabular for pb::Credential {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |credential| json!(credential.name)),
        listed(4, "kind", |credential| {
            json!(match credential.kind() {
                pb::credential::Kind::ClientSecret => "client_secret",
                pb::credential::Kind::ApiKey => "api_key",
                pb::credential::Kind::PublicKey => "public_key",
                pb::credential::Kind::Certificate => "certificate",
                pb::credential::Kind::Federated => "federated",
                pb::credential::Kind::Unspecified => "unknown",
            })
        }),
        listed(3, "display_name", |credential| json!(credential.display_name)),
        listed(2, "state", |credential| {
            json!(match credential.state() {
                State::Active => "active",
                State::Disabled => "disabled",
                State::Expired => "expired",
                State::Unspecified => "unknown",
            })
        }),
        member("disabled_by_platform", |credential| json!(credential.disabled_by_platform)),
        listed(7, "secrets", |credential| {
            json!(credential.secrets.iter().map(masked).collect::<Vec<_>>())
        }),
        member("viewable", |credential| json!(credential.viewable)),
        listed(5, "last_use_time", |credential| json!(moment(credential.last_use_time.as_ref()))),
        member("last_use_address", |credential| json!(credential.last_use_address)),
        listed(6, "expire_time", |credential| json!(moment(credential.expire_time.as_ref()))),
        member("limits", |credential| json!(credential.limits.map(LimitsView::from))),
        member("certificate", certificate::view),
        member("certificate_bound_tokens", |credential| json!(credential.certificate_bound_tokens)),
        member("federated", federated::view),
        member("public_key", public_key::view),
        listed(9, "create_time", |credential| json!(moment(credential.create_time.as_ref()))),
        listed(8, "update_time", |credential| json!(moment(credential.update_time.as_ref()))),
        member("etag", |credential| json!(credential.etag)),
        member("client_id", |credential| json!(credential.client_id)),
    ];
}

/// `…9x7Q`, and the expiry if it is being replaced.
fn masked(secret: &pb::credential::Secret) -> String {
    match moment(secret.expire_time.as_ref()) {
        Some(end) => format!("…{} (until {end})", secret.last_four),
        None => format!("…{}", secret.last_four),
    }
}

impl Resource for pb::Credential {
    const COLLECTIONS: &'static [&'static str] = &["tenants", "applications", "credentials"];
    const WORDS: Words = Words {
        name: "The credential: acme/crm/ID",
        new_name: "The application that gets it: acme/crm. The server makes the id",
        list: (
            "List the credentials of an application or of a tenant",
            &["acme/crm", "acme --expiring 30d --unused 90d"],
        ),
        show: ("Show a credential, without its secret", &["acme/crm/ID"]),
        create: (
            "Create a credential and print its secret once, if its kind has one",
            &[
                "acme/crm",
                "acme/crm --kind api-key --expire-time 90d",
                "acme/crm --kind certificate --ca-file ca.pem --subject CN=crm,O=Acme",
                "acme/crm --kind public-key --pem crm.pub.pem",
                "acme/crm --kind public-key --jwks-uri https://crm.example.com/jwks.json",
                "acme/crm --kind federated --issuer https://ci.example --subject crm",
            ],
        ),
        update: (
            "Change the given fields of a credential",
            &[
                "acme/crm/ID --disabled true",
                "acme/crm/ID --limit-requests 10 --limit-window 1s",
                "acme/crm/ID --jwks old-and-new-keys.json",
            ],
        ),
        delete: ("Delete credentials. Their tokens are refused at once", &["acme/crm/ID"]),
    };

    type Place = InApplication;
    type Filter = CredentialFilterArgs;
    type Fields = CredentialFields;
    type OnCreate = CredentialCreate;
    type OnUpdate = CredentialUpdate;
    type OnDelete = NoFlags;

    calls! { CredentialServiceClient;
        list_credentials(parent, filter, page) pb::ListCredentialsRequest {
            parent,
            page_size: page.size,
            page_token: page.token,
            expire_before: filter.expiring.map(Into::into),
            unused_since: filter.unused.map(Into::into),
        } => |answer| (answer.credentials, answer.next_page_token);
        get_credential(name) pb::GetCredentialRequest { name } => |answer| answer.credential;
        create_credential(new, flags) pb::CreateCredentialRequest {
            parent: new.parent,
            credential: Some(pb::Credential { kind: flags.kind.into(), ..new.resource }),
            request_id: flags.request_id.clone(),
        } => |answer| with_secret(answer.credential, answer.secret);
        update_credential(credential, mask, _flags) pb::UpdateCredentialRequest {
            credential: Some(credential), update_mask: Some(mask),
        } => |answer| answer.credential;
        delete_credential(name, etag, _flags) pb::DeleteCredentialRequest { name, etag }
            => |_answer| Deleted::plain();
    }

    fn has_secret(flags: &CredentialCreate) -> bool {
        flags.kind.has_secret()
    }

    /// The server makes the id.
    fn place(name: &str) -> Result<(String, String), Failure> {
        Ok((full_name::<pb::Application>(name)?, String::new()))
    }

    fn consequence(_: &NoFlags) -> Option<&'static str> {
        Some("Its secrets and tokens are refused at once.")
    }
}

fn with_secret(credential: Option<pb::Credential>, secret: String) -> Made<pb::Credential> {
    let resource = credential.unwrap_or_default();
    if secret.is_empty() {
        return Made { resource, secret: None };
    }
    if !resource.viewable {
        note("The secret below is shown only once:");
    }
    Made { resource, secret: Some(secret) }
}

impl CredentialArgs {
    pub(in crate::cli) async fn run(self) -> Result<(), Failure> {
        let (connection, output) = (&self.connection, &self.connection.output);
        match self.command {
            CredentialCommand::Shared(verb) => verb.run(connection).await,
            CredentialCommand::Reveal { name } => {
                let name = full_name::<pb::Credential>(&name)?;
                let work = async |channel: Authorized| {
                    let request = pb::RevealCredentialRequest { name: name.clone() };
                    let mut client = CredentialServiceClient::new(channel);
                    Ok(client.reveal_credential(request).await?.into_inner().secret)
                };
                let secret = connection.call(Some(&name), work).await?;
                output.word(&secret, || json!({ "secret": secret }))
            }
            CredentialCommand::Rotate { name, overlap, etag } => {
                output.check_secret()?;
                let name = full_name::<pb::Credential>(&name)?;
                let work = async |channel: Authorized| {
                    let name = name.clone();
                    let request =
                        pb::RotateCredentialRequest { name, etag, overlap: Some(overlap) };
                    let mut client = CredentialServiceClient::new(channel);
                    Ok(client.rotate_credential(request).await?.into_inner())
                };
                let answer = connection.call(Some(&name), work).await?;
                let made = with_secret(answer.credential, answer.secret);
                output.one_with(&made.resource, made.secret.map(|secret| ("secret", secret)))
            }
        }
    }
}
