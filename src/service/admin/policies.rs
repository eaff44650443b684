//! What exists in a tenant and its policy does not allow: reported, never changed.

use crate::domain::{OwnerKind, Policy, TenantId};
use crate::error::Result;
use crate::service::audit::UnitOfWork;
use crate::store::FoundResources;

/// Rows that a policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field of the policy.
    pub rule: &'static str,
    /// What it does not allow.
    pub description: String,
    /// How many, and the first few.
    pub found: FoundResources,
}

/// What the tenant has and this policy does not allow.
pub(super) async fn violations(
    work: &mut UnitOfWork,
    tenant: &TenantId,
    policy: &Policy,
) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    let count = work.count_credentials(tenant).await?;
    if let Some(most) = policy.max_credentials.filter(|most| count > *most) {
        violations.push(Violation {
            rule: "max_credentials",
            description: format!("there are {count} credentials where {most} are allowed"),
            found: FoundResources { count: count - most, first: Vec::new() },
        });
    }
    for kind in [OwnerKind::User, OwnerKind::Account] {
        if !policy.allows_owner(kind) {
            let found = work.applications_owned_by(tenant, kind).await?;
            let owner = kind.phrase();
            let description = format!("applications owned by {owner}: they continue to work");
            violations.push(Violation { rule: "allowed_owners", description, found });
        }
    }
    if let Some(most) = policy.max_credential_lifetime {
        let found = work.credentials_exceeding(tenant, most).await?;
        let seconds = most.seconds();
        let description = format!(
            "credentials that expire later than {seconds} s after their creation: they are refused \
             from that limit on"
        );
        violations.push(Violation { rule: "max_credential_lifetime", description, found });
    }
    violations.retain(|violation| violation.found.count > 0);
    Ok(violations)
}
