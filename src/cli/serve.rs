//! `keyward serve`

use clap::Args;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{note, say};
use super::{Failure, ServerOptions};
use crate::clock::Clock;
use crate::server::{Server, raise_limit};
use crate::service::FirstCredential;
use crate::telemetry::Telemetry;

/// Serve gRPC, OAuth over HTTP, and health and metrics
///
/// SIGTERM drains connections, then stops; SIGINT stops without draining; a second signal stops at
/// once. The first start makes the database, the keys, and the first admin credential, which is printed
/// to standard output once.
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
            note("This is the first start. The admin credential below is shown this once:");
            print(first);
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

/// Prints a credential as a shell takes it.
pub(super) fn print(credential: &FirstCredential) {
    say!("export KEYWARD_CLIENT_ID={}", credential.client_id);
    say!("export KEYWARD_CLIENT_SECRET={}", credential.client_secret.expose());
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Connections are drained first: SIGTERM, which supervisors send.
    InOrder,
    /// SIGINT, which people send.
    Now,
}

/// The signals that tell a process to stop. From its making on they kill no more, so it
/// is made before anything that must be stopped in order.
pub(super) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
    /// The kernel sends it for a write beyond a limit of file size. It must not kill the
    /// server: the write fails too, and is answered as any other failed write.
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
