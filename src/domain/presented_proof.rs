//! The proof of possession that comes with a request.

/// The `DPoP` proof of a request (RFC 9449), and the request that it must be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedProof {
    /// The value of the header; `None` if there are several.
    pub proof: Option<String>,
    /// The HTTP method. `POST` for gRPC.
    pub method: String,
    /// The URL that the sender used, by what this server is configured with. Never from the headers
    /// of the request.
    pub url: String,
}
