//! Listeners and what answers on them.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::{ServerError, connections};

/// A router as a [`connections::Handler`].
pub(super) fn routed(router: Router) -> impl connections::Handler<Body> {
    move |request| router.clone().oneshot(request).map(|Ok(response)| response)
}

pub(super) async fn listen(
    address: SocketAddr,
    setting: &'static str,
) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|error| ServerError::Listen {
        address,
        setting,
        error,
    })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|error| ServerError::Internal(error.to_string()))
}
