//! `keyward revoke-tokens` and `keyward revocations`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Authorized, Limit, all_pages};
use super::confirm::Confirm;
use super::output::{Column, Output, Tabular, listed};
use super::print::note;
use super::{Failure, ServerConnection, ServerOptions, names};
use crate::domain;
use crate::proto::access as pb;
use crate::proto::access::revocation::Revoked;
use crate::proto::access::revocation_service_client::RevocationServiceClient;
use crate::proto::token::RevokeTokensRequest;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::server::{Accepted, accept_database};

/// Revoke all access tokens of a tenant, an application or a credential
///
/// Their secrets and API keys still work: they get new tokens at once. With --user it revokes those
/// of all applications that the user owns, and exits with 3 if there are none; with --token-id it
/// revokes one token of a credential.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward revoke-tokens acme/crm --reason 'a laptop was lost'
  keyward revoke-tokens --user acme/sam
  keyward revoke-tokens acme/crm/ID --token-id JTI")]
pub(super) struct RevokeTokens {
    /// The tenant, application or credential: acme, acme/crm or acme/crm/ID
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    name: Option<String>,
    /// The owner of the applications: acme/sam
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only the token with this id (its claim `jti`)
    #[arg(long, value_name = "JTI", requires = "name")]
    token_id: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    connection: ServerConnection,
}

/// Show what is revoked; with --watch also what is revoked from then on
///
/// Services that verify tokens themselves follow this list. The caller needs the scope
/// `keyward.verify` or `keyward.admin`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  keyward revocations --watch --output json
  keyward revocations accept"
)]
pub(super) struct Revocations {
    #[command(subcommand)]
    command: Option<RevocationsCommand>,
    /// Continue until stopped; with JSON, one object in each line
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    connection: ServerConnection,
}

#[derive(Debug, Subcommand)]
enum RevocationsCommand {
    Accept(Accept),
}

/// Make servers accept the database as it is, after a backup was restored
///
/// Servers keep every revocation that they know, even if the database lost it. If the database is
/// older than what a server knows (a restored backup, a failover that lost its last moments), the
/// server answers UNAVAILABLE until the database has caught up. If it never will, use this command:
/// within about a second, all servers and verifiers accept the database as it is, without a
/// restart.
///
/// It revokes all older access tokens, since tokens that were revoked after the backup would work
/// again. Applications get new tokens with their credentials. With --keep-tokens, older tokens
/// still work, except those that running servers and verifiers know as revoked. These stay refused
/// until the revocation lapses, an hour or two after it was made, and so do applications and keys
/// whose tokens were revoked after the backup. Revocations that Redis knows are put back into the
/// database. Etags from after the backup match nothing. Changes after the backup are lost either way: an API
/// key that was deleted since then exists again, and must be deleted again.
///
/// It works on the database itself: run it where the server runs, with the same settings. Servers
/// can be running. The audit log of the tenant `system` records it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward revocations accept
  keyward revocations accept --yes --keep-tokens --database-url postgres://keyward@db/keyward")]
struct Accept {
    /// Do not revoke older access tokens
    #[arg(long)]
    keep_tokens: bool,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    options: ServerOptions,
}

/// The result of `revocations accept`.
struct AcceptReport {
    database: String,
    accepted: Accepted,
}

impl Tabular for AcceptReport {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "database", |report| json!(report.database)),
        listed(2, "list_before", |report| json!(report.accepted.declared.before)),
        listed(3, "revocations_before", |report| json!(report.accepted.declared.revocations)),
        listed(4, "list", |report| json!(report.accepted.declared.after)),
        listed(5, "tenants_revoked", |report| json!(report.accepted.declared.tenants)),
        listed(6, "revocations_put_back", |report| json!(report.accepted.declared.put_back)),
    ];
}

impl Tabular for pb::Revocation {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "number", |revocation| json!(revocation.number)),
        listed(2, "kind", |revocation| json!(kind_and_name(revocation).0)),
        listed(3, "revoked", |revocation| json!(kind_and_name(revocation).1)),
        listed(4, "epoch", |revocation| json!(revocation.epoch)),
        listed(5, "revoke_time", |revocation| {
            json!(names::moment(revocation.revoke_time.as_ref()))
        }),
        listed(6, "expire_time", |revocation| {
            json!(names::moment(revocation.expire_time.as_ref()))
        }),
    ];
}

fn kind_and_name(revocation: &pb::Revocation) -> (&'static str, &str) {
    match &revocation.revoked {
        Some(Revoked::TokenId(id)) => ("token", id),
        Some(Revoked::ClientId(id)) => ("credential", id),
        Some(Revoked::Subject(name)) => ("application", name),
        Some(Revoked::Tenant(id)) => ("tenant", id),
        Some(Revoked::KeyId(id)) => ("signing_key", id),
        None => ("unknown", ""),
    }
}

impl RevokeTokens {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let name = match (&self.user, &self.name) {
            (Some(user), _) => names::user(user),
            (None, name) => names::resource(name.as_deref().unwrap_or_default()),
        };
        let token_id = domain::pasted(&self.token_id.unwrap_or_default()).to_owned();
        let is_one = !token_id.is_empty();
        if !is_one {
            let short = names::short(&name);
            self.confirm.ask(&format!("Revoke all access tokens of {short}?"))?;
        }
        let request = RevokeTokensRequest { name: name.clone(), token_id, reason: self.reason };
        let work = async |channel: Authorized| {
            let mut client = TokenServiceClient::new(channel);
            Ok(client.revoke_tokens(request).await?.into_inner())
        };
        let response = self.connection.call(Some(&name), work).await?;
        let done = match (&self.user, response.applications) {
            (Some(user), 0) => {
                return Err(Failure::not_found(format!(
                    "no token was revoked: {user} owns no application"
                )));
            }
            (Some(_), count) => {
                format!("the tokens of {count} applications are refused from now on")
            }
            // The server cannot know whether the token exists: it stores no issued tokens.
            (None, _) if is_one => {
                "a token with this id, if there is one, is refused from now on".to_owned()
            }
            (None, _) => "its tokens are refused from now on".to_owned(),
        };
        self.connection.output.done(&done);
        Ok(())
    }
}

impl Revocations {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = &self.connection.output;
        if let Some(RevocationsCommand::Accept(accept)) = self.command {
            return Box::pin(accept.run(output)).await;
        }
        let client = RevocationServiceClient::new(self.connection.authorized().await?);
        if self.watch { watch(client, output).await } else { list(client, output).await }
    }
}

impl Accept {
    async fn run(self, output: &Output) -> Result<(), Failure> {
        let config = self.options.read()?;
        let tokens = if self.keep_tokens { "" } else { " All access tokens are revoked." };
        self.confirm.ask(&format!(
            "Make all servers accept the database {}?{tokens}",
            config.database.url
        ))?;
        let accepted = Box::pin(accept_database(&config, self.keep_tokens)).await?;
        accepted.redis_trouble.as_deref().into_iter().for_each(note_redis_trouble);
        output.one(&AcceptReport { database: config.database.url.to_string(), accepted })?;
        let tokens = if self.keep_tokens {
            "older access tokens still work"
        } else {
            "older access tokens are refused"
        };
        output.done(&format!("servers accept this database from now on; {tokens}"));
        Ok(())
    }
}

/// Says on standard error that Redis could not be read.
pub(super) fn note_redis_trouble(why: &str) {
    note(&format!(
        "warning: Redis cannot be read ({why}): revocations that only Redis knows are not put back"
    ));
}

async fn list(client: RevocationServiceClient<Authorized>, output: &Output) -> Result<(), Failure> {
    let pages = all_pages(Limit::NONE, |page_size, page_token| {
        let mut client = client.clone();
        async move {
            let request = pb::ListRevocationsRequest { page_size, page_token };
            let page = client.list_revocations(request).await?.into_inner();
            Ok((page.revocations, page.next_page_token))
        }
    });
    output.list(&pages.await?)
}

/// Prints revocations until the stream ends.
async fn watch(
    mut client: RevocationServiceClient<Authorized>,
    output: &Output,
) -> Result<(), Failure> {
    let request = pb::WatchRevocationsRequest::default();
    let mut news = client.watch_revocations(request).await?.into_inner();
    while let Some(message) = news.message().await? {
        for revocation in message.revocations {
            output.streamed(revocation, |revocation| {
                let (kind, name) = kind_and_name(revocation);
                let pb::Revocation { number, epoch, .. } = revocation;
                format!("{number}  {kind} {name}  older than {epoch}")
            })?;
        }
    }
    Ok(())
}
