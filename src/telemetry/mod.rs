//! Traces, logs and metrics. They never contain secrets, tokens or bodies.

mod access;
mod logs;
mod metrics;
mod observed;
mod traces;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use logs::{BoundedLayer, LineBudgets};
pub use metrics::Metrics;
pub use observed::{Observed, Reports};

use crate::config::{LogFormat, TelemetryConfig};

/// Sends the remaining traces when it is stopped.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    bounds: Option<LineBudgets>,
}

/// Why logs and traces could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log directives are invalid.
    #[error("telemetry.log is not valid: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The OTLP exporter could not be created.
    #[error("telemetry.otlp_endpoint cannot be used: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The thread that reports suppressed lines could not be started.
    #[error("the log reporter cannot be started: {0}")]
    Thread(std::io::Error),
    /// Logs were already started in this process.
    #[error("logs cannot be started: {0}")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

impl Telemetry {
    /// Starts logging to standard error, and traces to the OTLP endpoint if one is set. Must be
    /// called at most once in a process.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let mut filter = EnvFilter::try_new(&config.log)?;
        if config.access_log {
            // The access log has its own setting, so it does not depend on the log level.
            filter = filter.add_directive(format!("{}=info", logs::ACCESS).parse()?);
        }
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let lines = match config.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let bounds = LineBudgets::start().map_err(TelemetryError::Thread)?;
        let lines = BoundedLayer::new(lines, bounds.clone()).with_filter(filter);
        let provider = config.otlp_endpoint.as_deref();
        let provider =
            provider.map(|to| traces::provider(to, config.trace_sampling)).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("keyward"))
                .with_filter(LevelFilter::INFO)
        });
        tracing_subscriber::registry().with(lines).with(traces).try_init()?;
        Ok(Self { provider, bounds: Some(bounds) })
    }

    /// Sends the remaining traces and reports. Blocks briefly.
    pub fn stop(self) {
        if let Some(bounds) = self.bounds {
            bounds.report();
        }
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
