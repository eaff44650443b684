//! What new tokens are bound to.

use crate::domain::{Client, Confirmation, CredentialKind, Possession};
use crate::error::Result;
use crate::service::context::RequestContext;

/// What a new token is bound to: the certificate of a client that authenticated with one (RFC 8705,
/// section 3), and the key of a `DPoP` proof (RFC 9449, section 5). An error, if the policy requires
/// one of them.
pub(super) fn of_new_token(
    context: &RequestContext<'_>,
    client: &Client,
) -> Result<Option<Confirmation>> {
    let possession = context.possession();
    let certificate = possession.certificate.filter(|_| client.kind == CredentialKind::Certificate);
    let confirmation = Confirmation::of(&Possession { key: possession.key, certificate });
    client.tenant.settings.policy.require_binding(confirmation.is_some())?;
    Ok(confirmation)
}
