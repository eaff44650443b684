//! The TLS of all listeners.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::reload::keep_current;
use super::{ListenerTls, LoadError, Offered, TlsMetrics};
use crate::clock::Clock;
use crate::config::TlsConfig;
use crate::telemetry::Metrics;

/// The TLS of the listeners. `None`: the listener does not use TLS.
#[derive(Debug)]
pub(in crate::server) struct Listeners {
    pub(in crate::server) grpc: Option<Arc<ListenerTls>>,
    pub(in crate::server) http: Option<Arc<ListenerTls>>,
    pub(in crate::server) ops: Option<Arc<ListenerTls>>,
    metrics: TlsMetrics,
    reload_interval: Duration,
}

impl Listeners {
    /// Reads the files of all listeners.
    pub(in crate::server) fn load(config: &TlsConfig, clock: &Clock) -> Result<Self, LoadError> {
        let metrics = TlsMetrics::default();
        let load = |face, files: &Option<_>, offered| {
            let files = files.as_ref();
            files.map(|files| ListenerTls::load(face, files, offered, clock, &metrics)).transpose()
        };
        Ok(Self {
            grpc: load("grpc", &config.grpc, Offered::Http2)?,
            http: load("http", &config.http, Offered::Http2AndHttp1)?,
            ops: load("ops", &config.ops, Offered::Http2AndHttp1)?,
            reload_interval: config.reload_interval,
            metrics,
        })
    }

    pub(in crate::server) fn register(&self, metrics: &mut Metrics) {
        self.metrics.register(metrics);
    }

    /// Reloads changed files until the server stops.
    pub(in crate::server) fn keep_current(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let all = [&self.grpc, &self.http, &self.ops].into_iter().flatten().cloned().collect();
        keep_current(all, self.reload_interval, stop)
    }
}
