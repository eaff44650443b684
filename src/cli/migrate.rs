//! `keyward migrate`

use clap::Args;

use super::print::say;
use super::{Failure, ServerOptions};
use crate::server::{check_schema, migrate};
use crate::telemetry::Telemetry;

/// Bring the database's schema up to date, and stop
///
/// `serve` does this too, unless database.migrate is wait. Use this command to do it first, with
/// permissions that the server does not have. Servers of the version before go on meanwhile. Each
/// migration waits for locks for a moment only, then lets other sessions pass and tries again. The
/// log on standard error says which migration runs, how far it is, and what it waits for.
///
/// Exit codes: 0 up to date; 1 failed, for example because another session held a lock for longer
/// than `database.migrate_timeout`; 8 this version cannot use the schema, because it is too new or
/// differs; nothing was changed; 9 migrations are missing (only with --check).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward migrate --database-url postgres://owner@db/keyward
  keyward migrate --check")]
pub(super) struct Migrate {
    /// Change nothing: print which migrations are missing, and exit with 9 if there are any
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    options: ServerOptions,
}

impl Migrate {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let database = &config.database.url;
        if self.check {
            let report = Box::pin(check_schema(&config)).await?;
            say!("{database}: {}", report.state);
            for migration in &report.missing {
                say!("missing: {migration}");
            }
            if !report.missing.is_empty() {
                return Err(Failure::schema_behind(
                    "migrations are missing: run `keyward migrate`, or start the server with \
                     database.migrate = \"auto\"",
                ));
            }
            return Ok(());
        }
        let telemetry = Telemetry::start(&config.telemetry).map_err(Failure::usage)?;
        let migrated = Box::pin(migrate(&config)).await;
        telemetry.stop();
        migrated?;
        say!("{database} is up to date");
        Ok(())
    }
}
