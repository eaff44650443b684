//! What new tokens are bound to.

use crate::domain::{BindingFault, Client, ClientCertificate, Confirmation, Possession};
use crate::error::{Error, Result};
use crate::service::context::RequestContext;

/// What a new token is bound to: the certificate of the connection, if the client authenticated with
/// it or its credential asks for that (RFC 8705, sections 3 and 3.4), and the key of a `DPoP` proof
/// (RFC 9449, section 5). One that is exchanged is also bound to what its parents are bound to: the
/// client proved to have all of it. An error, if the policy requires one of them. A client that
/// proves nothing else meets the policy with the certificate of its connection.
pub(super) fn of_new_token<'a>(
    context: &RequestContext<'_>,
    client: &Client,
    parents: impl Iterator<Item = &'a Confirmation>,
) -> Result<Option<Confirmation>> {
    let policy = &client.tenant.settings.policy;
    let certificate = context.current_certificate();
    if client.certificate_bound_tokens && certificate.is_none() {
        return Err(Error::invalid(
            "connection",
            "must have a client certificate that is valid now: the tokens of this credential are \
             bound to it",
        ));
    }
    let uses_certificate =
        client.certificate_bound_tokens || (policy.require_bound_tokens && context.key().is_none());
    let key = context.key().map(str::to_owned);
    let certificate = || certificate.map(ClientCertificate::thumbprint);
    let confirmation = binding(key, certificate, uses_certificate, parents);
    policy.require_binding(confirmation.is_some())?;
    Ok(confirmation)
}

/// `certificate` hashes the certificate, so it is called only if the token is bound to it.
fn binding<'a>(
    key: Option<String>,
    certificate: impl FnOnce() -> Option<String>,
    uses_certificate: bool,
    mut parents: impl Iterator<Item = &'a Confirmation>,
) -> Option<Confirmation> {
    let uses_certificate = uses_certificate || parents.any(|parent| parent.certificate.is_some());
    let certificate = if uses_certificate { certificate() } else { None };
    Confirmation::of(&Possession { key, certificate })
}

/// Refuses a client that did not prove to have what a token that it exchanges is bound to. A `DPoP`
/// proof can be there for the new token alone.
pub(super) fn require_parent(
    shown: impl FnOnce() -> Possession,
    bound: Option<&Confirmation>,
) -> Result<(), BindingFault> {
    let Some(bound) = bound else { return Ok(()) };
    let mut shown = shown();
    if bound.key.is_none() {
        shown.key = None;
    }
    Confirmation::require(Some(bound), &shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The new token is never bound to less than the one that it is exchanged for.
    #[test]
    fn exchanged_token_is_never_bound_to_less() {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let all = (0..2 * 2 * 3 * 3 * 2).map(|number: usize| {
            let key = ["", "k"][number % 2];
            let certificate = ["", "c"][number / 2 % 2];
            let shown = (["", "k", "j"][number / 4 % 3], ["", "c", "d"][number / 12 % 3]);
            (key, certificate, shown, number >= 36)
        });
        for (key, certificate, (shown_key, shown_certificate), uses_certificate) in all {
            let parent = Possession { key: some(key), certificate: some(certificate) };
            let shown = Possession { key: some(shown_key), certificate: some(shown_certificate) };
            let case = format!("{parent:?} {shown:?} {uses_certificate}");
            let bound = Confirmation::of(&parent);
            let has_key = key.is_empty() || key == shown_key;
            let has_certificate = certificate.is_empty() || certificate == shown_certificate;
            let allowed = require_parent(|| shown.clone(), bound.as_ref()).is_ok();
            assert_eq!(allowed, has_key && has_certificate, "{case}");
            if !allowed {
                continue;
            }
            let (shown_key, certificate) = (shown.key.clone(), || shown.certificate.clone());
            let child = binding(shown_key, certificate, uses_certificate, bound.iter());
            let child = child.unwrap_or_default();
            assert!(parent.key.is_none() || child.key == parent.key, "{case}");
            let kept = child.certificate == parent.certificate;
            assert!(parent.certificate.is_none() || kept, "{case}");
            assert_eq!(child.key, shown.key, "{case}: a proof binds the new token");
        }
    }
}
