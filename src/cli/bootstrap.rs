//! `keyward bootstrap`

use clap::Args;

use super::print::note;
use super::{Failure, ServerOptions, serve};
use crate::server::{build_service, open_store};

/// Create an admin credential in the database itself, if the first one is lost
///
/// Prints it once, as two `export` lines. It expires after `secrets.admin_credential_lifetime`.
/// This needs the database and the master key: run it where the server runs, with the same
/// settings. The server can be running. Other admin credentials stay, unless their application
/// `admin` is disabled, has expired or lost its scope: then it is created again, without them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eval \"$(keyward bootstrap)\" && keyward tenant list")]
pub(super) struct Bootstrap {
    #[command(flatten)]
    options: ServerOptions,
}

impl Bootstrap {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let store = open_store(&config).await?;
        let service = build_service(&config, &store).await?;
        let credential = service.admin.bootstrap().await.map_err(Failure::new)?;
        store.close().await;
        let database = &config.database.url;
        let ends = serve::expiry_of(&credential);
        note(&format!("This admin credential of {database} is shown only once; {ends}:"));
        serve::print(&credential);
        Ok(())
    }
}
