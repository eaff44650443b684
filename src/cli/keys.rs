//! `keyward keys`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Authorized, Limit, all_pages};
use super::confirm::Confirm;
use super::names::moment;
use super::output::{Column, Tabular, listed, member};
use super::{Failure, ServerConnection, master_keys};
use crate::domain;
use crate::proto::admin as pb;
use crate::proto::admin::signing_key::State;
use crate::proto::admin::signing_key_service_client::SigningKeyServiceClient;

/// Manage the keys that sign access tokens, and change the master key
///
/// Keys rotate by themselves (setting `keys.rotation_period`). There is always a next key. It is
/// published ten minutes or more before it signs, and until its last token has expired. `status` and
/// `rewrap` are for a change of the master key. Only administrators of the platform may use these
/// commands.
#[derive(Debug, Args)]
#[command(visible_alias = "signing-key", alias = "key")]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    #[command(flatten)]
    connection: ServerConnection,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List all keys, the newest first
    #[command(after_help = "\
Examples:
  keyward keys list
  keyward keys list --output json")]
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Rotate now: let the next key sign in a minute
    #[command(after_help = "\
Example:
  keyward keys rotate

A key is published for ten minutes before it signs, so that no verifier refuses its tokens: soon
after another rotation, the next key signs when it has been. After a compromise use
`keyward keys revoke`, which does not wait.")]
    Rotate,
    /// Let the next key take over from this one; its tokens stay valid
    #[command(after_help = "\
Example:
  keyward keys retire KID

An active key needs a next key that has been published for ten minutes. A next key is withdrawn,
never signs, and is replaced by another one.")]
    Retire {
        /// The key id (`kid`), as `keyward keys list` shows it
        // An id can begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Refuse every token that this key signed, at once, after a compromise
    #[command(after_help = "\
Examples:
  keyward keys revoke KID --reason 'a backup was stolen'
  keyward keys revoke KID --yes --output json

If the key signs tokens, the next one signs from now on. Clients get new tokens with their
credentials. If the next key was stolen too, revoke it first: another one takes its place.")]
    Revoke {
        /// The key id (`kid`), as `keyward keys list` shows it
        // An id can begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show which master keys stored values need, and which ones the servers have
    #[command(after_help = "\
Examples:
  keyward keys status
  keyward keys status --output json

A key is primary if the server writes with it, additional if the server only opens with it
(additional_master_key), and missing if the server does not have it.")]
    Status,
    /// Seal stored values again with the primary master key
    #[command(after_help = "\
Example:
  keyward keys rewrap

For a change of the master key: every server must have the new key as master_key and the old one
as additional_master_key. The command can be stopped and repeated, and runs beside everything
else. Hashes of secrets move when the secrets are used: remaining_hashes counts those that have
not moved. Exit codes: 0 done, even if hashes remain; 1 values remain, or a server has other keys.")]
    Rewrap,
}

impl Tabular for pb::SigningKey {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "key", |key| json!(key.name.split_once('/').map(|(_, kid)| kid))),
        member("name", |key| json!(key.name)),
        listed(2, "state", |key| json!(state(key))),
        listed(4, "algorithm", |key| json!(key.algorithm)),
        listed(3, "activate_time", |key| json!(moment(key.activate_time.as_ref()))),
        listed(5, "retire_time", |key| json!(moment(key.retire_time.as_ref()))),
        listed(6, "remove_time", |key| json!(moment(key.remove_time.as_ref()))),
        listed(7, "revoke_time", |key| json!(moment(key.revoke_time.as_ref()))),
        listed(8, "create_time", |key| json!(moment(key.create_time.as_ref()))),
    ];
}

/// The result of `keys revoke`.
struct RevokeReport(pb::RevokeSigningKeyResponse);

impl RevokeReport {
    fn key(&self) -> Option<&pb::SigningKey> {
        self.0.signing_key.as_ref()
    }

    fn bound(&self) -> i64 {
        self.0.revocation_bound.map_or(0, |bound| bound.seconds)
    }
}

impl Tabular for RevokeReport {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |report| json!(report.key().map(|key| &key.name))),
        listed(2, "state", |report| json!(report.key().map(state))),
        listed(3, "revoke_time", |report| {
            json!(moment(report.key().and_then(|key| key.revoke_time.as_ref())))
        }),
        listed(4, "replacement", |report| {
            json!(report.0.replacement.as_ref().map(|key| &key.name))
        }),
        listed(5, "revocation_bound_seconds", |report| json!(report.bound())),
    ];
}

fn state(key: &pb::SigningKey) -> &'static str {
    match key.state() {
        State::Unspecified => "unknown",
        State::Next => "next",
        State::Active => "active",
        State::Retiring => "retiring",
        State::Removed => "removed",
        State::Revoked => "revoked",
    }
}

/// `KID` or `signingKeys/KID`.
fn name(kid: &str) -> String {
    let kid = domain::pasted(kid);
    if kid.starts_with("signingKeys/") { kid.to_owned() } else { format!("signingKeys/{kid}") }
}

fn missing() -> Failure {
    Failure::new("the server's answer has no signing key")
}

impl KeysArgs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { command, connection } = self;
        match command {
            KeysCommand::List { limit } => list(&connection, limit).await,
            KeysCommand::Rotate => {
                let work = async |channel: Authorized| {
                    let mut client = SigningKeyServiceClient::new(channel);
                    let request = pb::RotateSigningKeyRequest {};
                    Ok(client.rotate_signing_key(request).await?.into_inner().signing_key)
                };
                let key = connection.call(None, work).await?.ok_or_else(missing)?;
                connection.output.one(&key)?;
                let at = moment(key.activate_time.as_ref()).unwrap_or_default();
                connection.output.done(&format!("the next key signs from {at} on"));
                Ok(())
            }
            KeysCommand::Retire { kid } => {
                let name = name(&kid);
                let work = async |channel: Authorized| {
                    let mut client = SigningKeyServiceClient::new(channel);
                    let request = pb::RetireSigningKeyRequest { name: name.clone() };
                    Ok(client.retire_signing_key(request).await?.into_inner().signing_key)
                };
                let key = connection.call(Some(&name), work).await?.ok_or_else(missing)?;
                connection.output.one(&key)?;
                let at = moment(key.retire_time.as_ref()).unwrap_or_default();
                connection.output.done(&format!("the key signs until {at}; its tokens stay valid"));
                Ok(())
            }
            KeysCommand::Revoke { kid, reason, confirm } => {
                revoke(&connection, &kid, reason, &confirm).await
            }
            KeysCommand::Status => master_keys::status(&connection).await,
            KeysCommand::Rewrap => master_keys::rewrap(&connection).await,
        }
    }
}

async fn list(connection: &ServerConnection, limit: Limit) -> Result<(), Failure> {
    let work = async |channel: Authorized| {
        all_pages(limit, async |page_size, page_token| {
            let request = pb::ListSigningKeysRequest { page_size, page_token };
            let mut client = SigningKeyServiceClient::new(channel.clone());
            let page = client.list_signing_keys(request).await?.into_inner();
            Ok((page.signing_keys, page.next_page_token))
        })
        .await
    };
    let keys = connection.call(None, work).await?;
    connection.output.list(&keys)
}

async fn revoke(
    connection: &ServerConnection,
    kid: &str,
    reason: String,
    confirm: &Confirm,
) -> Result<(), Failure> {
    let name = name(kid);
    confirm.ask(&format!("Revoke {name}, and every access token that it signed?"))?;
    let work = async |channel: Authorized| {
        let mut client = SigningKeyServiceClient::new(channel);
        let request = pb::RevokeSigningKeyRequest { name: name.clone(), reason };
        Ok(client.revoke_signing_key(request).await?.into_inner())
    };
    let report = RevokeReport(connection.call(Some(&name), work).await?);
    connection.output.one(&report)?;
    let bound = report.bound();
    let since = report.0.replacement.as_ref().and_then(|key| moment(key.create_time.as_ref()));
    let replaced = since.map(|since| format!("; the key that signs now was published at {since}"));
    connection.output.done(&format!(
        "this server refuses its tokens from now on; all others do within {bound} s{}",
        replaced.unwrap_or_default()
    ));
    Ok(())
}
