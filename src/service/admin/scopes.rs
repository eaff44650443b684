//! Catalogues of scopes.

use super::base::Admin;
use super::checks::{check_etag, vanished};
use crate::domain::{
    Action, Call, FieldChange, Record, Scope, ScopeId, ScopePatch, ScopeSettings, TenantId,
};
use crate::error::{Error, Result};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};
use crate::store::{Affected, Session};

impl Admin {
    /// Adds a scope to a catalogue.
    pub async fn create_scope(
        &self,
        caller: &Caller,
        id: ScopeId,
        patch: ScopePatch,
    ) -> Result<Scope> {
        let attempt = Attempt::new(caller, Action::CreateScope, &id.tenant, &id);
        self.sessions
            .audited(&attempt, async {
                let call = Call::CreateScope;
                let OpenTenant { mut work, authority, .. } =
                    self.open_catalogue(&attempt, call).await?;
                let mut settings = ScopeSettings::default().with(patch);
                let disabled = Some(settings.disabled);
                settings.disabled_by_platform = authority.switch(&id, false, disabled)?;
                let scope = self.add_scope(&mut work, id.clone(), settings).await?;
                work.commit().await?;
                Ok(scope)
            })
            .await
    }

    /// Reads a scope: every user of the tenant may.
    pub async fn scope(&self, caller: &Caller, id: &ScopeId) -> Result<Scope> {
        let mut reading = self.sessions.read(caller, &id.tenant).await?;
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
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::ListScopes)?;
        let call = format!("scopes of {tenant}");
        let page = self.pages.request(&call, request)?;
        let scopes = reading.session.list_scopes(tenant, &page).await?;
        reading.check_tenant(tenant, &scopes).await?;
        Ok(self.pages.list(&call, scopes))
    }
    pub async fn update_scope(
        &self,
        caller: &Caller,
        id: &ScopeId,
        patch: ScopePatch,
        etag: &str,
    ) -> Result<Scope> {
        let attempt = Attempt::new(caller, Action::UpdateScope, &id.tenant, id);
        self.sessions
            .audited(&attempt, async {
                let call = Call::UpdateScope;
                let OpenTenant { mut work, authority, .. } =
                    self.open_catalogue(&attempt, call).await?;
                let before = found(&mut work, id).await?;
                check_etag(&before.record, etag, id)?;
                let wanted = patch.disabled;
                let mut after = before.settings.with(patch);
                let by_platform = before.settings.disabled_by_platform;
                after.disabled_by_platform = authority.switch(id, by_platform, wanted)?;
                if after == before.settings {
                    return Ok(before);
                }
                if before.settings.disabled && !after.disabled {
                    // Its holders get the scope back.
                    authority.require_scopes(&std::iter::once(id.scope.clone()).collect())?;
                }
                let scope = self.write_scope(&mut work, before, after).await?;
                work.commit().await?;
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
        self.sessions
            .audited(&attempt, async {
                let call = Call::DeleteScope;
                let OpenTenant { mut work, authority, .. } =
                    self.open_catalogue(&attempt, call).await?;
                let scope = found(&mut work, id).await?;
                check_etag(&scope.record, etag, id)?;
                // A new scope of the same name would be enabled.
                authority.require_undo(id, scope.settings.disabled_by_platform)?;
                let removed = self.remove_scope(&mut work, &scope, force).await;
                removed.map_err(|error| authority.redact(error))?;
                work.commit().await
            })
            .await
    }

    pub(super) async fn add_scope(
        &self,
        work: &mut UnitOfWork,
        id: ScopeId,
        settings: ScopeSettings,
    ) -> Result<Scope> {
        let scope = Scope { id, settings, record: Record::new(self.clock.now()) };
        if !work.insert_scope(&scope).await? {
            return Err(Error::AlreadyExists(scope.id.to_string()));
        }
        let changes = FieldChange::of_new(&scope.settings);
        work.note(Action::CreateScope, &scope.id, changes).await?;
        Ok(scope)
    }

    /// Writes a changed scope. One that is newly disabled revokes its holders' tokens.
    pub(super) async fn write_scope(
        &self,
        work: &mut UnitOfWork,
        before: Scope,
        after: ScopeSettings,
    ) -> Result<Scope> {
        if after.disabled && !before.settings.disabled {
            let why = format!("the scope {} was disabled", before.id.scope);
            work.affect(Affected::ApplicationsWithScope(&before.id), &why).await?;
        }
        let changes = FieldChange::between(&before.settings, &after);
        let scope = Scope {
            id: before.id,
            settings: after,
            record: before.record.changed(self.clock.now()),
        };
        if !work.update_scope(&scope).await? {
            return Err(vanished(scope.id));
        }
        work.note(Action::UpdateScope, &scope.id, changes).await?;
        Ok(scope)
    }

    /// Removes a scope and revokes its holders' tokens. Without `force` it must have no holders and
    /// no endpoint rule may name it. With `force` such a rule keeps the scope: no token can meet it,
    /// which is safe, while a rule without the scope would allow more.
    pub(super) async fn remove_scope(
        &self,
        work: &mut UnitOfWork,
        scope: &Scope,
        force: bool,
    ) -> Result<()> {
        let holders = work.scope_holders(&scope.id).await?;
        let rules = work.endpoints_with_scope(&scope.id).await?;
        let total = holders.count + rules.count;
        if total > 0 && !force {
            let by = holders.first.into_iter().chain(rules.first).collect();
            return Err(Error::in_use(&scope.id, by, total));
        }
        let why = format!("the scope {} left the catalogue", scope.id.scope);
        work.affect(Affected::ApplicationsWithScope(&scope.id), &why).await?;
        work.affect(Affected::RolesWithScope(&scope.id), &why).await?;
        work.delete_scope(&scope.id).await?;
        let changes = FieldChange::of_gone(&scope.settings);
        work.note(Action::DeleteScope, &scope.id, changes).await
    }

    /// A transaction that may change this catalogue.
    async fn open_catalogue(&self, attempt: &Attempt<'_>, call: Call) -> Result<OpenTenant> {
        let open = self.sessions.open(attempt).await?;
        open.authority.require(call)?;
        open.tenant.require_own_rules()?;
        Ok(open)
    }
}

async fn found(session: &mut Session, id: &ScopeId) -> Result<Scope> {
    session.find_scope(id).await?.ok_or_else(|| Error::NotFound(id.to_string()))
}
