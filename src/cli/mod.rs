//! The command line, with one file for each command. Management commands are gRPC clients of a
//! server. Commands that run a server read the configuration. All commands for resources share one
//! form (`resource`).

mod apply;
mod assertion;
mod audit;
mod backup;
mod bootstrap;
mod check;
mod claims;
mod client;
mod config;
mod confirm;
mod dev;
mod doctor;
mod endpoint;
mod exchange;
mod exit;
mod keys;
mod login;
mod master_keys;
mod migrate;
mod names;
mod options;
mod output;
mod print;
mod profile;
mod proof_key;
mod resource;
mod revocation;
mod sample_key;
mod secret;
mod serve;
mod servers;
mod suggest;
mod table;
mod tls;
mod token;
mod usage;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::proto::admin as pb;
use client::ServerConnection;
use exit::Failure;
use options::ServerOptions;
use resource::Manage;

const AFTER_HELP: &str = "\
Names are paths: the role admin of the tenant acme is acme/admin, a credential of its
application crm is acme/crm/ID. Full resource names (tenants/acme/roles/admin) work too.

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 not found;
4 not authenticated or not permitted; 5 the server cannot be reached; 6 `doctor` found warnings;
7 the master key does not fit the database or the other servers; 8 this version cannot use the
schema of the database; 9 `migrate --check` found missing migrations.

With -o json an error is an object on standard error: reason, message, violations (each a field
and its description), metadata and exit_code.

Try it:
  keyward dev";

/// API credentials for multi-tenant platforms, exchanged for short-lived signed JWTs.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, after_help = AFTER_HELP, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Dev),
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Bootstrap(bootstrap::Bootstrap),
    Config(config::ShowConfig),
    Doctor(doctor::Doctor),
    Backup(backup::BackupCommand),
    Restore(backup::RestoreCommand),
    Apply(apply::Apply),
    /// Exchange a credential for an access token
    Token(token::Token),
    Exchange(exchange::Exchange),
    Verify(token::Verify),
    /// Ask the server whether a token or API key is active
    Introspect(token::Introspect),
    /// Revoke an access token
    Revoke(token::Revoke),
    RevokeTokens(revocation::RevokeTokens),
    Revocations(revocation::Revocations),
    Check(check::Check),
    /// Print the server's published keys
    Jwks(token::JwksArgs),
    Keys(keys::KeysArgs),
    /// Manage tenants: the customers of the platform
    Tenant(Manage<pb::Tenant>),
    /// Manage applications: what gets access
    Application(Manage<pb::Application>),
    /// Manage credentials: how an application authenticates
    Credential(resource::CredentialArgs),
    Usage(usage::Usage),
    /// Manage the scopes of a tenant's catalogue; `keyward apply` sets all of them at once
    Scope(Manage<pb::Scope>),
    Endpoint(endpoint::EndpointArgs),
    /// Manage the users of a tenant; `--as-user` acts for one of them
    User(Manage<pb::User>),
    /// Manage roles: what the users of a tenant may do, and which scopes they may grant
    Role(Manage<pb::Role>),
    /// Read, export and verify audit logs: who did what, from where, and what was refused
    Audit(audit::Audit),
    Login(login::LoginArgs),
    Logout(login::Logout),
    Servers(login::ServersArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  keyward completions bash > /etc/bash_completion.d/keyward")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command on the command line of the process.
pub fn run() -> ExitCode {
    let as_json = wants_json(std::env::args_os());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if as_json && error.use_stderr() => {
            return Failure::usage(error.to_string().trim_end()).report(true);
        }
        Err(error) => error.exit(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(error) => Err(Failure::new(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(as_json),
    }
}

/// Whether the arguments request JSON. Used before they are parsed, so that parse errors are JSON
/// too.
fn wants_json(arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let arguments: Vec<_> = arguments.collect();
    let is_flag = |text: &std::ffi::OsStr| text == "-o" || text == "--output";
    arguments.iter().any(|one| ["-ojson", "-o=json", "--output=json"].iter().any(|is| one == is))
        || arguments.windows(2).any(|pair| is_flag(&pair[0]) && pair[1] == "json")
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(command) => Box::pin(command.run()).await,
        Command::Serve(command) => command.run().await,
        Command::Migrate(command) => command.run().await,
        Command::Bootstrap(command) => Box::pin(command.run()).await,
        Command::Config(command) => command.run(),
        Command::Doctor(command) => Box::pin(command.run()).await,
        Command::Backup(command) => command.run().await,
        Command::Restore(command) => command.run().await,
        Command::Apply(command) => command.run().await,
        Command::Token(command) => command.run().await,
        Command::Exchange(command) => command.run().await,
        Command::Verify(command) => command.run().await,
        Command::Introspect(command) => command.run().await,
        Command::Revoke(command) => command.run().await,
        Command::RevokeTokens(command) => command.run().await,
        Command::Revocations(command) => Box::pin(command.run()).await,
        Command::Check(command) => command.run().await,
        Command::Jwks(command) => command.run().await,
        Command::Keys(command) => command.run().await,
        Command::Tenant(command) => command.run().await,
        Command::Application(command) => command.run().await,
        Command::Credential(command) => command.run().await,
        Command::Usage(command) => command.run().await,
        Command::Scope(command) => command.run().await,
        Command::Endpoint(command) => command.run().await,
        Command::User(command) => command.run().await,
        Command::Role(command) => command.run().await,
        Command::Audit(command) => command.run().await,
        Command::Login(command) => command.run().await,
        Command::Logout(command) => command.run(),
        Command::Servers(command) => command.run(),
        Command::Completions { shell } => {
            // Generates the script in memory, since the generators panic on a write error.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
            print::print(&script);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn long_help_of_a_command_is_shown() {
        // A doc comment on the enum of subcommands would replace these texts.
        let cli = Cli::command();
        for name in [
            "dev",
            "serve",
            "migrate",
            "bootstrap",
            "config",
            "doctor",
            "backup",
            "restore",
            "apply",
            "verify",
            "usage",
            "keys",
            "endpoint",
        ] {
            let command = cli.find_subcommand(name).unwrap();
            assert!(command.get_long_about().is_some(), "{name}");
        }
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &mut clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            let has_example = help.contains("Example") || help.contains("Try it");
            assert!(has_example || command.has_subcommands(), "{path} has no example");
            for sub in command.get_subcommands_mut() {
                if sub.get_name() != "help" {
                    let path = format!("{path} {}", sub.get_name());
                    check(sub, &path);
                }
            }
        }
        check(&mut Cli::command(), "keyward");
    }
}
