//! What exists and a tenant's policy would not allow any more: told, never changed.

use super::attempts::Ledger;
use crate::domain::{OwnerKind, Policy, TenantId};
use crate::error::Result;
use crate::store::Found;

/// Rows that a policy would not allow any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field of the policy.
    pub rule: &'static str,
    /// What is not as it says.
    pub description: String,
    /// How many, and the first few.
    pub found: Found,
}

impl Ledger {
    /// What the tenant has that this policy would not allow any more.
    pub(super) async fn violations(
        &mut self,
        tenant: &TenantId,
        policy: &Policy,
    ) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let count = self.count_credentials(tenant).await?;
        if let Some(most) = policy.max_credentials.filter(|most| count > *most) {
            violations.push(Violation {
                rule: "max_credentials",
                description: format!("there are {count} credentials where {most} are allowed"),
                found: Found { count: count - most, first: Vec::new() },
            });
        }
        for kind in [OwnerKind::User, OwnerKind::Account] {
            if !policy.allows_owner(kind) {
                let found = self.applications_owned_by(tenant, kind).await?;
                let owner = kind.phrase();
                let description = format!("applications owned by {owner}: they go on working");
                violations.push(Violation { rule: "allowed_owners", description, found });
            }
        }
        if let Some(most) = policy.max_credential_lifetime {
            let found = self.credentials_beyond(tenant, most).await?;
            let seconds = most.seconds();
            let description = format!(
                "credentials that say they end later than {seconds} s after they were made: \
                 they are refused from then on all the same"
            );
            violations.push(Violation { rule: "max_credential_lifetime", description, found });
        }
        violations.retain(|violation| violation.found.count > 0);
        Ok(violations)
    }
}
