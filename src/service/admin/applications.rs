//! Applications.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::base::Admin;
use super::checks::{check_etag, check_expiry, vanished};
use super::grants::{AddedAccess, check_grants, given_to};
use super::updates::ApplicationChange;
use super::updates::Shown;
use crate::domain::{
    Action, Application, ApplicationCall, ApplicationFilter, ApplicationId, ApplicationName,
    ApplicationPatch, ApplicationSettings, Authority, Call, FieldChange, FieldPatch, Owner,
    OwnerKind, Owners, Policy, Record, ScopeSet, Subject, TenantId,
};
use crate::error::{Error, Need, Result};
use crate::secrets::random;
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork, reached};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};
use crate::store::{Session, Tx};

/// What an application is created from.
#[derive(Clone, Debug)]
pub struct NewApplication {
    pub tenant: TenantId,
    /// `None`: the id is generated.
    pub id: Option<ApplicationId>,
    /// `None`: the acting user if the policy allows it, otherwise the account.
    pub owner: Option<Owner>,
    pub patch: ApplicationPatch,
    /// The name of the request (AIP-155).
    pub request_id: Option<String>,
}

/// Whose applications a list shows.
#[derive(Clone, Debug, Default)]
pub enum Ownership {
    /// All applications that the caller may view.
    #[default]
    Viewable,
    /// Applications of the acting user.
    Mine,
    /// Applications of all users.
    Users,
    /// Applications of this owner.
    Of(Owner),
}

impl Admin {
    pub async fn create_application(
        &self,
        caller: &Caller,
        new: NewApplication,
    ) -> Result<Application> {
        let now = self.clock.now();
        let given = new.id.is_some();
        let id = match new.id {
            Some(id) => id,
            None => ApplicationId::parse(&random::id(now)?).map_err(|f| f.of("application_id"))?,
        };
        let name = ApplicationName { tenant: new.tenant, application: id };
        // The audit event of a refusal names what the caller knows.
        let wanted = if given { name.to_string() } else { name.tenant.name() };
        let attempt = Attempt::new(caller, Action::CreateApplication, &name.tenant, &wanted);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let policy = &tenant.settings.policy;
                let owner = new.owner.unwrap_or_else(|| default_owner(policy, &authority));
                authority.require_of(Call::CreateApplication, &owner)?;
                let mut settings = ApplicationSettings::default().with(new.patch);
                let details = ApplicationCall::of(&name, &owner);
                authority.require_state(Call::CreateApplication, policy, &details)?;
                settings.limits_lifted =
                    policy.lifts(&authority, Call::CreateApplication, None, settings.limits)?;
                if settings.protected || !settings.exchange_audiences.is_empty() {
                    authority.require_platform()?;
                }
                tenant.settings.require_exchange_audiences(&settings.exchange_audiences)?;
                let disabled = Some(settings.disabled);
                settings.disabled_by_platform = authority.switch(&name, false, disabled)?;
                check_expiry(settings.expires_at, now, "application.expire_time")?;
                let grants = AddedAccess {
                    owner: &owner,
                    scopes: settings.scopes.clone(),
                    roles: settings.roles.clone(),
                };
                check_grants(&mut work, &authority, &name.tenant, grants).await?;
                let application = self.fresh_application(name.clone(), owner, settings);
                let request_id = new.request_id.map(|id| authority.request_key(&id));
                let made =
                    insert(&mut work, &authority, application, request_id.as_deref()).await?;
                work.commit().await?;
                Ok(made)
            })
            .await
    }

    /// A new application, which is not written yet.
    pub(super) fn fresh_application(
        &self,
        name: ApplicationName,
        owner: Owner,
        settings: ApplicationSettings,
    ) -> Application {
        Application {
            name,
            owner,
            settings,
            effective_scopes: ScopeSet::default(),
            owner_disabled: false,
            secret_ends: Vec::new(),
            last_use: None,
            epoch: 0,
            life: 0,
            record: Record::new(self.clock.now()),
        }
    }
    pub async fn application(
        &self,
        caller: &Caller,
        name: &ApplicationName,
    ) -> Result<Application> {
        let mut reading = self.sessions.read(caller, &name.tenant).await?;
        reached(&mut reading.session, &reading.authority, Call::GetApplication, name).await
    }

    /// Lists a tenant's applications: those that the caller may view and asks for.
    pub async fn list_applications(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        ownership: Ownership,
        filter: ApplicationFilter,
        request: &ListRequest,
    ) -> Result<List<Application>> {
        let mut reading = self.sessions.read(caller, tenant).await?;
        let owners = ownership.owners(&reading.authority)?;
        let filter = ApplicationFilter { owners, ..filter };
        let call = format!(
            "applications of {tenant} {:?} {:?} {:?} {:?} {}",
            filter.owners, filter.search, filter.state, filter.expire_before, filter.order
        );
        let page = self.pages.request(&call, request)?;
        let applications =
            reading.session.list_applications(tenant, &filter, &page, self.clock.now()).await?;
        reading.check_tenant(tenant, &applications).await?;
        Ok(self.pages.list(&call, applications))
    }

    /// Changes an application, and shows it to callers that may view it.
    pub async fn update_application(
        &self,
        caller: &Caller,
        name: &ApplicationName,
        patch: ApplicationPatch,
        etag: &str,
    ) -> Result<Shown<Application>> {
        const CALL: Call = Call::UpdateApplication;
        let now = self.clock.now();
        let attempt = Attempt::new(caller, Action::UpdateApplication, &name.tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant, authority } =
                    self.sessions.open(&attempt).await?;
                let before = reached(&mut work, &authority, CALL, name).await?;
                check_etag(&before.record, etag, name)?;
                if let FieldPatch::Set(end) = patch.expires_at {
                    check_expiry(Some(end), now, "application.expire_time")?;
                }
                if patch.exchange_audiences.is_some() {
                    authority.require_platform()?;
                }
                let policy = &tenant.settings.policy;
                let ApplicationChange { after, unchanged, grants, changed, revives } =
                    ApplicationChange::of(&authority, policy, &before, patch)?;
                let (had, wanted) =
                    (&before.settings.exchange_audiences, &after.exchange_audiences);
                tenant.settings.require_exchange_audiences(wanted.difference(had))?;
                let may_view = authority.may_view(&before.owner);
                if unchanged && may_view {
                    return Ok(Shown::new(before, name, may_view));
                }
                let protected = before.settings.protected;
                if after.protected != protected {
                    authority.require_platform()?;
                }
                let given = if revives {
                    Some(given_to(&mut work, &authority, &before).await?)
                } else {
                    None
                };
                let details = ApplicationCall {
                    protected: protected && after.protected,
                    changed: &changed,
                    given: given.as_ref(),
                    ..ApplicationCall::of(name, &before.owner)
                };
                authority.require_state(CALL, &tenant.settings.policy, &details)?;
                check_grants(&mut work, &authority, &name.tenant, grants).await?;
                if unchanged {
                    return Ok(Shown::new(before, name, may_view));
                }
                let changes = FieldChange::between(&before.settings, &after);
                let (old, before_epoch) = (before.settings.clone(), before.epoch);
                let application = Application {
                    epoch: before.epoch + i64::from(before.settings.revokes(&after)),
                    settings: after,
                    record: before.record.changed(now),
                    ..before
                };
                if !work.update_application(&application, &old).await? {
                    return Err(vanished(name));
                }
                work.raise(Subject::Application(name.clone()), before_epoch, application.epoch);
                let application = found(&mut work, name).await?;
                work.note(Action::UpdateApplication, name, changes).await?;
                work.commit().await?;
                Ok(Shown::new(application, name, may_view))
            })
            .await
    }

    /// Deletes an application with its credentials.
    pub async fn delete_application(
        &self,
        caller: &Caller,
        name: &ApplicationName,
        etag: &str,
    ) -> Result<()> {
        let attempt = Attempt::new(caller, Action::DeleteApplication, &name.tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, authority, .. } = self.sessions.open(&attempt).await?;
                let call = Call::DeleteApplication;
                let application = reached(&mut work, &authority, call, name).await?;
                check_etag(&application.record, etag, name)?;
                remove(&mut work, &application).await?;
                work.commit().await
            })
            .await
    }

    /// Deletes several applications, each by itself, and once however often it is named. Returns
    /// the result of each.
    pub async fn delete_applications(
        &self,
        caller: &Caller,
        names: &[ApplicationName],
    ) -> HashMap<ApplicationName, Result<()>> {
        let mut results = HashMap::with_capacity(names.len());
        for name in names {
            if let Entry::Vacant(new) = results.entry(name.clone()) {
                new.insert(self.delete_application(caller, name, "").await);
            }
        }
        results
    }
}

impl Ownership {
    /// The owners whose applications are meant; refuses a caller that may not view them.
    fn owners(self, authority: &Authority) -> Result<Owners> {
        const CALL: Call = Call::ListApplications;
        match self {
            Self::Viewable => authority.viewable(),
            Self::Mine => {
                let mine = authority.user().cloned();
                let user = mine.ok_or_else(|| {
                    Error::invalid(
                        "ownership",
                        "is `mine`, and that needs an acting user (keyward-user)",
                    )
                })?;
                authority.require_of(CALL, &Owner::User(user.clone()))?;
                Ok(Owners { user: Some(user), ..Owners::default() })
            }
            Self::Users => {
                authority.require_of_all_users(CALL)?;
                Ok(Owners { users: true, ..Owners::default() })
            }
            Self::Of(owner) => {
                authority.require_of(CALL, &owner)?;
                let user = owner.user().cloned();
                Ok(Owners { account: user.is_none(), users: false, user })
            }
        }
    }
}

/// The owner of an application if the caller names none.
fn default_owner(policy: &Policy, authority: &Authority) -> Owner {
    match authority.user() {
        Some(user) if policy.allows_owner(OwnerKind::User) => Owner::User(user.clone()),
        _ => Owner::Account,
    }
}

/// Writes a new application, with its event.
pub(super) async fn insert(
    work: &mut UnitOfWork,
    authority: &Authority,
    mut application: Application,
    request_id: Option<&str>,
) -> Result<Application> {
    let name = &application.name;
    application.epoch = work.first_epoch(&Subject::Application(name.clone())).await?;
    if !work.insert_application(&application, request_id).await? {
        return Err(already_there(work, authority, name, request_id).await?);
    }
    let mut changes = vec![owner_change(&application.owner, None)];
    changes.extend(FieldChange::of_new(&application.settings));
    work.note(Action::CreateApplication, name, changes).await?;
    found(work, name).await
}

/// Deletes an application, with its event; refuses one that is protected.
pub(super) async fn remove(work: &mut UnitOfWork, application: &Application) -> Result<()> {
    let name = &application.name;
    if application.settings.protected {
        return Err(Error::Protected(name.to_string()));
    }
    let credentials = work.credentials_of(name).await?;
    let mut changes = FieldChange::of_gone(&application.settings);
    if credentials.count > 0 {
        let more = match credentials.count - i64::try_from(credentials.first.len()).unwrap_or(0) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = format!("{}{more}", credentials.first.join(" "));
        changes.push(FieldChange::new("credentials", Some(names), None));
    }
    work.delete_application(name).await?;
    let epoch = application.epoch;
    work.raise(Subject::Application(name.clone()), epoch, epoch + 1);
    work.note(Action::DeleteApplication, name, changes).await
}

/// The change of an owner, or a new one.
pub(super) fn owner_change(after: &Owner, before: Option<&Owner>) -> FieldChange {
    FieldChange::new("owner", before.map(ToString::to_string), Some(after.to_string()))
}

pub(super) async fn found(session: &mut Session, name: &ApplicationName) -> Result<Application> {
    let found = session.find_application(name).await?;
    found.ok_or_else(|| Error::NotFound(name.to_string()))
}

/// The error for an application that could not be added. It names what a repeated request made the
/// first time. If the id belongs to an application that the caller may not view, it says no more.
async fn already_there(
    tx: &mut Tx,
    authority: &Authority,
    name: &ApplicationName,
    request_id: Option<&str>,
) -> Result<Error> {
    if let Some(id) = request_id
        && let Some(made) = tx.find_application_by_request(&name.tenant, id).await?
    {
        return Ok(Error::AlreadyExists(made.name.to_string()));
    }
    let other = tx.find_application(name).await?;
    if other.is_some_and(|other| !authority.may_view(&other.owner)) {
        return Ok(Error::PermissionDenied(Need::OtherId(name.to_string())));
    }
    Ok(Error::AlreadyExists(name.to_string()))
}
