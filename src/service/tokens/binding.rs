//! What new tokens are bound to.

use crate::domain::{Client, Confirmation, Possession};
use crate::error::{Error, Result};
use crate::service::context::RequestContext;

/// What a new token is bound to: the certificate of the connection, if the client authenticated with
/// it or its credential asks for that (RFC 8705, sections 3 and 3.4), and the key of a `DPoP` proof
/// (RFC 9449, section 5).
pub(super) fn of_new_token(
    context: &RequestContext<'_>,
    client: &Client,
) -> Result<Option<Confirmation>> {
    let certificate = if client.certificate_bound_tokens {
        let thumbprint = context.certificate_thumbprint().ok_or_else(|| {
            Error::invalid(
                "connection",
                "must have a client certificate that is valid now: the tokens of this credential \
                 are bound to it",
            )
        })?;
        Some(thumbprint)
    } else {
        None
    };
    Ok(Confirmation::of(&Possession { key: None, certificate }))
}
