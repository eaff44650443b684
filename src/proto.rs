//! The generated code of `proto/`, by package. The comments in `proto/` are the reference of the
//! gRPC interface.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::doc_lazy_continuation,
    clippy::doc_overindented_list_items
)]

use crate::domain::Moment;

/// The nesting that the generated code expects.
mod keyward {
    pub mod access {
        pub mod v1 {
            tonic::include_proto!("keyward.access.v1");
        }
    }
    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("keyward.admin.v1");
        }
    }
    pub mod errors {
        pub mod v1 {
            tonic::include_proto!("keyward.errors.v1");
        }
    }
    pub mod token {
        pub mod v1 {
            tonic::include_proto!("keyward.token.v1");
        }
    }
}

/// `keyward.access.v1`
pub use keyward::access::v1 as access;
/// `keyward.admin.v1`
pub use keyward::admin::v1 as admin;
/// `keyward.errors.v1`
pub use keyward::errors::v1 as errors;
/// `keyward.token.v1`
pub use keyward::token::v1 as token;

/// The descriptors of all protos, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyward_descriptor.bin"));

impl From<Moment> for prost_types::Timestamp {
    fn from(moment: Moment) -> Self {
        Self { seconds: moment.as_second(), nanos: moment.subsec_nanos() }
    }
}

/// Implements `Debug` without the fields, for messages that contain secrets.
macro_rules! redacted {
    ($($message:ty),+ $(,)?) => {
        $(impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), " { … }"))
            }
        })+
    };
}

redacted!(
    access::BatchCheckAccessRequest,
    access::CheckAccessRequest,
    admin::CreateCredentialResponse,
    admin::RevealCredentialResponse,
    admin::RotateCredentialResponse,
    token::ClientAssertion,
    token::ClientSecret,
    token::exchange_token_request::Credential,
    token::ExchangeTokenRequest,
    token::ExchangeTokenResponse,
    token::issue_token_request::Credential,
    token::IssueTokenRequest,
    token::IssueTokenResponse,
    token::IntrospectTokenRequest,
    token::RevokeTokenRequest,
);
