//! Access tokens: issued, introspected, revoked. Each grant has a file of its own and only decides
//! what is permitted; [`Tokens::issue`] has the phases that all grants share.

mod base;
mod binding;
mod client_credentials;
mod draft;
mod introspect;
mod issue;
mod revoke;
mod token_exchange;

pub use base::{IssuedTokens, Tokens};
pub use introspect::TokenInfo;
pub use issue::{GrantType, IssuedToken, TokenRequest};
pub use token_exchange::{ExchangeRequest, PresentedToken};
