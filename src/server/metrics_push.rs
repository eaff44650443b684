//! Sends the metrics to the collector, if `telemetry.otlp_metrics_interval` is set.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ServerError;
use super::scrape::Scrape;
use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry::{Metrics, MetricsExport, OtlpProcess};

/// How long a stopping server waits for the collector to take the last metrics.
const LAST_TIMEOUT: Duration = Duration::from_secs(3);

/// Registers how exports of traces and metrics end, if there is a collector.
pub(super) fn register(config: &Config, metrics: &mut Metrics) {
    if config.telemetry.otlp.is_some() {
        let help = "Requests to the collector of traces and metrics, by result";
        metrics.add("otlp_exports", help, OtlpProcess::of_process().exports().clone());
    }
}

/// Sends until `stop`, and once more then. `None` if metrics are not sent.
pub(super) fn start(
    config: &Config,
    scrape: Scrape,
    clock: Clock,
    stop: CancellationToken,
) -> Result<Option<impl Future<Output = ()> + use<>>, ServerError> {
    let Some(otlp) = &config.telemetry.otlp else { return Ok(None) };
    let Some(interval) = otlp.metrics_interval else { return Ok(None) };
    let export = MetricsExport::new(otlp, &OtlpProcess::of_process(), clock.now());
    let export = export.map_err(ServerError::Otlp)?;
    Ok(Some(async move {
        let send = async || {
            if let Ok(text) = scrape.text() {
                export.send(&text, clock.now()).await;
            }
        };
        let each = async {
            loop {
                sleep(interval).await;
                send().await;
            }
        };
        stop.run_until_cancelled(each).await;
        if timeout(LAST_TIMEOUT, send()).await.is_err() {
            tracing::warn!("the last metrics could not be sent to the collector");
        }
    }))
}
