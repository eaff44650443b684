//! The table `federated_credentials`: which credentials may accept a token of another issuer.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Session, Tx, execute, list_values};
use crate::domain::{Credential, CredentialId, Fault, Registration, TenantId};
use crate::error::{Error, Result};

impl Session {
    /// At most `max` credentials of a tenant that trust this issuer and are registered with this
    /// subject or with none, by id.
    pub async fn federated_credentials(
        &mut self,
        tenant: &TenantId,
        (issuer, subject): (&str, &str),
        max: usize,
    ) -> Result<Vec<CredentialId>> {
        const SQL: &str = "select credential_id from federated_credentials \
            where tenant_id = $1 and subject_key in ($2, $3) order by credential_id limit $4";
        let (exact, any) = (subject_key(issuer, subject), subject_key(issuer, ""));
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let ids: Vec<String> = list_values!(self, SQL, tenant.as_str(), exact, any, max)?;
        let wrong = |fault: Fault| Error::internal(format!("federated_credentials: {}", fault.0));
        ids.iter().map(|id| CredentialId::parse(id).map_err(wrong)).collect()
    }
}

impl Tx {
    /// Records whose tokens the credential accepts, if it is one of the kind `federated`.
    pub(super) async fn set_federated(&mut self, credential: &Credential) -> Result<()> {
        const SQL: &str = "insert into federated_credentials (credential_id, tenant_id, subject_key) \
            values ($1, $2, $3) on conflict (credential_id) do update set \
            subject_key = excluded.subject_key";
        let Some(Registration::Federated(trust)) = &credential.settings.registration else {
            return Ok(());
        };
        let name = &credential.name;
        let key = subject_key(&trust.issuer, &trust.subject);
        let (id, tenant) = (name.credential.as_str(), name.application.tenant.as_str());
        execute!(self, SQL, id, tenant, key).map(drop)
    }
}

/// Each part is preceded by its length, so that parts cannot run together.
fn subject_key(issuer: &str, subject: &str) -> String {
    let mut context = Context::new(&SHA256);
    for part in [issuer, subject] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(context.finish())
}
