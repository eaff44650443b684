//! What exists in a tenant and its policy does not allow: reported, never changed.

use crate::domain::{OwnerKind, Policy, TenantId};
use crate::error::Result;
use crate::service::audit::UnitOfWork;
use crate::store::FoundResources;

/// Resources that exist and that a policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyViolation {
    /// The field of the policy.
    pub rule: &'static str,
    /// What the field does not allow.
    pub description: String,
    /// The resources: their number, and the first few names.
    pub found: FoundResources,
}

/// What the tenant has and this policy does not allow.
pub(super) async fn violations(
    work: &mut UnitOfWork,
    tenant: &TenantId,
    policy: &Policy,
) -> Result<Vec<PolicyViolation>> {
    let mut violations = Vec::new();
    let count = work.count_credentials(tenant).await?;
    if let Some(max) = policy.max_credentials.filter(|max| count > *max) {
        violations.push(PolicyViolation {
            rule: "max_credentials",
            description: format!("there are {count} credentials where {max} are allowed"),
            found: FoundResources { count: count - max, first: Vec::new() },
        });
    }
    for kind in [OwnerKind::User, OwnerKind::Account] {
        if !policy.allows_owner(kind) {
            let found = work.applications_owned_by(tenant, kind).await?;
            let owner = kind.phrase();
            let description = format!("applications owned by {owner}: they continue to work");
            violations.push(PolicyViolation { rule: "allowed_owners", description, found });
        }
    }
    if let Some(max) = policy.max_credential_lifetime {
        let found = work.credentials_exceeding(tenant, max).await?;
        let seconds = max.seconds();
        let description = format!(
            "credentials that expire later than {seconds} s after their creation: they are refused \
             from that limit on"
        );
        violations.push(PolicyViolation { rule: "max_credential_lifetime", description, found });
    }
    if !policy.allowed_credential_kinds.is_empty() {
        let found =
            work.credentials_of_other_kinds(tenant, &policy.allowed_credential_kinds).await?;
        let description = "credentials of other kinds: they continue to work".to_owned();
        violations.push(PolicyViolation { rule: "allowed_credential_kinds", description, found });
    }
    violations.retain(|violation| violation.found.count > 0);
    Ok(violations)
}
