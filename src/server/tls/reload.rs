//! Watches the files of listeners, and warns of certificates that end soon.
//!
//! The files are read, not watched by the file system: that works with symbolic links that are
//! swapped, as in Kubernetes volumes, and with network file systems.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::bundle::{FileContents, Fingerprint};
use super::{ListenerTls, LoadError};

/// How long before its end a certificate is reported.
const WARN_WITHIN: SignedDuration = SignedDuration::from_hours(14 * 24);
/// The interval of these reports.
const WARN_INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// The files of one listener between two readings.
#[derive(Default)]
struct Watched {
    /// The last files that were refused, or the error of reading them: reported once.
    refused: Option<Refused>,
    /// When an end was last reported.
    warned: Option<Timestamp>,
}

#[derive(PartialEq, Eq)]
enum Refused {
    Content(Fingerprint),
    Unreadable(String),
}

/// Keeps listeners up to date until the server stops.
pub(super) async fn keep_current(
    listeners: Vec<Arc<ListenerTls>>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut watched: Vec<_> =
        listeners.into_iter().map(|listener| (listener, Watched::default())).collect();
    loop {
        for (listener, watched) in &mut watched {
            watched.warn_of_expiry(listener);
        }
        if stop.run_until_cancelled(sleep(interval)).await.is_none() {
            return;
        }
        for (listener, watched) in &mut watched {
            watched.reload(listener).await;
        }
    }
}

impl Watched {
    async fn reload(&mut self, listener: &Arc<ListenerTls>) {
        let reader = Arc::clone(listener);
        // A network file system can block for long.
        let read = tokio::task::spawn_blocking(move || FileContents::read(&reader.files)).await;
        let Ok(read) = read else { return };
        let contents = match read {
            Ok(contents) => contents,
            Err(error) => {
                let refused = Refused::Unreadable(error.to_string());
                return self.refuse(listener, refused, &error.into());
            }
        };
        let fingerprint = contents.fingerprint();
        if fingerprint == listener.active().fingerprint {
            self.refused = None;
            return;
        }
        let now = listener.clock.now();
        let parsed = contents.parse(&listener.files, &listener.provider, now);
        match parsed.map_err(LoadError::from).and_then(|bundle| listener.replace(bundle)) {
            Ok(()) => {
                *self = Self::default();
                listener.metrics.reloaded(listener.face, true);
                let ends = listener.active().expiries.leaf;
                let (face, expires) = (listener.face, format!("{ends:.0}"));
                tracing::info!(face, expires, "new certificate files are in use");
            }
            // Tried again at each reading, because the certificate may become valid.
            Err(error) => self.refuse(listener, Refused::Content(fingerprint), &error),
        }
    }

    fn refuse(&mut self, listener: &ListenerTls, refused: Refused, error: &LoadError) {
        if self.refused.as_ref() == Some(&refused) {
            return;
        }
        self.refused = Some(refused);
        listener.metrics.reloaded(listener.face, false);
        let (face, cause) = (listener.face, error.to_string());
        tracing::error!(
            face,
            cause,
            "changed certificate files are refused; the old ones are used"
        );
    }

    /// Reports certificates that end soon, once a day.
    fn warn_of_expiry(&mut self, listener: &ListenerTls) {
        let now = listener.clock.now();
        if self.warned.is_some_and(|warned| now.duration_since(warned) < WARN_INTERVAL) {
            return;
        }
        let face = listener.face;
        for (kind, end) in listener.active().expiries.named() {
            let Some(end) = end.filter(|end| end.duration_since(now) < WARN_WITHIN) else {
                continue;
            };
            self.warned = Some(now);
            let expires = format!("{end:.0}");
            if end < now {
                tracing::error!(face, kind, expires, "a certificate has expired; replace its file");
            } else {
                tracing::warn!(face, kind, expires, "a certificate expires soon; replace its file");
            }
        }
    }
}
