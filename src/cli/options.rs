//! Options that several commands share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::config::{Config, Layers};

/// The sources of the configuration. Flags override the environment (`KEYWARD_GRPC_LISTEN` for
/// `grpc.listen`), and the environment overrides the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerOptions {
    /// A configuration file (TOML); deploy/keyward.toml explains every setting
    #[arg(long, value_name = "FILE", env = "KEYWARD_CONFIG")]
    config: Option<PathBuf>,
    /// The address for gRPC [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// The address for OAuth over HTTP [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// The address for health and metrics [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS")]
    ops: Option<SocketAddr>,
    /// The directory of the SQLite file and the master key [default: keyward-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// The database: sqlite:PATH or postgres://… [default: keyward.db in the data directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The log level: error, warn, info, debug, trace, or directives [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log: Option<String>,
}

impl ServerOptions {
    /// Reads the effective configuration.
    pub(super) fn read(&self) -> Result<Config, Failure> {
        self.with_flags(self.layers()?)
    }

    fn layers(&self) -> Result<Layers, Failure> {
        let layers = match &self.config {
            Some(path) => Layers::default().with_file(path)?,
            None => Layers::default(),
        };
        Ok(layers.with_environment(std::env::vars_os()))
    }

    /// Like [`read`](Self::read), for a trial: its listeners need no TLS, whatever their addresses.
    pub(super) fn read_for_trial(&self) -> Result<Config, Failure> {
        self.with_flags(without_tls(self.layers()?))
    }

    /// Reads a configuration with only defaults and flags, in a temporary directory. It ignores the
    /// environment, which can have the settings of a production server.
    pub(super) fn read_temporary(&self, folder: &Path) -> Result<Config, Failure> {
        if self.database_url.is_some() || self.config.is_some() {
            return Err(Failure::usage(
                "--database-url and --config require --data-dir: without it, all data is temporary",
            ));
        }
        let layers = Layers::default().with_flag("data_dir", "", Some(folder.display()));
        self.with_flags(without_tls(layers))
    }

    fn with_flags(&self, layers: Layers) -> Result<Config, Failure> {
        let data_dir = self.data_dir.as_ref().map(|dir| dir.display());
        let layers = layers
            .with_flag("grpc.listen", "--grpc", self.grpc)
            .with_flag("http.listen", "--http", self.http)
            .with_flag("ops.listen", "--ops", self.ops)
            .with_flag("data_dir", "--data-dir", data_dir)
            .with_flag("database.url", "--database-url", self.database_url.as_ref())
            .with_flag("telemetry.log", "--log", self.log.as_ref());
        Ok(Config::read(layers)?)
    }
}

fn without_tls(layers: Layers) -> Layers {
    ["grpc.plaintext", "http.plaintext", "ops.plaintext"]
        .into_iter()
        .fold(layers, |layers, key| layers.with_flag(key, "keyward dev", Some(true)))
}
