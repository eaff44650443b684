//! The endpoint of each connection of a verifier.

use tonic::transport::Endpoint;

use crate::transport::ClientTls;

/// Makes endpoints. The TLS files are read for each connection, so that renewed certificates are
/// used.
#[derive(Clone, Debug)]
pub(super) struct ServerConnector {
    pub(super) endpoint: Endpoint,
    /// `None`: the endpoint has its own TLS.
    pub(super) tls: Option<ClientTls>,
}

impl ServerConnector {
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        let endpoint = self.endpoint.clone();
        self.tls.as_ref().map_or_else(|| Ok(endpoint.clone()), |tls| tls.apply(endpoint.clone()))
    }
}
