//! What gateways ask, apart from how they ask it. Envoy asks over gRPC, nginx, Traefik and Caddy over
//! HTTP; each describes the request of its client. This module reads from the description which
//! credential it is about and what the request needs, and writes the answer as statuses and headers.
//! Whether the request is allowed is the question of [`crate::service::AccessChecks`], as for every
//! service.
//!
//! What a gateway and the service behind it could read in two ways is refused: a path with two
//! meanings, a credential beside another one, a header that is there twice. Such a request is charged
//! to no credential, because the credential is not looked at.

mod certificate;
mod credential;
mod described;
mod options;
mod question;
mod verdict;

pub use described::{DescribedHeaders, DescribedRequest, RequestFault};
pub use options::{ForwardAuth, GatewayOptions, HeaderFamily, UpstreamCredential};
pub use question::GatewayQuestion;
pub use verdict::{IDENTITY_HEADERS, Verdict, is_own_header};
