//! `keyward login`, `logout` and `servers`

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Column, Tabular, listed};
use super::servers::{SavedServer, SavedServers, SavedTls};
use super::{Failure, ServerConnection, client, secret};
use crate::domain::Audience;
use crate::proto::token::ClientSecret;
use crate::proto::token::issue_token_request::Credential;

const FILES: &str = "\
The servers are in $XDG_CONFIG_HOME/keyward/servers.toml, or ~/.config/keyward/servers.toml. Only
the user may have rights to that file (mode 600): it has the secrets.";

/// The hint for clients that have a key or a certificate.
const WITHOUT_SECRET: &str = ". A client without a secret is not saved: give what it has with each \
    command, --client-id, --client-certificate and --client-key, or for a token --client-id and \
    --private-key (keyward token)";

/// Save a server and a credential for it under a name
///
/// Exchanges the credential for a token first, and does not save one that fails. Without flags, it
/// asks for the client id and the secret. The first saved server becomes the default. Flags and
/// environment variables override saved values. Only secrets and API keys are saved: a client with a
/// key or a certificate gives it with each command.
#[derive(Debug, Args)]
#[command(after_help = format!("\
{FILES}

Examples:
  keyward login prod --server https://keyward.example.com:50051
  keyward login prod --server https://… --client-id ID --client-secret-file - < secret.txt
  keyward login prod --server https://… --ca ca.pem
  keyward tenant list --server prod"))]
pub(super) struct LoginArgs {
    /// A name for the server: prod
    name: String,
    /// Make it the default
    #[arg(long)]
    default: bool,
    #[command(flatten)]
    connection: ServerConnection,
}

/// Remove a server that `keyward login` saved
///
/// The credential still works; `keyward credential delete` revokes it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward logout prod")]
pub(super) struct Logout {
    /// The name of the server
    name: String,
}

/// List the servers that `keyward login` saved, or choose the default
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = format!("{FILES}\n\nExamples:\n  keyward servers\n  keyward servers default prod")
)]
pub(super) struct ServersArgs {
    #[command(subcommand)]
    command: Option<ServersCommand>,
    #[command(flatten)]
    output: super::output::Output,
}

#[derive(Debug, Subcommand)]
enum ServersCommand {
    /// List the servers
    #[command(after_help = "Example:\n  keyward servers list")]
    List,
    /// Set the default server
    #[command(after_help = "Example:\n  keyward servers default prod")]
    Default {
        /// The name of the server
        name: String,
    },
}

struct ServerRow {
    name: String,
    is_default: bool,
    server: SavedServer,
}

impl Tabular for ServerRow {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |row| json!(row.name)),
        listed(2, "default", |row| json!(row.is_default)),
        listed(3, "server", |row| json!(row.server.url)),
        listed(4, "client_id", |row| json!(row.server.client_id)),
    ];
}

impl LoginArgs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { name, default, connection } = self;
        if name.is_empty() || name.contains("://") {
            return Err(Failure::usage(
                "the first argument is a name: keyward login prod --server URL",
            ));
        }
        let mut servers = SavedServers::read()?;
        let saved = servers.servers.get(&name).cloned();
        let mut saved_tls = SavedTls::default();
        let url = match (&connection.server, saved) {
            (Some(_), _) => connection.url()?,
            (None, Some(saved)) => {
                saved_tls = saved.tls;
                saved.url
            }
            (None, None) => {
                return Err(Failure::usage("the server's address is missing: use --server URL"));
            }
        };
        let credential = credential(&connection)?;
        let security = connection.tls.with_saved(saved_tls)?;
        let channel = client::connect(&url, &security).await?;
        let audiences = vec![Audience::KEYWARD.to_owned()];
        client::exchange(&channel, credential.clone(), Vec::new(), audiences).await?;
        if default || servers.default.is_none() {
            servers.default = Some(name.clone());
        }
        servers
            .servers
            .insert(name.clone(), SavedServer::new(url.clone(), credential, security.saved()));
        servers.write()?;
        connection.output.done(&format!("{url} is saved as {name}"));
        Ok(())
    }
}

/// The credential from flags and the environment. Prompts for missing parts.
fn credential(connection: &ServerConnection) -> Result<Credential, Failure> {
    if let Some(key) = connection.given_key()? {
        return Ok(Credential::ApiKey(key));
    }
    let client_id = match &connection.client_id {
        Some(id) => id.clone(),
        None => secret::ask("client id")?,
    };
    let client_secret = if let Some(secret) = connection.given_secret()? {
        secret
    } else {
        let asked = secret::ask_hidden("client secret");
        asked.map_err(|failure| failure.with_hint(WITHOUT_SECRET))?
    };
    Ok(Credential::ClientSecret(ClientSecret { client_id, client_secret }))
}

impl Logout {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut servers = SavedServers::read()?;
        servers.get(&self.name)?;
        servers.servers.remove(&self.name);
        servers.default = servers.default.filter(|default| *default != self.name);
        servers.write()?;
        super::print::say!("{} is removed; its credential still works", self.name);
        Ok(())
    }
}

impl ServersArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut servers = SavedServers::read()?;
        if let Some(ServersCommand::Default { name }) = self.command {
            servers.get(&name)?;
            servers.default = Some(name);
            return servers.write();
        }
        let default = servers.default.unwrap_or_default();
        let rows: Vec<_> = servers
            .servers
            .into_iter()
            .map(|(name, server)| ServerRow { is_default: name == default, name, server })
            .collect();
        self.output.many(&rows)
    }
}
