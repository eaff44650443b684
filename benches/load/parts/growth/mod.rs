//! What grows, and what must not grow with it: each figure as a curve over sizes. A file measures
//! one kind of growth.

mod applications;
mod audit;
mod endpoints;
mod revocations;
mod tenants;
mod watchers;

use std::pin::Pin;

use crate::curve::Curve;
use crate::harness::PostgresServer;
use crate::report::Figure;
use crate::settings::{Growing, Settings};

/// The figures of one kind of growth, and their curves.
#[derive(Default)]
struct Grown {
    figures: Vec<Figure>,
    curves: Vec<Curve>,
}

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut figures = Vec::new();
    for growing in settings.growing() {
        let measured: Pin<Box<dyn Future<Output = Grown> + Send>> = match growing {
            Growing::Revocations => Box::pin(revocations::measure(settings)),
            Growing::Watchers => Box::pin(watchers::measure(settings)),
            Growing::Audit => Box::pin(audit::measure(settings)),
            Growing::Tenants => Box::pin(tenants::measure(settings)),
            Growing::Endpoints => Box::pin(endpoints::measure(settings)),
            Growing::Applications => Box::pin(applications::measure(settings)),
        };
        let grown = measured.await;
        for curve in &grown.curves {
            curve.draw(&settings.curves);
        }
        figures.extend(grown.figures);
    }
    figures
}

/// The sizes up to a limit: that of a full run, or the smaller one.
fn up_to(sizes: &[u32], settings: &Settings, usual: u32) -> Vec<u32> {
    sizes.iter().copied().filter(|size| settings.full || *size <= usual).collect()
}

/// PostgreSQL with an empty database, and its URL.
async fn postgres() -> (PostgresServer, String) {
    let server = tokio::task::spawn_blocking(PostgresServer::start).await.expect("it starts");
    let database = server.fresh_database().await;
    (server, database)
}
