//! What new tokens are bound to.

use crate::domain::{Client, Confirmation, Possession};
use crate::error::{Error, Result};
use crate::service::context::RequestContext;

/// What a new token is bound to: the certificate of the connection, if the client authenticated with
/// it or its credential asks for that (RFC 8705, sections 3 and 3.4), and the key of a `DPoP` proof
/// (RFC 9449, section 5). An error, if the policy requires one of them. A client that proves nothing
/// else meets the policy with the certificate of its connection.
pub(super) fn of_new_token(
    context: &RequestContext<'_>,
    client: &Client,
) -> Result<Option<Confirmation>> {
    let policy = &client.tenant.settings.policy;
    let Possession { key, certificate } = context.possession();
    if client.certificate_bound_tokens && certificate.is_none() {
        return Err(Error::invalid(
            "connection",
            "must have a client certificate that is valid now: the tokens of this credential are \
             bound to it",
        ));
    }
    let uses_certificate =
        client.certificate_bound_tokens || (policy.require_bound_tokens && key.is_none());
    let certificate = certificate.filter(|_| uses_certificate);
    let confirmation = Confirmation::of(&Possession { key, certificate });
    policy.require_binding(confirmation.is_some())?;
    Ok(confirmation)
}
