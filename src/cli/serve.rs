//! `keyward serve`

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use clap::Args;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{note, say};
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
            hand_over(first, &config.data_dir);
        }
        tracing::info!(
            grpc = %server.grpc,
            http = %server.http,
            ops = %server.ops,
            issuer = server.service.issuer(),
            database = %config.database.url,
            "serving"
        );
        if stop.received().await == Stop::InOrder {
            tracing::info!("draining");
            tokio::select! {
                () = server.drain() => {}
                _ = stop.received() => {
                    tracing::info!("stopping at once");
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

/// The file with the first admin credential, in the data folder.
const ADMIN_FILE: &str = "admin.env";

/// Shows the first admin credential once: on a terminal, else in its own file. The logs of
/// containers are stored, and many people can read them.
fn hand_over(first: &FirstCredential, folder: &Path) {
    let ends = end_of(first);
    if std::io::stdout().is_terminal() {
        note(&format!(
            "This is the first start. This admin credential is shown this once; {ends}:"
        ));
        print(first);
        return;
    }
    let file = folder.join(ADMIN_FILE);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    match made.and_then(|()| write_private(&file, &exports(first))) {
        Ok(()) => tracing::info!(
            file = %file.display(),
            "this is the first start: the file has the admin credential, and nothing else does; \
             {ends}; keep it in a safe place and delete the file"
        ),
        Err(error) => tracing::error!(
            file = %file.display(),
            %error,
            "the first admin credential could not be written; make another with `keyward bootstrap`"
        ),
    }
}

/// When the credential expires, in words.
pub(super) fn end_of(credential: &FirstCredential) -> String {
    match credential.expires_at {
        Some(end) => format!("it ends at {end:.0}"),
        None => "it has no end".to_owned(),
    }
}

/// A credential as a shell reads it.
fn exports(credential: &FirstCredential) -> String {
    let FirstCredential { client_id, client_secret, .. } = credential;
    let secret = client_secret.expose();
    format!("export KEYWARD_CLIENT_ID={client_id}\nexport KEYWARD_CLIENT_SECRET={secret}\n")
}

/// Prints a credential as a shell reads it.
pub(super) fn print(credential: &FirstCredential) {
    say!("{}", exports(credential).trim_end());
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Drain connections first: SIGTERM, which supervisors send.
    InOrder,
    /// SIGINT, which users send.
    Now,
}

/// The signals that stop a process. Once this exists they no longer kill the process, so it is
/// created before anything that needs a shutdown in order.
pub(super) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
    /// The kernel sends it for a write beyond the limit of file size. It must not kill the server:
    /// the write fails too, and is handled like any other failed write.
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

    /// Waits for one of them.
    pub(super) async fn received(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::InOrder,
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
