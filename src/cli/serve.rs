//! `keyward serve`

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use clap::Args;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::print::{note, say};
use super::{Failure, ServerOptions};
use crate::clock::Clock;
use crate::server::{Server, raise_limit, write_private};
use crate::service::FirstCredential;
use crate::telemetry::Telemetry;

/// Serve gRPC, OAuth over HTTP, and health and metrics
///
/// SIGTERM drains connections, then stops. SIGINT stops without draining. A second signal stops
/// immediately. The first start creates the database, the keys, and the first admin credential. It
/// shows the credential once: on standard output if that is a terminal, otherwise in the file
/// admin.env of the data directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward serve
  keyward serve --database-url postgres://keyward@db/keyward --grpc 0.0.0.0:50051")]
pub(super) struct Serve {
    #[command(flatten)]
    options: ServerOptions,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.options.read()?;
        let telemetry = Telemetry::start(&config.telemetry).map_err(Failure::usage)?;
        let mut stop = StopSignal::new()?;
        raise_limit();
        let server = tokio::select! {
            server = Server::start(&config, Clock::system()) => server?,
            _ = stop.received() => return Ok(()),
        };
        if let Some(first) = &server.first_credential {
            show_once(first, &config.data_dir);
        }
        tracing::info!(
            grpc = %server.grpc,
            http = %server.http,
            ops = %server.ops,
            issuer = server.service.issuer(),
            database = %config.database.url,
            "serving"
        );
        if stop.received().await == Stop::Drain {
            tracing::info!("draining");
            tokio::select! {
                () = server.drain() => {}
                _ = stop.received() => {
                    tracing::info!("stopping immediately");
                    server.shutdown_unless(std::future::ready(())).await;
                    telemetry.stop();
                    return Ok(());
                }
            }
        }
        tracing::info!("stopping");
        server.shutdown_unless(stop.received().map(drop)).await;
        telemetry.stop();
        Ok(())
    }
}

/// The file with the first admin credential, in the data directory.
const ADMIN_FILE: &str = "admin.env";

/// Shows the first admin credential once: on a terminal, otherwise in a file. It is not logged,
/// since logs are stored and many people can read them.
fn show_once(first: &FirstCredential, folder: &Path) {
    let ends = expiry_of(first);
    if std::io::stdout().is_terminal() {
        note(&format!(
            "This is the first start. This admin credential is shown only once; {ends}:"
        ));
        print(first);
        return;
    }
    let file = folder.join(ADMIN_FILE);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    match made.and_then(|()| write_private(&file, &exports(first))) {
        Ok(()) => tracing::info!(
            file = %file.display(),
            "this is the first start: only this file has the admin credential; {ends}; move it to \
             a safe place and delete the file"
        ),
        Err(error) => tracing::error!(
            file = %file.display(),
            %error,
            "cannot write the first admin credential; create another with `keyward bootstrap`"
        ),
    }
}

/// The expiry of a credential, in words.
pub(super) fn expiry_of(credential: &FirstCredential) -> String {
    match credential.expires_at {
        Some(end) => format!("it expires at {end:.0}"),
        None => "it never expires".to_owned(),
    }
}

/// A credential as `export` lines for a shell.
fn exports(credential: &FirstCredential) -> String {
    let FirstCredential { client_id, client_secret, .. } = credential;
    let secret = client_secret.expose();
    format!("export KEYWARD_CLIENT_ID={client_id}\nexport KEYWARD_CLIENT_SECRET={secret}\n")
}

/// Prints a credential as `export` lines for a shell.
pub(super) fn print(credential: &FirstCredential) {
    say!("{}", exports(credential).trim_end());
}

/// How a signal stops the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGTERM, which supervisors send: drain connections first.
    Drain,
    /// SIGINT, which users send: stop without draining.
    Now,
}

/// The signals that stop the process. Once this exists, they no longer kill the process, so it is
/// created before anything that needs a graceful shutdown.
pub(super) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
    /// SIGXFSZ, which the kernel sends for a write beyond the file size limit. It must not kill the
    /// server: the write also returns an error, which is handled.
    _file_size: Option<Signal>,
}

impl StopSignal {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Failure::new)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::new)?,
            _file_size: file_size().map_err(Failure::new)?,
        })
    }

    /// Waits for a signal.
    pub(super) async fn received(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Drain,
            _ = self.interrupt.recv() => Stop::Now,
        }
    }
}

#[cfg(target_os = "linux")]
fn file_size() -> std::io::Result<Option<Signal>> {
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(Some)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn file_size() -> std::io::Result<Option<Signal>> {
    Ok(None)
}
