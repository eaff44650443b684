//! `keyward revoke-tokens` and `keyward revocations`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Authorized, all_pages};
use super::output::{View, json_escaped, line, say};
use super::{Connection, Failure, Format, ServerOptions, names};
use crate::clock::Clock;
use crate::domain;
use crate::proto::access as pb;
use crate::proto::access::revocation::Revoked;
use crate::proto::access::revocation_service_client::RevocationServiceClient;
use crate::proto::token::RevokeTokensRequest;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::server::{build_service, open_store};
use crate::service::Declared;

/// Revoke all access tokens of a tenant, an application or a credential
///
/// Their secrets and API keys go on working: new tokens can be had at once. With --user all
/// applications that the user owns are meant, with --token-id one token of a credential. Exits
/// with 3 if the user owns none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward revoke-tokens acme/crm --reason 'a laptop was lost'
  keyward revoke-tokens --user acme/sam
  keyward revoke-tokens acme/crm/ID --token-id JTI")]
pub(super) struct RevokeTokens {
    /// Whose: acme, acme/crm or acme/crm/ID
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    name: Option<String>,
    /// The owner of the applications whose tokens are meant: acme/sam
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only the token with this id, its claim `jti`
    #[arg(long, value_name = "JTI", requires = "name")]
    token_id: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    connection: Connection,
}

/// Show what is revoked now; with --watch go on to show what is, as it happens
///
/// The list that services which check tokens themselves follow. The caller needs the scope
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
    command: Option<Command>,
    /// Go on until stopped; with JSON, an object a line
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    Accept(Accept),
}

/// Declare the database as it is to be the truth: after a backup was restored
///
/// Servers never forget a revocation because a database does not have it. One whose database
/// knows less than was known (a restored backup, a failover that lost its last moments) answers
/// UNAVAILABLE until the database has caught up. If it never will, this makes all servers and
/// verifiers take it over, within a second or so and without a restart.
///
/// All access tokens that were made before are revoked, since those that were revoked after the
/// backup would be good again; applications get new ones with their credentials. With
/// --keep-tokens they stay good, but for what running servers and verifiers know to be revoked:
/// that stays refused until the revocation lapses, an hour or two after it was made, and so do
/// applications and keys whose tokens were revoked after the backup. What was changed after the backup is lost either way: an API key that was deleted since
/// is there again, and has to be deleted again.
///
/// It works straight on the database, so it runs where the server runs, with the same settings;
/// servers may be running. It is written to the audit log of the tenant `system`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward revocations accept
  keyward revocations accept --keep-tokens --database-url postgres://keyward@db/keyward")]
struct Accept {
    /// Leave access tokens good that were made before
    #[arg(long)]
    keep_tokens: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(flatten)]
    options: ServerOptions,
}

#[derive(Serialize)]
struct DeclaredView {
    database: String,
    list_before: String,
    revocations_before: i64,
    list: String,
    tenants_revoked: u64,
}

impl View for DeclaredView {
    const COLUMNS: &'static [&'static str] = Self::MEMBERS;
    const MEMBERS: &'static [&'static str] =
        &["database", "list_before", "revocations_before", "list", "tenants_revoked"];
}

#[derive(Serialize)]
struct RevocationView {
    number: i64,
    kind: &'static str,
    revoked: String,
    epoch: i64,
    revoke_time: Option<String>,
    expire_time: Option<String>,
}

impl View for RevocationView {
    const COLUMNS: &'static [&'static str] =
        &["number", "kind", "revoked", "epoch", "revoke_time", "expire_time"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl From<pb::Revocation> for RevocationView {
    fn from(revocation: pb::Revocation) -> Self {
        let (kind, revoked) = match revocation.revoked {
            Some(Revoked::TokenId(id)) => ("token", id),
            Some(Revoked::ClientId(id)) => ("credential", id),
            Some(Revoked::Subject(name)) => ("application", name),
            Some(Revoked::Tenant(id)) => ("tenant", id),
            None => ("unknown", String::new()),
        };
        Self {
            number: revocation.number,
            kind,
            revoked,
            epoch: revocation.epoch,
            revoke_time: names::moment(revocation.revoke_time.as_ref()),
            expire_time: names::moment(revocation.expire_time.as_ref()),
        }
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
        let request = RevokeTokensRequest { name, token_id, reason: self.reason };
        let mut client = TokenServiceClient::new(self.connection.authorized().await?);
        let response = client.revoke_tokens(request).await?.into_inner();
        let done = match (&self.user, response.applications) {
            (Some(user), 0) => {
                return Err(Failure::not_found(format!(
                    "no token was revoked: {user} owns no application"
                )));
            }
            (Some(_), count) => {
                format!("the tokens of {count} applications are refused from now on")
            }
            // The server keeps no list of the tokens that it issued.
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
        if let Some(Command::Accept(accept)) = self.command {
            return Box::pin(accept.run()).await;
        }
        let client = RevocationServiceClient::new(self.connection.authorized().await?);
        let output = self.connection.output;
        if self.watch { watch(client, output).await } else { list(client, output).await }
    }
}

impl Accept {
    async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let store = open_store(&config).await?;
        // No token is issued here, so whose name would stand in it does not matter. Nor is Redis
        // asked, which may know of more than this database.
        let service = build_service(&config, &store, Clock::system(), String::new(), None).await?;
        let declared =
            service.admin.accept_database(self.keep_tokens).await.map_err(Failure::new)?;
        store.close().await;
        let Declared { before, revocations, after, tenants } = declared;
        self.output.one(&DeclaredView {
            database: config.database.url.to_string(),
            list_before: before,
            revocations_before: revocations,
            list: after,
            tenants_revoked: tenants,
        })?;
        let tokens = if self.keep_tokens {
            "access tokens that were made before stay good"
        } else {
            "access tokens that were made before are refused"
        };
        self.output.done(&format!("servers take this database over from now on; {tokens}"));
        Ok(())
    }
}

async fn list(client: RevocationServiceClient<Authorized>, output: Format) -> Result<(), Failure> {
    let pages = all_pages(usize::MAX, |page_size, page_token| {
        let mut client = client.clone();
        async move {
            let request = pb::ListRevocationsRequest { page_size, page_token };
            let page = client.list_revocations(request).await?.into_inner();
            Ok((page.revocations, page.next_page_token))
        }
    });
    let rows: Vec<_> = pages.await?.into_iter().map(RevocationView::from).collect();
    output.many(&rows)
}

/// Until the stream ends, which is told as any failure is.
async fn watch(
    mut client: RevocationServiceClient<Authorized>,
    output: Format,
) -> Result<(), Failure> {
    let request = pb::WatchRevocationsRequest::default();
    let mut news = client.watch_revocations(request).await?.into_inner();
    while let Some(message) = news.message().await? {
        for row in message.revocations.into_iter().map(RevocationView::from) {
            if output == Format::Json {
                line(json_escaped(&serde_json::to_string(&row).map_err(Failure::new)?));
            } else {
                let RevocationView { number, kind, revoked, epoch, .. } = row;
                say!("{number}  {kind} {revoked}  older than {epoch}");
            }
        }
    }
    Ok(())
}
