//! Traces, logs and metrics. They never contain secrets, tokens or bodies.

mod access;
mod counter_set;
mod logs;
mod metrics;
mod observed;
mod otlp;
mod trace_ids;
mod traces;

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use logs::{BoundedLayer, LineBudgets};
pub use metrics::Metrics;
pub use observed::{Observed, Reports};
pub use otlp::{MetricsExport, OtlpProcess};
use trace_ids::{LineEnd, WithTraceIds};

use crate::config::{LogFormat, TelemetryConfig};

/// How long a stopping process waits for the collector to take the last traces.
const MAX_STOP: Duration = Duration::from_secs(5);

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
    Otlp(String),
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
        // The spans of requests with a trace are there at each level, because they have its ids.
        filter = filter.add_directive(format!("{}=info", trace_ids::REQUESTS).parse()?);
        let is_terminal = std::io::stderr().is_terminal();
        let lines =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
        let format = tracing_subscriber::fmt::format().with_ansi(is_terminal);
        let lines = match config.log_format {
            LogFormat::Text => lines.event_format(WithTraceIds::new(format, LineEnd::Text)).boxed(),
            LogFormat::Json => {
                let format = format.json();
                lines.json().event_format(WithTraceIds::new(format, LineEnd::Json)).boxed()
            }
        };
        let bounds = LineBudgets::start().map_err(TelemetryError::Thread)?;
        let lines = BoundedLayer::new(lines, bounds.clone()).with_filter(filter);
        let process = config.otlp.as_ref().map(|_| OtlpProcess::of_process());
        let provider = config.otlp.as_ref().zip(process.as_ref());
        let provider = provider
            .map(|(otlp, process)| traces::provider(otlp, process, config.trace_sampling))
            .transpose()?;
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("keyward"))
                .with_filter(LevelFilter::INFO)
        });
        // It takes no lines: the server finds in it what it shares with the traces.
        let process = process.map(|process| process.with_filter(LevelFilter::OFF));
        tracing_subscriber::registry().with(lines).with(traces).with(process).try_init()?;
        Ok(Self { provider, bounds: Some(bounds) })
    }

    /// Sends the remaining traces and reports. Blocks for at most [`MAX_STOP`].
    pub fn stop(self) {
        if let Some(bounds) = self.bounds {
            bounds.report();
        }
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(MAX_STOP)
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
