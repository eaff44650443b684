//! What new tokens are bound to.

use crate::domain::{BindingFault, Client, Confirmation, CredentialKind, Possession};
use crate::error::Result;
use crate::service::context::RequestContext;

/// What a new token is bound to: the certificate of a client that authenticated with one (RFC 8705,
/// section 3), and the key of a `DPoP` proof (RFC 9449, section 5). One that is exchanged is also
/// bound to what its parents are bound to: the client proved to have all of it. An error, if the
/// policy requires a binding, and there is none.
pub(super) fn of_new_token<'a>(
    context: &RequestContext<'_>,
    client: &Client,
    parents: impl Iterator<Item = &'a Confirmation>,
) -> Result<Option<Confirmation>> {
    let confirmation = binding(context.possession(), client.kind, parents);
    client.tenant.settings.policy.require_binding(confirmation.is_some())?;
    Ok(confirmation)
}

fn binding<'a>(
    shown: Possession,
    kind: CredentialKind,
    mut parents: impl Iterator<Item = &'a Confirmation>,
) -> Option<Confirmation> {
    let binds_certificate =
        kind == CredentialKind::Certificate || parents.any(|parent| parent.certificate.is_some());
    let certificate = shown.certificate.filter(|_| binds_certificate);
    Confirmation::of(&Possession { key: shown.key, certificate })
}

/// Refuses a client that did not prove to have what a token that it exchanges is bound to. A `DPoP`
/// proof can be there for the new token alone.
pub(super) fn require_parent(
    mut shown: Possession,
    bound: Option<&Confirmation>,
) -> Result<(), BindingFault> {
    let Some(bound) = bound else { return Ok(()) };
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
        let kinds = [CredentialKind::ClientSecret, CredentialKind::Certificate];
        let all = (0..2 * 2 * 3 * 3 * 2).map(|number: usize| {
            let key = ["", "k"][number % 2];
            let certificate = ["", "c"][number / 2 % 2];
            let shown = (["", "k", "j"][number / 4 % 3], ["", "c", "d"][number / 12 % 3]);
            (key, certificate, shown, kinds[number / 36])
        });
        for (key, certificate, (shown_key, shown_certificate), kind) in all {
            let parent = Possession { key: some(key), certificate: some(certificate) };
            let shown = Possession { key: some(shown_key), certificate: some(shown_certificate) };
            let case = format!("{parent:?} {shown:?} {kind:?}");
            let bound = Confirmation::of(&parent);
            let has_key = key.is_empty() || key == shown_key;
            let has_certificate = certificate.is_empty() || certificate == shown_certificate;
            let allowed = require_parent(shown.clone(), bound.as_ref()).is_ok();
            assert_eq!(allowed, has_key && has_certificate, "{case}");
            if !allowed {
                continue;
            }
            let child = binding(shown.clone(), kind, bound.iter()).unwrap_or_default();
            assert!(parent.key.is_none() || child.key == parent.key, "{case}");
            let same = child.certificate == parent.certificate;
            assert!(parent.certificate.is_none() || same, "{case}");
            assert_eq!(child.key, shown.key, "{case}: a proof binds the new token");
        }
    }
}
