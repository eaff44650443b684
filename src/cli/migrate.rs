//! `keyward migrate`

use clap::Args;

use super::print::say;
use super::{Failure, ServerOptions};
use crate::server::open_store;

/// Bring the database's schema up to date, and stop
///
/// `serve` does this too. Use this command to do it first, with permissions that the server does
/// not have.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward migrate --database-url postgres://owner@db/keyward")]
pub(super) struct Migrate {
    #[command(flatten)]
    options: ServerOptions,
}

impl Migrate {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let store = open_store(&config).await?;
        store.close().await;
        say!("{} is up to date", config.database.url);
        Ok(())
    }
}
