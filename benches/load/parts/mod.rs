//! The measured parts.

mod assertions;
mod attack;
mod builds;
mod checks;
mod gateways;
mod growth;
mod http;
mod keys;
mod memory;
mod one_source;
mod replicas;
mod revocations;
mod secrets;
mod tls;
mod tokens;
mod warm;

use crate::report::Figure;
use crate::settings::{Part, Settings};

/// Measures a part, or returns why that failed.
pub(crate) async fn run(part: Part, settings: &Settings) -> Result<Vec<Figure>, String> {
    let settings = settings.clone();
    // A separate task, so that a failure does not end the others. It is dropped with its servers
    // when it is not awaited any more.
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        match part {
            Part::Tokens => tokens::measure(&settings).await,
            Part::Assertions => assertions::measure(&settings).await,
            Part::Checks => checks::measure(&settings).await,
            Part::Gateways => gateways::measure(&settings).await,
            Part::Http => http::measure(&settings).await,
            Part::Replicas => replicas::measure(&settings).await,
            Part::Revocations => revocations::measure().await,
            Part::Keys => keys::measure().await,
            Part::Secrets => secrets::measure(&settings).await,
            Part::Memory => memory::measure().await,
            Part::Warm => warm::measure(&settings).await,
            Part::Growth => growth::measure(&settings).await,
            Part::Tls => tls::measure(&settings).await,
            Part::Builds => builds::measure(&settings).await,
            Part::Attack => [attack::measure().await, one_source::measure().await].concat(),
        }
    });
    match task.join_next().await {
        Some(Ok(figures)) => Ok(figures),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it did not begin".to_owned()),
    }
}
