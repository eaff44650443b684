//! The metrics of TLS.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::bundle::Expiries;
use crate::telemetry::Metrics;

/// The metrics of all listeners with TLS. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsMetrics {
    expiries: Family<ExpiryLabels, Gauge>,
    reloads: Family<ReloadLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpiryLabels {
    face: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    face: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    face: &'static str,
    result: &'static str,
    version: &'static str,
}

impl TlsMetrics {
    pub(super) fn register(&self, metrics: &mut Metrics) {
        metrics.add(
            "certificate_expiry_timestamp_seconds",
            "When a certificate that new handshakes use ends, in Unix time",
            self.expiries.clone(),
        );
        metrics.add(
            "certificate_reloads",
            "Changed certificate files, applied or refused",
            self.reloads.clone(),
        );
        metrics.add("tls_handshakes", "TLS handshakes, by result", self.handshakes.clone());
    }

    /// Shows what new handshakes of a listener use.
    pub(super) fn set_expiries(&self, face: &'static str, expiries: &Expiries) {
        for (kind, end) in expiries.named() {
            let labels = ExpiryLabels { face, kind };
            match end {
                Some(end) => {
                    self.expiries.get_or_create(&labels).set(end.as_second());
                }
                None => drop(self.expiries.remove(&labels)),
            }
        }
    }

    pub(super) fn reloaded(&self, face: &'static str, is_applied: bool) {
        let outcome = if is_applied { "applied" } else { "refused" };
        self.reloads.get_or_create(&ReloadLabels { face, outcome }).inc();
    }

    /// Shows both outcomes before there is one, so that an alert on an increase sees the first.
    pub(super) fn begin(&self, face: &'static str) {
        for outcome in ["applied", "refused"] {
            drop(self.reloads.get_or_create(&ReloadLabels { face, outcome }));
        }
    }

    pub(super) fn handshake(
        &self,
        face: &'static str,
        result: &'static str,
        version: &'static str,
    ) {
        self.handshakes.get_or_create(&HandshakeLabels { face, result, version }).inc();
    }
}
