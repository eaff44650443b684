//! What new tokens are bound to.

use crate::domain::{Client, Confirmation, CredentialKind, Possession};
use crate::service::context::RequestContext;

/// What a new token is bound to: the certificate of a client that authenticated with one (RFC 8705,
/// section 3), and the key of a `DPoP` proof (RFC 9449, section 5).
pub(super) fn of_new_token(context: &RequestContext<'_>, client: &Client) -> Option<Confirmation> {
    let possession = context.possession();
    let certificate = possession.certificate.filter(|_| client.kind == CredentialKind::Certificate);
    Confirmation::of(&Possession { key: possession.key, certificate })
}
