//! The command line: one file a command. Those that manage talk gRPC to a server, like
//! any client; those that run a server read the configuration.

mod application;
mod application_view;
mod apply;
mod audit;
mod bootstrap;
mod check;
mod client;
mod config;
mod credential;
mod dev;
mod endpoint;
mod exit;
mod limits;
mod migrate;
mod names;
mod options;
mod output;
mod policy;
mod profile;
mod revocation;
mod role;
mod scope;
mod serve;
mod tenant;
mod token;
mod usage;
mod user;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use client::Connection;
use exit::Failure;
use options::ServerOptions;
use output::Format;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 not found;
4 not authenticated or not permitted; 5 the server cannot be reached.

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
    Config(config::Show),
    Apply(apply::Apply),
    /// Exchange a credential for an access token
    Token(token::Token),
    Verify(token::Verify),
    /// Ask the server whether a token or API key is good
    Introspect(token::Introspect),
    /// Revoke an access token
    Revoke(token::Revoke),
    RevokeTokens(revocation::RevokeTokens),
    Revocations(revocation::Revocations),
    Check(check::Check),
    /// Print the server's published keys
    Jwks(token::Jwks),
    /// Manage tenants
    Tenant(tenant::Tenant),
    /// Manage applications
    Application(application::Application),
    /// Manage credentials
    Credential(credential::Credential),
    Usage(usage::Usage),
    /// Manage the scopes of a tenant's catalogue
    Scope(scope::Scope),
    Endpoint(endpoint::Endpoint),
    /// Manage the people of a tenant
    User(user::User),
    /// Manage what the people of a tenant may do
    Role(role::Role),
    /// Read a tenant's audit log: who did what, from where, and what was refused
    Audit(audit::Audit),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  keyward completions bash > /etc/bash_completion.d/keyward")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(error) => Err(Failure::new(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(command) => Box::pin(command.run()).await,
        Command::Serve(command) => command.run().await,
        Command::Migrate(command) => command.run().await,
        Command::Bootstrap(command) => Box::pin(command.run()).await,
        Command::Config(command) => command.run(),
        Command::Apply(command) => command.run().await,
        Command::Token(command) => command.run().await,
        Command::Verify(command) => command.run().await,
        Command::Introspect(command) => command.run().await,
        Command::Revoke(command) => command.run().await,
        Command::RevokeTokens(command) => command.run().await,
        Command::Revocations(command) => Box::pin(command.run()).await,
        Command::Check(command) => command.run().await,
        Command::Jwks(command) => command.run().await,
        Command::Tenant(command) => command.run().await,
        Command::Application(command) => command.run().await,
        Command::Credential(command) => command.run().await,
        Command::Usage(command) => command.run().await,
        Command::Scope(command) => command.run().await,
        Command::Endpoint(command) => command.run().await,
        Command::User(command) => command.run().await,
        Command::Role(command) => command.run().await,
        Command::Audit(command) => command.run().await,
        Command::Completions { shell } => {
            // Into memory first: the generators panic where they cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
            output::print(&script);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_a_command_has_to_say_stands_in_its_help() {
        // A comment on the list of commands would take its place.
        let cli = Cli::command();
        for name in [
            "dev",
            "serve",
            "migrate",
            "bootstrap",
            "config",
            "apply",
            "verify",
            "usage",
            "endpoint",
        ] {
            let command = cli.find_subcommand(name).unwrap();
            assert!(command.get_long_about().is_some(), "{name}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
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
