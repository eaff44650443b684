//! Use cases of catalogues.

use super::attempts::{Attempt, Ledger, Open};
use super::{Caller, List, ListRequest, Service, check_etag, vanished};
use crate::domain::{
    Action, Call, FieldChange, Record, Scope, ScopeId, ScopePatch, ScopeSettings, TenantId,
};
use crate::error::{Error, Result};
use crate::store::{Affected, Session};

impl Service {
    /// Adds a scope to a catalogue.
    pub async fn create_scope(
        &self,
        caller: &Caller,
        id: ScopeId,
        patch: ScopePatch,
    ) -> Result<Scope> {
        let attempt = Attempt::new(caller, Action::CreateScope, &id.tenant, &id);
        self.audited(&attempt, async {
            let call = Call::CreateScope;
            let Open { mut ledger, authority, .. } = self.open_catalogue(&attempt, call).await?;
            let mut settings = ScopeSettings::default().with(patch);
            let disabled = Some(settings.disabled);
            settings.disabled_by_platform = authority.switch(&id, false, disabled)?;
            let scope = self.add_scope(&mut ledger, id.clone(), settings).await?;
            ledger.commit().await?;
            Ok(scope)
        })
        .await
    }

    /// Reads a scope: every user of the tenant may.
    pub async fn scope(&self, caller: &Caller, id: &ScopeId) -> Result<Scope> {
        let mut reading = self.reading(caller, &id.tenant).await?;
        reading.authority.require(Call::GetScope)?;
        found(&mut reading.session, id).await
    }

    /// Lists a catalogue by name: every user of the tenant may.
    pub async fn list_scopes(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<Scope>> {
        let mut reading = self.reading(caller, tenant).await?;
        reading.authority.require(Call::ListScopes)?;
        let call = format!("scopes of {tenant}");
        let page = self.page_request(&call, request)?;
        let scopes = reading.session.list_scopes(tenant, &page).await?;
        reading.check_tenant(tenant, &scopes).await?;
        Ok(self.list(&call, scopes))
    }

    /// Changes a scope.
    pub async fn update_scope(
        &self,
        caller: &Caller,
        id: &ScopeId,
        patch: ScopePatch,
        etag: &str,
    ) -> Result<Scope> {
        let attempt = Attempt::new(caller, Action::UpdateScope, &id.tenant, id);
        self.audited(&attempt, async {
            let call = Call::UpdateScope;
            let Open { mut ledger, authority, .. } = self.open_catalogue(&attempt, call).await?;
            let before = found(&mut ledger, id).await?;
            check_etag(&before.record, etag, id)?;
            let wanted = patch.disabled;
            let mut after = before.settings.with(patch);
            let by_platform = before.settings.disabled_by_platform;
            after.disabled_by_platform = authority.switch(id, by_platform, wanted)?;
            if after == before.settings {
                return Ok(before);
            }
            if before.settings.disabled && !after.disabled {
                // It gives the scope back to all that have it.
                authority.require_scopes(&std::iter::once(id.scope.clone()).collect())?;
            }
            let scope = self.write_scope(&mut ledger, before, after).await?;
            ledger.commit().await?;
            Ok(scope)
        })
        .await
    }

    /// Takes a scope out of a catalogue; with `force` from its holders too.
    pub async fn delete_scope(
        &self,
        caller: &Caller,
        id: &ScopeId,
        etag: &str,
        force: bool,
    ) -> Result<()> {
        let attempt = Attempt::new(caller, Action::DeleteScope, &id.tenant, id);
        self.audited(&attempt, async {
            let call = Call::DeleteScope;
            let Open { mut ledger, authority, .. } = self.open_catalogue(&attempt, call).await?;
            let scope = found(&mut ledger, id).await?;
            check_etag(&scope.record, etag, id)?;
            // One of the same name would be enabled.
            authority.require_undo(id, scope.settings.disabled_by_platform)?;
            let removed = self.remove_scope(&mut ledger, &scope, force).await;
            removed.map_err(|error| authority.redact(error))?;
            ledger.commit().await
        })
        .await
    }

    pub(super) async fn add_scope(
        &self,
        ledger: &mut Ledger,
        id: ScopeId,
        settings: ScopeSettings,
    ) -> Result<Scope> {
        let scope = Scope { id, settings, record: Record::new(self.now()) };
        if !ledger.insert_scope(&scope).await? {
            return Err(Error::AlreadyExists(scope.id.to_string()));
        }
        let changes = FieldChange::of_new(&scope.settings);
        ledger.note(Action::CreateScope, &scope.id, changes).await?;
        Ok(scope)
    }

    /// Writes a changed scope. One that is newly disabled revokes its holders' tokens.
    pub(super) async fn write_scope(
        &self,
        ledger: &mut Ledger,
        before: Scope,
        after: ScopeSettings,
    ) -> Result<Scope> {
        if after.disabled && !before.settings.disabled {
            let why = format!("the scope {} was disabled", before.id.scope);
            ledger.affect(Affected::ApplicationsWithScope(&before.id), &why).await?;
        }
        let changes = FieldChange::between(&before.settings, &after);
        let scope =
            Scope { id: before.id, settings: after, record: before.record.changed(self.now()) };
        if !ledger.update_scope(&scope).await? {
            return Err(vanished(scope.id));
        }
        ledger.note(Action::UpdateScope, &scope.id, changes).await?;
        Ok(scope)
    }

    /// Removes a scope and revokes its holders' tokens; without `force` it must have none, nor
    /// may a rule for an endpoint name it. With it such a rule stays as it is: nobody can
    /// meet it, which is safe, where without the scope it would let more through.
    pub(super) async fn remove_scope(
        &self,
        ledger: &mut Ledger,
        scope: &Scope,
        force: bool,
    ) -> Result<()> {
        let holders = ledger.scope_holders(&scope.id).await?;
        let rules = ledger.endpoints_naming(&scope.id).await?;
        let total = holders.count + rules.count;
        if total > 0 && !force {
            let by = holders.first.into_iter().chain(rules.first).collect();
            return Err(Error::in_use(&scope.id, by, total));
        }
        let why = format!("the scope {} left the catalogue", scope.id.scope);
        ledger.affect(Affected::ApplicationsWithScope(&scope.id), &why).await?;
        ledger.affect(Affected::RolesWithScope(&scope.id), &why).await?;
        ledger.delete_scope(&scope.id).await?;
        let changes = FieldChange::of_gone(&scope.settings);
        ledger.note(Action::DeleteScope, &scope.id, changes).await
    }

    /// A transaction in which this catalogue can be changed.
    async fn open_catalogue(&self, attempt: &Attempt<'_>, call: Call) -> Result<Open> {
        let open = self.open(attempt).await?;
        open.authority.require(call)?;
        open.tenant.require_own_rules()?;
        Ok(open)
    }
}

async fn found(session: &mut Session, id: &ScopeId) -> Result<Scope> {
    session.find_scope(id).await?.ok_or_else(|| Error::NotFound(id.to_string()))
}
