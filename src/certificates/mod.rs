//! Client certificates (X.509): what they say, and which of them authenticate a client (RFC 8705).
//!
//! The TLS handshake proves that a client has the key of its certificate. Whose certificate it is
//! gets decided here, for each request, by the rule of a credential. Paths are validated to the
//! authorities of that credential only, by their keys (RFC 5280, section 6); revocation lists and
//! OCSP are not asked.

mod expected_name;
mod matcher;
mod name;
mod parsed;
pub mod pem;

pub use matcher::{
    CertificateMatcher, RuleFault, current, first_end, first_thumbprint, thumbprint,
};
pub use parsed::Validity;
